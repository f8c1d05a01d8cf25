//! What an event's effects do to people, inside the event's transaction: changes of contacts, and rows
//! of the outbox, in the plugin's order.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sqlx::AnyConnection;

use super::contacts::tags_of;
use super::outbox::{self, NewRow, Origin, Outgoing};
use super::sightings::{Sighting, write_one};
use super::{DbError, Dialect};

/// Bytes of all attributes of a contact.
pub const MAX_ATTRIBUTE_BYTES: usize = 8 << 10;
/// Tags of a contact that are kept; WeChat allows a person 20.
const MAX_TAGS: usize = 100;
/// Why a message to a person who opted out is not sent.
const OPTED_OUT: &str = "opted-out";
/// The place of an event's own answer, when it goes out late; effects come after it.
const ANSWER_ORDINAL: i64 = 0;

/// One thing that happens to a person.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Something is sent.
    Send(Outgoing),
    /// The contact changes.
    Change {
        /// Whose.
        open_id: String,
        /// How.
        change: Change,
    },
}

/// A change of a contact.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Tags are given and taken.
    Tags {
        /// Given.
        add: Vec<u32>,
        /// Taken.
        remove: Vec<u32>,
    },
    /// The remark is set.
    Remark(String),
    /// Members are set; null removes one.
    Attributes(Map<String, Value>),
    /// The person does not want to be messaged, or does again.
    OptOut(bool),
}

/// What an event does to people.
#[derive(Debug, Clone, Copy, Default)]
pub struct PersonalEffects<'a> {
    /// What the event tells of the person who caused it. Written here if anything is sent: the ledger
    /// then knows why it may be.
    pub sender: Option<&'a Sighting>,
    /// What the effects do, in order.
    pub steps: &'a [Step],
}

impl PersonalEffects<'_> {
    /// Whether what a contact is comes to depend on what it was.
    pub(super) fn changes_contacts(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|step| matches!(step, Step::Change { .. }))
    }
}

/// A step that can't be done: the contact's attributes would not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unfit {
    pub(super) reason: String,
}

/// Applies everything. `late` is the event's own answer, if it goes out late.
pub(super) async fn apply(
    dialect: Dialect,
    db: &mut AnyConnection,
    origin: Origin<'_>,
    late: Option<&Outgoing>,
    personal: PersonalEffects<'_>,
) -> Result<Result<(), Unfit>, DbError> {
    let sends = late.is_some()
        || personal
            .steps
            .iter()
            .any(|step| matches!(step, Step::Send(_)));
    if let Some(sender) = personal.sender.filter(|_| sends) {
        write_one(dialect, db, sender).await?;
    }
    let mut contacts: BTreeMap<&str, Kept> = BTreeMap::new();
    let mut rows = Vec::new();
    rows.extend(late.map(|outgoing| NewRow {
        ordinal: ANSWER_ORDINAL,
        outgoing,
        skipped: None,
    }));
    for (ordinal, step) in (ANSWER_ORDINAL + 1..).zip(personal.steps) {
        match step {
            Step::Change { open_id, change } => {
                let contact = kept(dialect, db, origin.app_id, &mut contacts, open_id).await?;
                if let Err(unfit) = contact.change(change, origin.now_ms) {
                    return Ok(Err(unfit));
                }
            }
            Step::Send(outgoing) => {
                let unwanted = outgoing.kind.facts().heeds_opt_out
                    && kept(dialect, db, origin.app_id, &mut contacts, &outgoing.open_id)
                        .await?
                        .opted_out_at
                        .is_some();
                rows.push(NewRow {
                    ordinal,
                    outgoing,
                    skipped: unwanted.then_some(OPTED_OUT),
                });
            }
        }
    }
    for (open_id, contact) in contacts.iter().filter(|(_, contact)| contact.is_changed) {
        contact.write(db, origin, open_id).await?;
    }
    outbox::insert(dialect, db, origin, &rows).await?;
    Ok(Ok(()))
}

/// The part of a contact that effects change.
#[derive(Debug, Default)]
struct Kept {
    tags: Vec<u32>,
    remark: String,
    attributes: Map<String, Value>,
    opted_out_at: Option<i64>,
    is_changed: bool,
}

