//! The settings of a host: a commented TOML file, overridden by `WXHOST_*` variables.
//!
//! [`DEFAULT_FILE`] holds every setting with its default and its meaning. Combinations that would
//! lose messages or lay secrets open are refused by [`Config::check`]; those that are merely unwise
//! come back from it as warnings.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::egress::address::Network;

/// The default settings as a TOML file, every line commented.
pub const DEFAULT_FILE: &str = include_str!("../wxhost.default.toml");

/// Shortest admin token that is accepted, in bytes.
const MIN_ADMIN_TOKEN_BYTES: usize = 16;

/// Why the settings can't be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file or a variable doesn't parse.
    #[error("settings: {0}")]
    Parse(#[from] Box<figment::Error>),
    /// A setting, or settings together, that would be dangerous.
    #[error("{0}")]
    Refused(String),
}

/// The settings of a host. Field by field explained in [`DEFAULT_FILE`].
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// Where the admin API, `/metrics` and `/readyz` are served; on `listen` if absent.
    pub admin_listen: Option<SocketAddr>,
    /// Directory of what this host keeps on disk.
    pub data_dir: PathBuf,
    /// `sqlite://…` or `postgres://…`; an SQLite file in `data_dir` if absent.
    pub database_url: Option<SecretString>,
    /// `redis://…`; in-process if absent.
    pub redis_url: Option<SecretString>,
    /// Says that no other host shares the PostgreSQL database, so that Redis may be absent.
    pub single_host: bool,
    /// 32 bytes in hex: seals the secrets at rest.
    pub master_key: Option<SecretString>,
    /// A file that holds the master key; `data_dir/master.key` if absent.
    pub master_key_file: Option<PathBuf>,
    /// The master key before the present one; what it sealed is sealed anew at start.
    pub previous_master_key: Option<SecretString>,
    /// The master key that is to be the present one: what other hosts sealed under it opens already.
    pub next_master_key: Option<SecretString>,
    /// The bearer token of the admin API.
    pub admin_token: Option<SecretString>,
    /// `text` or `json`.
    pub log_format: LogFormat,
    /// Filter of the log, such as `info` or `wxhost_server=debug`.
    pub log_level: String,
    /// Calls of plugins at the same time, over all tenants.
    pub max_concurrent_calls: u32,
    /// Calls that may wait for a place, over all tenants.
    pub max_queued_calls: u32,
    /// Milliseconds that a call may wait for a place.
    pub queue_wait_ms: u64,
    /// Milliseconds that a call of a plugin may take in all, repeated runs included.
    pub call_deadline_ms: u64,
    /// The program whose verb `compile-plugin` compiles uploads in a process of its own. Set by the
    /// binary to itself; absent (in tests), uploads are compiled in this process.
    #[serde(skip)]
    pub compiler: Option<PathBuf>,
    /// Mebibytes of native code kept loaded.
    pub loaded_plugins_mib: u32,
    /// Milliseconds that one delivery of a callback waits for its answer. WeChat waits 5,000.
    pub answer_wait_ms: u64,
    /// Deliveries that WeChat makes of one callback.
    pub deliveries: u32,
    /// Days that call records are kept.
    pub calls_kept_days: u32,
    /// Days that entries of the audit are kept.
    pub audit_kept_days: u32,
    /// Days that what was sent is kept, with what WeChat said.
    pub outbox_kept_days: u32,
    /// Customer-service messages that WeChat takes after a message of a person.
    pub messages_after_message: u32,
    /// Customer-service messages that WeChat takes after a payment of a person.
    pub messages_after_payment: u32,
    /// Base address of WeChat's API.
    pub wechat_api_base: String,
    /// Networks that are not public and that plugins' requests may reach all the same.
    pub egress_allow_private: Vec<String>,
    /// Base addresses that are tried where the first takes no connections.
    pub wechat_api_backups: Vec<String>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// What [`Config::default`] is made of: the plain part of the settings.
#[derive(Serialize)]
struct Defaults {
    listen: &'static str,
    data_dir: &'static str,
    single_host: bool,
    log_format: LogFormat,
    log_level: &'static str,
    max_concurrent_calls: u32,
    max_queued_calls: u32,
    queue_wait_ms: u64,
    call_deadline_ms: u64,
    loaded_plugins_mib: u32,
    answer_wait_ms: u64,
    deliveries: u32,
    calls_kept_days: u32,
    audit_kept_days: u32,
    outbox_kept_days: u32,
    messages_after_message: u32,
    messages_after_payment: u32,
    wechat_api_base: &'static str,
    egress_allow_private: &'static [&'static str],
    wechat_api_backups: Vec<&'static str>,
}

