//! Rules of the repository that no compiler checks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    ALONE: arrows_between_crates_are_the_designed_ones, arrows_between_modules_run_downward,
        pure_crates_stay_pure, files_open_with_their_purpose,
        files_fit_a_reader, released_contract_is_frozen, modules_go_in_no_circle;
}

/// Longest source file, in lines. A longer one wants to be two nouns.
const MAX_LINES: usize = 600;

/// Which of our crates each of our crates may use. See "Code map" in host/ARCHITECTURE.md.
const ARROWS: &[(&str, &[&str])] = &[
    ("wxhost-wechat", &[]),
    ("wxhost-runtime", &[]),
    ("wxhost-server", &["wxhost-runtime", "wxhost-wechat"]),
    ("wxhost-simulator", &["wxhost-wechat"]),
    (
        "wxhost",
        &[
            "wxhost-runtime",
            "wxhost-server",
            "wxhost-simulator",
            "wxhost-wechat",
        ],
    ),
    ("wxhost-sdk", &[]),
    ("wxhost-plugin-hello", &["wxhost-sdk"]),
    ("wxhost-plugin-desk", &["wxhost-sdk"]),
    ("wxhost-plugin-orders", &["wxhost-sdk"]),
    ("wxhost-plugin-members", &["wxhost-sdk"]),
    ("wxhost-plugin-rogue", &["wxhost-sdk"]),
    ("wxhost-plugin-shop", &["wxhost-sdk"]),
    ("xtask", &[]),
];

/// What would break an invariant if it were named in a crate's manifest.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "wxhost-wechat",
        &[
            "tokio",
            "reqwest",
            "getrandom",
            "axum",
            "sqlx",
            "redis",
            "wasmtime",
        ],
    ),
    (
        "wxhost-runtime",
        &["axum", "http", "hyper", "reqwest", "sqlx", "redis"],
    ),
    ("wxhost-server", &["wasmtime", "wasmtime-wasi"]),
];

/// All modules of the server from top to bottom: none uses one above it, so none goes in a circle. A new
/// one is given its place here.
const LAYERS: &[&str] = &[
    // A host from start to end.
    "app",
    "tasks",
    // Lanes, and what all lanes share.
    "callback",
    "http",
    "login",
    "pay",
    "push",
    "run",
    "capabilities",
    "platform",
    "services",
    // What lanes are made of.
    "checkout",
    "merchant_client",
    "merchants",
    "contacts",
    "outbox",
    "templates",
    "keys",
    "client",
    "tokens",
    "transport",
    "accounts",
    "plugins",
    "credentials",
    "grants",
    // What lasts, and what is watched.
    "records",
    "audit",
    "telemetry",
    "config",
    "quotas",
    "effects",
    "egress",
    "secrets",
    "store",
    "inbox",
    "settings",
    "seal",
    "write_behind",
    "registry",
    "db",
    // What needs nothing.
    "ledger",
    "digest",
    "printable",
    "bucket",
    "backoff",
    "clock",
    "random",
];

/// SHA-256 over names and contents of `wit/*.wit`, by released version. Once a version is released its
/// line never changes: what plugins were built against stays as it was.
const CONTRACT: (&str, &str) = (
    "0.1.0",
    "0769ca49b793b694c4185cd0474fb58de4585244b01f701ffba12a9792fa020a",
);

/// Crates whose modules use each other in one direction only.
const WITHOUT_CIRCLES: &[&str] = &["host/runtime"];

async fn modules_go_in_no_circle(_: Stage) -> Result<()> {
    for directory in WITHOUT_CIRCLES {
        let arrows = arrows_between_modules(&root().join(directory).join("src"))?;
        for module in arrows.keys() {
            if let Some(way) = way_back(&arrows, module) {
                anyhow::bail!("the modules of {directory} use each other in a circle: {way:?}");
            }
        }
    }
    Ok(())
}

