//! Requests that pass through as they are, but for the token: the forward API, and downloads.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, header};
use reqwest::{Body, Response};
use tokio::time::Instant;
use wxhost_wechat::errcode;

use super::transport::Outgoing;
use super::{CALL_CEILING, CallError, Client, Payload, TransportError};
use crate::accounts::Account;
use crate::tokens::{Credential, Token};

/// Longest answer that is searched for a refused token. Those have about 200 bytes.
const MAX_REFUSAL_BYTES: usize = 4096;

/// A request that passes through.
#[derive(Debug)]
pub struct RawRequest {
    /// Any.
    pub method: Method,
    /// With a leading slash, as it goes into the request line.
    pub path: String,
    /// Not yet URL-encoded, without `access_token`.
    pub query: Vec<(String, String)>,
    /// As they are to be sent; those of the connection are the caller's to leave out.
    pub headers: HeaderMap,
    /// Only a whole one is sent again when the token was refused.
    pub body: Payload,
}

/// WeChat's answer as it came.
#[derive(Debug)]
pub struct RawResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; still coming, as a rule.
    pub body: Body,
}

impl Client {
    /// Sends a request with the account's token. The answer's head must come before `deadline`, and
    /// within [`CALL_CEILING`] if the body was whole; how long its body may take is the caller's to
    /// watch.
    ///
    /// # Errors
    /// There is no token, or no answer in time. A refusal of WeChat is an answer.
    pub async fn raw(
        &self,
        account: &Arc<Account>,
        request: RawRequest,
        deadline: Instant,
    ) -> Result<RawResponse, CallError> {
        let answer = self.pass(account, request, deadline).await;
        self.count(answer.as_ref().err());
        answer
    }

    async fn pass(
        &self,
        account: &Arc<Account>,
        request: RawRequest,
        deadline: Instant,
    ) -> Result<RawResponse, CallError> {
        let again = match &request.body {
            Payload::Whole(body) => Some(RawRequest {
                method: request.method.clone(),
                path: request.path.clone(),
                query: request.query.clone(),
                headers: request.headers.clone(),
                body: Payload::Whole(body.clone()),
            }),
            Payload::Stream(_) => None,
        };
        let token = self.token(account, deadline).await?;
        let path = request.path.clone();
        let response = self.pass_once(request, &token, deadline).await?;
        let (response, names_bad_token) = peek(response, &path).await?;
        // Whatever becomes of this call, the next one must not fail for the same token.
        let renewed = names_bad_token && self.tokens.expire(account, &token).await;
        match again {
            Some(request) if renewed => {
                let token = self.token(account, deadline).await?;
                Ok(received(self.pass_once(request, &token, deadline).await?))
            }
            _ => Ok(response),
        }
    }

    pub(super) async fn token(
        &self,
        account: &Arc<Account>,
        deadline: Instant,
    ) -> Result<Arc<Token>, CallError> {
        let token = self.tokens.get(account, Credential::AccessToken, deadline);
        Ok(token.await?)
    }

    pub(super) async fn pass_once(
        &self,
        request: RawRequest,
        token: &Token,
        deadline: Instant,
    ) -> Result<Response, CallError> {
        let mut query = vec![("access_token", token.expose())];
        query.extend(
            request
                .query
                .iter()
                .map(|(name, value)| (&**name, &**value)),
        );
        let deadline = match &request.body {
            Payload::Whole(_) => deadline.min(Instant::now() + CALL_CEILING),
            Payload::Stream(_) => deadline,
        };
        let outgoing = Outgoing {
            method: request.method,
            path: &request.path,
            query,
            headers: request.headers,
            body: request.body,
        };
        match tokio::time::timeout_at(deadline, self.transport.send(outgoing)).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(TransportError::Timeout.into()),
        }
    }
}

fn received(response: Response) -> RawResponse {
    let (parts, body) = http::Response::<Body>::from(response).into_parts();
    RawResponse {
        status: parts.status,
        headers: parts.headers,
        body,
    }
}

/// Whether an answer says that the token is bad; only a short one of text can.
async fn peek(mut response: Response, path: &str) -> Result<(RawResponse, bool), CallError> {
    let length = response.content_length();
    let is_short = length.is_some_and(|bytes| bytes <= MAX_REFUSAL_BYTES as u64);
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_text = kind
        .and_then(|kind| kind.to_str().ok())
        .is_none_or(|kind| kind.contains("json") || kind.contains("text"));
    if !(is_short && is_text && response.status() == StatusCode::OK) {
        return Ok((received(response), false));
    }
    let mut body = BytesMut::new();
    while let Some(piece) = response.chunk().await.map_err(|_| TransportError::Broken)? {
        body.extend_from_slice(&piece);
    }
    let body: Bytes = body.freeze();
    let refusal = errcode::read(&body).err();
    let names_bad_token = refusal.is_some_and(|refusal| refusal.errcode.on(path).names_bad_token());
    let mut answer = received(response);
    answer.body = Body::from(body);
    Ok((answer, names_bad_token))
}
