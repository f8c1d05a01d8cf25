//! The delivery against the pretend WeChat: two hosts, one database.

use http::Method as Http;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use wxhost_runtime::effects::Effect;
use wxhost_runtime::messages::{Body, CustomerMessage, TemplateMessage};
use wxhost_wechat::id::AppId;

use super::*;
use crate::accounts::TokenLine;
use crate::contacts::{Act, Observation};
use crate::db::commit::{self, AnswerWay, Commit, Committed, ReadSet};
use crate::db::inbox::no_answer;
use crate::db::outbox::{OutboxFilter, OutboxRow};
use crate::db::personal::PersonalEffects;
use crate::effects::{self, Cause};
use crate::store::{MemoryCache, Store};
use crate::tokens::testing::{Bed, Host};

const PATIENCE: Duration = Duration::from_secs(30);
const SEND: &str = "/cgi-bin/message/custom/send";

/// An account with a follower, and the hosts that deliver for it.
struct Post {
    bed: Bed,
    stop: CancellationToken,
    hosts: Vec<(Host, JoinHandle<()>)>,
    bell: Arc<Bell>,
}

impl Post {
    async fn new() -> Self {
        let bed = Bed::new(TokenLine::Stable, 7200).await;
        let post = Self {
            bed,
            stop: CancellationToken::new(),
            hosts: Vec::new(),
            bell: Arc::default(),
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
            let delivery = Delivery {
                db: self.bed.db().clone(),
                accounts: Arc::clone(&host.accounts),
                client: Arc::clone(&host.client),
                bell: Arc::clone(&self.bell),
                metrics: Arc::new(Metrics::new()),
                clock: Clock,
                scenes: Scenes::new(5, 20),
            };
            let run = tokio::spawn(delivery.run(self.stop.clone()));
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

    /// The person writes to the account, and the event has these effects.
    async fn event(&self, event_id: &str, open_id: &str, effects: Vec<Effect>) {
        self.sim(
            "interactions",
            &json!({"open_id": open_id, "kind": "message"}),
        );
        let observation = Observation {
            app_id: AppId::parse(&self.bed.app_id).unwrap(),
            open_id: OpenId::parse(open_id).unwrap(),
            union_id: None,
            at_ms: Clock.now_ms(),
            act: Act::Message,
        };
        let cause = Cause {
            app_id: &self.bed.app_id,
            event_id,
        };
        let sorted = effects::sort(effects, cause).unwrap();
        let request = Commit {
            app_id: &self.bed.app_id,
            event_id,
            reads: &ReadSet::default(),
            writes: &[],
            version: random::version(),
            personal: PersonalEffects {
                sender: Some(&observation.into_sighting()),
                steps: &sorted.steps,
            },
            trace_id: "t",
            now_ms: Clock.now_ms(),
        };
        let done = commit::commit(self.bed.db(), &no_answer(), &request)
            .await
            .unwrap();
        assert_eq!(done, Committed::Done(AnswerWay::Passive));
        self.bell.ring();
    }

    async fn rows(&self) -> Vec<OutboxRow> {
        let filter = OutboxFilter {
            app_id: &self.bed.app_id,
            state: None,
            open_id: None,
            before: None,
            limit: 200,
        };
        let mut rows = outbox::list(self.bed.db(), filter).await.unwrap();
        rows.reverse();
        rows
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
        self.stop.cancel();
        for (_, run) in self.hosts.drain(..) {
            run.await.unwrap();
        }
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
    })
}

fn template() -> Effect {
    Effect::SendTemplate(TemplateMessage {
        open_id: "oA".into(),
        template_id: "T1".into(),
        data: vec![("first".into(), "1".into())],
        url: None,
        mini_program: None,
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
    for (n, person) in people.iter().enumerate() {
        let messages = vec![text(person, "a"), text(person, "b")];
        post.event(&format!("m:{n}"), person, messages).await;
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
    let rows = outbox::lease(db, &post.bed.app_id, dead, 1).await.unwrap();
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
