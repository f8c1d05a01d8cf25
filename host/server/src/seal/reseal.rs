//! A changed master key takes over every box that another one has sealed.

use super::{MasterKeys, Place, SealError};
use crate::db::sealed::{self, BOX_COLUMNS, BoxColumn};
use crate::db::{Database, DbError};

/// Rows of one transaction when boxes are made anew.
const RESEAL_BLOCK: u32 = 200;

/// Why boxes could not be made anew.
#[derive(Debug, thiserror::Error)]
pub enum ResealError {
    /// A box does not open.
    #[error("cannot reseal the {what} of account {app_id}")]
    Seal {
        /// What is in the box.
        what: &'static str,
        /// Whose it is.
        app_id: String,
        /// Why.
        #[source]
        source: SealError,
    },
    /// The database failed.
    #[error("cannot reseal the secrets in the database")]
    Database(#[from] DbError),
}

/// Seals with the current key whatever another one has sealed: accounts' keys, deployments' secrets,
/// events that wait for their run, the secrets of third-party platforms, of merchants and of API keys, logins of
/// the last hour, and the tokens of users who let an account see them. Tells how many boxes were changed. Harmless to repeat, to
/// interrupt, and to run on several hosts at once. Damaged boxes are left.
pub async fn reseal(db: &Database, keys: &MasterKeys) -> Result<u64, ResealError> {
    let accounts = reseal_accounts(db, keys).await?;
    let deployments = reseal_deployments(db, keys).await?;
    let events = reseal_events(db, keys).await?;
    Ok(accounts + deployments + events + reseal_columns(db, keys).await?)
}

async fn reseal_accounts(db: &Database, keys: &MasterKeys) -> Result<u64, ResealError> {
    let mut changed = 0;
    let mut after = String::new();
    loop {
        let mut change = db.change().await?;
        let mut rows = sealed::accounts_after(&mut change, &after, RESEAL_BLOCK).await?;
        let Some(last) = rows.last() else {
            return Ok(changed);
        };
        after.clone_from(&last.app_id);
        let changed_before = changed;
        for row in &mut rows {
            let before = row.clone();
            reseal_account(keys, row)
                .or_else(|error| skip_damaged("keys", &before.app_id, error))?;
            if *row != before {
                sealed::update_account(&mut change, row).await?;
                changed += 1;
            }
        }
        if changed > changed_before {
            change.commit().await?;
        }
    }
}

fn reseal_account(keys: &MasterKeys, row: &mut sealed::SealedAccount) -> Result<(), SealError> {
    keys.reseal(Place::token(&row.app_id), &mut row.token_sealed)?;
    if let Some(secret) = &mut row.secret_sealed {
        keys.reseal(Place::app_secret(&row.app_id), secret)?;
    }
    if let Some(key) = &mut row.aes_key_sealed {
        keys.reseal(Place::aes_key(&row.app_id), key)?;
    }
    if let Some(key) = &mut row.former_aes_key_sealed {
        keys.reseal(Place::former_aes_key(&row.app_id), key)?;
    }
    if let Some(previous) = &row.previous_aes_key_sealed {
        row.former_aes_key_sealed = Some(keys.as_former_aes_key(&row.app_id, previous)?);
        row.previous_aes_key_sealed = None;
    }
    Ok(())
}

async fn reseal_deployments(db: &Database, keys: &MasterKeys) -> Result<u64, ResealError> {
    let mut changed = 0;
    let (mut after, mut after_version) = (String::new(), 0);
    loop {
        let mut change = db.change().await?;
        let mut rows =
            sealed::deployments_after(&mut change, &after, after_version, RESEAL_BLOCK).await?;
        let Some(last) = rows.last() else {
            return Ok(changed);
        };
        (after, after_version) = (last.app_id.clone(), last.version);
        let changed_before = changed;
        for row in &mut rows {
            let before = row.clone();
            let version = row.version.to_string();
            keys.reseal(
                Place::secrets(&before.app_id, &version),
                &mut row.secrets_sealed,
            )
            .or_else(|error| skip_damaged("deployment secrets", &before.app_id, error))?;
            if *row != before {
                sealed::update_deployment(&mut change, row).await?;
                changed += 1;
            }
        }
        if changed > changed_before {
            change.commit().await?;
        }
    }
}

/// No change to the accounts: hosts go on with these rows as they were, so each is changed by itself.
async fn reseal_events(db: &Database, keys: &MasterKeys) -> Result<u64, ResealError> {
    let mut changed = 0;
    let (mut after, mut after_event) = (String::new(), String::new());
    loop {
        let rows = sealed::events_after(db, &after, &after_event, RESEAL_BLOCK).await?;
        let Some(last) = rows.last() else {
            return Ok(changed);
        };
        (after, after_event) = (last.app_id.clone(), last.event_id.clone());
        for row in &rows {
            let mut event = row.event.clone();
            keys.reseal(Place::event(&row.app_id, &row.event_id), &mut event)
                .or_else(|error| skip_damaged("waiting event", &row.app_id, error))?;
            if event != row.event && sealed::update_event(db, row, &event).await? {
                changed += 1;
            }
        }
    }
}

/// One damaged box must not keep all the others from being served.
fn skip_damaged(what: &'static str, app_id: &str, error: SealError) -> Result<(), ResealError> {
    match error {
        SealError::Damaged => {
            tracing::error!(account.app_id = app_id, "a box is damaged: {what}");
            Ok(())
        }
        SealError::UnknownKey { .. } => Err(ResealError::Seal {
            what,
            app_id: app_id.to_owned(),
            source: error,
        }),
    }
}

/// Whole columns of boxes. Each is changed by itself, unless somebody has changed it since.
async fn reseal_columns(db: &Database, keys: &MasterKeys) -> Result<u64, ResealError> {
    let mut changed = 0;
    for column in BOX_COLUMNS {
        let mut after = (String::new(), String::new());
        loop {
            let rows = sealed::boxes_after(db, column, (&after.0, &after.1), RESEAL_BLOCK).await?;
            let Some(last) = rows.last() else {
                break;
            };
            after = (last.row.clone(), last.sub_row.clone());
            for row in &rows {
                let mut present = row.sealed.clone();
                keys.reseal(place_of(column, &row.row, &row.sub_row), &mut present)
                    .or_else(|error| skip_damaged(column.column, &row.row, error))?;
                if present != row.sealed && sealed::update_box(db, column, row, &present).await? {
                    changed += 1;
                }
            }
        }
    }
    Ok(changed)
}

/// Where a box of such a column stands.
fn place_of<'a>(column: &BoxColumn, row: &'a str, sub_row: &'a str) -> Place<'a> {
    match (column.table, column.column) {
        ("platforms", "secret_sealed") => Place::platform(row, "secret"),
        ("platforms", "token_sealed") => Place::platform(row, "token"),
        ("platforms", "aes_key_sealed") => Place::platform(row, "aes_key"),
        ("platforms", _) => Place::platform(row, "former_aes_key"),
        ("platform_tickets", _) => Place::ticket(row),
        ("authorisations", _) => Place::refresh_token(row, sub_row),
        ("api_keys", _) => Place::signing_secret(row),
        ("logins", _) => Place::login(row, sub_row),
        ("user_grants", "access_token_sealed") => Place::user_token(row, sub_row),
        ("user_grants", _) => Place::user_refresh_token(row, sub_row),
        ("merchants", _) => Place::v3_keys(row),
        ("merchant_certificates", _) => Place::merchant_key(row, sub_row),
        ("pay_notices", _) => Place::pay_notice(row, sub_row),
        (_, _) => Place::platform_event(row, sub_row),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::MasterKey;

    fn key(byte: u8) -> MasterKey {
        MasterKey::from_bytes(&[byte; 32])
    }

    #[tokio::test]
    async fn a_changed_master_key_takes_over_every_box() {
        use crate::db::{Lease, accounts, deployments, inbox, plugins, testing::databases};

        for db in databases().await {
            let old = MasterKeys::new(key(1), None);
            let mut account = accounts::tests::add_account(&db, "wx01").await;
            let seal = |place, text: &[u8]| old.seal(place, text).unwrap();
            let callbacks = &mut account.callbacks;
            callbacks.token_sealed = seal(Place::token("wx01"), b"token");
            callbacks.aes_key_sealed = Some(seal(Place::aes_key("wx01"), b"now"));
            callbacks.previous_aes_key_sealed = Some(seal(Place::aes_key("wx01"), b"before"));
            account.credentials.secret_sealed = Some(seal(Place::app_secret("wx01"), b"app"));
            let mut change = db.change().await.unwrap();
            accounts::update(&mut change, &account).await.unwrap();
            let plugin = plugins::PluginRow {
                digest: "d",
                component: b"c",
                handlers: "[]",
                imports: "[]",
                config_schema: None,
                manifest: None,
                created_at: 1,
            };
            plugins::insert(&mut change, &plugin).await.unwrap();
            let deployment = deployments::NewDeployment {
                app_id: "wx01",
                version: 1,
                digest: "d",
                config: "{}",
                secrets_sealed: &old.seal(Place::secrets("wx01", "1"), b"{}").unwrap(),
                limits: "{}",
                created_at: 1,
            };
            deployments::insert(&mut change, &deployment).await.unwrap();
            change.commit().await.unwrap();
            let event = inbox::PendingEvent {
                lease_owner: String::new(),
                app_id: "wx01".into(),
                event_id: "m:1".into(),
                event: old.seal(Place::event("wx01", "m:1"), b"hello").unwrap(),
                attempts: 0,
                created_at: 1,
            };
            inbox::acknowledge(&db, &event, 0).await.unwrap();

            // A key that was forgotten is noticed, and nothing is written.
            let forgotten = MasterKeys::new(key(2), None);
            assert!(reseal(&db, &forgotten).await.is_err());

            let both = MasterKeys::new(key(2), Some(key(1)));
            assert_eq!(reseal(&db, &both).await.unwrap(), 3);
            assert_eq!(reseal(&db, &both).await.unwrap(), 0);

            let new = MasterKeys::new(key(2), None);
            let account = accounts::find(&db, "wx01").await.unwrap().unwrap();
            let open = |place, sealed: &str| new.open(place, sealed).unwrap().to_vec();
            let callbacks = account.callbacks;
            let token = open(Place::token("wx01"), &callbacks.token_sealed);
            assert_eq!(token, b"token");
            let aes_key = callbacks.aes_key_sealed.unwrap();
            assert_eq!(open(Place::aes_key("wx01"), &aes_key), b"now");
            let secret = account.credentials.secret_sealed.unwrap();
            assert_eq!(open(Place::app_secret("wx01"), &secret), b"app");
            // It was sealed by the version before, where it would have opened as the present key.
            assert_eq!(callbacks.previous_aes_key_sealed, None);
            let former = callbacks.former_aes_key_sealed.unwrap();
            assert_eq!(open(Place::former_aes_key("wx01"), &former), b"before");
            let swapped = new.open(Place::aes_key("wx01"), &former);
            assert!(matches!(swapped, Err(SealError::Damaged)));
            let deployment = deployments::find(&db, "wx01", 1).await.unwrap().unwrap();
            let secrets = deployment.secrets_sealed;
            assert_eq!(open(Place::secrets("wx01", "1"), &secrets), b"{}");
            let lease = Lease::begin(&db, "second", std::time::Duration::ZERO);
            let waiting = inbox::lease_pending(&db, 1, lease).await.unwrap();
            let event = open(Place::event("wx01", "m:1"), &waiting[0].event);
            assert_eq!(event, b"hello");
        }
    }

    #[tokio::test]
    async fn the_boxes_of_logins_go_along() {
        use std::time::Duration;

        use crate::db::testing::databases;
        use crate::db::{Lease, accounts, logins, user_grants};

        for db in databases().await {
            accounts::tests::add_account(&db, "wx01").await;
            let old = MasterKeys::new(key(1), None);
            let seal = |place, text: &[u8]| old.seal(place, text).unwrap();
            let granted = user_grants::UserGrantRow {
                app_id: "wx01".into(),
                open_id: "o1".into(),
                access_token_sealed: seal(Place::user_token("wx01", "o1"), b"user"),
                expires_at: 1,
                refresh_token_sealed: seal(Place::user_refresh_token("wx01", "o1"), b"refresh"),
                granted_at: 1,
            };
            user_grants::keep(&db, &granted).await.unwrap();
            let login = logins::LoginKey {
                app_id: "wx01",
                state_hash: "s",
            };
            let lease = || Lease::begin(&db, "one", Duration::from_secs(60));
            logins::take(&db, login, "c", lease()).await.unwrap();
            let outcome = seal(Place::login("wx01", "s"), b"outcome");
            let ended = logins::end(&db, login, lease(), (&outcome, None));
            assert!(ended.await.unwrap());

            let both = MasterKeys::new(key(2), Some(key(1)));
            // The account's own box is none of an older key.
            assert_eq!(reseal_columns(&db, &both).await.unwrap(), 3);
            let new = MasterKeys::new(key(2), None);
            let open = |place, sealed: &str| new.open(place, sealed).unwrap().to_vec();
            let found = user_grants::find(&db, "wx01", "o1").await.unwrap().unwrap();
            let token = open(Place::user_token("wx01", "o1"), &found.access_token_sealed);
            assert_eq!(token, b"user");
            let place = Place::user_refresh_token("wx01", "o1");
            assert_eq!(open(place, &found.refresh_token_sealed), b"refresh");
            let again = logins::take(&db, login, "c", lease()).await.unwrap();
            let logins::Login::Done(sealed) = again else {
                panic!("it has ended: {again:?}");
            };
            assert_eq!(open(Place::login("wx01", "s"), &sealed), b"outcome");
        }
    }

    #[tokio::test]
    async fn the_boxes_of_platforms_go_along() {
        use crate::db::{authorisations, platforms, testing::databases};

        for db in databases().await {
            let old = MasterKeys::new(key(1), None);
            let mut row = platforms::tests::add_platform(&db, "wx0c").await;
            let seal = |column, text: &[u8]| old.seal(Place::platform("wx0c", column), text);
            row.secret_sealed = seal("secret", b"secret").unwrap();
            row.token_sealed = seal("token", b"token").unwrap();
            row.aes_key_sealed = seal("aes_key", b"key").unwrap();
            row.former_aes_key_sealed = Some(seal("former_aes_key", b"before").unwrap());
            let refresh = old.seal(Place::refresh_token("wx01", "wx0c"), b"refresh");
            let grant = authorisations::Grant {
                app_id: "wx01",
                platform: "wx0c",
                refresh_token_sealed: Some(&refresh.unwrap()),
                permission_sets: "[]",
                told_at: 1,
                claim: None,
            };
            let mut change = db.change().await.unwrap();
            platforms::update(&mut change, &row).await.unwrap();
            authorisations::grant(&mut change, &grant, 1).await.unwrap();
            change.commit().await.unwrap();
            for (ticket, told_at) in [("first", 1), ("second", 2)] {
                let sealed = old.seal(Place::ticket("wx0c"), ticket.as_bytes()).unwrap();
                let kept = platforms::keep_ticket(&db, "wx0c", (&sealed, false), told_at);
                kept.await.unwrap();
            }

            let both = MasterKeys::new(key(2), Some(key(1)));
            assert_eq!(reseal(&db, &both).await.unwrap(), 7);
            assert_eq!(reseal(&db, &both).await.unwrap(), 0);
            let new = MasterKeys::new(key(2), None);
            let row = platforms::find(&db, "wx0c").await.unwrap().unwrap();
            let opened = new.open(Place::platform("wx0c", "secret"), &row.secret_sealed);
            assert_eq!(&**opened.unwrap(), b"secret");
            let former = row.former_aes_key_sealed.unwrap();
            assert!(
                new.open(Place::platform("wx0c", "aes_key"), &former)
                    .is_err()
            );
            let tickets = platforms::tickets(&db, "wx0c").await.unwrap().unwrap();
            for (sealed, text) in [
                (tickets.ticket_sealed, "second"),
                (tickets.former_sealed.unwrap(), "first"),
            ] {
                let opened = new.open(Place::ticket("wx0c"), &sealed).unwrap();
                assert_eq!(&**opened, text.as_bytes());
            }
            let granted = authorisations::find(&db, "wx01", "wx0c").await.unwrap();
            let refresh = granted.unwrap().refresh_token_sealed.unwrap();
            let place = Place::refresh_token("wx01", "wx0c");
            assert_eq!(&**new.open(place, &refresh).unwrap(), b"refresh");
        }
    }
}
