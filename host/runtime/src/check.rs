//! The deploy check: what may become a plugin. Everything here works on bytes; nothing is compiled or run
//! before it has passed. It reads what a stranger wrote, so it runs where time and memory are limited
//! (`job`).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use wasmparser::{ComponentExternalKind, Parser, Payload, Validator, WasmFeatures};
use wasmtime::Engine;

use crate::bounds::MAX_UPLOAD_BYTES;
use crate::contract::{Handler, InterfaceName, MANIFEST_SECTION, PACKAGE, SCHEMA_SECTION};
use crate::demands::Demands;
use crate::manifest::{Manifest, PushKind};
use crate::refusal::{DeployError, MAX_SCHEMA_BYTES};
use crate::{imports, schema, wasi};

/// The version line of WASI that this host offers a part of.
const WASI_LINE: (u64, u64) = (0, 2);

/// Imports of a component. All that this host offers are 42; several versions of one are several.
const MAX_IMPORTS: usize = 256;

/// What there is to know of an upload that passed the check.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Inspected {
    /// What it handles; never empty.
    pub(crate) handlers: Vec<Handler>,
    /// What it imports, such as `wxhost:plugin/kv@0.1.0`.
    pub(crate) imports: Vec<String>,
    /// What it says of itself and asks for, if it says anything.
    pub(crate) manifest: Option<Manifest>,
    /// The JSON Schema of its configuration, if it carries one: valid JSON, not yet a valid schema.
    pub(crate) config_schema: Option<String>,
    /// The component, if the upload was a core module that was made into one.
    #[serde(skip)]
    pub(crate) encoded: Option<Vec<u8>>,
}

/// The part of the check that costs nothing.
pub(crate) fn glance(upload: &[u8]) -> Result<(), DeployError> {
    if upload.len() > MAX_UPLOAD_BYTES {
        return Err(DeployError::TooLarge {
            bytes: upload.len(),
            limit: MAX_UPLOAD_BYTES,
        });
    }
    if Engine::detect_precompiled(upload).is_some() {
        return Err(DeployError::Precompiled);
    }
    if !Parser::is_component(upload) && !Parser::is_core_wasm(upload) {
        return Err(DeployError::NotWasm);
    }
    Ok(())
}

/// Checks an upload's bytes; turns a core module into a component.
pub(crate) fn inspect(features: WasmFeatures, upload: &[u8]) -> Result<Inspected, DeployError> {
    glance(upload)?;
    let encoded = if Parser::is_component(upload) {
        None
    } else {
        Some(encode(upload)?)
    };
    let component = encoded.as_deref().unwrap_or(upload);
    Validator::new_with_features(features)
        .validate_all(component)
        .map_err(|error| DeployError::Invalid(error.to_string()))?;
    let found = scan(component).map_err(|error| DeployError::Invalid(error.to_string()))?;
    check_imports(&found.imports)?;
    let handlers = find_handlers(&found.exports)?;
    Demands::of(component)?.check()?;
    let schema = found.schema.map(utf8_schema).transpose()?;
    let manifest = found.manifest.map(read_manifest).transpose()?;
    if let Some(manifest) = &manifest {
        check_manifest(manifest, &handlers, schema.is_some())?;
    }
    Ok(Inspected {
        handlers,
        imports: found.imports,
        manifest,
        config_schema: schema,
        encoded,
    })
}

fn encode(module: &[u8]) -> Result<Vec<u8>, DeployError> {
    if let Some(preview1) = imports_preview1(module) {
        return Err(DeployError::NeedsAdapter(preview1));
    }
    wit_component::ComponentEncoder::default()
        .module(module)
        .and_then(|encoder| encoder.validate(true).encode())
        .map_err(|error| DeployError::NotAComponent(format!("{error:#}")))
}

/// The module name under which a core module imports WASI of before components, if it does.
fn imports_preview1(module: &[u8]) -> Option<String> {
    let payloads = Parser::new(0).parse_all(module);
    let mut sections = payloads
        .map_while(Result::ok)
        .filter_map(|payload| match payload {
            Payload::ImportSection(section) => Some(section),
            _ => None,
        });
    let imports = sections.next()?.into_imports();
    let mut names = imports.map_while(Result::ok).map(|import| import.module);
    let is_preview1 = |name: &&str| matches!(*name, "wasi_snapshot_preview1" | "wasi_unstable");
    names.find(is_preview1).map(str::to_owned)
}

/// What the sections of a component say.
#[derive(Default)]
struct Found {
    imports: Vec<String>,
    exports: Vec<String>,
    manifest: Option<Vec<u8>>,
    schema: Option<Vec<u8>>,
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
    found.manifest = manifest.bytes();
    found.schema = schema.bytes();
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

    fn bytes(self) -> Option<Vec<u8>> {
        self.0.map(|(_, bytes)| bytes.to_vec())
    }
}

/// A schema's text. Settings are text of a stranger's too: none of it is guessed at.
fn utf8_schema(bytes: Vec<u8>) -> Result<String, DeployError> {
    let schema = String::from_utf8(bytes).map_err(|_| DeployError::BadConfigSchema)?;
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&schema).is_ok();
    if schema.len() > MAX_SCHEMA_BYTES || !is_json {
        return Err(DeployError::BadConfigSchema);
    }
    Ok(schema)
}

fn read_manifest(bytes: Vec<u8>) -> Result<Manifest, DeployError> {
    let text =
        String::from_utf8(bytes).map_err(|_| DeployError::BadManifest("it is not UTF-8".into()))?;
    Manifest::parse(&text).map_err(DeployError::BadManifest)
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
    if !manifest.push.is_empty() && !exported.contains(&Handler::Push) {
        let interface = Handler::Push.export_name();
        return bad(format!(
            "push has kinds, and the component does not export {interface}"
        ));
    }
    for PushKind { kind, schema, .. } in &manifest.push {
        if let Some(Err(reason)) = schema.as_deref().map(schema::check_schema) {
            return bad(format!("the schema of the push kind {kind:?}: {reason}"));
        }
    }
    match &manifest.config_schema {
        Some(file) if !has_schema => bad(format!(
            "config_schema is {file:?}, and the component carries no section {SCHEMA_SECTION}"
        )),
        _ => Ok(()),
    }
}

fn check_imports(imports: &[String]) -> Result<(), DeployError> {
    if imports.len() > MAX_IMPORTS {
        let has = imports.len();
        return Err(DeployError::TooDemanding(format!(
            "{has} imports; {MAX_IMPORTS} at most"
        )));
    }
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
    if name.is_of_this_contract() {
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
            "wasi:sockets/tcp@0.2.0",
            "wasi:sockets/ip-name-lookup@0.2.3",
        ] {
            assert_eq!(offered(import), Ok(()), "{import}");
        }
        for (import, code) in [
            ("wxhost:plugin/kv@0.2.0", "contract-version"),
            ("wxhost:plugin/kv@1.1.0", "contract-version"),
            ("wxhost:plugin/kv@0.1.0-rc.1", "contract-version"),
            ("wxhost:plugin/kv", "contract-version"),
            ("wxhost:plugin/shell@0.1.0", "import-not-offered"),
            ("wasi:sockets/tls@0.2.0", "import-not-offered"),
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
        let imports = ["wasi:nn/graph@0.2.0", "wasi:keyvalue/store@0.2.0"].map(String::from);
        let error = check_imports(&imports).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the plugin imports what this host does not offer: wasi:nn/graph@0.2.0, \
             wasi:keyvalue/store@0.2.0"
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
