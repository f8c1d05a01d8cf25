//! `wxhost money`: what came of an account's refunds, facts that its plugin did not take, and its books.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    client::{Client, Connection},
    table::{print, print_json, print_list, print_one},
};

#[derive(Debug, Subcommand)]
pub(crate) enum MoneyVerb {
    /// Lists refunds, the newest first; `--state held` lists those that somebody has to approve.
    Refunds(PageArgs),
    /// Approves a refund that is held: the money goes back.
    Approve(RefundArgs),
    /// Rejects a refund that is held.
    Reject(RefundArgs),
    /// Lists facts about money that the plugin is told of; `--state failed` lists those that it did not take.
    Events(PageArgs),
    /// Has a fact told to the plugin again.
    Resume {
        /// The account.
        #[arg(long, value_name = "APPID")]
        account: String,
        /// The fact, as `events` lists it.
        id: String,
    },
    /// Lists what WeChat Pay has told that contradicts the ledger.
    Flagged(PageArgs),
    /// Checks whether the books balance, with every merchant.
    Books {
        /// The account.
        #[arg(long, value_name = "APPID")]
        account: String,
    },
    /// Shows every turn of an order or a refund.
    History {
        /// The account.
        #[arg(long, value_name = "APPID")]
        account: String,
        /// 商户号.
        #[arg(long, value_name = "MCHID")]
        merchant: String,
        /// `order/` and its number, or `refund/` and its number.
        subject: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct PageArgs {
    /// The account.
    #[arg(long, value_name = "APPID")]
    account: String,
    /// In this state only.
    #[arg(long)]
    state: Option<String>,
    /// Made before this time, Unix milliseconds.
    #[arg(long, value_name = "MS")]
    before: Option<i64>,
    /// How many.
    #[arg(long)]
    limit: Option<u32>,
}

#[derive(Args, Debug)]
pub(crate) struct RefundArgs {
    /// The account.
    #[arg(long, value_name = "APPID")]
    account: String,
    /// The merchant, where several have a refund of the number.
    #[arg(long, value_name = "MCHID")]
    merchant: Option<String>,
    /// The refund's number (商户退款单号).
    out_refund_no: String,
}

pub(crate) async fn run(verb: MoneyVerb, connection: &Connection) -> Result<()> {
    let client = connection.client()?;
    let list = async |args: PageArgs, path: &[&str], columns: &[&str]| {
        let answer = page(&client, &args, path).await?;
        if connection.json {
            return print_json(&answer);
        }
        let name = path[0].trim_start_matches("pay-");
        print_list(&answer[name], columns)?;
        match answer["next"].as_i64() {
            Some(next) => print(&format!("more: --before {next}\n")),
            None => Ok(()),
        }
    };
    match verb {
        MoneyVerb::Refunds(args) => {
            let columns = [
                "out_refund_no",
                "out_trade_no",
                "merchant",
                "amount_fen",
                "state",
                "asked_by",
                "error",
            ];
            list(args, &["refunds"], &columns).await
        }
        MoneyVerb::Approve(args) => decide(&client, &args, true, connection).await,
        MoneyVerb::Reject(args) => decide(&client, &args, false, connection).await,
        MoneyVerb::Events(args) => {
            let columns = ["id", "kind", "out_trade_no", "state", "attempts", "error"];
            list(args, &["pay-events"], &columns).await
        }
        MoneyVerb::Resume { account, id } => {
            let path = ["accounts", &account, "pay-events", "resume"];
            client.post(&path, &json!({"id": id})).await?;
            Ok(())
        }
        MoneyVerb::Flagged(args) => {
            let columns = ["merchant", "fact", "reason", "notice_id", "received_at"];
            list(args, &["pay-notices", "flagged"], &columns).await
        }
        MoneyVerb::Books { account } => {
            let path = ["accounts", &account, "books"];
            let answer = client.get(&path, &[]).await?;
            if connection.json {
                return print_json(&answer);
            }
            let columns = ["merchant", "kept_fen", "going_back_fen", "flaw"];
            print_list(&answer["books"], &columns)
        }
        MoneyVerb::History {
            account,
            merchant,
            subject,
        } => {
            let path = ["accounts", &account, "ledger-history"];
            let query = [("merchant", Some(&*merchant)), ("subject", Some(&*subject))];
            let answer = client.get(&path, &query).await?;
            if connection.json {
                return print_json(&answer);
            }
            let columns = ["number", "from", "to", "cause", "turned_at"];
            print_list(&answer["turns"], &columns)
        }
    }
}

async fn page(client: &Client, args: &PageArgs, rest: &[&str]) -> Result<Value> {
    let (before, limit) = (
        args.before.map(|before| before.to_string()),
        args.limit.map(|limit| limit.to_string()),
    );
    let query = [
        ("state", args.state.as_deref()),
        ("before", before.as_deref()),
        ("limit", limit.as_deref()),
    ];
    let path = [&["accounts", &args.account], rest].concat();
    client.get(&path, &query).await
}

async fn decide(
    client: &Client,
    args: &RefundArgs,
    approve: bool,
    connection: &Connection,
) -> Result<()> {
    let mut body = json!({"approve": approve});
    if let Some(merchant) = &args.merchant {
        body["merchant"] = json!(merchant);
    }
    let path = [
        "accounts",
        &args.account,
        "refunds",
        &args.out_refund_no,
        "decision",
    ];
    let refund = client.post(&path, &body).await?;
    match connection.json {
        true => print_json(&refund),
        false => print_one(&refund),
    }
}
