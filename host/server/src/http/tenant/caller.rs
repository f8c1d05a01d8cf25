//! Who calls: the API key of a request, admitted within its rate.

use std::net::IpAddr;
use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use tokio::sync::OwnedSemaphorePermit;

use super::{TenantState, signed};
use crate::{
    accounts::Account,
    audit::{Action, Author},
    http::{
        error::{ApiError, RequestId},
        router::Peer,
    },
    keys::{ApiKey, Grant, RateLimited},
};

/// Where a key may stand beside `Authorization`.
pub(super) const KEY_HEADER: &str = "x-wxhost-key";

/// A tenant's system. A handler that takes it cannot be reached without a good key.
pub(super) struct Caller {
    /// By what right.
    pub(super) key: Arc<ApiKey>,
    /// Taken until the answer is through.
    pub(super) places: Arc<Places>,
    author: Author,
}

/// Places of a request among those of its key and of the host, given back when dropped.
#[derive(Debug)]
pub(super) struct Places {
    _of_key: OwnedSemaphorePermit,
    _of_host: OwnedSemaphorePermit,
}

/// What the audit says of a request without a good key.
pub(super) struct Asked<'a> {
    pub(super) id: &'a str,
    /// Method and path: a key may stand in the query.
    pub(super) what: &'a str,
    pub(super) peer: Option<IpAddr>,
}

impl Caller {
    /// Admits the bearer of a good key.
    ///
    /// # Errors
    /// No good key (401), too often or too much at once (429), a full host (503).
    pub(super) async fn admit(
        state: &TenantState,
        key: Option<Arc<ApiKey>>,
        request: Asked<'_>,
    ) -> Result<Self, ApiError> {
        let Some(key) = key else {
            let Asked { id, what, peer } = request;
            state.failures.failed_sign_in(id, what, peer).await;
            return Err(no_key());
        };
        state.rates.admit(&key).await.map_err(too_often)?;
        let of_key = key.place().ok_or_else(too_many)?;
        let of_host = Arc::clone(&state.places)
            .try_acquire_owned()
            .map_err(|_| overloaded())?;
        key.note_use(state.services.clock.now_ms());
        Ok(Self {
            author: Author::key(&key.id, request.id),
            places: Arc::new(Places {
                _of_key: of_key,
                _of_host: of_host,
            }),
            key,
        })
    }

    /// An account that the key reaches. An app id that is nobody's is answered like one that is
    /// another tenant's.
    pub(super) fn account(
        &self,
        state: &TenantState,
        app_id: &str,
    ) -> Result<Arc<Account>, ApiError> {
        let account = state
            .services
            .accounts
            .get(app_id)
            .filter(|account| self.key.reaches(account))
            .ok_or_else(unknown_account)?;
        match account.unserved() {
            None => Ok(account),
            Some(why) => Err(ApiError::new(
                StatusCode::FORBIDDEN,
                why.code(),
                why.message(),
            )),
        }
    }

    /// Refuses what the key is not granted.
    pub(super) fn expect(&self, grant: &Grant) -> Result<(), ApiError> {
        if self.key.grants.allows(grant) {
            Ok(())
        } else {
            Err(not_granted(grant))
        }
    }

    /// The same, before it is answered: what can't be noted is not given out.
    pub(super) async fn note_first(
        &self,
        state: &TenantState,
        (action, app_id, object): (Action, &str, &str),
        result: Result<&str, &ApiError>,
    ) -> Result<(), ApiError> {
        let result = result.unwrap_or_else(|error| error.code());
        let entry = self.author.entry(action, Some(app_id), object, result);
        Ok(state.services.audit.write(entry).await?)
    }

    /// Notes in the audit what was asked and what came of it.
    pub(super) fn note(
        &self,
        state: &TenantState,
        (action, app_id, object): (Action, &str, &str),
        result: Result<&str, &ApiError>,
    ) {
        let result = result.unwrap_or_else(|error| error.code());
        state
            .services
            .audit
            .add(self.author.entry(action, Some(app_id), object, result));
    }
}

impl FromRequestParts<TenantState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &TenantState,
    ) -> Result<Self, Self::Rejection> {
        let what = format!("{} {}", parts.method, parts.uri.path());
        let request = Asked {
            id: request_id(parts),
            what: &what,
            peer: peer(parts),
        };
        if signed::is_signed(parts) {
            let (id, peer) = (request.id.to_owned(), request.peer);
            let key = match signed::key(state, parts).await {
                Ok(key) => key,
                Err(error) => {
                    state.failures.failed_sign_in(&id, &what, peer).await;
                    return Err(error);
                }
            };
            let request = Asked {
                id: &id,
                what: &what,
                peer,
            };
            return Self::admit(state, Some(key), request).await;
        }
        let key = key_in(&parts.headers);
        let key = key.and_then(|text| state.services.api_keys.find(text));
        Self::admit(state, key, request).await
    }
}

/// The id that the request was given.
pub(super) fn request_id(parts: &Parts) -> &str {
    let id = parts.extensions.get::<RequestId>();
    id.map(|id| &*id.0).unwrap_or_default()
}

/// The public address that it comes from, if it is known.
pub(super) fn peer(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<Peer>().map(|peer| peer.0)
}

/// The key in a request's headers.
pub(super) fn key_in(headers: &HeaderMap) -> Option<&str> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = || {
        let (scheme, key) = text(header::AUTHORIZATION.as_str())?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key)
    };
    text(KEY_HEADER).or_else(bearer).map(str::trim)
}

fn no_key() -> ApiError {
    ApiError::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "give an API key that is not revoked, in the header Authorization: Bearer wxk_… or \
         X-Wxhost-Key, or sign the request with its signing secret; under /wechat/ the key may also \
         stand for the access_token",
    )
}

fn too_often(limited: RateLimited) -> ApiError {
    ApiError::new(
        StatusCode::TOO_MANY_REQUESTS,
        "rate-limited",
        format!(
            "the key has used up its {} requests a minute (rate_per_minute)",
            limited.limit
        ),
    )
    .retry_after(limited.retry_after_seconds)
}

fn too_many() -> ApiError {
    ApiError::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too-many-at-once",
        format!(
            "{} requests of the key are under way, which is the most",
            ApiKey::CONCURRENT
        ),
    )
    .retry_after(1)
}

fn overloaded() -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "overloaded",
        "the host has too many requests under way",
    )
    .retry_after(1)
}

fn unknown_account() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "unknown-account",
        "the key reaches no account of this app id",
    )
}

fn not_granted(grant: &Grant) -> ApiError {
    ApiError::new(
        StatusCode::FORBIDDEN,
        "not-granted",
        format!("the key has no grant {grant}"),
    )
}
