//! What browsers keep, when it has ended and when it was made up.

use std::sync::Arc;

use wxhost_wechat::oauth::Scope;

use super::attempt::{Attempt, Begun, Give};
use super::{CALL_TIME, LoginLane, Session, SessionError};
use crate::accounts::{LoginSettings, NewAccount, NewTenant};
use crate::audit::Author;
use crate::db::testing::{TestDatabase, sqlite};
use crate::services::testing::{NOWHERE, TestServices, services};

const PAGE: &str = "https://shop.example/orders";

struct Stage {
    lane: LoginLane,
    _services: TestServices,
    _db: TestDatabase,
}

async fn stage() -> Stage {
    let db = sqlite().await;
    let (services, _) = services(&db, NOWHERE).await;
    let (accounts, author) = (&services.accounts, Author::admin("r1"));
    let tenant = accounts.add_tenant(NewTenant::plain("acme"), &author);
    tenant.await.unwrap();
    let login = LoginSettings {
        site_url: Some("https://login.shop.example/".into()),
        return_urls: vec!["https://shop.example".into()],
        session_seconds: 60,
    };
    for (app_id, login) in [("wx01", Some(login)), ("wx02", None)] {
        let account = NewAccount {
            login,
            ..NewAccount::plain(app_id)
        };
        accounts.add_account(account, &author).await.unwrap();
    }
    accounts.refresh().await.unwrap();
    Stage {
        lane: LoginLane::new(Arc::clone(&services), "https://open.example/", CALL_TIME),
        _services: services,
        _db: db,
    }
}

impl Stage {
    fn begin(&self) -> Begun {
        let wanted = (PAGE, Scope::Base);
        self.lane.begin("wx01", wanted, None).unwrap()
    }

    fn session(&self, app_id: &str, expires_at: i64) -> Session {
        Session {
            app_id: app_id.into(),
            open_id: "o1".into(),
            union_id: None,
            scope: "snsapi_base".into(),
            is_snapshot_user: false,
            nickname: None,
            picture_url: None,
            claims: Default::default(),
            logged_in_at: 1,
            expires_at,
        }
    }
}

#[tokio::test]
async fn a_login_leads_to_wechat_and_back_to_the_accounts_own_site() {
    let stage = stage().await;
    let begun = stage.begin();
    assert_eq!(
        begun.url,
        format!(
            "https://open.example/connect/oauth2/authorize?appid=wx01\
             &redirect_uri=https%3A%2F%2Flogin.shop.example%2Foauth%2Fwx01%2Fback\
             &response_type=code&scope=snsapi_base&state={}#wechat_redirect",
            begun.state
        )
    );
    assert_ne!(begun.state, stage.begin().state);
    for (app_id, page, code) in [
        ("wx02", PAGE, "login-not-set-up"),
        ("wx09", PAGE, "login-not-set-up"),
        ("wx01", "https://evil.example", "return-address-refused"),
    ] {
        let refused = stage.lane.begin(app_id, (page, Scope::Base), None);
        assert_eq!(refused.unwrap_err().code(), code, "{app_id}");
    }
}

#[tokio::test]
async fn what_a_browser_keeps_is_good_for_its_login_and_for_ten_minutes() {
    let stage = stage().await;
    let (one, other) = (stage.begin(), stage.begin());
    let found = |kept: &str, app_id: &str, state: &str| stage.lane.attempt(kept, app_id, state);
    let attempt = found(&one.attempt, "wx01", &one.state).unwrap();
    // The page is on another site than the login.
    assert_eq!((&*attempt.return_to, attempt.give), (PAGE, Give::Ticket));
    assert!(found(&one.attempt, "wx01", &other.state).is_none());
    assert!(found(&one.attempt, "wx02", &one.state).is_none());
    assert!(found("", "wx01", &one.state).is_none());
    let aged = |ms: i64| {
        let old = Attempt {
            begun_at_ms: stage.lane.services.db.now_ms() - ms,
            app_id: "wx01".into(),
            state: "s".into(),
            return_to: PAGE.into(),
            give: Give::Cookie,
        };
        found(&stage.lane.kept(&old), "wx01", "s").is_some()
    };
    assert!(aged(599_000) && !aged(601_000));
    // A session is none, whatever it says.
    let session = stage.session("wx01", i64::MAX);
    let signed = stage.lane.signed(&session);
    assert!(found(&signed, "wx01", &one.state).is_none());
}

#[tokio::test]
async fn a_session_is_one_accounts_and_ends() {
    let stage = stage().await;
    let now_ms = stage.lane.services.db.now_ms();
    let session = stage.session("wx01", now_ms + 60_000);
    let cookie = stage.lane.signed(&session);
    assert_eq!(stage.lane.session("wx01", &cookie).unwrap(), session);
    let foreign = stage.lane.session("wx02", &cookie);
    assert!(matches!(foreign, Err(SessionError::Unknown)));
    let begun = stage.begin();
    let attempt = stage.lane.session("wx01", &begun.attempt);
    assert!(matches!(attempt, Err(SessionError::Unknown)));
    let ended = stage.lane.signed(&stage.session("wx01", now_ms - 1));
    let ended = stage.lane.session("wx01", &ended);
    assert!(matches!(ended, Err(SessionError::Ended)));
    let ticket = stage.lane.redeem("wx01", "none").await;
    assert!(matches!(ticket, Err(SessionError::Ticket)));
}
