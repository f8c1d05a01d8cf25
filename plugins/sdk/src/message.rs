//! Messages that a plugin sends by effects, beside the passive reply. They leave the host after the
//! event's effects are committed, once each.
//!
//! ```
//! use wxhost_sdk::message::{CustomerMessage, TemplateMessage};
//! use wxhost_sdk::prelude::*;
//!
//! pub struct Orders;
//!
//! impl CallbackHandler for Orders {
//!     fn on_text(event: &Event, _: &Text) -> Result {
//!         let done = TemplateMessage::new("oBoss", "TEMPLATE-ID")
//!             .field("first", "An order came in")
//!             .url("https://shop.example.com/orders");
//!         Ok(Outcome::reply(Reply::text("One moment …"))
//!             .send(CustomerMessage::text(&event.open_id, "Your order is on its way."))
//!             .send(done))
//!     }
//! }
//! # use wxhost_sdk::testing::{self, TestHost};
//! # let mut host = TestHost::new();
//! # host.deliver::<Orders>(&testing::text("order"));
//! # assert_eq!(host.sent().len(), 2);
//! ```

use crate::outcome::Effect;

pub use crate::bindings::wxhost::plugin::messages::{
    Body, CustomerMessage, Link, Menu, MenuChoice, MiniProgram, MiniProgramPage, Music,
    SubscriptionMessage, TemplateMessage, Video,
};

impl CustomerMessage {
    /// A customer-service message (客服消息). WeChat takes it only for a time after the person did
    /// something; the host knows and does not try in vain.
    pub fn new(open_id: impl Into<String>, body: impl Into<Body>) -> Self {
        Self {
            open_id: open_id.into(),
            body: body.into(),
            kf_account: None,
            expires_at: None,
        }
    }

    /// Text of 1 to 2,048 bytes of UTF-8.
    pub fn text(open_id: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(open_id, Body::Text(text.into()))
    }

    /// An image, by media id.
    pub fn image(open_id: impl Into<String>, media_id: impl Into<String>) -> Self {
        Self::new(open_id, Body::Image(media_id.into()))
    }

    /// In the name of a customer-service account, such as `test1@test`.
    #[must_use]
    pub fn agent(mut self, account: impl Into<String>) -> Self {
        self.kf_account = Some(account.into());
        self
    }

    /// Not sent after this time: Unix milliseconds, three days ahead at most.
    #[must_use]
    pub fn expires_at(mut self, at_ms: u64) -> Self {
        self.expires_at = Some(at_ms);
        self
    }
}

impl Menu {
    /// A menu message with nothing to choose yet.
    pub fn new(head: impl Into<String>, tail: impl Into<String>) -> Self {
        Self {
            head: head.into(),
            choices: Vec::new(),
            tail: tail.into(),
        }
    }

    /// With a choice, whose id comes back when it is tapped.
    #[must_use]
    pub fn choice(mut self, id: impl Into<String>, content: impl Into<String>) -> Self {
        self.choices.push(MenuChoice {
            id: id.into(),
            content: content.into(),
        });
        self
    }
}

impl TemplateMessage {
    /// A template message (模板消息) to a follower, with no data yet.
    pub fn new(open_id: impl Into<String>, template_id: impl Into<String>) -> Self {
        Self {
            open_id: open_id.into(),
            template_id: template_id.into(),
            data: Vec::new(),
            url: None,
            mini_program: None,
            expires_at: None,
        }
    }

    /// Not sent after this time: Unix milliseconds, three days ahead at most.
    #[must_use]
    pub fn expires_at(mut self, at_ms: u64) -> Self {
        self.expires_at = Some(at_ms);
        self
    }

    /// With a value; the name without `.DATA`.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.data.push((name.into(), value.into()));
        self
    }

    /// A tap leads to this page.
    #[must_use]
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// A tap leads into this mini program, where the client can open it.
    #[must_use]
    pub fn mini_program(mut self, app_id: impl Into<String>, page_path: impl Into<String>) -> Self {
        self.mini_program = Some(MiniProgram::new(app_id, page_path));
        self
    }
}

impl SubscriptionMessage {
    /// A subscription notice (订阅通知) to who has accepted such a one, with no data yet.
    pub fn new(open_id: impl Into<String>, template_id: impl Into<String>) -> Self {
        Self {
            open_id: open_id.into(),
            template_id: template_id.into(),
            data: Vec::new(),
            page: None,
            mini_program: None,
            expires_at: None,
        }
    }

    /// Not sent after this time: Unix milliseconds, three days ahead at most.
    #[must_use]
    pub fn expires_at(mut self, at_ms: u64) -> Self {
        self.expires_at = Some(at_ms);
        self
    }

    /// With a value; the name such as `thing1`.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.data.push((name.into(), value.into()));
        self
    }

    /// A tap leads to this page.
    #[must_use]
    pub fn page(mut self, url: impl Into<String>) -> Self {
        self.page = Some(url.into());
        self
    }

    /// A tap leads into this mini program, where the client can open it.
    #[must_use]
    pub fn mini_program(mut self, app_id: impl Into<String>, page_path: impl Into<String>) -> Self {
        self.mini_program = Some(MiniProgram::new(app_id, page_path));
        self
    }
}

impl MiniProgram {
    /// A page of a mini program.
    pub fn new(app_id: impl Into<String>, page_path: impl Into<String>) -> Self {
        Self {
            app_id: app_id.into(),
            page_path: page_path.into(),
        }
    }
}

impl From<Video> for Body {
    fn from(video: Video) -> Self {
        Self::Video(video)
    }
}

impl From<Music> for Body {
    fn from(music: Music) -> Self {
        Self::Music(music)
    }
}

impl From<Link> for Body {
    fn from(link: Link) -> Self {
        Self::Link(link)
    }
}

impl From<Menu> for Body {
    fn from(menu: Menu) -> Self {
        Self::Menu(menu)
    }
}

impl From<MiniProgramPage> for Body {
    fn from(page: MiniProgramPage) -> Self {
        Self::MiniProgramPage(page)
    }
}

impl From<CustomerMessage> for Effect {
    fn from(message: CustomerMessage) -> Self {
        Self::SendMessage(message)
    }
}

impl From<TemplateMessage> for Effect {
    fn from(message: TemplateMessage) -> Self {
        Self::SendTemplate(message)
    }
}

impl From<SubscriptionMessage> for Effect {
    fn from(message: SubscriptionMessage) -> Self {
        Self::SendSubscription(message)
    }
}
