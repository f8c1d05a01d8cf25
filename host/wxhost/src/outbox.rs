//! `wxhost outbox`: what an account has to send, and what came of it.

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use crate::{
    client::Connection,
    table::{print, print_json, print_list},
};

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct OutboxArgs {
    #[command(subcommand)]
    verb: Option<OutboxVerb>,
    /// The account.
    #[arg(long, value_name = "APPID")]
    account: Option<String>,
    /// In this state only: `waiting`, `sending`, `sent`, `failed`, `dead`, `skipped`, `unknown` or `held`.
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

#[derive(Debug, Subcommand)]
enum OutboxVerb {
    /// Lists what rests, until when and why.
    Pauses {
        /// The account.
        #[arg(long, value_name = "APPID")]
        account: String,
    },
    /// Lifts a pause: what waits is tried again at once.
    Lift {
        /// The account.
        #[arg(long, value_name = "APPID")]
        account: String,
        /// The API, as `pauses` lists it; without it, the pause of the whole account.
        #[arg(long)]
        path: Option<String>,
    },
}

pub(crate) async fn run(args: OutboxArgs, connection: &Connection) -> Result<()> {
    match &args.verb {
        None => list(&args, connection).await,
        Some(OutboxVerb::Pauses { account }) => {
            let path = ["accounts", account, "outbox", "pauses"];
            let answer = connection.client()?.get(&path, &[]).await?;
            show_pauses(&answer, connection)
        }
        Some(OutboxVerb::Lift { account, path }) => {
            let query = [("path", path.as_deref())];
            let path = ["accounts", account, "outbox", "pauses"];
            let answer = connection.client()?.delete_with(&path, &query).await?;
            show_pauses(&answer, connection)
        }
    }
}

fn show_pauses(answer: &serde_json::Value, connection: &Connection) -> Result<()> {
    if connection.json {
        return print_json(answer);
    }
    let columns = ["path", "until_at", "reason", "errcode", "ends"];
    print_list(&answer["pauses"], &columns)
}

async fn list(args: &OutboxArgs, connection: &Connection) -> Result<()> {
    let client = connection.client()?;
    let account = args.account.as_deref().context("--account is missing")?;
    let limit = args.limit.map(|limit| limit.to_string());
    let query = [
        ("state", args.state.as_deref()),
        ("open_id", args.open_id.as_deref()),
        ("before", args.before.as_deref()),
        ("limit", limit.as_deref()),
    ];
    let path = ["accounts", account, "outbox"];
    let answer = client.get(&path, &query).await?;
    if connection.json {
        return print_json(&answer);
    }
    let columns = [
        "id",
        "kind",
        "open_id",
        "state",
        "reason",
        "attempts",
        "errcode",
        "errmsg",
        "unsure_at",
    ];
    print_list(&answer["outbox"], &columns)?;
    match answer["next"].as_str() {
        Some(next) => print(&format!("more: --before {next}\n")),
        None => Ok(()),
    }
}
