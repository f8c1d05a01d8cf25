//! Accounts: whose they are, what they are called, and whether they are served. What each part of the host
//! keeps of them is in that part's own table.

use super::callback_settings::{self, CallbackSettingsRow};
use super::credential_settings::{self, CredentialSettingsRow};
use super::lane_settings::LaneSettings;
use super::plugin_settings::{self, PluginSettingsRow};
use super::{Change, Database, DbError};

/// A row of `accounts`, with the rows of its settings.
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
    /// `active` or `disabled`.
    pub status: String,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds.
    pub updated_at: i64,
    /// How its callbacks come.
    #[sqlx(flatten)]
    pub callbacks: CallbackSettingsRow,
    /// How it calls WeChat.
    #[sqlx(flatten)]
    pub credentials: CredentialSettingsRow,
    /// What serves it.
    #[sqlx(flatten)]
    pub plugin: PluginSettingsRow,
    /// JSON: how users log in to its pages; nobody does where there is nothing.
    pub login: Option<String>,
    /// JSON: when its pushes rest; they do not where there is nothing.
    pub quiet_hours: Option<String>,
}

/// Whole accounts, each with all its settings.
macro_rules! select_accounts {
    ($rest:literal) => {
        concat!(
            "SELECT * FROM accounts JOIN callback_settings USING (app_id) \
             JOIN credential_settings USING (app_id) JOIN plugin_settings USING (app_id) \
             LEFT JOIN login_settings USING (app_id) LEFT JOIN push_settings USING (app_id) ",
            $rest
        )
    };
}

/// Adds an account with its settings; [`DbError::Duplicate`] when there is one of that app id, and
/// [`DbError::MissingReference`] when there is no such tenant.
pub async fn insert(change: &mut Change, account: &AccountRow) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO accounts (app_id, tenant_id, name, original_id, status, created_at, \
         updated_at, revision) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(&account.app_id)
    .bind(&account.tenant_id)
    .bind(&account.name)
    .bind(&account.original_id)
    .bind(&account.status)
    .bind(account.created_at)
    .bind(account.updated_at)
    .bind(change.revision)
    .execute(change.connection())
    .await?;
    callback_settings::insert(change, &account.app_id, &account.callbacks).await?;
    credential_settings::insert(change, &account.app_id, &account.credentials).await?;
    plugin_settings::insert(change, &account.app_id, &account.plugin).await?;
    write_lane_settings(change, account).await
}

async fn write_lane_settings(change: &mut Change, account: &AccountRow) -> Result<(), DbError> {
    for (settings, value) in [
        (LaneSettings::Login, &account.login),
        (LaneSettings::QuietHours, &account.quiet_hours),
    ] {
        settings
            .write(change, &account.app_id, value.as_deref())
            .await?;
    }
    Ok(())
}

/// The account of that app id, to be changed: nobody else changes it before `change` ends.
pub async fn find_for_change(
    change: &mut Change,
    app_id: &str,
) -> Result<Option<AccountRow>, DbError> {
    // Changes queue up behind the revision's row, so no lock on the account's row is needed.
    Ok(sqlx::query_as(select_accounts!("WHERE app_id = $1"))
        .bind(app_id)
        .fetch_optional(change.connection())
        .await?)
}

/// Writes back what may change of an account: all but its app id, tenant and time of creation.
pub async fn update(change: &mut Change, account: &AccountRow) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE accounts SET name = $2, original_id = $3, status = $4, updated_at = $5, \
         revision = $6 WHERE app_id = $1",
    )
    .bind(&account.app_id)
    .bind(&account.name)
    .bind(&account.original_id)
    .bind(&account.status)
    .bind(account.updated_at)
    .bind(change.revision)
    .execute(change.connection())
    .await?;
    callback_settings::update(change, &account.app_id, &account.callbacks).await?;
    credential_settings::update(change, &account.app_id, &account.credentials).await?;
    plugin_settings::update(change, &account.app_id, &account.plugin).await?;
    write_lane_settings(change, account).await
}

/// Notes that settings of an account were changed, so that hosts read it again.
pub async fn touch(change: &mut Change, app_id: &str, now_ms: i64) -> Result<(), DbError> {
    sqlx::query("UPDATE accounts SET updated_at = $2, revision = $3 WHERE app_id = $1")
        .bind(app_id)
        .bind(now_ms)
        .bind(change.revision)
        .execute(change.connection())
        .await?;
    Ok(())
}

/// The account of that app id.
pub async fn find(db: &Database, app_id: &str) -> Result<Option<AccountRow>, DbError> {
    Ok(sqlx::query_as(select_accounts!("WHERE app_id = $1"))
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
    Ok(sqlx::query_as(select_accounts!(
        "WHERE app_id > $1 AND ($2 = '' OR tenant_id = $2) \
         AND ($3 = '' OR ($3 <> 'address' AND attention IS NOT NULL) \
         OR ($3 <> 'owner' AND EXISTS \
         (SELECT 1 FROM address_refusals r WHERE r.app_id = accounts.app_id))) \
         ORDER BY app_id LIMIT $4"
    ))
    .bind(after)
    .bind(filter.tenant.unwrap_or_default())
    .bind(filter.attention.unwrap_or_default())
    .bind(i64::from(limit))
    .fetch_all(&db.readers)
    .await?)
}

/// The accounts changed after `revision`; all of them for `-1`.
pub async fn changed_after(db: &Database, revision: i64) -> Result<Vec<AccountRow>, DbError> {
    Ok(sqlx::query_as(select_accounts!("WHERE revision > $1"))
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
                like_app_id: None,
                created_at: 1,
            };
            tenants::insert(&mut change, &tenant).await.unwrap();
        }
        let account = AccountRow {
            app_id: app_id.into(),
            tenant_id: "acme".into(),
            name: "茶馆".into(),
            original_id: "gh_1".into(),
            status: "active".into(),
            created_at: 1,
            updated_at: 1,
            callbacks: CallbackSettingsRow {
                mode: "plain".into(),
                token_sealed: "v1.x.y".into(),
                aes_key_sealed: None,
                previous_aes_key_sealed: None,
                former_aes_key_sealed: None,
                window_seconds: 300,
                fallback_text: None,
                opt_out_words: None,
            },
            credentials: CredentialSettingsRow::default(),
            plugin: PluginSettingsRow::default(),
            login: None,
            quiet_hours: None,
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
            account.callbacks.aes_key_sealed = Some("v1.a.b".into());
            account.plugin.active_version = Some(3);
            account.credentials.secret_sealed = Some("v1.c.d".into());
            account.credentials.token_line = "classic".into();
            account.credentials.attention = Some("{}".into());
            account.plugin.grants = r#"{"api":["/cgi-bin/menu/"]}"#.into();
            account.credentials.jssdk_origins = r#"["https://shop.example"]"#.into();
            account.login = Some(r#"{"return_urls":["https://shop.example"]}"#.into());
            account.quiet_hours = Some(r#"{"from":"22:00","to":"08:00"}"#.into());
            let mut change = db.change().await.unwrap();
            let found = find_for_change(&mut change, "wx01").await.unwrap();
            assert!(found.is_some());
            update(&mut change, &account).await.unwrap();
            change.commit().await.unwrap();
            assert_eq!(changed_after(&db, before).await.unwrap(), [account.clone()]);
            account.login = None;
            account.quiet_hours = None;
            let mut change = db.change().await.unwrap();
            update(&mut change, &account).await.unwrap();
            change.commit().await.unwrap();
            assert_eq!(find(&db, "wx01").await.unwrap(), Some(account));
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
            account.credentials.attention = Some("{}".into());
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
