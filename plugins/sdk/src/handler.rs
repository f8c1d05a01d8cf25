//! What a plugin implements.

use crate::error::Result;
use crate::event::{
    Content, CustomerService, Device, Event, File, GuideScan, Image, Link, Location,
    LocationSelect, MassSent, MediaCheck, MiniProgramPage, Other, Pictures, Position, Published,
    Scan, ScanCode, Subscribe, Subscription, SubscriptionSent, TemplateSent, Text, UserData,
    Verification, Video, View, Voice,
};
use crate::outcome::Outcome;

/// Answers callbacks: what users write, and what happens around the account.
///
/// Implement the kinds that you care for. The others end in [`otherwise`](Self::otherwise), and that
/// answers nothing. There is no `self`: a fresh instance serves each event, so what must last goes to
/// [`kv`](crate::kv), and settings come from [`config::parse`](crate::config::parse).
///
/// The host may run a handler again for the same event, when something that it read was changed
/// meanwhile or after a crash. Only one outcome is ever committed.
pub trait CallbackHandler {
    /// Handles any event. The default calls the method of its kind.
    ///
    /// # Errors
    ///
    /// As the method of the kind.
    fn handle(event: &Event) -> Result {
        match &event.content {
            Content::Text(text) => Self::on_text(event, text),
            Content::Image(image) => Self::on_image(event, image),
            Content::Voice(voice) => Self::on_voice(event, voice),
            Content::Video(video) => Self::on_video(event, video),
            Content::ShortVideo(video) => Self::on_short_video(event, video),
            Content::Location(location) => Self::on_location(event, location),
            Content::Link(link) => Self::on_link(event, link),
            Content::MiniProgramPage(page) => Self::on_mini_program_page(event, page),
            Content::File(file) => Self::on_file(event, file),
            Content::Device(device) => Self::on_device(event, device),
            Content::Subscribe(subscribe) => Self::on_subscribe(event, subscribe),
            Content::Unsubscribe => Self::on_unsubscribe(event),
            Content::Scan(scan) => Self::on_scan(event, scan),
            Content::Position(position) => Self::on_position(event, position),
            Content::Click(key) => Self::on_click(event, key),
            Content::View(view) => Self::on_view(event, view),
            Content::ViewMiniProgram(view) => Self::on_view_mini_program(event, view),
            Content::ScanCode(scan) => Self::on_scan_code(event, scan),
            Content::Pictures(pictures) => Self::on_pictures(event, pictures),
            Content::LocationSelect(selection) => Self::on_location_select(event, selection),
            Content::TemplateSent(sent) => Self::on_template_sent(event, sent),
            Content::MassSent(sent) => Self::on_mass_sent(event, sent),
            Content::Published(publication) => Self::on_published(event, publication),
            Content::SubscriptionPopup(subscriptions) => {
                Self::on_subscription_popup(event, subscriptions)
            }
            Content::SubscriptionChange(subscriptions) => {
                Self::on_subscription_change(event, subscriptions)
            }
            Content::SubscriptionSent(notices) => Self::on_subscription_sent(event, notices),
            Content::CustomerService(session) => Self::on_customer_service(event, session),
            Content::Verification(verification) => Self::on_verification(event, verification),
            Content::UserData(change) => Self::on_user_data(event, change),
            Content::EnterSession(session_from) => Self::on_enter_session(event, session_from),
            Content::GuideScan(scan) => Self::on_guide_scan(event, scan),
            Content::MediaCheck(check) => Self::on_media_check(event, check),
            Content::Other(other) => Self::on_other(event, other),
        }
    }

    /// Every kind that has no method of your own. The default answers nothing.
    ///
    /// # Errors
    ///
    /// None by default; yours are recorded and shown to the tenant.
    fn otherwise(_event: &Event) -> Result {
        Ok(Outcome::none())
    }

