//! By what right an object is reached.
//!
//! What the admin API works with is closed to its handlers. A handler takes a permission, [`Read`],
//! [`Write`] or [`Look`], which only a request with the right can become, and with it the object that the
//! request's path names: one that forgets the check has neither database nor row. A look at what people
//! wrote or did is in the audit before the handler runs.

use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::{header, request::Parts};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use crate::audit::{Action, Author};
use crate::db::accounts::AccountRow;
use crate::db::merchants::MerchantRow;
use crate::db::platforms::PlatformRow;
use crate::db::tenants::TenantRow;
use crate::db::{self, calls};
use crate::http::error::{ApiError, RequestId};
use crate::http::router::Peer;
use crate::services::Services;

/// What the admin API works with, closed to its handlers.
#[derive(Clone, Debug)]
pub(super) struct AdminState {
    services: Arc<Services>,
    /// What a request must bring.
    token: Arc<SecretString>,
}

impl AdminState {
    /// Works with these, for whoever brings the token.
    pub(super) fn new(services: Arc<Services>, token: SecretString) -> Self {
        Self {
            services,
            token: Arc::new(token),
        }
    }
}

/// Whoever has the admin token. Today this is the only one who may anything; who else signs in one day is
/// told apart here, and asked for at [`Object::find`].
pub(super) struct Operator {
    request_id: Arc<str>,
}

impl FromRequestParts<AdminState> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &AdminState,
    ) -> Result<Self, Self::Rejection> {
        let id = parts.extensions.get::<RequestId>();
        let request_id = id.map_or_else(Arc::default, |id| Arc::clone(&id.0));
        if has_token(parts, &state.token) {
            return Ok(Self { request_id });
        }
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.0);
        let what = format!("{} {}", parts.method, parts.uri.path());
        let audit = &state.services.audit;
        audit.failed_sign_in(&request_id, &what, peer).await;
        Err(ApiError::unauthorized())
    }
}

fn has_token(parts: &Parts, wanted: &SecretString) -> bool {
    let given = parts
        .headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let wanted = wanted.expose_secret();
    // Equal lengths are compared without a hint at the first difference; no token at all fits nothing.
    given.is_some_and(|given| {
        !wanted.is_empty() && bool::from(given.as_bytes().ct_eq(wanted.as_bytes()))
    })
}

/// What a permission is for.
pub(super) trait Object: Sized + Send {
    /// Finds the one that a path names.
    fn find(
        services: &Services,
        path: &PathNames,
    ) -> impl Future<Output = Result<Self, ApiError>> + Send;

    /// The account that it belongs to.
    fn app_id(&self) -> Option<&str>;
}

/// The names in a request's path.
pub(super) struct PathNames(RawPathParams);

impl PathNames {
    fn get(&self, name: &str) -> &str {
        let mut names = self.0.iter();
        names
            .find_map(|(given, value)| (given == name).then_some(value))
            .unwrap_or_default()
    }
}

/// The whole installation: what is of no tenant, or of all of them.
pub(super) struct Everything;

impl Object for Everything {
    async fn find(_: &Services, _: &PathNames) -> Result<Self, ApiError> {
        Ok(Self)
    }

    fn app_id(&self) -> Option<&str> {
        None
    }
}

impl Object for TenantRow {
    async fn find(services: &Services, path: &PathNames) -> Result<Self, ApiError> {
        let id = path.get("id");
        let tenant = db::tenants::find(&services.db, id).await?;
        tenant.ok_or_else(|| ApiError::not_found("tenant", id))
    }

    fn app_id(&self) -> Option<&str> {
        None
    }
}

impl Object for AccountRow {
    async fn find(services: &Services, path: &PathNames) -> Result<Self, ApiError> {
        let app_id = path.get("app_id");
        let account = db::accounts::find(&services.db, app_id).await?;
        account.ok_or_else(|| ApiError::not_found("account", app_id))
    }

    fn app_id(&self) -> Option<&str> {
        Some(&self.app_id)
    }
}

impl Object for PlatformRow {
    async fn find(services: &Services, path: &PathNames) -> Result<Self, ApiError> {
        let id = path.get("platform");
        let platform = db::platforms::find(&services.db, id).await?;
        platform.ok_or_else(|| ApiError::not_found("platform", id))
    }

    fn app_id(&self) -> Option<&str> {
        Some(&self.app_id)
    }
}

impl Object for MerchantRow {
    async fn find(services: &Services, path: &PathNames) -> Result<Self, ApiError> {
        let id = path.get("mch_id");
        let merchant = db::merchants::find(&services.db, id).await?;
        merchant.ok_or_else(|| ApiError::not_found("merchant", id))
    }

