//! What a handler gave back, measured against the limits. What its effects mean is for the server to judge.

use crate::effects::{Effect, KvDelete, KvPut};
use crate::failure::Failure;
use crate::limits::{CallLimits, MAX_KEY_BYTES, MAX_VALUE_BYTES, Stop, is_key};
use crate::login::Verdict;
use crate::messages::{Body, CustomerMessage, MiniProgram, SubscriptionMessage, TemplateMessage};
use crate::push::{Composition, Message};
use crate::{Outcome, PluginError, payment};

/// Checks what the plugin answered against the limits.
pub(crate) fn judge(
    result: Result<Outcome, PluginError>,
    limits: &CallLimits,
) -> Result<Outcome, Failure> {
    let outcome = result.map_err(Failure::plugin)?;
    check_effects(&outcome.effects, limits).map_err(Failure::stopped)?;
    Ok(outcome)
}

/// Checks what the plugin makes of a fact about money against the limits.
pub(crate) fn judge_payment(
    result: Result<payment::Outcome, PluginError>,
    limits: &CallLimits,
) -> Result<payment::Outcome, Failure> {
    let outcome = result.map_err(Failure::plugin)?;
    check_effects(&outcome.effects, limits).map_err(Failure::stopped)?;
    Ok(outcome)
}

/// Checks what the plugin composed against the limits.
pub(crate) fn judge_compositions(
    result: Result<Vec<Composition>, PluginError>,
    limits: &CallLimits,
) -> Result<Vec<Composition>, Failure> {
    let compositions = result.map_err(Failure::plugin)?;
    expect_bytes(compositions.iter().map(composition_size), limits)?;
    Ok(compositions)
}

/// Checks what the plugin decided of a login against the limits.
pub(crate) fn judge_verdict(
    result: Result<Verdict, PluginError>,
    limits: &CallLimits,
) -> Result<Verdict, Failure> {
    let verdict = result.map_err(Failure::plugin)?;
    match &verdict {
        Verdict::Admit(claims) => {
            let sizes = claims.iter();
            let sizes = sizes.map(|claim| claim.name.len() + claim.value.len());
            expect_bytes(sizes, limits)?;
        }
        Verdict::Refuse(reason) => expect_bytes([reason.len()].into_iter(), limits)?,
    }
    Ok(verdict)
}

fn expect_bytes(sizes: impl Iterator<Item = usize>, limits: &CallLimits) -> Result<(), Failure> {
    let limit = limits.effect_bytes;
    if sizes.fold(0, usize::saturating_add) <= limit {
        return Ok(());
    }
    let which = "effect-bytes";
    Err(Failure::stopped(Stop::HostLimit { which, limit }))
}

fn composition_size(composition: &Composition) -> usize {
    let messages = match composition {
        Composition::Skip(reason) => return reason.len(),
        Composition::Send(messages) => messages.iter(),
    };
    let sizes = messages.map(|message| match message {
        Message::Customer(message) => message_size(message),
        Message::Template(message) => template_size(message),
        Message::Subscription(message) => subscription_size(message),
    });
    sizes.sum()
}

fn check_effects(effects: &[Effect], limits: &CallLimits) -> Result<(), Stop> {
    let over = |which, limit| Err(Stop::HostLimit { which, limit });
    if effects.len() > limits.effects {
        return over("effects", limits.effects);
    }
    let mut bytes = 0_usize;
    for effect in effects {
        if let Effect::KvPut(KvPut { key, .. }) | Effect::KvDelete(KvDelete { key, .. }) = effect
            && !is_key(key)
        {
            return over("effect-key", MAX_KEY_BYTES);
        }
        if let Effect::KvPut(put) = effect
            && put.value.len() > MAX_VALUE_BYTES
        {
            return over("effect-value", MAX_VALUE_BYTES);
        }
        bytes = bytes.saturating_add(size(effect));
    }
    if bytes > limits.effect_bytes {
        return over("effect-bytes", limits.effect_bytes);
    }
    Ok(())
}

/// All texts and values of an effect, in bytes.
fn size(effect: &Effect) -> usize {
    match effect {
        Effect::KvPut(put) => put.key.len() + put.value.len(),
        Effect::KvDelete(delete) => delete.key.len(),
        Effect::SendMessage(message) => message_size(message),
        Effect::SendTemplate(message) => template_size(message),
        Effect::SendSubscription(message) => subscription_size(message),
        Effect::ChangeTags(tags) => {
            tags.open_id.len() + size_of::<u32>() * (tags.add.len() + tags.remove.len())
        }
        Effect::SetRemark(remark) => remark.open_id.len() + remark.remark.len(),
        Effect::SetAttributes(change) => change.open_id.len() + change.attributes.len(),
        Effect::SetOptOut(change) => change.open_id.len(),
        Effect::Refund(refund) => {
            refund.out_refund_no.len()
                + refund.out_trade_no.len()
                + optional(refund.reason.as_ref())
        }
        Effect::CloseOrder(out_trade_no) => out_trade_no.len(),
    }
}

fn message_size(message: &CustomerMessage) -> usize {
    let body = match &message.body {
        Body::Text(text) => text.len(),
        Body::Image(id) | Body::Voice(id) | Body::Article(id) | Body::Card(id) => id.len(),
        Body::Video(video) => sum([
            &video.media_id,
            &video.thumb_media_id,
            &video.title,
            &video.description,
        ]),
        Body::Music(music) => sum([
            &music.title,
            &music.description,
            &music.music_url,
            &music.hq_music_url,
            &music.thumb_media_id,
        ]),
        Body::Link(link) => sum([&link.title, &link.description, &link.url, &link.pic_url]),
        Body::Menu(menu) => {
            let choices = menu.choices.iter();
            let choices: usize = choices.map(|c| c.id.len() + c.content.len()).sum();
            menu.head.len() + menu.tail.len() + choices
        }
        Body::MiniProgramPage(page) => sum([
            &page.title,
            &page.app_id,
            &page.page_path,
            &page.thumb_media_id,
        ]),
    };
    message.open_id.len() + body + optional(message.kf_account.as_ref())
}

