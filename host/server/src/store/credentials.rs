//! Tokens and tickets that hosts share in Redis: who fetches one, what was fetched, which one failed.
//!
//! Whoever fetches holds a **lease**: a key with an owner that comes only once, a time to live and a
//! renewal; it is given back only by its owner. With the lease comes a **fencing number**, larger than
//! all before it. A host that slept through its lease still has its number, but a write with a number
//! below the stored one is refused, and so is a token that ends before the stored one does. A refused
//! token is marked, not deleted ([`Redis::mark_failed`]), and only if it is the very one that failed.
//!
//! Every step is one script on keys of one account, hence of one slot. Values are sealed by the caller.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{Script, ScriptInvocation};

use super::redis::{Redis, millis};
use super::{StoreAway, keys};

/// How long a lease lasts without being renewed: what a host that was killed costs the others.
pub const FETCH_LEASE: Duration = Duration::from_secs(3);
/// Two tokens that end within this time of each other count as equally old: what WeChat says is in
/// whole seconds, and answers travel.
const SAME_AGE: Duration = Duration::from_secs(2);
/// WeChat refuses to force a token within 30 s of the last one.
const FORCE_PAUSE: Duration = Duration::from_secs(31);
/// Forced tokens are counted over this time.
const FORCE_PERIOD: Duration = Duration::from_secs(24 * 3600);

/// A newer token, a pause, somebody else's lease, or the lease and a fencing number.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local stored = redis.call('HMGET', KEYS[1], 'fence', 'failed', 'value', 'hash', 'fetched_at', 'lifetime')
local last = tonumber(stored[1] or '0')
if stored[1] and not stored[2] and last > tonumber(ARGV[3]) then
  return {'newer', stored[1], '', stored[3], stored[4], stored[5], stored[6], tostring(redis.call('PTTL', KEYS[1]))}
end
local pause = redis.call('GET', KEYS[4])
if pause then
  return {'paused', '0', '', pause, '', '0', '0', tostring(redis.call('PTTL', KEYS[4]))}
end
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return {'busy', '0', '', '', '', '0', '0', tostring(redis.call('PTTL', KEYS[2]))}
end
local time = redis.call('TIME')
local fence = math.max(
  tonumber(time[1]) * 1000000 + tonumber(time[2]),
  tonumber(redis.call('GET', KEYS[3]) or '0') + 1, last + 1, tonumber(ARGV[3]) + 1)
fence = string.format('%.0f', fence)
redis.call('SET', KEYS[3], fence)
return {'leased', fence, '', '', stored[2] and stored[4] or '', '0', '0', '0'}
",
    )
});

/// Prolongs the owner's lease.
static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
",
    )
});

/// Stores a token, unless a newer one is there; ends the owner's lease; tells the hosts.
static WRITE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
local stored = redis.call('HMGET', KEYS[1], 'fence', 'failed', 'hash')
if stored[1] then
  local fence = tonumber(stored[1])
  if fence > tonumber(ARGV[2]) then return 'fenced' end
  if fence == tonumber(ARGV[2]) and stored[2] then return 'fenced' end
  local left = redis.call('PTTL', KEYS[1])
  if not stored[2] and stored[3] ~= ARGV[4] and ARGV[8] == '0'
    and left > tonumber(ARGV[7]) + tonumber(ARGV[9]) then return 'older' end
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'fence', ARGV[2], 'value', ARGV[3], 'hash', ARGV[4],
  'fetched_at', ARGV[5], 'lifetime', ARGV[6])
redis.call('PEXPIRE', KEYS[1], ARGV[7])
redis.call('PUBLISH', ARGV[10], ARGV[11])
return 'written'
",
    )
});

/// Gives the owner's lease back without a token; notes a pause if there is one; wakes who waits.
static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
if ARGV[2] ~= '' then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 1
",
    )
});

/// Marks a token as refused, if it is the one that was.
static FAIL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local stored = redis.call('HMGET', KEYS[1], 'fence', 'hash', 'failed')
if stored[1] ~= ARGV[1] or stored[2] ~= ARGV[2] or stored[3] then return 0 end
redis.call('HSET', KEYS[1], 'failed', '1')
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1
",
    )
});

/// Reads a token.
static READ: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local stored = redis.call('HMGET', KEYS[1], 'fence', 'failed', 'value', 'hash', 'fetched_at', 'lifetime')
if not stored[1] then return {'none', '0', '', '', '', '0', '0', '0'} end
return {'stored', stored[1], stored[2] or '', stored[3], stored[4], stored[5], stored[6],
  tostring(redis.call('PTTL', KEYS[1]))}
",
    )
});

/// Permits a forced token: not within the pause of the last one, not more than so many a day.
static FORCE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local left = redis.call('PTTL', KEYS[1])
if left > 0 then return left end
if tonumber(redis.call('GET', KEYS[2]) or '0') >= tonumber(ARGV[2]) then
  return math.max(redis.call('PTTL', KEYS[2]), 1)
end
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
if redis.call('INCR', KEYS[2]) == 1 then redis.call('PEXPIRE', KEYS[2], ARGV[3]) end
return 0
",
    )
});

