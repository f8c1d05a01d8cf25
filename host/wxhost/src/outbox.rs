//! `wxhost outbox`: what an account has to send, and what came of it.

use anyhow::Result;
use clap::Args;

use crate::{
    client::Connection,
    table::{print, print_json, print_list},
};

#[derive(Args, Debug)]
pub(crate) struct OutboxArgs {
    /// The account.
    #[arg(long, value_name = "APPID")]
    account: String,
    /// In this state only: `waiting`, `sending`, `sent`, `failed`, `dead` or `skipped`.
    #[arg(long)]
    state: Option<String>,
    /// Of this person only.
    #[arg(long, value_name = "OPENID")]
    open_id: Option<String>,
    /// Older than this row.
    #[arg(long, value_name = "ID")]
    before: Option<String>,
    /// How many.
    #[arg(long)]
    limit: Option<u32>,
}

pub(crate) async fn run(args: OutboxArgs, connection: &Connection) -> Result<()> {
    let client = connection.client()?;
    let limit = args.limit.map(|limit| limit.to_string());
    let query = [
        ("state", args.state.as_deref()),
        ("open_id", args.open_id.as_deref()),
        ("before", args.before.as_deref()),
        ("limit", limit.as_deref()),
    ];
    let path = ["accounts", &args.account, "outbox"];
    let answer = client.get(&path, &query).await?;
    if connection.json {
        return print_json(&answer);
    }
    let columns = [
        "id", "kind", "open_id", "state", "reason", "attempts", "errcode", "errmsg",
    ];
    print_list(&answer["outbox"], &columns)?;
    match answer["next"].as_str() {
        Some(next) => print(&format!("more: --before {next}\n")),
        None => Ok(()),
    }
}
