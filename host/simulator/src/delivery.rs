//! What becomes of a callback: each time it was posted, and what the user sees in the end.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use wxhost_wechat::reply::Reply;

use crate::{Callback, Flaw, Shown};

/// What became of a callback.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Each time it was posted; empty while the host is muted.
    pub attempts: Vec<Attempt>,
    /// What the user sees in the end.
    pub shown: Shown,
}

/// One post of a callback.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// The HTTP status, where an answer came.
    pub status: Option<StatusCode>,
    /// How long it took.
    pub elapsed: Duration,
    /// What WeChat makes of it.
    pub outcome: Outcome,
}

/// What WeChat makes of one post.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A proper reply.
    Replied(Reply),
    /// `success` or an empty body: no reply is wanted.
    Silent,
    /// A 200 with something wrong in it.
    Flawed(Flaw),
    /// A status other than 200.
    Refused(StatusCode),
    /// No answer, or not the whole of it, within the deadline.
    TimedOut,
    /// No connection, or it broke.
    Unreachable(String),
}

impl Outcome {
    /// Whether WeChat leaves it at that; otherwise it sends again.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Replied(_) | Self::Silent | Self::Flawed(_) => true,
            Self::Refused(_) | Self::TimedOut | Self::Unreachable(_) => false,
        }
    }

    pub(crate) fn shown(&self, callback: &Callback) -> Shown {
        match self {
            Self::Replied(reply) if callback.shows_replies() => Shown::Reply(reply.clone()),
            Self::Replied(_) | Self::Silent => Shown::Nothing,
            Self::Flawed(flaw) if !flaw.shows_fault() => Shown::Nothing,
            Self::Flawed(_) | Self::Refused(_) | Self::TimedOut | Self::Unreachable(_) => {
                Shown::ServiceFault
            }
        }
    }
}

/// For a person: `replied`, `flawed: no Content`, `timed out`.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replied(_) => f.write_str("replied"),
            Self::Silent => f.write_str("no reply"),
            Self::Flawed(flaw) => write!(f, "flawed: {flaw}"),
            Self::Refused(status) => write!(f, "refused: {status}"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Unreachable(reason) => write!(f, "unreachable: {reason}"),
        }
    }
}
