//! The deploy check: what may become a plugin. Everything here works on bytes; nothing is compiled or run
//! before it has passed.

use std::collections::BTreeSet;

use wasmparser::{ComponentExternalKind, Parser, Payload, Validator};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::compile::CompileError;
use crate::engine::{MEMORIES_PER_COMPONENT, TABLE_ELEMENTS, TABLES_PER_COMPONENT};
use crate::limits::MAX_MEMORY_BYTES;
use crate::{Digest, Handler, Manifest, imports, wasi};

/// The largest upload. A JavaScript plugin with its engine has 12 MiB, a Python one 18 MiB; a Rust one
/// has 0.02.
pub const MAX_UPLOAD_BYTES: usize = 32 << 20;
/// The largest configuration schema.
const MAX_SCHEMA_BYTES: usize = 64 << 10;
/// The custom section that carries a plugin's configuration schema.
const SCHEMA_SECTION: &str = "wxhost:config-schema";
/// The custom section that carries a plugin's manifest.
const MANIFEST_SECTION: &str = "wxhost:plugin";

/// The package of the contract.
const PACKAGE: &str = "wxhost:plugin";
/// The version of the contract that this host offers.
const CONTRACT_VERSION: &str = "0.1.0";
/// The version line of WASI that this host offers a part of.
const WASI_LINE: (u64, u64) = (0, 2);

/// A component that passed the check.
#[derive(Debug, Clone)]
pub struct CheckedPlugin {
    /// The digest of `component`.
    pub digest: Digest,
    /// What is to be stored: the upload itself, or the component made of an uploaded core module.
    pub component: Vec<u8>,
    /// What it handles; never empty.
    pub handlers: Vec<Handler>,
    /// What it imports, such as `wxhost:plugin/kv@0.1.0`.
    pub imports: Vec<String>,
    /// What it says of itself and asks for, if it says anything.
    pub manifest: Option<Manifest>,
    /// The JSON Schema of its configuration, if it carries one: valid JSON, not yet a valid schema.
    pub config_schema: Option<String>,
}

/// Why an upload is refused. The text says what to change.
#[derive(Debug, Clone, thiserror::Error)]
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
    /// Malformed, or uses proposals that are switched off.
    #[error("the upload is not valid WebAssembly: {0}")]
    Invalid(String),
    /// Wants what is not offered.
    #[error("the plugin imports what this host does not offer: {}", .0.join(", "))]
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
    /// Needs more than a slot of the pool has.
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
    let names = Handler::ALL.map(|h| format!("{PACKAGE}/{}@{CONTRACT_VERSION}", h.interface()));
    names.join(", ")
}

impl DeployError {
    /// A stable code, such as `import-not-offered`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "plugin-too-large",
            Self::Precompiled => "plugin-precompiled",
            Self::NotWasm => "plugin-not-wasm",
            Self::NotAComponent(_) => "plugin-not-a-component",
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
}

/// Checks an upload's bytes; turns a core module into a component.
pub(crate) fn inspect(engine: &Engine, upload: Vec<u8>) -> Result<CheckedPlugin, DeployError> {
    if upload.len() > MAX_UPLOAD_BYTES {
        return Err(DeployError::TooLarge {
            bytes: upload.len(),
            limit: MAX_UPLOAD_BYTES,
        });
    }
    if Engine::detect_precompiled(&upload).is_some() {
        return Err(DeployError::Precompiled);
    }
    let features = engine.get_wasm_features();
    let component = into_component(upload)?;
    Validator::new_with_features(features)
        .validate_all(&component)
        .map_err(|error| DeployError::Invalid(error.to_string()))?;
    let found = scan(&component).map_err(|error| DeployError::Invalid(error.to_string()))?;
    check_imports(&found.imports)?;
    let handlers = find_handlers(&found.exports)?;
    if let Some(schema) = &found.schema {
        check_schema(schema)?;
    }
    let manifest = found.manifest.as_deref().map(Manifest::parse).transpose();
    let manifest = manifest.map_err(DeployError::BadManifest)?;
    if let Some(manifest) = &manifest {
        check_manifest(manifest, &handlers, found.schema.is_some())?;
    }
    Ok(CheckedPlugin {
        digest: Digest::of(&component),
        component,
        handlers,
        imports: found.imports,
        manifest,
        config_schema: found.schema,
    })
}

