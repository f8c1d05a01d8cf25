//! `/api/v1/accounts/{app_id}/contacts`: the people who met an account.

use axum::Json;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::{Look, PageSize, Path, Query, Read, Write, permission};
use crate::{
    audit::Action,
    db::{
        self,
        accounts::AccountRow,
        contacts::{Interactions, ListError},
    },
    http::error::{ApiError, ErrorBody},
    services::Services,
};

/// What an account knows of a contact. Times are Unix milliseconds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Contact {
    /// The open id.
    open_id: String,
    /// The same person over all accounts of one WeChat Open Platform account, where known.
    union_id: Option<String>,
    /// Whether the contact follows the account; null where the host never heard.
    following: Option<bool>,
    /// The first event or import that named the contact.
    first_seen_at: i64,
    /// The last follow.
    followed_at: Option<i64>,
    /// The last unfollow.
    unfollowed_at: Option<i64>,
    /// The scene of the QR code by which the contact followed.
    qr_scene: Option<String>,
    /// When the contact last did what.
    last: Last,
    /// Ids of WeChat's tags of the contact, as last known.
    tags: Vec<u32>,
    /// The account's remark; may be empty.
    remark: String,
    /// What plugins noted.
    #[schema(value_type = Object)]
    attributes: Box<RawValue>,
    /// Since when the contact wants no messages; null where that is not so.
    opted_out_at: Option<i64>,
}

/// When a contact last did what.
#[derive(Debug, Serialize, ToSchema)]
struct Last {
    /// Wrote a message.
    message: Option<i64>,
    /// Tapped a menu item.
    menu: Option<i64>,
    /// Scanned a QR code.
    scan: Option<i64>,
    /// Followed.
    follow: Option<i64>,
    /// Paid.
    payment: Option<i64>,
}

impl From<Interactions> for Last {
    fn from(last: Interactions) -> Self {
        Self {
            message: last.message,
            menu: last.menu,
            scan: last.scan,
            follow: last.follow,
            payment: last.payment,
        }
    }
}

impl TryFrom<db::contacts::Contact> for Contact {
    type Error = ApiError;

    fn try_from(contact: db::contacts::Contact) -> Result<Self, ApiError> {
        Ok(Self {
            open_id: contact.open_id,
            union_id: contact.union_id,
            following: contact.following,
            first_seen_at: contact.first_seen_at,
            followed_at: contact.followed_at,
            unfollowed_at: contact.unfollowed_at,
            qr_scene: contact.qr_scene,
            last: contact.last.into(),
            tags: contact.tags,
            remark: contact.remark,
            attributes: RawValue::from_string(contact.attributes).map_err(ApiError::internal)?,
            opted_out_at: contact.opted_out_at,
        })
    }
}

/// A page of contacts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Contacts {
    /// In byte order of their open ids.
    contacts: Vec<Contact>,
    /// Give it as `cursor` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which contacts to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ContactQuery {
    /// `next` of the page before.
    cursor: Option<String>,
    /// 1 to 200; 50 if absent.
    limit: Option<u32>,
}

/// How far the import of an account's followers has come. Times are Unix milliseconds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Import {
    /// `running`; `waiting` for a quota, for WeChat or for the account's owner; `done`; `failed`.
    state: String,
    /// Followers that WeChat says there are.
    total: i64,
    /// Followers that were listed so far.
    listed: i64,
    /// Followers about whom WeChat was asked so far.
    fetched: i64,
    /// Why it waits or failed.
    error: Option<String>,
    /// When it is tried again, where it waits.
    due_at: Option<i64>,
    /// When it began.
    started_at: i64,
    /// When it last came further.
    updated_at: i64,
    /// When it ended.
    finished_at: Option<i64>,
}

impl From<db::imports::Import> for Import {
    fn from(import: db::imports::Import) -> Self {
        Self {
            due_at: (import.state == "waiting").then_some(import.due_at),
            state: import.state,
            total: import.total,
            listed: import.listed,
            fetched: import.fetched,
            error: import.error,
            started_at: import.started_at,
            updated_at: import.updated_at,
            finished_at: import.finished_at,
        }
    }
}

/// Starts the import of an account's followers. One that waits or failed goes on where it was; one that
/// is done begins anew; one that runs is left alone.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/contacts/import", tag = "contacts", params(("app_id" = String, Path)), responses(
    (status = 200, body = Import),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn start_import(write: Write<AccountRow>) -> Result<Json<Import>, ApiError> {
    let (services, app_id) = (write.services(), &write.object.app_id);
    let author = write.author();
    // First what is going to be done: it may not be done without being noted.
    let entry = author.entry(Action::ContactsImport, Some(app_id), "", "asked");
    services.audit.write(entry).await?;
    db::imports::start(&services.db, app_id, services.db.now_ms()).await?;
    import_of(services, app_id).await
}

/// Shows how far the import has come.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/contacts/import", tag = "contacts", params(("app_id" = String, Path)), responses(
    (status = 200, body = Import),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn show_import(read: Read<AccountRow>) -> Result<Json<Import>, ApiError> {
    import_of(read.services(), &read.object.app_id).await
}

async fn import_of(services: &Services, app_id: &str) -> Result<Json<Import>, ApiError> {
    match db::imports::find(&services.db, app_id).await? {
        Some(import) => Ok(Json(import.into())),
        None => Err(ApiError::not_found("import of followers for", app_id)),
    }
}

/// Lists the contacts of an account.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/contacts", tag = "contacts", params(("app_id" = String, Path), ContactQuery), responses(
    (status = 200, body = Contacts),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn list(
    look: Look<permission::Contacts, AccountRow>,
    Query(query): Query<ContactQuery>,
) -> Result<Json<Contacts>, ApiError> {
    let limit = PageSize::of(query.limit)?.items();
    let (db, app_id) = (&look.services().db, &look.object.app_id);
    let page = db::contacts::list(db, app_id, query.cursor.as_deref(), limit).await;
    let page = page.map_err(|error| match error {
        ListError::InvalidCursor => ApiError::invalid("cursor", error),
        ListError::Database(error) => error.into(),
    })?;
    let contacts: Result<_, _> = page.contacts.into_iter().map(Contact::try_from).collect();
    Ok(Json(Contacts {
        contacts: contacts?,
        next: page.next,
    }))
}

/// Shows a contact.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/contacts/{open_id}", tag = "contacts", params(("app_id" = String, Path), ("open_id" = String, Path)), responses(
    (status = 200, body = Contact),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn show(
    look: Look<permission::Contacts, AccountRow>,
    Path((_app_id, open_id)): Path<(String, String)>,
) -> Result<Json<Contact>, ApiError> {
    match db::contacts::find(&look.services().db, &look.object.app_id, &open_id).await? {
        Some(contact) => Ok(Json(contact.try_into()?)),
        None => Err(ApiError::not_found("contact", &open_id)),
    }
}