fn template_size(message: &TemplateMessage) -> usize {
    message.open_id.len()
        + message.template_id.len()
        + pairs(&message.data)
        + optional(message.url.as_ref())
        + mini_program(message.mini_program.as_ref())
}

fn subscription_size(message: &SubscriptionMessage) -> usize {
    message.open_id.len()
        + message.template_id.len()
        + pairs(&message.data)
        + optional(message.page.as_ref())
        + mini_program(message.mini_program.as_ref())
}

fn sum<const COUNT: usize>(texts: [&String; COUNT]) -> usize {
    texts.iter().map(|text| text.len()).sum()
}

fn optional(text: Option<&String>) -> usize {
    text.map_or(0, String::len)
}

fn pairs(pairs: &[(String, String)]) -> usize {
    pairs
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum()
}

fn mini_program(link: Option<&MiniProgram>) -> usize {
    link.map_or(0, |link| link.app_id.len() + link.page_path.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FailureCode;
    use crate::effects::{
        AttributeChange, Expectation, OptOutChange, RefundRequest, RemarkChange, TagChange,
    };
    use crate::messages::{Menu, MenuChoice};

    fn check(effects: &[Effect]) -> Result<(), FailureCode> {
        check_effects(effects, &CallLimits::default()).map_err(|e| Failure::stopped(e).code)
    }

    fn put(bytes: usize) -> Effect {
        Effect::KvPut(KvPut {
            key: "k".into(),
            value: vec![0; bytes],
            expect: Expectation::Any,
        })
    }

    #[test]
    fn effects_are_measured_together() {
        assert_eq!(check(&[put(64 << 10)]), Ok(()));
        assert_eq!(
            check(&[put((64 << 10) + 1)]),
            Err(FailureCode::HostLimit("effect-value"))
        );
        let four: Vec<_> = (0..4).map(|_| put(64 << 10)).collect();
        assert_eq!(check(&four), Err(FailureCode::HostLimit("effect-bytes")));
    }

    /// One effect of each kind that carries text, with `bytes` of it where most of it may be.
    fn wordy(bytes: usize) -> Vec<Effect> {
        let text = "x".repeat(bytes);
        let open_id = String::from("o1");
        let message = |body| {
            Effect::SendMessage(CustomerMessage {
                open_id: open_id.clone(),
                body,
                kf_account: None,
                expires_at: None,
            })
        };
        vec![
            message(Body::Text(text.clone())),
            message(Body::Menu(Menu {
                head: String::new(),
                choices: vec![MenuChoice {
                    id: String::new(),
                    content: text.clone(),
                }],
                tail: String::new(),
            })),
            Effect::SendTemplate(TemplateMessage {
                open_id: open_id.clone(),
                template_id: "t".into(),
                data: vec![("first".into(), text.clone())],
                url: None,
                mini_program: None,
                expires_at: None,
            }),
            Effect::SendSubscription(SubscriptionMessage {
                open_id: open_id.clone(),
                template_id: "t".into(),
                data: Vec::new(),
                page: Some(text.clone()),
                mini_program: None,
                expires_at: None,
            }),
            Effect::ChangeTags(TagChange {
                open_id: open_id.clone(),
                add: vec![1; bytes.div_ceil(4)],
                remove: Vec::new(),
            }),
            Effect::SetRemark(RemarkChange {
                open_id: open_id.clone(),
                remark: text.clone(),
            }),
            Effect::SetAttributes(AttributeChange {
                open_id,
                attributes: text.clone(),
            }),
            Effect::SetOptOut(OptOutChange {
                open_id: text.clone(),
                opted_out: true,
            }),
            Effect::Refund(RefundRequest {
                out_refund_no: "r".into(),
                out_trade_no: "123456".into(),
                amount: None,
                reason: Some(text.clone()),
            }),
            Effect::CloseOrder(text),
        ]
    }

    #[test]
    fn what_is_composed_is_measured_together() {
        let compose = |count: usize| {
            let text = || CustomerMessage {
                open_id: String::from("o1"),
                body: Body::Text("x".repeat(1 << 10)),
                kf_account: None,
                expires_at: None,
            };
            let messages = (0..count).map(|_| Message::Customer(text()));
            let composed = vec![
                Composition::Send(messages.collect()),
                Composition::Skip("not today".into()),
            ];
            let judged = judge_compositions(Ok(composed), &CallLimits::default());
            judged.map(|composed| composed.len()).map_err(|e| e.code)
        };
        assert_eq!(compose(255), Ok(2));
        assert_eq!(compose(256), Err(FailureCode::HostLimit("effect-bytes")));
    }

    #[test]
    fn a_message_cannot_carry_more_than_a_value() {
        for effect in wordy(1 << 10) {
            assert_eq!(check(&[effect]), Ok(()));
        }
        for (kind, effect) in wordy((256 << 10) + 1).into_iter().enumerate() {
            let refused = Err(FailureCode::HostLimit("effect-bytes"));
            assert_eq!(check(&[effect]), refused, "{kind}");
        }
    }
}
