//! Redis as the store that hosts share: who runs which event, what was answered, the plugins' cache.
//!
//! Every step on an event is one Lua script, so two hosts never both believe that they run it. A
//! claim is a lease: its owner renews it while the plugin runs ([`Redis::renew`]); the lease of a host
//! that died runs out, and the next delivery takes the event over.
//!
//! A Redis that does not answer costs one time-out; after that, calls fail at once for
//! a second, so that callbacks go on at full speed without it.

mod answers;
mod rate;
mod tickets;
mod version;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::aio::PubSub;
use redis::{AsyncCommands, FromRedisValue, RedisResult, Script, ScriptInvocation};
use secrecy::{ExposeSecret, SecretString};

use self::answers::Answers;
pub use self::answers::send_answers;
pub use self::version::{OLDEST, Version};
use super::connection::{Connection, Server};
use super::{StoreAway, keys};

/// How long a claim lasts without being renewed.
pub const LEASE: Duration = Duration::from_secs(5);
/// How long an answer is kept. WeChat's three deliveries lie within 15 s.
pub const ANSWER_KEPT: Duration = Duration::from_secs(60);
/// How long Redis is left alone after it failed to answer.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How long an answer of Redis is waited for; a callback has 4.5 s in all.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Claims an event, unless it is under way or answered; refuses a nonce that came with another body.
/// The lease is a field of its own, measured by Redis: the count of deliveries outlives it. A claim
/// without one is of a host of the version before, and lasts as long as its key.
const CLAIM: &str = r"
if ARGV[2] ~= '' then
  local body = redis.call('GET', KEYS[2])
  if body and body ~= ARGV[2] then return {'replayed', '', 0} end
  if not body then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[4]) end
end
local event = redis.call('HMGET', KEYS[1], 'state', 'answer', 'leased_until')
local deliveries = redis.call('HINCRBY', KEYS[1], 'deliveries', ARGV[5])
if event[1] == 'answered' then return {'answered', event[2], deliveries} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if event[1] == 'running' and (not event[3] or tonumber(event[3]) > now) then
  redis.call('HSET', KEYS[1], 'watched', '1')
  return {'running', '', deliveries}
end
redis.call('HSET', KEYS[1], 'state', 'running', 'owner', ARGV[1], 'leased_until', now + ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[6])
return {'claimed', '', deliveries}
";

/// Counts a delivery of an event that is under way.
const COUNT: &str = r"
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
return redis.call('HINCRBY', KEYS[1], 'deliveries', 1)
";

/// Prolongs the claim of its owner.
const RENEW: &str = r"
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'leased_until', now + ARGV[2])
return redis.call('PEXPIRE', KEYS[1], ARGV[3])
";

/// Tells what an event is; a claim whose lease has run out is nobody's.
const LOOK: &str = r"
local event = redis.call('HMGET', KEYS[1], 'state', 'answer', 'leased_until')
if event[1] == 'answered' then return {'answered', event[2] or ''} end
if event[1] ~= 'running' then return {'', ''} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if event[3] and tonumber(event[3]) <= now then return {'', ''} end
return {'running', ''}
";

/// Gives the owner's claim up, so that the next delivery may run the event.
const ABANDON: &str = r"
local event = redis.call('HMGET', KEYS[1], 'owner', 'watched')
if event[1] ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'state', 'owner', 'leased_until')
if event[2] then redis.call('PUBLISH', ARGV[2], KEYS[1]) end
return 1
";

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The caller runs the event.
    Claimed,
    /// Another host runs it.
    Running,
    /// It was answered so.
    Answered(String),
    /// The nonce came before, with another body.
    Replayed,
}

/// A claim to make.
#[derive(Debug, Clone, Copy)]
pub struct ClaimRequest<'a> {
    /// The account.
    pub app_id: &'a str,
    /// The event.
    pub event_id: &'a str,
    /// Who claims: unique for each run.
    pub owner: &'a str,
    /// `timestamp` of the delivery.
    pub timestamp: &'a str,
    /// `nonce` of the delivery.
    pub nonce: &'a str,
    /// Hash of the body, where the nonce is good for one body only.
    pub body_hash: Option<u64>,
    /// How long a nonce is remembered.
    pub nonce_kept: Duration,
    /// Whether this is a delivery that was not counted yet.
    pub counts: bool,
}

/// A connection to Redis that heals by itself.
pub struct Redis {
    server: Arc<Server>,
    claim: Script,
    count: Script,
    look: Script,
    renew: Script,
    answers: Answers,
    abandon: Script,
    started: Instant,
    /// Milliseconds after `started` until which Redis is left alone.
    resting_until_ms: AtomicU64,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").finish_non_exhaustive()
    }
}

