//! The settings of a host: a commented TOML file in sections, overridden by `WXHOST_*` variables.
//!
//! [`DEFAULT_FILE`] holds every setting with its default and its meaning, and is where the defaults come
//! from. Combinations that would lose messages or lay secrets open are refused by [`Config::check`];
//! those that are merely unwise come back from it as warnings.

mod sections;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Toml};
use figment::value::Value;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use thiserror::Error;
use wxhost_runtime::CallLimits;

pub use self::sections::{
    AdminSettings, CallbackSettings, EgressSettings, HttpSettings, LogFormat, LogSettings,
    MessageSettings, PluginSettings, QuotaSettings, RetentionSettings, SealSettings,
    StorageSettings, WechatSettings,
};
use crate::egress::address::{AddressPolicy, Network};

/// The default settings as a TOML file, every setting commented: `#: ` before a default, `#? ` before an
/// example of one that has none.
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

/// The settings of a host, section by section.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where and how HTTP is served.
    pub http: HttpSettings,
    /// The admin API.
    pub admin: AdminSettings,
    /// Where state is kept.
    pub storage: StorageSettings,
    /// What secrets are sealed with at rest.
    pub seal: SealSettings,
    /// Log lines.
    pub log: LogSettings,
    /// Calls of plugins.
    pub plugins: PluginSettings,
    /// WeChat's deliveries.
    pub callbacks: CallbackSettings,
    /// How many customer-service messages WeChat takes.
    pub messages: MessageSettings,
    /// How much an account may use.
    pub quotas: QuotaSettings,
    /// What a deployment may ask for each call of its plugin.
    pub ceilings: CallLimits,
    /// For how many days what is kept.
    pub retention: RetentionSettings,
    /// Where WeChat's API is.
    pub wechat: WechatSettings,
    /// Requests of plugins to their tenants' own systems.
    pub egress: EgressSettings,
    /// The program whose verb `compile-plugin` compiles uploads in a process of its own. Set by the
    /// binary to itself; absent (in tests), uploads are compiled in this process.
    #[serde(skip)]
    pub compiler: Option<PathBuf>,
}

/// Every setting: the variable that gives it, without `WXHOST_`, and its place. Variables keep their
/// names; a new one is named by its section and its setting.
const SETTINGS: &[(&str, &str)] = &[
    ("listen", "http.listen"),
    ("admin_listen", "http.admin_listen"),
    ("http_max_connections", "http.max_connections"),
    (
        "http_max_connections_per_peer",
        "http.max_connections_per_peer",
    ),
    ("admin_token", "admin.token"),
    ("data_dir", "storage.data_dir"),
    ("database_url", "storage.database_url"),
    ("redis_url", "storage.redis_url"),
    ("single_host", "storage.single_host"),
    ("master_key", "seal.master_key"),
    ("master_key_file", "seal.master_key_file"),
    ("previous_master_key", "seal.previous_master_key"),
    ("next_master_key", "seal.next_master_key"),
    ("log_format", "log.format"),
    ("log_level", "log.level"),
    ("max_concurrent_calls", "plugins.max_concurrent_calls"),
    ("max_queued_calls", "plugins.max_queued_calls"),
    ("queue_wait_ms", "plugins.queue_wait_ms"),
    ("call_deadline_ms", "plugins.call_deadline_ms"),
    ("loaded_plugins_mib", "plugins.loaded_mib"),
    ("answer_wait_ms", "callbacks.answer_wait_ms"),
    ("deliveries", "callbacks.deliveries"),
    ("messages_after_message", "messages.after_message"),
    ("messages_after_payment", "messages.after_payment"),
    ("quotas_value_bytes", "quotas.value_bytes"),
    ("quotas_values", "quotas.values"),
    ("quotas_contacts_made", "quotas.contacts_made"),
    ("quotas_attribute_bytes", "quotas.attribute_bytes"),
    ("quotas_waiting_messages", "quotas.waiting_messages"),
    ("quotas_log_bytes_a_day", "quotas.log_bytes_a_day"),
    ("quotas_callbacks_a_second", "quotas.callbacks_a_second"),
    ("wechat_pay_base", "wechat.pay_base"),
    ("wechat_pay_backups", "wechat.pay_backups"),
    ("wechat_mp_base", "wechat.mp_base"),
    ("wechat_open_base", "wechat.open_base"),
    ("ceilings_memory_bytes", "ceilings.memory_bytes"),
    ("ceilings_cpu_ms", "ceilings.cpu_ms"),
    ("ceilings_reads", "ceilings.reads"),
    ("ceilings_api_calls", "ceilings.api_calls"),
    ("ceilings_fetches", "ceilings.fetches"),
    ("ceilings_host_bytes", "ceilings.host_bytes"),
    ("ceilings_log_lines", "ceilings.log_lines"),
    ("ceilings_log_bytes", "ceilings.log_bytes"),
    ("ceilings_log_line_bytes", "ceilings.log_line_bytes"),
    ("ceilings_effects", "ceilings.effects"),
    ("ceilings_effect_bytes", "ceilings.effect_bytes"),
    ("calls_kept_days", "retention.calls_days"),
    ("audit_kept_days", "retention.audit_days"),
    ("outbox_kept_days", "retention.outbox_days"),
    ("wechat_api_base", "wechat.api_base"),
    ("wechat_api_backups", "wechat.api_backups"),
    ("egress_allow_private", "egress.allow_private"),
];

