//! An answer's body on its way through: what was read ahead, then the rest as it comes. It breaks off
//! before the access token would pass, which WeChat, or something between, may repeat in an answer.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame};
use memchr::memmem::Finder;

/// What an answer's body ends with that holds the access token.
const SHOWN: &str = "the answer of wechat repeats the access token";

/// An answer's body.
pub struct AnswerBody {
    begun: Option<Bytes>,
    rest: Option<reqwest::Body>,
    watch: TokenWatch,
}

impl AnswerBody {
    /// What was read of it, and what is still to come.
    pub(super) fn new(begun: Bytes, rest: Option<reqwest::Body>, watch: TokenWatch) -> Self {
        Self {
            begun: Some(begun),
            rest,
            watch,
        }
    }
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerBody").finish_non_exhaustive()
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        loop {
            let piece = if let Some(begun) = this.begun.take() {
                begun
            } else if let Some(rest) = &mut this.rest {
                match std::task::ready!(Pin::new(rest).poll_frame(context)) {
                    // Trailers do not pass.
                    Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                    Some(Err(error)) => {
                        this.rest = None;
                        return Poll::Ready(Some(Err(io::Error::other(error.without_url()))));
                    }
                    None => {
                        this.rest = None;
                        continue;
                    }
                }
            } else {
                let last = this.watch.end();
                let frame = (!last.is_empty()).then(|| Ok(Frame::data(last)));
                return Poll::Ready(frame);
            };
            match this.watch.pass(piece) {
                None => {
                    this.rest = None;
                    return Poll::Ready(Some(Err(io::Error::other(SHOWN))));
                }
                Some(piece) if piece.is_empty() => {}
                Some(piece) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
            }
        }
    }
}

/// Looks for a token in bytes that come in pieces. Each byte is looked at a bounded number of times, and
/// less than a token's length is held back.
pub(super) struct TokenWatch {
    finder: Finder<'static>,
    /// The end of what has come, while it could be the beginning of the token.
    held: BytesMut,
}

impl TokenWatch {
    pub(super) fn new(token: &str) -> Self {
        Self {
            finder: Finder::new(token).into_owned(),
            held: BytesMut::new(),
        }
    }

    /// Whether these bytes, taken alone, hold the token.
    pub(super) fn finds(&self, bytes: &[u8]) -> bool {
        self.finder.find(bytes).is_some()
    }

    /// What may pass now that a piece has come; None if the token is in it.
    fn pass(&mut self, piece: Bytes) -> Option<Bytes> {
        let mut seen = match self.held.is_empty() {
            true => piece,
            false => {
                self.held.extend_from_slice(&piece);
                self.held.split().freeze()
            }
        };
        if self.finds(&seen) {
            return None;
        }
        let token = self.finder.needle();
        let longest = seen.len().min(token.len().saturating_sub(1));
        let begun = (1..=longest)
            .rev()
            .find(|length| seen.ends_with(&token[..*length]));
        if let Some(length) = begun {
            let held = seen.split_off(seen.len() - length);
            self.held.extend_from_slice(&held);
        }
        Some(seen)
    }

    /// What was held back, when nothing comes any more.
    fn end(&mut self) -> Bytes {
        self.held.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What passes of these pieces; None if it broke off.
    fn pass(token: &str, pieces: &[&str]) -> Option<String> {
        let mut watch = TokenWatch::new(token);
        let mut passed = String::new();
        for piece in pieces {
            let piece = Bytes::copy_from_slice(piece.as_bytes());
            let piece = watch.pass(piece)?;
            passed.push_str(std::str::from_utf8(&piece).unwrap());
        }
        passed.push_str(std::str::from_utf8(&watch.end()).unwrap());
        Some(passed)
    }

    #[test]
    fn a_token_cut_into_pieces_does_not_pass() {
        for pieces in [
            &["76_abcab_secret"][..],
            &["x76_abcab_secrety"],
            &["76_abcab", "_secret"],
            &["76_abc76_abcab_", "secret"],
            &[
                "7", "6", "_", "a", "b", "c", "a", "b", "_", "s", "e", "c", "r", "e", "t",
            ],
            &["abc", "", "76_abcab_se", "cret"],
        ] {
            assert_eq!(pass("76_abcab_secret", pieces), None, "{pieces:?}");
        }
    }

    #[test]
    fn everything_else_passes_whole() {
        for pieces in [
            &["76_abcab_secre"][..],
            &["76_abcab_", "76_abcab_secre", "!"],
            &["", "76_", ""],
            &["{\"errcode\":0}"],
            &[],
        ] {
            let whole = pieces.concat();
            assert_eq!(pass("76_abcab_secret", pieces), Some(whole), "{pieces:?}");
        }
    }

    #[test]
    fn what_is_held_back_is_shorter_than_a_token() {
        let mut watch = TokenWatch::new("aaaaaaab");
        for _ in 0..1000 {
            watch.pass(Bytes::from_static(b"aaaa")).unwrap();
            assert!(watch.held.len() < 8);
        }
    }
}
