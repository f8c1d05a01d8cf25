//! `/api/v1/accounts/{app_id}/clear-quota` and `…/rids/{rid}`: what an operator asks WeChat when an
//! account's calls are used up, or when one went wrong.

use std::{sync::Arc, time::Duration};

use axum::Json;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::ToSchema;
use wxhost_wechat::api::quota::{Clear, ClearPath, ClearWithSecret, Trace};

use super::{JsonBody, Path, Write};
use crate::{
    accounts::Account,
    audit::Action,
    client::CallError,
    db::accounts::AccountRow,
    http::error::{ApiError, ErrorBody},
    services::Services,
    tokens::Credential,
};

/// How long an operator waits for WeChat.
const PATIENCE: Duration = Duration::from_secs(15);

/// What stands in the place of a secret.
const MASK: &str = "***";

/// Parts of the names of what is secret, in queries and bodies.
const SECRET_NAMES: [&str; 4] = ["token", "secret", "ticket", "session_key"];

/// Which calls begin their day anew.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct QuotaToClear {
    /// Those of this API only; of all, if absent.
    #[schema(example = "/cgi-bin/message/custom/send")]
    cgi_path: Option<String>,
}

/// The calls of an account begin their day anew.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QuotaCleared {
    /// The API, or `all`.
    cleared: String,
}

/// Clears an account's daily counts of calls. All of them at once: ten times a month, WeChat's console
/// included (then WeChat answers 48006). Where no token is to be had any more, the AppSecret does.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/clear-quota", tag = "accounts", params(("app_id" = String, Path)), request_body = QuotaToClear, responses(
    (status = 200, body = QuotaCleared),
    (status = "4XX", body = ErrorBody),
    (status = "5XX", body = ErrorBody),
))]
pub(super) async fn clear(
    write: Write<AccountRow>,
    JsonBody(body): JsonBody<QuotaToClear>,
) -> Result<Json<QuotaCleared>, ApiError> {
    let services = write.services();
    let account = known(&write)?;
    let object = body.cgi_path.clone().unwrap_or_else(|| "all".to_owned());
    let act = (Action::QuotaClear, &*object);
    // What WeChat will do can't be taken back when the audit can't be written.
    note(&write, act, "asked").await?;
    let cleared = clear_quota(services, &account, body.cgi_path.as_deref()).await;
    let result = cleared.as_ref().map_or_else(CallError::code, |_| "ok");
    note_result(&write, act, result).await;
    cleared?;
    // WeChat may be asked for tokens again.
    services.client.tokens().clear_quota_pause(&account).await;
    Ok(Json(QuotaCleared { cleared: object }))
}

async fn clear_quota(
    services: &Services,
    account: &Arc<Account>,
    cgi_path: Option<&str>,
) -> Result<(), CallError> {
    let deadline = Instant::now() + PATIENCE;
    if let Some(path) = cgi_path {
        let cgi_path = path.to_owned();
        let call = ClearPath { cgi_path };
        return services
            .client
            .call(account, &call, deadline)
            .await
            .map(drop);
    }
    let app_id = account.app_id.clone();
    let cleared = services
        .client
        .call(account, &Clear { app_id }, deadline)
        .await;
    match (cleared, &account.credentials.secret) {
        (Err(CallError::Refused(refusal)), Some(secret)) if refusal.errcode.is_daily_limit() => {
            let call = ClearWithSecret {
                app_id: &account.app_id,
                secret,
            };
            services
                .client
                .call(account, &call, deadline)
                .await
                .map(drop)
        }
        (cleared, _) => cleared.map(drop),
    }
}

/// A call that WeChat remembers, without the secrets in it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TracedCall {
    /// Unix seconds.
    invoke_time: u64,
    /// How long it took.
    cost_ms: u64,
    /// Its query; secrets are masked here and below.
    request_url: String,
    /// What was posted.
    request_body: String,
    /// What was answered.
    response_body: String,
    /// Where it came from.
    client_ip: String,
}

