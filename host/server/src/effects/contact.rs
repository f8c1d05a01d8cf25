//! Effects on a contact: tags and remark, at WeChat's and here; attributes and opt-out, here alone.

use serde_json::{Map, Value};
use wxhost_runtime::effects as wit;
use wxhost_wechat::api::{tag, user};
use wxhost_wechat::id::OpenId;

use super::{open_id, outgoing, said};
use crate::db::outbox::Kind;
use crate::db::personal::{Change, MAX_ATTRIBUTE_BYTES, Step};

/// Tags of one effect that are added, and that are removed.
const MAX_TAGS: usize = 20;
/// Characters of a remark (WeChat: less than 30).
const MAX_REMARK_CHARS: usize = 29;

/// Tags are given and taken. WeChat takes one tag at a time.
pub(super) fn tags(effect: wit::TagChange) -> Result<Vec<Step>, String> {
    let open_id = open_id(&effect.open_id)?;
    let (add, remove) = (effect.add, effect.remove);
    if add.len().max(remove.len()) > MAX_TAGS {
        return Err(format!("at most {MAX_TAGS} tags can be added and removed"));
    }
    let open_ids = || vec![open_id.clone()];
    let removed = remove.iter().map(|&id| {
        let call = tag::Remove {
            open_ids: open_ids(),
            id,
        };
        outgoing(Kind::Tags, &open_id, &call)
    });
    let added = add.iter().map(|&id| {
        let call = tag::Add {
            open_ids: open_ids(),
            id,
        };
        outgoing(Kind::Tags, &open_id, &call)
    });
    // Taken away first: a contact has 20 at most.
    let sent = removed.chain(added);
    let mut steps = sent
        .map(|call| call.map(Step::Send).map_err(said))
        .collect::<Result<Vec<_>, _>>()?;
    steps.push(change(&open_id, Change::Tags { add, remove }));
    Ok(steps)
}

/// The remark is set.
pub(super) fn remark(effect: wit::RemarkChange) -> Result<Vec<Step>, String> {
    let open_id = open_id(&effect.open_id)?;
    if effect.remark.chars().count() > MAX_REMARK_CHARS {
        return Err(format!(
            "a remark has at most {MAX_REMARK_CHARS} characters"
        ));
    }
    if effect.remark.chars().any(char::is_control) {
        return Err("a remark has no control characters".to_owned());
    }
    let call = user::SetRemark {
        open_id: open_id.clone(),
        remark: effect.remark.clone(),
    };
    let sent = outgoing(Kind::Remark, &open_id, &call).map_err(said)?;
    let remembered = change(&open_id, Change::Remark(effect.remark));
    Ok(vec![Step::Send(sent), remembered])
}

/// Attributes are set one by one.
pub(super) fn attributes(effect: &wit::AttributeChange) -> Result<Step, String> {
    let open_id = open_id(&effect.open_id)?;
    if effect.attributes.len() > MAX_ATTRIBUTE_BYTES {
        return Err(format!(
            "attributes have at most {MAX_ATTRIBUTE_BYTES} bytes"
        ));
    }
    let members: Map<String, Value> = serde_json::from_str(&effect.attributes)
        .map_err(|error| format!("attributes are not a JSON object: {error}"))?;
    Ok(change(&open_id, Change::Attributes(members)))
}

/// An opt-out or its end is noted.
pub(super) fn opt_out(effect: &wit::OptOutChange) -> Result<Step, String> {
    let open_id = open_id(&effect.open_id)?;
    Ok(opted_out(&open_id, effect.opted_out))
}

/// That a contact wants no messages, or wants them again.
pub(super) fn opted_out(open_id: &OpenId, is_stopped: bool) -> Step {
    change(open_id, Change::OptOut(is_stopped))
}

fn change(open_id: &OpenId, change: Change) -> Step {
    Step::Change {
        open_id: open_id.as_str().to_owned(),
        change,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_go_one_by_one_and_are_remembered() {
        let effect = wit::TagChange {
            open_id: "oA".into(),
            add: vec![7],
            remove: vec![8, 9],
        };
        let steps = tags(effect).unwrap();
        let paths: Vec<_> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Send(outgoing) => Some(&*outgoing.path),
                Step::Change { .. } => None,
            })
            .collect();
        let untag = "/cgi-bin/tags/members/batchuntagging";
        assert_eq!(paths, [untag, untag, "/cgi-bin/tags/members/batchtagging"]);
        let remembered = Change::Tags {
            add: vec![7],
            remove: vec![8, 9],
        };
        assert!(matches!(&steps[3], Step::Change { change, .. } if *change == remembered));
    }

    #[test]
    fn a_remark_has_no_control_characters() {
        let effect = wit::RemarkChange {
            open_id: "oA".into(),
            remark: "a\0b".into(),
        };
        let error = remark(effect).unwrap_err();
        assert!(error.contains("control characters"), "{error}");
    }
}
