//! `/api/v1/address-refusals` and `/api/v1/address-probe`: which accounts' lists (IP 白名单) lack a host's
//! address.

use std::time::Duration;

use axum::Json;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::{PageSize, Query, Write, permission::Everything};
use crate::{
    audit::Action,
    db::{
        accounts,
        addresses::{self, AddressFilter, AddressRow},
    },
    http::error::{ApiError, ErrorBody},
    tokens::Probe,
};

/// Probes at the same time.
const PROBES_AT_ONCE: usize = 16;

/// How long WeChat's answer to a probe is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// That WeChat refuses a host's address for an account. Other hosts serve the account all the same.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AddressRefusal {
    /// The host, by the mark of its process.
    host: String,
    /// Its address as WeChat sees it; empty where WeChat does not say.
    address: String,
    /// WeChat's code.
    errcode: i64,
    /// What WeChat said, and what to do.
    message: String,
    /// Unix milliseconds.
    since: i64,
}

impl From<AddressRow> for AddressRefusal {
    fn from(row: AddressRow) -> Self {
        Self {
            host: row.host,
            address: row.address,
            errcode: row.errcode,
            message: row.message,
            since: row.since_at,
        }
    }
}

/// Which refusals to lift; all where nothing is said.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LiftQuery {
    /// For accounts of this tenant.
    tenant: Option<String>,
    /// For this account.
    account: Option<String>,
    /// Of this address.
    address: Option<String>,
}

/// What was lifted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Lifted {
    /// How many.
    lifted: u64,
}

/// Says that the owners have completed their lists: the hosts ask WeChat again within seconds. They would
/// by themselves, after ten minutes at most.
#[utoipa::path(delete, path = "/api/v1/address-refusals", tag = "accounts", params(LiftQuery), responses(
    (status = 200, body = Lifted),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn lift(
    write: Write<Everything>,
    Query(query): Query<LiftQuery>,
) -> Result<Json<Lifted>, ApiError> {
    let filter = AddressFilter {
        app_id: query.account.as_deref(),
        tenant: query.tenant.as_deref(),
        address: query.address.as_deref(),
    };
    let mut change = write.services().db.change().await?;
    let lifted = addresses::lift(&mut change, &filter).await?;
    let object = format!(
        "{lifted} of address {} tenant {}",
        query.address.as_deref().unwrap_or("any"),
        query.tenant.as_deref().unwrap_or("any"),
    );
    let app_id = query.account.as_deref();
    write
        .author()
        .note(&mut change, Action::AddressLift, app_id, &object)
        .await?;
    change.commit().await?;
    Ok(Json(Lifted { lifted }))
}

/// Which accounts to probe.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ProbeQuery {
    /// Of this tenant only.
    tenant: Option<String>,
    /// After this app id.
    after: Option<String>,
    /// 1 to 200; 50 if absent.
    limit: Option<u32>,
}

/// Whether WeChat takes this host's address for an account.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Probed {
    /// The account.
    app_id: String,
    /// Whose it is.
    tenant_id: String,
    /// `allowed`, `refused`, or `unknown` where something else stands in the way.
    result: &'static str,
    /// This host's address as WeChat sees it, where WeChat says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// WeChat's code, where it refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    errcode: Option<i64>,
    /// Why it is not `allowed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// A page of probed accounts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProbedPage {
    /// In order of their app ids. Disabled accounts are left out.
    accounts: Vec<Probed>,
    /// Give it as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Asks WeChat, from this very host, whether it takes its address for each account, before the host takes
/// traffic. No token ends by it, on neither token line.
#[utoipa::path(post, path = "/api/v1/address-probe", tag = "accounts", params(ProbeQuery), responses(
    (status = 200, body = ProbedPage),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn probe(
    write: Write<Everything>,
    Query(query): Query<ProbeQuery>,
) -> Result<Json<ProbedPage>, ApiError> {
    let size = PageSize::of(query.limit)?;
    let services = write.services();
    let after = query.after.as_deref().unwrap_or_default();
    let filter = accounts::AccountFilter {
        tenant: query.tenant.as_deref(),
        attention: None,
    };
    let rows = accounts::list(&services.db, &filter, after, size.rows()).await?;
    let page = size.page(rows, |row| row.app_id.clone());
    let known = page
        .items
        .iter()
        .filter_map(|row| services.accounts.get(&row.app_id))
        .filter(|account| account.is_active());
    let known: Vec<_> = known.collect();
    let tokens = services.client.tokens();
    let accounts = futures::stream::iter(known)
        .map(|account| async move {
            let probe = tokens.probe(&account, Instant::now() + PATIENCE).await;
            probed(&account, probe)
        })
        .buffered(PROBES_AT_ONCE)
        .collect()
        .await;
    Ok(Json(ProbedPage {
        accounts,
        next: page.next,
    }))
}

fn probed(account: &crate::accounts::Account, probe: Probe) -> Probed {
    let (result, address, errcode, message) = match probe {
        Probe::Allowed => ("allowed", None, None, None),
        Probe::Refused(refusal) => (
            "refused",
            refusal.address.map(|address| address.to_string()),
            Some(refusal.errcode),
            Some(refusal.message),
        ),
        Probe::Unknown {
            code,
            errcode,
            message,
        } => ("unknown", None, errcode, Some(format!("{code}: {message}"))),
    };
    Probed {
        app_id: account.app_id.as_str().to_owned(),
        tenant_id: account.tenant.id.to_string(),
        result,
        address,
        errcode,
        message,
    }
}
