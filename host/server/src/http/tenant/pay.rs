//! `…/accounts/{app_id}/pay/…`: orders that a tenant's system makes, follows, closes and gives back.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Duration, Instant};
use utoipa::{IntoParams, ToSchema};
use wxhost_wechat::id::OpenId;
use wxhost_wechat::pay::{Fen, OutRefundNo, OutTradeNo};

use super::{Caller, TenantState};
use crate::audit::Action;
use crate::checkout::{Invocation, NewOrder, NewRefund, OrderError, Placed, RefundError, Scene};
use crate::db::ledger::orders::{self, OrderRow};
use crate::db::ledger::refunds::{self, RefundRow};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::{JsonBody, Path, Query};
use crate::http::page::PageSize;
use crate::keys::Grant;
use crate::merchants::Binding;

/// How long a tenant's system waits for WeChat Pay.
const PATIENCE: Duration = Duration::from_secs(8);

/// Where an order is paid.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub(super) enum SceneToPay {
    /// In a page inside WeChat, by this person.
    Jsapi {
        /// Who pays.
        open_id: String,
    },
    /// By scanning a QR code.
    Native {},
    /// In the merchant's app.
    App {},
    /// In a browser outside of WeChat.
    H5 {
        /// The payer's address.
        payer_client_ip: String,
        /// `iOS`, `Android` or `Wap`.
        browser: String,
    },
}

/// What is to be paid for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderToMake {
    /// Names the order: the same number with the same data is the same order. 6 to 32 of `0-9A-Za-z_-|*`.
    #[schema(example = "20261127-000042")]
    out_trade_no: String,
    /// Which of the account's merchants is paid; may be absent where there is one only.
    merchant: Option<String>,
    /// Where it is paid.
    scene: SceneToPay,
    /// What the payer sees; 1 to 127 characters.
    description: String,
    /// Fen.
    #[schema(example = 1990)]
    total_fen: i64,
    /// Comes back with the order; 128 characters at most.
    attach: Option<String>,
    /// When it can't be paid any more, Unix milliseconds: a minute to 7 days from now; two hours if absent.
    expires_at: Option<i64>,
}

/// An order. Times are Unix milliseconds, sums fen.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Order {
    /// Its number.
    out_trade_no: String,
    /// Who is paid.
    merchant: String,
    /// `new` (WeChat Pay may not know it yet), `unpaid`, `paid`, `closed` or `failed`.
    state: String,
    /// What the payer sees.
    description: String,
    /// What is to be paid.
    total_fen: i64,
    /// What was given back or is on its way back.
    refunded_fen: i64,
    /// What the payer paid after discounts.
    payer_total_fen: Option<i64>,
    /// Who has paid, or is to.
    open_id: Option<String>,
    /// What was given along with it.
    attach: Option<String>,
    /// WeChat Pay's number of the payment.
    transaction_id: Option<String>,
    /// Why it failed.
    error: Option<String>,
    /// When it was made.
    created_at: i64,
    /// When it can't be paid any more.
    expires_at: i64,
    /// When it was paid.
    paid_at: Option<i64>,
}

impl From<OrderRow> for Order {
    fn from(row: OrderRow) -> Self {
        Self {
            out_trade_no: row.out_trade_no,
            merchant: row.mch_id,
            state: row.state,
            description: row.description,
            total_fen: row.total,
            refunded_fen: row.refunded,
            payer_total_fen: row.payer_total,
            open_id: row.open_id,
            attach: row.attach,
            transaction_id: row.transaction_id,
            error: row.error,
            created_at: row.created_at,
            expires_at: row.expires_at,
            paid_at: row.paid_at,
        }
    }
}

/// An order that can be paid.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PayableOrder {
    /// The order.
    #[serde(flatten)]
    order: Order,
    /// What the page gives to `WeixinJSBridge` (`getBrandWCPayRequest`), or the app to its SDK.
    #[serde(skip_serializing_if = "Option::is_none")]
    invocation: Option<Value>,
    /// The content of the QR code.
    #[serde(skip_serializing_if = "Option::is_none")]
    code_url: Option<String>,
    /// Where the browser is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    h5_url: Option<String>,
    /// The host's own page for the payer.
    #[serde(skip_serializing_if = "Option::is_none")]
    page_url: Option<String>,
}

impl From<Placed> for PayableOrder {
    fn from(placed: Placed) -> Self {
        let value = |invocation| serde_json::to_value(invocation).ok();
        let (invocation, code_url, h5_url) = match placed.invocation {
            Invocation::Jsapi(parameters) => (serde_json::to_value(parameters).ok(), None, None),
            Invocation::App(parameters) => (value(parameters), None, None),
            Invocation::Native(code_url) => (None, Some(code_url), None),
            Invocation::H5(address) => (None, None, Some(address)),
        };
        Self {
            order: placed.order.into(),
            invocation,
            code_url,
            h5_url,
            page_url: placed.page_url,
        }
    }
}

