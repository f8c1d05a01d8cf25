//! Orders that people pay by WeChat Pay: made, found again, asked about and closed, for plugins, tenants' systems and
//! payers' pages alike.
//!
//! An order is written to the ledger before WeChat Pay hears of it; whatever breaks on the way, the same number with
//! the same data is the same order. What WeChat Pay says of it goes into the ledger by the same rules as its
//! notifications (`fact`).

mod fact;
mod order;
mod refund;

use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use wxhost_wechat::id::AppId;
use wxhost_wechat::pay::{
    self, AppInvocation, JsapiInvocation, OutTradeNo, PayAdvice, PayRefusal, Prepay, PrepayId,
    Refund, Stamp, Transaction,
};

pub use self::fact::{Unbelievable, payment, refund_fact, refund_news};
pub use self::order::{NewOrder, OrderError, Scene, StoredScene};
pub use self::refund::{NewRefund, RefundError};
use crate::accounts::Account;
use crate::clock::{Clock, beijing_midnight, millis};
use crate::db::ledger::orders::{self, Kept, Learnt, Limits, OrderRow};
use crate::db::ledger::{Number, payments};
use crate::db::{Database, DbError};
use crate::digest::sha256_hex;
use crate::ledger::OrderState;
use crate::merchant_client::{MerchantClient, PayCallError};
use crate::merchants::{Binding, Merchants, NoMerchant};
use crate::random;

/// How long an order can be paid where its maker does not say.
const USUAL_TIME: Duration = Duration::from_secs(2 * 3600);
/// The longest.
const LONGEST_TIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// The shortest (WeChat Pay's limit).
const SHORTEST_TIME: Duration = Duration::from_secs(60);
/// How long what WeChat Pay gave for an order is taken to be good: it is for two hours.
const PREPAID_FOR: Duration = Duration::from_secs(110 * 60);
/// The same of an address for a browser, which is good for five minutes.
const ADDRESS_FOR: Duration = Duration::from_secs(240);
/// How long a call of WeChat Pay may take.
const CALL_TIME: Duration = Duration::from_secs(5);

/// Queues for refunds; an order always has the same one.
const TURNS: usize = 64;

/// How an order is paid now.
#[derive(Debug)]
pub enum Invocation {
    /// In a page inside WeChat.
    Jsapi(JsapiInvocation),
    /// The content of a QR code.
    Native(String),
    /// In an app.
    App(AppInvocation),
    /// The address that a browser is sent to.
    H5(String),
}

/// An order that can be paid.
#[derive(Debug)]
pub struct Placed {
    /// The order.
    pub order: OrderRow,
    /// How it is paid.
    pub invocation: Invocation,
    /// The host's page at which it is paid, for orders that are paid inside WeChat where users log in at the host.
    pub page_url: Option<String>,
}

/// Makes orders and asks WeChat Pay about them.
pub struct Checkout {
    db: Database,
    client: MerchantClient,
    /// Woken when there is something to ask or to tell.
    wake: Arc<Notify>,
    /// Refunds of an order go one after the other, before they take a connection: who asks for a thousand at once
    /// waits by itself.
    turns: [tokio::sync::Mutex<()>; TURNS],
    clock: Clock,
}

impl std::fmt::Debug for Checkout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkout").finish_non_exhaustive()
    }
}

impl Checkout {
    /// A checkout over a ledger and a way to WeChat Pay.
    pub fn new(db: Database, client: MerchantClient) -> Self {
        Self {
            db,
            client,
            wake: Arc::default(),
            turns: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            clock: Clock,
        }
    }

    /// The merchants.
    pub fn merchants(&self) -> &Arc<Merchants> {
        self.client.merchants()
    }

    /// What calls WeChat Pay.
    pub fn client(&self) -> &MerchantClient {
        &self.client
    }

