//! Commits that become durable together.
//!
//! To make a commit durable takes far longer than its statements do. So commits that only read and write
//! values wait for a turn together, and whoever gets the turn does it for all of them in one transaction
//! (`batch`). SQLite has one writer at a time anyway; there, any other commit that has done its part while
//! more wait hands its open transaction on, and the last one commits for all: each has a savepoint, so
//! that what one takes back the others keep. Nobody is told that it is done before it is durable.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::AnyConnection;
use tokio::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, SetOnce};

use super::batch::{self, Member, Outcome};
use super::{AnswerWay, Commit, Committed, LaneRow, write_all};
use crate::db::{Database, DbError, Dialect, Transaction};

/// Commits of one group at most: the first of them waits for the last.
const MOST: usize = 256;
/// Locks for commits that are tried again. Accounts that share one wait for a commit of each other's.
const LOCKS: usize = 64;
/// How long a group waits for a member that was to take it over and went away.
const LOST_AFTER: Duration = Duration::from_millis(5);

/// The group that is open, if there is one, and those who wait for their turn.
#[derive(Debug)]
pub(in crate::db) struct Groups {
    turn: Mutex<Option<Group>>,
    accounts: Vec<RwLock<()>>,
    hasher: RandomState,
    waiting: AtomicUsize,
    /// Commits that only read and write values, until somebody has the turn.
    members: parking_lot::Mutex<VecDeque<Member>>,
}

/// An open transaction, and those who wait for its end.
#[derive(Debug)]
struct Group {
    transaction: Transaction,
    end: Undecided,
    members: usize,
}

/// Whether a group is durable, once that is known.
type End = Arc<SetOnce<bool>>;

/// The end of a group that is still open: dropped so, the group comes to nothing.
#[derive(Debug, Default)]
struct Undecided(End);

impl Drop for Undecided {
    fn drop(&mut self) {
        // The first end counts.
        let _ = self.0.set(false);
    }
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            turn: Mutex::default(),
            accounts: (0..LOCKS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::new(),
            waiting: AtomicUsize::new(0),
            members: parking_lot::Mutex::default(),
        }
    }
}

