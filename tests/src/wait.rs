//! Waiting for a state, with a deadline and a name for what never came. Nothing here sleeps blindly.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a state is looked at while it is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long a state may take that nothing but load can delay.
pub const SOON: Duration = Duration::from_secs(20);

/// Looks at a state until it is there; fails after `within`, saying what was waited for.
pub async fn until<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + within;
    loop {
        let seen = look().await;
        match seen {
            Ok(Some(value)) => return Ok(value),
            Ok(None) if Instant::now() < end => {}
            Ok(None) => bail!("not seen within {within:?}: {what}"),
            Err(error) => return Err(error.context(format!("while waiting for: {what}"))),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
