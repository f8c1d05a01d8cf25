//! What became of one recipient: a line of a block's results.

use std::fmt;

/// What became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet, after so many tries.
    Open {
        /// Tries that WeChat was too busy for, or that it did not answer.
        tries: u32,
        /// When the first of them began of which nobody knows what came; Unix milliseconds.
        unsure_at: Option<i64>,
    },
    /// WeChat took it.
    Sent {
        /// Which of the push's messages, counted from 0.
        way: u32,
        /// WeChat's id of the message, where it gives one.
        msgid: Option<String>,
        /// Whether it arrived.
        arrival: Arrival,
    },
    /// WeChat reviews it, and delivers or blocks it by itself.
    Held {
        /// WeChat's id of the message.
        msgid: Option<String>,
    },
    /// WeChat refused it, or it was tried too often: WeChat's code, or a word of ours.
    Failed(String),
    /// It was not tried: why.
    Skipped(String),
    /// Nobody knows whether it was sent.
    Unsure,
}

/// What WeChat told of a message that it took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Arrival {
    /// Nothing, so far or ever: it tells of templates and notices only.
    #[default]
    Untold,
    /// It was delivered.
    Delivered,
    /// It was not: why, in WeChat's words.
    Undelivered(String),
}

impl Outcome {
    /// Of a recipient who has not been tried.
    pub const FRESH: Self = Self::Open {
        tries: 0,
        unsure_at: None,
    };

    /// Whether the recipient still waits.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// As it is shown.
    pub fn state(&self) -> &'static str {
        match self {
            Self::Open { .. } => "queued",
            Self::Sent { arrival, .. } => match arrival {
                Arrival::Untold => "sent",
                Arrival::Delivered => "delivered",
                Arrival::Undelivered(_) => "undelivered",
            },
            Self::Held { .. } => "held",
            Self::Failed(_) => "failed",
            Self::Skipped(_) => "skipped",
            Self::Unsure => "unknown",
        }
    }

    /// WeChat's id of the message, where it took one.
    pub(super) fn msgid(&self) -> Option<i64> {
        match self {
            Self::Sent { msgid, .. } => msgid.as_deref()?.parse().ok(),
            _ => None,
        }
    }

    /// Reads the lines of a block.
    pub(super) fn parse_all(lines: &str) -> Vec<Self> {
        lines.split('\n').map(Self::parse).collect()
    }

    /// Reads a line. What another version wrote and this one does not know is unsure.
    pub fn parse(line: &str) -> Self {
        let mut rest = line.chars();
        let sign = rest.next();
        let rest = rest.as_str();
        let msgid = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        match sign {
            None => Self::FRESH,
            Some('~') => {
                let (tries, at) = rest.split_once(' ').unwrap_or((rest, ""));
                Self::Open {
                    tries: tries.parse().unwrap_or_default(),
                    unsure_at: at.parse().ok(),
                }
            }
            Some(sign @ ('s' | 'd' | 'u')) => {
                let (way, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let (id, why) = rest.split_once(' ').unwrap_or((rest, ""));
                Self::Sent {
                    way: way.parse().unwrap_or_default(),
                    msgid: msgid(id),
                    arrival: match sign {
                        'd' => Arrival::Delivered,
                        'u' => Arrival::Undelivered(why.to_owned()),
                        _ => Arrival::Untold,
                    },
                }
            }
            Some('h') => Self::Held { msgid: msgid(rest) },
            Some('f') => Self::Failed(rest.to_owned()),
            Some('k') => Self::Skipped(rest.to_owned()),
            Some(_) => Self::Unsure,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open {
                tries: 0,
                unsure_at: None,
            } => Ok(()),
            Self::Open {
                tries,
                unsure_at: None,
            } => write!(f, "~{tries}"),
            Self::Open {
                tries,
                unsure_at: Some(at),
            } => write!(f, "~{tries} {at}"),
            Self::Sent {
                way,
                msgid,
                arrival,
            } => {
                let id = msgid.as_deref().unwrap_or_default();
                match arrival {
                    Arrival::Untold if id.is_empty() => write!(f, "s{way}"),
                    Arrival::Untold => write!(f, "s{way} {id}"),
                    Arrival::Delivered => write!(f, "d{way} {id}"),
                    Arrival::Undelivered(why) => write!(f, "u{way} {id} {why}"),
                }
            }
            Self::Held { msgid } => write!(f, "h{}", msgid.as_deref().unwrap_or_default()),
            Self::Failed(why) => write!(f, "f{why}"),
            Self::Skipped(why) => write!(f, "k{why}"),
            Self::Unsure => f.write_str("?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_read_as_it_was_written() {
        let id = || Some("1234567890123456789".to_owned());
        for outcome in [
            Outcome::FRESH,
            Outcome::Open {
                tries: 3,
                unsure_at: None,
            },
            Outcome::Open {
                tries: 0,
                unsure_at: Some(1_700_000_000_000),
            },
            Outcome::Sent {
                way: 0,
                msgid: None,
                arrival: Arrival::Untold,
            },
            Outcome::Sent {
                way: 1,
                msgid: id(),
                arrival: Arrival::Untold,
            },
            Outcome::Sent {
                way: 1,
                msgid: id(),
                arrival: Arrival::Delivered,
            },
            Outcome::Sent {
                way: 0,
                msgid: id(),
                arrival: Arrival::Undelivered("failed:user block".into()),
            },
            Outcome::Held { msgid: id() },
            Outcome::Failed("45015".into()),
            Outcome::Skipped("opted-out".into()),
            Outcome::Unsure,
        ] {
            let line = outcome.to_string();
            assert!(!line.contains('\n'));
            assert_eq!(Outcome::parse(&line), outcome, "{line:?}");
        }
        assert_eq!(Outcome::parse("é"), Outcome::Unsure);
    }
}
