//! A site: the database and the store that one host, or several, stand on.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;

use crate::host::Host;
use crate::postgres::Postgres;
use crate::redis::Redis;
use crate::relay::Relay;
use crate::secrets;

/// What hosts keep their state in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pair {
    /// An SQLite file, and the store in the host's own memory: what a new user gets.
    Embedded,
    /// PostgreSQL and Redis: what many hosts share.
    Shared,
}

impl Pair {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Embedded, Self::Shared];

    /// Its name in test names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Shared => "shared",
        }
    }
}

/// Fresh state for one host or, with [`Pair::Shared`], several.
#[derive(Debug)]
pub struct Site {
    pair: Pair,
    directory: PathBuf,
    settings: Vec<(String, String)>,
    /// Variables that are no settings of wxhost's.
    variables: Vec<(String, String)>,
    admin_token: String,
    relays: Option<(Relay, Relay)>,
    hosts: AtomicU32,
}

impl Site {
    /// A site on a file under `directory`.
    pub fn embedded(directory: &Path) -> Result<Self> {
        Self::new(Pair::Embedded, directory)
    }

    /// A site on an empty database of `postgres`, and `redis`, both behind relays.
    pub async fn shared(directory: &Path, postgres: &Postgres, redis: &Redis) -> Result<Self> {
        let number = next_number();
        let database = format!("site{number}");
        postgres.create_database(&database).await?;
        let to_postgres = Relay::to(postgres.port()).await?;
        let to_redis = Relay::to(redis.port()).await?;
        let mut site = Self::new(Pair::Shared, directory)?;
        let database_url = format!(
            "postgres://wxhost@127.0.0.1:{}/{database}",
            to_postgres.port()
        );
        let redis_url = format!("redis://127.0.0.1:{}/{}", to_redis.port(), number % 256);
        site.settings.push(("DATABASE_URL".into(), database_url));
        site.settings.push(("REDIS_URL".into(), redis_url));
        site.relays = Some((to_postgres, to_redis));
        Ok(site)
    }

    /// A site on an empty database of `postgres`, and `redis`, with nothing between: for measurements.
    pub async fn direct(directory: &Path, postgres: &Postgres, redis: &Redis) -> Result<Self> {
        let number = next_number();
        let database = format!("site{number}");
        postgres.create_database(&database).await?;
        let site = Self::new(Pair::Shared, directory)?;
        Ok(site.with("DATABASE_URL", postgres.url(&database)).with(
            "REDIS_URL",
            format!("redis://127.0.0.1:{}/{}", redis.port(), number % 256),
        ))
    }

    fn new(pair: Pair, directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let admin_token = secrets::fresh(40)?;
        let settings = [
            ("MASTER_KEY", secrets::fresh_master_key()?),
            ("ADMIN_TOKEN", admin_token.clone()),
            ("LOG_FORMAT", "json".to_owned()),
            ("LOG_LEVEL", "info".to_owned()),
        ];
        Ok(Self {
            pair,
            directory: directory.to_owned(),
            settings: settings
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
            variables: Vec::new(),
            admin_token,
            relays: None,
            hosts: AtomicU32::new(0),
        })
    }

    /// With a variable for all its hosts that is no setting of wxhost's.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: impl ToString) -> Self {
        self.variables.push((name.to_owned(), value.to_string()));
        self
    }

    /// With a setting for all its hosts; `name` without `WXHOST_`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.retain(|(given, _)| given != name);
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    /// Without a setting.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.settings.retain(|(given, _)| given != name);
        self
    }

    /// What it is made of.
    #[must_use]
    pub fn pair(&self) -> Pair {
        self.pair
    }

    /// A setting's value; empty if it was not set.
    #[must_use]
    pub fn setting(&self, name: &str) -> &str {
        self.settings
            .iter()
            .find(|(given, _)| given == name)
            .map_or("", |(_, value)| value)
    }

    /// The database's address, past the relay's tricks only as far as the relay is open.
    #[must_use]
    pub fn database_url(&self) -> String {
        match self.setting("DATABASE_URL") {
            "" => format!(
                "sqlite://{}",
                self.directory.join("data/wxhost.db").display()
            ),
            url => url.to_owned(),
        }
    }

    /// Its database in Redis; empty where the store is in memory.
    #[must_use]
    pub fn redis_database(&self) -> &str {
        self.setting("REDIS_URL")
            .rsplit('/')
            .next()
            .unwrap_or_default()
    }

    /// The line to PostgreSQL; absent where the database is a file.
    #[must_use]
    pub fn database_line(&self) -> Option<&Relay> {
        self.relays.as_ref().map(|(database, _)| database)
    }

    /// The line to Redis; absent where the store is in memory.
    #[must_use]
    pub fn store_line(&self) -> Option<&Relay> {
        self.relays.as_ref().map(|(_, store)| store)
    }

    /// Starts a host on it and waits until it is ready. On a file there can be one at a time, and
    /// each takes over what the one before it left.
    pub async fn host(&self) -> Result<Host> {
        self.launch()?.ready().await
    }

    /// Starts a host on it that may refuse to start.
    pub fn launch(&self) -> Result<Host> {
        let number = self.hosts.fetch_add(1, Ordering::Relaxed);
        let data = match self.pair {
            Pair::Embedded => self.directory.join("data"),
            Pair::Shared => self.directory.join(format!("data{number}")),
        };
        let mut settings = self.settings.clone();
        settings.push(("DATA_DIR".to_owned(), data.display().to_string()));
        let settings = settings
            .into_iter()
            .map(|(name, value)| (format!("WXHOST_{name}"), value));
        let variables: Vec<_> = settings.chain(self.variables.iter().cloned()).collect();
        Host::launch(
            &self.directory.join(format!("host{number}.log")),
            &variables,
            &self.admin_token,
        )
    }
}

/// Names databases, and spreads sites over Redis' databases.
fn next_number() -> u32 {
    static SITES: AtomicU32 = AtomicU32::new(0);
    SITES.fetch_add(1, Ordering::Relaxed)
}