impl Redis {
    /// Prepares a connection; it is made when first used, so a Redis that is away stops no start.
    ///
    /// # Errors
    /// The URL doesn't parse; see `store::connection` for what it may be.
    pub fn open(url: &SecretString) -> RedisResult<Self> {
        let server = Server::open(url.expose_secret(), RESPONSE_TIMEOUT)?;
        Ok(Self {
            server: Arc::new(server),
            claim: Script::new(CLAIM),
            count: Script::new(COUNT),
            look: Script::new(LOOK),
            renew: Script::new(RENEW),
            answers: Answers::new(),
            abandon: Script::new(ABANDON),
            started: Instant::now(),
            resting_until_ms: AtomicU64::new(0),
        })
    }

    /// A connection of one's own, to subscribe with.
    ///
    /// # Errors
    /// Redis can't be reached.
    pub async fn subscription(&self) -> RedisResult<PubSub> {
        self.server.subscription().await
    }

    /// Runs a script.
    pub(super) async fn invoke<T: FromRedisValue>(
        &self,
        invocation: &ScriptInvocation<'_>,
    ) -> Result<T, StoreAway> {
        let mut connection = self.connection().await?;
        let reply = invocation.invoke_async(&mut connection).await;
        self.noting_failure(reply)
    }

    /// Forgets a key, as a wiped Redis would.
    #[cfg(test)]
    pub(crate) async fn delete_for_test(&self, key: &str) {
        let mut connection = self.server.connection().await.unwrap();
        let () = connection.del(key).await.unwrap();
    }

    /// Claims an event. Returns what became of it and how many deliveries there were.
    ///
    /// # Errors
    /// Redis can't be reached.
    pub async fn claim(&self, request: ClaimRequest<'_>) -> Result<(Claim, u32), StoreAway> {
        let mut invocation = self
            .claim
            .key(keys::event(request.app_id, request.event_id));
        invocation
            .key(keys::nonce(
                request.app_id,
                request.timestamp,
                request.nonce,
            ))
            .arg(request.owner)
            .arg(
                request
                    .body_hash
                    .map_or_else(String::new, |hash| hash.to_string()),
            )
            .arg(millis(LEASE))
            .arg(millis(request.nonce_kept))
            .arg(u8::from(request.counts))
            .arg(millis(ANSWER_KEPT));
        let (word, answer, deliveries): (String, String, u32) = self.invoke(&invocation).await?;
        let claim = match word.as_str() {
            "claimed" => Claim::Claimed,
            "running" => Claim::Running,
            "answered" => Claim::Answered(answer),
            _ => Claim::Replayed,
        };
        Ok((claim, deliveries))
    }

    /// Counts a further delivery of an event; returns how many there were on all hosts, as far as Redis
    /// knows.
    ///
    /// # Errors
    /// Redis can't be reached.
    pub async fn count_delivery(&self, app_id: &str, event_id: &str) -> Result<u32, StoreAway> {
        let invocation = self.count.key(keys::event(app_id, event_id));
        self.invoke(&invocation).await
    }

    /// Prolongs a claim; false if it is not the owner's any more.
    ///
    /// # Errors
    /// Redis can't be reached.
    pub async fn renew(
        &self,
        app_id: &str,
        event_id: &str,
        owner: &str,
    ) -> Result<bool, StoreAway> {
        let mut invocation = self.renew.key(keys::event(app_id, event_id));
        invocation
            .arg(owner)
            .arg(millis(LEASE))
            .arg(millis(ANSWER_KEPT));
        Ok(self.invoke::<i64>(&invocation).await? == 1)
    }

    /// Gives an event back: nothing was answered, the next delivery may run it.
    ///
    /// # Errors
    /// Redis can't be reached.
    pub async fn abandon(
        &self,
        app_id: &str,
        event_id: &str,
        owner: &str,
    ) -> Result<(), StoreAway> {
        let mut invocation = self.abandon.key(keys::event(app_id, event_id));
        invocation.arg(owner).arg(keys::SETTLED);
        self.invoke::<i64>(&invocation).await.map(drop)
    }

    /// What is known of an event: running elsewhere, answered, or (None) nothing: nobody runs it.
    ///
    /// # Errors
    /// Redis can't be reached.
    pub async fn look(&self, app_id: &str, event_id: &str) -> Result<Option<Claim>, StoreAway> {
        let invocation = self.look.key(keys::event(app_id, event_id));
        let (state, answer): (String, String) = self.invoke(&invocation).await?;
        Ok(match state.as_str() {
            "answered" => Some(Claim::Answered(answer)),
            "running" => Some(Claim::Running),
            _ => None,
        })
    }

    /// Tells every host to look for changed accounts.
    ///
    /// # Errors
    /// Redis can't be reached; the hosts will look by themselves.
    pub async fn publish_change(&self) -> Result<(), StoreAway> {
        self.publish(keys::CHANGED, "").await
    }

    pub(super) async fn publish(&self, channel: &str, message: &str) -> Result<(), StoreAway> {
        let mut connection = self.connection().await?;
        let reply: RedisResult<()> = connection.publish(channel, message).await;
        self.noting_failure(reply)
    }

