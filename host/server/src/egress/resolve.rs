//! From a name to the addresses that are connected to, each checked first.
//!
//! The check is made on what the connection is then opened to, so a name that changes its mind between
//! two looks ("rebinding") gains nothing.
//!
//! Whoever owns a name decides how long the look-up takes, and a look-up of the system occupies a thread
//! until the system gives up, long after the plugin that asked has gone. So each tenant has few at a time,
//! and none is waited for without end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolving};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::task_local;
use tokio::time::timeout;

use super::address::AddressPolicy;
use super::turns::Turns;

/// Threads that look up a name at the same time, for whatever tenant.
const MAX_THREADS: usize = 256;

/// Look-ups of one tenant at the same time; more of them wait.
const MAX_PER_TENANT: usize = 4;

/// Look-ups of all tenants at the same time.
const MAX_ON_HOST: usize = 256;

/// How long a look-up is waited for, and its place is kept: the system asks three times, 5 s each.
const MAX_LOOKUP: Duration = Duration::from_secs(15);

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

task_local! {
    /// The tenant for whom this task sends a request.
    static SENDER: Arc<str>;
}

/// Sends something for a tenant: names are looked up at its expense.
pub(super) async fn on_behalf_of<T>(tenant: &str, sending: impl Future<Output = T>) -> T {
    SENDER.scope(tenant.into(), sending).await
}

/// Finds the addresses of a name.
#[async_trait]
pub trait Resolve: Send + Sync + 'static {
    /// All addresses of a host name, in the order to try them.
    ///
    /// # Errors
    /// The name does not exist, or nobody answers for it.
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver.
#[derive(Debug)]
pub struct SystemResolver {
    threads: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self {
            threads: Arc::new(Semaphore::new(MAX_THREADS)),
        }
    }
}

#[async_trait]
impl Resolve for SystemResolver {
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let thread = Arc::clone(&self.threads).acquire_owned().await;
        let thread = thread.map_err(io::Error::other)?;
        let host = host.to_owned();
        // In a task, so that it counts until the look-up has really ended.
        let lookup = tokio::spawn(async move {
            let found = tokio::net::lookup_host((host, 0)).await;
            drop(thread);
            found.map(|found| found.map(|address| address.ip()).collect())
        });
        lookup.await.map_err(io::Error::other)?
    }
}

/// A name has addresses, and none of them may be reached.
#[derive(Debug, Error)]
#[error("the name has no address that may be reached")]
pub(super) struct NoneReachable;

/// What the HTTP client asks: gives only addresses that may be connected to.
pub(super) struct CheckedResolver {
    resolver: Arc<dyn Resolve>,
    policy: Arc<AddressPolicy>,
    turns: Arc<Turns>,
}

impl CheckedResolver {
    pub(super) fn new(resolver: Arc<dyn Resolve>, policy: Arc<AddressPolicy>) -> Self {
        Self {
            resolver,
            policy,
            turns: Arc::new(Turns::new(MAX_PER_TENANT, MAX_ON_HOST)),
        }
    }

    /// Looks a name up at a tenant's expense.
    async fn look_up(
        resolver: Arc<dyn Resolve>,
        turns: Arc<Turns>,
        tenant: Arc<str>,
        name: String,
    ) -> io::Result<Vec<IpAddr>> {
        let turn = turns.wait(&tenant).await;
        let turn = turn.ok_or_else(|| io::Error::other("the host looks up no names any more"))?;
        // In a task: a look-up goes on when nobody waits for it, and counts as long.
        let lookup = tokio::spawn(async move {
            let found = timeout(MAX_LOOKUP, resolver.addresses(&name)).await;
            drop(turn);
            found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        });
        lookup.await.map_err(io::Error::other)?
    }
}

impl reqwest::dns::Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        // All that nobody answers for shares one tenant's part.
        let tenant = SENDER.try_with(Arc::clone).unwrap_or_default();
        let policy = Arc::clone(&self.policy);
        let (resolver, turns) = (Arc::clone(&self.resolver), Arc::clone(&self.turns));
        let lookup = Self::look_up(resolver, turns, tenant, name.as_str().to_owned());
        Box::pin(async move {
            let found = lookup.await?;
            let reachable: Vec<SocketAddr> = found
                .iter()
                .filter(|address| policy.permits(**address))
                .map(|address| SocketAddr::new(*address, 0))
                .take(MAX_ADDRESSES)
                .collect();
            if reachable.is_empty() {
                return Err(NoneReachable.into());
            }
            Ok(Box::new(reachable.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use reqwest::dns::Resolve as _;
    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    /// A server of names that answers when it is told to.
    struct Slow {
        asked: mpsc::UnboundedSender<String>,
        answers: Semaphore,
    }

    #[async_trait]
    impl Resolve for Slow {
        async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
            self.asked.send(host.to_owned()).expect("the test listens");
            let answer = self.answers.acquire().await.map_err(io::Error::other)?;
            answer.forget();
            Ok(vec![IpAddr::from([1, 1, 1, 1])])
        }
    }

    fn slow() -> (Arc<Slow>, CheckedResolver, mpsc::UnboundedReceiver<String>) {
        let (asked, questions) = mpsc::unbounded_channel();
        let answers = Semaphore::new(0);
        let slow = Arc::new(Slow { asked, answers });
        let policy = Arc::new(AddressPolicy::new(Vec::new()));
        let resolver = CheckedResolver::new(Arc::clone(&slow) as Arc<dyn Resolve>, policy);
        (slow, resolver, questions)
    }

    /// A look-up of a tenant's under way.
    fn ask(resolver: &CheckedResolver, tenant: &str, name: &str) -> tokio::task::JoinHandle<bool> {
        let name: Name = name.parse().expect("a name");
        let looking = SENDER.sync_scope(tenant.into(), || resolver.resolve(name));
        tokio::spawn(async { looking.await.is_ok() })
    }

    #[tokio::test]
    async fn names_that_never_answer_cost_their_tenant_alone() {
        let (slow, resolver, mut questions) = slow();
        let stuck: Vec<_> = (0..3 * MAX_PER_TENANT)
            .map(|n| ask(&resolver, "greedy", &format!("n{n}.greedy.example")))
            .collect();
        for _ in 0..MAX_PER_TENANT {
            questions.recv().await.expect("a question");
        }
        let modest = ask(&resolver, "modest", "modest.example");
        assert_eq!(questions.recv().await.as_deref(), Some("modest.example"));

        // Whoever asked may go: the look-ups go on, and count.
        for gone in &stuck {
            gone.abort();
        }
        let again = ask(&resolver, "greedy", "again.greedy.example");
        let other = ask(&resolver, "other", "other.example");
        assert_eq!(questions.recv().await.as_deref(), Some("other.example"));
        slow.answers.add_permits(MAX_PER_TENANT + 3);
        assert!(modest.await.unwrap() && other.await.unwrap() && again.await.unwrap());
    }
}