/// The contact as the steps so far have left it.
async fn kept<'a, 'm>(
    dialect: Dialect,
    db: &mut AnyConnection,
    app_id: &str,
    contacts: &'m mut BTreeMap<&'a str, Kept>,
    open_id: &'a str,
) -> Result<&'m mut Kept, DbError> {
    if !contacts.contains_key(open_id) {
        contacts.insert(open_id, Kept::read(dialect, db, app_id, open_id).await?);
    }
    Ok(contacts.entry(open_id).or_default())
}

impl Kept {
    async fn read(
        dialect: Dialect,
        db: &mut AnyConnection,
        app_id: &str,
        open_id: &str,
    ) -> Result<Self, DbError> {
        // What is read here is written below: no other commit may come between.
        let statement = match dialect {
            Dialect::Sqlite => {
                "SELECT tags, remark, attributes, opted_out_at FROM contacts \
                 WHERE app_id = $1 AND open_id = $2"
            }
            Dialect::Postgres => {
                "SELECT tags, remark, attributes, opted_out_at FROM contacts \
                 WHERE app_id = $1 AND open_id = $2 FOR UPDATE"
            }
        };
        let row: Option<(String, String, String, Option<i64>)> = sqlx::query_as(statement)
            .bind(app_id)
            .bind(open_id.as_bytes())
            .fetch_optional(db)
            .await?;
        Ok(
            row.map_or_else(Self::default, |(tags, remark, attributes, opted_out_at)| {
                Self {
                    tags: tags_of(&tags),
                    remark,
                    // Written below only, so it parses.
                    attributes: serde_json::from_str(&attributes).unwrap_or_default(),
                    opted_out_at,
                    is_changed: false,
                }
            }),
        )
    }

    fn change(&mut self, change: &Change, now_ms: i64) -> Result<(), Unfit> {
        self.is_changed = true;
        match change {
            Change::Tags { add, remove } => {
                self.tags
                    .retain(|tag| !remove.contains(tag) && !add.contains(tag));
                self.tags.extend(add);
                self.tags.sort_unstable();
                self.tags.dedup();
                self.tags.truncate(MAX_TAGS);
            }
            Change::Remark(remark) => self.remark.clone_from(remark),
            Change::OptOut(true) => self.opted_out_at = self.opted_out_at.or(Some(now_ms)),
            Change::OptOut(false) => self.opted_out_at = None,
            Change::Attributes(members) => {
                for (name, value) in members {
                    if value.is_null() {
                        self.attributes.remove(name);
                    } else {
                        self.attributes.insert(name.clone(), value.clone());
                    }
                }
                let bytes = self.attributes_text().len();
                if bytes > MAX_ATTRIBUTE_BYTES {
                    let reason = format!(
                        "the contact's attributes would have {bytes} bytes, \
                         {MAX_ATTRIBUTE_BYTES} at most are kept"
                    );
                    return Err(Unfit { reason });
                }
            }
        }
        Ok(())
    }

    fn attributes_text(&self) -> String {
        // A map of strings to values always has a text.
        serde_json::to_string(&self.attributes).unwrap_or_else(|_| String::from("{}"))
    }

    async fn write(
        &self,
        db: &mut AnyConnection,
        origin: Origin<'_>,
        open_id: &str,
    ) -> Result<(), DbError> {
        let tags = serde_json::to_string(&self.tags).unwrap_or_else(|_| String::from("[]"));
        sqlx::query(
            "INSERT INTO contacts (app_id, open_id, first_seen_at, tags, remark, attributes, \
             opted_out_at, version, message_used, menu_used, scan_used, follow_used, payment_used, \
             to_fetch) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0, 0, 0, 0, 0) \
             ON CONFLICT (app_id, open_id) DO UPDATE SET tags = excluded.tags, \
             remark = excluded.remark, attributes = excluded.attributes, \
             opted_out_at = excluded.opted_out_at, version = excluded.version",
        )
        .bind(origin.app_id)
        .bind(open_id.as_bytes())
        .bind(origin.now_ms)
        .bind(tags)
        .bind(&self.remark)
        .bind(self.attributes_text())
        .bind(self.opted_out_at)
        .bind(origin.version)
        .execute(db)
        .await?;
        Ok(())
    }
}
