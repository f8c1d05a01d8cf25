//! Request ids (rid): each refusal names one, and `openapi/rid/get` shows the request again.

use std::collections::VecDeque;

use serde_json::{Value, json};
use wxhost_wechat::id::AppId;

use crate::Environment;

/// How long WeChat keeps a rid: 7 days.
const KEPT_MS: u64 = 7 * 24 * 3600 * 1000;
/// How many are kept at most, over all apps.
const MAX_KEPT: usize = 10_000;
/// Bytes of a body that are kept with a rid.
pub(crate) const MAX_KEPT_BODY: usize = 2048;

/// A new rid: three groups of 8 hex digits, the first of which is the Unix time in seconds.
pub(crate) fn fresh(now_ms: u64, chance: &dyn Environment) -> String {
    let mut bytes = [0; 8];
    chance.fill(&mut bytes);
    let chance = u64::from_le_bytes(bytes);
    format!(
        "{:08x}-{:08x}-{:08x}",
        (now_ms / 1000) & 0xffff_ffff,
        chance >> 32,
        chance & 0xffff_ffff
    )
}

/// A refused request, as it is shown again.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) rid: String,
    pub(crate) app_id: Option<AppId>,
    pub(crate) at_ms: u64,
    pub(crate) url: String,
    pub(crate) request_body: String,
    pub(crate) response_body: String,
    pub(crate) client_ip: String,
}

/// The rids that are kept.
#[derive(Debug, Default)]
pub(crate) struct Rids {
    kept: VecDeque<Refused>,
}

/// Why a rid is not shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unshown {
    /// 76002
    Malformed,
    /// 76001
    Unknown,
    /// 76003
    OtherApp,
    /// 76004
    TooOld,
}

impl Rids {
    /// Keeps a refused request; the oldest goes where there is no room.
    pub(crate) fn keep(&mut self, refused: Refused) {
        if self.kept.len() == MAX_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(refused);
    }

    /// The `request` object of `openapi/rid/get`.
    pub(crate) fn show(&self, rid: &str, app_id: &AppId, now_ms: u64) -> Result<Value, Unshown> {
        if !is_well_formed(rid) {
            return Err(Unshown::Malformed);
        }
        let found = self.kept.iter().rev().find(|refused| refused.rid == rid);
        let refused = found.ok_or(Unshown::Unknown)?;
        if refused.app_id.as_ref() != Some(app_id) {
            return Err(Unshown::OtherApp);
        }
        if now_ms.saturating_sub(refused.at_ms) > KEPT_MS {
            return Err(Unshown::TooOld);
        }
        Ok(json!({
            "invoke_time": refused.at_ms / 1000,
            "cost_in_ms": 1,
            "request_url": refused.url,
            "request_body": refused.request_body,
            "response_body": refused.response_body,
            "client_ip": refused.client_ip,
        }))
    }
}

fn is_well_formed(rid: &str) -> bool {
    let groups: Vec<&str> = rid.split('-').collect();
    groups.len() == 3
        && groups
            .iter()
            .all(|group| group.len() == 8 && group.bytes().all(|b| b.is_ascii_hexdigit()))
}
