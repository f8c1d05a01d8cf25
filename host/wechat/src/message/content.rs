//! What a callback is about: one type per kind, the same names and meanings as in `wit/callback.wit`.
//!
//! The server maps these one to one to what a plugin sees, so a change here is a change there.

/// What a callback is about. Messages come from a user's hand; everything else is an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A text.
    Text(Text),
    /// An image.
    Image(Image),
    /// A voice message.
    Voice(Voice),
    /// A video.
    Video(Video),
    /// A short video (小视频).
    ShortVideo(Video),
    /// A place that the user sent.
    Location(Location),
    /// A link.
    Link(Link),
    /// A mini-program card.
    MiniProgramPage(MiniProgramPage),
    /// A file.
    File(File),
    /// A message of a device (硬件): text or event.
    Device(Device),
    /// The user followed the account.
    Subscribe(Subscribe),
    /// The user left. A reply is not delivered.
    Unsubscribe,
    /// A follower scanned one of the account's QR codes.
    Scan(Scan),
    /// The user's position, reported by the client.
    Position(Position),
    /// A tap on a menu button of type click: its key.
    Click(String),
    /// A tap on a menu button that opens a page.
    View(View),
    /// A tap on a menu button that opens a mini program.
    ViewMiniProgram(View),
    /// A scan started from a menu button.
    ScanCode(ScanCode),
    /// Pictures chosen from a menu button; the pictures follow as image messages.
    Pictures(Pictures),
    /// A place chosen from a menu button; a location message follows.
    LocationSelect(LocationSelect),
    /// A template message was delivered or refused.
    TemplateSent(TemplateSent),
    /// A mass message was sent.
    MassSent(MassSent),
    /// A publication ended.
    Published(Published),
    /// The user answered a subscription request.
    SubscriptionPopup(Vec<Subscription>),
    /// The user changed a subscription in the settings.
    SubscriptionChange(Vec<Subscription>),
    /// A subscription notice was delivered or refused.
    SubscriptionSent(Vec<SubscriptionSent>),
    /// A human agent's session.
    CustomerService(CustomerService),
    /// The state of the account's verification (认证) changed.
    Verification(Verification),
    /// Data that the user had authorised was changed, or the authorisation was withdrawn.
    UserData(UserData),
    /// The user opened the customer service of a mini program: SessionFrom.
    EnterSession(String),
    /// A user scanned a guide's (导购) code.
    GuideScan(GuideScan),
    /// The result of an asynchronous media check.
    MediaCheck(MediaCheck),
    /// A kind without a type here: all its fields are in [`Message::extra`](super::Message::extra).
    Other(Other),
}

impl Content {
    /// The name of the case in `wit/callback.wit`, such as `short-video`.
    pub fn kind(&self) -> &'static str {
        match self {
            Content::Text(_) => "text",
            Content::Image(_) => "image",
            Content::Voice(_) => "voice",
            Content::Video(_) => "video",
            Content::ShortVideo(_) => "short-video",
            Content::Location(_) => "location",
            Content::Link(_) => "link",
            Content::MiniProgramPage(_) => "mini-program-page",
            Content::File(_) => "file",
            Content::Device(_) => "device",
            Content::Subscribe(_) => "subscribe",
            Content::Unsubscribe => "unsubscribe",
            Content::Scan(_) => "scan",
            Content::Position(_) => "position",
            Content::Click(_) => "click",
            Content::View(_) => "view",
            Content::ViewMiniProgram(_) => "view-mini-program",
            Content::ScanCode(_) => "scan-code",
            Content::Pictures(_) => "pictures",
            Content::LocationSelect(_) => "location-select",
            Content::TemplateSent(_) => "template-sent",
            Content::MassSent(_) => "mass-sent",
            Content::Published(_) => "published",
            Content::SubscriptionPopup(_) => "subscription-popup",
            Content::SubscriptionChange(_) => "subscription-change",
            Content::SubscriptionSent(_) => "subscription-sent",
            Content::CustomerService(_) => "customer-service",
            Content::Verification(_) => "verification",
            Content::UserData(_) => "user-data",
            Content::EnterSession(_) => "enter-session",
            Content::GuideScan(_) => "guide-scan",
            Content::MediaCheck(_) => "media-check",
            Content::Other(_) => "other",
        }
    }

    /// Whether it came from a user's hand. WeChat shows one article at most in the answer to one.
    pub fn is_message(&self) -> bool {
        match self {
            Content::Text(_)
            | Content::Image(_)
            | Content::Voice(_)
            | Content::Video(_)
            | Content::ShortVideo(_)
            | Content::Location(_)
            | Content::Link(_)
            | Content::MiniProgramPage(_)
            | Content::File(_) => true,
            Content::Other(other) => other.event.is_empty(),
            _ => false,
        }
    }
}

