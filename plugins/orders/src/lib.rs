//! A shop's notices: what its back end pushes becomes a customer-service message, and a template message for
//! whom WeChat takes none.
//!
//! Kinds and their data stand in `plugin.toml`; what is said is all settings: `schema.json` says what they
//! look like, `example.json` is a set to start from.

use serde::Deserialize;
use std::collections::BTreeMap;
use wxhost_sdk::message::TemplateMessage;
use wxhost_sdk::prelude::*;
use wxhost_sdk::push::{Composition, Push, PushHandler, Recipient};

/// The notices.
pub struct Orders;

/// What is said of one kind of push. At least one of both.
#[derive(Deserialize)]
struct Notice {
    text: Option<String>,
    template: Option<Template>,
}

#[derive(Deserialize)]
struct Template {
    id: String,
    fields: BTreeMap<String, String>,
    url: Option<String>,
}

/// A member of a push's data.
#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Number(i64),
    Flag(bool),
}

impl PushHandler for Orders {
    fn compose(push: &Push, recipient: &Recipient) -> Result<Composition> {
        let mut settings: BTreeMap<String, Notice> = config::parse()?;
        let Some(notice) = settings.remove(&push.kind) else {
            return Ok(Composition::skip("no-notice-is-set"));
        };
        let data = Data::of(push)?;
        let text = notice.text.map(|text| recipient.text(data.fill(&text)));
        let template = notice
            .template
            .map(|template| template.message(recipient, &data));
        match (text, template) {
            (Some(text), Some(template)) => Ok(Composition::send(text).or(template)),
            (Some(text), None) => Ok(Composition::send(text)),
            (None, Some(template)) => Ok(Composition::send(template)),
            (None, None) => Ok(Composition::skip("no-notice-is-set")),
        }
    }
}

wxhost_sdk::register!(
    Orders,
    handlers = [push],
    manifest = include_str!("../plugin.toml"),
    config_schema = include_str!("../schema.json"),
);

impl Template {
    fn message(self, recipient: &Recipient, data: &Data) -> TemplateMessage {
        let mut message = recipient.template(self.id);
        for (name, text) in &self.fields {
            message = message.field(name, data.fill(text));
        }
        match self.url {
            Some(url) => message.url(data.fill(&url)),
            None => message,
        }
    }
}

/// A push's data as texts.
struct Data(BTreeMap<String, String>);

impl Data {
    fn of(push: &Push) -> Result<Self> {
        let values: BTreeMap<String, Value> = push.data()?;
        let mut texts = BTreeMap::new();
        for (name, value) in values {
            if let ("amount_fen", Value::Number(fen)) = (&*name, &value) {
                texts.insert("amount".to_owned(), yuan(*fen));
            }
            let text = match value {
                Value::Text(text) => text,
                Value::Number(number) => number.to_string(),
                Value::Flag(flag) => flag.to_string(),
            };
            texts.insert(name, text);
        }
        Ok(Self(texts))
    }

    /// A text with `{name}` filled in; a name that the data lack is nothing. What is filled in is not
    /// looked at again.
    fn fill(&self, text: &str) -> String {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            let Some((name, behind)) = after.split_once('}') else {
                filled.push('{');
                rest = after;
                break;
            };
            filled.push_str(self.0.get(name).map_or("", String::as_str));
            rest = behind;
        }
        filled.push_str(rest);
        filled
    }
}

/// Fen in yuan, as people read them.
fn yuan(fen: i64) -> String {
    format!("{}.{:02}", fen / 100, fen % 100)
}

#[cfg(test)]
mod tests;
