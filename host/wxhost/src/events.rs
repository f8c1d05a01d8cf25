//! `wxhost events`: callbacks that were acknowledged and are not ended, and the dead letters among them.

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::{
    client::Connection,
    table::{print, print_json, print_list},
};

#[derive(Debug, Subcommand)]
pub(crate) enum EventsVerb {
    /// Lists dead letters, or what waits for its run.
    List(ListArgs),
    /// Has a dead letter run again.
    Resume(OneArgs),
    /// Drops a dead letter with its body.
    Drop(OneArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// The account.
    #[arg(long, value_name = "APPID")]
    account: String,
    /// `dead` or `pending`.
    #[arg(long, default_value = "dead")]
    state: String,
    /// After this event.
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// How many.
    #[arg(long)]
    limit: Option<u32>,
}

#[derive(Args, Debug)]
pub(crate) struct OneArgs {
    /// The event.
    event_id: String,
    /// The account.
    #[arg(long, value_name = "APPID")]
    account: String,
}

pub(crate) async fn run(verb: EventsVerb, connection: &Connection) -> Result<()> {
    match verb {
        EventsVerb::List(args) => list(&args, connection).await,
        EventsVerb::Resume(args) => {
            let path = [
                "accounts",
                &args.account,
                "events",
                &args.event_id,
                "resume",
            ];
            connection.client()?.post_with(&path, &[]).await?;
            print(&format!("{} runs again\n", args.event_id))
        }
        EventsVerb::Drop(args) => {
            let path = ["accounts", &args.account, "events", &args.event_id];
            connection.client()?.delete(&path).await?;
            print(&format!("{} is dropped\n", args.event_id))
        }
    }
}

async fn list(args: &ListArgs, connection: &Connection) -> Result<()> {
    let limit = args.limit.map(|limit| limit.to_string());
    let query = [
        ("state", Some(args.state.as_str())),
        ("after", args.after.as_deref()),
        ("limit", limit.as_deref()),
    ];
    let path = ["accounts", &args.account, "events"];
    let answer = connection.client()?.get(&path, &query).await?;
    if connection.json {
        return print_json(&answer);
    }
    let columns = ["event_id", "state", "reason", "attempts", "created_at"];
    print_list(&answer["events"], &columns)?;
    match answer["next"].as_str() {
        Some(next) => print(&format!("more: --after {next}\n")),
        None => Ok(()),
    }
}
