//! Passive replies, made from plain words.

pub use crate::bindings::wxhost::plugin::reply::{Article, Music, Reply, Video};

impl Reply {
    /// Text, 2,048 bytes of UTF-8 at most. Line feeds are shown; `<a href="…">…</a>` makes a link.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// An image, by media id.
    pub fn image(media_id: impl Into<String>) -> Self {
        Self::Image(media_id.into())
    }

    /// A voice message, by media id.
    pub fn voice(media_id: impl Into<String>) -> Self {
        Self::Voice(media_id.into())
    }

    /// A video, by media id, with its title and description (both may be empty).
    pub fn video(
        media_id: impl Into<String>,
        title: impl Into<String>,
        description: impl Into<String>,
    ) -> Self {
        Self::Video(Video {
            media_id: media_id.into(),
            title: title.into(),
            description: description.into(),
            thumb_media_id: String::new(),
        })
    }

    /// Articles: WeChat shows 1 when a user's message is answered, 8 at most otherwise; more are cut.
    pub fn news(articles: impl IntoIterator<Item = Article>) -> Self {
        Self::News(articles.into_iter().collect())
    }

    /// Hands the chat over to human customer service: to whoever is free.
    #[must_use]
    pub fn customer_service() -> Self {
        Self::TransferCustomerService(None)
    }

    /// Hands the chat over to one agent, by account, such as `test1@test`.
    pub fn customer_service_agent(account: impl Into<String>) -> Self {
        Self::TransferCustomerService(Some(account.into()))
    }
}

impl From<Video> for Reply {
    fn from(video: Video) -> Self {
        Self::Video(video)
    }
}

impl Video {
    /// A video without title, description and cover.
    pub fn new(media_id: impl Into<String>) -> Self {
        Self {
            media_id: media_id.into(),
            title: String::new(),
            description: String::new(),
            thumb_media_id: String::new(),
        }
    }

    /// The same with a cover, by media id: without one, WeChat takes no video that is answered late.
    #[must_use]
    pub fn cover(mut self, media_id: impl Into<String>) -> Self {
        self.thumb_media_id = media_id.into();
        self
    }
}

impl From<Music> for Reply {
    fn from(music: Music) -> Self {
        Self::Music(music)
    }
}

impl Article {
    /// An article that leads to `url`, with neither description nor picture.
    pub fn new(title: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            description: String::new(),
            pic_url: String::new(),
            url: url.into(),
        }
    }

    /// The same with the text under the headline.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// The same with a picture, JPG or PNG, 360 × 200 pixels.
    #[must_use]
    pub fn picture(mut self, url: impl Into<String>) -> Self {
        self.pic_url = url.into();
        self
    }
}
