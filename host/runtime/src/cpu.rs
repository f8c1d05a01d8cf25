//! What a call costs in processor time, wherever it is spent: in the guest, in a host function, while an
//! instance is made or an outcome is read.
//!
//! A call is a future, and whoever polls it works for it. Each poll is a *stretch*, and its time is the
//! call's; between stretches the call waits for the host, and that is not the guest's to pay for. A guest
//! that computes ends its stretch at each tick of the engine's clock.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use crate::bounds::TICK;
use crate::limits::Stop;

/// Measures one call.
#[derive(Debug)]
pub(crate) struct CpuMeter {
    limit_ms: u32,
    deadline: Instant,
    spent: Mutex<Spent>,
}

#[derive(Debug, Default)]
struct Spent {
    before: Duration,
    stretch: Option<Stretch>,
    /// Whether it has come to a tick. Only then is the thread's own clock read at the beginning of a
    /// stretch: it costs more than many a call.
    long: bool,
}

#[derive(Debug)]
struct Stretch {
    begun: Instant,
    thread: Option<Duration>,
}

impl Stretch {
    /// By the wall clock, but no more than the thread was running: a busy machine is nobody's fault.
    fn length(&self) -> Duration {
        let wall = self.begun.elapsed();
        match self.thread {
            Some(began) => wall.min(thread_time().saturating_sub(began)),
            None => wall,
        }
    }
}

impl CpuMeter {
    pub(crate) fn new(limit_ms: u32, deadline: Instant) -> Self {
        Self {
            limit_ms,
            deadline,
            spent: Mutex::default(),
        }
    }

    /// Charges all the work on `future` to this call.
    pub(crate) async fn charge<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|context| {
            self.begin();
            let polled = future.as_mut().poll(context);
            self.end();
            polled
        })
        .await
    }

    fn begin(&self) {
        let mut spent = self.spent.lock();
        spent.stretch = Some(Stretch {
            begun: Instant::now(),
            thread: spent.long.then(thread_time),
        });
    }

    fn end(&self) {
        let mut spent = self.spent.lock();
        if let Some(stretch) = spent.stretch.take() {
            spent.before += stretch.length();
        }
    }

    /// A tick was noticed in the middle of a stretch: may the guest go on? Tells how many ticks long the
    /// stretch is by now.
    pub(crate) fn tick(&self) -> Result<u32, Stop> {
        if Instant::now() >= self.deadline {
            return Err(Stop::DeadlinePassed);
        }
        self.spent.lock().long = true;
        let stretch = self.measure()?;
        let ticks = stretch.as_millis() / TICK.as_millis();
        Ok(u32::try_from(ticks).unwrap_or(u32::MAX).max(1))
    }

    /// Whether the time is used up. Asked at the end too: what a guest hands over is read after its last
    /// tick.
    pub(crate) fn check(&self) -> Result<(), Stop> {
        self.measure().map(drop)
    }

    /// How long the stretch is, while there is time left.
    fn measure(&self) -> Result<Duration, Stop> {
        let spent = self.spent.lock();
        let stretch = spent
            .stretch
            .as_ref()
            .map_or(Duration::ZERO, Stretch::length);
        if spent.before + stretch <= Duration::from_millis(self.limit_ms.into()) {
            return Ok(stretch);
        }
        Err(Stop::CpuSpent {
            limit_ms: self.limit_ms,
        })
    }
}

/// How long this thread has been running.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // Never negative.
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Works for `ms` milliseconds of this thread's time.
    fn work(ms: u64) {
        let end = thread_time() + Duration::from_millis(ms);
        while thread_time() < end {}
    }

    fn meter(limit_ms: u32) -> CpuMeter {
        CpuMeter::new(limit_ms, Instant::now() + Duration::from_secs(60))
    }

    #[tokio::test]
    async fn work_without_a_tick_is_charged_by_its_length() {
        let meter = meter(20);
        meter
            .charge(async {
                work(30);
                let spent = Err(Stop::CpuSpent { limit_ms: 20 });
                assert_eq!(meter.tick(), spent);
            })
            .await;
        assert!(meter.check().is_err());
    }

    #[tokio::test]
    async fn what_is_spent_adds_up_over_stretches() {
        let meter = meter(60);
        meter.tick().unwrap();
        meter
            .charge(async {
                for _ in 0..4 {
                    work(20);
                    tokio::task::yield_now().await;
                }
            })
            .await;
        assert!(meter.check().is_err());
    }

    #[tokio::test]
    async fn waiting_is_free() {
        let meter = meter(500);
        meter.tick().unwrap();
        meter
            .charge(async {
                for _ in 0..20 {
                    tokio::time::sleep(Duration::from_millis(30)).await;
                    meter.tick().unwrap();
                }
            })
            .await;
        assert!(meter.check().is_ok());
    }

    #[tokio::test]
    async fn the_deadline_ends_what_still_has_time() {
        let meter = CpuMeter::new(1000, Instant::now());
        assert_eq!(meter.tick(), Err(Stop::DeadlinePassed));
    }
}
