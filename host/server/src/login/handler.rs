//! The account's plugin has a say in a login: it adds claims, or refuses.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wxhost_runtime::{Call, CallReport, Fault, Handler, Plugin, Runtime, login as wit};
use wxhost_wechat::oauth::Scope;

use super::attempt::Attempt;
use super::{LoginError, LoginLane, Session};
use crate::accounts::Account;
use crate::capabilities::contact_of;
use crate::db::contacts::{self, Contacts};
use crate::effects;
use crate::run::{Decision, Ended, EventContext, Rejected, Task};

/// Claims of a login.
const MAX_CLAIMS: usize = 16;
/// Bytes of a claim's name, and of its value.
const MAX_NAME_BYTES: usize = 32;
const MAX_VALUE_BYTES: usize = 256;
/// Bytes of all claims together, as JSON: a browser keeps 4 KiB of a session.
const MAX_CLAIMS_BYTES: usize = 1024;
/// Bytes of a reason to refuse.
const MAX_REASON_BYTES: usize = 64;
/// How long the host tries to have a call made that it can't make at once: a user waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// What becomes of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They are let in, with these claims.
    Admitted(BTreeMap<String, String>),
    /// They are not, for this reason.
    Refused(String),
}

impl LoginLane {
    /// Asks the account's plugin. Where it handles no logins, everybody is let in.
    ///
    /// # Errors
    /// The plugin failed, or the host could not do its part: nothing is decided.
    pub(super) async fn decide(
        &self,
        account: &Arc<Account>,
        attempt: &Attempt,
        session: &Session,
    ) -> Result<Verdict, LoginError> {
        let db = &self.services.db;
        let wanted = Contacts {
            app_id: &session.app_id,
            open_ids: &[&session.open_id],
        };
        let contact = contacts::find_all(db, wanted).await?.pop().map(contact_of);
        let is_profile = session
            .scope
            .split(',')
            .any(|scope| scope == Scope::UserInfo.as_str());
        let task = LoginTask {
            login: wit::Login {
                id: attempt.state.clone(),
                open_id: session.open_id.clone(),
                union_id: session.union_id.clone(),
                scope: match is_profile {
                    true => wit::Scope::Profile,
                    false => wit::Scope::Identity,
                },
                nickname: session.nickname.clone(),
                picture_url: session.picture_url.clone(),
                snapshot_user: session.is_snapshot_user,
                return_to: attempt.return_to.clone(),
                contact,
            },
            context: EventContext {
                account: Arc::clone(account),
                event_id: attempt.state.clone(),
                kind: Handler::Login.as_str(),
                trace_id: attempt.state.clone(),
                created_at: db.now_ms(),
                started: std::time::Instant::now(),
            },
        };
        match self.runner.run(&task, Instant::now() + PATIENCE).await {
            Ended::Answered(verdict) => verdict.map_err(LoginError::Plugin),
            Ended::Late | Ended::HeldUp(_) => Err(LoginError::HeldUp),
            Ended::Before(never) => match never {},
        }
    }
}

/// One call.
struct LoginTask {
    login: wit::Login,
    context: EventContext,
}

impl Task for LoginTask {
    type Outcome = wit::Verdict;
    /// Or by which word the plugin failed.
    type Answer = Result<Verdict, String>;
    type Row = Infallible;

    const HANDLER: Handler = Handler::Login;

    fn context(&self) -> &EventContext {
        &self.context
    }

    async fn call(
        &self,
        runtime: &Runtime,
        plugin: &Plugin,
        call: Call,
    ) -> CallReport<wit::Verdict> {
        runtime.call_login(plugin, call, &self.login).await
    }

    fn decide(&self, verdict: wit::Verdict) -> Result<Decision<Self::Answer>, Rejected> {
        let (verdict, outcome) = match verdict {
            wit::Verdict::Admit(claims) => (Verdict::Admitted(checked(claims)?), "admitted"),
            wit::Verdict::Refuse(reason) if is_word(&reason, MAX_REASON_BYTES) => {
                (Verdict::Refused(reason), "refused")
            }
            wit::Verdict::Refuse(reason) => {
                return Err(invalid(format!("the reason {reason:?} is no such word")));
            }
        };
        Ok(Decision {
            answer: Ok(verdict),
            effects: effects::Sorted::default(),
            outcome: outcome.into(),
            error: None,
            warning: None,
        })
    }

    fn nothing(&self) -> Self::Answer {
        Ok(Verdict::Admitted(BTreeMap::new()))
    }

    fn fallback(&self, code: &str, _fault: Option<Fault>) -> Self::Answer {
        Err(code.to_owned())
    }

    fn row(&self, _answer: &Self::Answer) -> Option<Self::Row> {
        None
    }
}

fn invalid(reason: String) -> Rejected {
    Rejected {
        code: "invalid-verdict",
        reason,
    }
}

fn checked(claims: Vec<wit::Claim>) -> Result<BTreeMap<String, String>, Rejected> {
    if claims.len() > MAX_CLAIMS {
        let given = claims.len();
        return Err(invalid(format!(
            "{given} claims are more than {MAX_CLAIMS}"
        )));
    }
    let mut checked = BTreeMap::new();
    for wit::Claim { name, value } in claims {
        if !is_word(&name, MAX_NAME_BYTES) {
            return Err(invalid(format!("the claim {name:?} is no such word")));
        }
        if value.len() > MAX_VALUE_BYTES {
            return Err(invalid(format!(
                "the claim {name} has more than {MAX_VALUE_BYTES} bytes"
            )));
        }
        if checked.contains_key(&name) {
            return Err(invalid(format!("the claim {name} comes twice")));
        }
        checked.insert(name, value);
    }
    let as_json = serde_json::to_vec(&checked).unwrap_or_default();
    if as_json.len() > MAX_CLAIMS_BYTES {
        return Err(invalid(format!(
            "the claims have more than {MAX_CLAIMS_BYTES} bytes together, as JSON"
        )));
    }
    Ok(checked)
}

/// 1 to `most` of `a-z`, `0-9`, `-` and `_`.
fn is_word(text: &str, most: usize) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    (1..=most).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_few_short_and_each_of_a_name() {
        let claim = |name: &str, value: String| wit::Claim {
            name: name.into(),
            value,
        };
        let ok = checked(vec![
            claim("level", "gold".into()),
            claim("a", String::new()),
        ]);
        let expected = [("a", ""), ("level", "gold")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(ok.unwrap(), BTreeMap::from(expected));
        for (claims, reason) in [
            (vec![claim("", String::new())], "no such word"),
            (vec![claim("Level", String::new())], "no such word"),
            (vec![claim("a", "x".repeat(257))], "256 bytes"),
            (
                (0..17)
                    .map(|n| claim(&format!("c{n}"), String::new()))
                    .collect(),
                "more than 16",
            ),
            (
                (0..5)
                    .map(|n| claim(&format!("c{n}"), "x".repeat(256)))
                    .collect(),
                "1024 bytes together",
            ),
            (vec![claim("a", "\u{1}".repeat(200))], "1024 bytes together"),
            (
                vec![claim("a", "1".into()), claim("a", "2".into())],
                "twice",
            ),
        ] {
            let rejected = checked(claims).unwrap_err();
            assert_eq!(rejected.code, "invalid-verdict");
            assert!(rejected.reason.contains(reason), "{}", rejected.reason);
        }
    }
}
