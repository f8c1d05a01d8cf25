//! The registry over a real database, as hosts that share one would use it.

use std::sync::Arc;

use wxhost_wechat::{
    envelope::Mode,
    id::AppId,
    secret::{AppSecret, EncodingAesKey},
};

use super::*;
use crate::{
    audit::Author,
    credentials::{Attention, CredentialChange},
    db::testing::{databases, sqlite},
    grants::OperatorGrants,
    inbox::{CallbackChange, KeyChange, NewCallbacks},
    seal::{MasterKey, MasterKeys, Place},
    settings::ChangeError,
};

fn keys(byte: u8) -> Arc<MasterKeys> {
    Arc::new(MasterKeys::new(MasterKey::from_bytes(&[byte; 32]), None))
}

async fn host(db: &Database) -> Accounts {
    Accounts::load(db.clone(), keys(1)).await.unwrap()
}

fn by() -> Author {
    Author::admin("r")
}

fn account(app_id: &str, mode: Mode, aes_key: Option<char>) -> NewAccount {
    let plain = NewAccount::plain(app_id);
    NewAccount {
        name: "茶馆".into(),
        callbacks: NewCallbacks {
            mode,
            aes_key: aes_key.map(aes_key_of),
            ..plain.callbacks
        },
        ..plain
    }
}

fn aes_key_of(character: char) -> EncodingAesKey {
    EncodingAesKey::parse(&character.to_string().repeat(43)).unwrap()
}

async fn with_account(db: &Database) -> Accounts {
    let accounts = host(db).await;
    accounts
        .add_tenant(NewTenant::plain("acme"), &by())
        .await
        .unwrap();
    accounts
        .add_account(account("wx01", Mode::Safe, Some('a')), &by())
        .await
        .unwrap();
    accounts.refresh().await.unwrap();
    accounts
}

#[track_caller]
fn invalid<T: std::fmt::Debug>(answer: Result<T, ChangeError>, field: &str) {
    match answer {
        Err(ChangeError::Invalid { field: named, .. }) => assert_eq!(named, field),
        other => panic!("must be refused for {field}: {other:?}"),
    }
}

#[tokio::test]
async fn a_change_reaches_every_host_that_shares_the_database() {
    for db in databases().await {
        let (one, other) = (host(&db).await, host(&db).await);
        one.add_tenant(NewTenant::plain("acme"), &by())
            .await
            .unwrap();
        one.add_account(account("wx01", Mode::Plain, None), &by())
            .await
            .unwrap();
        assert!(other.get("wx01").is_none());
        other.refresh().await.unwrap();
        let seen = other.get("wx01").unwrap();
        assert!(seen.is_active());
        assert_eq!(seen.info.name, "茶馆");
        assert_eq!(&*seen.tenant.id, "acme");

        let disabled = AccountChange {
            status: Some(Status::Disabled),
            callbacks: CallbackChange {
                fallback_text: Some(Some("稍后再试".into())),
                ..CallbackChange::default()
            },
            ..AccountChange::default()
        };
        other.change_account("wx01", disabled, &by()).await.unwrap();
        one.refresh().await.unwrap();
        let seen = one.get("wx01").unwrap();
        assert!(!seen.is_active());
        assert_eq!(seen.callbacks.fallback_text.as_deref(), Some("稍后再试"));
    }
}

#[tokio::test]
async fn accounts_of_one_tenant_share_its_permits_also_after_a_change() {
    let db = sqlite().await;
    let accounts = with_account(&db).await;
    accounts
        .add_account(account("wx02", Mode::Plain, None), &by())
        .await
        .unwrap();
    accounts.refresh().await.unwrap();
    let permits = |app_id: &str| Arc::clone(&accounts.get(app_id).unwrap().tenant.permits);
    assert!(Arc::ptr_eq(&permits("wx01"), &permits("wx02")));
}

#[tokio::test]
async fn what_is_known_stays_while_the_database_is_away() {
    let db = sqlite().await;
    let accounts = with_account(&db).await;
    db.close().await;
    let away = accounts.refresh().await;
    assert!(matches!(away, Err(DbError::Unavailable(_))), "{away:?}");
    assert!(accounts.get("wx01").is_some());
}