    /// Has a look taken at what is due, on this host at least.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until somebody calls [`wake`](Self::wake).
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Makes an order, or finds it: the same number with the same data is the same order.
    ///
    /// # Errors
    /// It can't be made: why. What is unknown is to be asked for again with the same number and data.
    pub async fn place(
        &self,
        account: &Account,
        new: NewOrder,
        deadline: Instant,
    ) -> Result<Placed, OrderError> {
        let app_id = &account.app_id;
        let merchants = self.merchants();
        let binding = merchants.payee(app_id.as_str(), new.merchant.as_deref())?;
        let now_ms = self.db.now_ms();
        let row = self.row(app_id, &binding, &new, now_ms)?;
        let grants = &binding.grants;
        if let Some(most) = grants.order_fen.filter(|most| row.total > *most) {
            return Err(OrderError::Over("order_fen", most));
        }
        let limits = Limits {
            person_day: grants.person_day_fen,
            day: grants.day_fen,
            day_began_at: beijing_midnight(now_ms),
        };
        let order = match orders::keep(&self.db, &row, limits).await? {
            Kept::New => row,
            Kept::Over(limit, most) => {
                tracing::error!(
                    account.app_id = %app_id,
                    merchant.mch_id = %binding.merchant.mch_id,
                    limit,
                    "an account's orders are over a limit; more are refused"
                );
                return Err(OrderError::Over(limit, most));
            }
            Kept::Before(before) if before.request_digest != row.request_digest => {
                return Err(OrderError::Differs(order::difference(&before, &row)));
            }
            Kept::Before(before) => *before,
        };
        let mut placed = self.invoke(&binding, order, deadline).await?;
        if matches!(placed.invocation, Invocation::Jsapi(_)) {
            let (site, number) = (account.login_site(), &placed.order.out_trade_no);
            placed.page_url = site.map(|site| format!("{site}/pay/{app_id}/{number}"));
        }
        Ok(placed)
    }

    /// How an order is paid now: WeChat Pay is asked where what it gave is too old.
    ///
    /// # Errors
    /// It can't be paid, or WeChat Pay can't be asked.
    pub async fn invoke(
        &self,
        binding: &Binding,
        order: OrderRow,
        deadline: Instant,
    ) -> Result<Placed, OrderError> {
        let now_ms = self.db.now_ms();
        match order.state() {
            OrderState::Paid => return Err(OrderError::AlreadyPaid),
            OrderState::Closed => return Err(OrderError::Closed),
            OrderState::New | OrderState::Unpaid | OrderState::Failed => {}
        }
        if order.expires_at <= now_ms || order.is_closing.is_some() {
            return Err(OrderError::Closed);
        }
        let scene = StoredScene::of(&order)?;
        let good_for = match scene {
            StoredScene::H5 { .. } => ADDRESS_FOR,
            StoredScene::Jsapi | StoredScene::Native | StoredScene::App => PREPAID_FOR,
        };
        let is_fresh = order.state() == OrderState::Unpaid
            && order
                .prepaid_at
                .is_some_and(|at| now_ms < at + millis(good_for));
        let order = match is_fresh {
            true => order,
            false => self.prepay(binding, order, deadline).await?,
        };
        let invocation = self.invocation(binding, &order, &scene)?;
        Ok(Placed {
            order,
            invocation,
            page_url: None,
        })
    }

