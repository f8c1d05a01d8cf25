//! What tells a repeated delivery from a new callback (接收普通消息: 关于重试的消息排重).
//!
//! WeChat's rule is MsgId for messages and FromUserName + CreateTime for events. But several users get
//! messages of one MsgId, and WeChat's debugging tool repeats one, so FromUserName and CreateTime join
//! in; a repeated delivery repeats all three. Two events of one user can share a second, so an event's
//! own key joins in: EventKey, the id of a finished job, or else a digest of the whole body, which is the
//! same in every delivery.

use sha1::{Digest as _, Sha1};

use crate::tree::Tree;

/// A longer part is replaced by a digest. An open id has 28 bytes, the longest event name 31.
const MAX_PART_BYTES: usize = 32;
/// Bytes of a digest; twice as many in hex.
const DIGEST_BYTES: usize = 16;
/// Bytes of a sender's digest: it tells apart the few who share a MsgId and a second.
const SENDER_DIGEST_BYTES: usize = 8;

/// The identity of a callback. It is asked before fields are taken out.
pub(super) fn of(tree: &Tree<'_>) -> String {
    let text = |name| tree.text(name).unwrap_or_default();
    let mut identity = String::with_capacity(128);
    if let Some(msg_id) = msg_id(tree) {
        identity.push('m');
        push(&mut identity, msg_id);
        push(&mut identity, text("CreateTime"));
        identity.push(':');
        identity.push_str(&sender_digest(text("FromUserName")));
        return identity;
    }
    identity.push('e');
    push(&mut identity, text("FromUserName"));
    push(&mut identity, text("CreateTime"));
    push(&mut identity, &text("MsgType").to_ascii_lowercase());
    push(&mut identity, &text("Event").to_ascii_lowercase());
    let keys = ["EventKey", "MsgID", "MsgId"].map(text);
    match keys.into_iter().find(|key| !key.is_empty()) {
        Some(key) => push(&mut identity, key),
        None => push(&mut identity, &body_digest(tree)),
    }
    identity
}

/// The identity that earlier versions gave: of a message, its MsgId alone. Events have the same still.
pub(super) fn earlier(identity: &str, msg_id: &str) -> Option<String> {
    if !identity.starts_with("m:") {
        return None;
    }
    let mut earlier = "m".to_owned();
    push(&mut earlier, msg_id);
    Some(earlier)
}

/// The id of a message; events have none.
fn msg_id<'t>(tree: &'t Tree<'_>) -> Option<&'t str> {
    let is_event = tree
        .text("MsgType")
        .is_some_and(|kind| kind.eq_ignore_ascii_case("event"));
    // What a user writes comes before it and may look like one.
    let msg_id = tree.last_text("MsgId");
    msg_id.filter(|id| !is_event && !id.is_empty())
}

/// Adds a part so that no two lists of parts read the same.
fn push(identity: &mut String, part: &str) {
    identity.push(':');
    let plain = part
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b':' && byte != b'#');
    if plain && part.len() <= MAX_PART_BYTES {
        identity.push_str(part);
    } else {
        identity.push('#');
        identity.push_str(&hex::encode(&Sha1::digest(part)[..DIGEST_BYTES]));
    }
}

/// Tells senders apart. Ids stand in logs, where open ids have no place.
fn sender_digest(open_id: &str) -> String {
    hex::encode(&Sha1::digest(open_id)[..SENDER_DIGEST_BYTES])
}

fn body_digest(tree: &Tree<'_>) -> String {
    let mut hash = Sha1::new();
    for (path, value) in tree.flatten() {
        // No path or value holds a NUL.
        hash.update(path);
        hash.update([0]);
        hash.update(value);
        hash.update([0]);
    }
    hex::encode(&hash.finalize()[..DIGEST_BYTES])
}
