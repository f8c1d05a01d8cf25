//! The sender against the pretend WeChat: two hosts, one database.

mod review;

use http::Method as Http;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use wxhost_runtime::effects::Effect;
use wxhost_runtime::messages::{Body, CustomerMessage, TemplateMessage};
use wxhost_simulator::api::AppSettings;
use wxhost_wechat::id::{AppId, OpenId};
use wxhost_wechat::secret::AppSecret;

use super::*;
use crate::accounts::NewAccount;
use crate::audit::Author;
use crate::clock::Clock;
use crate::contacts::{Act, UserAction};
use crate::credentials::{CredentialChange, TokenLine};
use crate::db::Lease;
use crate::db::commit::{self, AnswerWay, Commit, Committed, ReadSet};
use crate::db::inbox::no_answer;
use crate::db::outbox::{Begun, OutboxFilter, OutboxRow, Receipt};
use crate::db::personal::PersonalEffects;
use crate::effects::{self, Cause};
use crate::store::{MemoryCache, Store};
use crate::tokens::testing::{Bed, Host, SECRET};
use crate::write_behind::Row as _;

const PATIENCE: Duration = Duration::from_secs(30);
const SEND: &str = "/cgi-bin/message/custom/send";

/// An account with a follower, and the hosts that deliver for it.
struct Post {
    bed: Bed,
    stop: CancellationToken,
    hosts: Vec<(Host, JoinHandle<()>)>,
    wake: Arc<Wake>,
    metrics: Arc<Metrics>,
}

impl Post {
    async fn new() -> Self {
        let bed = Bed::new(TokenLine::Stable, 7200).await;
        let post = Self {
            bed,
            stop: CancellationToken::new(),
            hosts: Vec::new(),
            wake: Arc::default(),
            metrics: Arc::default(),
        };
        post.sim("followers", &json!({"open_ids": ["oA", "oB"]}));
        post
    }

    /// Begins to deliver.
    async fn with_hosts(mut self, count: usize) -> Self {
        for _ in 0..count {
            let host = self
                .bed
                .host(Store::Memory(Arc::new(MemoryCache::new())))
                .await;
            let sender = Sender {
                db: self.bed.db().clone(),
                accounts: Arc::clone(&host.accounts),
                client: Arc::clone(&host.client),
                wake: Arc::clone(&self.wake),
                metrics: Arc::clone(&self.metrics),
                scenes: Scenes::new(5, 20),
            };
            let run = tokio::spawn(sender.run(self.stop.clone()));
            self.hosts.push((host, run));
        }
        self
    }

    fn sim(&self, what: &str, body: &Value) {
        let path = format!("/apps/{}/{what}", self.bed.app_id);
        let control = self.bed.wechat.control();
        control.ask(Http::POST, &path, body).unwrap();
    }

    /// What the follower has been shown.
    fn shown(&self) -> Vec<Value> {
        let path = format!("/apps/{}/messages", self.bed.app_id);
        let control = self.bed.wechat.control();
        let shown = control.ask(Http::GET, &path, &Value::Null).unwrap();
        shown.as_array().unwrap().clone()
    }

    fn received(&self, path: &str) -> usize {
        let path = format!("/requests?path={path}");
        let control = self.bed.wechat.control();
        let received = control.ask(Http::GET, &path, &Value::Null).unwrap();
        received.as_array().unwrap().len()
    }

    /// Another account, with its followers; its id.
    async fn account(&self) -> String {
        let app_id = format!("wx{}", &hex::encode(random::sixteen())[..16]);
        let settings = AppSettings::new(AppId::parse(&app_id).unwrap(), SECRET);
        self.bed.wechat.control().put_app(settings).unwrap();
        let account = NewAccount {
            credentials: CredentialChange {
                secret: Some(Some(AppSecret::parse(SECRET).unwrap())),
                ..CredentialChange::default()
            },
            ..NewAccount::plain(&app_id)
        };
        let host = self.bed.alone().await;
        let added = host.accounts.add_account(account, &Author::host()).await;
        added.unwrap();
        app_id
    }

