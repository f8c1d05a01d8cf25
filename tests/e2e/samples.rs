//! What the sample plugins answer, in one place.

use anyhow::Result;
use serde_json::{Value, json};
use wxhost_simulator::UserAction;
use wxhost_tests::admin::Bundle;
use wxhost_tests::plugin::Plugin;
use wxhost_wechat::reply::Reply;

/// What `hello` answers a text with.
pub(crate) fn hello(text: &str) -> String {
    format!("You wrote: {text}")
}

/// What `rogue` answers a text with that is no command.
pub(crate) fn echo(text: &str) -> String {
    text.to_owned()
}

/// What `rogue` answers `count` with: how many of the account's `count`s are committed with this one.
pub(crate) fn count(committed: u32) -> String {
    committed.to_string()
}

/// A `rogue` that may sleep for long: it sleeps by keeping the processor busy.
pub(crate) fn sleeper() -> Result<Bundle> {
    Ok(Bundle::of(Plugin::Rogue.component()?).limits(json!({"cpu_ms": 15_000})))
}

/// The text that lets `rogue` ask WeChat for a quota, and how its answer begins if nothing goes wrong.
pub(crate) const QUOTA: (&str, &str) = (
    "quota /cgi-bin/message/custom/send",
    "Ok(Quota { daily-limit: 500000",
);

/// The example settings of `desk`.
pub(crate) fn desk_config() -> Result<Value> {
    let example = include_str!("../../plugins/desk/example.json");
    Ok(serde_json::from_str(example)?)
}

/// What a user of `desk` does with the example settings, and sees.
pub(crate) fn desk_story() -> Vec<(UserAction, Reply)> {
    let text = |text: &str| Reply::Text(text.to_owned());
    let welcome = "Welcome to the Tea House! Ask for our hours or the menu, or write 人工 to talk to a person.";
    vec![
        (UserAction::follow(), text(welcome)),
        (
            UserAction::scan("table-7", "TICKET"),
            text("Welcome to table 7! Tap the menu below to order."),
        ),
        (
            UserAction::click("HOURS"),
            text("We are open from 10:00 to 22:00, every day."),
        ),
        (
            UserAction::text("tell me more"),
            text("On public holidays we close at 18:00."),
        ),
        (
            UserAction::text("茶单"),
            text("Today: Longjing, Tieguanyin, Pu'er."),
        ),
        (
            UserAction::text("更多"),
            text("A pot of Longjing is ¥58, Tieguanyin ¥48, Pu'er ¥38."),
        ),
        (
            UserAction::text("人工"),
            Reply::TransferCustomerService(None),
        ),
        (
            UserAction::text("?"),
            text("Sorry, we did not understand. Write 人工 to talk to a person."),
        ),
    ]
}
