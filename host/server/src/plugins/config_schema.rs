//! A plugin's settings against the JSON Schema that the plugin carries.
//!
//! The schema is a tenant's text, so it is hostile: it may refer to the network, to itself without
//! end, or to definitions that double at each step. It is measured before it is compiled, references
//! stay inside it, and its patterns run on a regular-expression engine without backtracking.

use jsonschema::{PatternOptions, Validator};
use serde_json::{Map, Value};

/// Bytes of a schema.
const MAX_SCHEMA_BYTES: usize = 64 << 10;

/// Values of a schema with its references written out: what one value of the settings may cost.
const MAX_NODES: usize = 5_000;

/// How deep a schema nests, its references written out: the validator descends on the stack.
const MAX_DEPTH: usize = 100;

/// Bytes of a compiled pattern.
const MAX_PATTERN_BYTES: usize = 256 << 10;

/// Violations that are told at once.
const MAX_TOLD: usize = 5;

/// Bytes of one told violation: it may repeat a value of the settings.
const MAX_TOLD_BYTES: usize = 300;

/// Keywords that lead elsewhere in ways that cannot be measured beforehand.
const REFUSED_KEYWORDS: [&str; 4] = [
    "$dynamicRef",
    "$dynamicAnchor",
    "$recursiveRef",
    "$recursiveAnchor",
];

/// Schema drafts whose keywords are understood.
const DRAFTS: [&str; 3] = [
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema",
];

/// Why settings were refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The plugin's schema cannot be used.
    #[error("the plugin's config schema cannot be used: {0}")]
    Schema(String),
    /// The settings break the schema.
    #[error("the config does not fit the plugin's schema: {}", .0.join("; "))]
    Violations(Vec<String>),
}

/// Checks settings against a schema.
pub fn check(schema: &str, config: &Value) -> Result<(), ConfigError> {
    let validator = compile(schema).map_err(ConfigError::Schema)?;
    let told: Vec<String> = validator
        .iter_errors(config)
        .take(MAX_TOLD)
        .map(|error| {
            let path = error.instance_path().to_string();
            let path = if path.is_empty() { "/" } else { &path };
            // Values stay out of the answer and of the log.
            cut(&format!("{path}: {}", error.masked()))
        })
        .collect();
    if told.is_empty() {
        Ok(())
    } else {
        Err(ConfigError::Violations(told))
    }
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
    let mut meter = Meter {
        root: &schema,
        nodes: 0,
    };
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
}

impl<'a> Meter<'a> {
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
                ("$ref", Value::String(reference)) => {
                    let target = self.target(reference)?;
                    self.measure(target, depth + 1)?;
                }
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
                _ => self.measure(value, depth + 1)?,
            }
        }
        Ok(())
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

    #[track_caller]
    fn refused(schema: &Value, config: &Value, expected: &str) {
        let error = check(&schema.to_string(), config).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
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
        refused(&json!({"$ref": "#"}), &json!({}), "levels deep");
        refused(
            &json!({"allOf": [{"$ref": "#"}]}),
            &json!({}),
            "levels deep",
        );
        let there_and_back = json!({
            "$ref": "#/$defs/a",
            "$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"not": {"$ref": "#/$defs/a"}}},
        });
        refused(&there_and_back, &json!({}), "levels deep");
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
