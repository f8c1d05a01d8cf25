//! What becomes of a call whose access token WeChat refuses (40001, 40014, 42001).

use std::sync::Arc;

use crate::accounts::Account;
use crate::credentials::{Token, TokenLine};
use crate::tokens::Tokens;

/// The refusals of one call so far. It is repeated once with a token that WeChat gave out since, or once
/// with the same one and then, if that is refused again, with another: an API that says 40001 by mistake
/// costs neither one of the day's few forced tokens nor, on the classic line, the tokens that others hold.
#[derive(Default)]
pub(super) struct Refusals {
    refused: Option<Arc<Token>>,
    is_confirmed: bool,
}

impl Refusals {
    /// WeChat has refused `token`: whether the call is to be made once more.
    pub(super) async fn may_repeat(
        &mut self,
        tokens: &Tokens,
        account: &Account,
        token: &Arc<Token>,
    ) -> bool {
        match self.refused.replace(Arc::clone(token)) {
            // A fetch on the classic line ends a token for good, so the same one is tried first.
            None if account.token_line() == TokenLine::Classic => true,
            None => tokens.expire(account, token).await,
            Some(before) if before.has_same_value(token) && !self.is_confirmed => {
                self.is_confirmed = true;
                tokens.expire(account, token).await
            }
            Some(_) => false,
        }
    }
}
