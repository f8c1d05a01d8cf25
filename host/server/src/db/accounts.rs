//! Accounts: their settings, their sealed keys and which deployment is active.

use super::{Change, Database, DbError};

/// A row of `accounts`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct AccountRow {
    /// The AppId.
    pub app_id: String,
    /// Whose it is.
    pub tenant_id: String,
    /// Its name for people.
    pub name: String,
    /// 原始 ID.
    pub original_id: String,
    /// `plain`, `compatible` or `safe`.
    pub mode: String,
    /// The sealed callback token.
    pub token_sealed: String,
    /// The sealed EncodingAESKey.
    pub aes_key_sealed: Option<String>,
    /// The sealed EncodingAESKey before the last change, if a host of the version before made it: sealed as
    /// the present key is. It is newer than `former_aes_key_sealed`.
    pub previous_aes_key_sealed: Option<String>,
    /// The sealed EncodingAESKey before the last change.
    pub former_aes_key_sealed: Option<String>,
    /// How far a callback's timestamp may be off, in seconds.
    pub window_seconds: i64,
    /// What the user gets when the plugin fails.
    pub fallback_text: Option<String>,
    /// `active` or `disabled`.
    pub status: String,
    /// The deployment that serves it.
    pub active_version: Option<i64>,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds.
    pub updated_at: i64,
    /// The sealed AppSecret.
    pub secret_sealed: Option<String>,
    /// `stable` or `classic`.
    pub token_line: String,
    /// JSON: what the account's owner must mend.
    pub attention: Option<String>,
    /// JSON: what the operator grants its plugin.
    pub grants: String,
    /// JSON: origins whose pages may have JS-SDK signatures.
    pub jssdk_origins: String,
}

/// Adds an account; [`DbError::Duplicate`] when there is one of that app id, and
/// [`DbError::MissingReference`] when there is no such tenant.
pub async fn insert(change: &mut Change, account: &AccountRow) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO accounts (app_id, tenant_id, name, original_id, mode, token_sealed, \
         aes_key_sealed, previous_aes_key_sealed, window_seconds, fallback_text, status, \
         active_version, created_at, updated_at, secret_sealed, token_line, attention, grants, \
         jssdk_origins, former_aes_key_sealed, revision) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, \
         $19, $20, $21)",
    )
    .bind(&account.app_id)
    .bind(&account.tenant_id)
    .bind(&account.name)
    .bind(&account.original_id)
    .bind(&account.mode)
    .bind(&account.token_sealed)
    .bind(&account.aes_key_sealed)
    .bind(&account.previous_aes_key_sealed)
    .bind(account.window_seconds)
    .bind(&account.fallback_text)
    .bind(&account.status)
    .bind(account.active_version)
    .bind(account.created_at)
    .bind(account.updated_at)
    .bind(&account.secret_sealed)
    .bind(&account.token_line)
    .bind(&account.attention)
    .bind(&account.grants)
    .bind(&account.jssdk_origins)
    .bind(&account.former_aes_key_sealed)
    .bind(change.revision)
    .execute(change.connection())
    .await?;
    Ok(())
}

/// The account of that app id, to be changed: nobody else changes it before `change` ends.
pub async fn find_for_change(
    change: &mut Change,
    app_id: &str,
) -> Result<Option<AccountRow>, DbError> {
    // Changes queue up behind the revision's row, so no lock on the account's row is needed.
    Ok(sqlx::query_as("SELECT * FROM accounts WHERE app_id = $1")
        .bind(app_id)
        .fetch_optional(change.connection())
        .await?)
}

/// Writes back what may change of an account: all but its app id, tenant and time of creation.
pub async fn update(change: &mut Change, account: &AccountRow) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE accounts SET name = $2, original_id = $3, mode = $4, token_sealed = $5, \
         aes_key_sealed = $6, previous_aes_key_sealed = $7, window_seconds = $8, \
         fallback_text = $9, status = $10, active_version = $11, updated_at = $12, \
         secret_sealed = $13, token_line = $14, attention = $15, grants = $16, jssdk_origins = $17, \
         former_aes_key_sealed = $18, revision = $19 WHERE app_id = $1",
    )
    .bind(&account.app_id)
    .bind(&account.name)
    .bind(&account.original_id)
    .bind(&account.mode)
    .bind(&account.token_sealed)
    .bind(&account.aes_key_sealed)
    .bind(&account.previous_aes_key_sealed)
    .bind(account.window_seconds)
    .bind(&account.fallback_text)
    .bind(&account.status)
    .bind(account.active_version)
    .bind(account.updated_at)
    .bind(&account.secret_sealed)
    .bind(&account.token_line)
    .bind(&account.attention)
    .bind(&account.grants)
    .bind(&account.jssdk_origins)
    .bind(&account.former_aes_key_sealed)
    .bind(change.revision)
    .execute(change.connection())
    .await?;
    Ok(())
}

/// The account of that app id.
pub async fn find(db: &Database, app_id: &str) -> Result<Option<AccountRow>, DbError> {
    Ok(sqlx::query_as("SELECT * FROM accounts WHERE app_id = $1")
        .bind(app_id)
        .fetch_optional(&db.readers)
        .await?)
}

/// Which accounts are meant; all where nothing is said.
#[derive(Clone, Copy, Debug, Default)]
pub struct AccountFilter<'a> {
    /// Of this tenant.
    pub tenant: Option<&'a str>,
    /// Those that want it: `owner`, `address` (WeChat refuses a host's), or `any`.
    pub attention: Option<&'a str>,
}

