//! The data of template messages and subscription notices: which keywords a template has, and what
//! each may hold (订阅消息参数值内容限制说明). Everything that is wrong is 47003.

use serde_json::{Map, Value};

use crate::api::body::Fields as _;
use crate::api::refusal::Refusal;

/// The keywords of a template: `first` of `{{first.DATA}}`, in their order.
pub(crate) fn keywords(content: &str) -> Vec<&str> {
    content
        .split("{{")
        .skip(1)
        .filter_map(|rest| rest.split_once(".DATA}}"))
        .map(|(name, _)| name)
        .collect()
}

/// Whether `data` has all keywords of a template, and each fits its type.
pub(crate) fn check(data: &Map<String, Value>, content: &str) -> Result<(), Refusal> {
    for keyword in keywords(content) {
        let wrong = |what: &str| {
            Refusal::because(
                47003,
                format!("argument invalid! data.{keyword}.value {what}"),
            )
        };
        let value = data
            .object(keyword, 47003)
            .map_err(|_| wrong("is missing"))?;
        let value = value.text("value", 47003).map_err(|_| wrong("is empty"))?;
        if !fits(keyword, value) {
            return Err(wrong("invalid"));
        }
    }
    Ok(())
}

fn fits(keyword: &str, value: &str) -> bool {
    let characters = value.chars().count();
    let all = |allowed: fn(char) -> bool| value.chars().all(allowed);
    let is_decimal = |c: char| c.is_ascii_digit() || c == '.' || c == '-';
    match keyword.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "thing" => characters <= 20,
        "number" => characters <= 32 && all(is_decimal),
        "letter" => characters <= 32 && all(|c| c.is_ascii_alphabetic()),
        "symbol" => characters <= 5 && !value.chars().any(char::is_alphanumeric),
        "character_string" => characters <= 32 && all(|c| c.is_ascii_graphic()),
        "time" | "date" => value.chars().any(|c| c.is_ascii_digit()),
        "amount" => {
            let digits = value.chars().filter(char::is_ascii_digit).count();
            let others = value
                .chars()
                .filter(|c| !is_decimal(*c) && *c != ',')
                .count();
            (1..=10).contains(&digits) && others <= 2
        }
        "phone_number" => characters <= 17 && all(|c| c.is_ascii_digit() || "+-() ".contains(c)),
        "car_number" => characters <= 8,
        "name" if value.is_ascii() => characters <= 20,
        "name" => characters <= 10,
        "phrase" => characters <= 5 && !value.chars().any(|c| c.is_ascii()),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_keywords_of_a_template() {
        assert_eq!(
            keywords("{{first.DATA}}\n商品：{{thing1.DATA}}\n{{broken"),
            ["first", "thing1"]
        );
    }

    #[test]
    fn each_type_has_its_limit() {
        let check = |keyword: &str, good: &[&str], bad: &[&str]| {
            for value in good {
                assert!(fits(keyword, value), "{keyword} {value}");
            }
            for value in bad {
                assert!(!fits(keyword, value), "{keyword} {value}");
            }
        };
        check("thing1", &[&"好".repeat(20)], &[&"好".repeat(21)]);
        check(
            "number12",
            &["3.5", &"1".repeat(32)],
            &["三", &"1".repeat(33)],
        );
        check("letter1", &["abc"], &["a1", &"a".repeat(33)]);
        check("symbol2", &["!@#"], &["a", "!!!!!!"]);
        check("character_string3", &["A-1/2"], &["号", &"a".repeat(33)]);
        check("amount4", &["¥10.00", "100元"], &["元", "¥12345678901"]);
        check(
            "phone_number5",
            &["+86-0766-66888866"],
            &["13x", &"1".repeat(18)],
        );
        check("car_number6", &["粤A8Z888挂"], &["粤A8Z888挂挂"]);
        check(
            "name7",
            &["张三", "John Smith"],
            &[&"张".repeat(11), &"a".repeat(21)],
        );
        check("phrase8", &["配送中"], &["配送中配送中", "ok"]);
        check("date9", &["2026年1月1日"], &["今天"]);
        check("keyword1", &[&"x".repeat(500)], &[]);
    }
}
