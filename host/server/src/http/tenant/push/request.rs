//! A request for a push: read, checked from end to end, and put in. Nothing of a bad one is kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use wxhost_runtime::ConfigError;
use wxhost_wechat::id::OpenId;

use crate::accounts::Account;
use crate::db::push::{self, Added, Audience, PushRow};
use crate::http::error::ApiError;
use crate::http::tenant::{Caller, TenantState};
use crate::keys::Grant;
use crate::push::{BuiltIn, Content, Way, built_in};

/// Recipients that a request may name.
const MAX_RECIPIENTS: usize = 10_000;
/// Characters of an idempotency key, or of a reference.
const MAX_KEY: usize = 128;
/// Tags or attributes of an audience.
const MAX_CONDITIONS: usize = 20;
/// Hours that an audience may look back.
const MAX_HOURS: u32 = 8_760;
/// How long before its time a push may be asked for.
const LONGEST_AHEAD_MS: i64 = 90 * 24 * 3_600_000;
/// How far the caller's clock may be behind.
const SLACK_MS: i64 = 60_000;
/// How long a push is tried, where the request does not say.
const USUAL_LIFE_MS: i64 = 24 * 3_600_000;
/// The longest that it may be.
const LONGEST_LIFE_MS: i64 = 7 * 24 * 3_600_000;
/// The header that makes a repetition harmless.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Whom a push goes to.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged)]
pub(in crate::http::tenant) enum AudienceToPush {
    /// All followers that the host knows.
    #[schema(example = "followers")]
    Everyone(Everyone),
    /// Those of them for whom all of this holds.
    Some(AudienceFilter),
}

/// All followers.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::http::tenant) enum Everyone {
    /// All followers that the host knows.
    Followers,
}

/// Which followers; of what is given, all must hold.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http::tenant) struct AudienceFilter {
    /// Who has one of these of WeChat's tags, 20 at most.
    #[serde(default)]
    tags: Vec<u32>,
    /// Who wrote, tapped the menu, scanned, followed or paid within so many hours, 1 to 8,760.
    acted_within_hours: Option<u32>,
    /// Who has these attributes, as plugins noted them; 20 at most.
    #[serde(default)]
    #[schema(value_type = Object)]
    attributes: Map<String, Value>,
}

impl AudienceToPush {
    fn checked(&self) -> Result<Audience, ApiError> {
        let filter = match self {
            Self::Everyone(Everyone::Followers) => return Ok(Audience::default()),
            Self::Some(filter) => filter.clone(),
        };
        let wrong = |field, reason: String| Err(ApiError::invalid(field, reason));
        let most = MAX_CONDITIONS;
        if filter.tags.len() > most {
            return wrong("audience.tags", format!("{most} at most"));
        }
        if filter.attributes.len() > most {
            return wrong("audience.attributes", format!("{most} at most"));
        }
        if let Some(hours) = filter.acted_within_hours
            && !(1..=MAX_HOURS).contains(&hours)
        {
            let reason = format!("must be 1 to {MAX_HOURS}");
            return wrong("audience.acted_within_hours", reason);
        }
        Ok(Audience {
            tags: filter.tags,
            acted_within_hours: filter.acted_within_hours,
            attributes: filter.attributes,
        })
    }
}

/// What is to be sent to whom.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http::tenant) struct PushToMake {
    /// Open ids, 10,000 at most; one that comes twice gets it once.
    #[serde(default)]
    recipients: Vec<String>,
    /// In place of `recipients`.
    audience: Option<AudienceToPush>,
    /// What is sent. A kind of the plugin's: what its schema says. `text`: `{content}`. `template`:
    /// `{template_id, fields, url}`. `text-or-template`: `{text, template}`, where the template goes to whom
    /// WeChat takes no customer-service message for.
    #[schema(value_type = Object, example = json!({"content": "Your order has left."}))]
    data: Value,
    /// What the caller calls the matter, such as an order's number: 1 to 128 visible ASCII characters. What
    /// of it has not left can be recalled by it.
    #[schema(example = "order-42")]
    reference: Option<String>,
    /// Whether it does not wait for the account's quiet hours to end.
    #[serde(default)]
    urgent: bool,
    /// When it begins, Unix milliseconds, within 90 days; now if absent.
    send_at: Option<i64>,
    /// When those who still wait are not sent to any more, Unix milliseconds; a day after it begins if
    /// absent, a week at most.
    expires_at: Option<i64>,
}

