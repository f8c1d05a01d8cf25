//! The templates of accounts, as WeChat lists them: what a template push is checked against before anything
//! of it is kept.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use tokio::time::Instant;
use wxhost_wechat::api::template::{List, Template};

use crate::accounts::Account;
use crate::client::Client;

/// How long a list is good. Templates change in WeChat's console, seldom.
const GOOD_FOR: Duration = Duration::from_secs(600);
/// How old a list must be to be asked for again because it lacks a template.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// How long WeChat is asked.
const TIMEOUT: Duration = Duration::from_secs(3);
/// What all lists may take, in bytes.
const MAX_BYTES: u64 = 32 << 20;

/// The lists that this host has.
#[derive(Debug)]
pub struct Templates {
    known: Cache<String, Arc<Known>>,
}

#[derive(Debug)]
struct Known {
    asked_at: Instant,
    templates: Vec<Template>,
}

/// What is wrong with a template message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The account does not have the template.
    #[error("template_id: the account has no template {wanted}; it has: {}", .has.join(", "))]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// What there is.
        has: Vec<String>,
    },
    /// WeChat would refuse what lacks a field.
    #[error("fields: {} of template {template} is missing; its fields are: {}", .lacking.join(", "), .fields.join(", "))]
    Lacking {
        /// The template.
        template: String,
        /// What is missing.
        lacking: Vec<String>,
        /// All of its fields.
        fields: Vec<String>,
    },
    /// WeChat would leave out what the template does not have.
    #[error("fields: template {template} has no {}; its fields are: {}", .unknown.join(", "), .fields.join(", "))]
    Beyond {
        /// The template.
        template: String,
        /// What it does not have.
        unknown: Vec<String>,
        /// All of its fields.
        fields: Vec<String>,
    },
}

impl Default for Templates {
    fn default() -> Self {
        let known = Cache::builder()
            .max_capacity(MAX_BYTES)
            .weigher(|_, known: &Arc<Known>| known.bytes())
            .time_to_live(GOOD_FOR);
        Self {
            known: known.build(),
        }
    }
}

impl Known {
    fn bytes(&self) -> u32 {
        let bytes = self.templates.iter().map(|template| {
            size_of::<Template>() + template.content.len() + template.example.len()
        });
        u32::try_from(bytes.sum::<usize>()).unwrap_or(u32::MAX)
    }

    fn find(&self, template_id: &str) -> Option<&Template> {
        let mut templates = self.templates.iter();
        templates.find(|template| template.template_id == template_id)
    }
}

impl Templates {
    /// Checks that an account has a template, and that these are its fields. Where WeChat can't be asked,
    /// nothing is wrong: it will say so itself.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn check(
        &self,
        (client, account): (&Client, &Arc<Account>),
        template_id: &str,
        fields: &BTreeSet<&str>,
    ) -> Result<(), Misfit> {
        let app_id = account.app_id.as_str();
        let mut known = self.known.get(app_id);
        let is_good = |known: &Arc<Known>| {
            known.find(template_id).is_some() || known.asked_at.elapsed() < AGAIN_AFTER
        };
        if !known.as_ref().is_some_and(is_good) {
            let asked_at = Instant::now();
            let asked = client.call(account, &List, asked_at + TIMEOUT).await;
            if let Ok(list) = asked {
                let list = Arc::new(Known {
                    asked_at,
                    templates: list.templates,
                });
                self.known.insert(app_id.to_owned(), Arc::clone(&list));
                known = Some(list);
            }
        }
        known.map_or(Ok(()), |known| known.check(template_id, fields))
    }
}

impl Known {
    fn check(&self, template_id: &str, given: &BTreeSet<&str>) -> Result<(), Misfit> {
        let Some(template) = self.find(template_id) else {
            let has = self.templates.iter().map(|one| one.template_id.clone());
            return Err(Misfit::Unknown {
                wanted: template_id.to_owned(),
                has: has.collect(),
            });
        };
        let fields: BTreeSet<&str> = template.fields().collect();
        let names = |one: &BTreeSet<&str>, another: &BTreeSet<&str>| -> Vec<String> {
            one.difference(another)
                .copied()
                .map(str::to_owned)
                .collect()
        };
        let (lacking, unknown) = (names(&fields, given), names(given, &fields));
        let template = template_id.to_owned();
        let fields = fields.into_iter().map(str::to_owned).collect();
        if !lacking.is_empty() {
            return Err(Misfit::Lacking {
                template,
                lacking,
                fields,
            });
        }
        if !unknown.is_empty() {
            return Err(Misfit::Beyond {
                template,
                unknown,
                fields,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_template_lacks_or_has_not_is_named() {
        let template = Template {
            template_id: "T1".into(),
            title: String::new(),
            primary_industry: String::new(),
            deputy_industry: String::new(),
            content: "{{thing1.DATA}} at {{time2.DATA}}".into(),
            example: String::new(),
        };
        let known = Known {
            asked_at: Instant::now(),
            templates: vec![template],
        };
        let check = |id: &str, fields: &[&str]| {
            let fields = fields.iter().copied().collect();
            known
                .check(id, &fields)
                .map_err(|misfit| misfit.to_string())
        };
        assert_eq!(check("T1", &["thing1", "time2"]), Ok(()));
        for (id, fields, said) in [
            (
                "T2",
                &["thing1"][..],
                "the account has no template T2; it has: T1",
            ),
            ("T1", &["thing1"], "fields: time2 of template T1 is missing"),
            (
                "T1",
                &["thing1", "time2", "thing3"],
                "template T1 has no thing3",
            ),
        ] {
            let error = check(id, fields).expect_err(said);
            assert!(error.contains(said), "{error}");
        }
    }
}