    /// A text.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_text(event: &Event, _text: &Text) -> Result {
        Self::otherwise(event)
    }

    /// An image.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_image(event: &Event, _image: &Image) -> Result {
        Self::otherwise(event)
    }

    /// A voice message.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_voice(event: &Event, _voice: &Voice) -> Result {
        Self::otherwise(event)
    }

    /// A video.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_video(event: &Event, _video: &Video) -> Result {
        Self::otherwise(event)
    }

    /// A short video (小视频).
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_short_video(event: &Event, _video: &Video) -> Result {
        Self::otherwise(event)
    }

    /// A place that the user sent.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_location(event: &Event, _location: &Location) -> Result {
        Self::otherwise(event)
    }

    /// A link.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_link(event: &Event, _link: &Link) -> Result {
        Self::otherwise(event)
    }

    /// A mini-program card.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_mini_program_page(event: &Event, _page: &MiniProgramPage) -> Result {
        Self::otherwise(event)
    }

    /// A file.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_file(event: &Event, _file: &File) -> Result {
        Self::otherwise(event)
    }

    /// A message of a device (硬件): text or event.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_device(event: &Event, _device: &Device) -> Result {
        Self::otherwise(event)
    }

    /// The user followed the account.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_subscribe(event: &Event, _subscribe: &Subscribe) -> Result {
        Self::otherwise(event)
    }

    /// The user left. A reply is not delivered.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_unsubscribe(event: &Event) -> Result {
        Self::otherwise(event)
    }

    /// A follower scanned one of the account's QR codes.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_scan(event: &Event, _scan: &Scan) -> Result {
        Self::otherwise(event)
    }

    /// The user's position, reported by the client.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_position(event: &Event, _position: &Position) -> Result {
        Self::otherwise(event)
    }

    /// A tap on a menu button of type click: its key.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_click(event: &Event, _key: &str) -> Result {
        Self::otherwise(event)
    }

    /// A tap on a menu button that opens a page.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_view(event: &Event, _view: &View) -> Result {
        Self::otherwise(event)
    }

    /// A tap on a menu button that opens a mini program.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_view_mini_program(event: &Event, _view: &View) -> Result {
        Self::otherwise(event)
    }

    /// A scan started from a menu button.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_scan_code(event: &Event, _scan: &ScanCode) -> Result {
        Self::otherwise(event)
    }

    /// Pictures chosen from a menu button; they follow as image messages.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_pictures(event: &Event, _pictures: &Pictures) -> Result {
        Self::otherwise(event)
    }

    /// A place chosen from a menu button; a location message follows.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_location_select(event: &Event, _selection: &LocationSelect) -> Result {
        Self::otherwise(event)
    }

    /// A template message was delivered or refused.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_template_sent(event: &Event, _sent: &TemplateSent) -> Result {
        Self::otherwise(event)
    }

    /// A mass message was sent.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_mass_sent(event: &Event, _sent: &MassSent) -> Result {
        Self::otherwise(event)
    }

    /// A publication ended.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_published(event: &Event, _publication: &Published) -> Result {
        Self::otherwise(event)
    }

    /// The user answered a subscription request.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_subscription_popup(event: &Event, _subscriptions: &[Subscription]) -> Result {
        Self::otherwise(event)
    }

    /// The user changed a subscription in the settings.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_subscription_change(event: &Event, _subscriptions: &[Subscription]) -> Result {
        Self::otherwise(event)
    }

    /// A subscription notice was delivered or refused.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_subscription_sent(event: &Event, _notices: &[SubscriptionSent]) -> Result {
        Self::otherwise(event)
    }

    /// A human agent's session began, ended or moved.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_customer_service(event: &Event, _session: &CustomerService) -> Result {
        Self::otherwise(event)
    }

    /// The state of the account's verification (认证) changed.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_verification(event: &Event, _verification: &Verification) -> Result {
        Self::otherwise(event)
    }

    /// Data that the user had authorised was changed, or the authorisation was withdrawn.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_user_data(event: &Event, _change: &UserData) -> Result {
        Self::otherwise(event)
    }

    /// The user opened the customer service of a mini program: SessionFrom.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_enter_session(event: &Event, _session_from: &str) -> Result {
        Self::otherwise(event)
    }

    /// A user scanned a guide's (导购) code.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_guide_scan(event: &Event, _scan: &GuideScan) -> Result {
        Self::otherwise(event)
    }

    /// The result of an asynchronous media check.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_media_check(event: &Event, _check: &MediaCheck) -> Result {
        Self::otherwise(event)
    }

    /// A kind that this version does not know: all its fields are in `event.extra`.
    ///
    /// # Errors
    ///
    /// As [`otherwise`](Self::otherwise).
    fn on_other(event: &Event, _other: &Other) -> Result {
        Self::otherwise(event)
    }
}
