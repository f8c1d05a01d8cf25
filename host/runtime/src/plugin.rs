//! A plugin ready to run: compiled code, its imports resolved, its handlers found and type-checked.

use std::marker::PhantomData;

use serde::{Deserialize, Serialize};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Linker, Lower,
    TypedFunc,
};
use wasmtime::{Engine, Store};

use crate::state::CallState;
use crate::{Digest, Outcome, PluginError, callback};

/// A kind of event that a plugin can handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Handler {
    /// Messages of users and events of WeChat.
    Callback,
}

impl Handler {
    /// All kinds.
    pub const ALL: [Self; 1] = [Self::Callback];

    /// The interface that a plugin exports to handle it, without package and version.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Callback => "callback-handler",
        }
    }

    /// Its name, such as `callback`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Callback => "callback",
        }
    }
}

/// A component that is ready to run. Shared by all tenants that deployed the same bytes; what is theirs
/// comes with each call.
pub struct Plugin {
    digest: Digest,
    bytes: usize,
    callback: Option<Export<CallbackExport>>,
}

/// A handler's export has another type than the contract says.
#[derive(Debug, thiserror::Error)]
#[error("the export {interface} does not have the contract's type: {reason}")]
pub(crate) struct ExportMismatch {
    interface: &'static str,
    reason: String,
}

impl Plugin {
    /// Resolves imports, finds the handlers and checks their types.
    pub(crate) fn link(
        digest: Digest,
        component: &Component,
        linker: &Linker<CallState>,
    ) -> Result<Self, LinkError> {
        let pre = linker
            .instantiate_pre(component)
            .map_err(LinkError::Import)?;
        let image = component.image_range();
        Ok(Self {
            digest,
            bytes: image.end as usize - image.start as usize,
            callback: Export::find(&pre)?,
        })
    }

    /// The digest of the component.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// What its code takes of the host's memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it handles such events.
    pub fn handles(&self, handler: Handler) -> bool {
        match handler {
            Handler::Callback => self.callback.is_some(),
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
    /// The interface, of the version that this host was built with.
    const INTERFACE: &'static str;
    /// The function in it.
    const FUNCTION: &'static str;
    type Params<'a>: ComponentNamedList + Lower + Send + Sync;
    type Return: ComponentNamedList + Lift + Send + Sync + 'static;
}

/// `callback-handler.handle`.
pub(crate) struct CallbackExport;

impl HandlerFunction for CallbackExport {
    const INTERFACE: &'static str = "wxhost:plugin/callback-handler@0.1.0";
    const FUNCTION: &'static str = "handle";
    type Params<'a> = (&'a callback::Event,);
    type Return = (Result<Outcome, PluginError>,);
}

/// An exported handler function, found and type-checked once.
pub(crate) struct Export<F> {
    pre: InstancePre<CallState>,
    function: ComponentExportIndex,
    _type: PhantomData<fn() -> F>,
}

impl<F: HandlerFunction> Export<F> {
    /// Looks for the export; `None` when the component does not have it.
    fn find(pre: &InstancePre<CallState>) -> Result<Option<Self>, ExportMismatch> {
        let component = pre.component();
        let Some(interface) = component.get_export_index(None, F::INTERFACE) else {
            return Ok(None);
        };
        let mismatch = |reason: String| ExportMismatch {
            interface: F::INTERFACE,
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
            _type: PhantomData,
        }))
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
