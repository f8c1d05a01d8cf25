//! Faults that the pretend WeChat is told to have.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Faults at the same time.
const MAX_FAULTS: usize = 256;
/// Longest delay.
const MAX_DELAY_MS: u64 = 600_000;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FaultKind {
    /// The answer comes `ms` later.
    Slow,
    /// errcode -1.
    Busy,
    /// The connection breaks without an answer.
    Drop,
    /// The errcode that is given.
    Errcode,
    /// A page of a proxy, with status 502.
    #[serde(rename = "html-502")]
    Html502,
}

impl FaultKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Busy => "busy",
            Self::Drop => "drop",
            Self::Errcode => "errcode",
            Self::Html502 => "html-502",
        }
    }
}

/// A fault, and which calls it meets.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    /// Calls of this app only.
    #[serde(default)]
    pub(crate) app_id: Option<String>,
    /// Calls whose path begins so only.
    #[serde(default)]
    pub(crate) path_prefix: Option<String>,
    /// How late a slow answer is, in milliseconds.
    #[serde(default)]
    pub(crate) ms: u64,
    /// The errcode, for kind errcode.
    #[serde(default)]
    pub(crate) errcode: Option<i64>,
    /// The code of a refusal of WeChat Pay's, for kind errcode.
    #[serde(default)]
    pub(crate) code: Option<String>,
    /// Its HTTP status.
    #[serde(default)]
    pub(crate) status: Option<u16>,
    /// Whether the call is carried out all the same. A slow call that is not carried out at once is
    /// carried out after the delay.
    #[serde(default)]
    pub(crate) performed: Option<bool>,
    /// How many calls it meets; all where it is absent.
    #[serde(default)]
    pub(crate) count: Option<u64>,
}

impl Fault {
    /// What is wrong with the fault, where something is.
    fn flaw(&self) -> Option<&'static str> {
        match self.kind {
            FaultKind::Slow if self.ms == 0 => Some("slow needs ms"),
            FaultKind::Slow if self.ms > MAX_DELAY_MS => Some("ms is more than 600000"),
            FaultKind::Errcode
                if self.code.is_none() && self.errcode.is_none_or(|code| code == 0) =>
            {
                Some("errcode needs an errcode other than 0")
            }
            _ => None,
        }
    }

    pub(crate) fn delay(&self) -> Duration {
        Duration::from_millis(self.ms)
    }

    /// Slow calls are always carried out, others where the fault says so.
    pub(crate) fn performs(&self) -> bool {
        self.kind == FaultKind::Slow || self.performed == Some(true)
    }

    /// Whether the call is carried out only after the delay.
    pub(crate) fn delays_call(&self) -> bool {
        self.kind == FaultKind::Slow && self.performed == Some(false)
    }

    /// Whether the call is carried out at once and answered after the delay.
    pub(crate) fn delays_answer(&self) -> bool {
        self.kind == FaultKind::Slow && !self.delays_call()
    }

    fn meets(&self, app_id: Option<&str>, path: &str) -> bool {
        let app = self.app_id.as_deref();
        let prefix = self.path_prefix.as_deref().unwrap_or("");
        (app.is_none() || app == app_id) && path.starts_with(prefix)
    }
}

/// The faults there are, in the order in which they were told.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    told: Vec<Fault>,
}

impl Faults {
    /// Adds a fault, or says what is wrong with it.
    pub(crate) fn add(&mut self, fault: Fault) -> Result<(), &'static str> {
        if let Some(flaw) = fault.flaw() {
            return Err(flaw);
        }
        if self.told.len() == MAX_FAULTS {
            return Err("too many faults");
        }
        self.told.push(fault);
        Ok(())
    }

    /// Ends all faults.
    pub(crate) fn clear(&mut self) {
        self.told.clear();
    }

    /// The faults that still are.
    pub(crate) fn told(&self) -> &[Fault] {
        &self.told
    }

    /// The first fault that meets this call; one of its count is used up.
    pub(crate) fn take(&mut self, app_id: Option<&str>, path: &str) -> Option<Fault> {
        let place = self.told.iter().position(|f| f.meets(app_id, path))?;
        let fault = &mut self.told[place];
        match &mut fault.count {
            None => return Some(fault.clone()),
            Some(left) => *left = left.saturating_sub(1),
        }
        let taken = fault.clone();
        if taken.count == Some(0) {
            self.told.remove(place);
        }
        Some(taken)
    }
}