/// Where the setting of a variable stands.
fn place_of(variable: &str) -> Option<&'static str> {
    let same = |(name, _): &&(&str, &str)| name.eq_ignore_ascii_case(variable);
    SETTINGS.iter().find(same).map(|(_, place)| *place)
}

impl Config {
    /// The settings of `file` (if given), overridden by the `WXHOST_*` variables.
    ///
    /// # Errors
    /// A file that is missing or doesn't parse, an unknown name in it, a value of the wrong type.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut figment = Self::defaults();
        if let Some(file) = file {
            refuse_moved(&Figment::from(Toml::file_exact(file)))?;
            figment = figment.merge(Toml::file_exact(file));
        }
        let variables =
            Env::prefixed("WXHOST_").filter_map(|name| place_of(name.as_str()).map(Into::into));
        Self::extract(figment.merge(variables))
    }

    /// Refuses what is dangerous; returns warnings of what is unwise.
    ///
    /// # Errors
    /// [`ConfigError::Refused`] with a sentence that says what to do.
    pub fn check(&self) -> Result<Vec<String>, ConfigError> {
        let refuse = |sentence: &str| Err(ConfigError::Refused(sentence.to_owned()));
        let Some(token) = &self.admin.token else {
            return refuse("no admin token: set WXHOST_ADMIN_TOKEN (16 bytes or more)");
        };
        if token.expose_secret().len() < MIN_ADMIN_TOKEN_BYTES {
            return refuse(
                "the admin token is shorter than 16 bytes: set a longer WXHOST_ADMIN_TOKEN",
            );
        }
        if self.http.admin_listen.is_none() && !self.http.listen.ip().is_loopback() {
            return refuse(
                "the admin API would be served to everybody: http.listen is not a loopback address; \
                 set WXHOST_ADMIN_LISTEN (http.admin_listen), such as 127.0.0.1:8081",
            );
        }
        if self.on_postgres() && self.storage.redis_url.is_none() && !self.storage.single_host {
            return refuse(
                "PostgreSQL without Redis: hosts that share a database need redis_url to share \
                 what is under way; set it, or single_host = true if this is the only host",
            );
        }
        if self.on_postgres()
            && self.seal.master_key.is_none()
            && self.seal.master_key_file.is_none()
        {
            return refuse(
                "PostgreSQL without a master key: every host needs the same one; set \
                 WXHOST_MASTER_KEY or WXHOST_MASTER_KEY_FILE (32 bytes in hex)",
            );
        }
        if !self.on_postgres() && self.storage.redis_url.is_some() {
            return refuse(
                "Redis with SQLite: Redis is for hosts that share a database, and an SQLite file \
                 can't be shared; set database_url to PostgreSQL or remove redis_url",
            );
        }
        if !(100..=4_900).contains(&self.callbacks.answer_wait_ms) {
            return refuse(
                "callbacks.answer_wait_ms must be 100 to 4900: WeChat hangs up after 5,000 ms",
            );
        }
        if !(1..=10).contains(&self.callbacks.deliveries) {
            return refuse("callbacks.deliveries must be 1 to 10");
        }
        if !(1_000..=60_000).contains(&self.plugins.call_deadline_ms) {
            return refuse("plugins.call_deadline_ms must be 1000 to 60000");
        }
        if self.plugins.max_concurrent_calls == 0 || self.plugins.max_concurrent_calls > 4096 {
            return refuse("plugins.max_concurrent_calls must be 1 to 4096");
        }
        if self.http.max_connections == 0 || self.http.max_connections_per_peer == 0 {
            return refuse(
                "http.max_connections and http.max_connections_per_peer must be 1 or more",
            );
        }
        if let Some((name, asked, most)) = self.ceilings.beyond(&CallLimits::MOST) {
            return Err(ConfigError::Refused(format!(
                "ceilings.{name} is {asked}; this host bears {most} at most"
            )));
        }
        self.egress_networks()?;
        Ok(self.warnings())
    }

    /// The networks of `egress.allow_private`.
    ///
    /// # Errors
    /// [`ConfigError::Refused`] if one is not a network.
    pub fn egress_networks(&self) -> Result<Vec<Network>, ConfigError> {
        let networks = self.egress.allow_private.iter();
        networks
            .map(|text| text.parse())
            .collect::<Result<_, _>>()
            .map_err(|error| ConfigError::Refused(format!("egress.allow_private: {error}")))
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let open = |address: &SocketAddr| {
            address.ip().is_unspecified() || AddressPolicy::default().permits(address.ip())
        };
        if self.http.admin_listen.as_ref().is_some_and(open) {
            warnings.push(
                "http.admin_listen is reachable from everywhere: the admin API, metrics and the API's \
                 description belong on an inner address, or behind a firewall"
                    .to_owned(),
            );
        }
        if self.on_postgres() && self.storage.single_host && self.storage.redis_url.is_none() {
            warnings.push(
                "single_host on PostgreSQL: a second host on this database would run events twice"
                    .to_owned(),
            );
        }
        if !self.egress.allow_private.is_empty() {
            warnings.push(format!(
                "plugins that are granted a host there reach into your network: \
                 egress.allow_private = {:?}",
                self.egress.allow_private
            ));
        }
        warnings
    }

    /// The database's address; the embedded default where none is set.
    pub fn database_url(&self) -> SecretString {
        match &self.storage.database_url {
            Some(url) => url.clone(),
            None => format!(
                "sqlite://{}",
                self.storage.data_dir.join("wxhost.db").display()
            )
            .into(),
        }
    }

    fn on_postgres(&self) -> bool {
        self.storage
            .database_url
            .as_ref()
            .is_some_and(|url| url.expose_secret().starts_with("postgres"))
    }

    fn defaults() -> Figment {
        Figment::from(Toml::string(&uncommented(&["#: "])))
    }

    fn extract(figment: Figment) -> Result<Self, ConfigError> {
        figment.extract().map_err(|error| Box::new(error).into())
    }
}

