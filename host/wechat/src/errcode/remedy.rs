//! What to do about a code, in one sentence for an operator or an account's owner.

use super::{Advice, Class, OnCall};

/// The sentence of a code: its own on this call, its own on any, otherwise that of its class and
/// advice.
pub(super) fn of(told: OnCall) -> &'static str {
    let code = told.code().0;
    let on_call = match (code, told.class()) {
        (40001, Class::Owner) => Some("Correct the AppSecret."),
        (40013, Class::Owner) => Some("Correct the AppId."),
        (40013 | 40166, Class::Content) => Some(
            "Correct the mini program's AppId in the message: it must be linked with the account.",
        ),
        (89504 | 89505, Class::Held) => Some(
            "Let the account's administrator confirm the message in WeChat, within 30 minutes.",
        ),
        _ => None,
    };
    on_call
        .or_else(|| own(code))
        .unwrap_or_else(|| shared(told))
}

fn own(code: i64) -> Option<&'static str> {
    Some(match code {
        40003 | 49003 => {
            "Use an open id of this very account: each account knows a user by another one."
        }
        40007 => "Upload the media again: temporary media live for three days.",
        40013 | 40166 => "Correct the AppId in the call.",
        40033 => "Send the text as UTF-8, without \\u escapes and control characters.",
        40037 => "Use the id of a template that this account has.",
        40125 => {
            "Correct the AppSecret; it is shown once, when it is set anew in WeChat's console."
        }
        40130 => "Send to two open ids at least, or send a preview.",
        40164 => {
            "Add this host's public addresses to the account's IP allow-list in WeChat's console."
        }
        40243 => "Unfreeze the AppSecret in WeChat's console.",
        40249 => "Stop this template: WeChat takes its messages for marketing, or unlawful.",
        40252 => "Wait: WeChat reviews the message and delivers it by itself, or blocks it.",
        40029 | 40030 | 40163 | 42002 | 42003 | 42007 => "Let the user authorise again.",
        43004 | 50005 => "The user does not follow the account: send nothing until they do.",
        43019 => "Take the user off the account's blacklist, or send nothing to them.",
        43101 => "Drop the subscription: the user refused it, or its one message is used up.",
        43116 => "Stop this template: WeChat limits it because it was misused.",
        45009 => "Wait for midnight in Beijing, or clear the quota (ten times a month).",
        45015 => "Send a template or subscription message, or wait until the user acts again.",
        45028 => "Wait for the next day or month: no mass message is left.",
        45047 => {
            "Wait until the user acts again: they have got all the messages that one act allows."
        }
        45056 => "Delete a tag first: an account has 100 at most.",
        45059 => "Take a tag off the user first: 20 is the most.",
        45065 => "Nothing: this message was taken before.",
        45066 => "Wait a minute before the same mass message is sent again.",
        46003 => "Create a menu first.",
        48001 => "Get the account verified, or use an API that its type is entitled to.",
        48004 => "Read in WeChat's console why the API was taken away, and appeal there.",
        48006 => "Wait for the next month: the quota can be cleared ten times a month.",
        50004 => "Ask WeChat why the account may get no tokens.",
        50007 => "Get the account unfrozen in WeChat's console.",
        61000 | 61001 | 61011 => {
            "Correct the platform's AppId: it is not one of a third-party platform of official accounts."
        }
        61003 | 61007 => {
            "Let the account's owner authorise the third-party platform again, with this right."
        }
        61004 => {
            "Add this host's address to the account's IP allow-list; of an account that a third-party platform serves, to the platform's."
        }
        61005 => "Wait for the platform's next ticket, or have WeChat push tickets again.",
        61006 => {
            "Wait for the platform's next ticket; if that is refused, too, correct the platform's secret."
        }
        61008 => "Correct the call: a key stands in it twice.",
        61009 => {
            "Let the account's owner authorise the platform once more: the code was used, or is another's."
        }
        61010 => {
            "Let the account's owner authorise the platform once more: the code came too late."
        }
        61012 | 61013 | 61025 => {
            "Correct the option: it has no such name or value, or is not to be changed."
        }
        61014 => "Use the platform's token for calls of the platform.",
        61015 => "Use the account's token: the platform's opens its own calls only.",
        61016 | 61017 => {
            "See whether the account is verified, and let its owner authorise the permission set again."
        }
        61018..=61022 => {
            "Nothing: the permission set needs no confirmation, or can't be confirmed now."
        }
        61023 => {
            "Let the account's owner authorise the platform again: WeChat knows another refresh token."
        }
        61024 => "Use the third-party platform's token: the account is run by a platform.",
        61028 | 61029 => {
            "Release the platform to everybody (全网发布), with the base permission sets."
        }
        61030 => "Let the account's administrator end the authorisation in WeChat.",
        65303 => "Create the default menu first.",
        76003 => "Give the path from `/` on, without a host.",
        86000 => "Call it for an account that a third-party platform serves.",
        89000 => "Unbind the account from its Open Platform account first.",
        89001 => "Bind accounts of the same owner only.",
        89002 => "Bind the account to an Open Platform account first.",
        89003 => {
            "Manage this Open Platform account in WeChat's console: it was not made by the API."
        }
        89004 => "Take an account out of the Open Platform account first: it is full.",
        89501 | 89503..=89505 => {
            "Let the account's administrator confirm this host's address in WeChat."
        }
        89506 | 89507 => {
            "Add this host's address to the IP allow-list: the administrator refused it, for an hour or a day."
        }
        _ => return None,
    })
}

fn shared(told: OnCall) -> &'static str {
    match (told.class(), told.advice()) {
        (Class::Success | Class::Repeated, _) => "Nothing.",
        (Class::Held, _) | (_, Advice::Await) => "Wait: WeChat decides by itself.",
        (Class::Address, _) => "Add this host's address to the account's IP allow-list.",
        (Class::Owner, _) => "Ask the account's owner to look at it in WeChat's console.",
        (Class::Rights, _) => "Ask the account's owner for the right to this API.",
        (Class::Unreachable, _) => "Send nothing to this user in this way; take another.",
        (Class::Content, _) => "Correct the message; WeChat's text says what is wrong with it.",
        (_, Advice::RefreshToken) => "Renew the access token and repeat once.",
        (_, Advice::Backoff) => "Repeat later, each time after a longer wait.",
        (_, Advice::NextDay) => "Repeat after midnight in Beijing.",
        (_, Advice::Fallback) => "Take another way to do it.",
        (_, Advice::Alert) => "Ask the account's owner to look at it in WeChat's console.",
        (_, Advice::Never) => "Correct the call; WeChat's text says what is wrong with it.",
    }
}
