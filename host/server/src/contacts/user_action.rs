//! What an event tells of the contact who caused it.

use wxhost_wechat::id::{AppId, OpenId};
use wxhost_wechat::message::{Content, Message};

use crate::db::contact_updates::ContactUpdate;

/// Longest union id or scene that is kept, in bytes; WeChat's are shorter (a scene has 64 characters).
const MAX_TEXT_BYTES: usize = 256;

/// What one event tells. Small: it is made on the way to WeChat's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserAction {
    /// The account.
    pub app_id: AppId,
    /// The contact.
    pub open_id: OpenId,
    /// The person over accounts, where told.
    pub union_id: Option<Box<str>>,
    /// Unix milliseconds of the event by WeChat's clock.
    pub at_ms: i64,
    /// What the contact did.
    pub act: Act,
}

/// What a contact did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Wrote a message.
    Message,
    /// Tapped a menu item.
    Menu {
        /// Whether WeChat takes customer-service messages after it: not when a page was opened.
        grants: bool,
    },
    /// Scanned a QR code as a follower.
    Scan,
    /// Followed.
    Follow {
        /// The scene of the QR code that led here.
        scene: Option<Box<str>>,
    },
    /// Left.
    Unfollow,
    /// Paid.
    Payment,
    /// Something that is none of these.
    Other,
}

impl UserAction {
    /// What a callback tells; None for the platform's own events, which no contact caused.
    pub fn of(app_id: &AppId, message: &Message, arrived_ms: i64) -> Option<Self> {
        let act = act(&message.content)?;
        let told = i64::try_from(message.create_time).unwrap_or_default();
        Some(Self {
            app_id: app_id.clone(),
            open_id: message.from_user.clone(),
            union_id: message
                .extra
                .iter()
                .find(|(path, _)| path.eq_ignore_ascii_case("UnionId"))
                .and_then(|(_, union_id)| kept(union_id)),
            // A time ahead of ours would hide everything that comes after it.
            at_ms: match told.saturating_mul(1000) {
                told if told > 0 && told <= arrived_ms => told,
                _ => arrived_ms,
            },
            act,
        })
    }

    /// Who did it.
    pub fn contact(&self) -> (&AppId, &OpenId) {
        (&self.app_id, &self.open_id)
    }

    /// As it is written.
    pub fn into_update(self) -> ContactUpdate {
        let at = Some(self.at_ms);
        let mut seen = ContactUpdate::new(self.app_id, self.open_id, self.at_ms);
        seen.union_id = self.union_id;
        match self.act {
            Act::Message => seen.last.message = at,
            Act::Menu { grants } => {
                seen.last.menu = at;
                seen.menu_granted_at = at.filter(|_| grants);
            }
            Act::Scan => seen.last.scan = at,
            Act::Follow { scene } => {
                seen.followed_at = at;
                seen.following = Some((true, self.at_ms));
                seen.last.follow = at;
                seen.last.scan = at.filter(|_| scene.is_some());
                seen.qr_scene = scene;
            }
            Act::Unfollow => {
                seen.unfollowed_at = at;
                seen.following = Some((false, self.at_ms));
            }
            Act::Payment => seen.last.payment = at,
            Act::Other => {}
        }
        seen
    }
}