    /// The contact writes to the account, and the event has these effects.
    async fn event(&self, event_id: &str, open_id: &str, effects: Vec<Effect>) {
        self.sim(
            "interactions",
            &json!({"open_id": open_id, "kind": "message"}),
        );
        self.commit(&self.bed.app_id, event_id, open_id, effects)
            .await;
    }

    /// An event of a contact who wrote to an account.
    async fn commit(&self, app_id: &str, event_id: &str, open_id: &str, effects: Vec<Effect>) {
        let action = UserAction {
            app_id: AppId::parse(app_id).unwrap(),
            open_id: OpenId::parse(open_id).unwrap(),
            union_id: None,
            at_ms: Clock.now_ms(),
            act: Act::Message,
        };
        let cause = Cause { app_id, event_id };
        let sorted = effects::sort(effects, cause).unwrap();
        let request = Commit {
            app_id,
            event_id,
            reads: &ReadSet::default(),
            writes: &[],
            version: random::version(),
            money: &[],
            personal: PersonalEffects {
                sender: Some(&action.into_update()),
                steps: &sorted.steps,
            },
            trace_id: "t",
            now_ms: Clock.now_ms(),
        };
        let done = commit::commit(self.bed.db(), &no_answer(), &request)
            .await
            .unwrap();
        assert_eq!(done, Committed::Done(AnswerWay::Passive));
        self.wake.wake(app_id);
    }

    async fn rows(&self) -> Vec<OutboxRow> {
        self.rows_of(&self.bed.app_id).await
    }

    async fn rows_of(&self, app_id: &str) -> Vec<OutboxRow> {
        let filter = OutboxFilter {
            app_id,
            state: None,
            open_id: None,
            before: None,
            limit: 200,
        };
        let mut rows = outbox::list(self.bed.db(), filter).await.unwrap();
        rows.reverse();
        rows
    }