impl PushToMake {
    /// The recipients that it names, each once, or the audience in their place.
    pub(super) fn whom(&self) -> Result<(Vec<&str>, Option<Audience>), ApiError> {
        let open_ids = recipients((&self.recipients, self.audience.is_some()))?;
        let audience = self.audience.as_ref().map(AudienceToPush::checked);
        Ok((open_ids, audience.transpose()?))
    }

    /// What is sent.
    pub(super) fn data(&self) -> &Value {
        &self.data
    }
}

/// Puts a request in.
pub(super) async fn add(
    state: &TenantState,
    caller: &Caller,
    (app_id, kind): (&str, &str),
    (headers, wanted): (&HeaderMap, PushToMake),
) -> Result<PushRow, ApiError> {
    let account = caller.account(state, app_id)?;
    caller.expect(&Grant::Push)?;
    let whom = (&*wanted.recipients, wanted.audience.is_some());
    let open_ids = recipients(whom)?;
    let now_ms = state.services.db.now_ms();
    let (starts_at, expires_at) = times(&wanted, now_ms)?;
    let audience = audience(wanted.audience.as_ref())?;
    let mut digest = Sha256::new();
    if let Some(reference) = &wanted.reference {
        check_reference(reference)?;
    }
    let to = audience.as_deref().unwrap_or_default();
    let about = wanted.reference.as_deref().unwrap_or_default();
    for part in [
        kind,
        &wanted.data.to_string(),
        &open_ids.join("\n"),
        to,
        about,
    ] {
        digest.update(part);
        digest.update([0]);
    }
    for time in [wanted.send_at, wanted.expires_at] {
        digest.update(time.unwrap_or_default().to_be_bytes());
    }
    if wanted.urgent {
        digest.update("urgent");
    }
    let mut row = PushRow {
        app_id: account.app_id.as_str().to_owned(),
        id: push::new_id(now_ms),
        kind: kind.to_owned(),
        content: String::new(),
        state: "running".to_owned(),
        idempotency_key: idempotency_key(headers)?,
        request_digest: hex::encode(digest.finalize()),
        reference: wanted.reference.clone(),
        audience,
        taken_to: Vec::new(),
        starts_at,
        expires_at,
        recipients: i64::try_from(open_ids.len()).unwrap_or(i64::MAX),
        sent: 0,
        failed: 0,
        skipped: 0,
        unsure: 0,
        delivered: 0,
        undelivered: 0,
        created_at: now_ms,
        ended_at: None,
        is_urgent: wanted.urgent.then_some(1),
    };
    let db = &state.services.db;
    // A repetition needs no room of its own.
    if let Some(key) = &row.idempotency_key
        && let Some(before) = push::find_by_key(db, app_id, key).await?
    {
        return repeated(before, &row);
    }
    let content = content(state, &account, (kind, &wanted.data)).await?;
    row.content = serde_json::to_string(&content).map_err(ApiError::internal)?;
    let quotas = &state.services.quotas;
    let room = quotas.take_messages(account.holders(), open_ids.len());
    let room = room.await?.map_err(|over| {
        let message = over.to_string();
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "over-quota", message)
    })?;
    match push::add(db, &row, &open_ids).await? {
        Added::New => {
            room.used();
            state.services.push.notify_one();
            Ok(row)
        }
        Added::Before(before) => repeated(*before, &row),
    }
}

/// An audience as it is stored.
pub(super) fn audience(wanted: Option<&AudienceToPush>) -> Result<Option<String>, ApiError> {
    let audience = wanted.map(AudienceToPush::checked).transpose()?;
    Ok(audience.map(|audience| json!(audience).to_string()))
}

/// When a push begins and ends.
fn times(wanted: &PushToMake, now_ms: i64) -> Result<(i64, i64), ApiError> {
    let starts_at = wanted.send_at.unwrap_or(now_ms);
    if !(now_ms - SLACK_MS..=now_ms + LONGEST_AHEAD_MS).contains(&starts_at) {
        let reason = "must lie in the future, and within 90 days";
        return Err(ApiError::invalid("send_at", reason));
    }
    let expires_at = wanted.expires_at.unwrap_or(starts_at + USUAL_LIFE_MS);
    if !(now_ms.max(starts_at)..=starts_at + LONGEST_LIFE_MS).contains(&expires_at) {
        let reason = "must lie in the future, after send_at, and within a week of it";
        return Err(ApiError::invalid("expires_at", reason));
    }
    Ok((starts_at, expires_at))
}

