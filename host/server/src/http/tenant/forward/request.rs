//! A request to be passed on, with the key that it brings: in a header, in the place of the access
//! token, or, where a token is asked for, in the place of the AppSecret.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, Method, StatusCode},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{endpoint::Endpoint, login::GivenToken, passed};
use crate::{
    http::{
        body::{self, Limits},
        error::ApiError,
        tenant::caller::{key_in, peer, request_id},
    },
    keys::{ApiKey, KeyText},
    services::Services,
};

/// The body of a request for a token; who sends it is not known yet.
const TOKEN_BODY: Limits = Limits {
    bytes: 4 << 10,
    time: Duration::from_secs(5),
    discarded_bytes: 64 << 10,
    discard_time: Duration::from_secs(1),
};

/// A request.
pub(super) struct ForwardRequest {
    pub(super) method: Method,
    pub(super) app_id: String,
    /// What follows the app id, with a leading slash.
    pub(super) path: String,
    /// Without the token, and without the key wherever it stood.
    pub(super) query: Vec<(String, String)>,
    /// Those that may pass.
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    pub(super) request_id: Arc<str>,
    pub(super) peer: Option<IpAddr>,
    /// The app id that a request for a token names.
    pub(super) token_for: Option<String>,
    key: Option<SecretString>,
    /// A user's token; see [`super::login`].
    pub(super) user_token: Option<SecretString>,
}

/// The JSON of `stable_token`.
#[derive(Default, Deserialize)]
struct TokenCall {
    appid: Option<String>,
    secret: Option<SecretString>,
}

impl ForwardRequest {
    /// Reads a request; its body only where a token is asked for.
    pub(super) async fn read(
        app_id: String,
        path: String,
        request: Request,
    ) -> Result<Self, ApiError> {
        let (parts, mut body) = request.into_parts();
        let query = parts.uri.query().unwrap_or_default();
        let mut query: Vec<_> = form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect();
        let path = format!("/{path}");
        let request_id = request_id(&parts).into();
        let peer = peer(&parts);
        let mut headers = parts.headers;
        let mut key = key_in(&headers).map(SecretString::from);
        key = key.or_else(|| value(&query, "access_token").map(SecretString::from));
        let (mut token_for, mut user_token) = (None, None);
        match Endpoint::of(&path) {
            Endpoint::AccessToken => {
                let call = token_call(&query, &headers, body).await?;
                token_for = call.appid;
                key = key.or(call.secret);
                body = Body::empty();
            }
            Endpoint::Login(call) => {
                // What stands in the place of an access token is a user's.
                key = key_in(&headers).map(SecretString::from);
                key = key.or_else(|| value(&query, "secret").map(SecretString::from));
                let name = call.token_name();
                let token = name.and_then(|name| value(&query, name));
                user_token = token.map(SecretString::from);
            }
            Endpoint::Ticket | Endpoint::Secret(_) | Endpoint::Data => {}
        }
        // A key that strayed into another parameter must not reach WeChat either.
        query.retain(|(name, value)| name != "access_token" && !KeyText::is_shaped_like_one(value));
        passed::keep_request_headers(&mut headers);
        Ok(Self {
            method: parts.method,
            app_id,
            path,
            query,
            headers,
            body,
            request_id,
            peer,
            token_for,
            key,
            user_token,
        })
    }

    /// Whose request it is: by the key that it brings, or by the one that a user's token was given to. That
    /// token is WeChat's own from then on.
    pub(super) fn bearer(&mut self, services: &Services) -> Option<Arc<ApiKey>> {
        let mut by_token = None;
        if let Endpoint::Login(call) = Endpoint::of(&self.path)
            && let Some((name, text)) = call.token_name().zip(self.user_token.as_ref())
            && let Some(given) =
                GivenToken::brought(&services.keys, name, &self.app_id, text.expose_secret())
        {
            by_token = services.api_keys.of_id(&given.key);
            self.user_token = Some(given.into_token());
        }
        match self.key() {
            Some(text) => services.api_keys.find(text),
            None => by_token,
        }
    }

    /// The key that it brings.
    pub(super) fn key(&self) -> Option<&str> {
        self.key.as_ref().map(ExposeSecret::expose_secret)
    }

    /// A parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        value(&self.query, name)
    }
}

fn value<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = query.iter().find(|(given, _)| given == name);
    found.map(|(_, value)| &**value)
}

async fn token_call(
    query: &[(String, String)],
    headers: &HeaderMap,
    body: Body,
) -> Result<TokenCall, ApiError> {
    if let Some(secret) = value(query, "secret") {
        return Ok(TokenCall {
            appid: value(query, "appid").map(str::to_owned),
            secret: Some(secret.into()),
        });
    }
    let body = body::read(body, headers, TOKEN_BODY)
        .await
        .map_err(|error| {
            ApiError::new(StatusCode::BAD_REQUEST, "invalid-body", error.to_string())
        })?;
    // What is not JSON brings no key, and is refused for that.
    Ok(serde_json::from_slice(&body).unwrap_or_default())
}
