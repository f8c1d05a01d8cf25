//! One fetch for all who wait for it on this host.

use std::sync::Arc;

use tokio::sync::watch;

use super::TokenError;
use super::token::Token;

pub(super) type Landed = Result<Arc<Token>, TokenError>;

/// What a fetch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Somebody waits: there is no usable token.
    Need,
    /// The one that is held ends soon.
    Ahead,
    /// An operator wants the present one ended.
    Force,
}

/// A fetch under way; clones wait for the same one.
#[derive(Clone)]
pub(super) struct Flight {
    pub(super) purpose: Purpose,
    landed: watch::Receiver<Option<Landed>>,
}

impl Flight {
    pub(super) fn new(purpose: Purpose) -> (Self, watch::Sender<Option<Landed>>) {
        let (sender, landed) = watch::channel(None);
        (Self { purpose, landed }, sender)
    }

    pub(super) async fn landed(mut self) -> Landed {
        match self.landed.wait_for(Option::is_some).await {
            Ok(landed) => landed.clone().unwrap_or(Err(TokenError::Unreachable)),
            // The task has panicked, or the host stops.
            Err(_) => Err(TokenError::Unreachable),
        }
    }
}
