//! The settings' sections: what each setting means stands in [`super::DEFAULT_FILE`].

use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

use crate::db::quotas::Quota;
use crate::quotas::Limits;

/// `[http]`: where and how HTTP is served.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// Where WeChat and tenants' own systems call.
    pub listen: SocketAddr,
    /// Where the admin API, `/metrics` and `/readyz` are served; on `listen` if absent.
    pub admin_listen: Option<SocketAddr>,
    /// Connections at the same time, for each listener.
    pub max_connections: usize,
    /// Connections of one public address at the same time, for each listener.
    pub max_connections_per_peer: usize,
}

/// `[admin]`: the admin API.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminSettings {
    /// Its bearer token.
    pub token: Option<SecretString>,
}

/// `[storage]`: where state is kept.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageSettings {
    /// Directory of what this host keeps on disk.
    pub data_dir: PathBuf,
    /// `sqlite://…` or `postgres://…`; an SQLite file in `data_dir` if absent.
    pub database_url: Option<SecretString>,
    /// `redis://…`; in-process if absent.
    pub redis_url: Option<SecretString>,
    /// Says that no other host shares the PostgreSQL database, so that Redis may be absent.
    pub single_host: bool,
}

/// `[seal]`: what secrets are sealed with at rest.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealSettings {
    /// 32 bytes in hex.
    pub master_key: Option<SecretString>,
    /// A file that holds the master key; `data_dir/master.key` if absent.
    pub master_key_file: Option<PathBuf>,
    /// The master key before the present one; what it sealed is sealed anew at start.
    pub previous_master_key: Option<SecretString>,
    /// The master key that is to be the present one: what other hosts sealed under it opens already.
    pub next_master_key: Option<SecretString>,
}

/// `[log]`: log lines.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// `text` or `json`.
    pub format: LogFormat,
    /// Filter, such as `info` or `wxhost_server=debug`.
    pub level: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// `[plugins]`: calls of plugins.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginSettings {
    /// Calls at the same time, over all tenants.
    pub max_concurrent_calls: u32,
    /// Calls that may wait for a place, over all tenants.
    pub max_queued_calls: u32,
    /// Milliseconds that a call may wait for a place.
    pub queue_wait_ms: u64,
    /// Milliseconds that a call may take in all, repeated runs included.
    pub call_deadline_ms: u64,
    /// Mebibytes of native code kept loaded.
    pub loaded_mib: u32,
}

/// `[callbacks]`: WeChat's deliveries.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallbackSettings {
    /// Milliseconds that one delivery waits for its answer. WeChat waits 5,000.
    pub answer_wait_ms: u64,
    /// Deliveries that WeChat makes of one callback.
    pub deliveries: u32,
}

/// `[messages]`: how many customer-service messages WeChat takes.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageSettings {
    /// After a message of a contact.
    pub after_message: u32,
    /// After a payment of a contact.
    pub after_payment: u32,
}

/// `[quotas]`: how much an account may use, where the operator says nothing else of it.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaSettings {
    /// Bytes of plugins' values, keys included.
    pub value_bytes: u64,
    /// Plugins' values.
    pub values: u64,
    /// Contacts that effects made and that were not met otherwise.
    pub contacts_made: u64,
    /// Bytes of contacts' attributes.
    pub attribute_bytes: u64,
    /// Messages and other calls that wait to be sent.
    pub waiting_messages: u64,
    /// Bytes of plugins' logs in a day.
    pub log_bytes_a_day: u64,
    /// Callbacks that one host begins in a second.
    pub callbacks_a_second: u64,
}

impl QuotaSettings {
    /// The same as limits.
    pub fn limits(&self) -> Limits {
        let amount = |quota| match quota {
            Quota::ValueBytes => self.value_bytes,
            Quota::Values => self.values,
            Quota::ContactsMade => self.contacts_made,
            Quota::AttributeBytes => self.attribute_bytes,
            Quota::WaitingMessages => self.waiting_messages,
            Quota::LogBytesADay => self.log_bytes_a_day,
            Quota::CallbacksASecond => self.callbacks_a_second,
        };
        let amount = |quota: Quota| {
            (
                quota.as_str(),
                i64::try_from(amount(quota)).unwrap_or(i64::MAX),
            )
        };
        Limits::of(Quota::ALL.map(amount))
    }
}

/// `[retention]`: for how many days what is kept.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionSettings {
    /// Call records.
    pub calls_days: u32,
    /// Entries of the audit.
    pub audit_days: u32,
    /// What was sent, with what WeChat said.
    pub outbox_days: u32,
}

/// `[wechat]`: where WeChat's API is.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WechatSettings {
    /// Its base address.
    pub api_base: String,
    /// Base addresses that are tried where the first takes no connections.
    pub api_backups: Vec<String>,
    /// Where WeChat Pay's API is.
    pub pay_base: String,
    /// The same where the first takes no connections.
    pub pay_backups: Vec<String>,
    /// Where mp.weixin.qq.com is: the page on which an account is let to a platform, in a browser.
    pub mp_base: String,
    /// Where open.weixin.qq.com is: the same in WeChat.
    pub open_base: String,
}

/// `[egress]`: requests of plugins to their tenants' own systems.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressSettings {
    /// Networks that are not public and that may be reached all the same.
    pub allow_private: Vec<String>,
}