fn act(content: &Content) -> Option<Act> {
    use Content as C;
    Some(match content {
        C::Subscribe(subscribe) => Act::Follow {
            scene: subscribe.scene.as_deref().and_then(kept),
        },
        C::Unsubscribe => Act::Unfollow,
        C::Scan(_) => Act::Scan,
        C::Click(_) | C::ScanCode(_) => Act::Menu { grants: true },
        C::View(_) | C::ViewMiniProgram(_) | C::Pictures(_) | C::LocationSelect(_) => {
            Act::Menu { grants: false }
        }
        C::Position(_)
        | C::SubscriptionPopup(_)
        | C::SubscriptionChange(_)
        | C::EnterSession(_)
        | C::Device(_) => Act::Other,
        C::TemplateSent(_)
        | C::MassSent(_)
        | C::Published(_)
        | C::SubscriptionSent(_)
        | C::CustomerService(_)
        | C::Verification(_)
        | C::UserData(_)
        | C::GuideScan(_)
        | C::MediaCheck(_) => return None,
        // A tap of an entry of a menu message comes as a text, and allows what one of the menu does
        // ("Customer-service messages").
        C::Text(text) if text.menu_id.is_some() => Act::Menu { grants: true },
        C::Text(_)
        | C::Image(_)
        | C::Voice(_)
        | C::Video(_)
        | C::ShortVideo(_)
        | C::Location(_)
        | C::Link(_)
        | C::MiniProgramPage(_)
        | C::File(_) => Act::Message,
        // An unknown kind of message is a message; an unknown event may be anybody's.
        C::Other(_) if content.is_message() => Act::Message,
        C::Other(_) => return None,
    })
}

/// A text that both databases take.
fn kept(text: &str) -> Option<Box<str>> {
    let fits = !text.is_empty() && text.len() <= MAX_TEXT_BYTES && !text.contains('\0');
    fits.then(|| text.into())
}

#[cfg(test)]
mod tests {
    use wxhost_wechat::envelope::Format;

    use super::*;

    const NOW: i64 = 1_700_000_000_500;

    fn observed(fields: &str) -> Option<UserAction> {
        let body = format!(
            "<xml><ToUserName>gh_1</ToUserName><FromUserName>oA</FromUserName>{fields}</xml>"
        );
        let tree = Format::Xml.parse(body.as_bytes()).unwrap();
        let message = Message::from_tree(tree).unwrap();
        UserAction::of(&AppId::parse("wx01").unwrap(), &message, NOW)
    }

    #[track_caller]
    fn check(fields: &str, act: Option<Act>) {
        let fields = format!("<CreateTime>1700000000</CreateTime>{fields}");
        assert_eq!(
            observed(&fields).map(|observed| observed.act),
            act,
            "{fields}"
        );
    }

    fn event(name: &str, rest: &str) -> String {
        format!("<MsgType>event</MsgType><Event>{name}</Event>{rest}")
    }

    #[test]
    fn each_kind_of_event_tells_what_the_contact_did() {
        let menu = |grants| Some(Act::Menu { grants });
        let follow = |scene: Option<&str>| {
            let scene = scene.map(Into::into);
            Some(Act::Follow { scene })
        };
        check(
            "<MsgType>text</MsgType><Content>a</Content>",
            Some(Act::Message),
        );
        check("<MsgType>new-kind</MsgType>", Some(Act::Message));
        check(&event("subscribe", ""), follow(None));
        let scene = "<EventKey>qrscene_shop</EventKey><Ticket>t</Ticket>";
        check(&event("subscribe", scene), follow(Some("shop")));
        check(&event("unsubscribe", ""), Some(Act::Unfollow));
        check(&event("SCAN", "<EventKey>7</EventKey>"), Some(Act::Scan));
        check(&event("CLICK", "<EventKey>k</EventKey>"), menu(true));
        check(&event("VIEW", "<EventKey>u</EventKey>"), menu(false));
        check(&event("TEMPLATESENDJOBFINISH", "<MsgID>1</MsgID>"), None);
        check(&event("something_new", ""), None);
    }

    #[test]
    fn a_time_ahead_of_ours_or_none_is_taken_as_now() {
        let text = "<MsgType>text</MsgType><Content>a</Content>";
        for (time, expected) in [
            ("<CreateTime>1700000000</CreateTime>", 1_700_000_000_000),
            ("<CreateTime>99999999999999999</CreateTime>", NOW),
            ("<CreateTime>1700000002</CreateTime>", NOW),
            ("", NOW),
        ] {
            assert_eq!(observed(&format!("{time}{text}")).unwrap().at_ms, expected);
        }
    }
}
