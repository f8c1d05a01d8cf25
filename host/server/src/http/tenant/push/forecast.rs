//! What would come of a push, before anybody is sent to.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tokio::time::{Duration, Instant};
use utoipa::ToSchema;
use wxhost_wechat::api::quota;

use super::request::{self, PushToMake};
use crate::accounts::Account;
use crate::audit::Action;
use crate::db::allowance::{self, Reach};
use crate::db::contacts::Contacts;
use crate::db::push;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::{JsonBody, Path};
use crate::http::tenant::{Caller, TenantState};
use crate::keys::Grant;
use crate::push::{Content, Way};

/// Recipients that are looked at together.
const PAGE: usize = 2_000;
/// How long an audience is looked at; what is left is not counted then.
const LONGEST: Duration = Duration::from_secs(20);
/// How long WeChat is asked for what is left of the day.
const QUOTA_TIME: Duration = Duration::from_secs(3);
/// By what a plugin's pushes go, as a rule.
const USUAL_PATHS: [&str; 2] = [
    "/cgi-bin/message/custom/send",
    "/cgi-bin/message/template/send",
];
/// Fewer recipients say nothing of how fast pushes go.
const TELLING_RECIPIENTS: i64 = 100;

/// What would come of a push that were made now.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http::tenant) struct Forecast {
    /// Whom it goes to. Each of them is counted in one of the next five.
    recipients: u64,
    /// WeChat takes a customer-service message for them.
    by_chat: u64,
    /// It may: what they did before the host met them, or whether it ever did, is not known. They are tried.
    untested: u64,
    /// It takes none, and they follow: a template reaches them.
    by_template: u64,
    /// It takes none, and they do not follow, as far as is known.
    by_nothing: u64,
    /// They want no messages, and get none.
    opted_out: u64,
    /// Whether all of the audience was looked at; a very large one is not within the time of a request.
    is_complete: bool,
    /// What WeChat leaves of the day, for each of its APIs that the push would use.
    quotas: Vec<QuotaLeft>,
    /// About how many seconds it would take, by how fast the account's last pushes went; absent where there
    /// were none of more than 100 recipients.
    #[serde(skip_serializing_if = "Option::is_none")]
    takes_seconds: Option<u64>,
}

/// What WeChat leaves of a day.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http::tenant) struct QuotaLeft {
    /// Path of its API.
    path: String,
    /// Calls that are left until midnight in Beijing; absent where WeChat does not tell now.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_today: Option<u64>,
}

/// Tells what would come of a push of these data to these recipients now: the same body as the push's, which is
/// checked in the same way. Nothing is sent, and nothing kept.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/push/{kind}/forecast", tag = "for tenants' systems", params(("app_id" = String, Path), ("kind" = String, Path)), request_body = PushToMake, security(("api_key" = [])), responses(
    (status = 200, body = Forecast),
    (status = "4XX", body = ErrorBody),
    (status = "5XX", body = ErrorBody),
))]
pub(in crate::http::tenant) async fn forecast(
    caller: Caller,
    State(state): State<TenantState>,
    Path((app_id, kind)): Path<(String, String)>,
    JsonBody(wanted): JsonBody<PushToMake>,
) -> Result<Json<Forecast>, ApiError> {
    let told = told(&state, &caller, (&app_id, &kind), &wanted).await;
    let act = (Action::PushForecast, &*app_id, &*kind);
    caller.note(&state, act, told.as_ref().map(|_| "ok"));
    told.map(Json)
}

async fn told(
    state: &TenantState,
    caller: &Caller,
    (app_id, kind): (&str, &str),
    wanted: &PushToMake,
) -> Result<Forecast, ApiError> {
    let account = caller.account(state, app_id)?;
    caller.expect(&Grant::Push)?;
    let (open_ids, audience) = wanted.whom()?;
    let content = request::content(state, &account, (kind, wanted.data())).await?;
    let services = &state.services;
    let rules = (&services.scenes, services.db.now_ms());
    let db = &services.db;
    let (reach, is_complete) = match audience {
        None => {
            let mut reach = Reach::default();
            for open_ids in open_ids.chunks(PAGE) {
                let contacts = Contacts { app_id, open_ids };
                reach += allowance::reach(db, contacts, rules).await?;
            }
            (reach, true)
        }
        Some(audience) => {
            let until = Instant::now() + LONGEST;
            audience.reach(db, (app_id, until), rules).await?
        }
    };
    let recipients =
        reach.by_chat + reach.untested + reach.by_template + reach.by_nothing + reach.opted_out;
    let pace = push::pace(db, app_id, TELLING_RECIPIENTS).await?;
    Ok(Forecast {
        recipients,
        by_chat: reach.by_chat,
        untested: reach.untested,
        by_template: reach.by_template,
        by_nothing: reach.by_nothing,
        opted_out: reach.opted_out,
        is_complete,
        quotas: quotas(state, &account, &content).await,
        takes_seconds: pace.map(|(sent, took_ms)| {
            let millis = u128::from(recipients) * u128::from(took_ms) / u128::from(sent);
            u64::try_from(millis.div_ceil(1000)).unwrap_or(u64::MAX)
        }),
    })
}

/// What is left of the APIs that the content may use. WeChat tells, or does not now.
async fn quotas(state: &TenantState, account: &Arc<Account>, content: &Content) -> Vec<QuotaLeft> {
    let paths: Vec<&str> = match content {
        Content::Ways(ways) => ways.0.iter().map(Way::path).collect(),
        // What a plugin composes is not known before it is asked.
        Content::Composed(_) => USUAL_PATHS.to_vec(),
    };
    let mut left = Vec::new();
    for path in paths {
        let call = quota::Get {
            cgi_path: path.to_owned(),
        };
        let deadline = Instant::now() + QUOTA_TIME;
        let told = state.services.client.call(account, &call, deadline).await;
        left.push(QuotaLeft {
            path: call.cgi_path,
            left_today: told.ok().map(|told| told.quota.remain),
        });
    }
    left
}
