//! Merchants of WeChat Pay: their keys, and which accounts' orders are paid to them.

use super::{Change, Database, DbError};

/// A row of `merchants`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct MerchantRow {
    /// The merchant's number.
    pub mch_id: String,
    /// Whose it is.
    pub tenant_id: String,
    /// For people.
    pub name: String,
    /// `active` or `disabled`.
    pub status: String,
    /// Where WeChat Pay notifies, and where payers find the host's pages.
    pub public_url: String,
    /// The APIv3 keys, sealed.
    pub v3_keys_sealed: String,
    /// The serial of the key that answers are to be signed with.
    pub answers_by: Option<String>,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds.
    pub updated_at: i64,
}

/// A row of `merchant_certificates`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct CertificateRow {
    /// The merchant.
    pub mch_id: String,
    /// Of the certificate.
    pub serial: String,
    /// Its private key, sealed.
    pub key_sealed: String,
    /// When it ends, Unix milliseconds.
    pub ends_at: Option<i64>,
    /// Unix milliseconds.
    pub added_at: i64,
}

/// A row of `merchant_platform_keys`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct PlatformKeyRow {
    /// The merchant.
    pub mch_id: String,
    /// What stands in `Wechatpay-Serial`.
    pub serial: String,
    /// The certificate or public key.
    pub pem: String,
    /// When it ends, Unix milliseconds.
    pub ends_at: Option<i64>,
    /// Unix milliseconds.
    pub added_at: i64,
}

/// A row of `account_merchants`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct BindingRow {
    /// The account.
    pub app_id: String,
    /// The merchant.
    pub mch_id: String,
    /// For whom a partner (服务商) collects.
    pub sub_mch_id: Option<String>,
    /// Under which app id of the partner's.
    pub partner_app_id: Option<String>,
    /// JSON.
    pub grants: String,
}

const COLUMNS: &str = "mch_id, tenant_id, name, status, public_url, v3_keys_sealed, answers_by, \
     created_at, updated_at";

/// Adds a merchant; [`DbError::Duplicate`] when there is one of that number, [`DbError::MissingReference`] when
/// there is no such tenant.
pub async fn insert(change: &mut Change, row: &MerchantRow) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO merchants (mch_id, tenant_id, name, status, public_url, v3_keys_sealed, \
         answers_by, created_at, updated_at, revision) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(&row.mch_id)
    .bind(&row.tenant_id)
    .bind(&row.name)
    .bind(&row.status)
    .bind(&row.public_url)
    .bind(&row.v3_keys_sealed)
    .bind(&row.answers_by)
    .bind(row.created_at)
    .bind(row.updated_at)
    .bind(change.revision)
    .execute(change.connection())
    .await?;
    Ok(())
}

/// Writes back what may change of a merchant. Whatever of its keys and accounts was changed, hosts look at it anew.
pub async fn update(change: &mut Change, row: &MerchantRow) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE merchants SET name = $2, status = $3, public_url = $4, v3_keys_sealed = $5, \
         answers_by = $6, updated_at = $7, revision = $8 WHERE mch_id = $1",
    )
    .bind(&row.mch_id)
    .bind(&row.name)
    .bind(&row.status)
    .bind(&row.public_url)
    .bind(&row.v3_keys_sealed)
    .bind(&row.answers_by)
    .bind(row.updated_at)
    .bind(change.revision)
    .execute(change.connection())
    .await?;
    Ok(())
}

/// The merchant of that number, to be changed: nobody else changes it before `change` ends.
pub async fn find_for_change(
    change: &mut Change,
    mch_id: &str,
) -> Result<Option<MerchantRow>, DbError> {
    let statement = format!("SELECT {COLUMNS} FROM merchants WHERE mch_id = $1");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .bind(mch_id)
        .fetch_optional(change.connection())
        .await?)
}

/// The merchant of that number.
pub async fn find(db: &Database, mch_id: &str) -> Result<Option<MerchantRow>, DbError> {
    let statement = format!("SELECT {COLUMNS} FROM merchants WHERE mch_id = $1");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .bind(mch_id)
        .fetch_optional(&db.readers)
        .await?)
}

