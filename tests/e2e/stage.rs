//! What a scenario is given: the servers of this run, a host that many scenarios share, and fresh
//! sites for scenarios that stop, starve or break their host.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use tokio::sync::OnceCell;
use wxhost_simulator::WechatPlatform;
use wxhost_tests::account::{self, Account};
use wxhost_tests::admin::Bundle;
use wxhost_tests::api::WechatApi;
use wxhost_tests::host::Host;
use wxhost_tests::plugin::Plugin;
use wxhost_tests::postgres::{Durability, Postgres};
use wxhost_tests::redis::Redis;
use wxhost_tests::secrets;
use wxhost_tests::site::{Pair, Site};
use wxhost_wechat::envelope::Mode;

/// What all scenarios of a run share. Servers start when the first scenario needs them.
pub(crate) struct World {
    directory: tempfile::TempDir,
    wechat: Arc<WechatPlatform>,
    sites: AtomicU32,
    // A failure to start is kept too: every scenario then fails at once and says why.
    servers: OnceCell<Result<(Postgres, Redis), String>>,
    hosts: [OnceCell<Result<(Site, Host), String>>; 2],
    python: OnceCell<Result<PathBuf, String>>,
    node: OnceCell<Result<PathBuf, String>>,
}

/// What one scenario sees.
#[derive(Clone)]
pub(crate) struct Stage {
    world: Arc<World>,
    pair: Pair,
}

impl World {
    /// An empty world in a directory of its own.
    pub(crate) fn new() -> Result<Self> {
        // PostgreSQL runs as another user and must get to its directory inside.
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::Builder::new()
            .prefix("wxhost-e2e-")
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir()?;
        Ok(Self {
            directory,
            wechat: account::patient_wechat()?,
            sites: AtomicU32::new(0),
            servers: OnceCell::new(),
            hosts: [OnceCell::new(), OnceCell::new()],
            python: OnceCell::new(),
            node: OnceCell::new(),
        })
    }

    /// Where hosts and servers keep their files and logs.
    pub(crate) fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Every log that a host of this run has written.
    pub(crate) fn host_logs(&self) -> Result<Vec<PathBuf>> {
        let mut logs = Vec::new();
        for site in std::fs::read_dir(self.directory())? {
            let site = site?.path();
            if !site
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("site"))
            {
                continue;
            }
            for file in std::fs::read_dir(site)? {
                let file = file?.path();
                if file.extension().is_some_and(|extension| extension == "log") {
                    logs.push(file);
                }
            }
        }
        Ok(logs)
    }

    /// PostgreSQL and Redis.
    pub(crate) async fn servers(&self) -> Result<&(Postgres, Redis)> {
        let start = async || -> Result<(Postgres, Redis)> {
            let postgres = Postgres::start(self.directory(), Durability::Fast).await?;
            Ok((postgres, Redis::start(self.directory()).await?))
        };
        remembered(&self.servers, start).await
    }

    fn site_directory(&self) -> PathBuf {
        let number = self.sites.fetch_add(1, Ordering::Relaxed);
        self.directory().join(format!("site{number}"))
    }
}

impl Stage {
    /// A stage on one pair.
    pub(crate) fn new(world: &Arc<World>, pair: Pair) -> Self {
        Self {
            world: Arc::clone(world),
            pair,
        }
    }

    /// The pretend WeChat that delivers everything once.
    pub(crate) fn wechat(&self) -> &Arc<WechatPlatform> {
        &self.world.wechat
    }

    /// The host that scenarios share. Nobody stops it.
    pub(crate) async fn host(&self) -> Result<&Host> {
        let start = async || -> Result<(Site, Host)> {
            let site = self.site().await?;
            let host = site.host().await?;
            Ok((site, host))
        };
        let (_, host) = remembered(&self.world.hosts[self.pair as usize], start).await?;
        Ok(host)
    }

    /// A second host beside [`Stage::host`], on the same state. Only [`Pair::Shared`] has it.
    pub(crate) async fn second_host(&self) -> Result<Host> {
        self.host().await?;
        match self.world.hosts[self.pair as usize].get() {
            Some(Ok((site, _))) => site.host().await,
            _ => bail!("the shared host is not there"),
        }
    }

