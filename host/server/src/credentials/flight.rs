//! One fetch for all who wait for it on this host.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::TokenError;
use super::token::Token;

pub(crate) type Landed = Result<Arc<Token>, TokenError>;

/// How long one fetch may take in all, the wait for another host's included.
pub(crate) const FLIGHT: Duration = Duration::from_secs(20);

/// What a fetch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Somebody waits: there is no usable token.
    Need,
    /// The one that is held ends soon.
    Ahead,
    /// An operator wants the present one ended.
    Force,
    /// WeChat has given one out unasked, along with an authorisation: it takes the place of what is held.
    Grant,
}

impl Purpose {
    /// Whether no token that is held or stored does.
    pub(crate) fn wants_another(self) -> bool {
        matches!(self, Self::Force | Self::Grant)
    }
}

/// A fetch under way; clones wait for the same one.
#[derive(Clone)]
pub(crate) struct Flight {
    pub(crate) purpose: Purpose,
    began: Instant,
    landed: watch::Receiver<Option<Landed>>,
}

impl Flight {
    pub(crate) fn new(purpose: Purpose) -> (Self, watch::Sender<Option<Landed>>) {
        let (sender, landed) = watch::channel(None);
        let flight = Self {
            purpose,
            began: Instant::now(),
            landed,
        };
        (flight, sender)
    }

    /// Whether it should have landed: this host was stopped meanwhile.
    pub(crate) fn is_overdue(&self) -> bool {
        self.began.elapsed() > FLIGHT
    }

    pub(crate) async fn landed(mut self) -> Landed {
        match self.landed.wait_for(Option::is_some).await {
            Ok(landed) => landed.clone().unwrap_or(Err(TokenError::Unreachable)),
            // The task has panicked, or the host stops.
            Err(_) => Err(TokenError::Unreachable),
        }
    }
}
