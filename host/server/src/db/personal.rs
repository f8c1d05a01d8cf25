//! What an event's effects do to people, inside the event's transaction: changes of contacts, and rows
//! of the outbox, in the plugin's order.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sqlx::AnyConnection;

use super::contact_updates::{ContactUpdate, write_one};
use super::contacts::tags_of;
use super::outbox::{self, NewRow, Origin, Outgoing};
use super::{Database, DbError, Dialect};

/// Bytes of all attributes of a contact.
pub const MAX_ATTRIBUTE_BYTES: usize = 8 << 10;
/// Tags of a contact that are kept; WeChat allows a contact 20.
const MAX_TAGS: usize = 100;
/// Why a message to a contact who opted out is not sent.
const OPTED_OUT: &str = "opted-out";
/// The place of an event's own answer, when it goes out late; effects come after it.
const ANSWER_ORDINAL: i64 = 0;

/// One thing that happens to a contact.
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
    /// The contact does not want to be messaged, or does again.
    OptOut(bool),
}

impl Change {
    /// The most bytes that it adds to a contact's attributes.
    pub(super) fn attribute_bytes(&self) -> usize {
        match self {
            Self::Attributes(members) => {
                let added = members.iter().filter(|(_, value)| !value.is_null());
                // Quotes, colon and comma.
                let bytes = added.map(|(name, value)| name.len() * 6 + value.to_string().len() + 4);
                bytes.sum()
            }
            Self::Tags { .. } | Self::Remark(_) | Self::OptOut(_) => 0,
        }
    }
}

/// What an event does to people.
#[derive(Debug, Clone, Copy, Default)]
pub struct PersonalEffects<'a> {
    /// What the event tells of the contact who caused it. Written here if anything is sent: the ledger
    /// then knows why it may be.
    pub sender: Option<&'a ContactUpdate>,
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

/// How many contacts the steps would make, and by how many bytes attributes would grow.
pub(super) async fn growth(
    db: &Database,
    app_id: &str,
    steps: &[Step],
) -> Result<(i64, i64), DbError> {
    let mut contacts: BTreeMap<&str, (Kept, usize)> = BTreeMap::new();
    for step in steps {
        let Step::Change { open_id, change } = step else {
            continue;
        };
        if !contacts.contains_key(open_id.as_str()) {
            let mut connection = db.readers.acquire().await?;
            let contact = Kept::read(KEPT, &mut connection, app_id, open_id).await?;
            let before = contact.attributes_text().len();
            contacts.insert(open_id, (contact, before));
        }
        if let Some((contact, _)) = contacts.get_mut(open_id.as_str()) {
            // What does not fit is refused by the commit.
            let _: Result<(), Unfit> = contact.change(change, 0);
        }
    }
    let mut growth = (0, 0);
    for (contact, before) in contacts.values() {
        growth.0 += i64::from(!contact.is_there);
        let length = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX / 4);
        growth.1 += length(contact.attributes_text().len()) - length(*before);
    }
    Ok(growth)
}

/// Looks at the part of a contact that effects change.
const KEPT: &str = "SELECT tags, remark, attributes, opted_out_at FROM contacts \
     WHERE app_id = $1 AND open_id = $2";
/// The same on PostgreSQL for what is to be written: no other commit may come between.
const KEPT_LOCKED: &str = "SELECT tags, remark, attributes, opted_out_at FROM contacts \
     WHERE app_id = $1 AND open_id = $2 FOR UPDATE";

/// The part of a contact that effects change.
#[derive(Debug, Default)]
struct Kept {
    is_there: bool,
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
        let statement = match dialect {
            Dialect::Sqlite => KEPT,
            Dialect::Postgres => KEPT_LOCKED,
        };
        contacts.insert(open_id, Kept::read(statement, db, app_id, open_id).await?);
    }
    Ok(contacts.entry(open_id).or_default())
}

impl Kept {
    async fn read(
        statement: &'static str,
        db: &mut AnyConnection,
        app_id: &str,
        open_id: &str,
    ) -> Result<Self, DbError> {
        let row: Option<(String, String, String, Option<i64>)> = sqlx::query_as(statement)
            .bind(app_id)
            .bind(open_id.as_bytes())
            .fetch_optional(db)
            .await?;
        Ok(
            row.map_or_else(Self::default, |(tags, remark, attributes, opted_out_at)| {
                Self {
                    is_there: true,
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
             to_fetch, made_by_effect) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0, 0, 0, 0, 0, 1) \
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