    /// Has WeChat Pay take an order.
    async fn prepay(
        &self,
        binding: &Binding,
        order: OrderRow,
        deadline: Instant,
    ) -> Result<OrderRow, OrderError> {
        let merchant = &binding.merchant;
        let wanted = order::as_wechat_has_it(binding, &order)?;
        let request = wanted
            .request()
            .map_err(|error| OrderError::Invalid(error.to_string()))?;
        let deadline = deadline.min(Instant::now() + CALL_TIME);
        let number = order.number();
        let prepay = match self.client.call(merchant, &request, deadline).await {
            Ok(body) => wanted
                .answer(&body)
                .map_err(|error| OrderError::Unsure(error.to_string()))?,
            Err(PayCallError::Refused(refusal)) => {
                return Err(self.not_taken(binding, &order, refusal, deadline).await?);
            }
            Err(error @ PayCallError::NoCertificate) => {
                return Err(OrderError::Owner(error.to_string()));
            }
            Err(error) => return Err(OrderError::Unsure(error.to_string())),
        };
        let prepay = match prepay {
            Prepay::Id(id) => id.to_string(),
            Prepay::H5Url(address) | Prepay::CodeUrl(address) => address,
        };
        let learnt = (Learnt::Taken(&prepay), "taken");
        let order = orders::learn(&self.db, number, learnt).await?;
        self.wake();
        let order = order.ok_or(OrderError::Unknown)?;
        match order.state() {
            OrderState::Paid => Err(OrderError::AlreadyPaid),
            OrderState::Closed => Err(OrderError::Closed),
            OrderState::New | OrderState::Unpaid | OrderState::Failed => Ok(order),
        }
    }

    /// What WeChat Pay's refusal of an order comes to.
    async fn not_taken(
        &self,
        binding: &Binding,
        order: &OrderRow,
        refusal: PayRefusal,
        deadline: Instant,
    ) -> Result<OrderError, DbError> {
        match refusal.advice() {
            // It was paid, closed or taken before: the ledger is to know.
            PayAdvice::Done => {
                let asked = self.ask(binding, order, deadline).await;
                return Ok(match asked {
                    Ok(order) if order.state() == OrderState::Paid => OrderError::AlreadyPaid,
                    Ok(order) if order.state() == OrderState::Closed => OrderError::Closed,
                    _ => OrderError::Refused(refusal),
                });
            }
            PayAdvice::Later | PayAdvice::Unknown => {
                return Ok(OrderError::Unsure(refusal.message));
            }
            PayAdvice::Never | PayAdvice::Owner => {}
        }
        let said = format!("{}: {}", refusal.code, refusal.message);
        // One that WeChat Pay has taken before stays as it is: only this call was wrong.
        let learnt = (Learnt::Refused(&said), "refused");
        orders::learn(&self.db, order.number(), learnt).await?;
        Ok(OrderError::Refused(refusal))
    }

    /// Asks WeChat Pay how an order stands, and writes that to the ledger. The order as it is then.
    ///
    /// # Errors
    /// WeChat Pay can't be asked, or what it says contradicts the order.
    pub async fn ask(
        &self,
        binding: &Binding,
        order: &OrderRow,
        deadline: Instant,
    ) -> Result<OrderRow, OrderError> {
        let out_trade_no = OutTradeNo::parse(&order.out_trade_no)
            .map_err(|error| OrderError::Invalid(error.to_string()))?;
        let request = binding.seller.query(&out_trade_no);
        let deadline = deadline.min(Instant::now() + CALL_TIME);
        let body = match self
            .client
            .call(&binding.merchant, &request, deadline)
            .await
        {
            Ok(body) => body,
            Err(PayCallError::Refused(refusal))
                if refusal.code == "ORDER_NOT_EXIST" && order.state() == OrderState::New =>
            {
                return Ok(order.clone());
            }
            Err(PayCallError::Refused(refusal)) => return Err(OrderError::Refused(refusal)),
            Err(error) => return Err(OrderError::Unsure(error.to_string())),
        };
        let told =
            Transaction::read(&body).map_err(|error| OrderError::Unsure(error.to_string()))?;
        self.believe(binding, order, &told).await
    }

    /// How an order stands, by asking WeChat Pay where it is not settled.
    ///
    /// # Errors
    /// WeChat Pay can't be asked, or what it says contradicts the order.
    pub async fn settled(
        &self,
        binding: &Binding,
        order: OrderRow,
        deadline: Instant,
    ) -> Result<OrderRow, OrderError> {
        match order.state() {
            OrderState::New | OrderState::Unpaid => self.ask(binding, &order, deadline).await,
            OrderState::Paid | OrderState::Closed | OrderState::Failed => Ok(order),
        }
    }