#[tokio::test]
async fn an_account_that_is_damaged_in_the_database_stays_as_it_was() {
    let db = sqlite().await;
    let accounts = with_account(&db).await;
    let mut row = db::accounts::find(&db, "wx01").await.unwrap().unwrap();
    row.callbacks.token_sealed = "v1.damaged".into();
    let mut change = db.change().await.unwrap();
    db::accounts::update(&mut change, &row).await.unwrap();
    change.commit().await.unwrap();

    accounts.refresh().await.unwrap();
    assert!(accounts.get("wx01").is_some());
    // A host that never knew it starts without it.
    assert!(host(&db).await.get("wx01").is_none());
}

#[tokio::test]
async fn a_wrong_master_key_is_refused_at_start() {
    for db in databases().await {
        with_account(&db).await;
        let refused = Accounts::load((*db).clone(), keys(2)).await;
        let error = refused.err().unwrap().to_string();
        assert!(
            error.contains("wx01") && error.contains("another master key"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_new_key_leaves_the_old_one_until_the_next() {
    let db = sqlite().await;
    let accounts = with_account(&db).await;
    let before = db::accounts::find(&db, "wx01").await.unwrap().unwrap();
    assert!(before.callbacks.former_aes_key_sealed.is_none());
    let new_key = || KeyChange {
        token: None,
        aes_key: Some(aes_key_of('b')),
    };
    let row = accounts
        .rotate_keys("wx01", new_key(), &by())
        .await
        .unwrap();
    assert_eq!(row.callbacks.previous_aes_key_sealed, None);
    let former = row.callbacks.former_aes_key_sealed.as_deref().unwrap();
    let opened = keys(1).open(Place::former_aes_key("wx01"), former).unwrap();
    let present = before.callbacks.aes_key_sealed.as_deref().unwrap();
    let key = keys(1).open(Place::aes_key("wx01"), present).unwrap();
    assert_eq!(opened, key);
    // Copied to where the present key stands, it does not come back.
    assert!(keys(1).open(Place::aes_key("wx01"), former).is_err());
    assert_eq!(row.callbacks.token_sealed, before.callbacks.token_sealed);
    accounts.refresh().await.unwrap();
    assert!(accounts.get("wx01").is_some());
}

#[tokio::test]
async fn what_could_not_be_served_is_refused_by_its_field() {
    let db = sqlite().await;
    let accounts = with_account(&db).await;
    let admin = by();
    let add = |change: fn(&mut NewAccount)| {
        let mut new = account("wx02", Mode::Plain, None);
        change(&mut new);
        accounts.add_account(new, &admin)
    };
    invalid(
        add(|a| a.callbacks.mode = Mode::Safe).await,
        "encoding_aes_key",
    );
    invalid(
        add(|a| a.callbacks.window_seconds = 9).await,
        "window_seconds",
    );
    invalid(
        add(|a| a.callbacks.window_seconds = 86_401).await,
        "window_seconds",
    );
    invalid(add(|a| a.name = "x".repeat(129)).await, "name");
    invalid(add(|a| a.name = "a\nb".into()).await, "name");
    invalid(add(|a| a.tenant_id = "nobody".into()).await, "tenant_id");
    let long = add(|a| a.callbacks.fallback_text = Some("长".repeat(683))).await;
    invalid(long, "fallback_text");
    let exists = add(|a| a.app_id = AppId::parse("wx01").unwrap()).await;
    assert!(
        matches!(exists, Err(ChangeError::Exists { .. })),
        "{exists:?}"
    );

    for id in ["", "A", "a b", &"a".repeat(65)] {
        invalid(accounts.add_tenant(NewTenant::plain(id), &by()).await, "id");
    }
    let mut greedy = NewTenant::plain("greedy");
    greedy.max_concurrent_calls = 0;
    invalid(
        accounts.add_tenant(greedy, &by()).await,
        "max_concurrent_calls",
    );

    let gone = accounts
        .change_account("wx09", AccountChange::default(), &by())
        .await;
    assert!(
        matches!(gone, Err(ChangeError::NotFound { .. })),
        "{gone:?}"
    );
    // A mode that its keys cannot serve.
    accounts
        .add_account(account("wx03", Mode::Plain, None), &by())
        .await
        .unwrap();
    let safe = AccountChange {
        callbacks: CallbackChange {
            mode: Some(Mode::Safe),
            ..CallbackChange::default()
        },
        ..AccountChange::default()
    };
    invalid(
        accounts.change_account("wx03", safe, &by()).await,
        "encoding_aes_key",
    );
}

#[tokio::test]
async fn a_wake_up_is_not_lost_when_nobody_waits_yet() {
    let db = sqlite().await;
    let accounts = host(&db).await;
    accounts.wake();
    accounts.woken().await;
}

fn secret(byte: char) -> AppSecret {
    AppSecret::parse(&byte.to_string().repeat(32)).unwrap()
}

fn with_secret(secret: AppSecret) -> AccountChange {
    AccountChange {
        credentials: CredentialChange {
            secret: Some(Some(secret)),
            ..CredentialChange::default()
        },
        ..AccountChange::default()
    }
}

#[tokio::test]
async fn what_the_owner_must_mend_is_known_everywhere_until_it_is_mended() {
    for db in databases().await {
        let accounts = with_account(&db).await;
        let attention = Attention {
            errcode: 40125,
            message: "invalid appsecret".into(),
            since_ms: 1,
        };
        let shown = async || {
            let other = host(&db).await;
            other.get("wx01").unwrap().credentials.attention.clone()
        };
        let change = with_secret(secret('a'));
        accounts
            .change_account("wx01", change, &by())
            .await
            .unwrap();

        // It was an older secret that failed.
        let noted = accounts.need_owner("wx01", &secret('b'), &attention).await;
        assert!(!noted.unwrap());
        assert_eq!(shown().await, None);

        let note = async || {
            let noted = accounts.need_owner("wx01", &secret('a'), &attention).await;
            assert!(noted.unwrap());
            assert_eq!(shown().await, Some(attention.clone()));
        };
        note().await;
        accounts.clear_attention("wx01", &by()).await.unwrap();
        assert_eq!(shown().await, None);
        note().await;
        let change = with_secret(secret('c'));
        accounts
            .change_account("wx01", change, &by())
            .await
            .unwrap();
        assert_eq!(shown().await, None);
    }
}

#[tokio::test]
async fn tokens_stay_with_an_account_that_is_changed() {
    let db = sqlite().await;
    let accounts = with_account(&db).await;
    let before = accounts.get("wx01").unwrap();
    let change = with_secret(secret('a'));
    accounts
        .change_account("wx01", change, &by())
        .await
        .unwrap();
    accounts.refresh().await.unwrap();
    let after = accounts.get("wx01").unwrap();
    assert!(after.credentials.secret.is_some() && before.credentials.secret.is_none());
    assert!(Arc::ptr_eq(&before.slots, &after.slots));
}

#[tokio::test]
async fn origins_and_grants_that_cannot_be_meant_are_refused() {
    let db = sqlite().await;
    let accounts = with_account(&db).await;
    for origin in [
        "shop.example",
        "https://",
        "https://shop.example/",
        "https://a b",
        "ftp://shop.example",
    ] {
        let change = AccountChange {
            credentials: CredentialChange {
                jssdk_origins: Some(vec![origin.into()]),
                ..CredentialChange::default()
            },
            ..AccountChange::default()
        };
        let answer = accounts.change_account("wx01", change, &by()).await;
        invalid(answer, "jssdk_origins");
    }
    let change = AccountChange {
        grants: Some(OperatorGrants {
            api: vec!["cgi-bin/menu".into()],
            ..OperatorGrants::default()
        }),
        ..AccountChange::default()
    };
    invalid(
        accounts.change_account("wx01", change, &by()).await,
        "grants",
    );
}