/// Which modules of a crate each of them names, tests apart. A name that the crate's root gives on stands
/// for the module that it comes from.
fn arrows_between_modules(source: &Path) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let root = std::fs::read_to_string(source.join("lib.rs"))?;
    let given_on = given_on(&root);
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in with_extension(source, "rs")? {
        let place = file.strip_prefix(source)?.with_extension("");
        let module = place.iter().next().context("a file has a name")?;
        let module = module.to_string_lossy().into_owned();
        if module == "lib" || place.ends_with("tests") {
            continue;
        }
        let text = std::fs::read_to_string(&file)?;
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let names = names_after(code, "crate::");
        let used = arrows.entry(module.clone()).or_default();
        used.extend(
            names
                .into_iter()
                .map(|name| given_on.get(&name).cloned().unwrap_or(name))
                .filter(|name| *name != module),
        );
    }
    Ok(arrows)
}

/// The module of each name that `pub use module::…` gives on.
fn given_on(root: &str) -> BTreeMap<String, String> {
    let mut given_on = BTreeMap::new();
    for statement in root.split("pub use ").skip(1) {
        let statement = statement.split(';').next().unwrap_or_default();
        let Some((module, names)) = statement.split_once("::") else {
            continue;
        };
        for name in names.split([',', '{', '}', ' ', '\n']) {
            let last = name.rsplit("::").next().unwrap_or_default();
            if !last.is_empty() {
                given_on.insert(last.to_owned(), module.to_owned());
            }
        }
    }
    given_on
}

/// The first names behind a prefix: `a` of `crate::a::b`, `a` and `c` of `crate::{a::b, c}`.
fn names_after(code: &str, prefix: &str) -> BTreeSet<String> {
    let name = |text: &str| {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        text.trim_start()
            .chars()
            .take_while(|c| is_part(*c))
            .collect()
    };
    let mut names = BTreeSet::new();
    for behind in code.split(prefix).skip(1) {
        match behind.strip_prefix('{') {
            Some(list) => {
                let list = list.split("};").next().unwrap_or_default();
                names.extend(list.split(',').map(name));
            }
            None => {
                names.insert(name(behind));
            }
        }
    }
    names
}

/// A way from a module back to itself.
fn way_back(arrows: &BTreeMap<String, BTreeSet<String>>, start: &str) -> Option<Vec<String>> {
    let mut ways = vec![vec![start.to_owned()]];
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop() {
        let here = way.last()?;
        for next in arrows.get(here).into_iter().flatten() {
            let mut longer = way.clone();
            longer.push(next.clone());
            if next == start {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                ways.push(longer);
            }
        }
    }
    None
}

async fn arrows_between_crates_are_the_designed_ones(_: Stage) -> Result<()> {
    let manifests = manifests()?;
    for (name, dependencies) in &manifests {
        // The tests may look at everything.
        let Some((_, allowed)) = ARROWS.iter().find(|(given, _)| given == name) else {
            ensure!(
                name == "wxhost-tests",
                "{name} is not in ARROWS: say what it may use"
            );
            continue;
        };
        for dependency in dependencies
            .iter()
            .filter(|dependency| manifests.contains_key(*dependency))
        {
            ensure!(
                allowed.contains(&dependency.as_str()),
                "{name} must not use {dependency}"
            );
        }
    }
    Ok(())
}

async fn arrows_between_modules_run_downward(_: Stage) -> Result<()> {
    let server = root().join("host/server/src");
    let mut seen = BTreeSet::new();
    for file in with_extension(&server, "rs")? {
        let path = file.strip_prefix(&server)?.display().to_string();
        let module = path.split(['/', '.']).next().unwrap_or_default();
        // The crate's root names them all, and tests may look at everything.
        let for_tests = ["tests.rs", "testing.rs", "/tests/"];
        if module == "lib" || for_tests.iter().any(|mark| path.contains(mark)) {
            continue;
        }
        let layer = LAYERS.iter().position(|name| *name == module);
        let layer = layer.with_context(|| format!("{module} has no place among LAYERS"))?;
        seen.insert(module.to_owned());
        let text = std::fs::read_to_string(&file)?;
        let code = without_tests(&text).lines();
        let code: Vec<_> = code
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        let code = code.join("\n");
        for used in modules_used(&code) {
            let below = LAYERS[layer..].contains(&used);
            ensure!(below, "{path} uses {used}, which is not below it");
        }
    }
    for layer in LAYERS {
        ensure!(seen.contains(*layer), "there is no module {layer} any more");
    }
    Ok(())
}

/// A file's text before its tests.
fn without_tests(text: &str) -> &str {
    let tests = ["mod tests {", "pub(crate) mod tests {"]
        .map(|module| text.find(&format!("#[cfg(test)]\n{module}")));
    let end = tests.into_iter().flatten().min();
    &text[..end.unwrap_or(text.len())]
}

