//! What a user does, in words a person can read and in the fields WeChat makes of it.
//!
//! Field names and values are those of the WeChat documents 接收普通消息 and 接收事件推送.

use std::fmt;

use crate::Field;

/// Something that makes WeChat call a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserAction {
    description: String,
    fields: Vec<Field>,
}

impl UserAction {
    /// Writes a text.
    pub fn text(content: &str) -> Self {
        let fields = [Field::text("Content", content)];
        Self::message(format!("text “{content}”"), "text", fields)
    }

    /// Taps an entry of a menu message (客服菜单消息).
    pub fn menu_message_entry(content: &str, menu_id: &str) -> Self {
        let fields = [
            Field::text("Content", content),
            Field::text("bizmsgmenuid", menu_id),
        ];
        Self::message(format!("menu entry “{content}”"), "text", fields)
    }

    /// Sends an image that WeChat keeps as `media_id`.
    pub fn image(media_id: &str) -> Self {
        let fields = [
            Field::text("PicUrl", format!("http://mmbiz.qpic.example/{media_id}")),
            Field::text("MediaId", media_id),
        ];
        Self::message(format!("image {media_id}"), "image", fields)
    }

    /// Sends a voice message.
    pub fn voice(media_id: &str) -> Self {
        let fields = [
            Field::text("MediaId", media_id),
            Field::text("Format", "amr"),
            Field::text("MediaId16K", format!("{media_id}-16k")),
        ];
        Self::message(format!("voice {media_id}"), "voice", fields)
    }

    /// Sends a voice message whose words WeChat recognises.
    pub fn recognised_voice(media_id: &str, recognition: &str) -> Self {
        let fields = [
            Field::text("MediaId", media_id),
            Field::text("Format", "amr"),
            Field::text("Recognition", recognition),
        ];
        Self::message(format!("voice “{recognition}”"), "voice", fields)
    }

    /// Sends a video.
    pub fn video(media_id: &str, thumb_media_id: &str) -> Self {
        Self::moving_picture("video", media_id, thumb_media_id)
    }

    /// Sends a short video (小视频).
    pub fn short_video(media_id: &str, thumb_media_id: &str) -> Self {
        Self::moving_picture("shortvideo", media_id, thumb_media_id)
    }

    fn moving_picture(kind: &str, media_id: &str, thumb_media_id: &str) -> Self {
        let fields = [
            Field::text("MediaId", media_id),
            Field::text("ThumbMediaId", thumb_media_id),
        ];
        Self::message(format!("{kind} {media_id}"), kind, fields)
    }

    /// Sends a place: degrees north, degrees east, the place in words.
    pub fn location(latitude: f64, longitude: f64, label: &str) -> Self {
        let fields = [
            Field::number("Location_X", latitude),
            Field::number("Location_Y", longitude),
            Field::number("Scale", 16),
            Field::text("Label", label),
        ];
        Self::message(format!("location “{label}”"), "location", fields)
    }

    /// Sends a link.
    pub fn link(title: &str, description: &str, url: &str) -> Self {
        let fields = [
            Field::text("Title", title),
            Field::text("Description", description),
            Field::text("Url", url),
        ];
        Self::message(format!("link {url}"), "link", fields)
    }

    /// Follows the account.
    pub fn follow() -> Self {
        let fields = [Field::text("EventKey", "")];
        Self::event("follow".to_owned(), "subscribe", fields)
    }

    /// Follows the account by scanning its QR code of that scene value.
    pub fn follow_by_qr(scene: &str, ticket: &str) -> Self {
        let fields = [
            Field::text("EventKey", format!("qrscene_{scene}")),
            Field::text("Ticket", ticket),
        ];
        Self::event(format!("follow by QR scene {scene}"), "subscribe", fields)
    }

    /// Stops following the account.
    pub fn unsubscribe() -> Self {
        let fields = [Field::text("EventKey", "")];
        Self::event("unsubscribe".to_owned(), "unsubscribe", fields)
    }

    /// Scans a QR code of the account as a follower.
    pub fn scan(scene: &str, ticket: &str) -> Self {
        let fields = [
            Field::text("EventKey", scene),
            Field::text("Ticket", ticket),
        ];
        Self::event(format!("scan of QR scene {scene}"), "SCAN", fields)
    }

    /// Lets the client report a position: degrees north, degrees east, metres.
    pub fn position(latitude: f64, longitude: f64, precision: f64) -> Self {
        let fields = [
            Field::number("Latitude", latitude),
            Field::number("Longitude", longitude),
            Field::number("Precision", precision),
        ];
        Self::event(
            format!("position {latitude},{longitude}"),
            "LOCATION",
            fields,
        )
    }

    /// Taps a menu button of type click.
    pub fn click(key: &str) -> Self {
        let fields = [Field::text("EventKey", key)];
        Self::event(format!("menu click {key}"), "CLICK", fields)
    }

    /// Taps a menu button that opens a page.
    pub fn view(url: &str) -> Self {
        let fields = [
            Field::text("EventKey", url),
            Field::number("MenuId", 436_722_071),
        ];
        Self::event(format!("menu link {url}"), "VIEW", fields)
    }