/// The default file with the settings behind these signs.
fn uncommented(signs: &[&str]) -> String {
    let shown = |line: &'static str| {
        let behind = signs.iter().find_map(|sign| line.strip_prefix(sign));
        behind.unwrap_or(line)
    };
    let lines: Vec<&str> = DEFAULT_FILE.lines().map(shown).collect();
    lines.join("\n")
}

/// Says of a setting that stands outside of any section where it stands now.
fn refuse_moved(file: &Figment) -> Result<(), ConfigError> {
    let names: BTreeMap<String, Value> = file.extract().map_err(Box::new)?;
    for (name, value) in names {
        if value.as_dict().is_none()
            && let Some((section, setting)) = place_of(&name).and_then(|at| at.split_once('.'))
        {
            return Err(ConfigError::Refused(format!(
                "{name} stands in a section now: write [{section}] and below it {setting} = …"
            )));
        }
    }
    Ok(())
}

impl Default for Config {
    fn default() -> Self {
        Self::extract(Self::defaults()).expect("the defaults parse (tested)")
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.http.listen)
            .field("data_dir", &self.storage.data_dir)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_token(change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config::default();
        config.admin.token = Some("0123456789abcdef".to_owned().into());
        change(&mut config);
        config
    }

    #[track_caller]
    fn refused(config: &Config, part: &str) {
        let error = config.check().expect_err("must be refused").to_string();
        assert!(error.contains(part), "{error}");
    }

    fn loaded(text: &str) -> Result<Config, ConfigError> {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("wxhost.toml");
        std::fs::write(&file, text).expect("written");
        Config::load(Some(&file))
    }