    /// Writes to the ledger what WeChat Pay has said of an order.
    async fn believe(
        &self,
        binding: &Binding,
        order: &OrderRow,
        told: &Transaction,
    ) -> Result<OrderRow, OrderError> {
        use wxhost_wechat::pay::TradeState;
        let number = order.number();
        let found = match &told.state {
            TradeState::Success | TradeState::Refund => {
                let payment = payment(binding, &order.app_id, told)
                    .map_err(|why| OrderError::Contradiction(why.to_string()))?;
                let applied = payments::pay(&self.db, payment.as_row(), "query").await?;
                if let crate::db::ledger::Applied::Flagged(_, why) = applied {
                    tracing::error!(
                        account.app_id = order.app_id,
                        merchant.mch_id = order.mch_id,
                        reason = why,
                        "wechat pay contradicts the ledger"
                    );
                    return Err(OrderError::Contradiction(why));
                }
                self.wake();
                None
            }
            TradeState::Closed | TradeState::Revoked => {
                let learnt = (Learnt::Closed, "query");
                let found = orders::learn(&self.db, number, learnt).await?;
                self.wake();
                found
            }
            TradeState::NotPay
            | TradeState::UserPaying
            | TradeState::PayError
            | TradeState::Other(_) => Some(order.clone()),
        };
        match found {
            Some(order) => Ok(order),
            None => self.find(number).await,
        }
    }

    /// Has WeChat Pay close an order, and writes that to the ledger. The order as it is then: it may have been paid.
    ///
    /// # Errors
    /// WeChat Pay can't be asked.
    pub async fn close(
        &self,
        binding: &Binding,
        order: &OrderRow,
        deadline: Instant,
    ) -> Result<OrderRow, OrderError> {
        let out_trade_no = OutTradeNo::parse(&order.out_trade_no)
            .map_err(|error| OrderError::Invalid(error.to_string()))?;
        let request = binding.seller.close(&out_trade_no);
        let deadline = deadline.min(Instant::now() + CALL_TIME);
        let is_closed = match self
            .client
            .call(&binding.merchant, &request, deadline)
            .await
        {
            Ok(_) => true,
            Err(PayCallError::Refused(refusal)) => match &*refusal.code {
                "ORDER_CLOSED" => true,
                // It never had it, and nobody asks it for it any more.
                "ORDER_NOT_EXIST" | "RESOURCE_NOT_EXISTS" => order.state() == OrderState::New,
                "ORDER_PAID" => false,
                _ if refusal.advice() == PayAdvice::Done => false,
                _ => return Err(OrderError::Refused(refusal)),
            },
            Err(error) => return Err(OrderError::Unsure(error.to_string())),
        };
        if !is_closed {
            return self.ask(binding, order, deadline).await;
        }
        let closed = orders::learn(&self.db, order.number(), (Learnt::Closed, "closed")).await?;
        self.wake();
        closed.ok_or(OrderError::Unknown)
    }