impl Groups {
    /// Lets a commit of an account go beside others of it.
    pub(super) async fn beside_others(&self, app_id: &str) -> RwLockReadGuard<'_, ()> {
        self.lock(app_id).read().await
    }

    /// Lets a commit of an account go alone on this host. PostgreSQL takes a transaction that reads a key
    /// in vain to have read all that may come beside it, and ends one of those that write there.
    pub(super) async fn alone(&self, app_id: &str) -> RwLockWriteGuard<'_, ()> {
        self.lock(app_id).write().await
    }

    fn lock(&self, app_id: &str) -> &RwLock<()> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "any bits of the hash will do"
        )]
        let hash = self.hasher.hash_one(app_id) as usize;
        &self.accounts[hash % LOCKS]
    }

    /// Commits an event that only reads and writes values, together with all others of its sort that
    /// wait. None: it is to be committed alone.
    ///
    /// # Errors
    /// The database can't be reached: nothing was written, as far as is known.
    pub(super) async fn commit_plainly<B>(
        &self,
        db: &Database,
        answer: &Arc<str>,
        commit: &Commit<'_>,
    ) -> Result<Option<Committed<B>>, DbError> {
        let Some((member, mut outcome)) = Member::of(answer, commit) else {
            return Ok(None);
        };
        self.members.lock().push_back(member);
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut outcome => break outcome,
                turn = self.next_turn() => self.commit_members(db, turn).await?,
            }
        };
        match outcome {
            Ok(Outcome::Done) => Ok(Some(Committed::Done(AnswerWay::Passive))),
            Ok(Outcome::Conflict(key)) => Ok(Some(Committed::Conflict { key })),
            Ok(Outcome::Alone) => Ok(None),
            Err(_) => {
                let cause = "whoever committed for this event too could not".into();
                Err(DbError::Unavailable(cause))
            }
        }
    }

    /// Commits all members that wait, in one's turn.
    async fn commit_members(
        &self,
        db: &Database,
        mut turn: MutexGuard<'_, Option<Group>>,
    ) -> Result<(), DbError> {
        let members: Vec<Member> = {
            let mut waiting = self.members.lock();
            let most = waiting.len().min(batch::MOST);
            waiting.drain(..most).collect()
        };
        if members.is_empty() {
            return Ok(());
        }
        let mut group = match turn.take() {
            Some(group) => group,
            None => Group::begin(db).await?,
        };
        let written = group.add_members(db.dialect(), &members).await;
        let ended = match written {
            Ok(outcomes) => group.end().await.map(|()| outcomes),
            Err(error) => Err(error),
        };
        let outcomes = match ended {
            Ok(outcomes) => outcomes,
            // One of them met another host's, or can't be written: each finds out alone.
            Err(
                DbError::Conflict(_)
                | DbError::Failed(_)
                | DbError::Duplicate(_)
                | DbError::InvalidText(_),
            ) => vec![Outcome::Alone; members.len()],
            Err(error) => return Err(error),
        };
        for (member, outcome) in members.into_iter().zip(outcomes) {
            member.tell(outcome);
        }
        Ok(())
    }

    /// Commits an event together with those that come meanwhile.
    ///
    /// # Errors
    /// The database can't be reached, or another member of the group broke it: nothing was written.
    pub(super) async fn commit<R: LaneRow>(
        &self,
        db: &Database,
        row: &R,
        commit: &Commit<'_>,
    ) -> Result<Committed<R::Before>, DbError> {
        let (committed, end) = {
            let mut turn = self.next_turn().await;
            let mut group = match turn.take() {
                Some(group) => group,
                None => Group::begin(db).await?,
            };
            // Dropped with an error, a group is rolled back, and all its members are told.
            let committed = group.add(row, commit).await?;
            if group.members == 0 {
                // Nobody's part is in it, and what was seen is durable.
                return committed;
            }
            let end = Arc::clone(&group.end.0);
            if group.members < MOST && self.waiting.load(Ordering::Acquire) > 0 {
                *turn = Some(group);
            } else {
                group.end().await?;
            }
            (committed, end)
        };
        // What was seen may be of a member before that is not durable yet.
        if self.is_durable(&end).await {
            committed
        } else {
            let cause = "another commit of the same group failed".into();
            Err(DbError::Unavailable(cause))
        }
    }

    async fn next_turn(&self) -> MutexGuard<'_, Option<Group>> {
        struct Waits<'a>(&'a AtomicUsize);
        impl Drop for Waits<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::AcqRel);
            }
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let _waits = Waits(&self.waiting);
        self.turn.lock().await
    }

    /// Waits for the end of a group; sees to it oneself if whoever was to take it over went away.
    async fn is_durable(&self, end: &End) -> bool {
        loop {
            tokio::select! {
                biased;
                durable = end.wait() => return *durable,
                () = tokio::time::sleep(LOST_AFTER) => {}
            }
            let mut turn = self.turn.lock().await;
            if let Some(group) = turn.take_if(|group| Arc::ptr_eq(&group.end.0, end)) {
                // An error is the group's end too.
                let _: Result<(), DbError> = group.end().await;
            }
        }
    }
}

impl Group {
    async fn begin(db: &Database) -> Result<Self, DbError> {
        Ok(Self {
            transaction: db.begin().await?,
            end: Undecided::default(),
            members: 0,
        })
    }

    /// Does the parts of all `members`. After an error the group is broken.
    async fn add_members(
        &mut self,
        dialect: Dialect,
        members: &[Member],
    ) -> Result<Vec<Outcome>, DbError> {
        let db = self.transaction.connection();
        if dialect == Dialect::Postgres {
            run(db, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE").await?;
        }
        batch::write(dialect, db, members).await
    }

    /// Does a member's part; takes it back if it is not to happen, or fails.
    ///
    /// # Errors
    /// The group is broken.
    async fn add<R: LaneRow>(
        &mut self,
        row: &R,
        commit: &Commit<'_>,
    ) -> Result<Result<Committed<R::Before>, DbError>, DbError> {
        let db = self.transaction.connection();
        // The first has nobody's part to spare: where it fails, the group is dropped.
        let is_first = self.members == 0;
        if !is_first {
            run(db, "SAVEPOINT member").await?;
        }
        let committed = write_all(Dialect::Sqlite, db, row, commit).await;
        let is_done = matches!(committed, Ok(Committed::Done(_)));
        if !is_first && !is_done {
            run(db, "ROLLBACK TO member").await?;
        }
        if !is_first {
            run(db, "RELEASE member").await?;
        }
        self.members += usize::from(is_done);
        Ok(committed)
    }

    /// Makes the group durable, and tells its members.
    async fn end(self) -> Result<(), DbError> {
        self.transaction.commit().await?;
        let _ = self.end.0.set(true);
        Ok(())
    }
}

async fn run(db: &mut AnyConnection, statement: &'static str) -> Result<(), DbError> {
    sqlx::raw_sql(statement).execute(db).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{put, request, row};
    use super::*;
    use crate::db::commit::{AnswerWay, Expectation, ReadSet};
    use crate::db::testing::sqlite;

    const DONE: Committed<String> = Committed::Done(AnswerWay::Passive);

    /// A member that holds its turn until it is told to go on, and then fails or not.
    struct Gate<'a> {
        entered: &'a tokio::sync::Notify,
        go: &'a tokio::sync::Notify,
        fails: bool,
    }