/// A refund. Times are Unix milliseconds, sums fen.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Refund {
    /// Its number.
    out_refund_no: String,
    /// The order's number.
    out_trade_no: String,
    /// Who gives it back.
    merchant: String,
    /// `held` (somebody has to approve it), `asked`, `processing`, `succeeded`, `abnormal` (the payer's card does not
    /// take it) or `failed`.
    state: String,
    /// How much.
    amount_fen: i64,
    /// What the payer is told.
    reason: Option<String>,
    /// WeChat Pay's number.
    refund_id: Option<String>,
    /// Why it failed, or waits.
    error: Option<String>,
    /// Who asked for it.
    asked_by: String,
    /// When it was asked for.
    created_at: i64,
    /// When it ended.
    ended_at: Option<i64>,
}

impl From<RefundRow> for Refund {
    fn from(row: RefundRow) -> Self {
        Self {
            out_refund_no: row.out_refund_no,
            out_trade_no: row.out_trade_no,
            merchant: row.mch_id,
            state: row.state,
            amount_fen: row.amount,
            reason: row.reason,
            refund_id: row.refund_id,
            error: row.error,
            asked_by: row.asked_by,
            created_at: row.created_at,
            ended_at: row.ended_at,
        }
    }
}

/// An order with what was given back of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OrderInFull {
    /// The order.
    #[serde(flatten)]
    order: Order,
    /// Its refunds, oldest first.
    refunds: Vec<Refund>,
}

/// Money that is to go back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RefundToMake {
    /// Names the refund: the same number is never refunded twice. 1 to 64 of `0-9A-Za-z_-@|*`.
    out_refund_no: String,
    /// Fen; all that is left if absent.
    amount_fen: Option<i64>,
    /// What the payer is told; 80 characters at most.
    reason: Option<String>,
}

/// Which of the account's merchants.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MerchantQuery {
    /// May be absent where one only has an order of the number.
    merchant: Option<String>,
}

/// Which orders to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OrderQuery {
    /// Of this person only.
    open_id: Option<String>,
    /// In this state only.
    state: Option<String>,
    /// Made before this time, Unix milliseconds.
    before: Option<i64>,
    /// 1 to 200; 50 if absent.
    limit: Option<u32>,
}

/// A page of orders.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Orders {
    /// The newest first.
    orders: Vec<Order>,
    /// Give it as `before` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// Makes an order, or finds it: the same number with the same data is the same order, with a fresh invocation.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/pay/orders", tag = "for tenants' systems", params(("app_id" = String, Path)), request_body = OrderToMake, security(("api_key" = [])), responses(
    (status = 200, body = PayableOrder),
    (status = "4XX", body = ErrorBody),
    (status = "5XX", body = ErrorBody),
))]
pub(super) async fn make_order(
    caller: Caller,
    State(state): State<TenantState>,
    Path(app_id): Path<String>,
    JsonBody(wanted): JsonBody<OrderToMake>,
) -> Result<Json<PayableOrder>, ApiError> {
    let made = make(&state, &caller, &app_id, &wanted).await;
    let act = (Action::OrderMake, &*app_id, &*wanted.out_trade_no);
    caller.note(&state, act, made.as_ref().map(|_| "ok"));
    made.map(Json)
}

async fn make(
    state: &TenantState,
    caller: &Caller,
    app_id: &str,
    wanted: &OrderToMake,
) -> Result<PayableOrder, ApiError> {
    let account = caller.account(state, app_id)?;
    caller.expect(&Grant::Pay)?;
    let scene = match &wanted.scene {
        SceneToPay::Jsapi { open_id } => {
            let open_id = OpenId::parse(open_id);
            Scene::Jsapi(open_id.map_err(|e| ApiError::invalid("scene.open_id", e))?)
        }
        SceneToPay::Native {} => Scene::Native,
        SceneToPay::App {} => Scene::App,
        SceneToPay::H5 {
            payer_client_ip,
            browser,
        } => Scene::H5 {
            payer_client_ip: payer_client_ip.clone(),
            kind: browser.clone(),
        },
    };
    let new = NewOrder {
        out_trade_no: OutTradeNo::parse(&wanted.out_trade_no)
            .map_err(|e| ApiError::invalid("out_trade_no", e))?,
        merchant: wanted.merchant.clone(),
        scene,
        description: wanted.description.clone(),
        total: Fen::parse_positive(wanted.total_fen)
            .map_err(|e| ApiError::invalid("total_fen", e))?,
        attach: wanted.attach.clone(),
        expires_at: wanted.expires_at,
    };
    let deadline = Instant::now() + PATIENCE;
    let placed = state
        .services
        .checkout
        .place(&account, new, deadline)
        .await?;
    Ok(placed.into())
}