    /// Waits until the row in this place is in a state.
    async fn until(&self, place: usize, state: &str) -> OutboxRow {
        let waiting = async {
            loop {
                let rows = self.rows().await;
                if let Some(row) = rows.into_iter().nth(place).filter(|row| row.state == state) {
                    return row;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .expect("the row gets there")
    }

    /// Stops the hosts.
    async fn end(&mut self) {
        self.stop.cancel();
        for (_, run) in self.hosts.drain(..) {
            run.await.unwrap();
        }
        self.stop = CancellationToken::new();
    }

    /// Waits until every row has ended; their states and reasons, and stops the hosts.
    async fn ended(mut self) -> (Self, Vec<(String, Option<String>)>) {
        let ending = async {
            loop {
                let rows = self.rows().await;
                if rows.iter().all(|row| row.settled_at.is_some()) {
                    return rows;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let rows = tokio::time::timeout(PATIENCE, ending)
            .await
            .expect("all rows end");
        self.end().await;
        let states = rows
            .into_iter()
            .map(|row| (row.state, row.reason))
            .collect();
        (self, states)
    }
}

fn text(open_id: &str, text: impl Into<String>) -> Effect {
    Effect::SendMessage(CustomerMessage {
        open_id: open_id.into(),
        body: Body::Text(text.into()),
        kf_account: None,
        expires_at: None,
    })
}

fn template() -> Effect {
    Effect::SendTemplate(TemplateMessage {
        open_id: "oA".into(),
        template_id: "T1".into(),
        data: vec![("first".into(), "1".into())],
        url: None,
        mini_program: None,
        expires_at: None,
    })
}

#[tokio::test]
async fn two_hosts_send_each_message_once_in_order_and_try_none_in_vain() {
    let post = Post::new().await.with_hosts(2).await;
    let messages = (0..7).map(|n| text("oA", format!("{n}"))).collect();
    post.event("m:1", "oA", messages).await;
    let (post, states) = post.ended().await;
    let sent = states.iter().filter(|(state, _)| state == "sent").count();
    assert_eq!(sent, 5, "{states:?}");
    let skipped = ("skipped".to_owned(), Some("allowance-used-up".to_owned()));
    assert_eq!(states[5..], [skipped.clone(), skipped]);
    let shown: Vec<_> = post
        .shown()
        .iter()
        .map(|shown| shown["message"]["text"]["content"].clone())
        .collect();
    assert_eq!(shown, ["0", "1", "2", "3", "4"]);
    assert_eq!(post.received(SEND), 5);
}

#[tokio::test]
async fn many_peoples_messages_are_sent_once_each_by_three_hosts() {
    let post = Post::new().await;
    let people: Vec<_> = (0..40).map(|n| format!("oP{n:02}")).collect();
    post.sim("followers", &json!({"open_ids": people}));
    for (n, contact) in people.iter().enumerate() {
        let messages = vec![text(contact, "a"), text(contact, "b")];
        post.event(&format!("m:{n}"), contact, messages).await;
    }
    let (post, states) = post.with_hosts(3).await.ended().await;
    assert!(
        states.iter().all(|(state, _)| state == "sent"),
        "{states:?}"
    );
    assert_eq!(post.received(SEND), 80);
}

#[tokio::test]
async fn a_refusal_that_was_not_foreseen_ends_the_trying() {
    let post = Post::new().await;
    post.bed.change(json!({"messages_per_interaction": 1}));
    let messages = (0..4).map(|n| text("oA", format!("{n}"))).collect();
    post.event("m:1", "oA", messages).await;
    let (post, states) = post.with_hosts(1).await.ended().await;
    let states: Vec<_> = states.iter().map(|(state, _)| &**state).collect();
    assert_eq!(states, ["sent", "failed", "skipped", "skipped"]);
    assert_eq!(post.received(SEND), 2);
    assert_eq!(post.rows().await[1].errcode, Some(45047));
}

#[tokio::test]
async fn a_busy_wechat_is_asked_again_and_the_order_stays() {
    let post = Post::new().await;
    post.bed
        .fault(json!({"kind": "busy", "path_prefix": SEND, "count": 1}));
    post.event("m:1", "oA", vec![text("oA", "first"), text("oA", "second")])
        .await;
    let (post, states) = post.with_hosts(2).await.ended().await;
    assert!(
        states.iter().all(|(state, _)| state == "sent"),
        "{states:?}"
    );
    let shown: Vec<_> = post
        .shown()
        .iter()
        .map(|shown| shown["message"]["text"]["content"].clone())
        .collect();
    assert_eq!(shown, ["first", "second"]);
    assert_eq!(post.rows().await[0].attempts, 2);
}

#[tokio::test]
async fn a_template_message_whose_answer_was_lost_is_shown_once() {
    let post = Post::new().await;
    post.sim(
        "templates",
        &json!({"template_id": "T1", "content": "{{first.DATA}}"}),
    );
    let path = "/cgi-bin/message/template/send";
    // More than the client repeats by itself.
    post.bed
        .fault(json!({"kind": "drop", "performed": true, "path_prefix": path, "count": 6}));
    post.event("m:1", "oA", vec![template()]).await;
    let (post, states) = post.with_hosts(1).await.ended().await;
    assert_eq!(states[0].0, "sent");
    assert_eq!(post.shown().len(), 1);
    assert!(post.received(path) > 1);
    let row = &post.rows().await[0];
    assert!(row.msgid.as_deref().is_some_and(|id| id != "0"), "{row:?}");
}

#[tokio::test]
async fn a_row_that_a_dead_host_was_sending_is_sent_and_says_so() {
    let post = Post::new().await;
    post.event("m:1", "oA", vec![text("oA", "once more")]).await;
    let now_ms = Clock.now_ms();
    let dead = Lease {
        owner: "dead",
        now_ms,
        until_ms: now_ms + 1,
    };
    let db = post.bed.db();
    let lane = SendLane {
        app_id: post.bed.app_id.clone(),
        path: SEND.to_owned(),
    };
    let rows = outbox::lease(db, &lane, dead, 1).await.unwrap();
    let begun = outbox::begin(db, &rows[0], dead, &Scenes::new(5, 20))
        .await
        .unwrap();
    assert_eq!(begun, Begun::Go);
    let (post, states) = post.with_hosts(1).await.ended().await;
    let reason = Some("repeated-after-unknown-outcome".to_owned());
    assert_eq!(states, [("sent".to_owned(), reason)]);
    // Its room was taken once.
    assert_eq!(post.received(SEND), 1);
}

#[tokio::test]
async fn a_text_of_which_nobody_knows_whether_it_arrived_is_sent_once_more_at_most_and_stays_marked()
 {
    for fault in [json!({"kind": "drop"}), json!({"kind": "html-502"})] {
        let post = Post::new().await;
        let mut lost = fault.clone();
        lost["performed"] = true.into();
        lost["path_prefix"] = SEND.into();
        post.bed.fault(lost);
        post.event("m:1", "oA", vec![text("oA", "hello")]).await;
        let (post, states) = post.with_hosts(2).await.ended().await;
        assert_eq!(states[0].0, "unknown", "{fault}");
        assert_eq!(post.received(SEND), 2, "{fault}");
        assert_eq!(post.shown().len(), 2, "{fault}");
        assert!(post.rows().await[0].unsure_at.is_some(), "{fault}");
    }
}

#[tokio::test]
async fn a_repetition_that_arrives_says_that_the_message_may_have_been_shown_twice() {
    let post = Post::new().await;
    post.bed
        .fault(json!({"kind": "drop", "performed": true, "path_prefix": SEND, "count": 1}));
    post.event("m:1", "oA", vec![text("oA", "hello")]).await;
    let (post, states) = post.with_hosts(1).await.ended().await;
    let reason = Some("repeated-after-unknown-outcome".to_owned());
    assert_eq!(states, [("sent".to_owned(), reason)]);
    assert!(post.rows().await[0].unsure_at.is_some());
}

#[tokio::test]
async fn a_template_under_the_days_quota_does_not_hold_up_an_answer() {
    let path = "/cgi-bin/message/template/send";
    let post = Post::new().await;
    post.bed
        .fault(json!({"kind": "errcode", "errcode": 45009, "path_prefix": path}));
    post.event("m:1", "oA", vec![template(), text("oA", "answer")])
        .await;
    let mut post = post.with_hosts(2).await;
    post.until(1, "sent").await;
    let waiting = &post.rows().await[0];
    assert_eq!((&*waiting.state, waiting.errcode), ("waiting", Some(45009)));
    assert_eq!(post.shown().len(), 1);
    let now_ms = Clock.now_ms();
    let pauses = outbox::pauses(post.bed.db(), &post.bed.app_id, now_ms)
        .await
        .unwrap();
    assert_eq!(pauses.len(), 1);
    assert_eq!((&*pauses[0].path, pauses[0].errcode), (path, Some(45009)));
    post.end().await;
}

#[tokio::test]
async fn what_the_account_has_no_right_to_ends_at_once_with_its_reason() {
    let path = "/cgi-bin/message/template/send";
    let post = Post::new().await;
    post.bed
        .fault(json!({"kind": "errcode", "errcode": 48001, "path_prefix": path}));
    let effects = vec![template(), template(), text("oA", "answer")];
    post.event("m:1", "oA", effects).await;
    let (post, states) = post.with_hosts(1).await.ended().await;
    let ended = ("failed".to_owned(), Some("no-right".to_owned()));
    assert_eq!(states[..2], [ended.clone(), ended]);
    assert_eq!(states[2].0, "sent");
    assert_eq!(post.received(path), 1);
    let rows = post.rows().await;
    assert_eq!(
        (rows[0].errcode, rows[1].errcode),
        (Some(48001), Some(48001))
    );
}

#[tokio::test]
async fn what_has_expired_is_not_sent() {
    let post = Post::new().await;
    let mut message = CustomerMessage {
        open_id: "oA".into(),
        body: Body::Text("too late".into()),
        kf_account: None,
        expires_at: Some(1),
    };
    let late = Effect::SendMessage(message.clone());
    message.expires_at = u64::try_from(Clock.now_ms() + 3_600_000).ok();
    let effects = vec![late, Effect::SendMessage(message)];
    post.event("m:1", "oA", effects).await;
    let (post, states) = post.with_hosts(1).await.ended().await;
    let expired = ("skipped".to_owned(), Some("expired".to_owned()));
    assert_eq!(states, [expired, ("sent".to_owned(), None)]);
    assert_eq!(post.received(SEND), 1);
}

#[tokio::test]
async fn a_contact_of_unknown_past_is_tried_once() {
    let post = Post::new().await;
    // Wrote before the host came; the other one did not.
    post.sim("interactions", &json!({"open_id": "oB", "kind": "message"}));
    post.sim("followers", &json!({"open_ids": ["oC"]}));
    let effects = vec![text("oB", "1"), text("oC", "2"), text("oC", "3")];
    post.event("m:1", "oA", effects).await;
    let (post, states) = post.with_hosts(1).await.ended().await;
    let states: Vec<_> = states.iter().map(|(state, _)| &**state).collect();
    assert_eq!(states, ["sent", "failed", "skipped"]);
    assert_eq!(post.received(SEND), 2);
}

#[tokio::test]
async fn a_message_waits_for_what_a_callback_told_and_is_not_written_yet() {
    let post = Post::new().await;
    let db = post.bed.db().clone();
    let action = |at_ms| UserAction {
        app_id: AppId::parse(&post.bed.app_id).unwrap(),
        open_id: OpenId::parse("oB").unwrap(),
        union_id: None,
        at_ms,
        act: Act::Message,
    };
    let two_days = 48 * 3_600_000;
    let long_ago = action(Clock.now_ms() - 2 * two_days).into_update();
    let fresh = action(Clock.now_ms()).into_update();
    crate::db::contact_updates::write(&db, &[long_ago])
        .await
        .unwrap();
    post.sim("interactions", &json!({"open_id": "oB", "kind": "message"}));
    post.event("m:1", "oA", vec![text("oB", "1")]).await;
    let post = post.with_hosts(1).await;
    // The ledger has refused it for now.
    let waits = async {
        while post.rows().await[0].reason.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waits).await.unwrap();
    crate::db::contact_updates::write(&db, &[fresh])
        .await
        .unwrap();
    let (_, states) = post.ended().await;
    assert_eq!(states, [("sent".to_owned(), None)]);
}

#[tokio::test]
async fn an_account_that_this_host_cannot_read_keeps_its_messages() {
    let mut post = Post::new().await.with_hosts(1).await;
    // The host has not heard of it, as of one that is sealed with a key that it lacks.
    let app_id = post.account().await;
    post.commit(&app_id, "m:1", "oA", vec![text("oA", "kept")])
        .await;
    let waiting = async {
        loop {
            let row = post.rows_of(&app_id).await.remove(0);
            if row.reason.is_some() {
                return row;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let row = tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    assert_eq!(row.reason.as_deref(), Some("account-unreadable"));
    assert_eq!(row.state, "waiting");
    post.end().await;
}

#[tokio::test]
async fn accounts_whose_calls_hang_do_not_keep_others_from_sending() {
    let post = Post::new().await;
    let people: Vec<_> = (0..8).map(|n| format!("oP{n}")).collect();
    let mut sick = Vec::new();
    for _ in 0..40 {
        let app_id = post.account().await;
        post.bed
            .fault(json!({"kind": "slow", "ms": 60_000, "app_id": app_id, "path_prefix": SEND}));
        let messages = people.iter().map(|contact| text(contact, "1")).collect();
        post.commit(&app_id, "m:1", "oA", messages).await;
        sick.push(app_id);
    }
    let mut post = post.with_hosts(1).await;
    post.event("m:1", "oA", vec![text("oA", "1")]).await;
    post.until(0, "sent").await;
    for app_id in sick {
        let rows = post.rows_of(&app_id).await;
        // None of those calls has come to an end yet.
        assert!(rows.iter().all(|row| row.reason.is_none()), "{rows:?}");
    }
    post.stop.cancel();
    for (_, run) in post.hosts.drain(..) {
        run.abort();
    }
}

#[tokio::test]
async fn an_account_whose_calls_rest_is_left_aside_until_they_do_not() {
    let mut post = Post::new().await.with_hosts(1).await;
    let account = post.hosts[0].0.accounts.get(&post.bed.app_id).unwrap();
    // Somebody else's calls, such as a plugin's, were left without an answer.
    while !account
        .slots
        .breaker
        .note_failure(Instant::now(), |rest| rest)
    {}
    post.event("m:1", "oA", vec![text("oA", "1")]).await;
    post.until(0, "sent").await;
    // It was not leased only to be put back.
    let counted = post.metrics.to_text();
    assert!(!counted.contains(r#"outcome="again""#), "{counted}");
    post.end().await;
}
