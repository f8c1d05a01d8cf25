//! `/pay/…`: where a payer pays an order inside WeChat. The page logs them in, shows what is to be paid, has WeChat's
//! cashier come up, and says what became of it; `/pay/wxhost-pay.js` does the same for a tenant's own pages.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use form_urlencoded::byte_serialize;
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Duration, Instant};
use wxhost_wechat::pay::Fen;

use super::html;
use crate::checkout::{Invocation, OrderError};
use crate::db::DbError;
use crate::db::ledger::orders::OrderRow;
use crate::ledger::OrderState;
use crate::login::LoginLane;

/// How long a payer waits for WeChat Pay.
const PATIENCE: Duration = Duration::from_secs(8);

/// The script, for the host's page and for tenants' own.
const SCRIPT: &str = include_str!("payer/wxhost-pay.js");
/// What makes the host's page use it.
const PAGE_SCRIPT: &str = include_str!("payer/page.js");

/// The routes, on the listener that payers reach.
pub fn routes(logins: Arc<LoginLane>) -> Router {
    Router::new()
        .route("/pay/wxhost-pay.js", get(async || script(SCRIPT)))
        .route("/pay/page.js", get(async || script(PAGE_SCRIPT)))
        .route("/pay/{app_id}/{out_trade_no}", get(page))
        .route("/pay/{app_id}/{out_trade_no}/state", get(state))
        .route("/pay/{app_id}/{out_trade_no}/invocation", post(invocation))
        .with_state(logins)
}

fn script(text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=300"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text).into_response()
}

/// Why a payer sees no order.
enum Unseen {
    /// Nobody is logged in, or nobody any more.
    NobodyIn,
    /// There is none, or it is another's: the same to who asks.
    NotTheirs,
    Database(DbError),
}

/// The order of a path, if it is to be paid inside WeChat by who is logged in.
async fn seen(
    lane: &LoginLane,
    (app_id, out_trade_no): (&str, &str),
    headers: &HeaderMap,
) -> Result<OrderRow, Unseen> {
    let name = format!("wxhost-session-{app_id}");
    let cookie = html::cookie(headers, &name).unwrap_or_default();
    let session = lane.session(app_id, cookie).map_err(|_| Unseen::NobodyIn)?;
    let checkout = &lane.services().checkout;
    let order = checkout.order(app_id, (out_trade_no, None)).await;
    let order = order.map_err(Unseen::Database)?;
    order
        .filter(|order| order.open_id.as_deref() == Some(&*session.open_id))
        .ok_or(Unseen::NotTheirs)
}