/// Lists orders.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/pay/orders", tag = "for tenants' systems", params(("app_id" = String, Path), OrderQuery), security(("api_key" = [])), responses(
    (status = 200, body = Orders),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn list_orders(
    caller: Caller,
    State(state): State<TenantState>,
    Path(app_id): Path<String>,
    Query(query): Query<OrderQuery>,
) -> Result<Json<Orders>, ApiError> {
    caller.account(&state, &app_id)?;
    caller.expect(&Grant::Pay)?;
    let size = PageSize::of(query.limit)?;
    let wanted = (&*app_id, query.open_id.as_deref(), query.state.as_deref());
    let page = (query.before.unwrap_or(i64::MAX), size.rows());
    let rows = orders::list(&state.services.db, wanted, page).await?;
    let act = (Action::OrdersRead, &*app_id, "");
    caller.note_first(&state, act, Ok("ok")).await?;
    let page = size.page(rows, |row| row.created_at);
    Ok(Json(Orders {
        orders: page.items.into_iter().map(Order::from).collect(),
        next: page.next,
    }))
}

/// Shows an order, with its refunds, as the ledger has it.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/pay/orders/{out_trade_no}", tag = "for tenants' systems", params(("app_id" = String, Path), ("out_trade_no" = String, Path), MerchantQuery), security(("api_key" = [])), responses(
    (status = 200, body = OrderInFull),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn show_order(
    caller: Caller,
    State(state): State<TenantState>,
    Path((app_id, out_trade_no)): Path<(String, String)>,
    Query(query): Query<MerchantQuery>,
) -> Result<Json<OrderInFull>, ApiError> {
    let named = (&*out_trade_no, query.merchant.as_deref());
    let (order, _) = found(&state, &caller, &app_id, named).await?;
    let act = (Action::OrdersRead, &*app_id, &*out_trade_no);
    caller.note_first(&state, act, Ok("ok")).await?;
    let refunds = refunds::of_order(&state.services.db, order.number()).await?;
    Ok(Json(OrderInFull {
        order: order.into(),
        refunds: refunds.into_iter().map(Refund::from).collect(),
    }))
}

/// Shows an order by asking WeChat Pay first, where it is not settled.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/pay/orders/{out_trade_no}/query", tag = "for tenants' systems", params(("app_id" = String, Path), ("out_trade_no" = String, Path), MerchantQuery), security(("api_key" = [])), responses(
    (status = 200, body = Order),
    (status = "4XX", body = ErrorBody),
    (status = "5XX", body = ErrorBody),
))]
pub(super) async fn query_order(
    caller: Caller,
    State(state): State<TenantState>,
    Path((app_id, out_trade_no)): Path<(String, String)>,
    Query(query): Query<MerchantQuery>,
) -> Result<Json<Order>, ApiError> {
    let named = (&*out_trade_no, query.merchant.as_deref());
    let (order, binding) = found(&state, &caller, &app_id, named).await?;
    let act = (Action::OrdersRead, &*app_id, &*out_trade_no);
    caller.note_first(&state, act, Ok("ok")).await?;
    let deadline = Instant::now() + PATIENCE;
    let checkout = &state.services.checkout;
    Ok(Json(
        checkout.settled(&binding, order, deadline).await?.into(),
    ))
}

/// Closes an order that is not paid: it can't be paid any more. One that is paid meanwhile stays so.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/pay/orders/{out_trade_no}/close", tag = "for tenants' systems", params(("app_id" = String, Path), ("out_trade_no" = String, Path), MerchantQuery), security(("api_key" = [])), responses(
    (status = 202, body = Order),
    (status = "4XX", body = ErrorBody),
    (status = "5XX", body = ErrorBody),
))]
pub(super) async fn close_order(
    caller: Caller,
    State(state): State<TenantState>,
    Path((app_id, out_trade_no)): Path<(String, String)>,
    Query(query): Query<MerchantQuery>,
) -> Result<(StatusCode, Json<Order>), ApiError> {
    let named = (&*out_trade_no, query.merchant.as_deref());
    let (order, _) = found(&state, &caller, &app_id, named).await?;
    orders::close(&state.services.db, order.number()).await?;
    state.services.checkout.wake();
    let act = (Action::OrderClose, &*app_id, &*out_trade_no);
    caller.note(&state, act, Ok("ok"));
    Ok((StatusCode::ACCEPTED, Json(order.into())))
}

