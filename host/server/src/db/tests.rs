//! The database as a whole: its opening, its connections, its changes.

use super::{
    accounts::AccountRow,
    callback_settings::CallbackSettingsRow,
    credential_settings::CredentialSettingsRow,
    plugin_settings::PluginSettingsRow,
    testing::{databases, urls},
    *,
};
use sqlx::AssertSqlSafe;

#[tokio::test]
async fn a_change_raises_the_revision_only_when_it_is_committed() {
    for db in databases().await {
        let before = db.revision().await.unwrap();
        drop(db.change().await.unwrap());
        assert_eq!(db.revision().await.unwrap(), before);
        db.change().await.unwrap().commit().await.unwrap();
        assert_eq!(db.revision().await.unwrap(), before + 1);
    }
}

#[tokio::test]
async fn writers_queue_up_rather_than_fail() {
    for db in databases().await {
        let before = db.revision().await.unwrap();
        let changes = (0..40).map(|_| {
            let db = Database::clone(&db);
            tokio::spawn(async move { db.change().await?.commit().await })
        });
        for change in futures::future::join_all(changes).await {
            change.unwrap().unwrap();
        }
        assert_eq!(db.revision().await.unwrap(), before + 40);
    }
}

#[tokio::test]
async fn sqlite_commits_are_durable_and_keys_are_checked() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/wxhost.db", directory.path().display());
    let db = Database::open(&url).await.unwrap();
    for (pragma, expected) in [
        ("PRAGMA synchronous", 2),
        ("PRAGMA foreign_keys", 1),
        ("PRAGMA busy_timeout", 5000),
    ] {
        let (value,): (i64,) = sqlx::query_as(pragma).fetch_one(&db.writers).await.unwrap();
        assert_eq!(value, expected, "{pragma}");
    }
    let (mode,): (String,) = sqlx::query_as("PRAGMA journal_mode")
        .fetch_one(&db.writers)
        .await
        .unwrap();
    assert_eq!(mode, "wal");
}

#[tokio::test]
async fn a_host_starts_beside_tables_of_a_newer_version() {
    for db in databases().await {
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (999999, 'of a newer version', $1, $2, 1)",
        )
        .bind(true)
        .bind(vec![0_u8; 48])
        .execute(&db.writers)
        .await
        .unwrap();
        assert!(MIGRATIONS.run(&db.writers).await.is_ok());
    }
}

/// A database as a host of a version before left it.
async fn of_version(version: i64, url: &str) -> (AnyPool, Dialect) {
    sqlx::any::install_default_drivers();
    let (url, dialect) = match url.starts_with("sqlite") {
        true => (format!("{url}?mode=rwc"), Dialect::Sqlite),
        false => (url.to_owned(), Dialect::Postgres),
    };
    let pool = AnyPool::connect(&url).await.unwrap();
    MIGRATIONS.run_to(version, &pool).await.unwrap();
    (pool, dialect)
}

/// Version 14 makes the outbox anew, and the triggers that count its rows go with the old one.
#[tokio::test]
async fn what_waited_before_is_counted_once() {
    for url in urls().await {
        let (before, dialect) = of_version(12, &url.url).await;
        let insertion = |id: &str| {
            format!(
                "INSERT INTO outbox (id, app_id, event_id, ordinal, kind, open_id, path, payload, \
                 state, due_at, attempts, reserved, trace_id, created_at) \
                 VALUES ('{id}', 'wx01', '{id}', 1, 'template', 'o', '/a', '{{}}', 'waiting', 1, 0, 0, \
                 't', 1)"
            )
        };
        let mut transaction = before.begin().await.unwrap();
        quotas::make_triggers(dialect, &mut transaction)
            .await
            .unwrap();
        sqlx::raw_sql(AssertSqlSafe(insertion("1")))
            .execute(&mut *transaction)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        before.close().await;
        let db = Database::open(&url.url).await.unwrap();
        let waiting = async || {
            let used = quotas::in_use(&db, quotas::Owner::Account("wx01"), 0).await;
            used.unwrap()
        };
        assert_eq!(waiting().await, [("waiting-messages".to_owned(), 1)]);
        sqlx::raw_sql(AssertSqlSafe(insertion("2")))
            .execute(&db.writers)
            .await
            .unwrap();
        assert_eq!(waiting().await, [("waiting-messages".to_owned(), 2)]);
    }
}

