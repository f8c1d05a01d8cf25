//! Guests for tests: small core modules in text form, with the contract embedded as a toolchain would do
//! it, and a world for them to read from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::time::Instant;
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::{PackageId, Resolve, WorldId};

use crate::account::Mode;
use crate::callback::{Content, Event, Text};
use crate::cpu::thread_time;
use crate::{
    AccountInfo, CONTRACT_VERSION, CacheError, Call, CallLimits, CallReport, Capabilities,
    Compiler, KvEntry, KvError, KvItem, KvPage, Outcome, Runtime, RuntimeSettings, TenantPermits,
    contacts, egress, money, orders, pay, wechat_api,
};

/// A core module whose handler is `body`. Bytes 1024 to 4095 are zero, and zeros there are an outcome
/// without reply and effects; what the host hands over comes after.
pub(crate) fn guest(body: &str) -> Vec<u8> {
    guest_with("", body)
}

/// The same with more fields of the module.
pub(crate) fn guest_with(fields: &str, body: &str) -> Vec<u8> {
    let (mut resolve, package) = contract();
    let world = resolve
        .select_world(&[package], Some("callback-plugin"))
        .unwrap();
    embed(&mut resolve, world, &module("", fields, body))
}

/// The same for a guest that was made for WASI: it may print to `$stdout`, and look at its environment
/// and its open directories.
pub(crate) fn wasi_guest(body: &str) -> Vec<u8> {
    let (mut resolve, _) = contract();
    resolve.push_str("wasi.wit", WASI).unwrap();
    let package = resolve
        .push_str("world.wit", &of_this_contract(WASI_WORLD))
        .unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    let fields = r#"(data (i32.const 0) "one\ntwo")"#;
    embed(&mut resolve, world, &module(WASI_IMPORTS, fields, body))
}

/// The same for a guest with a resource of its own, of which it makes one by `$make`.
pub(crate) fn resourceful_guest(body: &str) -> Vec<u8> {
    let (mut resolve, _) = contract();
    let package = resolve
        .push_str("world.wit", &of_this_contract(RESOURCE_WORLD))
        .unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    embed(&mut resolve, world, &module(RESOURCE_IMPORTS, "", body))
}

/// The version that `wit/` says.
pub(crate) fn contract_version() -> String {
    let (resolve, package) = contract();
    let name = &resolve.packages[package].name;
    name.version.as_ref().unwrap().to_string()
}

fn contract() -> (Resolve, PackageId) {
    let mut resolve = Resolve::default();
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
    let (package, _) = resolve.push_path(wit).unwrap();
    (resolve, package)
}

fn embed(resolve: &mut Resolve, world: WorldId, text: &str) -> Vec<u8> {
    let mut module = wat::parse_str(text).unwrap();
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8).unwrap();
    module
}