/// Gives money of a paid order back. Above the operator's threshold somebody has to approve it first.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/pay/orders/{out_trade_no}/refunds", tag = "for tenants' systems", params(("app_id" = String, Path), ("out_trade_no" = String, Path), MerchantQuery), request_body = RefundToMake, security(("api_key" = [])), responses(
    (status = 202, body = Refund),
    (status = "4XX", body = ErrorBody),
    (status = "5XX", body = ErrorBody),
))]
pub(super) async fn refund_order(
    caller: Caller,
    State(state): State<TenantState>,
    Path((app_id, out_trade_no)): Path<(String, String)>,
    Query(query): Query<MerchantQuery>,
    JsonBody(wanted): JsonBody<RefundToMake>,
) -> Result<(StatusCode, Json<Refund>), ApiError> {
    let named = (&*out_trade_no, query.merchant.as_deref());
    let refunded = refund(&state, &caller, (&app_id, named), &wanted).await;
    let act = (Action::RefundMake, &*app_id, &*wanted.out_refund_no);
    caller.note(&state, act, refunded.as_ref().map(|_| "ok"));
    Ok((StatusCode::ACCEPTED, Json(refunded?)))
}

async fn refund(
    state: &TenantState,
    caller: &Caller,
    (app_id, named): (&str, (&str, Option<&str>)),
    wanted: &RefundToMake,
) -> Result<Refund, ApiError> {
    caller.expect(&Grant::Refund)?;
    let (order, binding) = found(state, caller, app_id, named).await?;
    let amount = wanted.amount_fen.map(Fen::parse_positive).transpose();
    let new = NewRefund {
        out_refund_no: OutRefundNo::parse(&wanted.out_refund_no)
            .map_err(|e| ApiError::invalid("out_refund_no", e))?,
        amount: amount.map_err(|e| ApiError::invalid("amount_fen", e))?,
        reason: wanted.reason.clone(),
    };
    let asked = (order.number(), &*caller.key.id);
    let row = state
        .services
        .checkout
        .refund(&binding, &new, asked)
        .await?;
    Ok(row.into())
}

/// Shows a refund as the ledger has it.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/pay/refunds/{out_refund_no}", tag = "for tenants' systems", params(("app_id" = String, Path), ("out_refund_no" = String, Path), MerchantQuery), security(("api_key" = [])), responses(
    (status = 200, body = Refund),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn show_refund(
    caller: Caller,
    State(state): State<TenantState>,
    Path((app_id, out_refund_no)): Path<(String, String)>,
    Query(query): Query<MerchantQuery>,
) -> Result<Json<Refund>, ApiError> {
    caller.account(&state, &app_id)?;
    caller.expect(&Grant::Pay)?;
    let found = refunds::of_number(&state.services.db, &app_id, &out_refund_no).await?;
    let wanted = |row: &RefundRow| query.merchant.as_ref().is_none_or(|id| *id == row.mch_id);
    let found = found.into_iter().find(wanted);
    let row = found.ok_or_else(|| ApiError::not_found("refund", &out_refund_no))?;
    let act = (Action::OrdersRead, &*app_id, &*out_refund_no);
    caller.note_first(&state, act, Ok("ok")).await?;
    Ok(Json(row.into()))
}

/// An order that the caller may reach, and how its account is bound to its merchant.
async fn found(
    state: &TenantState,
    caller: &Caller,
    app_id: &str,
    named: (&str, Option<&str>),
) -> Result<(OrderRow, std::sync::Arc<Binding>), ApiError> {
    caller.account(state, app_id)?;
    caller.expect(&Grant::Pay)?;
    let checkout = &state.services.checkout;
    let order = checkout.order(app_id, named).await?;
    let order = order.ok_or_else(|| ApiError::not_found("order", named.0))?;
    let binding = checkout.binding_of(order.number())?;
    Ok((order, binding))
}

impl From<OrderError> for ApiError {
    fn from(error: OrderError) -> Self {
        let status = match error {
            OrderError::NoMerchant(_)
            | OrderError::Differs(_)
            | OrderError::AlreadyPaid
            | OrderError::Closed
            | OrderError::Owner(_)
            | OrderError::Contradiction(_) => StatusCode::CONFLICT,
            OrderError::Invalid(_) => StatusCode::BAD_REQUEST,
            OrderError::Over(_, _) => StatusCode::FORBIDDEN,
            OrderError::Unknown => StatusCode::NOT_FOUND,
            OrderError::Refused(_) => StatusCode::BAD_GATEWAY,
            OrderError::Unsure(_) => StatusCode::GATEWAY_TIMEOUT,
            OrderError::Database(error) => return error.into(),
        };
        Self::new(status, error.code(), error.to_string())
    }
}

impl From<RefundError> for ApiError {
    fn from(error: RefundError) -> Self {
        match error {
            RefundError::NotGranted => Self::new(
                StatusCode::FORBIDDEN,
                "refunds-not-granted",
                error.to_string(),
            ),
            RefundError::Refused(code, why) => Self::new(StatusCode::CONFLICT, code, why),
            RefundError::Database(error) => error.into(),
        }
    }
}