    /// Makes Redis forget everything about a site.
    pub(crate) async fn wipe_redis(&self, site: &Site) -> Result<()> {
        let (_, redis) = self.world.servers().await?;
        redis.wipe(site.redis_database()).await
    }

    /// A Python that scenarios share, prepared by the first that asks.
    pub(crate) async fn python(
        &self,
        prepare: impl AsyncFnOnce() -> Result<PathBuf>,
    ) -> Result<PathBuf> {
        remembered(&self.world.python, prepare).await.cloned()
    }

    /// A script for Node that scenarios share, prepared by the first that asks.
    pub(crate) async fn node(
        &self,
        prepare: impl AsyncFnOnce() -> Result<PathBuf>,
    ) -> Result<PathBuf> {
        remembered(&self.world.node, prepare).await.cloned()
    }

    /// A fresh site.
    pub(crate) async fn site(&self) -> Result<Site> {
        let directory = self.world.site_directory();
        match self.pair {
            Pair::Embedded => Site::embedded(&directory),
            Pair::Shared => {
                let (postgres, redis) = self.world.servers().await?;
                Site::shared(&directory, postgres, redis).await
            }
        }
    }

    /// A fresh site whose hosts know this WeChat.
    pub(crate) async fn site_with(&self, api: &WechatApi) -> Result<Site> {
        let site = self.site().await?.with("WECHAT_API_BASE", api.url());
        Ok(site.with("WECHAT_PAY_BASE", api.url()))
    }

    /// A fresh directory, for servers that nobody else uses.
    pub(crate) fn directory(&self) -> Result<PathBuf> {
        let directory = self.world.site_directory();
        std::fs::create_dir_all(&directory)?;
        Ok(directory)
    }

    /// A Redis that nobody else uses, to be stopped.
    pub(crate) async fn own_redis(&self) -> Result<Redis> {
        Redis::start(&self.directory()?).await
    }

    /// Fails if Redis holds a secret in clear, where the site has one.
    pub(crate) async fn expect_sealed_in_redis(&self, site: &Site) -> Result<()> {
        if site.redis_database().is_empty() {
            return Ok(());
        }
        let (_, redis) = self.world.servers().await?;
        secrets::expect_none("Redis", &redis.dump().await?)
    }

    /// A fresh site on a Redis of its own.
    pub(crate) async fn site_on(&self, redis: &Redis) -> Result<Site> {
        let (postgres, _) = self.world.servers().await?;
        Site::shared(&self.world.site_directory(), postgres, redis).await
    }

    /// An account of a fresh tenant that runs a sample plugin with no settings.
    pub(crate) async fn account(&self, host: &Host, mode: Mode, plugin: Plugin) -> Result<Account> {
        self.account_with(host, mode, Bundle::of(plugin.component()?))
            .await
    }

    /// An account of a fresh tenant that runs a plugin.
    pub(crate) async fn account_with(
        &self,
        host: &Host,
        mode: Mode,
        bundle: Bundle,
    ) -> Result<Account> {
        let account = self.bare_account(host, mode).await?;
        host.admin().deploy(&account, &bundle).await?;
        Ok(account)
    }

    /// An account of a fresh tenant without a plugin.
    pub(crate) async fn bare_account(&self, host: &Host, mode: Mode) -> Result<Account> {
        let account = Account::fresh(mode, &self.world.wechat);
        let tenant = host.admin().add_tenant().await?;
        host.admin().add_account(&account, &tenant).await?;
        Ok(account)
    }
}

async fn remembered<T>(
    cell: &OnceCell<Result<T, String>>,
    start: impl AsyncFnOnce() -> Result<T>,
) -> Result<&T> {
    let remembered = cell
        .get_or_init(async || start().await.map_err(|error| format!("{error:#}")))
        .await;
    remembered
        .as_ref()
        .map_err(|error| anyhow::anyhow!("{error}"))
        .context("what scenarios share did not start")
}
