//! `wxhost key`: what tenants' own systems call the host with.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::{
    client::Connection,
    table::{print, print_json, print_list, print_one},
};

#[derive(Debug, Subcommand)]
pub(crate) enum KeyVerb {
    /// Makes a key and shows it, this once.
    Add(AddArgs),
    /// Lists keys, newest first.
    List {
        /// Of this tenant only.
        #[arg(long)]
        tenant: Option<String>,
        /// Older than this key.
        #[arg(long, value_name = "ID")]
        before: Option<String>,
        /// How many.
        #[arg(long)]
        limit: Option<u32>,
    },
    /// Revokes a key, on every host at once.
    Revoke {
        /// Its id, such as `key-0123…`.
        id: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct AddArgs {
    /// The tenant whose systems will use it.
    #[arg(long)]
    tenant: String,
    /// Its name for people.
    #[arg(long, default_value = "")]
    name: String,
    /// An account that it reaches, once for each; without any, all of the tenant's.
    #[arg(long = "account", value_name = "APPID")]
    accounts: Vec<String>,
    /// What it may do, once for each: `access-token`, `jsapi-ticket`, `jssdk-signature`, `login`, `push`,
    /// `forward` or `forward:<path prefix>`.
    #[arg(long = "grant", value_name = "GRANT", required = true)]
    grants: Vec<String>,
    /// Requests a minute.
    #[arg(long, value_name = "REQUESTS")]
    rate_per_minute: Option<u32>,
}

pub(crate) async fn run(verb: KeyVerb, connection: &Connection) -> Result<()> {
    let client = connection.client()?;
    let key = match verb {
        KeyVerb::Add(args) => {
            let body = json!({
                "tenant_id": args.tenant,
                "name": args.name,
                "app_ids": (!args.accounts.is_empty()).then_some(args.accounts),
                "grants": args.grants,
                "rate_per_minute": args.rate_per_minute,
            });
            client.post(&["keys"], &body).await?
        }
        KeyVerb::List {
            tenant,
            before,
            limit,
        } => {
            let limit = limit.map(|limit| limit.to_string());
            let query = [
                ("tenant", tenant.as_deref()),
                ("before", before.as_deref()),
                ("limit", limit.as_deref()),
            ];
            let answer = client.get(&["keys"], &query).await?;
            if connection.json {
                return print_json(&answer);
            }
            let columns = [
                "id",
                "tenant_id",
                "name",
                "grants",
                "rate_per_minute",
                "revoked_at",
            ];
            print_list(&answer["keys"], &columns)?;
            return match answer["next"].as_str() {
                Some(next) => print(&format!("more: --before {next}\n")),
                None => Ok(()),
            };
        }
        KeyVerb::Revoke { id } => client.delete(&["keys", &id]).await?,
    };
    if connection.json {
        print_json(&key)
    } else {
        print_one(&key)
    }
}
