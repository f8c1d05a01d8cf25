//! What a plugin may call: each function checks the limit, checks the argument, asks the capabilities.

use wasmtime::component::{HasSelf, Linker};

use crate::bindings::Plugin as Contract;
use crate::bindings::wxhost::plugin::log::Level;
use crate::bindings::wxhost::plugin::{
    account, cache, callback, config, contacts, effects, egress, failure, kv, log, messages, money,
    orders, pay, random, reply, time, wechat_api,
};
use crate::limits::{MAX_VALUE_BYTES, is_key, is_open_id, is_prefix};
use crate::state::CallState;

/// The interfaces of the contract that a plugin may import.
pub(crate) const OFFERED: [&str; 18] = [
    "account",
    "config",
    "kv",
    "cache",
    "log",
    "time",
    "random",
    "contacts",
    "wechat-api",
    "egress",
    "pay",
    "orders",
    "money",
    "callback",
    "reply",
    "effects",
    "messages",
    "failure",
];

/// The most keys of one page.
const MAX_PAGE_KEYS: u32 = 100;
/// The longest time that the cache keeps a value.
const MAX_TTL_SECONDS: u32 = 86_400;
/// The most orders of one list.
const MAX_ORDERS: u32 = 20;
/// The longest number of an order.
const MAX_ORDER_NUMBER_BYTES: usize = 64;
/// The most random bytes of one call.
const MAX_RANDOM_BYTES: u32 = 4096;

/// Offers the contract's imports.
pub(crate) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    Contract::add_to_linker::<_, HasSelf<CallState>>(linker, |state| state)
}

impl account::Host for CallState {
    fn get(&mut self) -> wasmtime::Result<account::Info> {
        Ok(self.capabilities.account())
    }
}

impl config::Host for CallState {
    fn get(&mut self) -> wasmtime::Result<String> {
        Ok(self.capabilities.config().to_owned())
    }

    fn has_secret(&mut self, name: String) -> wasmtime::Result<bool> {
        Ok(self.capabilities.has_secret(&name))
    }
}

impl kv::Host for CallState {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<kv::Entry>, kv::Error>> {
        self.reads.kv_read(&self.limits)?;
        if !is_key(&key) {
            return Ok(Err(kv::Error::InvalidKey));
        }
        let entry = self.capabilities.kv_get(&key).await;
        if let Ok(Some(entry)) = &entry {
            self.reads.bytes(entry.value.len(), &self.limits)?;
        }
        Ok(entry)
    }

    async fn list(
        &mut self,
        prefix: String,
        cursor: Option<String>,
        limit: u32,
    ) -> wasmtime::Result<Result<kv::Page, kv::Error>> {
        self.reads.kv_read(&self.limits)?;
        if !is_prefix(&prefix) {
            return Ok(Err(kv::Error::InvalidKey));
        }
        let limit = limit.clamp(1, MAX_PAGE_KEYS);
        let page = self.capabilities.kv_list(&prefix, cursor.as_deref(), limit);
        let page = page.await;
        if let Ok(page) = &page {
            self.reads.listed(page.items.len())?;
            let sizes = page.items.iter().map(|i| i.key.len() + i.entry.value.len());
            self.reads.bytes(sizes.sum(), &self.limits)?;
        }
        Ok(page)
    }
}

impl cache::Host for CallState {
    async fn get(
        &mut self,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, cache::Error>> {
        self.reads.cache_call(&self.limits)?;
        if !is_key(&key) {
            return Ok(Err(cache::Error::InvalidKey));
        }
        let value = self.capabilities.cache_get(&key).await;
        if let Ok(Some(value)) = &value {
            self.reads.bytes(value.len(), &self.limits)?;
        }
        Ok(value)
    }

    async fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_seconds: u32,
    ) -> wasmtime::Result<Result<(), cache::Error>> {
        self.reads.cache_call(&self.limits)?;
        if !is_key(&key) {
            return Ok(Err(cache::Error::InvalidKey));
        }
        if value.len() > MAX_VALUE_BYTES {
            return Ok(Err(cache::Error::ValueTooLarge));
        }
        let ttl_seconds = ttl_seconds.clamp(1, MAX_TTL_SECONDS);
        let kept = self.capabilities.cache_set(&key, value, ttl_seconds);
        Ok(kept.await)
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), cache::Error>> {
        self.reads.cache_call(&self.limits)?;
        if !is_key(&key) {
            return Ok(Err(cache::Error::InvalidKey));
        }
        Ok(self.capabilities.cache_delete(&key).await)
    }
}

