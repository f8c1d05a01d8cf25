//! Prints exchanges between the pretend WeChat and a host, for a person to read.

use std::io::Write as _;
use std::time::Duration;

use wxhost_simulator::{Delivery, Forgery, HttpAnswer, SimulatedAccount, UserAction};
use wxhost_wechat::id::OpenId;

/// Prints a line.
pub(crate) fn say(line: &str) {
    // Who closed the output does not want to read on.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints what a user did, how the host answered each delivery and what the user sees.
///
/// ```text
/// oDemoUser1 → 茶馆 (safe)  text “你好”
///   200 in 3.1 ms  replied
///   user sees: 你好！
/// ```
pub(crate) fn delivery(
    name: &str,
    account: &SimulatedAccount,
    user: &OpenId,
    action: &UserAction,
    delivery: &Delivery,
) {
    say(&format!(
        "\n{user} → {name} ({})  {action}",
        account.mode.as_str()
    ));
    if delivery.attempts.is_empty() {
        say("  not sent: the host failed too often and is muted for a minute");
    }
    for attempt in &delivery.attempts {
        let status = match attempt.status {
            Some(status) => status.as_str().to_owned(),
            None => "---".to_owned(),
        };
        let elapsed = milliseconds(attempt.elapsed);
        say(&format!("  {status} in {elapsed}  {}", attempt.outcome));
    }
    let shown = delivery.shown.to_string().replace('\n', "\n             ");
    say(&format!("  user sees: {shown}"));
}

/// Prints a forged callback and the host's answer to it.
pub(crate) fn forgery(
    name: &str,
    account: &SimulatedAccount,
    action: &UserAction,
    forgery: Forgery,
    answer: &HttpAnswer,
) {
    let mode = account.mode.as_str();
    say(&format!(
        "\nan attacker → {name} ({mode})  {action}, {}",
        forgery.name()
    ));
    say(&format!(
        "  {} (due: {})",
        answer.status,
        forgery.deserved_status()
    ));
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
