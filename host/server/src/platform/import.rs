//! The accounts of a platform that was run by other software: from WeChat's list, which any host goes on
//! with where one stopped, or from a table of refresh tokens.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wxhost_wechat::api::component::{AuthorizerPage, GetAuthorizerList, MAX_LISTED, Secret};
use wxhost_wechat::id::AppId;

use super::{CALL_TIME, PERIOD, PlatformLane};
use crate::accounts::Platform;
use crate::audit::{Action, Author};
use crate::backoff;
use crate::clock::millis;
use crate::db::authorisations::{self, Claim, Grant};
use crate::db::platform_imports::{self, PlatformImportRow};
use crate::db::{DbError, Lease, tenants};
use crate::random;
use crate::seal::Place;
use crate::services::Services;
use crate::settings::ChangeError;

/// How long a host has an import since it last came further.
const LEASE: Duration = Duration::from_secs(30);
/// Failures in a row before an import is given up.
const MAX_FAILURES: i64 = 20;
/// The wait after the first failure; doubled with each.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait.
const MAX_WAIT: Duration = Duration::from_secs(300);
/// Rows of a table.
const MAX_ROWS: usize = 50_000;
/// Rows of one transaction.
const ROWS: usize = 200;

/// Reads lists until `stop`.
pub(super) async fn read_lists(lane: Arc<PlatformLane>, stop: CancellationToken) {
    let owner = random::unique_name();
    let db = lane.services.db.background();
    while !stop.is_cancelled() {
        let lease = Lease::begin(&db, &owner, LEASE);
        match platform_imports::lease(&db, lease).await {
            Ok(Some(import)) => {
                lane.go_on(import, &owner).await;
                continue;
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(error = %error, "imports of platforms can't be read"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

impl PlatformLane {
    /// Reads one page, and keeps how far that came.
    async fn go_on(&self, mut import: PlatformImportRow, owner: &str) {
        let db = self.services.db.background();
        let read = self.read_page(&mut import).await;
        let mut lease = Lease::begin(&db, owner, Duration::ZERO);
        if let Err(why) = read {
            tracing::warn!(
                platform.app_id = import.platform,
                error = why,
                "a platform's list can't be read now"
            );
            import.failures += 1;
            import.error = Some(why);
            let beyond = u32::try_from(import.failures).unwrap_or(u32::MAX);
            let wait = backoff::doubled(FIRST_WAIT, beyond.saturating_sub(1), MAX_WAIT);
            lease.until_ms += millis(backoff::jittered(wait));
            if import.failures >= MAX_FAILURES {
                import.state = "failed".to_owned();
            }
        }
        if let Err(error) = platform_imports::keep(&db, &import, lease).await {
            tracing::debug!(error = %error, "how far an import came can't be kept");
        }
    }

    async fn read_page(&self, import: &mut PlatformImportRow) -> Result<(), String> {
        let services = &self.services;
        let platform = services.accounts.platform(&import.platform);
        let platform = platform.ok_or("the platform is not known here")?;
        let call = GetAuthorizerList {
            component_app_id: &platform.app_id,
            offset: u32::try_from(import.next_offset).unwrap_or(u32::MAX),
            count: MAX_LISTED,
        };
        let deadline = Instant::now() + CALL_TIME;
        let page = services
            .client
            .call_for_platform(&platform, &call, deadline)
            .await
            .map_err(|error| error.to_string())?;
        let added = keep_page(services, &platform, import.tenant_id.as_deref(), &page)
            .await
            .map_err(|error| error.to_string())?;
        let rows = i64::try_from(page.list.len()).unwrap_or(i64::MAX);
        import.total = i64::try_from(page.total_count).unwrap_or(i64::MAX);
        import.next_offset += rows;
        import.listed += rows;
        import.added += added;
        import.failures = 0;
        import.error = None;
        if rows == 0 || import.next_offset >= import.total {
            import.state = "done".to_owned();
        }
        self.wake();
        Ok(())
    }
}

/// Keeps the authorisers of a page that are not known yet. How many.
async fn keep_page(
    services: &Services,
    platform: &Platform,
    tenant_id: Option<&str>,
    page: &AuthorizerPage,
) -> Result<i64, ChangeError> {
    let mut added = 0;
    let mut change = services.db.change().await?;
    for listed in &page.list {
        let Ok(app_id) = AppId::parse(&listed.app_id) else {
            continue;
        };
        let told_at = listed.auth_time.and_then(|time| i64::try_from(time).ok());
        let entry = Entry {
            app_id: &app_id,
            refresh_token: listed.refresh_token(),
            tenant_id,
            told_at: told_at.unwrap_or(0).saturating_mul(1000),
        };
        added += i64::from(add(services, &mut change, platform, entry).await?);
    }
    change.commit().await?;
    Ok(added)
}

/// An authoriser that is to be known.
struct Entry<'a> {
    app_id: &'a AppId,
    refresh_token: Option<Secret>,
    tenant_id: Option<&'a str>,
    /// WeChat's time, Unix milliseconds.
    told_at: i64,
}

/// Adds an authoriser, unless it is known: what an event brought is newer than any list. True if it was added.
async fn add(
    services: &Services,
    change: &mut crate::db::Change,
    platform: &Platform,
    entry: Entry<'_>,
) -> Result<bool, ChangeError> {
    let id = platform.app_id.as_str();
    let place = Place::refresh_token(entry.app_id.as_str(), id);
    let sealed = entry.refresh_token.as_ref();
    let sealed = sealed
        .map(|token| services.keys.seal(place, token.expose().as_bytes()))
        .transpose()?;
    let grant = Grant {
        app_id: entry.app_id.as_str(),
        platform: id,
        refresh_token_sealed: sealed.as_deref(),
        permission_sets: "[]",
        told_at: entry.told_at,
        claim: entry.tenant_id.map(|tenant_id| Claim {
            tenant_id,
            invitation: None,
        }),
    };
    Ok(authorisations::add(change, &grant, services.db.now_ms()).await?)
}

/// A line of a table that can't be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvFault {
    /// Its line; the heading is line 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// Why a table was not taken: nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum CsvError {
    /// These lines are at fault.
    #[error("{} lines can't be taken", .0.len())]
    Faults(Vec<CsvFault>),
    /// A value is not acceptable, or the database failed.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl From<DbError> for CsvError {
    fn from(error: DbError) -> Self {
        Self::Change(error.into())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CsvRow {
    app_id: String,
    refresh_token: String,
    #[serde(default)]
    tenant_id: Option<String>,
}

struct Read {
    app_id: AppId,
    refresh_token: Secret,
    tenant_id: Option<String>,
}

/// What came of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Its lines.
    pub lines: i64,
    /// Of these, authorisers that were not known before.
    pub added: i64,
}

/// Takes a table with the columns `app_id`, `refresh_token` and, if need be, `tenant_id`: whole, or not at
/// all.
///
/// # Errors
/// Lines that can't be taken; the database failed.
pub async fn import_csv(
    services: &Services,
    platform: &Platform,
    (tenant_id, text): (Option<&str>, &str),
    by: &Author,
) -> Result<Taken, CsvError> {
    let rows = read_csv(services, tenant_id, text).await?;
    let mut taken = Taken::default();
    for rows in rows.chunks(ROWS) {
        let mut change = services.db.change().await?;
        for row in rows {
            let entry = Entry {
                app_id: &row.app_id,
                refresh_token: Some(row.refresh_token.clone()),
                tenant_id: row.tenant_id.as_deref(),
                told_at: 0,
            };
            taken.added += i64::from(add(services, &mut change, platform, entry).await?);
            taken.lines += 1;
        }
        let object = format!("{} lines", rows.len());
        by.note(
            &mut change,
            Action::PlatformImport,
            Some(platform.app_id.as_str()),
            &object,
        )
        .await?;
        change.commit().await?;
    }
    Ok(taken)
}

async fn read_csv(
    services: &Services,
    tenant_id: Option<&str>,
    text: &str,
) -> Result<Vec<Read>, CsvError> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    let mut seen = std::collections::BTreeSet::new();
    for (index, record) in reader.deserialize::<CsvRow>().enumerate() {
        let line = u64::try_from(index).unwrap_or(u64::MAX).saturating_add(2);
        let read = record.map_err(|error| error.to_string()).and_then(|row| {
            let app_id = AppId::parse(&row.app_id).map_err(|error| error.to_string())?;
            if !seen.insert(app_id.to_string()) {
                return Err(format!("{app_id} stands in the table before"));
            }
            Ok(Read {
                app_id,
                refresh_token: Secret::parse(&row.refresh_token)
                    .map_err(|error| format!("refresh_token is {error}"))?,
                tenant_id: row.tenant_id.or_else(|| tenant_id.map(str::to_owned)),
            })
        });
        match read {
            Ok(row) => rows.push(row),
            Err(reason) => faults.push(CsvFault { line, reason }),
        }
        if rows.len() > MAX_ROWS {
            return Err(ChangeError::invalid(
                "csv",
                format_args!("must have at most {MAX_ROWS} lines"),
            )
            .into());
        }
    }
    let named: std::collections::BTreeSet<_> = rows
        .iter()
        .filter_map(|row| row.tenant_id.clone())
        .collect();
    for tenant in named {
        if tenants::find(&services.db, &tenant).await?.is_none() {
            let reason = format!("there is no tenant {tenant}");
            faults.push(CsvFault { line: 0, reason });
        }
    }
    if faults.is_empty() {
        Ok(rows)
    } else {
        Err(CsvError::Faults(faults))
    }
}
