//! `/api/v1/accounts/{app_id}/pay/…` for the operator: what came of orders and refunds, refunds that somebody has to
//! approve, facts that a plugin did not take, notices that contradict the ledger, and whether the books balance.

use axum::Json;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{JsonBody, Look, PageSize, Path, Query, Read, Write, permission};
use crate::audit::Action;
use crate::db::accounts::AccountRow;
use crate::db::ledger::notices::{self, NoticeRow};
use crate::db::ledger::refunds::{self, News, RefundRow};
use crate::db::ledger::{self, Applied, events};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::tenant::pay::Refund;
use crate::ledger::{RefundFact, RefundState};

/// Which page of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MoneyQuery {
    /// In this state only.
    state: Option<String>,
    /// Made before this time, Unix milliseconds.
    before: Option<i64>,
    /// 1 to 200; 50 if absent.
    limit: Option<u32>,
}

/// A page of refunds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Refunds {
    /// The newest first.
    refunds: Vec<Refund>,
    /// Give it as `before` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// What is decided on a refund that waits for it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RefundDecision {
    /// Whether the money goes back.
    approve: bool,
    /// The merchant, where several have a refund of the number.
    merchant: Option<String>,
}

/// A fact that the account's plugin is told of. Times are Unix milliseconds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PayEvent {
    /// Names it.
    id: String,
    /// `paid`, `closed`, `refunded` or `refund-failed`.
    kind: String,
    /// The order.
    out_trade_no: String,
    /// The refund, where it is of one.
    out_refund_no: Option<String>,
    /// `due`, `done` or `failed` (it waits for somebody to look at it).
    state: String,
    /// How often the plugin was asked.
    attempts: i64,
    /// Why it has not taken it.
    error: Option<String>,
    /// When it came about.
    created_at: i64,
}

/// A page of such facts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PayEvents {
    /// The newest first.
    events: Vec<PayEvent>,
    /// Give it as `before` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// A fact of the account's to be told again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EventToResume {
    /// As it is listed.
    id: String,
}

/// A notice that contradicts the ledger.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FlaggedNotice {
    /// The merchant.
    merchant: String,
    /// What it tells of.
    fact: String,
    /// WeChat Pay's id of the notice.
    notice_id: String,
    /// What is wrong with it.
    reason: Option<String>,
    /// Unix milliseconds.
    received_at: i64,
}

impl From<NoticeRow> for FlaggedNotice {
    fn from(row: NoticeRow) -> Self {
        Self {
            merchant: row.mch_id,
            fact: row.fact,
            notice_id: row.notice_id,
            reason: row.reason,
            received_at: row.received_at,
        }
    }
}

/// What contradicts the ledger.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FlaggedNotices {
    /// The newest first.
    notices: Vec<FlaggedNotice>,
}

/// The sums of an account's books at a merchant, fen.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Books {
    /// The merchant.
    merchant: String,
    /// What is wrong with them; absent, as it should be.
    flaw: Option<String>,
    /// What people have paid and not got back, refunds under way included.
    kept_fen: i64,
    /// Of this, what is on its way back.
    going_back_fen: i64,
}

/// An account's books, of each of its merchants.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AllBooks {
    /// In no order.
    books: Vec<Books>,
}

/// Lists refunds.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/refunds", tag = "money", params(("app_id" = String, Path), MoneyQuery), responses(
    (status = 200, body = Refunds),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn list_refunds(
    look: Look<permission::Money, AccountRow>,
    Query(query): Query<MoneyQuery>,
) -> Result<Json<Refunds>, ApiError> {
    let size = PageSize::of(query.limit)?;
    let wanted = (&*look.object.app_id, query.state.as_deref());
    let page = (query.before.unwrap_or(i64::MAX), size.rows());
    let rows = refunds::list(&look.services().db, wanted, page).await?;
    let page = size.page(rows, |row| row.created_at);
    Ok(Json(Refunds {
        refunds: page.items.into_iter().map(Refund::from).collect(),
        next: page.next,
    }))
}

/// Approves or rejects a refund that waits for it.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/refunds/{out_refund_no}/decision", tag = "money", params(("app_id" = String, Path), ("out_refund_no" = String, Path)), request_body = RefundDecision, responses(
    (status = 200, body = Refund),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn decide_refund(
    write: Write<AccountRow>,
    Path((app_id, out_refund_no)): Path<(String, String)>,
    JsonBody(body): JsonBody<RefundDecision>,
) -> Result<Json<Refund>, ApiError> {
    let services = write.services();
    let wanted = |row: &RefundRow| body.merchant.as_ref().is_none_or(|id| *id == row.mch_id);
    let found = refunds::of_number(&services.db, &app_id, &out_refund_no).await?;
    let row = found.into_iter().find(wanted);
    let row = row.ok_or_else(|| ApiError::not_found("refund", &out_refund_no))?;
    let not_held = || {
        let said = format!("the refund is {}, not held", row.state);
        ApiError::new(StatusCode::CONFLICT, "refund-not-held", said)
    };
    if row.state() != RefundState::Held {
        return Err(not_held());
    }
    let (fact, word) = match body.approve {
        true => (RefundFact::Approved, "approved"),
        false => (RefundFact::Rejected, "rejected"),
    };
    let object = format!("{out_refund_no} {word}");
    let entry = write
        .author()
        .entry(Action::RefundTurn, Some(&app_id), &object, "ok");
    services.audit.write(entry).await?;
    let news = News {
        number: row.number(),
        fact,
        refund_id: None,
        amount: None,
        error: (!body.approve).then_some("somebody rejected it"),
        cause: word,
    };
    if refunds::learn(&services.db, news).await? != Applied::Turned {
        return Err(not_held());
    }
    services.checkout.wake();
    let row = refunds::find(&services.db, row.number()).await?;
    let row = row.ok_or_else(|| ApiError::not_found("refund", &out_refund_no))?;
    Ok(Json(row.into()))
}

