//! WeChat's API for plugins: what leaves for WeChat, and what of the answer the plugin is told.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wxhost_runtime::{Wanted, wechat_api as wit};
use wxhost_wechat::api::{self, Call, Method, Request};
use wxhost_wechat::id::OpenId;

use crate::accounts::Account;
use crate::client::{CallError, Client};
use crate::grants::ApiPath;
use crate::tokens::Credential;

/// How long one call may take.
const CALL_TIME: Duration = Duration::from_secs(5);
/// Query parameters of a call.
const MAX_QUERY: usize = 32;
/// Bytes of all names and values of a query.
const MAX_QUERY_BYTES: usize = 8 << 10;
/// Bytes of a body.
const MAX_BODY_BYTES: usize = 256 << 10;
/// Bytes of an answer.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// WeChat's API, as one run of a handler may call it.
pub(super) struct Api<'a> {
    pub(super) client: &'a Client,
    pub(super) account: &'a Arc<Account>,
    pub(super) wanted: &'a Wanted,
    /// When the plugin's call ends.
    pub(super) deadline: Instant,
}

impl Api<'_> {
    pub(super) async fn user(&self, open_id: &str) -> Result<wit::User, wit::Error> {
        let open_id = OpenId::parse(open_id).map_err(|error| invalid("open-id", error))?;
        // The language is of what is translated, and nothing of that is left.
        let language = api::user::Language::Simplified;
        let user = self.ask(&api::user::Info { open_id, language }).await?;
        Ok(wit::User {
            qr_scene: user.scene().unwrap_or_default(),
            open_id: user.open_id.as_str().to_owned(),
            subscribed: user.subscribed,
            subscribe_time: user.subscribe_time,
            union_id: user.union_id,
            language: user.language,
            remark: user.remark,
            tags: user.tags,
            subscribe_scene: user.subscribe_scene,
        })
    }

    pub(super) async fn menu(&self) -> Result<String, wit::Error> {
        let request = api::menu::Get
            .request()
            .map_err(|error| invalid("menu", error))?;
        self.send(&request).await
    }

    pub(super) async fn quota(&self, cgi_path: &str) -> Result<wit::Quota, wit::Error> {
        let cgi_path = cgi_path.to_owned();
        let quotas = self.ask(&api::quota::Get { cgi_path }).await?;
        Ok(wit::Quota {
            daily_limit: quotas.quota.daily_limit,
            used: quotas.quota.used,
            remain: quotas.quota.remain,
        })
    }

    pub(super) async fn call(&self, given: wit::Request) -> Result<String, wit::Error> {
        let path = given.path.clone();
        // A path that is not in plain form is granted to nobody.
        let granted = |path: ApiPath| self.account.plugin.grants.allows_api(self.wanted, &path);
        if !ApiPath::parse(&path).is_ok_and(granted) {
            return Err(wit::Error::NotGranted(path));
        }
        let answer = self.send(&request_of(given)?).await?;
        let tokens = self.client.tokens();
        let token = tokens.held(&self.account.app_id, Credential::AccessToken);
        // An API that tells us our own token is one that `grants` should not have let pass.
        if token.is_some_and(|token| answer.contains(token.expose())) {
            tracing::error!(
                account.app_id = %self.account.app_id,
                wechat.path = path,
                "an answer of wechat held the access token, and was kept from the plugin"
            );
            return Err(wit::Error::NotGranted(path));
        }
        Ok(answer)
    }

    async fn ask<C: Call>(&self, call: &C) -> Result<C::Answer, wit::Error> {
        let answer = self.client.call(self.account, call, self.until()).await;
        answer.map_err(error_of)
    }

    async fn send(&self, request: &Request) -> Result<String, wit::Error> {
        let answer = self.client.send(self.account, request, self.until()).await;
        let answer = answer.map_err(error_of)?;
        if answer.len() > MAX_ANSWER_BYTES {
            return Err(wit::Error::TooLarge);
        }
        // What is no text is no answer of WeChat's.
        String::from_utf8(answer.into()).map_err(|_| wit::Error::Unavailable)
    }

    fn until(&self) -> Instant {
        self.deadline.min(Instant::now() + CALL_TIME)
    }
}