    /// Waits for one's turn at an order, on this host.
    async fn turn_at(&self, order: Number<'_>) -> tokio::sync::MutexGuard<'_, ()> {
        let mut hasher = std::hash::DefaultHasher::new();
        (order.app_id, order.mch_id, order.number).hash(&mut hasher);
        let shard = usize::try_from(hasher.finish() % TURNS as u64).unwrap_or_default();
        self.turns[shard].lock().await
    }

    /// The order of a number, of whichever of the account's merchants; None if there is none.
    ///
    /// # Errors
    /// The database failed.
    pub async fn order(
        &self,
        app_id: &str,
        (out_trade_no, merchant): (&str, Option<&str>),
    ) -> Result<Option<OrderRow>, DbError> {
        let found = orders::of_number(&self.db, app_id, out_trade_no).await?;
        let wanted = |order: &OrderRow| merchant.is_none_or(|mch_id| order.mch_id == mch_id);
        Ok(found.into_iter().find(wanted))
    }

    async fn find(&self, number: Number<'_>) -> Result<OrderRow, OrderError> {
        let named = (number.number, Some(number.mch_id));
        let found = self.order(number.app_id, named).await?;
        found.ok_or(OrderError::Unknown)
    }

    /// How an order's account is bound to its merchant, also where the merchant is disabled meanwhile.
    ///
    /// # Errors
    /// It is bound no more.
    pub fn binding_of(&self, order: Number<'_>) -> Result<Arc<Binding>, OrderError> {
        let binding = self.merchants().binding(order.app_id, order.mch_id);
        binding.ok_or_else(|| NoMerchant::Other(order.mch_id.to_owned()).into())
    }

    fn row(
        &self,
        app_id: &AppId,
        binding: &Binding,
        new: &NewOrder,
        now_ms: i64,
    ) -> Result<OrderRow, OrderError> {
        let usual = now_ms + millis(USUAL_TIME);
        if let Some(at) = new.expires_at {
            let left = at.saturating_sub(now_ms);
            if left > millis(LONGEST_TIME) {
                let said = "expires-at is more than 7 days from now";
                return Err(OrderError::Invalid(said.to_owned()));
            }
            // One that is made again may be near its end.
            if left <= 0 {
                return Err(OrderError::Closed);
            }
        }
        let row = OrderRow {
            app_id: app_id.to_string(),
            mch_id: binding.merchant.mch_id.to_string(),
            out_trade_no: new.out_trade_no.to_string(),
            state: OrderState::New.as_str().to_owned(),
            scene: StoredScene::from(&new.scene).to_json(),
            open_id: new.scene.open_id().map(str::to_owned),
            description: new.description.clone(),
            total: new.total.get(),
            attach: new.attach.clone(),
            request_digest: sha256_hex(order::described(new, &binding.merchant.mch_id)),
            prepay: None,
            prepaid_at: None,
            transaction_id: None,
            payer_total: None,
            paid_at: None,
            error: None,
            is_closing: None,
            created_at: now_ms,
            expires_at: new
                .expires_at
                .unwrap_or(usual)
                .max(now_ms + millis(SHORTEST_TIME)),
            looks: 0,
            refunded: 0,
        };
        // What WeChat Pay would refuse is not written in the first place.
        order::as_wechat_has_it(binding, &row)?
            .request()
            .map_err(|error| OrderError::Invalid(error.to_string()))?;
        Ok(row)
    }

    fn invocation(
        &self,
        binding: &Binding,
        order: &OrderRow,
        scene: &StoredScene,
    ) -> Result<Invocation, OrderError> {
        let merchant = &binding.merchant;
        let prepay = order.prepay.as_deref().unwrap_or_default();
        let owner = |why: &str| OrderError::Owner(why.to_owned());
        let key = merchant.signing_key();
        let key = key.ok_or_else(|| owner("the merchant has no API certificate"))?;
        let prepay_id =
            || PrepayId::parse(prepay).map_err(|error| OrderError::Unsure(error.to_string()));
        let nonce = random::unique_name();
        let stamp = Stamp {
            timestamp_s: self.clock.now_seconds(),
            nonce: &nonce,
        };
        let app_id =
            AppId::parse(&order.app_id).map_err(|error| OrderError::Invalid(error.to_string()))?;
        Ok(match scene {
            StoredScene::Jsapi => Invocation::Jsapi(pay::jsapi(&app_id, &prepay_id()?, key, stamp)),
            StoredScene::App => {
                let sub = binding.seller.sub.as_ref();
                let partner_id = sub.map_or(&merchant.mch_id, |sub| &sub.mch_id);
                Invocation::App(pay::app(&app_id, partner_id, &prepay_id()?, key, stamp))
            }
            StoredScene::Native => Invocation::Native(prepay.to_owned()),
            StoredScene::H5 { .. } => Invocation::H5(prepay.to_owned()),
        })
    }
}

/// What WeChat Pay has said of a refund.
pub(crate) fn read_refund(body: &[u8]) -> Result<Refund, String> {
    Refund::read(body).map_err(|error| error.to_string())
}