    /// Whether Redis answers now.
    pub async fn answers(&self) -> bool {
        let Ok(mut connection) = self.server.connection().await else {
            return false;
        };
        let reply: RedisResult<String> = redis::cmd("PING").query_async(&mut connection).await;
        reply.is_ok()
    }

    pub(super) async fn cache_get(
        &self,
        app_id: &str,
        key: &str,
    ) -> Result<Option<Vec<u8>>, StoreAway> {
        let mut connection = self.connection().await?;
        let reply = connection.get(keys::cache(app_id, key)).await;
        self.noting_failure(reply)
    }

    pub(super) async fn cache_set(
        &self,
        app_id: &str,
        key: &str,
        value: &[u8],
        ttl_seconds: u32,
    ) -> Result<(), StoreAway> {
        let mut connection = self.connection().await?;
        let key = keys::cache(app_id, key);
        let reply = connection
            .set_ex(key, value, u64::from(ttl_seconds.max(1)))
            .await;
        self.noting_failure(reply)
    }

    pub(super) async fn cache_delete(&self, app_id: &str, key: &str) -> Result<(), StoreAway> {
        let mut connection = self.connection().await?;
        let reply = connection.del(keys::cache(app_id, key)).await;
        self.noting_failure(reply)
    }

    async fn connection(&self) -> Result<Connection, StoreAway> {
        if self.elapsed_ms() < self.resting_until_ms.load(Ordering::Relaxed) {
            return Err(StoreAway);
        }
        let connection = self.server.connection().await;
        self.noting_failure(connection)
    }

    fn noting_failure<T>(&self, reply: RedisResult<T>) -> Result<T, StoreAway> {
        reply.map_err(|error| {
            let until = self.elapsed_ms() + millis(REST_AFTER_FAILURE);
            let before = self.resting_until_ms.swap(until, Ordering::Relaxed);
            // One line for each rest, not for each call.
            if before < self.elapsed_ms() {
                tracing::warn!(error = %error, "redis does not answer; going on without it");
            }
            StoreAway
        })
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    /// A Redis, if the tests are given one.
    fn redis() -> Option<Redis> {
        let url = std::env::var("WXHOST_TEST_REDIS_URL").ok()?;
        Some(Redis::open(&SecretString::from(url)).unwrap())
    }

    fn claim<'a>(event_id: &'a str, owner: &'a str) -> ClaimRequest<'a> {
        ClaimRequest {
            app_id: "wx01",
            event_id,
            owner,
            timestamp: "1",
            nonce: event_id,
            body_hash: Some(7),
            nonce_kept: Duration::from_secs(60),
            counts: true,
        }
    }

    #[tokio::test]
    async fn deliveries_are_counted_on_when_a_claim_has_run_out() {
        let Some(redis) = redis() else { return };
        let event_id = random::unique_name();
        let first = redis.claim(claim(&event_id, "dead host")).await.unwrap();
        assert_eq!(first, (Claim::Claimed, 1));
        let second = redis.claim(claim(&event_id, "other host")).await.unwrap();
        assert_eq!(second, (Claim::Running, 2));
        // Its time has come: nobody renewed it.
        let mut connection = redis.server.connection().await.unwrap();
        let key = keys::event("wx01", &event_id);
        let () = connection.hset(&key, "leased_until", 1).await.unwrap();
        assert_eq!(redis.look("wx01", &event_id).await.unwrap(), None);
        let third = redis.claim(claim(&event_id, "other host")).await.unwrap();
        assert_eq!(third, (Claim::Claimed, 3));
        assert!(!redis.renew("wx01", &event_id, "dead host").await.unwrap());
        assert!(redis.renew("wx01", &event_id, "other host").await.unwrap());
    }

    #[tokio::test]
    async fn deliveries_are_counted_on_when_a_claim_was_given_up() {
        let Some(redis) = redis() else { return };
        let event_id = random::unique_name();
        redis.claim(claim(&event_id, "busy host")).await.unwrap();
        redis.abandon("wx01", &event_id, "busy host").await.unwrap();
        let second = redis.claim(claim(&event_id, "other host")).await.unwrap();
        assert_eq!(second, (Claim::Claimed, 2));
    }

    #[tokio::test]
    async fn a_claim_of_the_version_before_lasts_as_long_as_its_key() {
        let Some(redis) = redis() else { return };
        let event_id = random::unique_name();
        let mut connection = redis.server.connection().await.unwrap();
        let key = keys::event("wx01", &event_id);
        let old = [("state", "running"), ("owner", "old host")];
        let () = connection.hset_multiple(&key, &old).await.unwrap();
        let claimed = redis.claim(claim(&event_id, "new host")).await.unwrap();
        assert_eq!(claimed, (Claim::Running, 1));
        assert_eq!(
            redis.look("wx01", &event_id).await.unwrap(),
            Some(Claim::Running)
        );
    }
}
