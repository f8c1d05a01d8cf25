//! Hosts with tokens for unit tests: a real database, a pretend WeChat, and a shared store where
//! `WXHOST_TEST_REDIS_URL` names a Redis.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use wxhost_simulator::api::{ApiServer, AppSettings, Settings};
use wxhost_wechat::errcode;
use wxhost_wechat::id::AppId;
use wxhost_wechat::secret::AppSecret;

use super::{Credential, Token, TokenError, Tokens, TokensParts};
use crate::accounts::{Account, Accounts, NewAccount, NewTenant};
use crate::audit::Author;
use crate::client::{Client, Transport};
use crate::credentials::{CredentialChange, TokenLine};
use crate::db::Database;
use crate::db::DatabaseClock;
use crate::db::testing::{TestDatabase, sqlite};
use crate::random;
use crate::seal::{MasterKey, MasterKeys};
use crate::store::{MemoryCache, Redis, Store, keys};
use crate::telemetry::Metrics;

/// The AppSecret that WeChat knows.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// The client of a host whose WeChat is at `base`.
pub(crate) fn client_of(
    base: &str,
    accounts: &Arc<Accounts>,
    keys: &Arc<MasterKeys>,
    store: Store,
) -> Arc<Client> {
    let transport = Arc::new(Transport::open(base, &[]).unwrap());
    let tokens = over(
        Arc::clone(&transport),
        accounts,
        (keys, store),
        DatabaseClock::own(),
    );
    let metrics = Arc::clone(&tokens.parts.metrics);
    Arc::new(Client::new(transport, tokens, metrics))
}

/// Tokens of one host, got through these connections.
pub(crate) fn over(
    transport: Arc<Transport>,
    accounts: &Arc<Accounts>,
    (keys, store): (&Arc<MasterKeys>, Store),
    clock: DatabaseClock,
) -> Arc<Tokens> {
    Tokens::new(TokensParts {
        accounts: Arc::clone(accounts),
        store,
        keys: Arc::clone(keys),
        transport,
        metrics: Arc::new(Metrics::new()),
        clock,
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
    })
}

/// The Redis of the tests, if there is one.
pub(crate) fn redis() -> Option<Arc<Redis>> {
    let url = std::env::var("WXHOST_TEST_REDIS_URL").ok()?;
    Some(Arc::new(Redis::open(&SecretString::from(url)).unwrap()))
}

/// A pretend WeChat with one account, and the database of the hosts that serve it.
pub(crate) struct Bed {
    pub(crate) wechat: ApiServer,
    pub(crate) app_id: String,
    pub(crate) keys: Arc<MasterKeys>,
    /// By which its hosts' tokens end.
    pub(crate) clock: DatabaseClock,
    db: TestDatabase,
}

/// A host of it.
pub(crate) struct Host {
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) client: Arc<Client>,
    app_id: String,
    /// Ends its listening.
    _stop: DropGuard,
}

impl Bed {
    /// An account on this line whose tokens live so long.
    pub(crate) async fn new(line: TokenLine, lifetime_seconds: u64) -> Self {
        let app_id = format!("wx{}", &hex::encode(random::sixteen())[..16]);
        let mut app = AppSettings::new(AppId::parse(&app_id).unwrap(), SECRET);
        app.token_lifetime_seconds = lifetime_seconds;
        let settings = Settings {
            apps: vec![app],
            ..Settings::default()
        };
        let bed = Self {
            wechat: ApiServer::start(settings).await.unwrap(),
            app_id: app_id.clone(),
            keys: Arc::new(MasterKeys::new(MasterKey::from_bytes(&[1; 32]), None)),
            clock: DatabaseClock::own(),
            db: sqlite().await,
        };
        let accounts = bed.accounts().await;
        let tenant = NewTenant::plain("acme");
        accounts.add_tenant(tenant, &Author::host()).await.unwrap();
        let account = NewAccount {
            credentials: CredentialChange {
                secret: Some(Some(AppSecret::parse(SECRET).unwrap())),
                token_line: Some(line),
                ..CredentialChange::default()
            },
            ..NewAccount::plain(&app_id)
        };
        accounts
            .add_account(account, &Author::host())
            .await
            .unwrap();
        bed
    }

    /// The database of the hosts.
    pub(crate) fn db(&self) -> &Database {
        &self.db
    }

    async fn accounts(&self) -> Arc<Accounts> {
        let db = (*self.db).clone();
        let accounts = Accounts::load(db, Arc::clone(&self.keys)).await;
        Arc::new(accounts.unwrap())
    }

    /// A host with a store of its own.
    pub(crate) async fn alone(&self) -> Host {
        self.host(Store::Memory(Arc::new(MemoryCache::new()))).await
    }

    /// A host that shares this Redis and hears what others say.
    pub(crate) async fn sharing(&self, redis: &Arc<Redis>) -> Host {
        let host = self.host(Store::Redis(Arc::clone(redis))).await;
        self.listening(host, redis).await
    }