/// At most `limit` accounts with an app id after `after`, in order.
pub async fn list(
    db: &Database,
    filter: &AccountFilter<'_>,
    after: &str,
    limit: u32,
) -> Result<Vec<AccountRow>, DbError> {
    Ok(sqlx::query_as(
        "SELECT * FROM accounts a WHERE app_id > $1 AND ($2 = '' OR tenant_id = $2) \
         AND ($3 = '' OR ($3 <> 'address' AND attention IS NOT NULL) \
         OR ($3 <> 'owner' AND EXISTS \
         (SELECT 1 FROM address_refusals r WHERE r.app_id = a.app_id))) \
         ORDER BY app_id LIMIT $4",
    )
    .bind(after)
    .bind(filter.tenant.unwrap_or_default())
    .bind(filter.attention.unwrap_or_default())
    .bind(i64::from(limit))
    .fetch_all(&db.readers)
    .await?)
}

/// The accounts changed after `revision`; all of them for `-1`.
pub async fn changed_after(db: &Database, revision: i64) -> Result<Vec<AccountRow>, DbError> {
    Ok(sqlx::query_as("SELECT * FROM accounts WHERE revision > $1")
        .bind(revision)
        .fetch_all(&db.readers)
        .await?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::db::{addresses, tenants, testing::databases};

    /// A tenant `acme` with one account.
    pub(crate) async fn add_account(db: &Database, app_id: &str) -> AccountRow {
        let mut change = db.change().await.unwrap();
        if tenants::find(db, "acme").await.unwrap().is_none() {
            let tenant = tenants::TenantRow {
                id: "acme".into(),
                name: String::new(),
                max_concurrent_calls: 8,
                created_at: 1,
            };
            tenants::insert(&mut change, &tenant).await.unwrap();
        }
        let account = AccountRow {
            app_id: app_id.into(),
            tenant_id: "acme".into(),
            name: "茶馆".into(),
            original_id: "gh_1".into(),
            mode: "plain".into(),
            token_sealed: "v1.x.y".into(),
            aes_key_sealed: None,
            previous_aes_key_sealed: None,
            former_aes_key_sealed: None,
            window_seconds: 300,
            fallback_text: None,
            status: "active".into(),
            active_version: None,
            created_at: 1,
            updated_at: 1,
            secret_sealed: None,
            token_line: "stable".into(),
            attention: None,
            grants: "{}".into(),
            jssdk_origins: "[]".into(),
        };
        insert(&mut change, &account).await.unwrap();
        change.commit().await.unwrap();
        account
    }

    #[tokio::test]
    async fn an_account_comes_back_as_it_was_written() {
        for db in databases().await {
            let mut account = add_account(&db, "wx01").await;
            assert_eq!(find(&db, "wx01").await.unwrap(), Some(account.clone()));

            let before = db.revision().await.unwrap();
            account.status = "disabled".into();
            account.aes_key_sealed = Some("v1.a.b".into());
            account.active_version = Some(3);
            account.secret_sealed = Some("v1.c.d".into());
            account.token_line = "classic".into();
            account.attention = Some("{}".into());
            account.grants = r#"{"api":["/cgi-bin/menu/"]}"#.into();
            account.jssdk_origins = r#"["https://shop.example"]"#.into();
            let mut change = db.change().await.unwrap();
            let found = find_for_change(&mut change, "wx01").await.unwrap();
            assert!(found.is_some());
            update(&mut change, &account).await.unwrap();
            change.commit().await.unwrap();
            assert_eq!(changed_after(&db, before).await.unwrap(), [account]);
        }
    }

    #[tokio::test]
    async fn accounts_are_listed_by_tenant_in_pages() {
        for db in databases().await {
            for app_id in ["wx03", "wx01", "wx02"] {
                add_account(&db, app_id).await;
            }
            let mut change = db.change().await.unwrap();
            let mut account = find(&db, "wx01").await.unwrap().unwrap();
            account.attention = Some("{}".into());
            update(&mut change, &account).await.unwrap();
            change.commit().await.unwrap();
            let refusal = addresses::AddressRow {
                app_id: "wx03".into(),
                host: "a".into(),
                address: "1.2.3.4".into(),
                errcode: 40164,
                message: String::new(),
                since_at: 1,
                seen_at: 1,
            };
            addresses::upsert(&db, &[refusal]).await.unwrap();
            for (tenant, attention, after, limit, expected) in [
                (None, None, "", 2, vec!["wx01", "wx02"]),
                (None, None, "wx02", 2, vec!["wx03"]),
                (Some("acme"), None, "", 9, vec!["wx01", "wx02", "wx03"]),
                (Some("none"), None, "", 9, vec![]),
                (None, Some("owner"), "", 9, vec!["wx01"]),
                (None, Some("address"), "", 9, vec!["wx03"]),
                (None, Some("any"), "", 9, vec!["wx01", "wx03"]),
            ] {
                let filter = AccountFilter { tenant, attention };
                let rows = list(&db, &filter, after, limit).await.unwrap();
                let ids: Vec<_> = rows.iter().map(|row| row.app_id.as_str()).collect();
                assert_eq!(ids, expected);
            }
        }
    }

    #[tokio::test]
    async fn an_account_of_no_tenant_is_refused() {
        for db in databases().await {
            let mut account = add_account(&db, "wx01").await;
            account.app_id = "wx02".into();
            account.tenant_id = "nobody".into();
            let mut change = db.change().await.unwrap();
            let refused = insert(&mut change, &account).await;
            assert!(
                matches!(refused, Err(DbError::MissingReference(_))),
                "{refused:?}"
            );
        }
    }
}
