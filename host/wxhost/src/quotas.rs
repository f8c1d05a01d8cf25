//! `wxhost account quotas` and `wxhost tenant quotas`.

use anyhow::Result;
use clap::Args;
use serde_json::{Map, Value};

use crate::{
    client::Connection,
    table::{print_json, print_list},
};

#[derive(Args, Debug)]
pub(crate) struct QuotaArgs {
    /// Sets one, such as `value-bytes=256MiB` or `values=100000`.
    #[arg(long, value_name = "NAME=AMOUNT", value_parser = assignment)]
    set: Vec<(String, i64)>,
    /// Leaves one to the host's settings again.
    #[arg(long, value_name = "NAME")]
    reset: Vec<String>,
}

/// Shows the quotas at `path`; sets them before, if that is asked for.
pub(crate) async fn run(args: QuotaArgs, path: &[&str], connection: &Connection) -> Result<()> {
    let client = connection.client()?;
    let set = args.set.into_iter().map(|(name, most)| (name, most.into()));
    let reset = args.reset.into_iter().map(|name| (name, Value::Null));
    let wanted: Map<String, Value> = set.chain(reset).collect();
    let answer = if wanted.is_empty() {
        client.get(path, &[]).await?
    } else {
        client.patch(path, &wanted).await?
    };
    if connection.json {
        return print_json(&answer);
    }
    print_list(&answer["quotas"], &["name", "in_use", "most", "is_set"])
}

fn assignment(text: &str) -> Result<(String, i64), String> {
    let (name, amount) = text
        .split_once('=')
        .ok_or("write a name, an equals sign and an amount, such as values=1000")?;
    Ok((name.to_owned(), amount_of(amount)?))
}

fn amount_of(text: &str) -> Result<i64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("", 0)];
    let (digits, shift) = units
        .into_iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)))
        .unwrap_or((text, 0));
    let amount = digits.trim().parse::<i64>().ok();
    let amount = amount.and_then(|amount| amount.checked_mul(1 << shift));
    amount.ok_or_else(|| format!("{text:?} is no amount: write 1000, 64KiB, 256MiB or 1GiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_with_their_units() {
        for (text, amount) in [
            ("0", Some(0)),
            ("1000", Some(1000)),
            ("64KiB", Some(65_536)),
            ("256 MiB", Some(268_435_456)),
            ("1GiB", Some(1_073_741_824)),
            ("1MB", None),
            ("", None),
            ("9223372036854775807KiB", None),
        ] {
            assert_eq!(amount_of(text).ok(), amount, "{text}");
        }
        assert!(assignment("values").is_err());
    }
}
