//! The floor under a call: the same component and the same engine settings, but nothing around them.
//! No permits, limits, deadlines, capabilities or judgement; imports answer from constants.

use std::time::{Duration, Instant};

use wasmtime::Result;
use wasmtime::component::{
    Component, ComponentExportIndex, HasSelf, Instance, InstancePre, Linker, TypedFunc,
};
use wasmtime::error::Context as _;
use wasmtime::{Engine, Store};

use bindings::CallbackPlugin;
use bindings::exports::wxhost::plugin::callback_handler::Outcome;
use bindings::wxhost::plugin::{
    account, cache, callback, config, contacts, effects, egress, failure, kv, log, messages, money,
    orders, pay, random, reply, time, wechat_api,
};
use failure::PluginError;
use wxhost_runtime::Handler;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "callback-plugin",
        exports: { default: async },
    });
}

type Handle<'a> = TypedFunc<(&'a callback::Event,), (Result<Outcome, PluginError>,)>;

/// A component, ready to be instantiated by bare wasmtime.
pub(crate) struct Floor {
    engine: Engine,
    pre: InstancePre<Bare>,
    handle: ComponentExportIndex,
    event: callback::Event,
}

/// The parts of one call.
#[derive(Default, Clone, Copy)]
pub(crate) struct Parts {
    pub(crate) store: Duration,
    pub(crate) instantiate: Duration,
    pub(crate) call: Duration,
    pub(crate) drop: Duration,
}

impl Floor {
    /// Prepares a component, and the text that it will get.
    pub(crate) fn new(engine: &Engine, component: &[u8], text: &str) -> Result<Self> {
        let mut linker = Linker::new(engine);
        CallbackPlugin::add_to_linker::<_, HasSelf<_>>(&mut linker, |bare| bare)?;
        let component = Component::new(engine, component)?;
        let interface = component
            .get_export_index(None, Handler::Callback.export_name())
            .context("no handler")?;
        let handle = component
            .get_export_index(Some(&interface), "handle")
            .context("no function")?;
        Ok(Self {
            engine: engine.clone(),
            pre: linker.instantiate_pre(&component)?,
            handle,
            event: event(text),
        })
    }

    /// A fresh store and instance, one call; gives the length of the reply.
    pub(crate) async fn call(&self) -> Result<usize> {
        let mut store = self.store();
        let plugin = self.pre.instantiate_async(&mut store).await?;
        self.handle(&mut store, plugin).await
    }

    /// The same with a watch in hand.
    pub(crate) async fn call_in_parts(&self) -> Result<Parts> {
        let begun = Instant::now();
        let mut store = self.store();
        let stored = Instant::now();
        let plugin = self.pre.instantiate_async(&mut store).await?;
        let instantiated = Instant::now();
        self.handle(&mut store, plugin).await?;
        let called = Instant::now();
        drop(store);
        Ok(Parts {
            store: stored - begun,
            instantiate: instantiated - stored,
            call: called - instantiated,
            drop: called.elapsed(),
        })
    }

    fn store(&self) -> Store<Bare> {
        let mut store = Store::new(&self.engine, Bare);
        store.set_epoch_deadline(u64::MAX / 2);
        store
    }

    async fn handle(&self, store: &mut Store<Bare>, plugin: Instance) -> Result<usize> {
        let function = plugin
            .get_func(&mut *store, self.handle)
            .context("no function")?;
        #[expect(
            unsafe_code,
            reason = "to compare the types again costs more than the call: no floor"
        )]
        // SAFETY: the types are those that the component's WIT was generated from, and the answer is
        // looked at below.
        let function: Handle<'_> = unsafe { TypedFunc::new_unchecked(function) };
        let (outcome,) = function.call_async(store, (&self.event,)).await?;
        match outcome {
            Ok(outcome) => match outcome.reply {
                Some(reply::Reply::Text(text)) => Ok(text.len()),
                other => wasmtime::bail!("the plugin answered {other:?}"),
            },
            Err(error) => wasmtime::bail!("the plugin failed: {error:?}"),
        }
    }
}

