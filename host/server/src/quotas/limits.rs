//! How much of each quota may be used.

use std::fmt;

use crate::db::quotas::Quota;

/// How many quotas there are.
pub(super) const COUNT: usize = Quota::ALL.len();

/// Where a quota stands in tables of all.
pub(super) fn place(quota: Quota) -> usize {
    quota as usize
}

/// How much of each quota may be used; of what is not said, as much as one likes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits([Option<i64>; COUNT]);

impl Limits {
    /// Limits of these amounts. Names that this version does not know are left out.
    pub fn of<'a>(amounts: impl IntoIterator<Item = (&'a str, i64)>) -> Self {
        let mut limits = Self::default();
        for (name, most) in amounts {
            if let Ok(quota) = name.parse::<Quota>() {
                limits.0[place(quota)] = Some(most);
            }
        }
        limits
    }

    /// How much of this quota may be used.
    pub fn get(&self, quota: Quota) -> Option<i64> {
        self.0[place(quota)]
    }

    /// The same, with `others` where nothing is said.
    #[must_use]
    pub fn or(&self, others: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].or(others.0[at])))
    }

    /// Whether anything is said.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = Quota::ALL
            .into_iter()
            .filter_map(|quota| Some((quota.as_str(), self.get(quota)?)));
        f.debug_map().entries(said).finish()
    }
}
