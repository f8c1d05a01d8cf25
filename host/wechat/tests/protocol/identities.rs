//! What tells a repeated delivery from a new callback.

use std::collections::BTreeSet;

use wxhost_wechat::message::Message;

use crate::kinds::{event, message};

#[test]
fn event_ids_tell_callbacks_apart() {
    let id = |message: Message| message.event_id();
    let text = message("text", "<MsgId>24306089600000000</MsgId>");
    assert_eq!(
        text.earlier_event_id().as_deref(),
        Some("m:24306089600000000")
    );
    let click = event("CLICK", "<EventKey>K</EventKey><MsgId>1</MsgId>");
    assert_eq!(click.earlier_event_id(), None);
    assert_eq!(id(text), "m:24306089600000000:1700000000:0f3b0de0d1fa0cd8");
    assert_eq!(
        id(event("CLICK", "<EventKey>K</EventKey>")),
        "e:oUser:1700000000:event:click:K"
    );
    assert_eq!(
        id(event(
            "TEMPLATESENDJOBFINISH",
            "<MsgID>5</MsgID><Status>success</Status>"
        )),
        "e:oUser:1700000000:event:templatesendjobfinish:5"
    );
    let different = [
        event("CLICK", "<EventKey>K</EventKey>"),
        event("CLICK", "<EventKey>K2</EventKey>"),
        event("VIEW", "<EventKey>K</EventKey>"),
        event("VIEW", "<EventKey>http://a/?b:c</EventKey>"),
        event("VIEW", "<EventKey>http://a/?b:d</EventKey>"),
        event("subscribe", ""),
        event("unsubscribe", ""),
        event("LOCATION", "<Latitude>1</Latitude>"),
        event("LOCATION", "<Latitude>2</Latitude>"),
        event(
            "subscribe_msg_sent_event",
            "<E><List><MsgID>1</MsgID></List></E>",
        ),
        event(
            "subscribe_msg_sent_event",
            "<E><List><MsgID>2</MsgID></List></E>",
        ),
        message("text", "<Content>a</Content>"),
        message("text", "<Content>b</Content>"),
        message("text", "<MsgId>1</MsgId>"),
        message("event", "<MsgId>1</MsgId>"),
    ];
    let ids: BTreeSet<_> = different.iter().map(Message::event_id).collect();
    assert_eq!(ids.len(), different.len(), "{ids:?}");
}
