//! From WeChat's message to the plugin's event: the same names on both sides, field by field.

use wxhost_runtime::callback as wit;
use wxhost_wechat::message::{
    Content, CustomerService, Location, Message, PictureSource, SessionChange, Subscription,
    SubscriptionSent, UserDataChange, Video, View,
};

/// The event that a plugin is given for a message.
pub(super) fn from_message(message: &Message, event_id: &str) -> wit::Event {
    let extra = message.extra.iter().map(|(path, value)| wit::Field {
        path: path.clone(),
        value: value.clone(),
    });
    wit::Event {
        id: event_id.to_owned(),
        open_id: message.from_user.as_str().to_owned(),
        create_time: message.create_time,
        content: content(message.content.clone()),
        extra: extra.collect(),
    }
}

#[expect(
    clippy::too_many_lines,
    reason = "one arm per kind; splitting would hide that none is missing"
)]
fn content(content: Content) -> wit::Content {
    use wit::Content as To;
    match content {
        Content::Text(text) => To::Text(wit::Text {
            content: text.content,
            menu_id: text.menu_id,
        }),
        Content::Image(image) => To::Image(wit::Image {
            pic_url: image.pic_url,
            media_id: image.media_id,
        }),
        Content::Voice(voice) => To::Voice(wit::Voice {
            media_id: voice.media_id,
            format: voice.format,
            wideband_media_id: voice.wideband_media_id,
            recognition: voice.recognition,
        }),
        Content::Video(from) => To::Video(video(from)),
        Content::ShortVideo(from) => To::ShortVideo(video(from)),
        Content::Location(from) => To::Location(location(from)),
        Content::Link(link) => To::Link(wit::Link {
            title: link.title,
            description: link.description,
            url: link.url,
        }),
        Content::MiniProgramPage(page) => To::MiniProgramPage(wit::MiniProgramPage {
            title: page.title,
            app_id: page.app_id,
            page_path: page.page_path,
            thumb_url: page.thumb_url,
            thumb_media_id: page.thumb_media_id,
        }),
        Content::File(file) => To::File(wit::File {
            title: file.title,
            description: file.description,
            key: file.key,
            md5: file.md5,
            size: file.size,
        }),
        Content::Device(device) => To::Device(wit::Device {
            is_event: device.is_event,
            device_id: device.device_id,
            device_type: device.device_type,
            session_id: device.session_id,
            content: device.content,
        }),
        Content::Subscribe(subscribe) => To::Subscribe(wit::Subscribe {
            scene: subscribe.scene,
            ticket: subscribe.ticket,
            event_key: subscribe.event_key,
        }),
        Content::Unsubscribe => To::Unsubscribe,
        Content::Scan(scan) => To::Scan(wit::Scan {
            scene: scan.scene,
            ticket: scan.ticket,
        }),
        Content::Position(position) => To::Position(wit::Position {
            latitude: position.latitude,
            longitude: position.longitude,
            precision: position.precision,
        }),
        Content::Click(key) => To::Click(key),
        Content::View(from) => To::View(view(from)),
        Content::ViewMiniProgram(from) => To::ViewMiniProgram(view(from)),
        Content::ScanCode(scan) => To::ScanCode(wit::ScanCode {
            key: scan.key,
            waits: scan.waits,
            scan_type: scan.scan_type,
            scan_result: scan.scan_result,
        }),
        Content::Pictures(pictures) => To::Pictures(wit::Pictures {
            key: pictures.key,
            source: match pictures.source {
                PictureSource::Camera => wit::PictureSource::Camera,
                PictureSource::CameraOrAlbum => wit::PictureSource::CameraOrAlbum,
                PictureSource::Album => wit::PictureSource::Album,
            },
            md5s: pictures.md5s,
        }),
        Content::LocationSelect(select) => To::LocationSelect(wit::LocationSelect {
            key: select.key,
            location: location(select.location),
            poi_name: select.poi_name,
        }),
        Content::TemplateSent(sent) => To::TemplateSent(wit::TemplateSent {
            msg_id: sent.msg_id,
            status: sent.status,
        }),
        Content::MassSent(sent) => To::MassSent(wit::MassSent {
            msg_id: sent.msg_id,
            status: sent.status,
            total: sent.total,
            filtered: sent.filtered,
            sent: sent.sent,
            failed: sent.failed,
        }),
        Content::Published(published) => To::Published(wit::Published {
            publish_id: published.publish_id,
            status: published.status,
            article_id: published.article_id,
        }),
        Content::SubscriptionPopup(list) => {
            To::SubscriptionPopup(list.into_iter().map(subscription).collect())
        }
        Content::SubscriptionChange(list) => {
            To::SubscriptionChange(list.into_iter().map(subscription).collect())
        }
        Content::SubscriptionSent(list) => {
            To::SubscriptionSent(list.into_iter().map(subscription_sent).collect())
        }
        Content::CustomerService(from) => To::CustomerService(customer_service(from)),
        Content::Verification(verification) => To::Verification(wit::Verification {
            kind: verification.kind,
            at: verification.at,
            reason: verification.reason,
        }),
        Content::UserData(data) => To::UserData(wit::UserData {
            change: match data.change {
                UserDataChange::Modified => wit::UserDataChange::Modified,
                UserDataChange::Revoked => wit::UserDataChange::Revoked,
                UserDataChange::Cancelled => wit::UserDataChange::Cancelled,
            },
            open_id: data.open_id,
            item: data.item,
        }),
        Content::EnterSession(from) => To::EnterSession(from),
        Content::GuideScan(scan) => To::GuideScan(wit::GuideScan {
            guide_account: scan.guide_account,
            guide_open_id: scan.guide_open_id,
            open_id: scan.open_id,
            action: scan.action,
            qrcode_info: scan.qrcode_info,
        }),
        Content::MediaCheck(check) => To::MediaCheck(wit::MediaCheck {
            trace_id: check.trace_id,
            suggest: check.suggest,
            label: check.label,
        }),
        Content::Other(other) => To::Other(wit::Other {
            msg_type: other.msg_type,
            event: other.event,
        }),
    }
}

fn video(video: Video) -> wit::Video {
    wit::Video {
        media_id: video.media_id,
        thumb_media_id: video.thumb_media_id,
    }
}

fn location(location: Location) -> wit::Location {
    wit::Location {
        latitude: location.latitude,
        longitude: location.longitude,
        scale: location.scale,
        label: location.label,
    }
}

fn view(view: View) -> wit::View {
    wit::View {
        target: view.target,
        menu_id: view.menu_id,
    }
}

fn subscription(subscription: Subscription) -> wit::Subscription {
    wit::Subscription {
        template_id: subscription.template_id,
        status: subscription.status,
        popup_scene: subscription.popup_scene,
    }
}

fn subscription_sent(sent: SubscriptionSent) -> wit::SubscriptionSent {
    wit::SubscriptionSent {
        template_id: sent.template_id,
        msg_id: sent.msg_id,
        error_code: sent.error_code,
        error_status: sent.error_status,
    }
}

fn customer_service(session: CustomerService) -> wit::CustomerService {
    wit::CustomerService {
        change: match session.change {
            SessionChange::Created => wit::SessionChange::Created,
            SessionChange::Closed => wit::SessionChange::Closed,
            SessionChange::Switched => wit::SessionChange::Switched,
        },
        account: session.account,
        from_account: session.from_account,
    }
}