/// Version 11 kept everything of an account in one row.
#[tokio::test]
async fn an_account_of_before_keeps_its_settings() {
    for url in urls().await {
        let (before, _) = of_version(11, &url.url).await;
        sqlx::raw_sql(
            "INSERT INTO tenants (id, name, max_concurrent_calls, created_at, revision) \
             VALUES ('acme', '', 8, 1, 1); \
             INSERT INTO accounts (app_id, tenant_id, name, original_id, mode, token_sealed, \
             aes_key_sealed, previous_aes_key_sealed, window_seconds, fallback_text, status, \
             active_version, created_at, updated_at, secret_sealed, token_line, attention, grants, \
             jssdk_origins, former_aes_key_sealed, revision) \
             VALUES ('wx01', 'acme', 'n', 'gh_1', 'safe', 't', 'a', 'p', 30, 'f', 'active', 3, 4, 5, \
             's', 'classic', 'm', 'g', 'o', 'b', 6)",
        )
        .execute(&before)
        .await
        .unwrap();
        before.close().await;
        let db = Database::open(&url.url).await.unwrap();
        let account = AccountRow {
            app_id: "wx01".into(),
            tenant_id: "acme".into(),
            name: "n".into(),
            original_id: "gh_1".into(),
            status: "active".into(),
            created_at: 4,
            updated_at: 5,
            callbacks: CallbackSettingsRow {
                mode: "safe".into(),
                token_sealed: "t".into(),
                aes_key_sealed: Some("a".into()),
                previous_aes_key_sealed: Some("p".into()),
                former_aes_key_sealed: Some("b".into()),
                window_seconds: 30,
                fallback_text: Some("f".into()),
                opt_out_words: None,
            },
            credentials: CredentialSettingsRow {
                secret_sealed: Some("s".into()),
                token_line: "classic".into(),
                attention: Some("m".into()),
                jssdk_origins: "o".into(),
                platform: None,
            },
            login: None,
            quiet_hours: None,
            plugin: PluginSettingsRow {
                active_version: Some(3),
                grants: "g".into(),
            },
        };
        assert_eq!(accounts::changed_after(&db, 5).await.unwrap(), [account]);
    }
}

#[tokio::test]
async fn a_connection_whose_server_takes_no_writes_is_not_used_again() {
    for db in databases().await {
        if db.dialect() == Dialect::Sqlite {
            continue;
        }
        let process = async |connection: &mut AnyConnection| {
            let (id,): (i32,) = sqlx::query_as("SELECT pg_backend_pid()")
                .fetch_one(connection)
                .await
                .unwrap();
            id
        };
        // What a standby is to its clients.
        let mut connection = db.writers.acquire().await.unwrap();
        let standby = process(&mut connection).await;
        sqlx::raw_sql("SET default_transaction_read_only = on")
            .execute(&mut *connection)
            .await
            .unwrap();
        let refused = sqlx::query("UPDATE meta SET revision = revision + 1")
            .execute(&mut *connection)
            .await;
        let refused = DbError::from(refused.unwrap_err());
        assert!(matches!(refused, DbError::Unavailable(_)), "{refused:?}");
        drop(connection);
        for _ in 0..MAX_CONNECTIONS {
            let mut connection = db.writers.acquire().await.unwrap();
            assert_ne!(process(&mut connection).await, standby);
        }
        db.change().await.unwrap().commit().await.unwrap();
    }
}

#[tokio::test]
async fn what_a_host_does_by_itself_leaves_connections_for_events() {
    for db in databases().await {
        if db.dialect() == Dialect::Sqlite {
            continue;
        }
        let background = db.background();
        let mut held = Vec::new();
        for _ in 0..MAX_BACKGROUND_CONNECTIONS {
            held.push(background.begin().await.unwrap());
        }
        db.change().await.unwrap().commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_second_host_on_one_sqlite_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/wxhost.db", directory.path().display());
    let first = Database::open(&url).await.unwrap();
    let refusal = Database::open(&url).await.unwrap_err();
    assert!(matches!(refusal, OpenError::InUse { .. }), "{refusal}");
    first.close().await;
    drop(first);
    Database::open(&url).await.unwrap();
}

#[tokio::test]
async fn urls_that_cannot_work_are_refused_with_a_reason() {
    for (url, expected) in [
        ("mysql://localhost/x", "the database URL must begin with"),
        ("sqlite::memory:", "an in-memory SQLite database"),
        ("sqlite://", "an in-memory SQLite database"),
        (
            "sqlite:///proc/nowhere/x.db",
            "cannot open the database file",
        ),
    ] {
        let message = Database::open(url).await.unwrap_err().to_string();
        assert!(message.starts_with(expected), "{url}: {message}");
    }
}

#[test]
fn codes_of_an_outage() {
    for (code, outage) in [
        ("08006", true),
        ("57P01", true),
        ("53300", true),
        ("55P03", true),
        ("58030", true),
        ("25006", true),
        ("25P02", false),
        ("42601", false),
        ("5", true),
        ("261", true),
        ("778", true),
        ("1", false),
        ("2067", false),
    ] {
        assert_eq!(is_outage(code), outage, "{code}");
    }
}
