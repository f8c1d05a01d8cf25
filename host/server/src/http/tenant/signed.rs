//! A request that is signed in the place of bearing its key: by whom, when, over which body, and not twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{StatusCode, request::Parts};

use super::TenantState;
use crate::{
    http::{
        error::ApiError,
        extract::{BodyDigest, EMPTY_DIGEST},
    },
    inbox::UsedNonce,
    keys::{ApiKey, SignedRequest},
    random,
};

/// The headers of a signed request.
const KEY_ID: &str = "x-wxhost-key-id";
const TIMESTAMP: &str = "x-wxhost-timestamp";
const NONCE: &str = "x-wxhost-nonce";
const BODY_DIGEST: &str = "x-wxhost-content-sha256";
const SIGNATURE: &str = "x-wxhost-signature";

/// How far a timestamp may be off, in seconds.
const WINDOW: u64 = 300;
/// How long a nonce is remembered: for as long as its timestamp passes.
const NONCE_KEPT: Duration = Duration::from_secs(2 * WINDOW);
/// Characters of a nonce.
const NONCE_LENGTH: std::ops::RangeInclusive<usize> = 8..=64;

/// Whether a request says that it is signed.
pub(super) fn is_signed(parts: &Parts) -> bool {
    parts.headers.contains_key(SIGNATURE)
}

/// The key that a request is signed with. Its body is held against the digest when it is read.
///
/// # Errors
/// Why the signature is not good, for the caller to mend.
pub(super) async fn key(state: &TenantState, parts: &mut Parts) -> Result<Arc<ApiKey>, ApiError> {
    let header = |name: &str| {
        let value = parts.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let services = &state.services;
    let (timestamp, nonce) = (header(TIMESTAMP), header(NONCE));
    let now = services.clock.now_seconds();
    let is_timely = timestamp
        .parse::<i64>()
        .is_ok_and(|timestamp| timestamp.abs_diff(now) <= WINDOW);
    if !is_timely {
        return Err(refused(&format!(
            "{TIMESTAMP} must be Unix seconds, at most {WINDOW} off the host's clock, which says {now}"
        )));
    }
    let is_word = |byte: u8| matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'_');
    if !NONCE_LENGTH.contains(&nonce.len()) || !nonce.bytes().all(is_word) {
        return Err(refused(&format!(
            "{NONCE} must be 8 to 64 letters, digits, - and _"
        )));
    }
    let digest = match header(BODY_DIGEST) {
        "" => EMPTY_DIGEST,
        digest => digest,
    };
    let target = parts.uri.path_and_query();
    let request = SignedRequest {
        method: parts.method.as_str(),
        target: target.map_or("", |target| target.as_str()),
        timestamp,
        nonce,
        body_digest: digest,
    };
    let key = services.api_keys.of_id(header(KEY_ID));
    let secret = key
        .as_ref()
        .and_then(|key| key.signing_secret(&services.keys));
    let (Some(key), Some(secret)) = (key, secret) else {
        return Err(refused(&format!(
            "{KEY_ID} names no good key that has a signing secret"
        )));
    };
    if !secret.verifies(request, header(SIGNATURE)) {
        return Err(refused(&format!(
            "{SIGNATURE} must be the HMAC-SHA256, in hex, under the key's signing secret, over method, path \
             with query, timestamp, nonce and the body's SHA-256 in hex, a line feed after each"
        )));
    }
    if !is_first(state, &key, nonce).await {
        return Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "nonce-used",
            "a request of this key had this nonce before: give each one its own",
        ));
    }
    let digest = BodyDigest(digest.to_owned());
    parts.extensions.insert(digest);
    Ok(key)
}

fn refused(message: &str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "signature-refused", message)
}

/// Whether a nonce comes for the first time, on any host that shares a Redis; on this host where none is there.
async fn is_first(state: &TenantState, key: &ApiKey, nonce: &str) -> bool {
    let used = UsedNonce {
        app_id: &key.id,
        timestamp: "",
        nonce,
    };
    // Never the same body: a nonce is good once, whatever comes with it.
    let never = random::version().unsigned_abs();
    let is_first_here = state.nonces.admit(used, never, NONCE_KEPT, Instant::now());
    let Some(redis) = state.services.store.shared().filter(|_| is_first_here) else {
        return is_first_here;
    };
    // Redis logs its own absence.
    let counted = redis.count_nonce(&key.id, nonce, NONCE_KEPT).await;
    counted.map_or(true, |count| count == 1)
}
