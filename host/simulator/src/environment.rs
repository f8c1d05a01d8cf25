//! Where the pretend WeChat takes the time and chance from: the machine, or, in tests, a seed.
//!
//! Deadlines of deliveries are real time and belong to [`crate::platform`].

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// Letters and digits, as WeChat uses them in nonces, tokens and keys.
const ALPHANUMERIC: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// The time of day, and chance.
pub trait Environment: Send + Sync + fmt::Debug {
    /// Time since 1970-01-01T00:00:00Z.
    fn now(&self) -> Duration;

    /// Fills `bytes` with chance.
    fn fill(&self, bytes: &mut [u8]);
}

/// The machine's clock and the operating system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEnvironment;

impl Environment for SystemEnvironment {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where the simulator takes the time from"
    )]
    fn now(&self) -> Duration {
        // A clock before 1970 is a broken machine; 0 makes every host refuse the timestamp.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
    }

    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system gives random bytes");
    }
}

/// For tests: time stands still until it is moved, and chance repeats itself from the same seed.
#[derive(Debug)]
pub struct SeededEnvironment {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    now: Duration,
    /// State of a SplitMix64 generator.
    chance: u64,
}

impl SeededEnvironment {
    /// One where it is `now` (time since 1970).
    pub fn new(now: Duration, seed: u64) -> Self {
        Self {
            state: Mutex::new(State { now, chance: seed }),
        }
    }

    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        self.state.lock().now += time;
    }
}

impl Environment for SeededEnvironment {
    fn now(&self) -> Duration {
        self.state.lock().now
    }

    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.state.lock();
        for chunk in bytes.chunks_mut(8) {
            state.chance = state.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = state.chance;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            chunk.copy_from_slice(&mixed.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// What WeChat makes of chance.
impl dyn Environment + '_ {
    /// Seconds since 1970.
    pub(crate) fn unix_seconds(&self) -> u64 {
        self.now().as_secs()
    }

    /// A number from `low` to `high`, both included. The bias is far below what a simulation notices.
    pub(crate) fn number(&self, low: u64, high: u64) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        low + u64::from_le_bytes(bytes) % (high - low + 1)
    }

    /// 9 or 10 decimal digits.
    pub(crate) fn nonce(&self) -> String {
        self.number(100_000_000, 9_999_999_999).to_string()
    }

    /// A MsgId above 2^53, so that a host that keeps it as a float is found out.
    pub(crate) fn msg_id(&self) -> u64 {
        self.number(1 << 53, i64::MAX as u64)
    }

    /// What the URL check asks to be echoed: 19 decimal digits.
    pub(crate) fn echostr(&self) -> String {
        self.number(1_000_000_000_000_000_000, 9_999_999_999_999_999_999)
            .to_string()
    }

    /// The 16 printable characters at the head of an encrypted body.
    pub(crate) fn envelope_head(&self) -> [u8; 16] {
        let mut head = [0; 16];
        self.fill(&mut head);
        head.map(alphanumeric)
    }

    /// `length` letters and digits.
    pub(crate) fn letters(&self, length: usize) -> String {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes);
        bytes
            .into_iter()
            .map(|byte| char::from(alphanumeric(byte)))
            .collect()
    }
}

fn alphanumeric(byte: u8) -> u8 {
    ALPHANUMERIC[usize::from(byte) % ALPHANUMERIC.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_has_nine_or_ten_digits_and_both_occur() {
        let stage = SeededEnvironment::new(Duration::ZERO, 7);
        let stage: &dyn Environment = &stage;
        let lengths: Vec<usize> = (0..500)
            .map(|_| stage.nonce())
            .inspect(|nonce| assert!(nonce.bytes().all(|b| b.is_ascii_digit()), "{nonce}"))
            .map(|nonce| nonce.len())
            .collect();
        assert!(lengths.iter().all(|length| (9..=10).contains(length)));
        assert!(lengths.contains(&9) && lengths.contains(&10));
    }

    #[test]
    fn a_stage_repeats_itself_from_a_seed_and_not_within_one() {
        let draw = |seed| {
            let stage = SeededEnvironment::new(Duration::ZERO, seed);
            let stage: &dyn Environment = &stage;
            (stage.letters(20), stage.letters(20))
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_ne!(draw(1).0, draw(1).1);
    }

    #[test]
    fn a_msg_id_does_not_fit_a_float() {
        let stage = SeededEnvironment::new(Duration::ZERO, 3);
        let stage: &dyn Environment = &stage;
        assert!((0..100).all(|_| stage.msg_id() > 1 << 53));
    }
}
