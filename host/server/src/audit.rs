//! The audit: who did what to which account, for the operator to look up.
//!
//! A change of the admin API is noted in the transaction that makes it (`Author::note`): one does not
//! happen without the other. What tenants' systems do with their keys is written behind the answer
//! ([`Audit::add`]); what finds no room is counted (`wxhost_audit_entries_dropped_total`). A look at what
//! people wrote or did, a token that is given out and a failed sign-in are noted before they are
//! answered ([`Audit::write`]): what can't be noted is not shown.
//!
//! Entries hold ids, paths and stable words. Nothing of a query, a header or a body goes in, so no
//! token or secret can.

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::db::audit::{self as rows, AuditRow, BATCH};
use crate::db::{Change, Database, DbError};
use crate::printable::is_hidden;
use crate::random;
use crate::telemetry::Metrics;
use crate::write_behind::{self, Row};

/// Failed sign-ins of a minute that have an entry each; of more the next minute's first entry tells the
/// number. Who tries without end must not fill the database.
const MAX_FAILED_SIGN_INS: u32 = 60;

/// Where entries are handed in that no transaction holds.
#[derive(Clone, Debug)]
pub struct Audit {
    queue: write_behind::Queue<AuditRow>,
    db: Database,
    failed: Arc<Mutex<FailedSignIns>>,
}

/// Failed sign-ins of the minute that last had one.
#[derive(Debug, Default)]
struct FailedSignIns {
    minute: i64,
    count: u32,
}

impl FailedSignIns {
    /// Counts one more. Where it has an entry: how many had none since the last entry.
    fn admit(&mut self, now_ms: i64) -> Option<u32> {
        let minute = now_ms.div_euclid(60_000);
        if minute == self.minute {
            self.count = self.count.saturating_add(1);
            return (self.count <= MAX_FAILED_SIGN_INS).then_some(0);
        }
        let before = std::mem::replace(&mut self.count, 1);
        self.minute = minute;
        Some(before.saturating_sub(MAX_FAILED_SIGN_INS))
    }
}

impl Audit {
    /// The same audit for another door: who tries keys without end there hides nobody here.
    #[must_use]
    pub fn of_another_door(&self) -> Self {
        Self {
            failed: Arc::default(),
            ..self.clone()
        }
    }

    /// Hands in an entry that is written behind the answer.
    pub fn add(&self, entry: AuditRow) {
        self.queue.add(entry);
    }

    /// Writes an entry, before what it is about is done or shown.
    ///
    /// # Errors
    /// The database failed: nothing is to be done or shown.
    pub async fn write(&self, entry: AuditRow) -> Result<(), DbError> {
        rows::insert(&self.db, &[entry]).await
    }

    /// Notes that somebody had no good credentials for a request (`GET /…`).
    pub async fn failed_sign_in(&self, request_id: &str, request: &str, peer: Option<IpAddr>) {
        let Some(unnoted) = self.failed.lock().admit(Clock.now_ms()) else {
            return;
        };
        let author = Author {
            actor: "unknown".to_owned(),
            request_id: request_id.to_owned(),
        };
        let object = match peer {
            Some(address) => format!("{request} from {address}"),
            None => request.to_owned(),
        };
        let result = match unnoted {
            0 => "refused".to_owned(),
            more => format!("refused, {more} more before"),
        };
        let entry = author.entry(Action::SignIn, None, &object, &result);
        // It is refused all the same.
        if let Err(error) = self.write(entry).await {
            tracing::warn!(error = %error, "a failed sign-in is missing in the audit");
        }
    }
}

/// The loop that writes them.
pub type AuditWriter = write_behind::Writer<AuditRow>;

/// Characters of an app id in an entry: it may be what a caller made up.
const MAX_APP_ID: usize = 64;
/// Characters of an object in an entry.
const MAX_OBJECT: usize = 256;

impl Row for AuditRow {
    const NAME: &'static str = "audit entries";
    const BATCH: usize = BATCH;

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.object.len() + self.result.len() + self.request_id.len()
    }

    async fn insert(db: &Database, rows: &[Self]) -> Result<(), DbError> {
        rows::insert(db, rows).await
    }
}

/// A queue and its writer.
pub fn channel(db: Database, metrics: &Metrics) -> (Audit, AuditWriter) {
    let (queue, writer) = write_behind::channel(db.clone(), metrics.audit.clone());
    let failed = Arc::default();
    (Audit { queue, db, failed }, writer)
}