/// Shows what became of a call, by the rid at the end of WeChat's error text. WeChat keeps it for seven
/// days.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/rids/{rid}", tag = "accounts", params(("app_id" = String, Path), ("rid" = String, Path)), responses(
    (status = 200, body = TracedCall),
    (status = "4XX", body = ErrorBody),
    (status = "5XX", body = ErrorBody),
))]
pub(super) async fn trace(
    write: Write<AccountRow>,
    Path((_app_id, rid)): Path<(String, String)>,
) -> Result<Json<TracedCall>, ApiError> {
    let services = write.services();
    let account = known(&write)?;
    let call = Trace { rid };
    let act = (Action::RidTrace, &*call.rid);
    // It shows what was sent to whom.
    note(&write, act, "asked").await?;
    let deadline = Instant::now() + PATIENCE;
    let traced = services.client.call(&account, &call, deadline).await;
    let result = traced.as_ref().map_or_else(CallError::code, |_| "ok");
    note_result(&write, act, result).await;
    let traced = traced?.request;
    let token = services
        .client
        .tokens()
        .held(&account.app_id, Credential::AccessToken);
    let masked = |text: &str| {
        let text = masked(text);
        match &token {
            // Wherever else it may stand.
            Some(token) => text.replace(token.expose(), MASK),
            None => text,
        }
    };
    Ok(Json(TracedCall {
        invoke_time: traced.invoke_time,
        cost_ms: traced.cost_ms,
        request_url: masked(&traced.request_url),
        request_body: masked(&traced.request_body),
        response_body: masked(&traced.response_body),
        client_ip: traced.client_ip,
    }))
}

fn known(write: &Write<AccountRow>) -> Result<Arc<Account>, ApiError> {
    let app_id = &*write.object.app_id;
    let account = write.services().accounts.get(app_id);
    account.ok_or_else(|| ApiError::not_found("account", app_id))
}

async fn note(
    write: &Write<AccountRow>,
    (action, object): (Action, &str),
    result: &str,
) -> Result<(), ApiError> {
    let app_id = Some(&*write.object.app_id);
    let entry = write.author().entry(action, app_id, object, result);
    Ok(write.services().audit.write(entry).await?)
}

async fn note_result(write: &Write<AccountRow>, act: (Action, &str), result: &str) {
    if note(write, act, result).await.is_err() {
        tracing::error!("what came of a call for an operator is missing in the audit");
    }
}

/// A text with the values of all that is named like a secret masked: in queries (`access_token=…`), in
/// JSON, and in JSON within JSON.
fn masked(text: &str) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_quote = |c: char| matches!(c, '"' | '\'' | '\\') || c.is_ascii_whitespace();
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find(is_name) {
        let (before, named) = rest.split_at(begin);
        let (name, after) = named.split_at(named.find(|c| !is_name(c)).unwrap_or(named.len()));
        shown.push_str(before);
        shown.push_str(name);
        rest = after;
        let lower = name.to_ascii_lowercase();
        if !SECRET_NAMES.iter().any(|secret| lower.contains(secret)) {
            continue;
        }
        let sign = after.trim_start_matches(is_quote);
        let Some(value) = sign.strip_prefix(['=', ':']) else {
            continue;
        };
        let value = value.trim_start_matches(is_quote);
        let end = value.find(|c: char| is_quote(c) || matches!(c, '&' | ',' | '}' | ']' | '<'));
        let end = end.unwrap_or(value.len());
        if end > 0 {
            shown.push_str(&after[..after.len() - value.len()]);
            shown.push_str(MASK);
            rest = &value[end..];
        }
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        for (text, expected) in [
            (
                "access_token=76_abc-DEF&type=jsapi",
                "access_token=***&type=jsapi",
            ),
            (
                r#"{"grant_type":"client_credential","appid":"wx01","secret":"0123"}"#,
                r#"{"grant_type":"client_credential","appid":"wx01","secret":"***"}"#,
            ),
            (
                r#"{"access_token" : "76_a", "expires_in":7200}"#,
                r#"{"access_token" : "***", "expires_in":7200}"#,
            ),
            (
                r#"{"body":"{\"authorizer_refresh_token\":\"x\"}"}"#,
                r#"{"body":"{\"authorizer_refresh_token\":\"***\"}"}"#,
            ),
            ("<Ticket>abc</Ticket> 茶", "<Ticket>abc</Ticket> 茶"),
            ("ACCESS_TOKEN=a", "ACCESS_TOKEN=***"),
            ("access_token=", "access_token="),
            ("errcode 40001 invalid", "errcode 40001 invalid"),
            ("", ""),
        ] {
            assert_eq!(masked(text), expected);
        }
    }
}