/// What is sent: the same to all for a built-in kind, what the plugin makes of the data for its own.
pub(super) async fn content(
    state: &TenantState,
    account: &Arc<Account>,
    (kind, data): (&str, &Value),
) -> Result<Content, ApiError> {
    if let Some(kind) = BuiltIn::named(kind) {
        let ways = built_in(kind, data).map_err(|error| ApiError::invalid("data", error))?;
        let services = &state.services;
        for (template_id, fields) in ways.0.iter().filter_map(Way::template) {
            let asked = (&*services.client, account);
            let checked = services.templates.check(asked, template_id, &fields);
            checked
                .await
                .map_err(|misfit| ApiError::invalid("data", misfit))?;
        }
        return Ok(Content::Ways(ways));
    }
    let deployment = account.plugin.deployment.as_deref();
    let kinds = deployment.map_or(&[][..], |deployment| &deployment.push_kinds);
    let Some(found) = kinds.iter().find(|found| found.kind == kind) else {
        let mut known: Vec<&str> = BuiltIn::names().collect();
        known.extend(kinds.iter().map(|found| &*found.kind));
        let message = format!(
            "there is no kind of push {kind}; the account has: {}",
            known.join(", ")
        );
        return Err(ApiError::new(StatusCode::NOT_FOUND, "not-found", message));
    };
    if let Some(schema) = found.schema.clone() {
        let runtime = &state.services.runtime;
        let checked = runtime.check_config(schema, data.to_string(), &account.tenant.id);
        checked.await.map_err(misfit)?;
    }
    Ok(Content::Composed(data.clone()))
}

/// Data that a plugin's schema does not take, or that can't be checked.
fn misfit(error: ConfigError) -> ApiError {
    let refused = |code, message| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code, message);
    match error {
        ConfigError::Violations(faults) => {
            let message = format!("data: {}", faults.join("; "));
            refused("data-refused", message).with_faults(faults)
        }
        ConfigError::TooDemanding(what) => {
            let message = format!(
                "data: can't be checked against the plugin's schema within the host's limits: {what}"
            );
            refused("data-too-demanding", message)
        }
        ConfigError::Busy => {
            let message = "too many checks wait; try again later";
            let code = "checks-busy";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, message).retry_after(1)
        }
        ConfigError::Schema(_) | ConfigError::Failed(_) => ApiError::internal(error),
    }
}

/// The push of before, if it is the same.
fn repeated(before: PushRow, wanted: &PushRow) -> Result<PushRow, ApiError> {
    if before.request_digest == wanted.request_digest {
        return Ok(before);
    }
    let message = format!(
        "the Idempotency-Key belongs to push {} with another kind or body",
        before.id
    );
    let code = "idempotency-key-reused";
    Err(ApiError::new(StatusCode::CONFLICT, code, message))
}

/// The recipients that a request names, each once.
pub(super) fn recipients((named, has_audience): (&[String], bool)) -> Result<Vec<&str>, ApiError> {
    if named.is_empty() != has_audience {
        return Err(ApiError::invalid(
            "recipients",
            "name either recipients or an audience",
        ));
    }
    if named.len() > MAX_RECIPIENTS {
        return Err(ApiError::invalid(
            "recipients",
            format_args!("has {} open ids; {MAX_RECIPIENTS} at most", named.len()),
        ));
    }
    let mut seen = BTreeSet::new();
    let mut open_ids = Vec::with_capacity(named.len());
    for (index, open_id) in named.iter().enumerate() {
        OpenId::parse(open_id)
            .map_err(|error| ApiError::invalid(&format!("recipients[{index}]"), error))?;
        if seen.insert(open_id) {
            open_ids.push(open_id.as_str());
        }
    }
    Ok(open_ids)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    check_word("Idempotency-Key", text)?;
    Ok(Some(text.to_owned()))
}

/// Refuses what is no reference.
pub(super) fn check_reference(text: &str) -> Result<(), ApiError> {
    check_word("reference", text)
}

fn check_word(field: &str, text: &str) -> Result<(), ApiError> {
    if (1..=MAX_KEY).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err(ApiError::invalid(
        field,
        format_args!("must be 1 to {MAX_KEY} visible ASCII characters"),
    ))
}
