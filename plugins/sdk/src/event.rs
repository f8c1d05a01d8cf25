//! Events as typed values: what a user wrote, or what happened.
//!
//! Fields that WeChat left out are empty, zero or absent. What WeChat sent beyond the typed fields is in
//! [`Event::extra`].

pub use crate::bindings::wxhost::plugin::callback::{
    Content, CustomerService, Device, Event, Field, File, GuideScan, Image, Link, Location,
    LocationSelect, MassSent, MediaCheck, MiniProgramPage, Other, PictureSource, Pictures,
    Position, Published, Scan, ScanCode, SessionChange, Subscribe, Subscription, SubscriptionSent,
    TemplateSent, Text, UserData, UserDataChange, Verification, Video, View, Voice,
};

impl Event {
    /// A field of [`extra`](Event::extra) by its path, such as `MsgDataId` or `PicList.item[0].PicMd5Sum`.
    #[must_use]
    pub fn field(&self, path: &str) -> Option<&str> {
        let field = self.extra.iter().find(|field| field.path == path)?;
        Some(&field.value)
    }
}