/// What can be done. The words are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A tenant was added.
    TenantAdd,
    /// A tenant's settings were changed; the object names it.
    TenantChange,
    /// An account was added.
    AccountAdd,
    /// An account's settings were changed; the object names the fields.
    AccountChange,
    /// An account got a new callback token or EncodingAESKey.
    AccountRotateKey,
    /// The host found that an account waits for its owner.
    AttentionSet,
    /// What an account's owner had to mend was said to be mended.
    AttentionClear,
    /// That WeChat refuses a host's address was said to be mended.
    AddressLift,
    /// A new access token was forced.
    TokenRefresh,
    /// A third-party platform was added.
    PlatformAdd,
    /// A platform's settings were changed; the object names the fields.
    PlatformChange,
    /// A platform got a new token or EncodingAESKey.
    PlatformRotateKey,
    /// A platform's quota was cleared, or its tickets were asked for; the object says which.
    PlatformCall,
    /// A platform's authorisers were imported, or one was claimed for a tenant.
    PlatformImport,
    /// An invitation was made or revoked; the object names it.
    InvitationTurn,
    /// What an account grants a platform was changed by its owner; the object says how.
    AuthorisationTurn,
    /// An account was bound to an Open Platform account, or taken out of it.
    OpenAccountTurn,
    /// A quota of an account or a tenant was changed; the object names it and its owner.
    QuotaChange,
    /// An account's daily counts of calls were cleared.
    QuotaClear,
    /// What became of a call was looked up at WeChat.
    RidTrace,
    /// A plugin was deployed.
    PluginDeploy,
    /// A deployment was made the active one.
    PluginActivate,
    /// An API key was made.
    KeyAdd,
    /// An API key was revoked.
    KeyRevoke,
    /// A dead letter was resumed; the object names the event.
    EventResume,
    /// A dead letter was dropped; the object names the event.
    EventDrop,
    /// A pause of the outbox was lifted; the object names the API.
    PauseLift,
    /// Contacts were looked at; the object names one.
    ContactsRead,
    /// The import of an account's followers was started.
    ContactsImport,
    /// Stored values were looked at; the object names one.
    ValuesRead,
    /// Records of calls were looked at; the object names one.
    CallsRead,
    /// What was sent to whom was looked at.
    OutboxRead,
    /// Somebody had no good credentials; the object names the request.
    SignIn,
    /// An access token was given out.
    TokenExport,
    /// A JS-SDK or card ticket was given out.
    TicketExport,
    /// A page's address was signed for the JS-SDK.
    JssdkSignature,
    /// It was asked who has logged in to an account's pages; the object names who it is.
    SessionRead,
    /// A user's profile was read; the object names the user.
    ProfileRead,
    /// Something was handed in to be sent to many people; the object names the push.
    PushMake,
    /// It was asked what would come of a push; the object names its kind.
    PushForecast,
    /// A push was paused, resumed or cancelled; the object names it.
    PushTurn,
    /// Something was handed in to be sent again and again; the object names the schedule.
    ScheduleMake,
    /// A schedule was paused or resumed; the object names it.
    ScheduleTurn,
    /// A schedule was ended.
    ScheduleRemove,
    /// A merchant was added.
    MerchantAdd,
    /// A merchant's settings were changed.
    MerchantChange,
    /// A key of a merchant, or one that WeChat Pay signs with, was added, staged or removed; the object says which.
    MerchantRotateKey,
    /// What an account may do at a merchant was changed, or it was taken from it.
    MerchantBind,
    /// Orders were looked at; the object names one.
    OrdersRead,
    /// An order was made; the object names it.
    OrderMake,
    /// An order was to be closed; the object names it.
    OrderClose,
    /// Money was to be given back; the object names the refund.
    RefundMake,
    /// A refund was approved or rejected; the object names it.
    RefundTurn,
    /// A fact about money was to be told to a plugin again; the object names it.
    PayEventResume,
    /// A request was passed on to WeChat.
    Forward,
}

impl Action {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TenantAdd => "tenant.add",
            Self::TenantChange => "tenant.change",
            Self::AccountAdd => "account.add",
            Self::AccountChange => "account.change",
            Self::AccountRotateKey => "account.rotate-key",
            Self::AttentionSet => "attention.set",
            Self::AttentionClear => "attention.clear",
            Self::AddressLift => "address.lift",
            Self::TokenRefresh => "token.refresh",
            Self::PlatformAdd => "platform.add",
            Self::PlatformChange => "platform.change",
            Self::PlatformRotateKey => "platform.rotate-key",
            Self::PlatformCall => "platform.call",
            Self::PlatformImport => "platform.import",
            Self::InvitationTurn => "invitation.turn",
            Self::AuthorisationTurn => "authorisation.turn",
            Self::OpenAccountTurn => "open-account.turn",
            Self::QuotaChange => "quota.change",
            Self::QuotaClear => "quota.clear",
            Self::RidTrace => "rid.trace",
            Self::PluginDeploy => "plugin.deploy",
            Self::PluginActivate => "plugin.activate",
            Self::KeyAdd => "key.add",
            Self::KeyRevoke => "key.revoke",
            Self::EventResume => "event.resume",
            Self::EventDrop => "event.drop",
            Self::PauseLift => "outbox.lift",
            Self::ContactsRead => "contacts.read",
            Self::ContactsImport => "contacts.import",
            Self::ValuesRead => "kv.read",
            Self::CallsRead => "calls.read",
            Self::OutboxRead => "outbox.read",
            Self::SignIn => "sign-in",
            Self::TokenExport => "token.export",
            Self::TicketExport => "ticket.export",
            Self::JssdkSignature => "jssdk.sign",
            Self::SessionRead => "session.read",
            Self::ProfileRead => "profile.read",
            Self::PushMake => "push.make",
            Self::PushForecast => "push.forecast",
            Self::PushTurn => "push.turn",
            Self::ScheduleMake => "schedule.make",
            Self::ScheduleTurn => "schedule.turn",
            Self::ScheduleRemove => "schedule.remove",
            Self::MerchantAdd => "merchant.add",
            Self::MerchantChange => "merchant.change",
            Self::MerchantRotateKey => "merchant.rotate-key",
            Self::MerchantBind => "merchant.bind",
            Self::OrdersRead => "orders.read",
            Self::OrderMake => "order.make",
            Self::OrderClose => "order.close",
            Self::RefundMake => "refund.make",
            Self::RefundTurn => "refund.turn",
            Self::PayEventResume => "pay-event.resume",
            Self::Forward => "forward",
        }
    }
}