/// Checks what only compiled code tells: that it fits into a slot of the pool.
pub(crate) fn check_demands(component: &Component) -> Result<(), DeployError> {
    let demanding = |what: String| Err(DeployError::TooDemanding(what));
    let Some(needs) = component.resources_required() else {
        return Err(DeployError::ImportNotOffered(vec!["a core module".into()]));
    };
    if needs.num_memories > MEMORIES_PER_COMPONENT {
        let has = needs.num_memories;
        return demanding(format!("{has} memories; {MEMORIES_PER_COMPONENT} at most"));
    }
    if needs.num_tables > TABLES_PER_COMPONENT {
        let has = needs.num_tables;
        return demanding(format!("{has} tables; {TABLES_PER_COMPONENT} at most"));
    }
    // Wasmtime documents pages; multiply late, so that neither reading can wrap.
    let memory_bytes = u128::from(needs.max_initial_memory_size.unwrap_or(0)) * (64 << 10);
    if memory_bytes > MAX_MEMORY_BYTES as u128 {
        return demanding(format!(
            "{memory_bytes} bytes of memory to begin with; {MAX_MEMORY_BYTES} at most"
        ));
    }
    let elements = needs.max_initial_table_size.unwrap_or(0);
    if elements > TABLE_ELEMENTS as u64 {
        return demanding(format!(
            "{elements} table elements; {TABLE_ELEMENTS} at most"
        ));
    }
    Ok(())
}

fn into_component(upload: Vec<u8>) -> Result<Vec<u8>, DeployError> {
    if Parser::is_component(&upload) {
        return Ok(upload);
    }
    if !Parser::is_core_wasm(&upload) {
        return Err(DeployError::NotWasm);
    }
    wit_component::ComponentEncoder::default()
        .module(&upload)
        .and_then(|encoder| encoder.validate(true).encode())
        .map_err(|error| DeployError::NotAComponent(format!("{error:#}")))
}

/// What the sections of a component say.
#[derive(Default)]
struct Found {
    imports: Vec<String>,
    exports: Vec<String>,
    manifest: Option<String>,
    schema: Option<String>,
}

/// Reads names and custom sections. The component has been validated.
fn scan(component: &[u8]) -> Result<Found, wasmparser::Error> {
    let mut found = Found::default();
    let (mut manifest, mut schema) = (Outermost::default(), Outermost::default());
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    found.imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let export = export?;
                    if export.kind == ComponentExternalKind::Instance {
                        found.exports.push(export.name.name.to_owned());
                    }
                }
            }
            Payload::CustomSection(section) => match section.name() {
                MANIFEST_SECTION => manifest.offer(section.data(), depth),
                SCHEMA_SECTION => schema.offer(section.data(), depth),
                _ => {}
            },
            _ => {}
        }
    }
    found.manifest = manifest.text();
    found.schema = schema.text();
    Ok(found)
}

/// The section of a name that counts: linkers leave it in a core module, tools put it around.
#[derive(Default)]
struct Outermost<'a>(Option<(usize, &'a [u8])>);

impl<'a> Outermost<'a> {
    fn offer(&mut self, bytes: &'a [u8], depth: usize) {
        if self.0.is_none_or(|(found, _)| depth < found) {
            self.0 = Some((depth, bytes));
        }
    }

    fn text(self) -> Option<String> {
        let (_, bytes) = self.0?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }
}

fn check_schema(schema: &str) -> Result<(), DeployError> {
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(schema).is_ok();
    if schema.len() > MAX_SCHEMA_BYTES || !is_json {
        return Err(DeployError::BadConfigSchema);
    }
    Ok(())
}

/// Checks what a manifest says against what the component is.
fn check_manifest(
    manifest: &Manifest,
    exported: &[Handler],
    has_schema: bool,
) -> Result<(), DeployError> {
    let bad = |reason: String| Err(DeployError::BadManifest(reason));
    if let Some(handlers) = &manifest.handlers {
        let names = |handlers: &[Handler]| -> BTreeSet<&'static str> {
            handlers.iter().map(|handler| handler.as_str()).collect()
        };
        let (named, found) = (names(handlers), names(exported));
        if named != found {
            return bad(format!(
                "handlers are {named:?}, and the component exports {found:?}"
            ));
        }
    }
    match &manifest.config_schema {
        Some(file) if !has_schema => bad(format!(
            "config_schema is {file:?}, and the component carries no section {SCHEMA_SECTION}"
        )),
        _ => Ok(()),
    }
}

/// A name such as `wxhost:plugin/kv@0.1.0`, taken apart.
struct InterfaceName<'a> {
    package: &'a str,
    interface: &'a str,
    version: Option<&'a str>,
}

