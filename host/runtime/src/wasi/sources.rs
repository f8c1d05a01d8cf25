//! Where a guest's time and random bytes come from.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use rand_core::TryRng;
use wasmtime_wasi::HostWallClock;
use wasmtime_wasi::p2::bindings::random::{insecure, random};

use crate::Capabilities;
use crate::limits::Stop;

/// The most random bytes of one call.
pub(super) const MAX_RANDOM_BYTES: u64 = 64 << 10;

/// WASI's clock is the host's.
pub(super) struct WallClock(pub(super) Arc<dyn Capabilities>);

impl HostWallClock for WallClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.now_ms())
    }
}

/// WASI's random bytes are the host's.
pub(super) struct Randomness(pub(super) Arc<dyn Capabilities>);

impl TryRng for Randomness {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.random(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.random(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.random(bytes);
        Ok(())
    }
}

/// Draws as many random bytes as a guest asks for, all in one go: WASI's own way asks the host for four at
/// a time.
pub(crate) struct Draw<'a>(pub(crate) &'a dyn Capabilities);

impl Draw<'_> {
    fn bytes(&self, length: u64) -> wasmtime::Result<Vec<u8>> {
        if length > MAX_RANDOM_BYTES {
            return Err(Stop::HostLimit {
                which: "random-bytes",
                limit: MAX_RANDOM_BYTES as usize,
            }
            .into());
        }
        let mut bytes = vec![0; length as usize];
        self.0.random(&mut bytes);
        Ok(bytes)
    }

    fn number(&self) -> u64 {
        let mut bytes = [0; 8];
        self.0.random(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

impl random::Host for Draw<'_> {
    fn get_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        self.bytes(length)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.number())
    }
}

impl insecure::Host for Draw<'_> {
    fn get_insecure_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        self.bytes(length)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.number())
    }
}
