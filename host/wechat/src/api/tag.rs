//! Tags of followers (用户标签管理).
//!
//! An account has 100 tags, a user 20; ids 0 to 2 are WeChat's own. What can be known here is checked
//! here; the counts are WeChat's to keep (45056, 45059).

use serde::{Deserialize, Serialize};

use super::limit::{self, InvalidCall};
use super::user::Page;
use super::{Call, Done, Request, answer};
use crate::id::OpenId;

/// Most bytes of a tag's name.
pub const MAX_NAME_BYTES: usize = 30;
/// Most users that are tagged at once.
pub const MAX_OPEN_IDS: usize = 50;
/// The smallest id of an account's own tags.
pub const FIRST_OWN_ID: u32 = 3;

/// `POST /cgi-bin/tags/create`.
#[derive(Clone, Debug, Serialize)]
pub struct Create {
    /// Its name, unique in the account.
    pub name: String,
}

/// `GET /cgi-bin/tags/get`: all tags.
#[derive(Clone, Copy, Debug)]
pub struct List;

/// `POST /cgi-bin/tags/update`: gives a tag another name.
#[derive(Clone, Debug, Serialize)]
pub struct Rename {
    /// The tag.
    pub id: u32,
    /// Its new name.
    pub name: String,
}

/// `POST /cgi-bin/tags/delete`: one of at most 100,000 followers.
#[derive(Clone, Debug, Serialize)]
pub struct Delete {
    /// The tag.
    pub id: u32,
}

/// `POST /cgi-bin/user/tag/get`: the followers of a tag, page by page.
#[derive(Clone, Debug, Serialize)]
pub struct Followers {
    /// The tag.
    #[serde(rename = "tagid")]
    pub id: u32,
    /// [`Page::next`] of the page before; None for the first page.
    #[serde(rename = "next_openid", serialize_with = "super::user::or_empty")]
    pub next: Option<OpenId>,
}

/// `POST /cgi-bin/tags/members/batchtagging`: gives a tag to users.
#[derive(Clone, Debug, Serialize)]
pub struct Add {
    /// Whom, [`MAX_OPEN_IDS`] at most.
    #[serde(rename = "openid_list")]
    pub open_ids: Vec<OpenId>,
    /// The tag.
    #[serde(rename = "tagid")]
    pub id: u32,
}

/// `POST /cgi-bin/tags/members/batchuntagging`: takes a tag from users.
#[derive(Clone, Debug, Serialize)]
pub struct Remove {
    /// From whom, [`MAX_OPEN_IDS`] at most.
    #[serde(rename = "openid_list")]
    pub open_ids: Vec<OpenId>,
    /// The tag.
    #[serde(rename = "tagid")]
    pub id: u32,
}

/// `POST /cgi-bin/tags/getidlist`: the tags of a user.
#[derive(Clone, Debug, Serialize)]
pub struct OfUser {
    /// Whose.
    #[serde(rename = "openid")]
    pub open_id: OpenId,
}

/// A tag.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Tag {
    /// Its id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// How many users have it.
    #[serde(default, deserialize_with = "answer::number")]
    pub count: u64,
}

/// A tag that was made.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Created {
    /// The tag.
    pub tag: Tag,
}

/// All tags.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Tags {
    /// The tags.
    pub tags: Vec<Tag>,
}

/// The tags of a user.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct TagIds {
    /// Their ids.
    #[serde(rename = "tagid_list")]
    pub ids: Vec<u32>,
}

#[derive(Serialize)]
struct Body<'a, T> {
    tag: &'a T,
}

impl Call for Create {
    type Answer = Created;

    fn request(&self) -> Result<Request, InvalidCall> {
        check_name(&self.name)?;
        Request::post("/cgi-bin/tags/create", &Body { tag: self })
    }
}

impl Call for List {
    type Answer = Tags;

    fn request(&self) -> Result<Request, InvalidCall> {
        Ok(Request::get("/cgi-bin/tags/get"))
    }
}

impl Call for Rename {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        check_own(self.id)?;
        check_name(&self.name)?;
        Request::ask("/cgi-bin/tags/update", &Body { tag: self })
    }
}

impl Call for Delete {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        check_own(self.id)?;
        Request::post("/cgi-bin/tags/delete", &Body { tag: self })
    }
}

impl Call for Followers {
    type Answer = Page;

    fn request(&self) -> Result<Request, InvalidCall> {
        Request::ask("/cgi-bin/user/tag/get", self)
    }
}

