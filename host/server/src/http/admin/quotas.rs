//! `…/accounts/{app_id}/quotas` and `…/tenants/{id}/quotas`: how much of what is shared an account, or a
//! tenant with all its accounts, may use, and how much it does.

use std::collections::BTreeMap;

use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::permission::Object;
use super::{JsonBody, Read, Write};
use crate::audit::Action;
use crate::clock::beijing_day;
use crate::db::accounts::AccountRow;
use crate::db::quotas::{self, Owner, Quota};
use crate::db::tenants::TenantRow;
use crate::http::error::{ApiError, ErrorBody};
use crate::quotas::Limits;
use crate::services::Services;

/// A quota.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QuotaView {
    /// `value-bytes`, `values`, `contacts-made`, `attribute-bytes`, `waiting-messages`,
    /// `log-bytes-a-day` or `callbacks-a-second`.
    name: &'static str,
    /// How much may be used; absent where there is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    most: Option<i64>,
    /// Whether it was set for this account or tenant; what is not comes from the host's settings.
    is_set: bool,
    /// How much is in use; absent for `callbacks-a-second`, which each host paces for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_use: Option<i64>,
}

/// All quotas of an account or a tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QuotaViews {
    /// In the order of their names' meaning.
    quotas: Vec<QuotaView>,
}

/// Quotas to set: a name and how much may be used; null leaves it to the host's settings again.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({"value-bytes": 1_048_576, "values": null}))]
pub(super) struct QuotasToSet(BTreeMap<String, Option<i64>>);

impl QuotasToSet {
    fn checked(self) -> Result<Vec<(Quota, Option<i64>)>, ApiError> {
        let checked = self.0.into_iter().map(|(name, most)| {
            let quota: Quota = name
                .parse()
                .map_err(|error| ApiError::invalid("quotas", error))?;
            let least = i64::from(quota == Quota::CallbacksASecond);
            match most {
                Some(most) if most < least => Err(ApiError::invalid(
                    "quotas",
                    format_args!("{name} must be {least} or more"),
                )),
                most => Ok((quota, most)),
            }
        });
        checked.collect()
    }
}

async fn views(services: &Services, owner: Owner<'_>) -> Result<Json<QuotaViews>, ApiError> {
    let of = |rows: Vec<(String, i64)>| rows.into_iter().collect::<BTreeMap<String, i64>>();
    let set = of(quotas::set_of(&services.db, owner).await?);
    let day = beijing_day(services.db.now_ms());
    let in_use = of(quotas::in_use(&services.db, owner, day).await?);
    let usual = match owner {
        Owner::Account(_) => *services.quotas.usual(),
        Owner::Tenant(_) => Limits::default(),
    };
    let view = |quota: Quota| QuotaView {
        name: quota.as_str(),
        most: set.get(quota.as_str()).copied().or(usual.get(quota)),
        is_set: set.contains_key(quota.as_str()),
        in_use: (quota != Quota::CallbacksASecond)
            .then(|| in_use.get(quota.as_str()).copied().unwrap_or_default()),
    };
    let quotas = Quota::ALL.map(view).into();
    Ok(Json(QuotaViews { quotas }))
}

async fn change<T: Object>(
    write: &Write<T>,
    owner: Owner<'_>,
    wanted: QuotasToSet,
) -> Result<Json<QuotaViews>, ApiError> {
    let wanted = wanted.checked()?;
    let services = write.services();
    let mut change = services.db.change().await?;
    for (quota, most) in wanted {
        quotas::set(&mut change, owner, quota, most).await?;
        let most = most.map_or_else(|| "as usual".to_owned(), |most| most.to_string());
        let whose = match owner {
            Owner::Account(_) => String::new(),
            Owner::Tenant(id) => format!(" of tenant {id}"),
        };
        let object = format!("{}{whose}: {most}", quota.as_str());
        let app_id = write.object.app_id();
        write
            .author()
            .note(&mut change, Action::QuotaChange, app_id, &object)
            .await?;
    }
    change.commit().await?;
    write.announce().await;
    views(services, owner).await
}

/// Shows an account's quotas and what is in use of them.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/quotas", tag = "accounts", params(("app_id" = String, Path)), responses(
    (status = 200, body = QuotaViews),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn of_account(read: Read<AccountRow>) -> Result<Json<QuotaViews>, ApiError> {
    views(read.services(), Owner::Account(&read.object.app_id)).await
}

/// Changes an account's quotas. Hosts keep to them within a second.
#[utoipa::path(patch, path = "/api/v1/accounts/{app_id}/quotas", tag = "accounts", params(("app_id" = String, Path)), request_body = QuotasToSet, responses(
    (status = 200, body = QuotaViews),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn change_of_account(
    write: Write<AccountRow>,
    JsonBody(wanted): JsonBody<QuotasToSet>,
) -> Result<Json<QuotaViews>, ApiError> {
    change(&write, Owner::Account(&write.object.app_id), wanted).await
}

/// Shows a tenant's quotas, for all its accounts together, and what is in use of them.
#[utoipa::path(get, path = "/api/v1/tenants/{id}/quotas", tag = "tenants", params(("id" = String, Path)), responses(
    (status = 200, body = QuotaViews),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn of_tenant(read: Read<TenantRow>) -> Result<Json<QuotaViews>, ApiError> {
    views(read.services(), Owner::Tenant(&read.object.id)).await
}

/// Changes a tenant's quotas. Without one, only those of each account hold.
#[utoipa::path(patch, path = "/api/v1/tenants/{id}/quotas", tag = "tenants", params(("id" = String, Path)), request_body = QuotasToSet, responses(
    (status = 200, body = QuotaViews),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn change_of_tenant(
    write: Write<TenantRow>,
    JsonBody(wanted): JsonBody<QuotasToSet>,
) -> Result<Json<QuotaViews>, ApiError> {
    change(&write, Owner::Tenant(&write.object.id), wanted).await
}