fn event(text: &str) -> callback::Event {
    callback::Event {
        id: "m:23456789012345678".into(),
        open_id: "oBench0000000000000000000001".into(),
        create_time: 1_700_000_000,
        content: callback::Content::Text(callback::Text {
            content: text.into(),
            menu_id: None,
        }),
        extra: vec![callback::Field {
            path: "MsgId".into(),
            value: "23456789012345678".into(),
        }],
    }
}

/// Answers every import with next to nothing.
struct Bare;

impl callback::Host for Bare {}

impl effects::Host for Bare {}

impl failure::Host for Bare {}

impl messages::Host for Bare {}

impl reply::Host for Bare {}

impl account::Host for Bare {
    fn get(&mut self) -> account::Info {
        account::Info {
            app_id: String::new(),
            original_id: String::new(),
            name: String::new(),
            mode: account::Mode::Plain,
        }
    }
}

impl config::Host for Bare {
    fn get(&mut self) -> String {
        "{}".into()
    }

    fn has_secret(&mut self, _: String) -> bool {
        false
    }
}

impl kv::Host for Bare {
    fn get(&mut self, _: String) -> Result<Option<kv::Entry>, kv::Error> {
        Ok(None)
    }

    fn list(&mut self, _: String, _: Option<String>, _: u32) -> Result<kv::Page, kv::Error> {
        Ok(kv::Page {
            items: Vec::new(),
            next: None,
        })
    }
}

impl cache::Host for Bare {
    fn get(&mut self, _: String) -> Result<Option<Vec<u8>>, cache::Error> {
        Ok(None)
    }

    fn set(&mut self, _: String, _: Vec<u8>, _: u32) -> Result<(), cache::Error> {
        Ok(())
    }

    fn delete(&mut self, _: String) -> Result<(), cache::Error> {
        Ok(())
    }
}

impl contacts::Host for Bare {
    fn get(&mut self, _: String) -> Result<Option<contacts::Contact>, contacts::Error> {
        Ok(None)
    }
}

impl wechat_api::Host for Bare {
    fn user_info(&mut self, _: String) -> Result<wechat_api::User, wechat_api::Error> {
        Err(wechat_api::Error::Unavailable)
    }

    fn menu_get(&mut self) -> Result<String, wechat_api::Error> {
        Err(wechat_api::Error::Unavailable)
    }

    fn quota_get(&mut self, _: String) -> Result<wechat_api::Quota, wechat_api::Error> {
        Err(wechat_api::Error::Unavailable)
    }

    fn call(&mut self, _: wechat_api::Request) -> Result<String, wechat_api::Error> {
        Err(wechat_api::Error::Unavailable)
    }
}

impl egress::Host for Bare {
    fn fetch(&mut self, _: egress::Request) -> Result<egress::Response, egress::Error> {
        Err(egress::Error::Unreachable)
    }
}

impl money::Host for Bare {}

impl pay::Host for Bare {
    fn create_order(&mut self, _: pay::OrderRequest) -> Result<pay::Placed, pay::Error> {
        Err(pay::Error::Unavailable)
    }

    fn query(&mut self, _: String) -> Result<money::Order, pay::Error> {
        Err(pay::Error::Unavailable)
    }
}

impl orders::Host for Bare {
    fn get(&mut self, _: String) -> Result<Option<money::Order>, orders::Error> {
        Err(orders::Error::Unavailable)
    }

    fn list(&mut self, _: String, _: u32) -> Result<Vec<money::Order>, orders::Error> {
        Err(orders::Error::Unavailable)
    }

    fn refunds(&mut self, _: String) -> Result<Vec<money::Refund>, orders::Error> {
        Err(orders::Error::Unavailable)
    }
}

impl log::Host for Bare {
    fn write(&mut self, _: log::Level, _: String) {}
}

impl time::Host for Bare {
    fn now_ms(&mut self) -> u64 {
        0
    }
}

impl random::Host for Bare {
    fn bytes(&mut self, length: u32) -> Vec<u8> {
        vec![0; length as usize]
    }

    fn number(&mut self) -> u64 {
        0
    }
}
