//! What a guest sleeps on. Only clocks make it sleep here: all else is ready at once.

use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::io::poll;

use crate::limits::SleepMeter;

/// WASI's own polling, counted.
pub(crate) struct Polling<'a> {
    pub(crate) table: &'a mut ResourceTable,
    pub(crate) sleep: &'a mut SleepMeter,
}

impl poll::Host for Polling<'_> {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        let ready = poll::Host::poll(&mut *self.table, pollables);
        self.sleep.during(ready).await
    }
}

impl poll::HostPollable for Polling<'_> {
    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        let ready = poll::HostPollable::block(&mut *self.table, pollable);
        self.sleep.during(ready).await
    }

    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        poll::HostPollable::ready(&mut *self.table, pollable).await
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::HostPollable::drop(&mut *self.table, pollable)
    }
}
