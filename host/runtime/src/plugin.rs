//! A plugin ready to run: compiled code, its imports resolved, its handlers found and type-checked.

use std::marker::PhantomData;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Linker, Lower,
    TypedFunc,
};
use wasmtime::{Engine, Store};

use crate::contract::Handler;
use crate::state::CallState;
use crate::{Digest, Outcome, PluginError, callback, login, payment, push};

/// A component that is ready to run. Shared by all tenants that deployed the same bytes; what is theirs
/// comes with each call.
pub struct Plugin {
    digest: Digest,
    bytes: usize,
    callback: Option<Export<CallbackExport>>,
    push: Option<Export<PushExport>>,
    login: Option<Export<LoginExport>>,
    payment: Option<Export<PaymentExport>>,
}

/// What was counted of a component before it was compiled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// What it takes of the host's memory beside its native code.
    pub(crate) loaded_bytes: usize,
    /// What an instance takes before any meter of memory is asked.
    pub(crate) instance_bytes: usize,
}

/// A handler's export has another type than the contract says.
#[derive(Debug, thiserror::Error)]
#[error("the export {interface} does not have the contract's type: {reason}")]
pub(crate) struct ExportMismatch {
    interface: String,
    reason: String,
}

impl Plugin {
    /// Resolves imports, finds the handlers and checks their types.
    pub(crate) fn link(
        digest: Digest,
        component: &Component,
        sizes: Sizes,
        linker: &Linker<CallState>,
    ) -> Result<Self, LinkError> {
        let pre = linker
            .instantiate_pre(component)
            .map_err(LinkError::Import)?;
        let image = component.image_range();
        Ok(Self {
            digest,
            bytes: (image.end as usize - image.start as usize).saturating_add(sizes.loaded_bytes),
            callback: Export::find(&pre, sizes.instance_bytes)?,
            push: Export::find(&pre, sizes.instance_bytes)?,
            login: Export::find(&pre, sizes.instance_bytes)?,
            payment: Export::find(&pre, sizes.instance_bytes)?,
        })
    }

    /// The digest of the component.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// About what it takes of the host's memory while it is loaded, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it handles such events.
    pub fn handles(&self, handler: Handler) -> bool {
        match handler {
            Handler::Callback => self.callback.is_some(),
            Handler::Push => self.push.is_some(),
            Handler::Login => self.login.is_some(),
            Handler::Payment => self.payment.is_some(),
        }
    }

    /// All that it handles.
    pub fn handlers(&self) -> Vec<Handler> {
        Handler::ALL
            .into_iter()
            .filter(|h| self.handles(*h))
            .collect()
    }

    pub(crate) fn callback(&self) -> Option<&Export<CallbackExport>> {
        self.callback.as_ref()
    }

    pub(crate) fn push(&self) -> Option<&Export<PushExport>> {
        self.push.as_ref()
    }

    pub(crate) fn login(&self) -> Option<&Export<LoginExport>> {
        self.login.as_ref()
    }

    pub(crate) fn payment(&self) -> Option<&Export<PaymentExport>> {
        self.payment.as_ref()
    }
}

/// Why a component cannot be linked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("{0:#}")]
    Import(wasmtime::Error),
    #[error(transparent)]
    Export(#[from] ExportMismatch),
}

/// A handler function of the contract: where a component exports it, and its type.
pub(crate) trait HandlerFunction {
    /// Whose interface it is in.
    const HANDLER: Handler;
    /// The function in it.
    const FUNCTION: &'static str;
    type Params<'a>: ComponentNamedList + Lower + Send + Sync;
    type Return: ComponentNamedList + Lift + Send + Sync + 'static;
}

/// `callback-handler.handle`.
pub(crate) struct CallbackExport;

impl HandlerFunction for CallbackExport {
    const HANDLER: Handler = Handler::Callback;
    const FUNCTION: &'static str = "handle";
    type Params<'a> = (&'a callback::Event,);
    type Return = (Result<Outcome, PluginError>,);
}

/// `push-handler.compose`.
pub(crate) struct PushExport;

impl HandlerFunction for PushExport {
    const HANDLER: Handler = Handler::Push;
    const FUNCTION: &'static str = "compose";
    type Params<'a> = (&'a push::Push, &'a [push::Recipient]);
    type Return = (Result<Vec<push::Composition>, PluginError>,);
}

/// `login-handler.decide`.
pub(crate) struct LoginExport;

impl HandlerFunction for LoginExport {
    const HANDLER: Handler = Handler::Login;
    const FUNCTION: &'static str = "decide";
    type Params<'a> = (&'a login::Login,);
    type Return = (Result<login::Verdict, PluginError>,);
}

/// `payment-handler.handle`.
pub(crate) struct PaymentExport;

impl HandlerFunction for PaymentExport {
    const HANDLER: Handler = Handler::Payment;
    const FUNCTION: &'static str = "handle";
    type Params<'a> = (&'a payment::Event,);
    type Return = (Result<payment::Outcome, PluginError>,);
}

/// An exported handler function, found and type-checked once.
pub(crate) struct Export<F> {
    pre: InstancePre<CallState>,
    function: ComponentExportIndex,
    instance_bytes: usize,
    _type: PhantomData<fn() -> F>,
}

impl<F: HandlerFunction> Export<F> {
    /// Looks for the export; `None` when the component does not have it.
    fn find(
        pre: &InstancePre<CallState>,
        instance_bytes: usize,
    ) -> Result<Option<Self>, ExportMismatch> {
        let component = pre.component();
        let name = F::HANDLER.export_name();
        let Some(interface) = component.get_export_index(None, &name) else {
            return Ok(None);
        };
        let mismatch = |reason: String| ExportMismatch {
            interface: name.clone(),
            reason,
        };
        let Some((ComponentItem::ComponentFunc(found), function)) =
            component.get_export(Some(&interface), F::FUNCTION)
        else {
            return Err(mismatch(format!("there is no function {}", F::FUNCTION)));
        };
        found
            .typecheck::<F::Params<'static>, F::Return>(&pre.instance_type())
            .map_err(|error| mismatch(format!("{error:#}")))?;
        Ok(Some(Self {
            pre: pre.clone(),
            function,
            instance_bytes,
            _type: PhantomData,
        }))
    }

    /// What an instance takes of the host's memory before any meter of memory is asked.
    pub(crate) fn instance_bytes(&self) -> usize {
        self.instance_bytes
    }

    /// Makes a fresh instance in `store` and calls the function.
    pub(crate) async fn call(
        &self,
        store: &mut Store<CallState>,
        params: F::Params<'_>,
    ) -> wasmtime::Result<F::Return> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        let Some(function) = instance.get_func(&mut *store, self.function) else {
            return Err(wasmtime::Error::msg("the instance lacks its own export"));
        };
        #[expect(
            unsafe_code,
            reason = "wasmtime would compare the whole type again on every instance, which costs more \
                      than the call"
        )]
        // SAFETY: `find` has compared this very export's type with `Params` and `Return`; the index
        // belongs to the component of `pre`, and all of its instances share its types.
        let function = unsafe { TypedFunc::<F::Params<'_>, F::Return>::new_unchecked(function) };
        function.call_async(store, params).await
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.pre.engine()
    }
}
