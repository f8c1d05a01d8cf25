//! The kinds of what is sent, and the one table of what is true of each.

use serde::{Deserialize, Serialize};

/// What kind of thing is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An answer that came too late to be passive, as a customer-service message.
    LateAnswer,
    /// A customer-service message.
    CustomerMessage,
    /// A template message.
    Template,
    /// A subscription notice.
    Subscription,
    /// A tag that is given or taken.
    Tags,
    /// The account's remark of a contact.
    Remark,
}

/// What is true of a kind.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// As it is stored and shown.
    pub name: &'static str,
    /// WeChat takes only so many of them after the contact did something.
    pub is_counted: bool,
    /// A contact who opted out does not get it. A late answer was asked for.
    pub heeds_opt_out: bool,
    /// What makes a repetition harmless.
    pub idempotence: Idempotence,
    /// WeChat answers with an id of the message.
    pub reads_msgid: bool,
    /// How it travels.
    pub transport: Transport,
    /// What it goes out in order with.
    pub order: Order,
}

/// What makes it harmless to send the same thing twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idempotence {
    /// Nothing: the contact sees it twice.
    None,
    /// `client_msg_id`: within ten minutes WeChat sends it once.
    ClientMsgId,
    /// It ends the same however often it is done.
    Nature,
}

/// How something travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// The account's API, with its access token.
    AccountApi,
}

/// Things for one contact that go out one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Messages that the contact sees. One that waits for its API does not hold up those of another.
    Seen,
    /// Tags: one that is given and then taken must be taken last.
    Tags,
    /// Nothing but its own kind.
    Own,
}

impl Order {
    /// The APIs whose rows stand in one order; empty where each API has its own.
    pub fn paths(self) -> &'static [&'static str] {
        match self {
            Self::Seen => &[
                "/cgi-bin/message/custom/send",
                "/cgi-bin/message/template/send",
                "/cgi-bin/message/subscribe/bizsend",
            ],
            Self::Tags => &[
                "/cgi-bin/tags/members/batchtagging",
                "/cgi-bin/tags/members/batchuntagging",
            ],
            Self::Own => &[],
        }
    }

    /// Which one `path` belongs to.
    pub fn of_path(path: &str) -> Self {
        let orders = [Self::Seen, Self::Tags];
        let found = orders
            .into_iter()
            .find(|order| order.paths().contains(&path));
        found.unwrap_or(Self::Own)
    }
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::LateAnswer,
        Self::CustomerMessage,
        Self::Template,
        Self::Subscription,
        Self::Tags,
        Self::Remark,
    ];

    /// What is true of it.
    pub const fn facts(self) -> Facts {
        /// A customer-service message; the others are told by how they differ.
        const CHAT: Facts = Facts {
            name: "customer-message",
            is_counted: true,
            heeds_opt_out: true,
            idempotence: Idempotence::None,
            reads_msgid: false,
            transport: Transport::AccountApi,
            order: Order::Seen,
        };
        match self {
            Self::CustomerMessage => CHAT,
            Self::LateAnswer => Facts {
                name: "late-answer",
                heeds_opt_out: false,
                ..CHAT
            },
            Self::Template => Facts {
                name: "template",
                is_counted: false,
                idempotence: Idempotence::ClientMsgId,
                reads_msgid: true,
                ..CHAT
            },
            Self::Subscription => Facts {
                name: "subscription",
                is_counted: false,
                reads_msgid: true,
                ..CHAT
            },
            Self::Tags => Facts {
                name: "tags",
                is_counted: false,
                heeds_opt_out: false,
                idempotence: Idempotence::Nature,
                order: Order::Tags,
                ..CHAT
            },
            Self::Remark => Facts {
                name: "remark",
                is_counted: false,
                heeds_opt_out: false,
                idempotence: Idempotence::Nature,
                order: Order::Own,
                ..CHAT
            },
        }
    }

    /// As it is stored and shown.
    pub const fn as_str(self) -> &'static str {
        self.facts().name
    }

    /// None for a kind that only a newer host knows.
    pub(super) fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_name_of_its_own_and_counts_as_the_documents_say() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of(kind.as_str()), Some(kind));
            assert_eq!(serde_json::json!(kind), kind.as_str());
        }
        let of = |holds: fn(Facts) -> bool| {
            let kinds = Kind::ALL.into_iter().filter(|kind| holds(kind.facts()));
            kinds.map(Kind::as_str).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(|kind| kind.is_counted), "late-answer customer-message");
        assert_eq!(
            of(|kind| kind.heeds_opt_out),
            "customer-message template subscription"
        );
        assert_eq!(of(|kind| kind.reads_msgid), "template subscription");
        assert_eq!(
            of(|kind| kind.idempotence == Idempotence::None),
            "late-answer customer-message subscription"
        );
        assert_eq!(
            Order::of_path("/cgi-bin/message/template/send"),
            Order::Seen
        );
        assert_eq!(Order::of_path("/else"), Order::Own);
    }
}
