//! `wxhost calls`: what came of the calls of an account's plugins.

use anyhow::Result;
use clap::Args;

use crate::{
    client::Connection,
    table::{print, print_json, print_list, print_one},
};

#[derive(Args, Debug)]
pub(crate) struct CallsArgs {
    /// A call, to be shown with the plugin's log.
    #[arg(conflicts_with_all = ["account", "outcome", "before", "limit"])]
    id: Option<String>,
    /// Lists the calls of this account, newest first.
    #[arg(long, value_name = "APPID", required_unless_present = "id")]
    account: Option<String>,
    /// Of this outcome only, such as `replied`, `timeout` or `trap`.
    #[arg(long)]
    outcome: Option<String>,
    /// Older than this call.
    #[arg(long, value_name = "ID")]
    before: Option<String>,
    /// How many.
    #[arg(long)]
    limit: Option<u32>,
}

pub(crate) async fn run(args: CallsArgs, connection: &Connection) -> Result<()> {
    let client = connection.client()?;
    if let Some(id) = &args.id {
        let call = client.get(&["calls", id], &[]).await?;
        return if connection.json {
            print_json(&call)
        } else {
            print_one(&call)
        };
    }
    let limit = args.limit.map(|limit| limit.to_string());
    let query = [
        ("outcome", args.outcome.as_deref()),
        ("before", args.before.as_deref()),
        ("limit", limit.as_deref()),
    ];
    let account = args.account.unwrap_or_default();
    let answer = client.get(&["accounts", &account, "calls"], &query).await?;
    if connection.json {
        return print_json(&answer);
    }
    let columns = [
        "id",
        "event_kind",
        "outcome",
        "version",
        "runs",
        "duration_us",
        "error",
    ];
    print_list(&answer["calls"], &columns)?;
    match answer["next"].as_str() {
        Some(next) => print(&format!("more: --before {next}\n")),
        None => Ok(()),
    }
}
