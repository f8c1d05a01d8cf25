//! `wxhost plugin`: plugins and where they are deployed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use wxhost_runtime::{Compiler, Runtime, RuntimeSettings};
use wxhost_server::grants::check_wanted;

use crate::{
    client::{Connection, json_or_file, value_or_file},
    table::{print_json, print_list, print_one},
};

#[derive(Debug, Subcommand)]
pub(crate) enum PluginVerb {
    /// Deploys a plugin to an account, at once.
    Deploy(DeployArgs),
    /// Lists an account's deployments, newest first.
    List {
        /// The account's AppId.
        #[arg(long, value_name = "APPID")]
        account: String,
        /// Below this version.
        #[arg(long, value_name = "VERSION")]
        before: Option<String>,
    },
    /// Goes back to the highest version below the active one.
    Rollback {
        /// The account's AppId.
        #[arg(long, value_name = "APPID")]
        account: String,
    },
    /// Makes a version the active one.
    Activate {
        /// The version.
        version: u64,
        /// The account's AppId.
        #[arg(long, value_name = "APPID")]
        account: String,
    },
    /// Checks a plugin as a deployment would. Needs no host.
    Check {
        /// A component, or a core module that carries its component type.
        file: PathBuf,
        /// Settings to be checked against the plugin's schema: a JSON document or a file.
        #[arg(long, value_name = "JSON|FILE")]
        config: Option<String>,
    },
}

#[derive(Args, Debug)]
pub(crate) struct DeployArgs {
    /// A component, or a core module that carries its component type.
    file: PathBuf,
    /// The account's AppId.
    #[arg(long, value_name = "APPID")]
    account: String,
    /// The plugin's settings: a JSON document or a file.
    #[arg(long, value_name = "JSON|FILE")]
    config: Option<String>,
    /// A secret that the plugin may send by its name; NAME=@FILE reads it from a file. Can be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    secret: Vec<String>,
    /// Where a secret may go, such as `erp-key=https://erp.example`; if not said, to every host that
    /// plugin.toml names. Can be repeated.
    #[arg(long, value_name = "NAME=ORIGIN")]
    secret_origin: Vec<String>,
    /// What a call may use: a JSON document or a file.
    #[arg(long, value_name = "JSON|FILE")]
    limits: Option<String>,
}

/// The body of a deployment.
#[derive(Serialize)]
struct Deployment {
    component_base64: String,
    config: Option<Box<RawValue>>,
    secrets: BTreeMap<String, Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Box<RawValue>>,
}

/// A secret; without origins it is its text alone.
#[derive(Serialize)]
#[serde(untagged)]
enum Secret {
    Text(String),
    Bound { value: String, origins: Vec<String> },
}

pub(crate) async fn run(verb: PluginVerb, connection: &Connection) -> Result<()> {
    let deployment = match verb {
        PluginVerb::Check { file, config } => {
            return check(&file, config.as_deref(), connection).await;
        }
        PluginVerb::Deploy(args) => {
            let body = deployment(&args)?;
            let path = ["accounts", &args.account, "deployments"];
            connection.client()?.post(&path, &body).await?
        }
        PluginVerb::List { account, before } => {
            let path = ["accounts", &account, "deployments"];
            let query = [("before", before.as_deref())];
            let answer = connection.client()?.get(&path, &query).await?;
            if connection.json {
                return print_json(&answer);
            }
            let columns = ["version", "active", "digest", "handlers", "size"];
            return print_list(&answer["deployments"], &columns);
        }
        PluginVerb::Rollback { account } => {
            let path = ["accounts", &account, "rollback"];
            connection.client()?.post(&path, &json!({})).await?
        }
        PluginVerb::Activate { version, account } => {
            let version = version.to_string();
            let path = ["accounts", &account, "deployments", &version, "activate"];
            connection.client()?.post(&path, &json!({})).await?
        }
    };
    if connection.json {
        print_json(&deployment)
    } else {
        print_one(&deployment)
    }
}

fn deployment(args: &DeployArgs) -> Result<Deployment> {
    let json = |given: &Option<String>| given.as_deref().map(json_or_file).transpose();
    Ok(Deployment {
        component_base64: BASE64_STANDARD.encode(read(&args.file)?),
        config: json(&args.config)?,
        secrets: secrets(args)?,
        limits: json(&args.limits)?,
    })
}

fn secrets(args: &DeployArgs) -> Result<BTreeMap<String, Secret>> {
    let mut secrets = BTreeMap::new();
    for given in &args.secret {
        let (name, value) = given
            .split_once('=')
            .context("--secret must be NAME=VALUE or NAME=@FILE")?;
        secrets.insert(name.to_owned(), Secret::Text(value_or_file(value)?));
    }
    for given in &args.secret_origin {
        let (name, origin) = given
            .split_once('=')
            .context("--secret-origin must be NAME=ORIGIN")?;
        let secret = secrets
            .get_mut(name)
            .with_context(|| format!("--secret-origin: there is no --secret {name}"))?;
        match secret {
            Secret::Bound { origins, .. } => origins.push(origin.to_owned()),
            Secret::Text(value) => {
                let (value, origins) = (std::mem::take(value), vec![origin.to_owned()]);
                *secret = Secret::Bound { value, origins };
            }
        }
    }
    Ok(secrets)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

async fn check(file: &Path, config: Option<&str>, connection: &Connection) -> Result<()> {
    let upload = read(file)?;
    let directory = tempfile::tempdir().context("cannot make a directory for the check")?;
    let compiler = Compiler::Child {
        program: crate::compile::program(),
        args: vec!["compile-plugin".into()],
    };
    let mut key = [0; 32];
    getrandom::fill(&mut key).context("no random numbers")?;
    let mut settings = RuntimeSettings::new(directory.path().to_owned(), key, compiler);
    settings.max_concurrent_calls = 1;
    let runtime = Runtime::new(settings)?;
    let checked = runtime.check(upload, "").await?;
    if let Some(manifest) = &checked.manifest {
        check_wanted(&manifest.grants).map_err(|reason| anyhow!("plugin.toml: {reason}"))?;
    }
    let config: Value = match config {
        Some(given) => serde_json::from_str(json_or_file(given)?.get())?,
        None => json!({}),
    };
    match checked.config_schema.clone() {
        Some(schema) => runtime.check_config(schema, config.to_string(), "").await?,
        None if config != json!({}) => {
            bail!("the plugin carries no schema to check a config against")
        }
        None => {}
    }
    runtime.shutdown();
    let handlers: Vec<&str> = checked.handlers.iter().map(|h| h.as_str()).collect();
    let found = json!({
        "digest": checked.digest.to_string(),
        "handlers": handlers,
        "manifest": checked.manifest,
        "imports": checked.imports,
        "size": checked.component.len(),
        "config_schema": checked.config_schema.is_some(),
    });
    if connection.json {
        print_json(&found)
    } else {
        print_one(&found)
    }
}
