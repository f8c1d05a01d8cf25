//! Answers on their way to Redis. Whoever was answered waits for none of this, so answers go behind it:
//! all that came while the last ones were under way, in one pipeline.

use std::sync::Arc;

use parking_lot::Mutex;
use redis::{ErrorKind, Pipeline, RedisResult, Script, ServerErrorKind};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{ANSWER_KEPT, Redis, millis};
use crate::inbox::Answer;
use crate::store::connection::Connection;
use crate::store::{StoreAway, keys};

/// Answers that may wait: what comes while a Redis that hangs is given up. One more is dropped, as if
/// Redis were away: other hosts run the event again, and the database lets one of the runs through.
const MOST: usize = 1 << 16;

/// Stores the owner's answer and wakes who waits for it.
const ANSWER: &str = r"
local event = redis.call('HMGET', KEYS[1], 'state', 'owner', 'watched')
if event[1] == 'answered' then return 0 end
if event[1] == 'running' and event[2] ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'state', 'answered', 'answer', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if event[3] then redis.call('PUBLISH', ARGV[4], KEYS[1]) end
return 1
";

/// The answer of an event that its owner ran.
#[derive(Debug)]
struct Told {
    event: String,
    owner: String,
    answer: Answer,
}

/// Answers that wait to be sent.
pub(super) struct Answers {
    waiting: Mutex<Vec<Told>>,
    wake: Notify,
    script: Script,
}

impl Answers {
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            wake: Notify::new(),
            script: Script::new(ANSWER),
        }
    }

    fn pipeline<'a>(&self, told: impl IntoIterator<Item = &'a Told>) -> Pipeline {
        let mut pipeline = redis::pipe();
        for told in told {
            pipeline
                .cmd("EVALSHA")
                .arg(self.script.get_hash())
                .arg(1)
                .arg(&told.event)
                .arg(&told.owner)
                .arg(told.answer.as_str())
                .arg(millis(ANSWER_KEPT))
                .arg(keys::SETTLED)
                .ignore();
        }
        pipeline
    }
}

impl Redis {
    /// Hands in the answer of an event that the owner ran; [`send_answers`] stores it.
    pub fn answer(&self, app_id: &str, event_id: &str, owner: String, answer: Answer) {
        let told = Told {
            event: keys::event(app_id, event_id),
            owner,
            answer,
        };
        let mut waiting = self.answers.waiting.lock();
        if waiting.len() < MOST {
            waiting.push(told);
        }
        drop(waiting);
        self.answers.wake.notify_one();
    }

    /// Stores all answers that wait.
    ///
    /// # Errors
    /// Redis can't be reached: they are lost.
    async fn store_answers(&self) -> Result<(), StoreAway> {
        let told = std::mem::take(&mut *self.answers.waiting.lock());
        if told.is_empty() {
            return Ok(());
        }
        let mut connection = self.connection().await?;
        if let Connection::Cluster(_) = connection {
            // A pipeline stays within one slot there, and so within an account.
            let each = told.iter().map(|told| {
                let mut connection = connection.clone();
                async move {
                    self.run(self.answers.pipeline([told]), &mut connection)
                        .await
                }
            });
            return futures::future::try_join_all(each).await.map(drop);
        }
        self.run(self.answers.pipeline(&told), &mut connection)
            .await
    }

    async fn run(&self, pipeline: Pipeline, connection: &mut Connection) -> Result<(), StoreAway> {
        let unknown = ErrorKind::Server(ServerErrorKind::NoScript);
        let mut reply: RedisResult<()> = pipeline.query_async(connection).await;
        if reply.as_ref().is_err_and(|error| error.kind() == unknown) {
            reply = match self.answers.script.load_async(connection).await {
                // To store an answer twice is to store it once.
                Ok(_) => pipeline.query_async(connection).await,
                Err(error) => Err(error),
            };
        }
        self.noting_failure(reply)
    }
}

/// Sends answers until `stop`, and then those that still wait.
pub async fn send_answers(redis: Arc<Redis>, stop: CancellationToken) {
    loop {
        let stopped = tokio::select! {
            () = redis.answers.wake.notified() => false,
            () = stop.cancelled() => true,
        };
        // A Redis that went away meanwhile forgets the claims by itself.
        let _: Result<(), StoreAway> = redis.store_answers().await;
        if stopped {
            return;
        }
    }
}