impl<'a> InterfaceName<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let (package, rest) = name.split_once('/')?;
        let (interface, version) = match rest.split_once('@') {
            Some((interface, version)) => (interface, Some(version)),
            None => (rest, None),
        };
        Some(Self {
            package,
            interface,
            version,
        })
    }

    /// Whether the version is of the line `major.minor`, and not a pre-release: those match nothing.
    fn is_of(&self, (major, minor): (u64, u64)) -> bool {
        let Some(version) = self.version else {
            return false;
        };
        let mut numbers = version.split('.').map(str::parse::<u64>);
        let line = (numbers.next(), numbers.next());
        let patch = numbers.next();
        line == (Some(Ok(major)), Some(Ok(minor))) && matches!(patch, Some(Ok(_)))
    }
}

/// The line of the contract's version.
const CONTRACT_LINE: (u64, u64) = (0, 1);

fn check_imports(imports: &[String]) -> Result<(), DeployError> {
    let mut refused = Vec::new();
    for import in imports {
        let Some(name) = InterfaceName::parse(import) else {
            refused.push(import.clone());
            continue;
        };
        if name.package == PACKAGE {
            check_version(&name, import)?;
        }
        if !is_offered(&name) {
            refused.push(import.clone());
        }
    }
    if refused.is_empty() {
        Ok(())
    } else {
        Err(DeployError::ImportNotOffered(refused))
    }
}

fn is_offered(name: &InterfaceName<'_>) -> bool {
    if name.package == PACKAGE {
        return imports::OFFERED.contains(&name.interface);
    }
    let Some(package) = name.package.strip_prefix("wasi:") else {
        return false;
    };
    let wanted = Some((package, name.interface));
    let mut offered = wasi::OFFERED.iter().map(|offered| offered.split_once('/'));
    name.is_of(WASI_LINE) && offered.any(|offered| offered == wanted)
}

fn check_version(name: &InterfaceName<'_>, full: &str) -> Result<(), DeployError> {
    if name.is_of(CONTRACT_LINE) {
        return Ok(());
    }
    Err(DeployError::ContractVersion {
        interface: full.to_owned(),
    })
}

fn find_handlers(exports: &[String]) -> Result<Vec<Handler>, DeployError> {
    let mut handlers = Vec::new();
    for export in exports {
        let Some(name) = InterfaceName::parse(export) else {
            continue;
        };
        let kind = Handler::ALL
            .into_iter()
            .find(|h| h.interface() == name.interface);
        if let (PACKAGE, Some(handler)) = (name.package, kind) {
            check_version(&name, export)?;
            handlers.push(handler);
        }
    }
    if handlers.is_empty() {
        return Err(DeployError::NoHandler);
    }
    Ok(handlers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_offered_by_name_and_version() {
        let offered = |import: &str| check_imports(&[import.to_owned()]).map_err(|e| e.code());
        for import in [
            "wxhost:plugin/kv@0.1.0",
            "wxhost:plugin/kv@0.1.7",
            "wasi:cli/stdout@0.2.0",
            "wasi:clocks/monotonic-clock@0.2.6",
            "wasi:filesystem/types@0.2.3",
        ] {
            assert_eq!(offered(import), Ok(()), "{import}");
        }
        for (import, code) in [
            ("wxhost:plugin/kv@0.2.0", "contract-version"),
            ("wxhost:plugin/kv@1.1.0", "contract-version"),
            ("wxhost:plugin/kv@0.1.0-rc.1", "contract-version"),
            ("wxhost:plugin/kv", "contract-version"),
            ("wxhost:plugin/shell@0.1.0", "import-not-offered"),
            ("wasi:sockets/tcp@0.2.0", "import-not-offered"),
            ("wasi:http/outgoing-handler@0.2.0", "import-not-offered"),
            ("wasi:cli/stdout@0.3.0", "import-not-offered"),
            ("wasi:cli/stdout", "import-not-offered"),
            ("evil", "import-not-offered"),
            ("a:b/c@1.0.0", "import-not-offered"),
        ] {
            assert_eq!(offered(import), Err(code), "{import}");
        }
    }

    #[test]
    fn all_refused_imports_are_named_at_once() {
        let imports = ["wasi:sockets/tcp@0.2.0", "wasi:http/types@0.2.0"].map(String::from);
        let error = check_imports(&imports).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the plugin imports what this host does not offer: wasi:sockets/tcp@0.2.0, \
             wasi:http/types@0.2.0"
        );
    }

    #[test]
    fn a_handler_of_another_contract_is_named() {
        let exports = ["wxhost:plugin/callback-handler@0.2.0".to_owned()];
        assert_eq!(
            find_handlers(&exports).unwrap_err().code(),
            "contract-version"
        );
        let exports = ["wxhost:plugin/nothing@0.1.0".to_owned()];
        assert_eq!(find_handlers(&exports).unwrap_err().code(), "no-handler");
    }
}