/// The merchants changed after `revision`, in order; all of them for `-1`.
pub async fn changed_after(db: &Database, revision: i64) -> Result<Vec<MerchantRow>, DbError> {
    let statement = format!("SELECT {COLUMNS} FROM merchants WHERE revision > $1 ORDER BY mch_id");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .bind(revision)
        .fetch_all(&db.readers)
        .await?)
}

/// The certificates of a merchant, newest first.
pub async fn certificates(db: &Database, mch_id: &str) -> Result<Vec<CertificateRow>, DbError> {
    Ok(sqlx::query_as(
        "SELECT mch_id, serial, key_sealed, ends_at, added_at FROM merchant_certificates \
         WHERE mch_id = $1 ORDER BY added_at DESC, serial",
    )
    .bind(mch_id)
    .fetch_all(&db.readers)
    .await?)
}

/// The merchants in use whose last API certificate ends before `ends_before`, and when; Unix milliseconds.
///
/// # Errors
/// The database failed.
pub async fn ending(db: &Database, ends_before: i64) -> Result<Vec<(String, i64)>, DbError> {
    Ok(sqlx::query_as(
        "SELECT mch_id, MAX(ends_at) FROM merchant_certificates \
         WHERE mch_id IN (SELECT mch_id FROM merchants WHERE status = 'active') \
         GROUP BY mch_id HAVING MAX(ends_at) < $1 ORDER BY mch_id",
    )
    .bind(ends_before)
    .fetch_all(&db.readers)
    .await?)
}

/// What WeChat Pay signs with, as it is known to a merchant.
pub async fn platform_keys(db: &Database, mch_id: &str) -> Result<Vec<PlatformKeyRow>, DbError> {
    Ok(sqlx::query_as(
        "SELECT mch_id, serial, pem, ends_at, added_at FROM merchant_platform_keys \
         WHERE mch_id = $1 ORDER BY added_at DESC, serial",
    )
    .bind(mch_id)
    .fetch_all(&db.readers)
    .await?)
}

/// The accounts whose orders are paid to a merchant.
pub async fn bindings(db: &Database, mch_id: &str) -> Result<Vec<BindingRow>, DbError> {
    Ok(sqlx::query_as(
        "SELECT app_id, mch_id, sub_mch_id, partner_app_id, grants FROM account_merchants \
         WHERE mch_id = $1 ORDER BY app_id",
    )
    .bind(mch_id)
    .fetch_all(&db.readers)
    .await?)
}

/// Adds a certificate, or gives one of that serial another key. The number of certificates then.
pub async fn put_certificate(change: &mut Change, row: &CertificateRow) -> Result<i64, DbError> {
    sqlx::query(
        "INSERT INTO merchant_certificates (mch_id, serial, key_sealed, ends_at, added_at) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (mch_id, serial) DO UPDATE \
         SET key_sealed = excluded.key_sealed, ends_at = excluded.ends_at, \
         added_at = excluded.added_at",
    )
    .bind(&row.mch_id)
    .bind(&row.serial)
    .bind(&row.key_sealed)
    .bind(row.ends_at)
    .bind(row.added_at)
    .execute(change.connection())
    .await?;
    count_certificates(change, &row.mch_id).await
}

async fn count_certificates(change: &mut Change, mch_id: &str) -> Result<i64, DbError> {
    let (count,) = sqlx::query_as("SELECT COUNT(*) FROM merchant_certificates WHERE mch_id = $1")
        .bind(mch_id)
        .fetch_one(change.connection())
        .await?;
    Ok(count)
}

/// Removes a certificate: None if there is none of that serial, else how many are left.
pub async fn remove_certificate(
    change: &mut Change,
    (mch_id, serial): (&str, &str),
) -> Result<Option<i64>, DbError> {
    let removed =
        sqlx::query("DELETE FROM merchant_certificates WHERE mch_id = $1 AND serial = $2")
            .bind(mch_id)
            .bind(serial)
            .execute(change.connection())
            .await?;
    match removed.rows_affected() {
        0 => Ok(None),
        _ => count_certificates(change, mch_id).await.map(Some),
    }
}