/// Checks what the plugin gave.
fn request_of(given: wit::Request) -> Result<Request, wit::Error> {
    let query = &given.query;
    let bytes: usize = query
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if query.len() > MAX_QUERY || bytes > MAX_QUERY_BYTES {
        let limit = format!("at most {MAX_QUERY}, {MAX_QUERY_BYTES} bytes in all");
        return Err(invalid("query", limit));
    }
    for (name, _) in query {
        // The host adds the token; another name for it could carry somebody else's.
        if name.to_ascii_lowercase().ends_with("access_token") {
            return Err(invalid(
                "query",
                format_args!("{name} is the host's to add"),
            ));
        }
    }
    if given.body.len() > MAX_BODY_BYTES {
        return Err(invalid(
            "body",
            format_args!("at most {MAX_BODY_BYTES} bytes"),
        ));
    }
    let method = match given.method {
        wit::Method::Get => Method::Get,
        wit::Method::Post => Method::Post,
    };
    api::generic(method, &given.path, given.query, given.body)
        .map_err(|error| wit::Error::InvalidArgument(error.to_string()))
}

fn invalid(what: &str, reason: impl std::fmt::Display) -> wit::Error {
    wit::Error::InvalidArgument(format!("{what}: {reason}"))
}

fn error_of(error: CallError) -> wit::Error {
    match error {
        CallError::NoSecret => wit::Error::AccountBlocked(error.to_string()),
        CallError::AccountBlocked { attention } => wit::Error::AccountBlocked(attention.message),
        CallError::AddressRefused { refusal } => wit::Error::AccountBlocked(refusal.message),
        CallError::Refused(refusal) => wit::Error::Refused(wit::Refusal {
            errcode: refusal.errcode.0,
            errmsg: refusal.errmsg,
        }),
        CallError::Invalid(error) => wit::Error::InvalidArgument(error.to_string()),
        CallError::TooLarge => wit::Error::TooLarge,
        CallError::Unreachable
        | CallError::Broken
        | CallError::TokenTimeout
        | CallError::Timeout
        | CallError::Answer(_)
        | CallError::Body(_)
        | CallError::TokenInAnswer
        | CallError::Resting { .. } => wit::Error::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::AccountChange;
    use crate::audit::Author;
    use crate::credentials::{Attention, TokenLine};
    use crate::grants::OperatorGrants;
    use crate::tokens::testing::{Bed, Host};

    fn call(method: wit::Method, query: &[(&str, &str)], body: &str) -> Result<Request, String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let given = wit::Request {
            method,
            path: "/cgi-bin/tags/get".into(),
            query: query.iter().map(owned).collect(),
            body: body.into(),
        };
        request_of(given).map_err(|error| match error {
            wit::Error::InvalidArgument(reason) => reason,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn calls_at_their_limits_are_taken() {
        let long = "v".repeat((8 << 10) - 1);
        let large = format!("\"{}\"", "x".repeat((256 << 10) - 2));
        for taken in [
            call(wit::Method::Get, &[], ""),
            call(wit::Method::Get, &[("k", &long)], ""),
            call(wit::Method::Get, &[("k", ""); 32], ""),
            call(wit::Method::Post, &[], ""),
            call(wit::Method::Post, &[], &large),
        ] {
            assert!(taken.is_ok_and(|request| request.needs_token));
        }
        let request = call(wit::Method::Post, &[], r#"{"id":18446744073709551615}"#).unwrap();
        assert_eq!(request.json(), Some(r#"{"id":18446744073709551615}"#));
    }

    #[test]
    fn calls_that_break_a_limit_or_bring_a_token_are_refused() {
        let long = "v".repeat(8 << 10);
        let large = format!("\"{}\"", "x".repeat(256 << 10));
        for (refused, what) in [
            (call(wit::Method::Get, &[("k", &long)], ""), "query"),
            (call(wit::Method::Get, &[("k", ""); 33], ""), "query"),
            (
                call(wit::Method::Get, &[("access_token", "x")], ""),
                "query",
            ),
            (
                call(wit::Method::Get, &[("Component_Access_Token", "x")], ""),
                "query",
            ),
            (call(wit::Method::Get, &[], "{}"), "body"),
            (call(wit::Method::Post, &[], "{"), "body"),
            (call(wit::Method::Post, &[], &large), "body"),
        ] {
            let reason = refused.unwrap_err();
            assert!(reason.contains(what), "{what}: {reason}");
        }
    }

    #[test]
    fn an_account_that_needs_its_owner_says_what_to_do() {
        let attention = Attention {
            errcode: 40164,
            message: "add this host's address".into(),
            since_ms: 1,
        };
        let blocked = error_of(CallError::AccountBlocked { attention });
        let wit::Error::AccountBlocked(remedy) = blocked else {
            panic!("{blocked:?}");
        };
        assert_eq!(remedy, "add this host's address");
        assert!(matches!(
            error_of(CallError::NoSecret),
            wit::Error::AccountBlocked(_)
        ));
        assert!(matches!(
            error_of(CallError::Timeout),
            wit::Error::Unavailable
        ));
    }

    /// A host whose account is granted tags and menus, and a plugin that asks for tags and drafts.
    async fn granted(bed: &Bed) -> (Host, Wanted) {
        let host = bed.alone().await;
        let change = AccountChange {
            grants: Some(OperatorGrants {
                api: vec!["/cgi-bin/tags/".into(), "/cgi-bin/menu/".into()],
                egress: Vec::new(),
            }),
            ..AccountChange::default()
        };
        host.accounts
            .change_account(&bed.app_id, change, &Author::host())
            .await
            .unwrap();
        host.accounts.refresh().await.unwrap();
        let wanted = ["/cgi-bin/tags", "/cgi-bin/draft"].map(|path| path.parse().unwrap());
        let wanted = Wanted {
            api: wanted.into(),
            ..Wanted::default()
        };
        (host, wanted)
    }

    fn get(path: &str) -> wit::Request {
        wit::Request {
            method: wit::Method::Get,
            path: path.into(),
            query: Vec::new(),
            body: String::new(),
        }
    }

    async fn within<T>(
        (host, wanted): &(Host, Wanted),
        time: Duration,
        ask: impl AsyncFnOnce(Api<'_>) -> T,
    ) -> T {
        let account = host.account();
        let api = Api {
            client: &host.client,
            account: &account,
            wanted,
            deadline: Instant::now() + time,
        };
        ask(api).await
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_call_that_both_grant_is_made_and_no_other_leaves_the_host() {
        let bed = Bed::new(TokenLine::Stable, 7200).await;
        let granted = granted(&bed).await;
        let answer = within(&granted, LONG, async |api| {
            api.call(get("/cgi-bin/tags/get")).await
        });
        let answer = answer.await.unwrap();
        assert!(answer.contains("\"tags\""), "{answer}");
        for path in [
            "/cgi-bin/menu/get",
            "/cgi-bin/draft/count",
            "/cgi-bin/tags/../token",
        ] {
            let refused = within(&granted, LONG, async |api| api.call(get(path)).await).await;
            assert!(
                matches!(&refused, Err(wit::Error::NotGranted(named)) if named == path),
                "{refused:?}"
            );
        }
    }

    #[tokio::test]
    async fn typed_questions_need_no_grant_and_say_what_wechat_says() {
        let bed = Bed::new(TokenLine::Stable, 7200).await;
        let granted = granted(&bed).await;
        let menu = within(&granted, LONG, async |api| api.menu().await).await;
        assert!(
            matches!(&menu, Err(wit::Error::Refused(refusal)) if refusal.errcode == 46003),
            "{menu:?}"
        );
        let quota = within(&granted, LONG, async |api| {
            api.quota("/cgi-bin/menu/get").await
        });
        let quota = quota.await.unwrap();
        assert_eq!(quota.daily_limit - quota.used, quota.remain);
        let wrong = within(&granted, LONG, async |api| api.quota("menu").await).await;
        assert!(
            matches!(wrong, Err(wit::Error::InvalidArgument(_))),
            "{wrong:?}"
        );
        let user = within(&granted, LONG, async |api| api.user("oNobody").await).await;
        assert!(matches!(user, Err(wit::Error::Refused(_))), "{user:?}");
    }

    #[tokio::test]
    async fn a_call_ends_with_the_plugins_own_time() {
        let bed = Bed::new(TokenLine::Stable, 7200).await;
        let granted = granted(&bed).await;
        granted.0.token().await.unwrap();
        bed.fault(serde_json::json!({"kind": "slow", "ms": 60_000}));
        let time = Duration::from_millis(200);
        let slow = within(&granted, time, async |api| api.menu().await).await;
        assert!(matches!(slow, Err(wit::Error::Unavailable)), "{slow:?}");
    }

    #[tokio::test]
    async fn an_account_that_wechat_shuts_out_is_blocked() {
        let bed = Bed::new(TokenLine::Stable, 7200).await;
        let granted = granted(&bed).await;
        bed.change(serde_json::json!({"allowed_ips": ["192.0.2.1"]}));
        let first = within(&granted, LONG, async |api| api.menu().await).await;
        assert!(first.is_err());
        granted.0.accounts.refresh().await.unwrap();
        let blocked = within(&granted, LONG, async |api| api.menu().await).await;
        assert!(
            matches!(blocked, Err(wit::Error::AccountBlocked(_))),
            "{blocked:?}"
        );
    }
}
