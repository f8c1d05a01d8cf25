//! From fields to types: which field of a body becomes which field of a [`Content`].
//!
//! Every value is taken out of the tree as it is understood. A number that is none, a wrapper that is
//! not there or a kind that has no type stays in the tree, and so reaches `extra`.

use std::str::FromStr;

use super::content::*;
use crate::tree::Map;

/// Reads a message of this MsgType, in lower case; `None` when it has no type here.
pub(super) fn message(msg_type: &str, fields: &mut Map<'_>) -> Option<Content> {
    Some(match msg_type {
        "text" => Content::Text(Text {
            content: text(fields, "Content"),
            menu_id: optional(fields, "bizmsgmenuid"),
        }),
        "image" => Content::Image(Image {
            pic_url: text(fields, "PicUrl"),
            media_id: text(fields, "MediaId"),
        }),
        "voice" => Content::Voice(Voice {
            media_id: text(fields, "MediaId"),
            format: text(fields, "Format"),
            wideband_media_id: optional(fields, "MediaId16K"),
            recognition: optional(fields, "Recognition"),
        }),
        "video" => Content::Video(video(fields)),
        "shortvideo" => Content::ShortVideo(video(fields)),
        "location" => Content::Location(location(fields)),
        "link" => Content::Link(Link {
            title: text(fields, "Title"),
            description: text(fields, "Description"),
            url: text(fields, "Url"),
        }),
        "miniprogrampage" => Content::MiniProgramPage(MiniProgramPage {
            title: text(fields, "Title"),
            app_id: text(fields, "AppId"),
            page_path: text(fields, "PagePath"),
            thumb_url: text(fields, "ThumbUrl"),
            thumb_media_id: text(fields, "ThumbMediaId"),
        }),
        "file" => Content::File(File {
            title: text(fields, "Title"),
            description: text(fields, "Description"),
            key: text(fields, "FileKey"),
            md5: text(fields, "FileMd5"),
            size: number(fields, "FileTotalLen"),
        }),
        "device_text" => Content::Device(device(fields, false)),
        "device_event" => Content::Device(device(fields, true)),
        _ => return None,
    })
}

/// Reads an event of this name, in lower case; `None` when it has no type here.
pub(super) fn event(name: &str, fields: &mut Map<'_>) -> Option<Content> {
    user_event(name, fields)
        .or_else(|| menu_event(name, fields))
        .or_else(|| result_event(name, fields))
        .or_else(|| account_event(name, fields))
}

/// Follow, scan, position, and the rarer things that a user does outside the menu.
fn user_event(name: &str, fields: &mut Map<'_>) -> Option<Content> {
    Some(match name {
        "subscribe" => Content::Subscribe(subscribe(fields)),
        "unsubscribe" => Content::Unsubscribe,
        "scan" => Content::Scan(Scan {
            scene: text(fields, "EventKey"),
            ticket: text(fields, "Ticket"),
        }),
        "location" => Content::Position(Position {
            latitude: decimal(fields, "Latitude"),
            longitude: decimal(fields, "Longitude"),
            precision: decimal(fields, "Precision"),
        }),
        "user_enter_tempsession" => Content::EnterSession(text(fields, "SessionFrom")),
        "guide_qrcode_scan_event" => Content::GuideScan(guide_scan(fields)),
        "user_info_modified" => user_data(fields, UserDataChange::Modified),
        "user_authorization_revoke" => user_data(fields, UserDataChange::Revoked),
        "user_authorization_cancellation" => user_data(fields, UserDataChange::Cancelled),
        _ => return None,
    })
}

/// Taps on menu buttons.
fn menu_event(name: &str, fields: &mut Map<'_>) -> Option<Content> {
    Some(match name {
        "click" => Content::Click(text(fields, "EventKey")),
        "view" => Content::View(view(fields)),
        "view_miniprogram" => Content::ViewMiniProgram(view(fields)),
        "scancode_push" => Content::ScanCode(scan_code(fields, false)),
        "scancode_waitmsg" => Content::ScanCode(scan_code(fields, true)),
        "pic_sysphoto" => Content::Pictures(pictures(fields, PictureSource::Camera)),
        "pic_photo_or_album" => Content::Pictures(pictures(fields, PictureSource::CameraOrAlbum)),
        "pic_weixin" => Content::Pictures(pictures(fields, PictureSource::Album)),
        "location_select" => Content::LocationSelect(location_select(fields)),
        _ => return None,
    })
}

