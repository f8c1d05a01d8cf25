//! A plugin's settings, and the data of its pushes, against the JSON Schemas that the plugin carries.
//!
//! The schema is a tenant's text, so it is hostile: it may refer to the network, to itself without
//! end, or to definitions that double at each step. It is measured before it is compiled, references
//! stay inside it, and its patterns run on a regular-expression engine without backtracking. What cannot
//! be measured beforehand, the work of a schema on given settings, is bounded by where this runs (`job`).

use jsonschema::{PatternOptions, Validator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::refusal::MAX_SCHEMA_BYTES;

/// Values of a schema with its references written out: what one value of the settings may cost.
const MAX_NODES: usize = 5_000;

/// How deep a schema nests, its references written out: the validator descends on the stack.
const MAX_DEPTH: usize = 100;

/// Bytes of a compiled pattern.
const MAX_PATTERN_BYTES: usize = 256 << 10;

/// Patterns of a schema; each may take as much memory as one compiled takes bytes, several times.
const MAX_PATTERNS: usize = 64;

/// Violations that are told at once.
const MAX_TOLD: usize = 50;

/// Bytes of one told violation: it may repeat a value of the settings.
const MAX_TOLD_BYTES: usize = 300;

/// Keywords that lead elsewhere in ways that cannot be measured beforehand.
const REFUSED_KEYWORDS: [&str; 4] = [
    "$dynamicRef",
    "$dynamicAnchor",
    "$recursiveRef",
    "$recursiveAnchor",
];

/// Keywords whose schemas are about a part of the value: a reference below them that leads back up ends
/// where the settings end.
const DESCENDING_KEYWORDS: [&str; 10] = [
    "properties",
    "patternProperties",
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "items",
    "prefixItems",
    "additionalItems",
    "unevaluatedItems",
    "contains",
];

/// Schema drafts whose keywords are understood.
const DRAFTS: [&str; 3] = [
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema",
];

/// Why settings were refused.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigError {
    /// The plugin's schema cannot be used.
    #[error("the plugin's config schema cannot be used: {0}")]
    Schema(String),
    /// The settings break the schema.
    #[error("the config does not fit the plugin's schema: {}", .0.join("; "))]
    Violations(Vec<String>),
    /// Nobody can tell in the time and memory that the host gives to it.
    #[error(
        "the config cannot be checked against the plugin's schema within the host's limits: {0}"
    )]
    TooDemanding(String),
    /// Too many other checks wait.
    #[error("too many checks wait; try again later")]
    Busy,
    /// The host is at fault.
    #[error("the host could not check the config: {0}")]
    Failed(String),
}

/// Checks settings against a schema. `unfit` is called as soon as it is known that they do not fit:
/// listing why may take more time and memory than there is.
pub(crate) fn check(schema: &str, config: &str, unfit: impl FnOnce()) -> Result<(), ConfigError> {
    let config: Value = serde_json::from_str(config)
        .map_err(|error| ConfigError::Violations(vec![error.to_string()]))?;
    let validator = compile(schema).map_err(ConfigError::Schema)?;
    if validator.is_valid(&config) {
        return Ok(());
    }
    unfit();
    let told = validator
        .iter_errors(&config)
        .take(MAX_TOLD)
        .map(|error| {
            let path = error.instance_path().to_string();
            let path = if path.is_empty() { "/" } else { &path };
            // Values stay out of the answer and of the log.
            cut(&format!("{path}: {}", error.masked()))
        })
        .collect();
    Err(ConfigError::Violations(told))
}

/// Keywords of schemas whose work grows with the data and with nothing else: each value meets one part of
/// the schema, and no pattern.
const PLAIN_KEYWORDS: [&str; 25] = [
    "$schema",
    "$comment",
    "additionalProperties",
    "const",
    "default",
    "deprecated",
    "description",
    "enum",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "prefixItems",
    "properties",
    "required",
    "title",
    "type",
];

/// Bytes of a plain schema times bytes of data that are checked without a limit on time and memory: at most
/// each part of the one meets each part of the other once.
const PLAIN_WORK: usize = 16 << 20;

/// Whether data can be checked against a schema without any limit: both are small, and the schema is plain.
pub(crate) fn is_harmless(schema: &str, data: &str) -> bool {
    schema.len().saturating_mul(data.len()) <= PLAIN_WORK
        && serde_json::from_str(schema).is_ok_and(|schema| is_plain(&schema))
}

