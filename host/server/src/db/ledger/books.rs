//! Double entry: what moves from one book to another, once.

use std::collections::BTreeMap;

use sqlx::AnyConnection;

use super::super::{Database, DbError};
use crate::ledger::{Movement, PAYERS};

/// What became of a movement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// It is made.
    Made,
    /// It was made before.
    Before,
    /// There is not so much in the book that it comes from. Nothing was written.
    Short,
}

/// Makes a movement, unless it was made before. Whoever makes it has the order locked that its books are of.
pub(super) async fn make(
    db: &mut AnyConnection,
    (app_id, mch_id): (&str, &str),
    movement: &Movement,
    now_ms: i64,
) -> Result<Moved, DbError> {
    let before: Option<(i64,)> = sqlx::query_as(
        "SELECT amount FROM ledger_movements WHERE app_id = $1 AND mch_id = $2 AND reference = $3",
    )
    .bind(app_id)
    .bind(mch_id)
    .bind(&movement.reference)
    .fetch_optional(&mut *db)
    .await?;
    if before.is_some() {
        return Ok(Moved::Before);
    }
    if movement.from != PAYERS {
        let taken = sqlx::query(
            "UPDATE ledger_books SET balance = balance - $4 \
             WHERE app_id = $1 AND mch_id = $2 AND book = $3 AND balance >= $4",
        )
        .bind(app_id)
        .bind(mch_id)
        .bind(&movement.from)
        .bind(movement.amount)
        .execute(&mut *db)
        .await?;
        if taken.rows_affected() == 0 {
            return Ok(Moved::Short);
        }
    }
    if movement.to != PAYERS {
        sqlx::query(
            "INSERT INTO ledger_books (app_id, mch_id, book, balance) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (app_id, mch_id, book) \
             DO UPDATE SET balance = ledger_books.balance + excluded.balance",
        )
        .bind(app_id)
        .bind(mch_id)
        .bind(&movement.to)
        .bind(movement.amount)
        .execute(&mut *db)
        .await?;
    }
    sqlx::query(
        "INSERT INTO ledger_movements (app_id, mch_id, reference, from_book, to_book, amount, \
         made_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(app_id)
    .bind(mch_id)
    .bind(&movement.reference)
    .bind(&movement.from)
    .bind(&movement.to)
    .bind(movement.amount)
    .bind(now_ms)
    .execute(&mut *db)
    .await?;
    Ok(Moved::Made)
}

/// What a book holds; 0 of one that nothing has moved to.
pub(super) async fn balance(
    db: &mut AnyConnection,
    (app_id, mch_id): (&str, &str),
    book: &str,
) -> Result<i64, DbError> {
    let found: Option<(i64,)> = sqlx::query_as(
        "SELECT balance FROM ledger_books WHERE app_id = $1 AND mch_id = $2 AND book = $3",
    )
    .bind(app_id)
    .bind(mch_id)
    .bind(book)
    .fetch_optional(db)
    .await?;
    Ok(found.map_or(0, |(balance,)| balance))
}

/// The balances of all books of a merchant, as they are kept and as the movements say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balances {
    /// As they are kept. The world has none.
    pub kept: BTreeMap<String, i64>,
    /// As the movements say.
    pub moved: BTreeMap<String, i64>,
}

impl Balances {
    /// What is wrong with them, if anything is.
    pub fn flaw(&self) -> Option<String> {
        let sum: i64 = self.moved.values().sum();
        if sum != 0 {
            return Some(format!(
                "all movements together come to {sum} fen, not to nothing"
            ));
        }
        let mut moved = self.moved.clone();
        moved.remove(PAYERS);
        if moved != self.kept {
            return Some("a book is not what was moved to it and from it".to_owned());
        }
        let below = self.kept.iter().find(|(_, balance)| **balance < 0);
        below.map(|(book, balance)| format!("{book} is at {balance} fen"))
    }
}

/// The balances of a merchant's books for an account.
///
/// # Errors
/// The database failed.
pub async fn balances(db: &Database, (app_id, mch_id): (&str, &str)) -> Result<Balances, DbError> {
    let mut transaction = db.begin().await?;
    let kept: Vec<(String, i64)> =
        sqlx::query_as("SELECT book, balance FROM ledger_books WHERE app_id = $1 AND mch_id = $2")
            .bind(app_id)
            .bind(mch_id)
            .fetch_all(transaction.connection())
            .await?;
    let movements: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT from_book, to_book, amount FROM ledger_movements \
         WHERE app_id = $1 AND mch_id = $2",
    )
    .bind(app_id)
    .bind(mch_id)
    .fetch_all(transaction.connection())
    .await?;
    let mut moved = BTreeMap::new();
    for (from, to, amount) in movements {
        *moved.entry(from).or_insert(0) -= amount;
        *moved.entry(to).or_insert(0) += amount;
    }
    Ok(Balances {
        kept: kept.into_iter().collect(),
        moved,
    })
}