/// Who asks for something, and in which request.
#[derive(Clone, Debug)]
pub struct Author {
    actor: String,
    request_id: String,
}

impl Author {
    /// Whoever has the admin token.
    pub fn admin(request_id: impl Into<String>) -> Self {
        Self {
            actor: "admin".to_owned(),
            request_id: request_id.into(),
        }
    }

    /// The host by itself.
    pub fn host() -> Self {
        Self {
            actor: "host".to_owned(),
            request_id: String::new(),
        }
    }

    /// A tenant's system, by the id of its key.
    pub fn key(id: &str, request_id: impl Into<String>) -> Self {
        Self {
            actor: id.to_owned(),
            request_id: request_id.into(),
        }
    }

    /// Notes in a change what it is about.
    ///
    /// # Errors
    /// The database failed, and with it the change.
    pub async fn note(
        &self,
        change: &mut Change,
        action: Action,
        app_id: Option<&str>,
        object: &str,
    ) -> Result<(), DbError> {
        rows::note(change, &self.entry(action, app_id, object, "ok")).await
    }

    /// An entry of now.
    pub fn entry(
        &self,
        action: Action,
        app_id: Option<&str>,
        object: &str,
        result: &str,
    ) -> AuditRow {
        AuditRow {
            id: random::unique_name(),
            actor: self.actor.clone(),
            action: action.as_str().to_owned(),
            app_id: app_id.map(|app_id| storable(app_id, MAX_APP_ID)),
            object: storable(object, MAX_OBJECT),
            result: result.to_owned(),
            request_id: self.request_id.clone(),
            created_at: Clock.now_ms(),
        }
    }
}

/// Text that any database takes and any terminal shows, cut to `most` characters: one entry that can't
/// be stored would hold up all others of its batch.
fn storable(text: &str, most: usize) -> String {
    text.chars()
        .take(most)
        .map(|c| if is_hidden(c) { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::db::audit::AuditFilter;
    use crate::db::testing::databases;

    #[test]
    fn failed_sign_ins_without_end_have_a_bounded_number_of_entries() {
        let mut failed = FailedSignIns::default();
        let start = 1_700_000_040_000;
        assert_eq!(failed.admit(start), Some(0));
        for _ in 1..MAX_FAILED_SIGN_INS {
            assert_eq!(failed.admit(start + 59_000), Some(0));
        }
        for _ in 0..1000 {
            assert_eq!(failed.admit(start + 59_999), None);
        }
        assert_eq!(failed.admit(start + 60_000), Some(1000));
        assert_eq!(failed.admit(start + 60_000), Some(0));
        assert_eq!(failed.admit(start + 600_000), Some(0));
    }

    #[tokio::test]
    async fn a_zero_character_in_an_app_id_does_not_hold_up_the_audit() {
        for db in databases().await {
            let metrics = Metrics::new();
            let (audit, writer) = channel((*db).clone(), &metrics);
            let author = Author::key("key-1", "r1");
            let long = "x".repeat(5_000);
            audit.add(author.entry(Action::Forward, Some("wx\0"), &long, "404"));
            audit.add(author.entry(Action::Forward, Some("wx01"), "/a", "200"));
            let stop = CancellationToken::new();
            stop.cancel();
            writer.run(stop).await;

            let all = AuditFilter {
                limit: 9,
                ..AuditFilter::default()
            };
            let entries = rows::list(&db, &all).await.unwrap();
            assert_eq!(entries.len(), 2, "{entries:?}");
            let odd = entries.iter().find(|entry| entry.result == "404").unwrap();
            assert_eq!(odd.app_id.as_deref(), Some("wx\u{fffd}"));
            assert_eq!(odd.object.len(), MAX_OBJECT);
            assert_eq!(metrics.audit.dropped.get(), 0);
        }
    }
}