/// Forces nothing for a while.
static PAUSE_FORCES: LazyLock<Script> =
    LazyLock::new(|| Script::new("return redis.call('SET', KEYS[1], '1', 'PX', ARGV[1]).ok"));

/// A bucket that fills with time, kept as the moment at which it would be full.
static PERMIT_FETCH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local period = tonumber(ARGV[1])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
if full - now > period * (tonumber(ARGV[2]) - 1) then return 0 end
full = full + period
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', string.format('%.0f', full - now))
return 1
",
    )
});

/// Ends a pause; wakes who waits.
static LIFT_PAUSE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local lifted = redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[1], ARGV[2])
return lifted
",
    )
});

/// Which token or ticket.
#[derive(Clone, Copy, Debug)]
pub struct CredentialKey<'a> {
    /// Whose.
    pub app_id: &'a str,
    /// `access-token`, `jsapi-ticket` or `card-ticket`.
    pub credential: &'a str,
}

impl CredentialKey<'_> {
    fn key(self, name: fn(&str, &str) -> String) -> String {
        name(self.app_id, self.credential)
    }

    fn news(self) -> String {
        keys::token_news(self.app_id, self.credential)
    }
}

/// A token as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredToken {
    /// Its fencing number.
    pub fence: u64,
    /// Whether WeChat refused it.
    pub failed: bool,
    /// Sealed.
    pub value: String,
    /// Tells one value from another.
    pub hash: String,
    /// When it was fetched, Unix milliseconds of the host that did.
    pub fetched_at_ms: i64,
    /// How long it was to live when it was fetched.
    pub lifetime_ms: i64,
    /// How long it may still be used, by the clock of Redis.
    pub left_ms: i64,
}

/// What became of asking for the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// There is a newer token already.
    Newer(StoredToken),
    /// WeChat wants no questions now, says this code.
    Paused {
        /// WeChat's code.
        errcode: i64,
        /// For how long.
        left_ms: i64,
    },
    /// Another host fetches.
    Busy {
        /// When its lease runs out if it is gone.
        left_ms: i64,
    },
    /// The caller fetches.
    Leased {
        /// The number to write with.
        fence: u64,
        /// The hash of the stored token if it was refused.
        failed_hash: Option<String>,
    },
}

/// What became of a token that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is stored.
    Stored,
    /// One with a higher fencing number is, or this very one was refused.
    Fenced,
    /// One that lives longer is.
    Older,
}

/// Eight texts: a word, fence, failed, value, hash, fetched at, lifetime, left.
type Reply = (
    String,
    String,
    String,
    String,
    String,
    String,
    String,
    String,
);

fn number<T: std::str::FromStr + Default>(text: &str) -> T {
    text.parse().unwrap_or_default()
}

fn stored(reply: Reply) -> StoredToken {
    StoredToken {
        fence: number(&reply.1),
        failed: !reply.2.is_empty(),
        value: reply.3,
        hash: reply.4,
        fetched_at_ms: number(&reply.5),
        lifetime_ms: number(&reply.6),
        left_ms: number(&reply.7),
    }
}

fn on<'a>(script: &'a Script, key: String) -> ScriptInvocation<'a> {
    script.key(key)
}

impl Redis {
    /// Asks for the lease on fetching a token newer than number `have`; 0 for any.
    ///
    /// # Errors
    /// Redis can't be reached.
    pub async fn take_token(
        &self,
        key: CredentialKey<'_>,
        owner: &str,
        have: u64,
    ) -> Result<Taken, StoreAway> {
        let mut script = on(&TAKE, key.key(keys::token));
        script
            .key(key.key(keys::lease))
            .key(key.key(keys::fence))
            .key(key.key(keys::pause))
            .arg(owner)
            .arg(millis(FETCH_LEASE))
            .arg(have);
        let reply: Reply = self.invoke(&script).await?;
        Ok(match reply.0.as_str() {
            "newer" => Taken::Newer(stored(reply)),
            "paused" => Taken::Paused {
                errcode: number(&reply.3),
                left_ms: number(&reply.7),
            },
            "busy" => Taken::Busy {
                left_ms: number(&reply.7),
            },
            _ => Taken::Leased {
                fence: number(&reply.1),
                failed_hash: Some(reply.4).filter(|hash| !hash.is_empty()),
            },
        })
    }

    /// Prolongs a lease; false if it is not the owner's any more.
    ///
    /// # Errors
    /// Redis can't be reached.
    pub async fn renew_token_lease(
        &self,
        key: CredentialKey<'_>,
        owner: &str,
    ) -> Result<bool, StoreAway> {
        let mut script = on(&RENEW, key.key(keys::lease));
        script.arg(owner).arg(millis(FETCH_LEASE));
        Ok(self.invoke::<i64>(&script).await? == 1)
    }

