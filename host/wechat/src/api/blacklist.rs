//! The blacklist (黑名单管理): whom an account wants to hear nothing from.

use serde::Serialize;

use super::limit::{self, InvalidCall};
use super::user::Page;
use super::{Call, Done, Request};
use crate::id::OpenId;

/// Most users that are put on or taken off at once.
pub const MAX_OPEN_IDS: usize = 20;

/// `POST /cgi-bin/tags/members/getblacklist`: who is on it, page by page.
#[derive(Clone, Debug, Default, Serialize)]
pub struct List {
    /// [`Page::next`] of the page before; None for the first page.
    #[serde(rename = "begin_openid", serialize_with = "super::user::or_empty")]
    pub next: Option<OpenId>,
}

/// `POST /cgi-bin/tags/members/batchblacklist`: puts users on it.
#[derive(Clone, Debug, Serialize)]
pub struct Add {
    /// Whom, [`MAX_OPEN_IDS`] at most.
    #[serde(rename = "openid_list")]
    pub open_ids: Vec<OpenId>,
}

/// `POST /cgi-bin/tags/members/batchunblacklist`: takes users off it.
#[derive(Clone, Debug, Serialize)]
pub struct Remove {
    /// Whom, [`MAX_OPEN_IDS`] at most.
    #[serde(rename = "openid_list")]
    pub open_ids: Vec<OpenId>,
}

impl Call for List {
    type Answer = Page;

    fn request(&self) -> Result<Request, InvalidCall> {
        Request::ask("/cgi-bin/tags/members/getblacklist", self)
    }
}

impl Call for Add {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::items("openid_list", &self.open_ids, 1..=MAX_OPEN_IDS)?;
        Request::ask("/cgi-bin/tags/members/batchblacklist", self)
    }
}

impl Call for Remove {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::items("openid_list", &self.open_ids, 1..=MAX_OPEN_IDS)?;
        Request::ask("/cgi-bin/tags/members/batchunblacklist", self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, line, refused};
    use super::*;

    #[test]
    fn requests_are_the_documents() {
        let open_ids = vec![OpenId::parse("oA").unwrap()];
        let check = |line: String, expected: &str| assert_eq!(line, expected);
        check(
            line(&List::default()),
            r#"POST /cgi-bin/tags/members/getblacklist {"begin_openid":""}"#,
        );
        check(
            line(&Add {
                open_ids: open_ids.clone(),
            }),
            r#"POST /cgi-bin/tags/members/batchblacklist {"openid_list":["oA"]}"#,
        );
        check(
            line(&Remove { open_ids }),
            r#"POST /cgi-bin/tags/members/batchunblacklist {"openid_list":["oA"]}"#,
        );
        let page = answer(
            &List::default(),
            r#"{"total":1,"count":1,"data":{"openid":["oA"]},"next_openid":"oA"}"#,
        );
        assert_eq!((page.open_ids.len(), page.next), (1, None));
    }

    #[test]
    fn limits_hold() {
        let open_ids = vec![OpenId::parse("oA").unwrap(); 21];
        let expected = "openid_list has 21 items, 1 to 20 are allowed";
        assert_eq!(
            refused(&Add {
                open_ids: open_ids.clone()
            }),
            expected
        );
        assert_eq!(refused(&Remove { open_ids }), expected);
    }
}