/// A text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Text {
    /// What the user wrote.
    pub content: String,
    /// The id of the entry, when the user tapped one of a menu message (`bizmsgmenuid`).
    pub menu_id: Option<String>,
}

/// An image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Image {
    /// Where WeChat keeps it.
    pub pic_url: String,
    /// Temporary media id, valid for 3 days.
    pub media_id: String,
}

/// A voice message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Voice {
    /// Temporary media id.
    pub media_id: String,
    /// `amr` or `speex`.
    pub format: String,
    /// Media id of the 16 kHz version (`MediaId16K`).
    pub wideband_media_id: Option<String>,
    /// The recognised text, where WeChat gives it.
    pub recognition: Option<String>,
}

/// A video.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Video {
    /// Temporary media id.
    pub media_id: String,
    /// Media id of its thumbnail.
    pub thumb_media_id: String,
}

/// A place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Location {
    /// Degrees north (`Location_X`).
    pub latitude: f64,
    /// Degrees east (`Location_Y`).
    pub longitude: f64,
    /// Zoom of the map.
    pub scale: u32,
    /// The place in words.
    pub label: String,
}

/// A link.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    /// Its headline.
    pub title: String,
    /// Its summary.
    pub description: String,
    /// Where it leads.
    pub url: String,
}

/// A mini-program card.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MiniProgramPage {
    /// Its headline.
    pub title: String,
    /// The mini program's AppId.
    pub app_id: String,
    /// The page in it.
    pub page_path: String,
    /// Where WeChat keeps the thumbnail.
    pub thumb_url: String,
    /// Media id of the thumbnail.
    pub thumb_media_id: String,
}

/// A file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct File {
    /// Its name.
    pub title: String,
    /// Its description.
    pub description: String,
    /// WeChat's key of it.
    pub key: String,
    /// MD5 in hex.
    pub md5: String,
    /// Bytes.
    pub size: u64,
}

/// A message of a device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Device {
    /// True for `device_event`, false for `device_text`.
    pub is_event: bool,
    /// The device.
    pub device_id: String,
    /// Its type: the account's original id.
    pub device_type: String,
    /// The session.
    pub session_id: String,
    /// Base64.
    pub content: String,
}

/// The user followed the account.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subscribe {
    /// The scene value of the QR code, without WeChat's `qrscene_`; absent without a scan.
    pub scene: Option<String>,
    /// The QR code's ticket.
    pub ticket: Option<String>,
    /// EventKey as WeChat sent it; may be empty.
    pub event_key: String,
}

/// A follower scanned a QR code.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scan {
    /// The scene value of the QR code.
    pub scene: String,
    /// The QR code's ticket.
    pub ticket: String,
}

/// The user's position.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Position {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Metres.
    pub precision: f64,
}

/// A tap on a button that opens something.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// The address, or the mini program's page.
    pub target: String,
    /// The individualised menu that it belongs to.
    pub menu_id: Option<String>,
}

/// A scan started from a menu button.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScanCode {
    /// The button's key.
    pub key: String,
    /// True for `scancode_waitmsg`, where the client waits for a reply.
    pub waits: bool,
    /// `qrcode` or `barcode`.
    pub scan_type: String,
    /// What was scanned.
    pub scan_result: String,
}

/// Where pictures were taken from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PictureSource {
    /// `pic_sysphoto`: the camera.
    Camera,
    /// `pic_photo_or_album`: the camera or the album.
    CameraOrAlbum,
    /// `pic_weixin`: WeChat's album.
    Album,
}

/// Pictures chosen from a menu button.
#[derive(Clone, Debug, PartialEq)]
pub struct Pictures {
    /// The button's key.
    pub key: String,
    /// Where they were taken from.
    pub source: PictureSource,
    /// MD5 of each, in hex.
    pub md5s: Vec<String>,
}

/// A place chosen from a menu button.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LocationSelect {
    /// The button's key.
    pub key: String,
    /// The place.
    pub location: Location,
    /// The name of the spot; may be empty.
    pub poi_name: String,
}

/// What became of a template message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TemplateSent {
    /// The msgid that the send call answered.
    pub msg_id: u64,
    /// `success`, `failed:user block`, `failed: system failed` …, as WeChat sent it.
    pub status: String,
}

/// What a template message's event says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TemplateVerdict {
    /// It was delivered.
    Delivered,
    /// The user takes none from the account (`failed:user block`).
    Blocked,
    /// It was not delivered for another reason (`failed: system failed` …).
    Failed,
    /// WeChat says something else.
    Unknown,
}

