//! Template messages that WeChat holds for review (40252): it decides within half an hour, mostly, and
//! delivers or blocks them by itself. They are not sent again. What it has blocked it lists; what was
//! delivered is told by an event (`TEMPLATESENDJOBFINISH`), which has an id that the held message was
//! never given. After two days nobody knows, and the row stays `held`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wxhost_wechat::api::template_review::{BlockedMessage, ListBlocked, MAX_LISTED};
use wxhost_wechat::id::AppId;
use wxhost_wechat::message::{Content, Message, TemplateVerdict};

use super::Sender;
use crate::client::CallError;
use crate::clock::millis;
use crate::db::outbox::{self, Final, Held, Receipt, Report, RowId};
use crate::db::{Database, DbError, push};
use crate::telemetry::Metrics;
use crate::write_behind::{self, Row};

/// How often is looked whether it is time to ask.
const PERIOD: Duration = Duration::from_secs(30);
/// Messages of which is asked in one go.
const AT_ONCE: i64 = 100;
/// Pages of a list that are asked for.
const MAX_PAGES: usize = 10;
/// How long a question may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The first wait between two questions; each further one is as long as all before it.
const FIRST_WAIT: Duration = Duration::from_secs(30 * 60);
/// How long is asked.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(48 * 3600);
/// How far WeChat's time of a message may be from when it was posted.
const SLACK: Duration = Duration::from_secs(120);
/// The errcode of a message that is blocked.
const BLOCKED: i64 = 40249;

/// Where receipts are handed in.
pub type Receipts = write_behind::Queue<Receipt>;
/// The loop that takes them to the messages that they are about.
pub type ReceiptWriter = write_behind::Writer<Receipt>;

impl Row for Receipt {
    const NAME: &'static str = "receipts of messages";
    const BATCH: usize = 1024;

    fn bytes(&self) -> usize {
        let failure = self.failure.as_ref().map_or(0, String::len);
        size_of::<Self>() + self.app_id.len() + self.open_id.len() + self.msgid.len() + failure
    }

    async fn insert(db: &Database, receipts: &[Self]) -> Result<(), DbError> {
        push::take_receipts(db, receipts).await?;
        if !outbox::holds_any(db).await? {
            return Ok(());
        }
        for receipt in receipts {
            let Some(id) = outbox::held_of(db, receipt).await? else {
                continue;
            };
            let end = match receipt.failure {
                None => Final::Sent,
                Some(_) => Final::Failed,
            };
            let report = Report {
                reason: receipt.failure.as_ref().map(|_| "not-delivered"),
                errmsg: receipt.failure.clone(),
                msgid: Some(receipt.msgid.clone()),
                errcode: None,
            };
            let row = RowId {
                app_id: &receipt.app_id,
                id: &id,
            };
            outbox::decide(db, row, end, &report, db.now_ms()).await?;
        }
        Ok(())
    }
}

/// What an event tells of a message that was sent.
pub fn receipt_of(app_id: &AppId, message: &Message) -> Option<Receipt> {
    let Content::TemplateSent(sent) = &message.content else {
        return None;
    };
    let arrived = match sent.verdict() {
        TemplateVerdict::Delivered => true,
        TemplateVerdict::Blocked | TemplateVerdict::Failed => false,
        // What says neither settles nothing.
        TemplateVerdict::Unknown => return None,
    };
    Some(Receipt {
        app_id: app_id.as_str().to_owned(),
        open_id: message.from_user.as_str().to_owned(),
        msgid: sent.msg_id.to_string(),
        failure: (!arrived).then(|| sent.status.replace('\0', "")),
    })
}

/// A queue of receipts and its writer.
pub fn receipts(db: Database, metrics: &Metrics) -> (Receipts, ReceiptWriter) {
    write_behind::channel(db, metrics.receipts.clone())
}

