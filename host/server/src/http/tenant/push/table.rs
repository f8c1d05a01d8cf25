//! The recipients of a push as CSV, a block at a time: a push to a million is never in memory.

use axum::body::Body;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use super::{Recipient, is_cancelled};
use crate::db::Database;
use crate::db::push::{self, PushRow};

/// The columns, which are the members of [`Recipient`].
const COLUMNS: [&str; 5] = ["open_id", "state", "way", "msgid", "reason"];

/// The answer, whose body follows as it is read.
pub(super) fn answer(db: Database, push: PushRow) -> Response {
    let name = format!("attachment; filename=\"push-{}.csv\"", push.id);
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (CONTENT_DISPOSITION, name),
    ];
    let blocks = futures::stream::try_unfold((db, push, 0), |(db, push, number)| async move {
        let key = (&*push.app_id, &*push.id);
        let block = push::recipients(&db, key, number).await?;
        let Some(block) = block else {
            // At least the names of the columns.
            let is_empty = number == 0;
            return Ok(is_empty.then(|| (rows(true, Vec::new()), (db, push, 1))));
        };
        let recipients = block.open_ids.into_iter().zip(block.outcomes);
        let recipients = recipients
            .map(|(open_id, outcome)| Recipient::of(open_id, outcome, is_cancelled(&push)));
        let rows = rows(number == 0, recipients.collect());
        Ok::<_, crate::db::DbError>(Some((rows, (db, push, number + 1))))
    });
    (headers, Body::from_stream(blocks)).into_response()
}

fn rows(is_first: bool, recipients: Vec<Recipient>) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new()
        .has_headers(false)
        .from_writer(Vec::new());
    // Into memory, so nothing fails.
    let mut write = |row: [&str; 5]| drop(writer.write_record(row));
    if is_first {
        write(COLUMNS);
    }
    for recipient in recipients {
        let way = recipient.way.map(|way| way.to_string());
        write([
            &recipient.open_id,
            recipient.state,
            way.as_deref().unwrap_or_default(),
            recipient.msgid.as_deref().unwrap_or_default(),
            &harmless(recipient.reason.as_deref().unwrap_or_default()),
        ]);
    }
    writer.into_inner().unwrap_or_default()
}

/// A plugin's words, so that no program for tables takes them for a formula.
fn harmless(words: &str) -> String {
    match words.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{words}"),
        false => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::db::push::Outcome;

    use super::*;

    #[test]
    fn a_row_is_one_row_and_no_formula() {
        let recipient = |reason: &str| {
            let outcome = Outcome::Skipped(reason.into());
            Recipient::of("oA".into(), outcome, false)
        };
        let reasons = ["opted-out", "=cmd()", "a,\"b\""];
        let table = rows(true, reasons.map(recipient).into());
        let expected = "open_id,state,way,msgid,reason\noA,skipped,,,opted-out\n\
             oA,skipped,,,'=cmd()\noA,skipped,,,\"a,\"\"b\"\"\"\n";
        assert_eq!(String::from_utf8(table).unwrap(), expected);
    }
}
