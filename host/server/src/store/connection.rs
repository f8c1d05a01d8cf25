//! How Redis is reached: one server, the master that Sentinels name, or a Cluster, as its URL says.
//!
//! | URL | what |
//! |---|---|
//! | `redis://host:6379/0`, `rediss://…` (TLS), `unix://…` | one server |
//! | `redis+sentinel://[user:password@]host:26379,host:26379/master-name[/0]` | the master of that name; asked for anew whenever the connection breaks |
//! | `redis+cluster://[user:password@]host:6379,host:6379` | a Cluster; any of its nodes will do to begin with |
//!
//! `rediss+sentinel` and `rediss+cluster` speak TLS. User and password are those of the servers; the
//! Sentinels themselves are asked without.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::{
    ConnectionLike, ConnectionManager, ConnectionManagerConfig, MultiplexedConnection, PubSub,
};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo, Pipeline,
    RedisError, RedisFuture, RedisResult, TlsMode, Value,
};
use tokio::sync::Mutex;

/// How Redis is reached.
pub(super) enum Server {
    /// One server; the manager connects again by itself.
    Single {
        client: Client,
        manager: ConnectionManager,
        timeout: Duration,
    },
    /// The master that Sentinels name.
    Sentinel {
        attempt: Attempt<Sentinel>,
        timeout: Duration,
    },
    /// A Cluster; once connected it follows the cluster's changes by itself.
    Cluster {
        attempt: Attempt<Cluster>,
        /// For subscriptions: a Cluster passes messages on to all nodes.
        nodes: Vec<Client>,
        timeout: Duration,
    },
}

/// Makes connections.
pub(super) trait Connect {
    type Connection: Clone;

    fn connect(&mut self) -> impl Future<Output = RedisResult<Self::Connection>> + Send;
}

/// A connection that many share, and what makes it. Those who wait while it is made share what comes of
/// it, be it a failure: a hundred callers of a Redis that hangs wait for one time-out, not for a
/// hundred, one after the other.
pub(super) struct Attempt<M: Connect>(Mutex<Attempted<M>>);

struct Attempted<M: Connect> {
    maker: M,
    connected: Option<M::Connection>,
    /// The last failure, and when it was known.
    failed: Option<(Instant, RedisError)>,
}

impl<M: Connect> Attempt<M> {
    fn new(maker: M) -> Self {
        Self(Mutex::new(Attempted {
            maker,
            connected: None,
            failed: None,
        }))
    }

