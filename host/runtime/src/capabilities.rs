//! The seam between a plugin and the world: every read that a plugin makes goes through this trait.

use async_trait::async_trait;

use crate::{
    AccountInfo, CacheError, KvEntry, KvError, KvPage, contacts, egress, money, orders, pay,
    wechat_api,
};

/// What one call may see of the world. The server makes one for each call, with the account inside: no
/// method takes an account, so another tenant's data cannot even be named.
///
/// Arguments have been checked before a method sees them: keys are 1 to 256 bytes without control
/// characters (a prefix may be empty), open ids are 1 to 128 printable ASCII characters, and numbers
/// are clamped. Reads are counted by the runtime; implementations need not. What the runtime cannot know is
/// theirs to check: a call of WeChat's API and a request to another system come as the plugin made them.
#[async_trait]
pub trait Capabilities: Send + Sync {
    /// Public facts of the account.
    fn account(&self) -> AccountInfo;

    /// The plugin's settings: a JSON document.
    fn config(&self) -> &str;

    /// Whether the deployment has a secret of this name. Never the secret itself.
    fn has_secret(&self, name: &str) -> bool;

    /// A durable value.
    async fn kv_get(&self, key: &str) -> Result<Option<KvEntry>, KvError>;

    /// Durable values in byte order of their keys, `limit` (1 to 100) at most. A page may end early so
    /// as to stay small; it then has a cursor.
    async fn kv_list(
        &self,
        prefix: &str,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<KvPage, KvError>;

    /// A value that may be lost at any moment.
    async fn cache_get(&self, key: &str) -> Result<Option<Vec<u8>>, CacheError>;

    /// Keeps a value of at most 64 KiB for 1 to 86,400 seconds.
    async fn cache_set(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl_seconds: u32,
    ) -> Result<(), CacheError>;

    /// Forgets a value.
    async fn cache_delete(&self, key: &str) -> Result<(), CacheError>;

    /// What is known of a person.
    async fn contact(&self, open_id: &str) -> Result<Option<contacts::Contact>, contacts::Error>;

    /// A follower as WeChat knows it.
    async fn user_info(&self, open_id: &str) -> Result<wechat_api::User, wechat_api::Error>;

    /// The account's menus, as WeChat's JSON.
    async fn menu(&self) -> Result<String, wechat_api::Error>;

    /// What is left of a path's quota.
    async fn quota(&self, cgi_path: &str) -> Result<wechat_api::Quota, wechat_api::Error>;

    /// Any other call of WeChat's API, if it is granted. The answer has at most 1 MiB.
    async fn api_call(&self, request: wechat_api::Request) -> Result<String, wechat_api::Error>;

    /// A request to the tenant's own systems, if the host is granted. The answer has at most 1 MiB.
    async fn fetch(&self, request: egress::Request) -> Result<egress::Response, egress::Error>;

    /// Makes an order that people pay, or finds it, if that is granted.
    async fn create_order(&self, request: pay::OrderRequest) -> Result<pay::Placed, pay::Error>;

    /// How an order stands, by asking WeChat Pay where it is not settled.
    async fn query_order(&self, out_trade_no: &str) -> Result<money::Order, pay::Error>;

    /// An order of the account's, as the ledger has it.
    async fn order(&self, out_trade_no: &str) -> Result<Option<money::Order>, orders::Error>;

    /// The newest orders of a person, 1 to 20.
    async fn orders(&self, open_id: &str, limit: u32) -> Result<Vec<money::Order>, orders::Error>;

    /// The refunds of an order, oldest first.
    async fn order_refunds(&self, out_trade_no: &str) -> Result<Vec<money::Refund>, orders::Error>;

    /// Milliseconds since 1970-01-01T00:00:00Z.
    fn now_ms(&self) -> u64;

    /// Fills `bytes` with what nobody can foretell.
    fn random(&self, bytes: &mut [u8]);
}