    /// Scans a code from a menu button; with `waits`, the client waits for an answer.
    pub fn scan_from_menu(key: &str, waits: bool, result: &str) -> Self {
        let event = if waits {
            "scancode_waitmsg"
        } else {
            "scancode_push"
        };
        let found = [
            Field::text("ScanType", "qrcode"),
            Field::text("ScanResult", result),
        ];
        let fields = [
            Field::text("EventKey", key),
            Field::group("ScanCodeInfo", found),
        ];
        Self::event(format!("menu scan {key} of “{result}”"), event, fields)
    }

    /// Chooses pictures from a menu button, given by their MD5 in hex. The pictures themselves follow
    /// as image messages.
    pub fn pictures_from_menu(key: &str, md5s: &[&str]) -> Self {
        let items: Vec<Field> = md5s
            .iter()
            .map(|md5| Field::group("item", [Field::text("PicMd5Sum", *md5)]))
            .collect();
        let chosen = [
            Field::number("Count", md5s.len()),
            Field::group("PicList", items),
        ];
        let fields = [
            Field::text("EventKey", key),
            Field::group("SendPicsInfo", chosen),
        ];
        Self::event(
            format!("menu pictures {key} × {}", md5s.len()),
            "pic_photo_or_album",
            fields,
        )
    }

    /// Chooses a place from a menu button. A location message follows.
    pub fn place_from_menu(key: &str, latitude: f64, longitude: f64, label: &str) -> Self {
        let place = [
            Field::text("Location_X", latitude.to_string()),
            Field::text("Location_Y", longitude.to_string()),
            Field::text("Scale", "16"),
            Field::text("Label", label),
            Field::text("Poiname", ""),
        ];
        let fields = [
            Field::text("EventKey", key),
            Field::group("SendLocationInfo", place),
        ];
        Self::event(
            format!("menu place {key} “{label}”"),
            "location_select",
            fields,
        )
    }

    /// Receives a template message, or refuses it: `success`, `failed:user block` ….
    pub fn template_sent(msg_id: u64, status: &str) -> Self {
        let fields = [
            Field::number("MsgID", msg_id),
            Field::text("Status", status),
        ];
        Self::event(
            format!("template message {msg_id}: {status}"),
            "TEMPLATESENDJOBFINISH",
            fields,
        )
    }

    /// Anything else, field by field. MsgType, and Event where it is one, are among the fields;
    /// ToUserName, FromUserName and CreateTime are not. A message without MsgId gets one.
    pub fn raw(fields: impl Into<Vec<Field>>) -> Self {
        let fields = fields.into();
        let shown: Vec<String> = fields
            .iter()
            .map(|field| match field {
                Field::Text(name, value) | Field::Number(name, value) => format!("{name}={value}"),
                Field::Group(name, _) => format!("{name}={{…}}"),
            })
            .collect();
        Self {
            description: shown.join(" "),
            fields,
        }
    }

    /// The same under a MsgId of one's own: WeChat's debugging tool sends every message under one, and
    /// several people have been seen to get the same.
    #[must_use]
    pub fn with_msg_id(mut self, msg_id: u64) -> Self {
        self.fields.retain(|field| field.name() != "MsgId");
        self.fields.push(Field::number("MsgId", msg_id));
        self
    }

    /// Whether it is an event; everything else is a message.
    pub fn is_event(&self) -> bool {
        self.fields.iter().any(|field| {
            matches!(field, Field::Text(name, value)
                if name == "MsgType" && value.eq_ignore_ascii_case("event"))
        })
    }

    /// What it is to the API side: the kind of an interaction (`message`, `menu`, `scan`, `follow`,
    /// `unfollow`) by which messages to the user are allowed, or no more. None where it allows nothing.
    ///
    /// A tap of an entry of a menu message counts as one of the menu, though it comes as a text.
    pub fn interaction(&self) -> Option<&'static str> {
        let text = |wanted: &str| {
            self.fields.iter().find_map(|field| match field {
                Field::Text(name, value) if name == wanted => Some(value.to_ascii_lowercase()),
                _ => None,
            })
        };
        if !self.is_event() {
            let is_entry = text("bizmsgmenuid").is_some();
            return Some(if is_entry { "menu" } else { "message" });
        }
        match text("Event")?.as_str() {
            "click" | "scancode_push" | "scancode_waitmsg" => Some("menu"),
            "scan" => Some("scan"),
            "subscribe" => Some("follow"),
            "unsubscribe" => Some("unfollow"),
            _ => None,
        }
    }

    /// The fields, from MsgType on.
    pub(crate) fn fields(&self) -> &[Field] {
        &self.fields
    }

    fn message<const N: usize>(description: String, kind: &str, fields: [Field; N]) -> Self {
        let mut all = vec![Field::text("MsgType", kind)];
        all.extend(fields);
        Self {
            description,
            fields: all,
        }
    }

    fn event<const N: usize>(description: String, event: &str, fields: [Field; N]) -> Self {
        let mut all = vec![Field::text("MsgType", "event"), Field::text("Event", event)];
        all.extend(fields);
        Self {
            description,
            fields: all,
        }
    }
}

/// For a person: `text “你好”`, `menu click HELP`.
impl fmt::Display for UserAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description)
    }
}
