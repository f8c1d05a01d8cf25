//! Typed calls that carry a file: the form around it is written here, the file passes through.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderValue, Method, header};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::time::Instant;
use wxhost_wechat::api::{Body, Call, Multipart};

use super::{CallError, Client, Payload, RawRequest};
use crate::accounts::Account;
use crate::random;

/// A file that comes piece by piece.
pub struct Upload<S> {
    /// How many bytes it has; WeChat takes no form of unknown length.
    pub bytes: u64,
    /// Its pieces.
    pub pieces: S,
}

impl Client {
    /// Makes a typed call that carries a file. It is not repeated: the file has passed through.
    ///
    /// # Errors
    /// As [`Client::call`]; and the file is larger than WeChat takes.
    pub async fn upload<C, S>(
        &self,
        account: &Arc<Account>,
        call: &C,
        file: Upload<S>,
        deadline: Instant,
    ) -> Result<C::Answer, CallError>
    where
        C: Call,
        S: Stream<Item = io::Result<Bytes>> + Send + Sync + 'static,
    {
        let request = call.request().map_err(CallError::Invalid)?;
        let Body::Multipart(form) = &request.body else {
            return Err(CallError::Answer("the call carries no file".into()));
        };
        if file.bytes > form.max_bytes {
            let most = form.max_bytes;
            return Err(CallError::Answer(format!(
                "the file is larger than the {most} bytes that wechat takes"
            )));
        }
        let (headers, body) = around(form, file);
        let query = request.query.into_iter();
        let raw = RawRequest {
            method: Method::POST,
            path: request.path.into_owned(),
            query: query
                .map(|(name, value)| (name.into_owned(), value))
                .collect(),
            headers,
            body: Payload::Stream(body),
        };
        let answer = async {
            let response = self.raw(account, raw, deadline).await?;
            let body = axum::body::Body::new(response.body);
            let read = axum::body::to_bytes(body, super::MAX_ANSWER_BYTES).await;
            let body = read.map_err(|_| CallError::Unreachable)?;
            Ok(C::answer(&body)?)
        };
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Timeout),
        }
    }
}

/// The form with the file in it, and its headers.
fn around<S>(form: &Multipart, file: Upload<S>) -> (HeaderMap, reqwest::Body)
where
    S: Stream<Item = io::Result<Bytes>> + Send + Sync + 'static,
{
    let boundary = format!("wxhost-{}", hex::encode(random::sixteen()));
    let mut head = String::new();
    for (name, text) in &form.texts {
        head.push_str(&format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n"
        ));
    }
    head.push_str(&format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"; filename=\"{}\"\r\n\
         Content-Type: {}\r\n\r\n",
        form.field,
        quoted(&form.file_name),
        one_line(&form.content_type),
    ));
    let tail = format!("\r\n--{boundary}--\r\n");
    let length = head.len() as u64 + file.bytes + tail.len() as u64;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    let kind = format!("multipart/form-data; boundary={boundary}");
    if let Ok(kind) = HeaderValue::try_from(kind) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    let piece = |text: String| stream::once(async move { Ok(Bytes::from(text)) });
    let pieces = piece(head).chain(file.pieces).chain(piece(tail));
    let frames = pieces.map(|piece: io::Result<Bytes>| piece.map(Frame::data));
    (headers, reqwest::Body::wrap(StreamBody::new(frames)))
}

/// A file's name between quotation marks, as browsers write it.
fn quoted(name: &str) -> String {
    one_line(name).replace('"', "%22")
}

fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}