/// Every setting that a variable can give: `WXHOST_` and the name in capitals.
const NAMES: &[&str] = &[
    "listen",
    "admin_listen",
    "data_dir",
    "database_url",
    "redis_url",
    "single_host",
    "master_key",
    "master_key_file",
    "previous_master_key",
    "next_master_key",
    "admin_token",
    "log_format",
    "log_level",
    "max_concurrent_calls",
    "max_queued_calls",
    "queue_wait_ms",
    "call_deadline_ms",
    "loaded_plugins_mib",
    "answer_wait_ms",
    "deliveries",
    "calls_kept_days",
    "audit_kept_days",
    "outbox_kept_days",
    "messages_after_message",
    "messages_after_payment",
    "wechat_api_base",
    "egress_allow_private",
    "wechat_api_backups",
];

impl Config {
    /// The settings of `file` (if given), overridden by the `WXHOST_*` variables.
    ///
    /// # Errors
    /// A file that is missing or doesn't parse, an unknown name in it, a value of the wrong type.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut figment = Self::defaults();
        if let Some(file) = file {
            figment = figment.merge(Toml::file_exact(file));
        }
        let variables = Env::prefixed("WXHOST_").only(NAMES).lowercase(true);
        Self::extract(figment.merge(variables))
    }

    /// Refuses what is dangerous; returns warnings of what is unwise.
    ///
    /// # Errors
    /// [`ConfigError::Refused`] with a sentence that says what to do.
    pub fn check(&self) -> Result<Vec<String>, ConfigError> {
        let refuse = |sentence: &str| Err(ConfigError::Refused(sentence.to_owned()));
        let Some(token) = &self.admin_token else {
            return refuse("no admin token: set WXHOST_ADMIN_TOKEN (16 bytes or more)");
        };
        if token.expose_secret().len() < MIN_ADMIN_TOKEN_BYTES {
            return refuse(
                "the admin token is shorter than 16 bytes: set a longer WXHOST_ADMIN_TOKEN",
            );
        }
        if self.on_postgres() && self.redis_url.is_none() && !self.single_host {
            return refuse(
                "PostgreSQL without Redis: hosts that share a database need redis_url to share \
                 what is under way; set it, or single_host = true if this is the only host",
            );
        }
        if self.on_postgres() && self.master_key.is_none() && self.master_key_file.is_none() {
            return refuse(
                "PostgreSQL without a master key: every host needs the same one; set \
                 WXHOST_MASTER_KEY or WXHOST_MASTER_KEY_FILE (32 bytes in hex)",
            );
        }
        if !self.on_postgres() && self.redis_url.is_some() {
            return refuse(
                "Redis with SQLite: Redis is for hosts that share a database, and an SQLite file \
                 can't be shared; set database_url to PostgreSQL or remove redis_url",
            );
        }
        if !(100..=4_900).contains(&self.answer_wait_ms) {
            return refuse("answer_wait_ms must be 100 to 4900: WeChat hangs up after 5,000 ms");
        }
        if !(1..=10).contains(&self.deliveries) {
            return refuse("deliveries must be 1 to 10");
        }
        if !(1_000..=60_000).contains(&self.call_deadline_ms) {
            return refuse("call_deadline_ms must be 1000 to 60000");
        }
        if self.max_concurrent_calls == 0 || self.max_concurrent_calls > 4096 {
            return refuse("max_concurrent_calls must be 1 to 4096");
        }
        self.egress_networks()?;
        Ok(self.warnings())
    }

    /// The networks of `egress_allow_private`.
    ///
    /// # Errors
    /// [`ConfigError::Refused`] if one is not a network.
    pub fn egress_networks(&self) -> Result<Vec<Network>, ConfigError> {
        let networks = self.egress_allow_private.iter();
        networks
            .map(|text| text.parse())
            .collect::<Result<_, _>>()
            .map_err(|error| ConfigError::Refused(format!("egress_allow_private: {error}")))
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.admin_listen.is_none() && !self.listen.ip().is_loopback() {
            warnings.push(
                "the admin API is served on a public address: set admin_listen to an inner one"
                    .to_owned(),
            );
        }
        if self.on_postgres() && self.single_host && self.redis_url.is_none() {
            warnings.push(
                "single_host on PostgreSQL: a second host on this database would run events twice"
                    .to_owned(),
            );
        }
        if !self.egress_allow_private.is_empty() {
            warnings.push(format!(
                "plugins that are granted a host there reach into your network: \
                 egress_allow_private = {:?}",
                self.egress_allow_private
            ));
        }
        warnings
    }

    /// The database's address; the embedded default where none is set.
    pub fn database_url(&self) -> SecretString {
        match &self.database_url {
            Some(url) => url.clone(),
            None => format!("sqlite://{}", self.data_dir.join("wxhost.db").display()).into(),
        }
    }

    fn on_postgres(&self) -> bool {
        self.database_url
            .as_ref()
            .is_some_and(|url| url.expose_secret().starts_with("postgres"))
    }

    fn defaults() -> Figment {
        Figment::from(Serialized::defaults(Defaults {
            listen: "127.0.0.1:8080",
            data_dir: "wxhost-data",
            single_host: false,
            log_format: LogFormat::Text,
            log_level: "info",
            max_concurrent_calls: 256,
            max_queued_calls: 4096,
            queue_wait_ms: 2_000,
            call_deadline_ms: 20_000,
            loaded_plugins_mib: 1024,
            answer_wait_ms: 4_500,
            deliveries: 3,
            calls_kept_days: 30,
            audit_kept_days: 365,
            outbox_kept_days: 30,
            messages_after_message: 5,
            messages_after_payment: 20,
            wechat_api_base: "https://api.weixin.qq.com",
            egress_allow_private: &[],
            wechat_api_backups: Vec::new(),
        }))
    }

    fn extract(figment: Figment) -> Result<Self, ConfigError> {
        figment.extract().map_err(|error| Box::new(error).into())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::extract(Self::defaults()).expect("the defaults parse (tested)")
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_token(change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config {
            admin_token: Some("0123456789abcdef".to_owned().into()),
            ..Config::default()
        };
        change(&mut config);
        config
    }

    #[track_caller]
    fn refused(config: &Config, part: &str) {
        let error = config.check().expect_err("must be refused").to_string();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn the_default_file_shows_the_defaults_and_every_name() {
        // Every setting stands there behind `# `: with the sign taken away it must parse to itself.
        let shown: String = DEFAULT_FILE
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line))
            .map(|line| format!("{line}\n"))
            .collect();
        let table: toml::Table = toml::from_str(&shown).expect("parses");
        let mut shown_names: Vec<&str> = table.keys().map(String::as_str).collect();
        let mut names = NAMES.to_vec();
        shown_names.sort_unstable();
        names.sort_unstable();
        assert_eq!(shown_names, names);
        let defaults: toml::Table = Config::defaults().extract().expect("defaults");
        for (name, value) in &defaults {
            assert_eq!(&table[name], value, "{name}");
        }
    }

    #[test]
    fn dangerous_combinations_are_refused() {
        refused(&Config::default(), "WXHOST_ADMIN_TOKEN");
        let postgres = || Some("postgres://localhost/wxhost".to_owned().into());
        refused(
            &with_token(|c| c.admin_token = Some("short".to_owned().into())),
            "16 bytes",
        );
        refused(&with_token(|c| c.database_url = postgres()), "redis_url");
        refused(
            &with_token(|c| {
                c.database_url = postgres();
                c.single_host = true;
            }),
            "master key",
        );
        refused(
            &with_token(|c| c.redis_url = Some("redis://localhost".to_owned().into())),
            "SQLite",
        );
        refused(&with_token(|c| c.answer_wait_ms = 5_000), "answer_wait_ms");
        refused(
            &with_token(|c| c.egress_allow_private = vec!["10.0.0.0/99".to_owned()]),
            "10.0.0.0/99",
        );
        assert!(with_token(|_| ()).check().expect("fine").is_empty());
    }

    #[test]
    fn an_open_admin_api_is_warned_of() {
        let config = with_token(|c| c.listen = ([0, 0, 0, 0], 80).into());
        assert_eq!(config.check().expect("allowed").len(), 1);
    }

    #[test]
    fn networks_opened_to_plugins_are_warned_of() {
        let config = with_token(|c| c.egress_allow_private = vec!["10.1.2.0/24".to_owned()]);
        let warnings = config.check().expect("allowed");
        assert!(
            warnings.len() == 1 && warnings[0].contains("10.1.2.0/24"),
            "{warnings:?}"
        );
    }

    #[test]
    fn secrets_do_not_show() {
        let config = with_token(|c| c.master_key = Some("f00d".repeat(16).into()));
        let shown = format!("{config:?}");
        assert!(
            !shown.contains("f00d") && !shown.contains("0123456789abcdef"),
            "{shown}"
        );
    }
}