fn is_plain(schema: &Value) -> bool {
    let Value::Object(keywords) = schema else {
        return schema.is_boolean();
    };
    keywords.iter().all(|(keyword, value)| match &**keyword {
        "properties" => value
            .as_object()
            .is_some_and(|properties| properties.values().all(is_plain)),
        "items" | "additionalProperties" => is_plain(value),
        "prefixItems" => value
            .as_array()
            .is_some_and(|items| items.iter().all(is_plain)),
        keyword => PLAIN_KEYWORDS.contains(&keyword),
    })
}

/// What is told when there was no time to list what is wrong.
pub(crate) fn unlisted() -> ConfigError {
    ConfigError::Violations(vec![
        "/: too much is wrong with it to be listed within the host's limits".into(),
    ])
}

/// Whether a schema can be used.
pub(crate) fn check_schema(schema: &str) -> Result<(), String> {
    compile(schema).map(drop)
}

fn cut(text: &str) -> String {
    match text.char_indices().find(|(at, _)| *at >= MAX_TOLD_BYTES) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

fn compile(schema: &str) -> Result<Validator, String> {
    if schema.len() > MAX_SCHEMA_BYTES {
        return Err(format!("it is longer than {MAX_SCHEMA_BYTES} bytes"));
    }
    let schema: Value =
        serde_json::from_str(schema).map_err(|error| format!("it is not JSON: {error}"))?;
    if let Some(draft) = schema.get("$schema") {
        let draft = draft.as_str().unwrap_or_default();
        if !DRAFTS.contains(&draft.trim_end_matches('#')) {
            return Err(String::from(
                "its $schema is not one of draft 2020-12, 2019-09 and draft-07",
            ));
        }
    }
    let mut meter = Meter::new(&schema);
    meter.measure(&schema, 0)?;
    jsonschema::options()
        .offline()
        .with_pattern_options(PatternOptions::regex().size_limit(MAX_PATTERN_BYTES))
        .build(&schema)
        .map_err(|error| cut(&error.to_string()))
}

/// Walks a schema as a validator would, with its references written out.
struct Meter<'a> {
    root: &'a Value,
    nodes: usize,
    patterns: usize,
    /// The references that lead to the present place, and how many of them were followed before the last
    /// step down into the settings.
    followed: Vec<&'a str>,
    followed_above: usize,
}

impl<'a> Meter<'a> {
    fn new(root: &'a Value) -> Self {
        Self {
            root,
            nodes: 0,
            patterns: 0,
            // The root is where the walk begins.
            followed: vec!["#"],
            followed_above: 0,
        }
    }

