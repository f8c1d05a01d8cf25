//! `/api/v1/accounts/{app_id}/kv`: what an account's plugins remember, to look at.

use axum::Json;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Look, Path, Query, permission::Values};
use crate::{
    db::{
        accounts::AccountRow,
        kv::{self, ListError, MAX_PAGE_ITEMS},
    },
    http::error::{ApiError, ErrorBody},
};

/// A stored value.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Item {
    /// Its key.
    key: String,
    /// Its bytes in Base64.
    #[schema(format = Byte)]
    value_base64: String,
    /// Fresh for each write; in decimal, for it has 63 bits.
    version: String,
}

impl Item {
    fn of(key: String, entry: &kv::Entry) -> Self {
        Self {
            key,
            value_base64: BASE64_STANDARD.encode(&entry.value),
            version: entry.version.to_string(),
        }
    }
}

/// A page of stored values.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Items {
    /// In byte order of the keys.
    items: Vec<Item>,
    /// Give it as `cursor` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which values to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct KvQuery {
    /// Keys that begin with it; all if absent.
    prefix: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// 1 to 100; 100 if absent.
    limit: Option<u32>,
}

/// Lists stored values.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/kv", tag = "kv", params(("app_id" = String, Path), KvQuery), responses(
    (status = 200, body = Items),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn list(
    look: Look<Values, AccountRow>,
    Query(query): Query<KvQuery>,
) -> Result<Json<Items>, ApiError> {
    let limit = query.limit.unwrap_or(MAX_PAGE_ITEMS);
    if !(1..=MAX_PAGE_ITEMS).contains(&limit) {
        return Err(ApiError::invalid(
            "limit",
            format_args!("must be 1 to {MAX_PAGE_ITEMS}"),
        ));
    }
    let prefix = query.prefix.as_deref().unwrap_or_default();
    let (db, app_id) = (&look.services().db, &look.object.app_id);
    let page = match kv::list(db, app_id, prefix, query.cursor.as_deref(), limit).await {
        Ok(page) => page,
        Err(ListError::InvalidCursor) => {
            return Err(ApiError::invalid("cursor", ListError::InvalidCursor));
        }
        Err(ListError::Database(error)) => return Err(error.into()),
    };
    let items = page.items.into_iter();
    Ok(Json(Items {
        items: items.map(|(key, entry)| Item::of(key, &entry)).collect(),
        next: page.next,
    }))
}

/// Shows a stored value. A `/` in the key is written `%2F`.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/kv/{key}", tag = "kv", params(("app_id" = String, Path), ("key" = String, Path)), responses(
    (status = 200, body = Item),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn get(
    look: Look<Values, AccountRow>,
    Path((_app_id, key)): Path<(String, String)>,
) -> Result<Json<Item>, ApiError> {
    match kv::get(&look.services().db, &look.object.app_id, &key).await? {
        Some(entry) => Ok(Json(Item::of(key, &entry))),
        None => Err(ApiError::not_found("key", &key)),
    }
}
