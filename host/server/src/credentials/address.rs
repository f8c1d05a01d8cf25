//! That WeChat refuses the address of this host for an account (IP 白名单). It says nothing of other
//! hosts, and ends when the owner has completed the list: so it is kept by each host for itself, and
//! tried again by time.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// What WeChat says of a host's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRefusal {
    /// WeChat's code.
    pub errcode: i64,
    /// WeChat's words, and what to do.
    pub message: String,
    /// The address as WeChat sees it, where it says so.
    pub address: Option<IpAddr>,
    /// Unix milliseconds.
    pub since_ms: i64,
}

/// Of one account, on one host.
#[derive(Default)]
pub(crate) struct AddressGate {
    /// Spares the lock where nothing is refused, which is nearly always.
    is_refused: AtomicBool,
    refused: Mutex<Option<Refused>>,
}

struct Refused {
    refusal: AddressRefusal,
    /// From then on WeChat is asked again.
    probe_at: Instant,
    /// Refusals in a row.
    times: u32,
}

impl AddressGate {
    /// The refusal, if there is one.
    pub(crate) fn refusal(&self) -> Option<AddressRefusal> {
        if !self.is_refused.load(Ordering::Relaxed) {
            return None;
        }
        let refused = self.refused.lock();
        refused.as_ref().map(|refused| refused.refusal.clone())
    }

    /// The refusal while WeChat is not to be asked again yet.
    pub(crate) fn blocks(&self) -> Option<AddressRefusal> {
        if !self.is_refused.load(Ordering::Relaxed) {
            return None;
        }
        let refused = self.refused.lock();
        let refused = refused.as_ref()?;
        (Instant::now() < refused.probe_at).then(|| refused.refusal.clone())
    }

    /// Whether there is one and the time has come to ask again.
    pub(crate) fn is_probe_due(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed) && self.blocks().is_none()
    }

    /// Notes a refusal; `rest` tells how long WeChat is left alone after so many in a row. Gives the one
    /// that is kept: since when it lasts stays.
    pub(crate) fn refuse(
        &self,
        refusal: AddressRefusal,
        rest: impl FnOnce(u32) -> Duration,
    ) -> AddressRefusal {
        let mut refused = self.refused.lock();
        let (since_ms, times) = refused.as_ref().map_or((refusal.since_ms, 0), |before| {
            (before.refusal.since_ms, before.times)
        });
        let refusal = AddressRefusal {
            since_ms,
            ..refusal
        };
        let times = times.saturating_add(1);
        *refused = Some(Refused {
            refusal: refusal.clone(),
            probe_at: Instant::now() + rest(times),
            times,
        });
        self.is_refused.store(true, Ordering::Relaxed);
        refusal
    }

    /// WeChat takes the address; true if it did not before.
    pub(crate) fn lift(&self) -> bool {
        if !self.is_refused.load(Ordering::Relaxed) {
            return false;
        }
        let was_refused = self.refused.lock().take().is_some();
        self.is_refused.store(false, Ordering::Relaxed);
        was_refused
    }

    /// Lets WeChat be asked again now, as if the time had come.
    #[cfg(test)]
    pub(crate) fn probe_now(&self) {
        if let Some(refused) = &mut *self.refused.lock() {
            refused.probe_at = Instant::now();
            refused.times = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(since_ms: i64) -> AddressRefusal {
        AddressRefusal {
            errcode: 40164,
            message: "invalid ip".into(),
            address: None,
            since_ms,
        }
    }

    #[test]
    fn a_refusal_rests_is_tried_again_and_keeps_its_beginning() {
        let gate = AddressGate::default();
        assert_eq!(gate.blocks(), None);
        gate.refuse(refusal(1), |times| {
            Duration::from_secs(3600 * u64::from(times))
        });
        assert_eq!(gate.blocks(), Some(refusal(1)));
        assert!(!gate.is_probe_due());
        gate.probe_now();
        assert_eq!((gate.blocks(), gate.is_probe_due()), (None, true));
        let kept = gate.refuse(refusal(9), |times| {
            assert_eq!(times, 1, "probing anew begins the rests anew");
            Duration::from_secs(60)
        });
        assert_eq!(kept.since_ms, 1);
        assert!(gate.lift());
        assert!(!gate.lift());
        assert_eq!(gate.refusal(), None);
    }
}