/// The modules of its own crate that a file names: `crate::name` and `crate::{name, name::…}`.
fn modules_used(code: &str) -> BTreeSet<&str> {
    let mut used = BTreeSet::new();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = |text: &str| text.find(|c| !is_name(c)).unwrap_or(text.len());
    for (at, mark) in code.match_indices("crate::") {
        let rest = &code[at + mark.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            used.insert(&rest[..name(rest)]);
            continue;
        };
        let (mut depth, mut begins) = (1, true);
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => begins = true,
                c if begins && is_name(c) => {
                    used.insert(&list[at..at + name(&list[at..])]);
                    begins = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    used
}

async fn pure_crates_stay_pure(_: Stage) -> Result<()> {
    let manifests = manifests()?;
    for (name, forbidden) in FORBIDDEN {
        let dependencies = manifests
            .get(*name)
            .with_context(|| format!("no crate {name}"))?;
        for dependency in *forbidden {
            ensure!(
                !dependencies.iter().any(|given| given == dependency),
                "{name} must not use {dependency}"
            );
        }
    }
    Ok(())
}

async fn files_open_with_their_purpose(_: Stage) -> Result<()> {
    for file in sources()? {
        let text = std::fs::read_to_string(&file)?;
        ensure!(
            text.starts_with("//! "),
            "{} does not begin with `//! `: say what it is for",
            file.display()
        );
    }
    Ok(())
}

async fn files_fit_a_reader(_: Stage) -> Result<()> {
    for file in sources()? {
        let lines = std::fs::read_to_string(&file)?.lines().count();
        ensure!(
            lines <= MAX_LINES,
            "{} has {lines} lines, more than {MAX_LINES}",
            file.display()
        );
    }
    Ok(())
}

async fn released_contract_is_frozen(_: Stage) -> Result<()> {
    let directory = root().join("wit");
    let mut files: Vec<PathBuf> = with_extension(&directory, "wit")?;
    files.sort();
    let mut hash = Sha256::new();
    for file in &files {
        let name = file.file_name().context("a file has a name")?;
        hash.update(name.as_encoded_bytes());
        hash.update([0]);
        hash.update(std::fs::read(file)?);
        hash.update([0]);
    }
    let (version, frozen) = CONTRACT;
    let found: String = hex(&hash.finalize());
    ensure!(
        found == frozen,
        "wit/ is not the {version} that was released: {found}. Plugins are built against it. Add a new \
         version beside it (wit/CHANGES.md says how), and change this line only before a release."
    );
    Ok(())
}

/// The direct dependencies of every crate of ours; those for its tests only do not count.
fn manifests() -> Result<BTreeMap<String, Vec<String>>> {
    let workspace: toml::Table =
        toml::from_str(&std::fs::read_to_string(root().join("Cargo.toml"))?)?;
    let members = workspace["workspace"]["members"]
        .as_array()
        .context("the workspace has members")?;
    let mut manifests = BTreeMap::new();
    for member in members {
        let directory = root().join(member.as_str().context("a member is a path")?);
        let manifest: toml::Table =
            toml::from_str(&std::fs::read_to_string(directory.join("Cargo.toml"))?)?;
        let name = manifest["package"]["name"]
            .as_str()
            .context("a package has a name")?;
        let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
        let dependencies = dependencies
            .map(|table| table.keys().cloned().collect())
            .unwrap_or_default();
        manifests.insert(name.to_owned(), dependencies);
    }
    Ok(manifests)
}

fn sources() -> Result<Vec<PathBuf>> {
    let mut sources = Vec::new();
    for room in ["host", "plugins", "tests"] {
        sources.extend(with_extension(&root().join(room), "rs")?);
    }
    ensure!(
        sources.len() > 50,
        "only {} sources found: looking in the wrong place",
        sources.len()
    );
    Ok(sources)
}

/// All files under a directory with an extension, but for what builds leave behind.
fn with_extension(directory: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            if !path.join("CACHEDIR.TAG").exists() {
                found.extend(with_extension(&path, extension)?);
            }
        } else if path.extension().is_some_and(|given| given == extension) {
            found.push(path);
        }
    }
    Ok(found)
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