/// What became of something that the account had sent, published or asked for.
fn result_event(name: &str, fields: &mut Map<'_>) -> Option<Content> {
    Some(match name {
        "templatesendjobfinish" => Content::TemplateSent(TemplateSent {
            msg_id: number(fields, "MsgID"),
            status: text(fields, "Status"),
        }),
        "masssendjobfinish" => Content::MassSent(MassSent {
            msg_id: number(fields, "MsgID"),
            status: text(fields, "Status"),
            total: number(fields, "TotalCount"),
            filtered: number(fields, "FilterCount"),
            sent: number(fields, "SentCount"),
            failed: number(fields, "ErrorCount"),
        }),
        "publishjobfinish" | "freepublishjobfinish" => Content::Published(published(fields)),
        "subscribe_msg_popup_event" => {
            Content::SubscriptionPopup(subscriptions(fields, "SubscribeMsgPopupEvent"))
        }
        "subscribe_msg_change_event" => {
            Content::SubscriptionChange(subscriptions(fields, "SubscribeMsgChangeEvent"))
        }
        "subscribe_msg_sent_event" => Content::SubscriptionSent(subscriptions_sent(fields)),
        "wxa_media_check" => Content::MediaCheck(media_check(fields)),
        _ => return None,
    })
}

/// Customer service and the account's own state.
fn account_event(name: &str, fields: &mut Map<'_>) -> Option<Content> {
    Some(match name {
        "kf_create_session" => session(fields, SessionChange::Created),
        "kf_close_session" => session(fields, SessionChange::Closed),
        "kf_switch_session" => session(fields, SessionChange::Switched),
        "qualification_verify_success"
        | "naming_verify_success"
        | "annual_renew"
        | "verify_expired" => verification(name, fields, "ExpiredTime"),
        "qualification_verify_fail" | "naming_verify_fail" => {
            verification(name, fields, "FailTime")
        }
        _ => return None,
    })
}

fn video(fields: &mut Map<'_>) -> Video {
    Video {
        media_id: text(fields, "MediaId"),
        thumb_media_id: text(fields, "ThumbMediaId"),
    }
}

fn location(fields: &mut Map<'_>) -> Location {
    Location {
        latitude: decimal(fields, "Location_X"),
        longitude: decimal(fields, "Location_Y"),
        scale: number(fields, "Scale"),
        label: text(fields, "Label"),
    }
}

fn device(fields: &mut Map<'_>, is_event: bool) -> Device {
    Device {
        is_event,
        device_id: text(fields, "DeviceID"),
        device_type: text(fields, "DeviceType"),
        session_id: text(fields, "SessionID"),
        content: text(fields, "Content"),
    }
}

fn subscribe(fields: &mut Map<'_>) -> Subscribe {
    let event_key = text(fields, "EventKey");
    Subscribe {
        scene: event_key.strip_prefix("qrscene_").map(str::to_owned),
        ticket: optional(fields, "Ticket"),
        event_key,
    }
}

fn view(fields: &mut Map<'_>) -> View {
    View {
        target: text(fields, "EventKey"),
        menu_id: optional(fields, "MenuId"),
    }
}

fn scan_code(fields: &mut Map<'_>, waits: bool) -> ScanCode {
    let key = text(fields, "EventKey");
    let scan = fields.inside("ScanCodeInfo");
    ScanCode {
        key,
        waits,
        scan_type: text(scan, "ScanType"),
        scan_result: text(scan, "ScanResult"),
    }
}

fn pictures(fields: &mut Map<'_>, source: PictureSource) -> Pictures {
    let key = text(fields, "EventKey");
    let list = fields.inside("SendPicsInfo").inside("PicList");
    let md5s = list
        .each_mut("item")
        .filter_map(|item| optional(item, "PicMd5Sum"))
        .collect();
    Pictures { key, source, md5s }
}

fn location_select(fields: &mut Map<'_>) -> LocationSelect {
    let key = text(fields, "EventKey");
    let place = fields.inside("SendLocationInfo");
    LocationSelect {
        key,
        location: location(place),
        poi_name: text(place, "Poiname"),
    }
}

fn published(fields: &mut Map<'_>) -> Published {
    let info = fields.inside("PublishEventInfo");
    Published {
        publish_id: text(info, "publish_id"),
        status: number_if_any(info, "publish_status"),
        article_id: text(info, "article_id"),
    }
}

