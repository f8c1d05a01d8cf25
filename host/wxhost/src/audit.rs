//! `wxhost audit`: who did what.

use anyhow::Result;
use clap::Args;

use crate::{
    client::Connection,
    table::{print, print_json, print_list},
};

#[derive(Args, Debug)]
pub(crate) struct AuditArgs {
    /// What was done to this account only.
    #[arg(long, value_name = "APPID")]
    account: Option<String>,
    /// What this actor did only: `admin`, or the id of an API key.
    #[arg(long)]
    actor: Option<String>,
    /// Older than this entry.
    #[arg(long, value_name = "ID")]
    before: Option<String>,
    /// How many.
    #[arg(long)]
    limit: Option<u32>,
}

pub(crate) async fn run(args: AuditArgs, connection: &Connection) -> Result<()> {
    let limit = args.limit.map(|limit| limit.to_string());
    let query = [
        ("app_id", args.account.as_deref()),
        ("actor", args.actor.as_deref()),
        ("before", args.before.as_deref()),
        ("limit", limit.as_deref()),
    ];
    let answer = connection.client()?.get(&["audit"], &query).await?;
    if connection.json {
        return print_json(&answer);
    }
    let columns = [
        "at",
        "actor",
        "action",
        "app_id",
        "object",
        "result",
        "request_id",
    ];
    print_list(&answer["entries"], &columns)?;
    match answer["next"].as_str() {
        Some(next) => print(&format!("more: --before {next}\n")),
        None => Ok(()),
    }
}
