//! `wxhost tenant`: the customers that accounts belong to.

use anyhow::Result;
use clap::Subcommand;
use serde_json::json;

use crate::{
    client::Connection,
    quotas::{self, QuotaArgs},
    table::{print_json, print_list, print_one},
};

#[derive(Debug, Subcommand)]
pub(crate) enum TenantVerb {
    /// Adds a tenant.
    Add {
        /// 1 to 64 of `a-z`, `0-9`, `_` and `-`.
        id: String,
        /// Its name for people.
        #[arg(long, default_value = "")]
        name: String,
        /// How many of its plugins' calls may run at the same time.
        #[arg(long, value_name = "CALLS")]
        max_concurrent_calls: Option<u32>,
    },
    /// Says which account's settings, plugin and quotas accounts get that come by an invitation.
    Like {
        /// Its id.
        id: String,
        /// The account; none without it.
        app_id: Option<String>,
    },
    /// Lists all tenants.
    List,
    /// Shows a tenant.
    Show {
        /// Its id.
        id: String,
    },
    /// Shows or sets how much all its accounts may use together.
    Quotas {
        /// Its id.
        id: String,
        #[command(flatten)]
        args: QuotaArgs,
    },
}

pub(crate) async fn run(verb: TenantVerb, connection: &Connection) -> Result<()> {
    let client = connection.client()?;
    match verb {
        TenantVerb::Add {
            id,
            name,
            max_concurrent_calls,
        } => {
            let body = json!({
                "id": id,
                "name": name,
                "max_concurrent_calls": max_concurrent_calls,
            });
            let tenant = client.post(&["tenants"], &body).await?;
            if connection.json {
                print_json(&tenant)
            } else {
                print_one(&tenant)
            }
        }
        TenantVerb::List => {
            let answer = client.get(&["tenants"], &[]).await?;
            if connection.json {
                return print_json(&answer);
            }
            print_list(&answer["tenants"], &["id", "name", "max_concurrent_calls"])
        }
        TenantVerb::Quotas { id, args } => {
            quotas::run(args, &["tenants", &id, "quotas"], connection).await
        }
        TenantVerb::Show { id } => {
            let tenant = client.get(&["tenants", &id], &[]).await?;
            if connection.json {
                print_json(&tenant)
            } else {
                print_one(&tenant)
            }
        }
        TenantVerb::Like { id, app_id } => {
            let body = json!({ "like": app_id });
            let tenant = client.patch(&["tenants", &id], &body).await?;
            if connection.json {
                print_json(&tenant)
            } else {
                print_one(&tenant)
            }
        }
    }
}