    fn app_id(&self) -> Option<&str> {
        None
    }
}

impl Object for calls::Call {
    async fn find(services: &Services, path: &PathNames) -> Result<Self, ApiError> {
        let id = path.get("id");
        let call = calls::find(&services.db, id).await?;
        call.ok_or_else(|| ApiError::not_found("call", id))
    }

    fn app_id(&self) -> Option<&str> {
        Some(&self.app_id)
    }
}

/// Who may, and what with.
struct Permission {
    services: Arc<Services>,
    by: Operator,
}

impl Permission {
    async fn for_object<T: Object>(
        parts: &mut Parts,
        state: &AdminState,
    ) -> Result<(Self, T, PathNames), ApiError> {
        let by = Operator::from_request_parts(parts, state).await?;
        let names = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::invalid("path", error))?;
        let names = PathNames(names);
        let object = T::find(&state.services, &names).await?;
        let services = Arc::clone(&state.services);
        Ok((Self { services, by }, object, names))
    }
}

/// The right to see an object, what people did with it aside.
pub(super) struct Read<T> {
    /// What the path names.
    pub(super) object: T,
    permission: Permission,
}

impl<T> Read<T> {
    /// What it is seen with.
    pub(super) fn services(&self) -> &Services {
        &self.permission.services
    }
}

impl<T: Object> FromRequestParts<AdminState> for Read<T> {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &AdminState,
    ) -> Result<Self, Self::Rejection> {
        let (permission, object, _) = Permission::for_object(parts, state).await?;
        Ok(Self { object, permission })
    }
}

/// The right to change an object.
pub(super) struct Write<T> {
    /// What the path names.
    pub(super) object: T,
    permission: Permission,
}

impl<T> Write<T> {
    /// What it is changed with.
    pub(super) fn services(&self) -> &Services {
        &self.permission.services
    }

    /// Who changes it, for the audit.
    pub(super) fn author(&self) -> Author {
        Author::admin(&*self.permission.by.request_id)
    }

    /// Takes over a change that is stored, and tells the other hosts.
    pub(super) async fn announce(&self) {
        self.services().announce_change().await;
    }
}

impl<T: Object> FromRequestParts<AdminState> for Write<T> {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &AdminState,
    ) -> Result<Self, Self::Rejection> {
        let (permission, object, _) = Permission::for_object(parts, state).await?;
        Ok(Self { object, permission })
    }
}

/// What people wrote or did, and how a look at it is called in the audit.
pub(super) trait Personal: Send {
    /// The entry's action.
    const ACTION: Action;
    /// The parameter of the path that names one of it.
    const ONE: &'static str;
}

/// The people who met an account.
pub(super) struct Contacts;

impl Personal for Contacts {
    const ACTION: Action = Action::ContactsRead;
    const ONE: &'static str = "open_id";
}

/// What plugins remember.
pub(super) struct Values;

impl Personal for Values {
    const ACTION: Action = Action::ValuesRead;
    const ONE: &'static str = "key";
}

/// Records of calls, with what plugins wrote.
pub(super) struct Calls;

impl Personal for Calls {
    const ACTION: Action = Action::CallsRead;
    const ONE: &'static str = "id";
}

/// What was sent to whom.
pub(super) struct Outbox;

impl Personal for Outbox {
    const ACTION: Action = Action::OutboxRead;
    const ONE: &'static str = "id";
}

/// What people paid.
pub(super) struct Money;

impl Personal for Money {
    const ACTION: Action = Action::OrdersRead;
    const ONE: &'static str = "out_refund_no";
}

/// The right to see what people wrote or did. The look is in the audit by now.
pub(super) struct Look<P, T> {
    /// What the path names.
    pub(super) object: T,
    permission: Permission,
    _at: PhantomData<P>,
}

impl<P, T> Look<P, T> {
    /// What it is seen with.
    pub(super) fn services(&self) -> &Services {
        &self.permission.services
    }
}

impl<P: Personal, T: Object> FromRequestParts<AdminState> for Look<P, T> {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &AdminState,
    ) -> Result<Self, Self::Rejection> {
        let (permission, object, names) = Permission::for_object::<T>(parts, state).await?;
        let author = Author::admin(&*permission.by.request_id);
        let entry = author.entry(P::ACTION, object.app_id(), names.get(P::ONE), "ok");
        permission.services.audit.write(entry).await?;
        Ok(Self {
            object,
            permission,
            _at: PhantomData,
        })
    }
}
