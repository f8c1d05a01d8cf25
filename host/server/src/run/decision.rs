//! What a handler's outcome means, before anything of it is done.

use std::borrow::Cow;

use wxhost_runtime::{Failure, FailureCode};

use super::Task;
use crate::effects::Sorted;

/// What a handler's outcome comes to.
#[derive(Debug)]
pub struct Decision<A> {
    /// The answer.
    pub answer: A,
    /// What is to be committed.
    pub effects: Sorted,
    /// For the record: a stable word.
    pub outcome: Cow<'static, str>,
    /// What went wrong, for the tenant.
    pub error: Option<String>,
    /// What was changed of the outcome, for the tenant: a line of the record's log.
    pub warning: Option<String>,
}

/// An outcome that breaks the contract: a stable code, and a sentence for the tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The code.
    pub code: &'static str,
    /// The sentence.
    pub reason: String,
}

/// What is decided where the outcome can be used, and the lane's fallback where it can't.
pub(super) fn decide<T: Task>(
    task: &T,
    result: Result<T::Outcome, Failure>,
) -> Decision<T::Answer> {
    match result {
        Ok(outcome) => task
            .decide(outcome)
            .unwrap_or_else(|Rejected { code, reason }| failed(task, code.into(), reason)),
        Err(failure) => {
            let code = failure.code.as_str();
            let fault = match failure.code {
                FailureCode::PluginError(fault) => Some(fault),
                _ => None,
            };
            Decision {
                answer: task.fallback(&code, fault),
                ..failed(task, code, failure.message)
            }
        }
    }
}

/// The answer for when the plugin fails, and nothing else.
pub(super) fn failed<T: Task>(
    task: &T,
    outcome: Cow<'static, str>,
    error: String,
) -> Decision<T::Answer> {
    Decision {
        answer: task.fallback(&outcome, None),
        effects: Sorted::default(),
        outcome,
        error: Some(error),
        warning: None,
    }
}
