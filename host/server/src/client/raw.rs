//! Requests that pass through as they are, but for the token: the forward API, and downloads.

use std::sync::Arc;

use bytes::BytesMut;
use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use reqwest::{Body, Response};
use tokio::time::Instant;
use wxhost_wechat::errcode::{self, ApiError};

use super::answer::{AnswerBody, TokenWatch};
use super::refusals::Refusals;
use super::{CALL_CEILING, CallError, Client, Payload, TransportError};
use crate::accounts::Account;
use crate::tokens::{Credential, Token};
use crate::transport::ApiRequest;

/// Longest answer that is searched for a refused token. Those have about 200 bytes.
const MAX_REFUSAL_BYTES: usize = 4096;

/// What some write before a JSON text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

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

impl RawRequest {
    /// The same once more, if it can be sent twice.
    fn again(&self) -> Option<Self> {
        let Payload::Whole(body) = &self.body else {
            return None;
        };
        Some(Self {
            method: self.method.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            headers: self.headers.clone(),
            body: Payload::Whole(body.clone()),
        })
    }
}

/// WeChat's answer as it came, but for the access token: headers that hold it are left out, and the body
/// breaks off before it.
#[derive(Debug)]
pub struct RawResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; still coming, as a rule.
    pub body: AnswerBody,
    /// The refusal that it is, where it is a short one.
    pub refusal: Option<ApiError>,
}

impl Client {
    /// Sends a request with the account's token. The answer's head, and the body of a refusal, must come
    /// before `deadline`, and the head within [`CALL_CEILING`] if the body was whole; how long the rest
    /// may take is the caller's to watch.
    ///
    /// # Errors
    /// There is no token, no answer in time, or one that can't be passed on. A refusal of WeChat is an
    /// answer.
    pub async fn raw(
        &self,
        account: &Arc<Account>,
        request: RawRequest,
        deadline: Instant,
    ) -> Result<RawResponse, CallError> {
        let answer = self.pass(account, request, deadline).boxed().await;
        self.count(answer.as_ref().err());
        answer
    }

    async fn pass(
        &self,
        account: &Arc<Account>,
        mut request: RawRequest,
        deadline: Instant,
    ) -> Result<RawResponse, CallError> {
        self.permit(account)?;
        let mut refusals = Refusals::default();
        let path = request.path.clone();
        loop {
            let again = request.again();
            let token = self.token(account, deadline).await?;
            let answer = self.pass_once(account, request, &token, deadline).await?;
            let names_bad_token = answer
                .refusal
                .as_ref()
                .is_some_and(|refusal| refusal.errcode.on(&path).names_bad_token());
            if !names_bad_token {
                return Ok(answer);
            }
            match again {
                Some(again) if refusals.may_repeat(&self.tokens, account, &token).await => {
                    request = again;
                }
                Some(_) => return Ok(answer),
                None => {
                    // The next call must not fail for the same token.
                    self.tokens.expire(account, &token).await;
                    return Ok(answer);
                }
            }
        }
    }

    pub(super) async fn token(
        &self,
        account: &Arc<Account>,
        deadline: Instant,
    ) -> Result<Arc<Token>, CallError> {
        let asked_at = Instant::now();
        let token = self.tokens.get(account, Credential::AccessToken, deadline);
        let token = token.await;
        self.learn_from_token(account, &token, asked_at);
        Ok(token?)
    }

    async fn pass_once(
        &self,
        account: &Account,
        request: RawRequest,
        token: &Token,
        deadline: Instant,
    ) -> Result<RawResponse, CallError> {
        let mut query = vec![("access_token", token.expose())];
        query.extend(
            request
                .query
                .iter()
                .map(|(name, value)| (&**name, &**value)),
        );
        let asked_at = Instant::now();
        let head_deadline = match &request.body {
            Payload::Whole(_) => deadline.min(asked_at + CALL_CEILING),
            Payload::Stream(_) => deadline,
        };
        let mut headers = request.headers;
        // What can't be read can't be searched for the token.
        let identity = HeaderValue::from_static("identity");
        headers.insert(header::ACCEPT_ENCODING, identity);
        let outgoing = ApiRequest {
            method: request.method,
            path: &request.path,
            query,
            headers,
            body: request.body,
        };
        let sent = tokio::time::timeout_at(head_deadline, self.transport.send(outgoing)).await;
        let sent = sent.unwrap_or(Err(TransportError::Timeout));
        self.learn(account, sent.as_ref().map(drop), asked_at);
        let received = tokio::time::timeout_at(deadline, received(sent?, token)).await;
        let answer = received.unwrap_or(Err(CallError::Timeout))?;
        if let Some(refusal) = &answer.refusal {
            self.note_address(account, &request.path, refusal);
        }
        Ok(answer)
    }
}

/// An answer whose beginning has been looked at: a short JSON object may say that the token is bad, in
/// whatever framing and under whatever content type it comes.
async fn received(mut response: Response, token: &Token) -> Result<RawResponse, CallError> {
    let encoding = response.headers().get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(CallError::Answer(
            "the answer is compressed, which was not asked for".into(),
        ));
    }
    let watch = TokenWatch::new(token.expose());
    let status = response.status();
    let headers = response
        .headers()
        .iter()
        .filter(|(_, value)| !watch.finds(value.as_bytes()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut begun = BytesMut::new();
    let mut is_whole = false;
    while !is_whole && begun.len() <= MAX_REFUSAL_BYTES && may_be_object(&begun) {
        match response.chunk().await.map_err(|_| TransportError::Broken)? {
            Some(piece) => begun.extend_from_slice(&piece),
            None => is_whole = true,
        }
    }
    if watch.finds(&begun) {
        return Err(CallError::TokenInAnswer);
    }
    let refusal = match is_whole {
        true => errcode::read(without_mark(&begun)).err(),
        false => None,
    };
    let rest = (!is_whole).then(|| Body::from(response));
    Ok(RawResponse {
        status,
        headers,
        body: AnswerBody::new(begun.freeze(), rest, watch),
        refusal,
    })
}

fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}

/// Whether what begins so can be a JSON object; of nothing that is not known yet.
fn may_be_object(begun: &[u8]) -> bool {
    let text = without_mark(begun).trim_ascii_start();
    text.first()
        .is_none_or(|byte| *byte == b'{' || BYTE_ORDER_MARK.starts_with(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_begins_like_an_object_is_read_ahead() {
        for (begun, expected) in [
            (&b""[..], true),
            (b"  \r\n", true),
            (b"{", true),
            (b" {\"errcode\"", true),
            (b"\xef", true),
            (b"\xef\xbb\xbf", true),
            (b"\xef\xbb\xbf{", true),
            (b"\xff\xd8\xff\xe0", false),
            (b"[1]", false),
            (b"<html>", false),
        ] {
            assert_eq!(may_be_object(begun), expected, "{begun:?}");
        }
    }
}
