//! Shows wxhost at work.

use crate::checkout::Checkout;
use crate::plugins;
use crate::step::Step;

/// Builds the host and the plugins, then hands over to `wxhost demo`.
pub(crate) fn run(checkout: &Checkout, once: bool) -> anyhow::Result<()> {
    let plugins = plugins::build(checkout, None, None)?;
    checkout
        .cargo()
        .args(["build", "--workspace", "--bin", "wxhost"])
        .run()?;
    Step::new(checkout.host("debug"))
        .named("wxhost")
        .args(["demo", "--plugins"])
        .args([plugins])
        .args(once.then_some("--once"))
        .run()
}
