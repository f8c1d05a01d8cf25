//! `wxhost contacts`: the people who met an account.

use anyhow::Result;
use clap::Args;

use crate::{
    client::Connection,
    table::{print, print_json, print_list, print_one},
};

#[derive(Args, Debug)]
pub(crate) struct ContactsArgs {
    /// The account.
    #[arg(long, value_name = "APPID")]
    account: String,
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

pub(crate) async fn run(args: ContactsArgs, connection: &Connection) -> Result<()> {
    let client = connection.client()?;
    let mut path = vec!["accounts", &args.account, "contacts"];
    if let Some(open_id) = &args.open_id {
        path.push(open_id);
        let contact = client.get(&path, &[]).await?;
        return if connection.json {
            print_json(&contact)
        } else {
            print_one(&contact)
        };
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
