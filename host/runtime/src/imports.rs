//! What a plugin may call: each function checks the limit, checks the argument, asks the capabilities.

use wasmtime::component::{HasSelf, Linker};

use crate::bindings::CallbackPlugin;
use crate::bindings::wxhost::plugin::log::Level;
use crate::bindings::wxhost::plugin::{
    account, cache, callback, config, effects, kv, log, random, reply, time,
};
use crate::limits::{MAX_VALUE_BYTES, is_key, is_prefix};
use crate::state::CallState;

/// The interfaces of the contract that a plugin may import.
pub(crate) const OFFERED: [&str; 10] = [
    "account", "config", "kv", "cache", "log", "time", "random", "callback", "reply", "effects",
];

/// The most keys of one page.
const MAX_PAGE_KEYS: u32 = 100;
/// The longest time that the cache keeps a value.
const MAX_TTL_SECONDS: u32 = 86_400;
/// The most random bytes of one call.
const MAX_RANDOM_BYTES: u32 = 4096;

/// Offers the contract's imports.
pub(crate) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    CallbackPlugin::add_to_linker::<_, HasSelf<CallState>>(linker, |state| state)
}

impl account::Host for CallState {
    fn get(&mut self) -> wasmtime::Result<account::Info> {
        Ok(self.capabilities.account())
    }
}

impl config::Host for CallState {
    fn get(&mut self) -> wasmtime::Result<String> {
        Ok(self.capabilities.config().to_owned())
    }

    fn secret(&mut self, name: String) -> wasmtime::Result<Result<String, config::SecretError>> {
        let reference = self.capabilities.secret(&name);
        Ok(reference.ok_or(config::SecretError::Unknown))
    }
}

impl kv::Host for CallState {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<kv::Entry>, kv::Error>> {
        self.reads.kv_read(&self.limits)?;
        if !is_key(&key) {
            return Ok(Err(kv::Error::InvalidKey));
        }
        let entry = self.capabilities.kv_get(&key).await;
        if let Ok(Some(entry)) = &entry {
            self.reads.bytes(entry.value.len(), &self.limits)?;
        }
        Ok(entry)
    }

    async fn list(
        &mut self,
        prefix: String,
        cursor: Option<String>,
        limit: u32,
    ) -> wasmtime::Result<Result<kv::Page, kv::Error>> {
        self.reads.kv_read(&self.limits)?;
        if !is_prefix(&prefix) {
            return Ok(Err(kv::Error::InvalidKey));
        }
        let limit = limit.clamp(1, MAX_PAGE_KEYS);
        let page = self
            .capabilities
            .kv_list(&prefix, cursor.as_deref(), limit)
            .await;
        if let Ok(page) = &page {
            let sizes = page.items.iter().map(|i| i.key.len() + i.entry.value.len());
            self.reads.bytes(sizes.sum(), &self.limits)?;
        }
        Ok(page)
    }
}

impl cache::Host for CallState {
    async fn get(
        &mut self,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, cache::Error>> {
        self.reads.cache_call(&self.limits)?;
        if !is_key(&key) {
            return Ok(Err(cache::Error::InvalidKey));
        }
        let value = self.capabilities.cache_get(&key).await;
        if let Ok(Some(value)) = &value {
            self.reads.bytes(value.len(), &self.limits)?;
        }
        Ok(value)
    }

    async fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_seconds: u32,
    ) -> wasmtime::Result<Result<(), cache::Error>> {
        self.reads.cache_call(&self.limits)?;
        if !is_key(&key) {
            return Ok(Err(cache::Error::InvalidKey));
        }
        if value.len() > MAX_VALUE_BYTES {
            return Ok(Err(cache::Error::ValueTooLarge));
        }
        let ttl_seconds = ttl_seconds.clamp(1, MAX_TTL_SECONDS);
        Ok(self.capabilities.cache_set(&key, value, ttl_seconds).await)
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), cache::Error>> {
        self.reads.cache_call(&self.limits)?;
        if !is_key(&key) {
            return Ok(Err(cache::Error::InvalidKey));
        }
        Ok(self.capabilities.cache_delete(&key).await)
    }
}

impl log::Host for CallState {
    fn write(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        self.write_log(level.into(), message);
        Ok(())
    }
}

impl time::Host for CallState {
    fn now_ms(&mut self) -> wasmtime::Result<u64> {
        Ok(self.capabilities.now_ms())
    }
}

impl random::Host for CallState {
    fn bytes(&mut self, length: u32) -> wasmtime::Result<Vec<u8>> {
        let mut bytes = vec![0; length.min(MAX_RANDOM_BYTES) as usize];
        self.capabilities.random(&mut bytes);
        Ok(bytes)
    }

    fn number(&mut self) -> wasmtime::Result<u64> {
        let mut bytes = [0; 8];
        self.capabilities.random(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }
}

// These hold types only.
impl callback::Host for CallState {}
impl reply::Host for CallState {}
impl effects::Host for CallState {}