impl contacts::Host for CallState {
    async fn get(
        &mut self,
        open_id: String,
    ) -> wasmtime::Result<Result<Option<contacts::Contact>, contacts::Error>> {
        self.reads.kv_read(&self.limits)?;
        if !is_open_id(&open_id) {
            return Ok(Err(contacts::Error::InvalidOpenId));
        }
        let contact = self.capabilities.contact(&open_id).await;
        if let Ok(Some(contact)) = &contact {
            let texts = contact.open_id.len() + contact.remark.len() + contact.attributes.len();
            self.reads.bytes(texts, &self.limits)?;
        }
        Ok(contact)
    }
}

impl wechat_api::Host for CallState {
    async fn user_info(
        &mut self,
        open_id: String,
    ) -> wasmtime::Result<Result<wechat_api::User, wechat_api::Error>> {
        self.reads.api_call(&self.limits)?;
        if !is_open_id(&open_id) {
            let reason = "open-id: 1 to 128 printable ASCII characters without spaces";
            return Ok(Err(wechat_api::Error::InvalidArgument(reason.into())));
        }
        let user = self.capabilities.user_info(&open_id).await;
        if let Ok(user) = &user {
            let texts = user.open_id.len() + user.remark.len() + user.qr_scene.len();
            self.reads.bytes(texts, &self.limits)?;
        }
        Ok(user)
    }

    async fn menu_get(&mut self) -> wasmtime::Result<Result<String, wechat_api::Error>> {
        self.reads.api_call(&self.limits)?;
        let menu = self.capabilities.menu().await;
        if let Ok(menu) = &menu {
            self.reads.bytes(menu.len(), &self.limits)?;
        }
        Ok(menu)
    }

    async fn quota_get(
        &mut self,
        cgi_path: String,
    ) -> wasmtime::Result<Result<wechat_api::Quota, wechat_api::Error>> {
        self.reads.api_call(&self.limits)?;
        Ok(self.capabilities.quota(&cgi_path).await)
    }

    async fn call(
        &mut self,
        request: wechat_api::Request,
    ) -> wasmtime::Result<Result<String, wechat_api::Error>> {
        self.reads.api_call(&self.limits)?;
        let answer = self.capabilities.api_call(request).await;
        if let Ok(answer) = &answer {
            self.reads.bytes(answer.len(), &self.limits)?;
        }
        Ok(answer)
    }
}

impl egress::Host for CallState {
    async fn fetch(
        &mut self,
        request: egress::Request,
    ) -> wasmtime::Result<Result<egress::Response, egress::Error>> {
        self.reads.fetch(&self.limits)?;
        let response = self.capabilities.fetch(request).await;
        if let Ok(response) = &response {
            let headers = response.headers.iter();
            let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
            self.reads
                .bytes(headers + response.body.len(), &self.limits)?;
        }
        Ok(response)
    }
}

impl pay::Host for CallState {
    async fn create_order(
        &mut self,
        request: pay::OrderRequest,
    ) -> wasmtime::Result<Result<pay::Placed, pay::Error>> {
        self.reads.api_call(&self.limits)?;
        let placed = self.capabilities.create_order(request).await;
        if let Ok(placed) = &placed {
            self.reads.bytes(order_size(&placed.order), &self.limits)?;
        }
        Ok(placed)
    }