fn module(imports: &str, fields: &str, body: &str) -> String {
    let text = format!(
        r#"(module
          (import "wxhost:plugin/log@CONTRACT" "write" (func $log (param i32 i32 i32)))
          (import "wxhost:plugin/kv@CONTRACT" "get" (func $kv_get (param i32 i32 i32)))
          (import "wxhost:plugin/kv@CONTRACT" "list"
            (func $kv_list (param i32 i32 i32 i32 i32 i32 i32)))
          (import "wxhost:plugin/cache@CONTRACT" "get" (func $cache_get (param i32 i32 i32)))
          (import "wxhost:plugin/random@CONTRACT" "bytes" (func $random (param i32 i32)))
          (import "wxhost:plugin/contacts@CONTRACT" "get" (func $contact (param i32 i32 i32)))
          (import "wxhost:plugin/wechat-api@CONTRACT" "menu-get" (func $menu (param i32)))
          (import "wxhost:plugin/wechat-api@CONTRACT" "call"
            (func $api (param i32 i32 i32 i32 i32 i32 i32 i32)))
          (import "wxhost:plugin/egress@CONTRACT" "fetch"
            (func $fetch (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
          {imports}
          (memory (export "memory") 32)
          (global $next (mut i32) (i32.const 4096))
          (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
            (local $at i32)
            (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
            (global.set $next (i32.add (local.get $at) (local.get 3)))
            (local.get $at))
          {fields}
          (func $handle (export "wxhost:plugin/callback-handler@CONTRACT#handle") (param i32) (result i32)
            (local $i i32)
            {body}))"#
    );
    of_this_contract(&text)
}

/// A text in which `@CONTRACT` stands for the version.
pub(crate) fn of_this_contract(text: &str) -> String {
    text.replace("@CONTRACT", &format!("@{CONTRACT_VERSION}"))
}

/// The part of WASI that `wasi_guest` uses.
const WASI: &str = r"
    package wasi:all@0.2.0;
    package wasi:io@0.2.0 {
      interface error { resource error; }
      interface poll { resource pollable { block: func(); } }
      interface streams {
        use error.{error};
        variant stream-error { last-operation-failed(error), closed }
        resource output-stream {
          blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
        }
      }
    }
    package wasi:cli@0.2.0 {
      interface stdout {
        use wasi:io/streams@0.2.0.{output-stream};
        get-stdout: func() -> output-stream;
      }
      interface environment { get-environment: func() -> list<tuple<string, string>>; }
      interface exit { exit: func(status: result); }
    }
    package wasi:random@0.2.0 {
      interface random { get-random-bytes: func(length: u64) -> list<u8>; }
    }
    package wasi:clocks@0.2.0 {
      interface monotonic-clock {
        use wasi:io/poll@0.2.0.{pollable};
        subscribe-duration: func(nanoseconds: u64) -> pollable;
      }
    }
    package wasi:sockets@0.2.0 {
      interface network {
        resource network;
        enum error-code {
          unknown, access-denied, not-supported, invalid-argument, out-of-memory, timeout,
          concurrency-conflict, not-in-progress, would-block, invalid-state, new-socket-limit,
          address-not-bindable, address-in-use, remote-unreachable, connection-refused,
          connection-reset, connection-aborted, datagram-too-large, name-unresolvable,
          temporary-resolver-failure, permanent-resolver-failure,
        }
        enum ip-address-family { ipv4, ipv6 }
      }
      interface instance-network {
        use network.{network};
        instance-network: func() -> network;
      }
      interface ip-name-lookup {
        use network.{network, error-code};
        resource resolve-address-stream;
        resolve-addresses: func(network: borrow<network>, name: string)
          -> result<resolve-address-stream, error-code>;
      }
      interface tcp { resource tcp-socket; }
      interface tcp-create-socket {
        use network.{error-code, ip-address-family};
        use tcp.{tcp-socket};
        create-tcp-socket: func(address-family: ip-address-family) -> result<tcp-socket, error-code>;
      }
    }
    package wasi:filesystem@0.2.0 {
      interface types { resource descriptor; }
      interface preopens {
        use types.{descriptor};
        get-directories: func() -> list<tuple<descriptor, string>>;
      }
    }";

const WASI_WORLD: &str = "
    package test:wasi;
    world wasi-plugin {
      include wxhost:plugin/callback-plugin@CONTRACT;
      import wasi:cli/stdout@0.2.0;
      import wasi:cli/environment@0.2.0;
      import wasi:cli/exit@0.2.0;
      import wasi:filesystem/preopens@0.2.0;
      import wasi:random/random@0.2.0;
      import wasi:clocks/monotonic-clock@0.2.0;
      import wasi:sockets/instance-network@0.2.0;
      import wasi:sockets/ip-name-lookup@0.2.0;
      import wasi:sockets/tcp-create-socket@0.2.0;
    }";

const WASI_IMPORTS: &str = r#"
    (import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
    (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush"
      (func $print (param i32 i32 i32 i32)))
    (import "wasi:cli/environment@0.2.0" "get-environment" (func $environment (param i32)))
    (import "wasi:cli/exit@0.2.0" "exit" (func $exit (param i32)))
    (import "wasi:filesystem/preopens@0.2.0" "get-directories" (func $directories (param i32)))
    (import "wasi:random/random@0.2.0" "get-random-bytes" (func $wasi_random (param i64 i32)))
    (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration"
      (func $timer (param i64) (result i32)))
    (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
    (import "wasi:sockets/instance-network@0.2.0" "instance-network" (func $network (result i32)))
    (import "wasi:sockets/ip-name-lookup@0.2.0" "resolve-addresses"
      (func $resolve (param i32 i32 i32 i32)))
    (import "wasi:sockets/tcp-create-socket@0.2.0" "create-tcp-socket"
      (func $tcp (param i32 i32)))"#;

const RESOURCE_WORLD: &str = "
    package test:things;
    interface things { resource thing; }
    world resourceful-plugin {
      include wxhost:plugin/callback-plugin@CONTRACT;
      export things;
    }";

const RESOURCE_IMPORTS: &str = r#"
    (import "[export]test:things/things" "[resource-new]thing" (func $make (param i32) (result i32)))"#;

/// A body that does something `times` times and answers nothing.
pub(crate) fn repeat(times: u32, action: &str) -> String {
    format!(
        "(loop $again
           {action}
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $again (i32.lt_u (local.get $i) (i32.const {times}))))
         (i32.const 1024)"
    )
}

/// Whose uploads those of tests are.
pub(crate) const TENANT: &str = "tenant";

/// A runtime for tests, with a directory of its own.
pub(crate) struct Bench {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) directory: TempDir,
}

/// Starts a runtime that compiles in this process.
pub(crate) fn bench() -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let runtime = Runtime::new(settings(&directory)).unwrap();
    Bench { runtime, directory }
}

pub(crate) fn settings(directory: &TempDir) -> RuntimeSettings {
    let native = directory.path().join("native");
    let mut settings = RuntimeSettings::new(native, [7; 32], Compiler::InProcess);
    settings.max_concurrent_calls = 2;
    settings
}

impl Bench {
    /// Deploys a guest and lets it handle a text, under the usual limits.
    pub(crate) async fn run(&self, guest: Vec<u8>) -> CallReport<Outcome> {
        self.run_with(guest, call(World::default())).await
    }

    pub(crate) async fn run_with(&self, guest: Vec<u8>, call: Call) -> CallReport<Outcome> {
        let digest = self.runtime.check(guest, TENANT).await.unwrap().digest;
        let plugin = self.runtime.loaded(&digest).unwrap();
        self.runtime
            .call_callback(&plugin, call, &text("hello"))
            .await
    }
}

/// A call with time enough.
pub(crate) fn call(world: World) -> Call {
    Call {
        tenant: Arc::new(TenantPermits::new(2, 2)),
        capabilities: Arc::new(world),
        limits: CallLimits::default(),
        deadline: Instant::now() + Duration::from_secs(10),
    }
}

/// A text message.
pub(crate) fn text(content: &str) -> Event {
    Event {
        id: "m:1".into(),
        open_id: "o1".into(),
        create_time: 1,
        content: Content::Text(Text {
            content: content.into(),
            menu_id: None,
        }),
        extra: Vec::new(),
    }
}

/// What guests of tests can read.
#[derive(Default)]
pub(crate) struct World {
    /// The size of every KV value.
    pub(crate) value_bytes: usize,
    /// KV never answers.
    pub(crate) silent: bool,
    /// How long KV takes to answer.
    pub(crate) delay: Duration,
    /// The size of what WeChat's API and other systems answer.
    pub(crate) answer_bytes: usize,
    /// How much processor time KV takes to answer.
    pub(crate) toil: Duration,
    /// The most random bytes that were asked for at once.
    pub(crate) random_bytes: Arc<AtomicU32>,
    /// How often random bytes were asked for.
    pub(crate) random_draws: Arc<AtomicU32>,
}

#[async_trait]
impl Capabilities for World {
    fn account(&self) -> AccountInfo {
        AccountInfo {
            app_id: "wx1".into(),
            original_id: "gh_1".into(),
            name: String::new(),
            mode: Mode::Safe,
        }
    }

    fn config(&self) -> &str {
        "{}"
    }

    fn has_secret(&self, _name: &str) -> bool {
        false
    }

    async fn kv_get(&self, _key: &str) -> Result<Option<KvEntry>, KvError> {
        if self.silent {
            std::future::pending::<()>().await;
        }
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        let end = thread_time() + self.toil;
        while thread_time() < end {}
        Ok(Some(KvEntry {
            value: vec![0; self.value_bytes],
            version: 1,
        }))
    }

    async fn kv_list(&self, _: &str, _: Option<&str>, limit: u32) -> Result<KvPage, KvError> {
        let items = (0..limit).map(|number| KvItem {
            key: format!("{number:04}"),
            entry: KvEntry {
                value: vec![0; self.value_bytes],
                version: 1,
            },
        });
        Ok(KvPage {
            items: items.collect(),
            next: None,
        })
    }

    async fn cache_get(&self, _key: &str) -> Result<Option<Vec<u8>>, CacheError> {
        Ok(None)
    }

    async fn cache_set(&self, _: &str, _: Vec<u8>, _: u32) -> Result<(), CacheError> {
        Ok(())
    }

    async fn cache_delete(&self, _key: &str) -> Result<(), CacheError> {
        Ok(())
    }

    async fn contact(&self, open_id: &str) -> Result<Option<contacts::Contact>, contacts::Error> {
        Ok(Some(contacts::Contact {
            open_id: open_id.into(),
            union_id: None,
            following: Some(true),
            first_seen_ms: 1,
            followed_ms: None,
            unfollowed_ms: None,
            qr_scene: None,
            last: contacts::Interactions {
                message: Some(1),
                menu: None,
                scan: None,
                follow: None,
                payment: None,
            },
            tags: Vec::new(),
            remark: String::new(),
            attributes: "{}".into(),
            opted_out: false,
        }))
    }

    async fn user_info(&self, _open_id: &str) -> Result<wechat_api::User, wechat_api::Error> {
        Err(wechat_api::Error::Unavailable)
    }

    async fn menu(&self) -> Result<String, wechat_api::Error> {
        Ok(" ".repeat(self.answer_bytes))
    }

    async fn quota(&self, _cgi_path: &str) -> Result<wechat_api::Quota, wechat_api::Error> {
        Err(wechat_api::Error::Unavailable)
    }

    async fn api_call(&self, _: wechat_api::Request) -> Result<String, wechat_api::Error> {
        Ok(" ".repeat(self.answer_bytes))
    }

    async fn fetch(&self, _: egress::Request) -> Result<egress::Response, egress::Error> {
        Ok(egress::Response {
            status: 200,
            headers: Vec::new(),
            body: vec![0; self.answer_bytes],
        })
    }

    async fn create_order(&self, _: pay::OrderRequest) -> Result<pay::Placed, pay::Error> {
        Err(pay::Error::Unavailable)
    }

    async fn query_order(&self, _: &str) -> Result<money::Order, pay::Error> {
        Err(pay::Error::Unavailable)
    }

    async fn order(&self, _: &str) -> Result<Option<money::Order>, orders::Error> {
        Ok(None)
    }

    async fn orders(&self, _: &str, _: u32) -> Result<Vec<money::Order>, orders::Error> {
        Ok(Vec::new())
    }

    async fn order_refunds(&self, _: &str) -> Result<Vec<money::Refund>, orders::Error> {
        Ok(Vec::new())
    }

    fn now_ms(&self) -> u64 {
        1_700_000_000_000
    }

    fn random(&self, bytes: &mut [u8]) {
        self.random_bytes
            .fetch_max(bytes.len() as u32, Ordering::Relaxed);
        self.random_draws.fetch_add(1, Ordering::Relaxed);
        bytes.fill(4);
    }
}