    #[test]
    fn the_default_file_shows_the_defaults_and_every_setting() {
        let table: toml::Table = toml::from_str(&uncommented(&["#: ", "#? "])).expect("parses");
        let mut shown = Vec::new();
        for (section, settings) in &table {
            let settings = settings.as_table().expect("a section");
            shown.extend(
                settings
                    .keys()
                    .map(|setting| format!("{section}.{setting}")),
            );
        }
        let mut places: Vec<_> = SETTINGS.iter().map(|(_, place)| *place).collect();
        shown.sort_unstable();
        places.sort_unstable();
        assert_eq!(shown, places);
        // With examples and all it is a file that can be used.
        loaded(&uncommented(&["#: ", "#? "])).expect("settings");
        let config = loaded(DEFAULT_FILE).expect("settings");
        assert_eq!(config.http.listen, Config::default().http.listen);
        assert_eq!(config.plugins.call_deadline_ms, 20_000);
        assert!(Config::default().http.admin_listen.is_none());
    }

    #[test]
    fn a_setting_that_has_moved_is_told_where_to() {
        for (text, part) in [
            ("listen = \"127.0.0.1:1\"", "[http] and below it listen"),
            (
                "loaded_plugins_mib = 1",
                "[plugins] and below it loaded_mib",
            ),
            ("lisen = 1", "unknown field"),
            ("[http]\nlisen = 1", "unknown field"),
            ("[wechat]\napi_base = 1", "wechat.api_base"),
        ] {
            let error = loaded(text).expect_err("refused").to_string();
            assert!(error.contains(part), "{error}");
        }
        let config = loaded("[retention]\ncalls_days = 7").expect("settings");
        assert_eq!(config.retention.calls_days, 7);
        assert_eq!(config.retention.audit_days, 365);
    }

    #[test]
    fn variables_have_one_place_each() {
        for (variable, place) in SETTINGS {
            assert_eq!(place_of(&variable.to_uppercase()), Some(*place));
        }
        assert_eq!(place_of("TEST_POSTGRES_URL"), None);
    }

    #[test]
    fn dangerous_combinations_are_refused() {
        refused(&Config::default(), "WXHOST_ADMIN_TOKEN");
        let postgres = || Some("postgres://localhost/wxhost".to_owned().into());
        refused(
            &with_token(|c| c.admin.token = Some("short".to_owned().into())),
            "16 bytes",
        );
        refused(
            &with_token(|c| c.storage.database_url = postgres()),
            "redis_url",
        );
        refused(
            &with_token(|c| {
                c.storage.database_url = postgres();
                c.storage.single_host = true;
            }),
            "master key",
        );
        refused(
            &with_token(|c| c.storage.redis_url = Some("redis://localhost".to_owned().into())),
            "SQLite",
        );
        refused(
            &with_token(|c| c.callbacks.answer_wait_ms = 5_000),
            "answer_wait_ms",
        );
        refused(
            &with_token(|c| c.egress.allow_private = vec!["10.0.0.0/99".to_owned()]),
            "10.0.0.0/99",
        );
        assert!(with_token(|_| ()).check().expect("fine").is_empty());
    }

    #[test]
    fn an_admin_api_that_everybody_reaches_is_refused() {
        for address in [[0, 0, 0, 0], [10, 1, 2, 3], [8, 8, 8, 8]] {
            let listen = |c: &mut Config| c.http.listen = (address, 80).into();
            refused(&with_token(listen), "WXHOST_ADMIN_LISTEN");
            let apart = with_token(|c| {
                listen(c);
                c.http.admin_listen = Some(([10, 1, 2, 3], 8081).into());
            });
            assert!(apart.check().expect("fine").is_empty());
        }
        let open = with_token(|c| c.http.admin_listen = Some(([0, 0, 0, 0], 8081).into()));
        assert_eq!(open.check().expect("allowed").len(), 1);
    }

    #[test]
    fn networks_opened_to_plugins_are_warned_of() {
        let config = with_token(|c| c.egress.allow_private = vec!["10.1.2.0/24".to_owned()]);
        let warnings = config.check().expect("allowed");
        assert!(
            warnings.len() == 1 && warnings[0].contains("10.1.2.0/24"),
            "{warnings:?}"
        );
    }

    #[test]
    fn secrets_do_not_show() {
        let config = with_token(|c| c.seal.master_key = Some("f00d".repeat(16).into()));
        let shown = format!("{config:?}");
        assert!(
            !shown.contains("f00d") && !shown.contains("0123456789abcdef"),
            "{shown}"
        );
    }
}