impl Call for Add {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::items("openid_list", &self.open_ids, 1..=MAX_OPEN_IDS)?;
        Request::ask("/cgi-bin/tags/members/batchtagging", self)
    }
}

impl Call for Remove {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::items("openid_list", &self.open_ids, 1..=MAX_OPEN_IDS)?;
        Request::ask("/cgi-bin/tags/members/batchuntagging", self)
    }
}

impl Call for OfUser {
    type Answer = TagIds;

    fn request(&self) -> Result<Request, InvalidCall> {
        Request::ask("/cgi-bin/tags/getidlist", self)
    }
}

fn check_name(name: &str) -> Result<(), InvalidCall> {
    limit::bytes("tag.name", name, 1..=MAX_NAME_BYTES)
}

fn check_own(id: u32) -> Result<(), InvalidCall> {
    limit::range("tag.id", id, FIRST_OWN_ID.into()..=u32::MAX.into())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, line, refused};
    use super::*;

    fn users(count: usize) -> Vec<OpenId> {
        vec![OpenId::parse("oA").unwrap(); count]
    }

    #[test]
    fn requests_are_the_documents() {
        let name = "广东".to_owned();
        let next = OpenId::parse("oB").unwrap();
        let check = |line: String, expected: &str| assert_eq!(line, expected);
        check(
            line(&Create { name: name.clone() }),
            r#"POST /cgi-bin/tags/create {"tag":{"name":"广东"}}"#,
        );
        check(line(&List), "GET /cgi-bin/tags/get");
        check(
            line(&Rename { id: 134, name }),
            r#"POST /cgi-bin/tags/update {"tag":{"id":134,"name":"广东"}}"#,
        );
        check(
            line(&Delete { id: 134 }),
            r#"POST /cgi-bin/tags/delete {"tag":{"id":134}}"#,
        );
        check(
            line(&Followers {
                id: 134,
                next: None,
            }),
            r#"POST /cgi-bin/user/tag/get {"tagid":134,"next_openid":""}"#,
        );
        check(
            line(&Followers {
                id: 134,
                next: Some(next),
            }),
            r#"POST /cgi-bin/user/tag/get {"tagid":134,"next_openid":"oB"}"#,
        );
        check(
            line(&Add {
                open_ids: users(2),
                id: 134,
            }),
            r#"POST /cgi-bin/tags/members/batchtagging {"openid_list":["oA","oA"],"tagid":134}"#,
        );
        check(
            line(&Remove {
                open_ids: users(1),
                id: 134,
            }),
            r#"POST /cgi-bin/tags/members/batchuntagging {"openid_list":["oA"],"tagid":134}"#,
        );
        check(
            line(&OfUser {
                open_id: users(1).remove(0),
            }),
            r#"POST /cgi-bin/tags/getidlist {"openid":"oA"}"#,
        );
    }

    #[test]
    fn answers_are_read() {
        let create = Create {
            name: "广东".into(),
        };
        let created = answer(&create, r#"{"tag":{"id":134,"name":"广东"}}"#);
        assert_eq!((created.tag.id, &*created.tag.name), (134, "广东"));
        let all = answer(
            &List,
            r#"{"tags":[{"id":2,"name":"星标组","count":0},{"id":127,"name":"广东","count":5}]}"#,
        );
        assert_eq!((all.tags.len(), all.tags[1].count), (2, 5));
        let of_user = OfUser {
            open_id: users(1).remove(0),
        };
        assert_eq!(answer(&of_user, r#"{"tagid_list":[134,2]}"#).ids, [134, 2]);
    }

    #[test]
    fn limits_hold() {
        let check = |refusal: String, expected: &str| assert_eq!(refusal, expected);
        check(
            refused(&Create {
                name: "标".repeat(11),
            }),
            "tag.name has 33 bytes, 1 to 30 are allowed",
        );
        check(
            refused(&Create {
                name: String::new(),
            }),
            "tag.name has 0 bytes, 1 to 30 are allowed",
        );
        check(
            refused(&Delete { id: 2 }),
            "tag.id is 2, 3 to 4294967295 is allowed",
        );
        check(
            refused(&Rename {
                id: 0,
                name: "a".into(),
            }),
            "tag.id is 0, 3 to 4294967295 is allowed",
        );
        let add = Add {
            open_ids: users(51),
            id: 134,
        };
        check(
            refused(&add),
            "openid_list has 51 items, 1 to 50 are allowed",
        );
        let remove = Remove {
            open_ids: users(0),
            id: 134,
        };
        check(
            refused(&remove),
            "openid_list has 0 items, 1 to 50 are allowed",
        );
    }
}
