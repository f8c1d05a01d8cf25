//! Why an upload does not become a plugin. Every sentence says what to change.

use serde::{Deserialize, Serialize};

use crate::contract::{CONTRACT_VERSION, Handler, MANIFEST_SECTION, PACKAGE, SCHEMA_SECTION};
use crate::log::cut;

/// What a refusal quotes of an upload, in bytes.
const MAX_QUOTED_BYTES: usize = 2 << 10;
/// What it quotes of one name.
const MAX_NAME_BYTES: usize = 128;
/// Imports that are told at once.
const MAX_IMPORTS_TOLD: usize = 16;

/// The largest configuration schema.
pub(crate) const MAX_SCHEMA_BYTES: usize = 64 << 10;

/// Why an upload is refused. The text says what to change.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DeployError {
    /// Too many bytes.
    #[error("the upload has {bytes} bytes; {limit} are allowed")]
    TooLarge {
        /// What it has.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// Native code. Running it would mean to trust it.
    #[error("the upload is precompiled native code; upload the WebAssembly component itself")]
    Precompiled,
    /// Not WebAssembly at all.
    #[error("the upload is not a WebAssembly component")]
    NotWasm,
    /// A core module that cannot be made into a component.
    #[error(
        "the upload is a core module and cannot be made into a component: {0}; build it for \
         wasm32-wasip2, or with bindings of wxhost's WIT for wasm32-unknown-unknown"
    )]
    NotAComponent(String),
    /// A core module that was built for the WASI before components.
    #[error(
        "the upload is a core module that imports {0} (WASI preview 1): link it to the adapter with \
         `wasm-tools component new plugin.wasm --adapt \
         wasi_snapshot_preview1=wasi_snapshot_preview1.reactor.wasm`, or build it for wasm32-wasip2"
    )]
    NeedsAdapter(String),
    /// Malformed, or uses proposals that are switched off.
    #[error("the upload is not valid WebAssembly: {0}")]
    Invalid(String),
    /// Wants what is not offered.
    #[error("the plugin imports what this host does not offer: {}{}", .0.join(", "), advice(.0))]
    ImportNotOffered(Vec<String>),
    /// Made for another version of the contract.
    #[error(
        "the plugin was built for {interface}; this host offers {PACKAGE} {CONTRACT_VERSION}: rebuild it \
         with that version of the SDK"
    )]
    ContractVersion {
        /// The interface, with the version that it asks for.
        interface: String,
    },
    /// Handles nothing.
    #[error(
        "the plugin handles nothing: it must export at least one of {}",
        handler_names()
    )]
    NoHandler,
    /// Imports or exports have the right name and another type.
    #[error("the plugin does not fit the contract {PACKAGE} {CONTRACT_VERSION}: {0}")]
    TypeMismatch(String),
    /// Needs more than a slot of the pool has, or than may be spent on one plugin.
    #[error("the plugin needs more than the host gives to one: {0}")]
    TooDemanding(String),
    /// Its configuration schema cannot be read.
    #[error(
        "the section {SCHEMA_SECTION} is not a JSON document of at most {MAX_SCHEMA_BYTES} bytes"
    )]
    BadConfigSchema,
    /// Its manifest cannot be read, or says what is not so.
    #[error("the plugin's manifest (plugin.toml, section {MANIFEST_SECTION}) is not valid: {0}")]
    BadManifest(String),
    /// It could not be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
}

fn handler_names() -> String {
    Handler::ALL.map(Handler::export_name).join(", ")
}

/// How to get rid of imports that a language's tools bring along.
fn advice(imports: &[String]) -> &'static str {
    if imports
        .iter()
        .any(|import| import.starts_with("wasi:http/"))
    {
        "; wasi:http comes with JavaScript's tools unless they are told not to: \
         componentize(source, { disableFeatures: ['http', 'fetch-event'] }), or `jco componentize \
         --disable http --disable fetch-event`. HTTP to the tenant's own systems goes by wxhost:plugin/egress"
    } else {
        ""
    }
}

impl DeployError {
    /// The same, with what it quotes of the upload cut: names in a component may have megabytes.
    pub(crate) fn cut(mut self) -> Self {
        match &mut self {
            Self::NotAComponent(text)
            | Self::NeedsAdapter(text)
            | Self::Invalid(text)
            | Self::ContractVersion { interface: text }
            | Self::TypeMismatch(text)
            | Self::TooDemanding(text)
            | Self::BadManifest(text)
            | Self::Compile(CompileError::Refused(text)) => cut(text, MAX_QUOTED_BYTES),
            Self::ImportNotOffered(imports) => {
                let more = imports.len().saturating_sub(MAX_IMPORTS_TOLD);
                imports.truncate(MAX_IMPORTS_TOLD);
                for import in imports.iter_mut() {
                    cut(import, MAX_NAME_BYTES);
                }
                if more > 0 {
                    imports.push(format!("and {more} more"));
                }
            }
            Self::TooLarge { .. }
            | Self::Precompiled
            | Self::NotWasm
            | Self::NoHandler
            | Self::BadConfigSchema
            | Self::Compile(_) => {}
        }
        self
    }

    /// A stable code, such as `import-not-offered`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "plugin-too-large",
            Self::Precompiled => "plugin-precompiled",
            Self::NotWasm => "plugin-not-wasm",
            Self::NotAComponent(_) => "plugin-not-a-component",
            Self::NeedsAdapter(_) => "plugin-needs-adapter",
            Self::Invalid(_) => "plugin-invalid",
            Self::ImportNotOffered(_) => "import-not-offered",
            Self::ContractVersion { .. } => "contract-version",
            Self::NoHandler => "no-handler",
            Self::TypeMismatch(_) => "contract-mismatch",
            Self::TooDemanding(_) => "plugin-too-demanding",
            Self::BadConfigSchema => "bad-config-schema",
            Self::BadManifest(_) => "bad-manifest",
            Self::Compile(error) => error.code(),
        }
    }

    /// Whether the host is at fault rather than the upload.
    pub fn is_internal(&self) -> bool {
        matches!(self, Self::Compile(CompileError::Failed(_)))
    }

    /// Whether the host is too busy to tell: the same upload may do later.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Compile(CompileError::Busy))
    }
}

/// Why the host's limited child has no answer.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize)]
pub enum CompileError {
    /// The component is at fault.
    #[error("the plugin cannot be compiled: {0}")]
    Refused(String),
    /// The component asks too much of the compiler.
    #[error("the plugin cannot be compiled within the host's limits: {0}")]
    Limit(String),
    /// The compiler gave up on it, which is a fault of the compiler. What it said is in the host's log.
    #[error(
        "the plugin cannot be compiled: the compiler has a fault that this component meets; another \
         version of your tools may help"
    )]
    Crashed,
    /// Too many uploads wait.
    #[error("too many uploads wait to be compiled; try again later")]
    Busy,
    /// The host is at fault.
    #[error("the host could not compile the plugin: {0}")]
    Failed(String),
}

impl CompileError {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(_) => "plugin-invalid",
            Self::Limit(_) => "plugin-too-demanding",
            Self::Crashed => "compiler-crashed",
            Self::Busy => "compiler-busy",
            Self::Failed(_) => "compiler-failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_end_are_not_repeated() {
        let long = "x".repeat(1 << 20);
        let imports = vec![long.clone(); 1000];
        for refusal in [
            DeployError::ImportNotOffered(imports),
            DeployError::TypeMismatch(long.clone()),
            DeployError::ContractVersion { interface: long },
        ] {
            let told = refusal.cut().to_string();
            assert!(told.len() < 8 << 10, "{} bytes", told.len());
        }
    }
}