/// Lists facts about money that the account's plugin is told of.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/pay-events", tag = "money", params(("app_id" = String, Path), MoneyQuery), responses(
    (status = 200, body = PayEvents),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn list_events(
    read: Read<AccountRow>,
    Query(query): Query<MoneyQuery>,
) -> Result<Json<PayEvents>, ApiError> {
    let size = PageSize::of(query.limit)?;
    let wanted = (&*read.object.app_id, query.state.as_deref());
    let page = (query.before.unwrap_or(i64::MAX), size.rows());
    let rows = events::list(&read.services().db, wanted, page).await?;
    let page = size.page(rows, |row| row.created_at);
    let events = page.items.into_iter().map(|row| PayEvent {
        id: row.id,
        kind: row.kind,
        out_trade_no: row.out_trade_no,
        out_refund_no: row.out_refund_no,
        state: row.state,
        attempts: row.attempts,
        error: row.error,
        created_at: row.created_at,
    });
    Ok(Json(PayEvents {
        events: events.collect(),
        next: page.next,
    }))
}

/// Has a fact told to the plugin again that it did not take.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/pay-events/resume", tag = "money", params(("app_id" = String, Path)), request_body = EventToResume, responses(
    (status = 204),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn resume_event(
    write: Write<AccountRow>,
    JsonBody(body): JsonBody<EventToResume>,
) -> Result<StatusCode, ApiError> {
    let (services, app_id) = (write.services(), &*write.object.app_id);
    let entry = write
        .author()
        .entry(Action::PayEventResume, Some(app_id), &body.id, "ok");
    services.audit.write(entry).await?;
    if !events::resume(&services.db, app_id, &body.id).await? {
        return Err(ApiError::not_found("failed event", &body.id));
    }
    services.checkout.wake();
    Ok(StatusCode::NO_CONTENT)
}

/// Lists what WeChat Pay has told that contradicts the ledger.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/pay-notices/flagged", tag = "money", params(("app_id" = String, Path), MoneyQuery), responses(
    (status = 200, body = FlaggedNotices),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn flagged_notices(
    read: Read<AccountRow>,
    Query(query): Query<MoneyQuery>,
) -> Result<Json<FlaggedNotices>, ApiError> {
    let size = PageSize::of(query.limit)?;
    let page = (query.before.unwrap_or(i64::MAX), size.items());
    let rows = notices::flagged(&read.services().db, &read.object.app_id, page).await?;
    Ok(Json(FlaggedNotices {
        notices: rows.into_iter().map(FlaggedNotice::from).collect(),
    }))
}

/// Checks whether an account's books balance.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/books", tag = "money", params(("app_id" = String, Path)), responses(
    (status = 200, body = AllBooks),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn books(read: Read<AccountRow>) -> Result<Json<AllBooks>, ApiError> {
    let (services, app_id) = (read.services(), &*read.object.app_id);
    let mut books = Vec::new();
    for mch_id in services.checkout.merchants().of_account(app_id) {
        let balances = ledger::balances(&services.db, (app_id, &mch_id)).await?;
        let sum = |prefix: &str| {
            let of_kind = balances.kept.iter();
            let of_kind = of_kind.filter(|(book, _)| book.starts_with(prefix));
            of_kind.map(|(_, balance)| balance).sum::<i64>()
        };
        let going_back_fen = sum("refund/");
        books.push(Books {
            merchant: mch_id,
            flaw: balances.flaw(),
            kept_fen: sum("order/") + going_back_fen,
            going_back_fen,
        });
    }
    Ok(Json(AllBooks { books }))
}

/// A turn of an order or a refund.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LedgerTurn {
    /// Counted from 1.
    number: i64,
    /// Where it stood; empty before it was.
    from: String,
    /// Where it stands since.
    to: String,
    /// What turned it.
    cause: String,
    /// Unix milliseconds.
    turned_at: i64,
}

/// All turns of one.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LedgerTurns {
    /// The oldest first.
    turns: Vec<LedgerTurn>,
}

/// Which one.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SubjectQuery {
    /// The merchant.
    merchant: String,
    /// `order/` and its number, or `refund/` and its number.
    subject: String,
}

/// Shows every turn of an order or a refund.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/ledger-history", tag = "money", params(("app_id" = String, Path), SubjectQuery), responses(
    (status = 200, body = LedgerTurns),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn history(
    read: Read<AccountRow>,
    Query(query): Query<SubjectQuery>,
) -> Result<Json<LedgerTurns>, ApiError> {
    let of = (&*read.object.app_id, &*query.merchant);
    let lines = ledger::history(&read.services().db, of, &query.subject).await?;
    let turns = lines.into_iter().map(|line| LedgerTurn {
        number: line.number,
        from: line.from_state,
        to: line.to_state,
        cause: line.cause,
        turned_at: line.turned_at,
    });
    Ok(Json(LedgerTurns {
        turns: turns.collect(),
    }))
}