    /// Stores a token and ends the owner's lease; `supersedes` where WeChat has ended the stored one.
    ///
    /// # Errors
    /// Redis can't be reached; whether the token is stored is unknown.
    pub async fn write_token(
        &self,
        key: CredentialKey<'_>,
        owner: &str,
        token: &StoredToken,
        supersedes: bool,
    ) -> Result<Written, StoreAway> {
        let mut script = on(&WRITE, key.key(keys::token));
        script
            .key(key.key(keys::lease))
            .arg(owner)
            .arg(token.fence)
            .arg(&token.value)
            .arg(&token.hash)
            .arg(token.fetched_at_ms)
            .arg(token.lifetime_ms)
            .arg(token.left_ms.max(1))
            .arg(u8::from(supersedes))
            .arg(millis(SAME_AGE))
            .arg(keys::TOKEN)
            .arg(key.news());
        let word: String = self.invoke(&script).await?;
        Ok(match word.as_str() {
            "written" => Written::Stored,
            "older" => Written::Older,
            _ => Written::Fenced,
        })
    }

    /// Gives a lease back without a token. `pause` is WeChat's code and how long it asks to be left
    /// alone. False if the lease was not the owner's any more.
    ///
    /// # Errors
    /// Redis can't be reached.
    pub async fn release_token_lease(
        &self,
        key: CredentialKey<'_>,
        owner: &str,
        pause: Option<(i64, Duration)>,
    ) -> Result<bool, StoreAway> {
        let (errcode, left) = match pause {
            None => (String::new(), Duration::ZERO),
            Some((errcode, left)) => (errcode.to_string(), left),
        };
        let mut script = on(&RELEASE, key.key(keys::lease));
        script
            .key(key.key(keys::pause))
            .arg(owner)
            .arg(errcode)
            .arg(millis(left).max(1))
            .arg(keys::TOKEN)
            .arg(key.news());
        Ok(self.invoke::<i64>(&script).await? == 1)
    }

    /// Marks a token as refused by WeChat; false if another one is stored, or it was marked before.
    ///
    /// # Errors
    /// Redis can't be reached.
    pub async fn mark_failed(
        &self,
        key: CredentialKey<'_>,
        fence: u64,
        hash: &str,
    ) -> Result<bool, StoreAway> {
        let mut script = on(&FAIL, key.key(keys::token));
        script.arg(fence).arg(hash).arg(keys::TOKEN).arg(key.news());
        Ok(self.invoke::<i64>(&script).await? == 1)
    }

    /// The stored token.
    ///
    /// # Errors
    /// Redis can't be reached.
    pub async fn read_token(
        &self,
        key: CredentialKey<'_>,
    ) -> Result<Option<StoredToken>, StoreAway> {
        let reply: Reply = self.invoke(&on(&READ, key.key(keys::token))).await?;
        Ok((reply.0 == "stored").then(|| stored(reply)))
    }

    /// Whether an account's token may be forced now, and notes that it is; else how long to wait.
    ///
    /// # Errors
    /// Redis can't be reached.
    pub async fn permit_force(
        &self,
        app_id: &str,
        most_a_day: u32,
    ) -> Result<Result<(), Duration>, StoreAway> {
        let mut script = on(&FORCE, keys::forced(app_id));
        script
            .key(keys::forces(app_id))
            .arg(millis(FORCE_PAUSE))
            .arg(most_a_day)
            .arg(millis(FORCE_PERIOD));
        Ok(match self.invoke::<u64>(&script).await? {
            0 => Ok(()),
            wait => Err(Duration::from_millis(wait)),
        })
    }

    /// Lets nobody force an account's token for this time: WeChat forces no more.
    ///
    /// # Errors
    /// Redis can't be reached.
    pub async fn pause_forces(&self, app_id: &str, time: Duration) -> Result<(), StoreAway> {
        let mut script = on(&PAUSE_FORCES, keys::forced(app_id));
        script.arg(millis(time).max(1));
        self.invoke::<String>(&script).await.map(drop)
    }

    /// Whether a token may be asked for on the classic line, by any host: once in a `period`, `burst` at
    /// once.
    ///
    /// # Errors
    /// Redis can't be reached.
    pub async fn permit_fetch(
        &self,
        app_id: &str,
        period: Duration,
        burst: u32,
    ) -> Result<bool, StoreAway> {
        let mut script = on(&PERMIT_FETCH, keys::fetches(app_id));
        script.arg(millis(period)).arg(burst);
        Ok(self.invoke::<i64>(&script).await? == 1)
    }

    /// Lets WeChat be asked again although it said not to: its quota was cleared.
    ///
    /// # Errors
    /// Redis can't be reached.
    pub async fn lift_pause(&self, key: CredentialKey<'_>) -> Result<(), StoreAway> {
        let mut script = on(&LIFT_PAUSE, key.key(keys::pause));
        script.arg(keys::TOKEN).arg(key.news());
        self.invoke::<i64>(&script).await.map(drop)
    }

    /// Asks the other hosts to fetch a token that this one can't.
    ///
    /// # Errors
    /// Redis can't be reached.
    pub async fn want_token(&self, key: CredentialKey<'_>) -> Result<(), StoreAway> {
        let news = format!("{} {}", key.news(), keys::WANTED);
        self.publish(keys::TOKEN, &news).await
    }
}