    /// What is connected, or what comes of connecting.
    async fn get(&self) -> RedisResult<M::Connection> {
        let asked_at = Instant::now();
        let mut this = self.0.lock().await;
        if let Some(connection) = &this.connected {
            return Ok(connection.clone());
        }
        if let Some((at, error)) = &this.failed
            && *at >= asked_at
        {
            return Err(error.clone());
        }
        match this.maker.connect().await {
            Ok(connection) => {
                this.connected = Some(connection.clone());
                this.failed = None;
                Ok(connection)
            }
            Err(error) => {
                this.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Connects anew next time.
    async fn forget(&self) {
        self.0.lock().await.connected = None;
    }
}

pub(super) struct Sentinel {
    client: SentinelClient,
    timeout: Duration,
}

impl Sentinel {
    async fn master(&mut self) -> RedisResult<Client> {
        within(self.timeout * 2, self.client.async_get_client()).await
    }
}

impl Connect for Sentinel {
    type Connection = MultiplexedConnection;

    async fn connect(&mut self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        let connecting = Box::pin(self.client.get_async_connection_with_config(&config));
        within(self.timeout * 2, connecting).await
    }
}

pub(super) struct Cluster {
    client: ClusterClient,
    timeout: Duration,
}

impl Connect for Cluster {
    type Connection = ClusterConnection;

    async fn connect(&mut self) -> RedisResult<ClusterConnection> {
        within(
            self.timeout * 2,
            Box::pin(self.client.get_async_connection()),
        )
        .await
    }
}

/// A connection that commands can be sent through; cheap to clone.
#[derive(Clone)]
pub(super) enum Connection {
    Single(ConnectionManager),
    Sentinel(Arc<Server>, MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Server {
    /// Prepares to reach the Redis of `url`; nothing is connected yet. An answer is waited for as long
    /// as `timeout`.
    pub(super) fn open(url: &str, timeout: Duration) -> RedisResult<Self> {
        match url.split_once("://") {
            Some(("redis+sentinel", rest)) => Self::sentinel(rest, false, timeout),
            Some(("rediss+sentinel", rest)) => Self::sentinel(rest, true, timeout),
            Some(("redis+cluster", rest)) => Self::cluster(rest, false, timeout),
            Some(("rediss+cluster", rest)) => Self::cluster(rest, true, timeout),
            _ => Self::single(url, timeout),
        }
    }

    fn single(url: &str, timeout: Duration) -> RedisResult<Self> {
        let client = Client::open(url)?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(timeout))
            .set_connection_timeout(Some(timeout))
            .set_number_of_retries(0);
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), config)?;
        Ok(Self::Single {
            client,
            manager,
            timeout,
        })
    }

    fn sentinel(rest: &str, tls: bool, timeout: Duration) -> RedisResult<Self> {
        let address = Address::parse(rest)?;
        let (master, db) = match address.path.split_once('/') {
            None => (address.path, None),
            Some((master, db)) => (master, Some(db)),
        };
        if master.is_empty() {
            return Err(malformed(
                "name the master: redis+sentinel://host:26379/mymaster",
            ));
        }
        let kind = SentinelServerType::Master;
        let mut builder = SentinelClientBuilder::new(address.nodes(26379, tls)?, master, kind)?;
        if tls {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_tls_mode(TlsMode::Secure);
        }
        if let Some(user) = address.user {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = address.password {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(db) = db {
            let db = db
                .parse()
                .map_err(|_| malformed("the database is a number"))?;
            builder = builder.set_client_to_redis_db(db);
        }
        Ok(Self::Sentinel {
            attempt: Attempt::new(Sentinel {
                client: builder.build()?,
                timeout,
            }),
            timeout,
        })
    }

    fn cluster(rest: &str, tls: bool, timeout: Duration) -> RedisResult<Self> {
        let address = Address::parse(rest)?;
        if !address.path.is_empty() {
            return Err(malformed("a Cluster has no databases"));
        }
        let mut infos = Vec::new();
        for node in address.nodes(6379, tls)? {
            let mut info = node.into_connection_info()?;
            let mut settings = info.redis_settings().clone();
            if let Some(user) = address.user {
                settings = settings.set_username(user);
            }
            if let Some(password) = address.password {
                settings = settings.set_password(password);
            }
            info = info.set_redis_settings(settings);
            infos.push(info);
        }
        let nodes = infos.iter().cloned().map(Client::open);
        let nodes = nodes.collect::<RedisResult<_>>()?;
        let client = ClusterClient::builder(infos)
            .connection_timeout(timeout)
            .response_timeout(timeout)
            // The caller decides what to do without Redis, soon.
            .retries(2)
            .max_retry_wait(50)
            .build()?;
        Ok(Self::Cluster {
            attempt: Attempt::new(Cluster { client, timeout }),
            nodes,
            timeout,
        })
    }

    /// A connection to send commands through. It may turn out to be broken when it is used.
    pub(super) async fn connection(self: &Arc<Self>) -> RedisResult<Connection> {
        match &**self {
            Self::Single { manager, .. } => Ok(Connection::Single(manager.clone())),
            Self::Sentinel { attempt, .. } => {
                let connection = attempt.get().await?;
                Ok(Connection::Sentinel(Arc::clone(self), connection))
            }
            Self::Cluster { attempt, .. } => Ok(Connection::Cluster(attempt.get().await?)),
        }
    }

    /// A connection for subscriptions. It ends when the server goes away. The library itself would wait
    /// for a server that hangs for ever.
    pub(super) async fn subscription(&self) -> RedisResult<PubSub> {
        match self {
            Self::Single {
                client, timeout, ..
            } => within(*timeout * 2, client.get_async_pubsub()).await,
            Self::Sentinel { attempt, timeout } => {
                let master = attempt.0.lock().await.maker.master().await?;
                within(*timeout * 2, master.get_async_pubsub()).await
            }
            Self::Cluster { nodes, timeout, .. } => {
                let mut failure = malformed("no node is named");
                for node in nodes {
                    match within(*timeout, node.get_async_pubsub()).await {
                        Ok(subscription) => return Ok(subscription),
                        Err(error) => failure = error,
                    }
                }
                Err(failure)
            }
        }
    }

    /// Looks for the master anew next time: what was connected failed.
    async fn forget(&self) {
        if let Self::Sentinel { attempt, .. } = self {
            attempt.forget().await;
        }
    }
}

/// A master that was demoted still answers, but takes no writes.
fn is_gone(error: &RedisError) -> bool {
    error.is_connection_dropped()
        || error.is_timeout()
        || error.is_io_error()
        || error.code() == Some("READONLY")
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
            Self::Sentinel(server, connection) => Box::pin(async move {
                let answer = connection.req_packed_command(cmd).await;
                if answer.as_ref().is_err_and(is_gone) {
                    server.forget().await;
                }
                answer
            }),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Sentinel(server, connection) => Box::pin(async move {
                let answer = connection
                    .req_packed_commands(pipeline, offset, count)
                    .await;
                if answer.as_ref().is_err_and(is_gone) {
                    server.forget().await;
                }
                answer
            }),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
            Self::Sentinel(_, connection) => connection.get_db(),
        }
    }
}

async fn within<T>(
    timeout: Duration,
    work: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    match tokio::time::timeout(timeout, work).await {
        Ok(done) => done,
        Err(_) => Err((ErrorKind::Io, "redis does not answer").into()),
    }
}

fn malformed(reason: &'static str) -> RedisError {
    (ErrorKind::InvalidClientConfig, reason).into()
}

/// `[user:password@]host[:port],host[:port][/path]`. A password is taken as it stands.
struct Address<'a> {
    user: Option<&'a str>,
    password: Option<&'a str>,
    hosts: &'a str,
    path: &'a str,
}

impl<'a> Address<'a> {
    fn parse(text: &'a str) -> RedisResult<Self> {
        let (login, rest) = match text.rsplit_once('@') {
            None => (None, text),
            Some((login, rest)) => (Some(login), rest),
        };
        let (user, password) = match login.map(|login| login.split_once(':')) {
            None => (None, None),
            Some(None) => return Err(malformed("a login is user:password, or :password")),
            Some(Some((user, password))) => (Some(user).filter(|u| !u.is_empty()), Some(password)),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        Ok(Self {
            user,
            password,
            hosts,
            path,
        })
    }

    fn nodes(&self, default_port: u16, tls: bool) -> RedisResult<Vec<ConnectionAddr>> {
        let node = |text: &str| {
            let (host, port) = match text.rsplit_once(':') {
                None => (text, default_port),
                Some((host, port)) => {
                    let port = port.parse();
                    (host, port.map_err(|_| malformed("a port is a number"))?)
                }
            };
            if host.is_empty() {
                return Err(malformed("a host is missing"));
            }
            let host = host.to_owned();
            Ok(match tls {
                false => ConnectionAddr::Tcp(host, port),
                true => ConnectionAddr::TcpTls {
                    host,
                    port,
                    insecure: false,
                    tls_params: None,
                },
            })
        };
        self.hosts.split(',').map(node).collect()
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_url_says_what_kind_of_redis_it_is() {
        for (url, expected) in [
            ("redis://localhost", "server"),
            ("rediss://:p@localhost:6380/3", "server"),
            ("redis+sentinel://a,b:26380/mymaster", "sentinel"),
            ("redis+sentinel://u:p@a/mymaster/2", "sentinel"),
            ("rediss+sentinel://a/mymaster", "sentinel"),
            ("redis+cluster://:p@a,b:6380", "cluster"),
            ("http://localhost", "refused"),
            ("redis+sentinel://a", "refused"),
            ("redis+sentinel://a/m/x", "refused"),
            ("redis+cluster://a:x", "refused"),
            ("redis+cluster://a/1", "refused"),
            ("redis+cluster://u@a", "refused"),
            ("redis+cluster://", "refused"),
        ] {
            let kind = match Server::open(url, Duration::from_millis(100)) {
                Ok(Server::Single { .. }) => "server",
                Ok(Server::Sentinel { .. }) => "sentinel",
                Ok(Server::Cluster { .. }) => "cluster",
                Err(_) => "refused",
            };
            assert_eq!(kind, expected, "{url}");
        }
    }

    #[tokio::test]
    async fn who_waits_for_a_connection_shares_what_comes_of_the_attempt() {
        let attempt = Attempt::new(Counting {
            tries: 0,
            up: false,
        });
        for failed in join_all((0..50).map(|_| attempt.get())).await {
            failed.unwrap_err();
        }
        assert_eq!(
            attempt.0.lock().await.maker.tries,
            1,
            "one for all who waited"
        );
        attempt.get().await.unwrap_err();
        assert_eq!(
            attempt.0.lock().await.maker.tries,
            2,
            "who comes later tries anew"
        );
        attempt.0.lock().await.maker.up = true;
        assert_eq!(attempt.get().await.unwrap(), 3);
        assert_eq!(attempt.get().await.unwrap(), 3);
    }

    /// Counts how often it connects.
    struct Counting {
        tries: u32,
        up: bool,
    }

    impl Connect for Counting {
        type Connection = u32;

        async fn connect(&mut self) -> RedisResult<u32> {
            self.tries += 1;
            tokio::task::yield_now().await;
            match self.up {
                true => Ok(self.tries),
                false => Err(malformed("away")),
            }
        }
    }

    /// Takes connections and says nothing, as a server that hangs or a firewall that swallows.
    async fn silent() -> (String, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (listener.local_addr().unwrap().to_string(), listener)
    }

    #[tokio::test]
    async fn a_server_that_hangs_is_given_up_whatever_kind_it_is() {
        let (address, _listener) = silent().await;
        for url in [
            format!("redis://{address}"),
            format!("redis+sentinel://{address}/mymaster"),
            format!("redis+cluster://{address}"),
        ] {
            let server = Server::open(&url, Duration::from_millis(50)).unwrap();
            let server = Arc::new(server);
            let subscribed = server.subscription().await;
            assert!(subscribed.is_err(), "{url}");
            let asked = async {
                let mut connection = server.connection().await?;
                redis::cmd("PING").query_async::<()>(&mut connection).await
            };
            assert!(asked.await.is_err(), "{url}");
        }
    }
}