    async fn query(
        &mut self,
        out_trade_no: String,
    ) -> wasmtime::Result<Result<money::Order, pay::Error>> {
        self.reads.api_call(&self.limits)?;
        if out_trade_no.len() > MAX_ORDER_NUMBER_BYTES {
            return Ok(Err(pay::Error::InvalidArgument(no_number())));
        }
        let order = self.capabilities.query_order(&out_trade_no).await;
        if let Ok(order) = &order {
            self.reads.bytes(order_size(order), &self.limits)?;
        }
        Ok(order)
    }
}

impl orders::Host for CallState {
    async fn get(
        &mut self,
        out_trade_no: String,
    ) -> wasmtime::Result<Result<Option<money::Order>, orders::Error>> {
        self.reads.kv_read(&self.limits)?;
        if out_trade_no.len() > MAX_ORDER_NUMBER_BYTES {
            return Ok(Err(orders::Error::InvalidArgument(no_number())));
        }
        let order = self.capabilities.order(&out_trade_no).await;
        if let Ok(Some(order)) = &order {
            self.reads.bytes(order_size(order), &self.limits)?;
        }
        Ok(order)
    }

    async fn list(
        &mut self,
        open_id: String,
        limit: u32,
    ) -> wasmtime::Result<Result<Vec<money::Order>, orders::Error>> {
        self.reads.kv_read(&self.limits)?;
        if !is_open_id(&open_id) {
            let reason = "open-id: 1 to 128 printable ASCII characters without spaces";
            return Ok(Err(orders::Error::InvalidArgument(reason.into())));
        }
        let limit = limit.clamp(1, MAX_ORDERS);
        let orders = self.capabilities.orders(&open_id, limit).await;
        if let Ok(orders) = &orders {
            self.reads.listed(orders.len())?;
            let bytes = orders.iter().map(order_size).sum();
            self.reads.bytes(bytes, &self.limits)?;
        }
        Ok(orders)
    }

    async fn refunds(
        &mut self,
        out_trade_no: String,
    ) -> wasmtime::Result<Result<Vec<money::Refund>, orders::Error>> {
        self.reads.kv_read(&self.limits)?;
        if out_trade_no.len() > MAX_ORDER_NUMBER_BYTES {
            return Ok(Err(orders::Error::InvalidArgument(no_number())));
        }
        let refunds = self.capabilities.order_refunds(&out_trade_no).await;
        if let Ok(refunds) = &refunds {
            self.reads.listed(refunds.len())?;
            let texts = refunds.iter().map(|refund| {
                let optional = [refund.reason.as_ref(), refund.error.as_ref()];
                let optional = optional.into_iter().flatten().map(String::len);
                refund.out_refund_no.len() + refund.out_trade_no.len() + optional.sum::<usize>()
            });
            self.reads.bytes(texts.sum(), &self.limits)?;
        }
        Ok(refunds)
    }
}

fn no_number() -> String {
    format!("out-trade-no: at most {MAX_ORDER_NUMBER_BYTES} bytes")
}

/// The texts of an order, in bytes.
fn order_size(order: &money::Order) -> usize {
    let optional = [&order.open_id, &order.attach, &order.transaction_id];
    let optional: usize = optional.into_iter().flatten().map(String::len).sum();
    order.out_trade_no.len() + order.merchant.len() + order.description.len() + optional
}

impl log::Host for CallState {
    fn write(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        self.write_log(level.into(), message);
        Ok(())
    }
}

impl time::Host for CallState {
    fn now_ms(&mut self) -> wasmtime::Result<u64> {
        Ok(self.capabilities.now_ms())
    }
}

impl random::Host for CallState {
    fn bytes(&mut self, length: u32) -> wasmtime::Result<Vec<u8>> {
        let mut bytes = vec![0; length.min(MAX_RANDOM_BYTES) as usize];
        self.capabilities.random(&mut bytes);
        Ok(bytes)
    }

    fn number(&mut self) -> wasmtime::Result<u64> {
        let mut bytes = [0; 8];
        self.capabilities.random(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }
}

// These hold types only.
impl callback::Host for CallState {}
impl reply::Host for CallState {}
impl effects::Host for CallState {}
impl failure::Host for CallState {}
impl messages::Host for CallState {}
impl money::Host for CallState {}