impl TemplateSent {
    /// What the status says. WeChat's documents differ in spaces and case.
    pub fn verdict(&self) -> TemplateVerdict {
        let mut status = self.status.to_ascii_lowercase();
        status.retain(|character| !character.is_ascii_whitespace());
        match status.strip_prefix("failed") {
            Some(why) if why.contains("userblock") => TemplateVerdict::Blocked,
            Some(_) => TemplateVerdict::Failed,
            None if status == "success" => TemplateVerdict::Delivered,
            None => TemplateVerdict::Unknown,
        }
    }
}

/// What became of a mass message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MassSent {
    /// The msg_id that the send call answered.
    pub msg_id: u64,
    /// `sendsuccess`, `send fail`, `err(10001)` …, as WeChat sent it.
    pub status: String,
    /// Followers addressed.
    pub total: u64,
    /// Left after WeChat's filters.
    pub filtered: u64,
    /// Sent.
    pub sent: u64,
    /// Failed.
    pub failed: u64,
}

/// What became of a publication.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Published {
    /// The publish_id that the submit call answered.
    pub publish_id: String,
    /// 0 published, 1 under way, 2 to 6 failed or withdrawn; absent where WeChat says none.
    pub status: Option<u32>,
    /// The article, when published.
    pub article_id: String,
}

/// A user's answer to a subscription request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subscription {
    /// The template.
    pub template_id: String,
    /// `accept` or `reject`.
    pub status: String,
    /// 0 mini program, 1 web page, 2 article; absent for a change in the settings.
    pub popup_scene: Option<u32>,
}

/// What became of a subscription notice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscriptionSent {
    /// The template.
    pub template_id: String,
    /// The msgid of the send.
    pub msg_id: String,
    /// 0 when delivered; absent where WeChat says none.
    pub error_code: Option<i32>,
    /// `success` or why not.
    pub error_status: String,
}

/// What happened to a human agent's session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionChange {
    /// It began.
    Created,
    /// It ended.
    Closed,
    /// It moved to another agent.
    Switched,
}

/// A human agent's session.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomerService {
    /// What happened.
    pub change: SessionChange,
    /// The agent; after a switch, the new one.
    pub account: String,
    /// The agent before a switch.
    pub from_account: Option<String>,
}

/// The state of the account's verification.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verification {
    /// WeChat's name of the event, such as `qualification_verify_fail`.
    pub kind: String,
    /// Unix seconds at which it expires or failed.
    pub at: u64,
    /// Why it failed; may be empty.
    pub reason: String,
}

/// What happened to data that a user had authorised.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UserDataChange {
    /// The data was modified.
    Modified,
    /// The authorisation of an item was withdrawn: delete it.
    Revoked,
    /// The user left altogether: delete everything.
    Cancelled,
}

/// A change to data that a user had authorised.
#[derive(Clone, Debug, PartialEq)]
pub struct UserData {
    /// What happened.
    pub change: UserDataChange,
    /// Whose data.
    pub open_id: String,
    /// Which item (`RevokeInfo`); may be empty.
    pub item: String,
}

/// A user scanned a guide's code.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GuideScan {
    /// The guide's account.
    pub guide_account: String,
    /// The guide's open id.
    pub guide_open_id: String,
    /// The user.
    pub open_id: String,
    /// What the user did.
    pub action: String,
    /// What the code carries.
    pub qrcode_info: String,
}

/// The result of an asynchronous media check.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MediaCheck {
    /// The trace id that the check call answered.
    pub trace_id: String,
    /// `risky`, `pass` or `review`.
    pub suggest: String,
    /// WeChat's label of the content.
    pub label: u32,
}

/// A kind without a type of its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Other {
    /// MsgType as WeChat sent it.
    pub msg_type: String,
    /// Event as WeChat sent it; empty for messages.
    pub event: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_messages_status_is_read_whatever_its_spaces_and_case() {
        for (status, verdict) in [
            ("success", TemplateVerdict::Delivered),
            (" Success ", TemplateVerdict::Delivered),
            ("failed:user block", TemplateVerdict::Blocked),
            ("failed: user block", TemplateVerdict::Blocked),
            ("Failed:UserBlock", TemplateVerdict::Blocked),
            ("failed:system failed", TemplateVerdict::Failed),
            ("failed: system failed", TemplateVerdict::Failed),
            ("failed", TemplateVerdict::Failed),
            ("", TemplateVerdict::Unknown),
            ("successful", TemplateVerdict::Unknown),
            ("pending", TemplateVerdict::Unknown),
        ] {
            let sent = TemplateSent {
                msg_id: 1,
                status: status.into(),
            };
            assert_eq!(sent.verdict(), verdict, "{status:?}");
        }
    }
}
