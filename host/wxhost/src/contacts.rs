//! `wxhost contacts`: the people who met an account, and the import of its followers.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    client::{Client, Connection},
    table::{print, print_json, print_list, print_one},
};

/// How often `--watch` looks.
const WATCH_PERIOD: Duration = Duration::from_secs(1);

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct ContactsArgs {
    #[command(subcommand)]
    verb: Option<ContactsVerb>,
    /// The account.
    #[arg(long, value_name = "APPID", required = true)]
    account: Option<String>,
    /// A contact, to be shown whole.
    #[arg(conflicts_with_all = ["cursor", "limit"])]
    open_id: Option<String>,
    /// Where the page before ended.
    #[arg(long)]
    cursor: Option<String>,
    /// How many.
    #[arg(long)]
    limit: Option<u32>,
}

#[derive(Debug, Subcommand)]
enum ContactsVerb {
    /// Imports the followers who came before the host did. Started again, it goes on where it was.
    Import(ImportArgs),
}

#[derive(Args, Debug)]
struct ImportArgs {
    /// The account.
    #[arg(long, value_name = "APPID")]
    account: String,
    /// Shows how far it comes until it ends.
    #[arg(long)]
    watch: bool,
    /// Shows how far it has come; starts nothing.
    #[arg(long)]
    show: bool,
}

pub(crate) async fn run(args: ContactsArgs, connection: &Connection) -> Result<()> {
    let client = connection.client()?;
    if let Some(ContactsVerb::Import(args)) = &args.verb {
        return import(args, &client, connection).await;
    }
    let account = args.account.unwrap_or_default();
    let mut path = vec!["accounts", &account, "contacts"];
    if let Some(open_id) = &args.open_id {
        path.push(open_id);
        return show(&client.get(&path, &[]).await?, connection);
    }
    let limit = args.limit.map(|limit| limit.to_string());
    let query = [
        ("cursor", args.cursor.as_deref()),
        ("limit", limit.as_deref()),
    ];
    let answer = client.get(&path, &query).await?;
    if connection.json {
        return print_json(&answer);
    }
    let columns = ["open_id", "following", "qr_scene", "tags", "remark", "last"];
    print_list(&answer["contacts"], &columns)?;
    match answer["next"].as_str() {
        Some(next) => print(&format!("more: --cursor {next}\n")),
        None => Ok(()),
    }
}

async fn import(args: &ImportArgs, client: &Client, connection: &Connection) -> Result<()> {
    let path = ["accounts", &args.account, "contacts", "import"];
    let mut import = match args.show {
        true => client.get(&path, &[]).await?,
        false => client.post(&path, &json!({})).await?,
    };
    let mut shown = String::new();
    while args.watch && !matches!(import["state"].as_str(), Some("done" | "failed")) {
        let line = progress(&import);
        if line != shown {
            print(&line)?;
            shown = line;
        }
        tokio::time::sleep(WATCH_PERIOD).await;
        import = client.get(&path, &[]).await?;
    }
    show(&import, connection)?;
    match import["state"].as_str() {
        Some("failed") => bail!("the import has failed: {}", import["error"]),
        _ => Ok(()),
    }
}

fn progress(import: &Value) -> String {
    let why = import["error"].as_str();
    format!(
        "{}: {} of {} listed, {} fetched{}\n",
        import["state"].as_str().unwrap_or_default(),
        import["listed"],
        import["total"],
        import["fetched"],
        why.map(|why| format!(" ({why})")).unwrap_or_default(),
    )
}

fn show(document: &Value, connection: &Connection) -> Result<()> {
    if connection.json {
        print_json(document)
    } else {
        print_one(document)
    }
}