    impl LaneRow for Gate<'_> {
        type Before = String;

        async fn take(
            &self,
            db: &mut AnyConnection,
            _: &Commit<'_>,
        ) -> Result<super::super::Taken<'_, String>, DbError> {
            self.entered.notify_one();
            self.go.notified().await;
            if self.fails {
                run(db, "INSERT INTO nowhere VALUES (1)").await?;
            }
            Ok(super::super::Taken::Fresh)
        }
    }

    #[tokio::test]
    async fn those_who_wait_share_one_transaction_and_one_failure_is_nobody_elses() {
        let db = sqlite().await;
        let nothing = ReadSet::default();
        let (entered, go) = (tokio::sync::Notify::new(), tokio::sync::Notify::new());
        let gate = Gate {
            entered: &entered,
            go: &go,
            fails: true,
        };
        let first = request("m:gate", &nothing, &[], 1);
        let first = super::super::commit(&db, &gate, &first);
        let others = (2..20_i64).map(|number| {
            let db = db.clone();
            async move {
                let writes = [put(&format!("k{number}"), "1", Expectation::Any)];
                let event_id = format!("m:{number}");
                let nothing = ReadSet::default();
                let request = request(&event_id, &nothing, &writes, number);
                super::super::commit(&db, &row(), &request).await
            }
        });
        let others = async {
            entered.notified().await;
            let others = futures::future::join_all(others);
            tokio::pin!(others);
            // All of them queue up behind the first.
            assert!(futures::poll!(&mut others).is_pending());
            go.notify_one();
            others.await
        };
        let (first, others) = tokio::join!(first, others);
        assert!(matches!(first, Err(DbError::Failed(_))), "{first:?}");
        for other in others {
            assert_eq!(other.unwrap(), DONE);
        }
    }

    #[tokio::test]
    async fn what_was_handed_to_a_member_that_goes_away_is_not_said_to_be_done() {
        let db = sqlite().await;
        let nothing = ReadSet::default();
        let notify = tokio::sync::Notify::new;
        let (first_entered, first_go) = (notify(), notify());
        let (second_entered, second_go) = (notify(), notify());
        let first_gate = Gate {
            entered: &first_entered,
            go: &first_go,
            fails: false,
        };
        let second_gate = Gate {
            entered: &second_entered,
            go: &second_go,
            fails: false,
        };
        let writes = [put("k", "1", Expectation::Any)];
        let first_request = request("m:1", &nothing, &writes, 1);
        let second_request = request("m:2", &nothing, &[], 2);
        let first = super::super::commit(&db, &first_gate, &first_request);
        let second = async {
            first_entered.notified().await;
            let mut second = Box::pin(super::super::commit(&db, &second_gate, &second_request));
            assert!(futures::poll!(&mut second).is_pending());
            first_go.notify_one();
            tokio::select! {
                biased;
                () = second_entered.notified() => {}
                ended = &mut second => panic!("{ended:?}"),
            }
        };
        let (first, ()) = tokio::join!(first, second);
        assert!(matches!(first, Err(DbError::Unavailable(_))), "{first:?}");
        // It can be done again.
        let again = super::super::commit(&db, &row(), &first_request).await;
        assert_eq!(again.unwrap(), DONE);
    }
}