    fn measure(&mut self, schema: &'a Value, depth: usize) -> Result<(), String> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(format!(
                "with its references written out it has more than {MAX_NODES} values"
            ));
        }
        if depth > MAX_DEPTH {
            return Err(format!(
                "with its references written out it is more than {MAX_DEPTH} levels deep"
            ));
        }
        match schema {
            Value::Object(members) => self.measure_object(members, depth),
            Value::Array(items) => items
                .iter()
                .try_for_each(|item| self.measure(item, depth + 1)),
            _ => Ok(()),
        }
    }

    fn measure_object(
        &mut self,
        members: &'a Map<String, Value>,
        depth: usize,
    ) -> Result<(), String> {
        for (key, value) in members {
            match (key.as_str(), value) {
                ("$ref", Value::String(reference)) => self.follow(reference, depth)?,
                // Would change what the references below it mean.
                ("$id", Value::String(_)) if depth > 0 => {
                    return Err(String::from("it has an $id that is not at its root"));
                }
                (keyword, Value::String(_) | Value::Bool(_))
                    if REFUSED_KEYWORDS.contains(&keyword) =>
                {
                    return Err(format!("it uses {keyword}"));
                }
                // Definitions count where they are referred to.
                ("$defs" | "definitions", Value::Object(_)) => {}
                (keyword, _) if DESCENDING_KEYWORDS.contains(&keyword) => {
                    if let ("patternProperties", Value::Object(patterns)) = (keyword, value) {
                        self.count_patterns(patterns.len())?;
                    }
                    let above = std::mem::replace(&mut self.followed_above, self.followed.len());
                    self.measure(value, depth + 1)?;
                    self.followed_above = above;
                }
                ("pattern", Value::String(_)) => self.count_patterns(1)?,
                _ => self.measure(value, depth + 1)?,
            }
        }
        Ok(())
    }

    fn count_patterns(&mut self, more: usize) -> Result<(), String> {
        self.patterns += more;
        if self.patterns > MAX_PATTERNS {
            return Err(format!(
                "with its references written out it has more than {MAX_PATTERNS} patterns"
            ));
        }
        Ok(())
    }

    /// Goes where a reference leads. One that leads back to where the walk has been is fine if it is about
    /// a part of the settings, and without end if it is about the same value.
    fn follow(&mut self, reference: &'a str, depth: usize) -> Result<(), String> {
        let target = self.target(reference)?;
        match self.followed.iter().position(|given| *given == reference) {
            Some(place) if place >= self.followed_above => Err(format!(
                "{} refers to itself without going deeper into the settings, so nothing could ever be \
                 checked against it: put the reference below properties or items",
                cut(reference)
            )),
            Some(_) => Ok(()),
            None => {
                self.followed.push(reference);
                let measured = self.measure(target, depth + 1);
                self.followed.pop();
                measured
            }
        }
    }

    fn target(&self, reference: &str) -> Result<&'a Value, String> {
        let pointer = match reference.strip_prefix('#') {
            Some(pointer) if pointer.is_empty() || pointer.starts_with('/') => pointer,
            _ => {
                return Err(format!(
                    "it refers to {}: only references such as #/$defs/name are allowed",
                    cut(reference)
                ));
            }
        };
        self.root
            .pointer(&pointer.replace("%25", "%"))
            .ok_or_else(|| format!("it refers to {}, which is not in it", cut(reference)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(schema: &str, config: &Value) -> Result<(), ConfigError> {
        super::check(schema, &config.to_string(), || {})
    }

    #[track_caller]
    fn refused(schema: &Value, config: &Value, expected: &str) {
        let error = check(&schema.to_string(), config).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_schema_is_plain_if_its_work_grows_with_the_data_alone() {
        for (schema, plain) in [
            (json!(true), true),
            (
                json!({"type": "object", "properties": {"a": {"type": "string", "maxLength": 5}}}),
                true,
            ),
            (
                json!({"items": {"enum": ["a"]}, "prefixItems": [{"type": "null"}]}),
                true,
            ),
            (json!({"properties": {"pattern": {"type": "string"}}}), true),
            (json!({"properties": {"a": {"pattern": "a+"}}}), false),
            (json!({"items": {"anyOf": [false]}}), false),
            (json!({"$ref": "#"}), false),
            (json!({"uniqueItems": true}), false),
            (json!({"additionalProperties": {"not": true}}), false),
            (json!([]), false),
        ] {
            assert_eq!(is_plain(&schema), plain, "{schema}");
        }
        assert!(is_harmless("{}", "1"));
        assert!(!is_harmless("{", "1"));
        assert!(!is_harmless(r#"{"type": "object"}"#, &" ".repeat(1 << 20)));
    }

    #[test]
    fn settings_that_fit_pass() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "greeting": {"$ref": "#/$defs/text"},
                "routes": {"type": "array", "items": {"$ref": "#/$defs/route"}},
            },
            "required": ["greeting"],
            "additionalProperties": false,
            "$defs": {
                "text": {"type": "string", "maxLength": 5},
                "route": {"properties": {"say": {"$ref": "#/$defs/text"}}},
            },
        });
        let fits = json!({"greeting": "你好", "routes": [{"say": "hi"}]});
        assert_eq!(check(&schema.to_string(), &fits), Ok(()));
        refused(&schema, &json!({}), "\"greeting\" is a required property");
        refused(&schema, &json!({"greeting": "a", "x": 1}), "'x'");
        let deep = json!({"greeting": "a", "routes": [{"say": "fine"}, {"say": 7}]});
        refused(
            &schema,
            &deep,
            "/routes/1/say: value is not of type \"string\"",
        );
    }

    #[test]
    fn a_schema_that_reaches_out_is_refused() {
        for reference in [
            "https://example.com/s.json",
            "file:///etc/passwd",
            "other",
            "#anchor",
        ] {
            refused(&json!({"$ref": reference}), &json!({}), "it refers to");
        }
        refused(
            &json!({"$ref": "#/$defs/none"}),
            &json!({}),
            "which is not in it",
        );
        refused(
            &json!({"$schema": "https://example.com/own"}),
            &json!({}),
            "$schema",
        );
        refused(
            &json!({"properties": {"a": {"$id": "https://example.com/"}}}),
            &json!({}),
            "$id",
        );
        refused(&json!({"$dynamicRef": "#x"}), &json!({}), "$dynamicRef");
    }

    #[test]
    fn a_schema_without_end_is_refused() {
        let word = "refers to itself without going deeper";
        refused(&json!({"$ref": "#"}), &json!({}), word);
        refused(&json!({"allOf": [{"$ref": "#"}]}), &json!({}), word);
        let there_and_back = json!({
            "$ref": "#/$defs/a",
            "$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"not": {"$ref": "#/$defs/a"}}},
        });
        refused(&there_and_back, &json!({}), word);
        // By another name for the same place the walk has no end either.
        let renamed = json!({"properties": {"a": {"$ref": "#/properties/a"}}});
        refused(&renamed, &json!({}), word);
    }

    #[test]
    fn a_schema_may_refer_to_itself_for_parts_of_the_settings() {
        let menu = json!({
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "below": {"type": "array", "items": {"$ref": "#"}},
                "next": {"$ref": "#/$defs/step"},
            },
            "$defs": {"step": {
                "type": "object",
                "properties": {"then": {"anyOf": [{"$ref": "#/$defs/step"}, {"type": "null"}]}},
            }},
        });
        let fits = json!({"name": "a", "below": [{"name": "b", "below": [{"name": "c"}]}]});
        assert_eq!(check(&menu.to_string(), &fits), Ok(()));
        refused(
            &menu,
            &json!({"below": [{"below": [{"name": 7}]}]}),
            "/below/0/below/0/name: value is not of type \"string\"",
        );
        let steps = json!({"next": {"then": {"then": null}}});
        assert_eq!(check(&menu.to_string(), &steps), Ok(()));
        refused(&menu, &json!({"next": {"then": {"then": 1}}}), "/next/then");
    }

    #[test]
    fn many_patterns_are_refused() {
        let patterns: Map<String, Value> = (0..65)
            .map(|n| (format!("\\p{{L}}{{{n}}}"), json!(true)))
            .collect();
        let schema = json!({ "patternProperties": patterns });
        refused(&schema, &json!({}), "more than 64 patterns");
    }

    #[test]
    fn that_settings_do_not_fit_is_known_before_it_is_told_why() {
        let mut known = false;
        let told = super::check(r#"{"type":"object"}"#, "[]", || known = true);
        assert!(told.is_err() && known);
        super::check(r#"{"type":"object"}"#, "{}", || panic!("it fits")).unwrap();
    }

    #[test]
    fn a_schema_that_doubles_at_each_step_is_refused() {
        let mut schema = json!({"$ref": "#/$defs/d0", "$defs": {"d15": {"type": "object"}}});
        for step in 0..15 {
            let next = json!({"$ref": format!("#/$defs/d{}", step + 1)});
            schema["$defs"][format!("d{step}")] = json!({"allOf": [next, next]});
        }
        refused(&schema, &json!({}), "more than 5000 values");
    }

    #[test]
    fn a_schema_beyond_its_size_is_refused() {
        let schema = json!({"title": "x".repeat(MAX_SCHEMA_BYTES)});
        refused(&schema, &json!({}), "longer than");
        assert!(check("{", &json!({})).is_err());
    }

    #[test]
    fn a_pattern_cannot_backtrack() {
        // Exponential on a backtracking engine.
        let schema = json!({"pattern": "^(a+)+$"});
        refused(
            &schema,
            &json!(format!("{}!", "a".repeat(5_000))),
            "does not match",
        );
        // Look-around needs a backtracking engine.
        refused(
            &json!({"pattern": "(?=a)b"}),
            &json!("ab"),
            "schema cannot be used",
        );
        let huge = json!({"pattern": "(((a{100}){100}){100})"});
        refused(&huge, &json!("a"), "schema cannot be used");
    }

    #[test]
    fn told_violations_are_few_and_short() {
        let schema = json!({"items": {"enum": ["y".repeat(5_000)]}});
        let config: Value = (0..100).map(|_| json!("s3cr3t")).collect();
        let Err(ConfigError::Violations(told)) = check(&schema.to_string(), &config) else {
            panic!("must be refused");
        };
        assert_eq!(told.len(), MAX_TOLD);
        assert!(told.iter().all(|one| one.len() < MAX_TOLD_BYTES + 8));
        assert!(told.iter().all(|one| !one.contains("s3cr3t")));
    }
}