impl Sender {
    /// Asks WeChat what becomes of the messages that it holds, until `stop`.
    pub(super) async fn follow_reviews(&self, stop: &CancellationToken) {
        loop {
            if let Err(error) = self.follow_up().await {
                tracing::debug!(error = %error, "messages that are held can't be looked at");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }

    async fn follow_up(&self) -> Result<(), DbError> {
        if !outbox::holds_any(&self.db).await? {
            return Ok(());
        }
        let held = outbox::lease_held(&self.db, self.db.now_ms(), AT_ONCE).await?;
        let mut by_template: BTreeMap<(String, String), Vec<Held>> = BTreeMap::new();
        for message in held {
            let template = (message.app_id.clone(), template_of(&message));
            by_template.entry(template).or_default().push(message);
        }
        for ((app_id, template_id), messages) in by_template {
            let blocked = match self.blocked(&app_id, &template_id).await {
                Ok(blocked) => blocked,
                Err(error) => {
                    tracing::debug!(account.app_id = app_id, error = %error, "what is blocked can't be listed");
                    Vec::new()
                }
            };
            for message in messages {
                self.conclude(&message, &blocked).await?;
            }
        }
        Ok(())
    }

    async fn conclude(&self, message: &Held, blocked: &[BlockedMessage]) -> Result<(), DbError> {
        if blocked.iter().any(|blocked| is_same(blocked, message)) {
            let report = Report {
                reason: Some("blocked-by-review"),
                errcode: Some(BLOCKED),
                ..Report::default()
            };
            outbox::decide(
                &self.db,
                message.row(),
                Final::Failed,
                &report,
                self.db.now_ms(),
            )
            .await?;
            return Ok(());
        }
        let (due_at, reason) = match next_question(message.tried_at, self.db.now_ms()) {
            Some(due_at) => (Some(due_at), "held-for-review"),
            None => (None, "verdict-unknown"),
        };
        outbox::ask_again(&self.db, message.row(), due_at, reason).await
    }

    /// Messages of a template that were blocked.
    async fn blocked(
        &self,
        app_id: &str,
        template_id: &str,
    ) -> Result<Vec<BlockedMessage>, CallError> {
        let Some(account) = self
            .accounts
            .get(app_id)
            .filter(|account| account.is_active())
        else {
            return Ok(Vec::new());
        };
        let deadline = Instant::now() + TIMEOUT;
        let (mut found, mut after) = (Vec::new(), 0);
        for _ in 0..MAX_PAGES {
            let call = ListBlocked {
                template_id: template_id.to_owned(),
                after,
                limit: MAX_LISTED,
            };
            let page = self.client.call(&account, &call, deadline).await?.messages;
            let is_last = page.len() < MAX_LISTED as usize;
            after = page.last().map_or(after, |last| last.id.0);
            found.extend(page);
            if is_last {
                break;
            }
        }
        Ok(found)
    }
}

fn template_of(message: &Held) -> String {
    let payload: Value = serde_json::from_str(&message.payload).unwrap_or_default();
    payload["template_id"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn is_same(blocked: &BlockedMessage, message: &Held) -> bool {
    let sent_ms = i64::try_from(blocked.send_timestamp.0).map_or(0, |at| at.saturating_mul(1000));
    let apart = sent_ms.saturating_sub(message.tried_at).saturating_abs();
    blocked.open_id == message.open_id && apart <= millis(SLACK)
}

/// When is asked next; None when it is given up.
fn next_question(tried_at: i64, now_ms: i64) -> Option<i64> {
    let age_ms = now_ms.saturating_sub(tried_at);
    let wait_ms = age_ms.max(millis(FIRST_WAIT));
    (age_ms < millis(GIVEN_UP_AFTER)).then(|| now_ms.saturating_add(wait_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_asked_after_half_an_hour_and_then_ever_later_for_two_days() {
        let (mut at_ms, mut asked) = (0, Vec::new());
        while let Some(next) = next_question(0, at_ms) {
            at_ms = next;
            asked.push(at_ms / 60_000);
        }
        assert_eq!(asked, [30, 60, 120, 240, 480, 960, 1920, 3840]);
    }

    #[test]
    fn an_event_that_says_neither_is_no_receipt() {
        let app_id = AppId::parse("wx0123456789abcdef").unwrap();
        let receipt = |status: &str| {
            let body = format!(
                "<xml><ToUserName>gh_1</ToUserName><FromUserName>oA</FromUserName>\
                 <CreateTime>1</CreateTime><MsgType>event</MsgType>\
                 <Event>TEMPLATESENDJOBFINISH</Event><MsgID>7</MsgID><Status>{status}</Status></xml>"
            );
            receipt_of(&app_id, &Message::read(body.as_bytes()).unwrap())
        };
        let failure = |status: &str| receipt(status).map(|receipt| receipt.failure);
        assert_eq!(failure("success"), Some(None));
        assert_eq!(failure("Success "), Some(None));
        let blocked = "failed:user block";
        assert_eq!(failure(blocked), Some(Some(blocked.to_owned())));
        assert_eq!(failure("sending"), None);
        assert_eq!(failure(""), None);
    }

    #[test]
    fn a_blocked_message_is_known_by_its_receiver_and_time() {
        let held = Held {
            id: "1".into(),
            app_id: "wx01".into(),
            open_id: "oA".into(),
            payload: r#"{"template_id":"T1"}"#.into(),
            tried_at: 1_700_000_000_000,
        };
        assert_eq!(template_of(&held), "T1");
        for (open_id, at, expected) in [
            ("oA", 1_700_000_000, true),
            ("oA", 1_700_000_100, true),
            ("oA", 1_700_000_200, false),
            ("oB", 1_700_000_000, false),
            ("oA", u64::MAX, false),
        ] {
            let body = format!(
                r#"{{"errcode":0,"msginfo":{{"id":1,"openid":"{open_id}","send_timestamp":{at}}}}}"#
            );
            let blocked =
                <ListBlocked as wxhost_wechat::api::Call>::answer(body.as_bytes()).unwrap();
            assert_eq!(is_same(&blocked.messages[0], &held), expected);
        }
    }
}