async fn page(
    State(lane): State<Arc<LoginLane>>,
    Path((app_id, out_trade_no)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = query.unwrap_or_default();
    let mut told = form_urlencoded::parse(query.as_bytes());
    match seen(&lane, (&app_id, &out_trade_no), &headers).await {
        Ok(order) => order_page(&order),
        // Who has just said no is not asked again at once.
        Err(Unseen::NobodyIn) if told.any(|(name, _)| name == "login_error") => not_logged_in(),
        Err(Unseen::NobodyIn) => log_in(&lane, (&app_id, &out_trade_no)),
        Err(Unseen::NotTheirs) => message(
            StatusCode::NOT_FOUND,
            "没有找到这个订单，或者它不是你的。",
            "There is no such order, or it is not yours.",
        ),
        Err(Unseen::Database(error)) => {
            tracing::error!(error = %error, "a payer's order can't be read");
            message(
                StatusCode::SERVICE_UNAVAILABLE,
                "现在无法打开订单。请过一会儿再试。",
                "The order can't be shown now. Try again in a while.",
            )
        }
    }
}

/// The address `?`, an empty query, is the page's own without what it was told.
fn not_logged_in() -> Response {
    let body = "<h1>登录后才能支付这个订单。</h1>\
                <p><a class=\"button\" href=\"?\">用微信登录</a></p>\
                <p class=\"dim\" lang=\"en\">Log in to pay this order.</p>";
    html::page(StatusCode::UNAUTHORIZED, "订单支付", body)
}

/// Leads a payer to WeChat, and back here.
fn log_in(lane: &LoginLane, (app_id, out_trade_no): (&str, &str)) -> Response {
    let account = lane.services().accounts.get(app_id);
    let site = account.as_deref().and_then(|account| account.login_site());
    let Some(site) = site else {
        return message(
            StatusCode::NOT_FOUND,
            "这个公众号没有开通网页登录。",
            "Nobody logs in to pages of this account here.",
        );
    };
    let back = format!("{site}/pay/{app_id}/{out_trade_no}");
    let back: String = byte_serialize(back.as_bytes()).collect();
    html::redirect(
        &format!("{site}/oauth/{app_id}/start?return_to={back}"),
        None,
    )
}

fn order_page(order: &OrderRow) -> Response {
    let (said, button) = match order.state() {
        OrderState::New | OrderState::Unpaid => (
            "待支付",
            "<p><button id=\"pay\" class=\"button\">微信支付</button></p>",
        ),
        OrderState::Paid if order.refunded >= order.total => ("已退款", ""),
        OrderState::Paid if order.refunded > 0 => ("已支付，部分退款", ""),
        OrderState::Paid => ("支付成功", ""),
        OrderState::Closed => ("订单已关闭", ""),
        OrderState::Failed => ("订单没有创建成功", ""),
    };
    let body = format!(
        "<h1>{description}</h1><p class=\"sum\">¥{total}</p>\
         <p id=\"state\" role=\"status\" data-state=\"{state}\">{said}</p>{button}\
         <p class=\"dim\">订单号 {number}</p>\
         <script src=\"/pay/wxhost-pay.js\"></script><script src=\"/pay/page.js\"></script>",
        description = html::escaped(&order.description),
        total = Fen::new(order.total).yuan(),
        state = html::escaped(&order.state),
        number = html::escaped(&order.out_trade_no),
    );
    html::page_with_script(StatusCode::OK, "订单支付", &body)
}

fn message(status: StatusCode, said: &str, english: &str) -> Response {
    let body = format!("<h1>{said}</h1><p class=\"dim\" lang=\"en\">{english}</p>");
    html::page(status, "订单支付", &body)
}

/// How an order stands, for the script.
#[derive(Serialize)]
struct Standing {
    state: String,
    refunded_fen: i64,
    /// What `WeixinJSBridge` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    invocation: Option<Value>,
    /// Why it can't be paid now.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

impl Standing {
    fn of(order: &OrderRow) -> Self {
        Self {
            state: order.state.clone(),
            refunded_fen: order.refunded,
            invocation: None,
            error: None,
        }
    }
}

async fn state(
    State(lane): State<Arc<LoginLane>>,
    Path((app_id, out_trade_no)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    match seen(&lane, (&app_id, &out_trade_no), &headers).await {
        Ok(order) => told(StatusCode::OK, &Standing::of(&order)),
        Err(unseen) => refused(&unseen),
    }
}

async fn invocation(
    State(lane): State<Arc<LoginLane>>,
    Path((app_id, out_trade_no)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let order = match seen(&lane, (&app_id, &out_trade_no), &headers).await {
        Ok(order) => order,
        Err(unseen) => return refused(&unseen),
    };
    let mut standing = Standing::of(&order);
    let checkout = &lane.services().checkout;
    let invoked = async {
        let binding = checkout.binding_of(order.number())?;
        let deadline = Instant::now() + PATIENCE;
        checkout.invoke(&binding, order.clone(), deadline).await
    };
    match invoked.await {
        Ok(placed) => {
            standing.state = placed.order.state;
            standing.invocation = match placed.invocation {
                Invocation::Jsapi(parameters) => serde_json::to_value(parameters).ok(),
                Invocation::Native(_) | Invocation::App(_) | Invocation::H5(_) => None,
            };
        }
        Err(OrderError::AlreadyPaid) => standing.state = OrderState::Paid.as_str().to_owned(),
        Err(OrderError::Closed) => standing.state = OrderState::Closed.as_str().to_owned(),
        Err(error) => {
            tracing::warn!(account.app_id = app_id, error = %error, "an order can't be paid now");
            standing.error = Some(error.code());
            return told(StatusCode::BAD_GATEWAY, &standing);
        }
    }
    told(StatusCode::OK, &standing)
}

fn refused(unseen: &Unseen) -> Response {
    let (status, error) = match unseen {
        Unseen::NobodyIn => (StatusCode::UNAUTHORIZED, "not-logged-in"),
        Unseen::NotTheirs => (StatusCode::NOT_FOUND, "unknown-order"),
        Unseen::Database(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    let standing = Standing {
        state: "unknown".to_owned(),
        refunded_fen: 0,
        invocation: None,
        error: Some(error),
    };
    told(status, &standing)
}

fn told(status: StatusCode, standing: &Standing) -> Response {
    let mut response = (status, Json(standing)).into_response();
    let no_store = HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, no_store);
    response
}