/// Adds something that WeChat Pay signs with. False if it was known.
pub async fn put_platform_key(change: &mut Change, row: &PlatformKeyRow) -> Result<bool, DbError> {
    let added = sqlx::query(
        "INSERT INTO merchant_platform_keys (mch_id, serial, pem, ends_at, added_at) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (mch_id, serial) DO NOTHING",
    )
    .bind(&row.mch_id)
    .bind(&row.serial)
    .bind(&row.pem)
    .bind(row.ends_at)
    .bind(row.added_at)
    .execute(change.connection())
    .await?;
    Ok(added.rows_affected() == 1)
}

/// Removes something that WeChat Pay does not sign with any more; false if there is none of that serial.
pub async fn remove_platform_key(
    change: &mut Change,
    (mch_id, serial): (&str, &str),
) -> Result<bool, DbError> {
    let removed =
        sqlx::query("DELETE FROM merchant_platform_keys WHERE mch_id = $1 AND serial = $2")
            .bind(mch_id)
            .bind(serial)
            .execute(change.connection())
            .await?;
    Ok(removed.rows_affected() == 1)
}

/// Binds an account to a merchant, or changes how it is.
pub async fn bind(change: &mut Change, row: &BindingRow) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO account_merchants (app_id, mch_id, sub_mch_id, partner_app_id, grants) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (app_id, mch_id) DO UPDATE \
         SET sub_mch_id = excluded.sub_mch_id, partner_app_id = excluded.partner_app_id, \
         grants = excluded.grants",
    )
    .bind(&row.app_id)
    .bind(&row.mch_id)
    .bind(&row.sub_mch_id)
    .bind(&row.partner_app_id)
    .bind(&row.grants)
    .execute(change.connection())
    .await?;
    Ok(())
}

/// Whether money is under way between an account and a merchant: an order that can be paid, or a refund that has not
/// ended.
pub async fn is_in_use(
    change: &mut Change,
    (app_id, mch_id): (&str, &str),
) -> Result<bool, DbError> {
    let found: Option<(i32,)> = sqlx::query_as(
        "SELECT 1 FROM orders WHERE app_id = $1 AND mch_id = $2 AND due_at IS NOT NULL \
         UNION ALL SELECT 1 FROM refunds WHERE app_id = $1 AND mch_id = $2 \
         AND (due_at IS NOT NULL OR state = 'held') LIMIT 1",
    )
    .bind(app_id)
    .bind(mch_id)
    .fetch_optional(change.connection())
    .await?;
    Ok(found.is_some())
}

/// Takes an account from a merchant; false if it was not bound to it.
pub async fn unbind(change: &mut Change, (app_id, mch_id): (&str, &str)) -> Result<bool, DbError> {
    let removed = sqlx::query("DELETE FROM account_merchants WHERE app_id = $1 AND mch_id = $2")
        .bind(app_id)
        .bind(mch_id)
        .execute(change.connection())
        .await?;
    Ok(removed.rows_affected() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::accounts::tests::add_account;
    use crate::db::testing::databases;

    #[tokio::test]
    async fn merchants_are_named_whose_last_certificate_ends_soon() {
        for db in databases().await {
            add_account(&db, "wx01").await;
            let mut change = db.change().await.unwrap();
            for (mch_id, status, ends) in [
                ("1900000001", "active", &[Some(10), Some(90)][..]),
                ("1900000002", "active", &[Some(10), Some(29)]),
                ("1900000003", "disabled", &[Some(10)]),
                ("1900000004", "active", &[None]),
                ("1900000005", "active", &[Some(30)]),
            ] {
                let merchant = MerchantRow {
                    mch_id: mch_id.into(),
                    tenant_id: "acme".into(),
                    name: String::new(),
                    status: status.into(),
                    public_url: "https://pay.example".into(),
                    v3_keys_sealed: "v1.x.y".into(),
                    answers_by: None,
                    created_at: 1,
                    updated_at: 1,
                };
                insert(&mut change, &merchant).await.unwrap();
                for (number, ends_at) in ends.iter().enumerate() {
                    let certificate = CertificateRow {
                        mch_id: mch_id.into(),
                        serial: number.to_string(),
                        key_sealed: "v1.x.y".into(),
                        ends_at: *ends_at,
                        added_at: 1,
                    };
                    put_certificate(&mut change, &certificate).await.unwrap();
                }
            }
            change.commit().await.unwrap();
            let ending = ending(&db, 30).await.unwrap();
            assert_eq!(ending, [(String::from("1900000002"), 29)]);
        }
    }
}
