//! A service desk: answers by keyword and menu button, greets followers by the QR code that they came
//! by, remembers what a user asked last, and hands over to people.
//!
//! It is all settings: `schema.json` says what they look like, `example.json` is a set to start from.

mod settings;

use settings::{Settings, Topic};
use wxhost_sdk::prelude::*;

/// The desk.
pub struct Desk;

impl CallbackHandler for Desk {
    fn on_text(event: &Event, text: &Text) -> Result {
        let settings: Settings = config::parse()?;
        let visit = Visit::of(event)?;
        let text = text.content.as_str();
        if settings.human.keywords.match_text(text) {
            return visit.hand_over(&settings);
        }
        if let Some(topic) = settings
            .topics
            .iter()
            .find(|topic| topic.keywords.match_text(text))
        {
            return visit.answer(topic);
        }
        if settings.more_keywords.match_text(text)
            && let Some(topic) = visit.last_topic(&settings)?
            && let Some(more) = &topic.more
        {
            return visit.say(Some(more));
        }
        visit.say(settings.fallback.as_ref())
    }

    fn on_click(event: &Event, key: &str) -> Result {
        let settings: Settings = config::parse()?;
        let visit = Visit::of(event)?;
        if settings.human.menu_keys.contain(key) {
            return visit.hand_over(&settings);
        }
        match settings
            .topics
            .iter()
            .find(|topic| topic.menu_keys.contain(key))
        {
            Some(topic) => visit.answer(topic),
            None => {
                log::warn(format!("no topic has the menu key {key}"));
                visit.say(None)
            }
        }
    }

    fn on_subscribe(event: &Event, subscribe: &Subscribe) -> Result {
        let settings: Settings = config::parse()?;
        let greeting = subscribe
            .scene
            .as_ref()
            .and_then(|scene| settings.scenes.get(scene));
        Visit::of(event)?.say(greeting.or(settings.welcome.as_ref()))
    }

    fn on_scan(event: &Event, scan: &Scan) -> Result {
        let settings: Settings = config::parse()?;
        Visit::of(event)?.say(settings.scenes.get(&scan.scene))
    }
}

wxhost_sdk::register!(
    Desk,
    manifest = include_str!("../plugin.toml"),
    config_schema = include_str!("../schema.json"),
);

/// A user at the desk, for the n-th time.
struct Visit<'e> {
    open_id: &'e str,
    /// This one included.
    count: u64,
}

impl<'e> Visit<'e> {
    /// Reads how often the user was here. Two events of one user at once don't get the same count: the
    /// host runs one of them again.
    fn of(event: &'e Event) -> Result<Self> {
        let before = kv::get_text(&visits_key(&event.open_id))?;
        let before = before.map_or(Ok(0), |count| count.parse::<u64>())?;
        Ok(Self {
            open_id: &event.open_id,
            count: before.saturating_add(1),
        })
    }

    /// What the user asked last, if the settings still know it.
    fn last_topic<'s>(&self, settings: &'s Settings) -> Result<Option<&'s Topic>> {
        let name = kv::get_text(&topic_key(self.open_id))?;
        Ok(name.and_then(|name| settings.topics.iter().find(|topic| topic.name == name)))
    }

    /// Answers with a topic, and remembers it.
    fn answer(&self, topic: &Topic) -> Result {
        let outcome = self.say(Some(&topic.reply))?;
        Ok(outcome.put(topic_key(self.open_id), topic.name.as_str()))
    }

    /// Says something, or nothing.
    fn say(&self, text: Option<&String>) -> Result {
        let outcome = text.map_or(Outcome::none(), |text| Outcome::reply(Reply::text(text)));
        Ok(outcome.put(visits_key(self.open_id), self.count.to_string()))
    }

    /// Leaves the user to a person.
    fn hand_over(&self, settings: &Settings) -> Result {
        let reply = match &settings.human.account {
            Some(agent) => Reply::customer_service_agent(agent),
            None => Reply::customer_service(),
        };
        Ok(Outcome::reply(reply).put(visits_key(self.open_id), self.count.to_string()))
    }
}

fn visits_key(open_id: &str) -> String {
    format!("visits/{open_id}")
}

fn topic_key(open_id: &str) -> String {
    format!("topic/{open_id}")
}

#[cfg(test)]
mod tests;