fn subscriptions(fields: &mut Map<'_>, wrapper: &str) -> Vec<Subscription> {
    let list = fields.inside(wrapper).each_mut("List");
    list.map(|item| Subscription {
        template_id: text(item, "TemplateId"),
        status: text(item, "SubscribeStatusString"),
        popup_scene: item.take_as("PopupScene", |text| text.parse().ok()),
    })
    .collect()
}

fn subscriptions_sent(fields: &mut Map<'_>) -> Vec<SubscriptionSent> {
    let list = fields.inside("SubscribeMsgSentEvent").each_mut("List");
    list.map(|item| SubscriptionSent {
        template_id: text(item, "TemplateId"),
        msg_id: text(item, "MsgID"),
        error_code: number_if_any(item, "ErrorCode"),
        error_status: text(item, "ErrorStatus"),
    })
    .collect()
}

fn session(fields: &mut Map<'_>, change: SessionChange) -> Content {
    let account = match change {
        SessionChange::Created | SessionChange::Closed => "KfAccount",
        SessionChange::Switched => "ToKfAccount",
    };
    Content::CustomerService(CustomerService {
        change,
        account: text(fields, account),
        from_account: optional(fields, "FromKfAccount"),
    })
}

fn verification(kind: &str, fields: &mut Map<'_>, time: &str) -> Content {
    Content::Verification(Verification {
        kind: kind.to_owned(),
        at: number(fields, time),
        reason: text(fields, "FailReason"),
    })
}

/// `user_info_modified` writes its fields in lower case, the others do not.
fn user_data(fields: &mut Map<'_>, change: UserDataChange) -> Content {
    let open_id = optional(fields, "OpenID").or_else(|| optional(fields, "openid"));
    Content::UserData(UserData {
        change,
        open_id: open_id.unwrap_or_default(),
        item: text(fields, "RevokeInfo"),
    })
}

fn guide_scan(fields: &mut Map<'_>) -> GuideScan {
    let scan = fields.inside("GuideScanEvent");
    GuideScan {
        guide_account: text(scan, "qrcode_guide_account"),
        guide_open_id: text(scan, "qrcode_guide_openid"),
        open_id: text(scan, "openid"),
        action: text(scan, "action"),
        qrcode_info: text(scan, "qrcode_info"),
    }
}

fn media_check(fields: &mut Map<'_>) -> MediaCheck {
    let trace_id = text(fields, "trace_id");
    let result = fields.inside("result");
    MediaCheck {
        trace_id,
        suggest: text(result, "suggest"),
        label: number(result, "label"),
    }
}

/// A text; empty when it is missing.
fn text(fields: &mut Map<'_>, name: &str) -> String {
    fields.take(name).map(String::from).unwrap_or_default()
}

/// A text that is there and not empty.
fn optional(fields: &mut Map<'_>, name: &str) -> Option<String> {
    fields.take_as(name, |text| (!text.is_empty()).then(|| text.to_owned()))
}

/// A whole number; 0 when it is missing or none of this type. For numbers of which 0 says nothing.
fn number<T: FromStr + Default>(fields: &mut Map<'_>, name: &str) -> T {
    number_if_any(fields, name).unwrap_or_default()
}

/// A whole number that is there and of this type.
fn number_if_any<T: FromStr>(fields: &mut Map<'_>, name: &str) -> Option<T> {
    fields.take_as(name, |text| text.trim().parse().ok())
}

/// A decimal number; 0 when it is missing or not finite.
fn decimal(fields: &mut Map<'_>, name: &str) -> f64 {
    let finite = |text: &str| text.parse().ok().filter(|number: &f64| number.is_finite());
    fields.take_as(name, finite).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::message::{Content, Message};

    /// The status of a publication in an event with this `publish_status`.
    fn status(given: &str) -> Option<i64> {
        let body = format!(
            "<xml><ToUserName>gh_1</ToUserName><FromUserName>o1</FromUserName>\
             <CreateTime>1</CreateTime><MsgType>event</MsgType><Event>PUBLISHJOBFINISH</Event>\
             <PublishEventInfo><publish_id>22</publish_id>{given}</PublishEventInfo></xml>"
        );
        match Message::read(body.as_bytes()).unwrap().content {
            Content::Published(published) => published.status.map(i64::from),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_publication_without_a_status_has_not_succeeded() {
        assert_eq!(status("<publish_status>0</publish_status>"), Some(0));
        assert_eq!(status("<publish_status>2</publish_status>"), Some(2));
        assert_eq!(status("<publish_status></publish_status>"), None);
        assert_eq!(status("<publish_status>soon</publish_status>"), None);
        assert_eq!(status(""), None);
    }
}