    /// The same, with another address than 127.0.0.1 as WeChat sees it.
    pub(crate) async fn sharing_from(&self, address: Ipv4Addr, redis: &Arc<Redis>) -> Host {
        let transport = Transport::open(&self.seen_from(address).await, &[]).unwrap();
        let host = self
            .host_over(transport, Store::Redis(Arc::clone(redis)))
            .await;
        self.listening(host, redis).await
    }

    /// Where the pretend WeChat is for who wants to be seen under this address.
    pub(crate) async fn seen_from(&self, address: Ipv4Addr) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let url = self.wechat.url();
        let target: SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let socket = TcpSocket::new_v4()?;
                    socket.bind((address, 0).into())?;
                    let mut far = socket.connect(target).await?;
                    tokio::io::copy_bidirectional(&mut near, &mut far).await
                });
            }
        });
        base
    }

    async fn listening(&self, host: Host, redis: &Arc<Redis>) -> Host {
        let mut subscription = redis.subscription().await.unwrap();
        subscription.subscribe(keys::TOKEN).await.unwrap();
        let tokens = Arc::clone(&host.tokens);
        let stop = host.tokens.parts.stop.clone();
        tokio::spawn(async move {
            let heard = subscription.into_on_message().for_each(|message| {
                tokens.on_notification(&message.get_payload::<String>().unwrap());
                std::future::ready(())
            });
            tokio::select! {
                () = stop.cancelled() => {}
                () = heard => {}
            }
        });
        host
    }

    /// A host with this store that hears nothing.
    pub(crate) async fn host(&self, store: Store) -> Host {
        let transport = Transport::open(&self.wechat.url(), &[]).unwrap();
        self.host_over(transport, store).await
    }

    /// A host alone whose WeChat is somewhere else.
    pub(crate) async fn elsewhere(&self, base: &str, backups: &[String]) -> Host {
        let transport = Transport::open(base, backups).unwrap();
        let store = Store::Memory(Arc::new(MemoryCache::new()));
        self.host_over(transport, store).await
    }

    async fn host_over(&self, transport: Transport, store: Store) -> Host {
        let accounts = self.accounts().await;
        let transport = Arc::new(transport);
        let shared = (&self.keys, store);
        let clock = self.clock.clone();
        let tokens = over(Arc::clone(&transport), &accounts, shared, clock);
        let metrics = Arc::clone(&tokens.parts.metrics);
        Host {
            accounts,
            client: Arc::new(Client::new(transport, Arc::clone(&tokens), metrics)),
            app_id: self.app_id.clone(),
            _stop: tokens.parts.stop.clone().drop_guard(),
            tokens,
        }
    }

    /// What the pretend WeChat has counted.
    pub(crate) fn count(&self, what: &str) -> u64 {
        let path = format!("/apps/{}", self.app_id);
        let app = self
            .wechat
            .control()
            .ask(http::Method::GET, &path, &Value::Null);
        let app = app.unwrap();
        app[what]
            .as_u64()
            .unwrap_or_else(|| panic!("no {what} in {app}"))
    }

    /// Changes the account's settings at WeChat.
    pub(crate) fn change(&self, settings: Value) {
        let path = format!("/apps/{}", self.app_id);
        let control = self.wechat.control();
        control.ask(http::Method::PATCH, &path, &settings).unwrap();
    }

    /// Breaks something.
    pub(crate) fn fault(&self, fault: Value) {
        let control = self.wechat.control();
        control.ask(http::Method::POST, "/faults", &fault).unwrap();
    }

    /// Another system of the tenant asks for a token: forced, or on the classic line.
    pub(crate) async fn neighbour_fetches(&self, line: TokenLine) {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let (app_id, url) = (&self.app_id, self.wechat.url());
        let request = match line {
            TokenLine::Stable => http.post(format!("{url}/cgi-bin/stable_token")).body(
                json!({"grant_type": "client_credential", "appid": app_id, "secret": SECRET,
                       "force_refresh": true})
                .to_string(),
            ),
            TokenLine::Classic | TokenLine::Authorizer | TokenLine::Component => http.get(format!(
                "{url}/cgi-bin/token?grant_type=client_credential&appid={app_id}&secret={SECRET}"
            )),
        };
        let answer = request.send().await.unwrap().bytes().await.unwrap();
        errcode::read(&answer).unwrap();
    }
}

impl Host {
    pub(crate) fn account(&self) -> Arc<Account> {
        self.accounts.get(&self.app_id).unwrap()
    }

    pub(crate) async fn token(&self) -> Result<Arc<Token>, TokenError> {
        let deadline = Instant::now() + PATIENCE;
        let account = self.account();
        self.tokens
            .get(&account, Credential::AccessToken, deadline)
            .await
    }

    pub(crate) fn held(&self) -> Option<Arc<Token>> {
        let app_id = AppId::parse(&self.app_id).unwrap();
        self.tokens.held(&app_id, Credential::AccessToken)
    }
}

/// Looks again and again until there is something.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking)
        .await
        .unwrap_or_else(|_| panic!("there was no {what}"))
}
