//! A scenario: a story with an end that can be told right or wrong, and the pairs it is told on.

use std::pin::Pin;

use anyhow::Result;
use wxhost_tests::site::Pair;

use crate::stage::Stage;

/// The steps of a scenario, once it has its stage. They are played on one thread.
pub(crate) type Steps = Pin<Box<dyn Future<Output = Result<()>>>>;

/// A scenario and where it is played.
pub(crate) struct Scenario {
    /// `module::function`.
    pub(crate) name: &'static str,
    /// Where it is played; nowhere means once, without any host.
    pub(crate) pairs: &'static [Pair],
    /// Plays it.
    pub(crate) play: fn(Stage) -> Steps,
}

/// Lists a module's scenarios. One that is not listed is dead code, which the build refuses.
macro_rules! scenarios {
    ($($pairs:ident: $($function:ident),+ $(,)?;)+) => {
        /// The scenarios of this module.
        pub(crate) fn scenarios() -> Vec<$crate::scenario::Scenario> {
            vec![$($($crate::scenario::Scenario {
                name: concat!(module_path!(), "::", stringify!($function)),
                pairs: $crate::scenario::$pairs,
                play: |stage| Box::pin($function(stage)),
            },)+)+]
        }
    };
}
pub(crate) use scenarios;

/// Over both pairs.
pub(crate) const BOTH: &[Pair] = &Pair::ALL;
/// Only where several hosts share their state.
pub(crate) const SHARED: &[Pair] = &[Pair::Shared];
/// Only where the state is a file.
pub(crate) const EMBEDDED: &[Pair] = &[Pair::Embedded];
/// Without a host.
pub(crate) const ALONE: &[Pair] = &[];
