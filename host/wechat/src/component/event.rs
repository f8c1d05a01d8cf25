//! What WeChat tells a platform at its event URL (授权事件接收URL).

use crate::api::component::Secret;
use crate::body::{BodyError, Format};
use crate::id::AppId;

/// Something that a platform is told.
#[derive(Clone, Debug)]
pub struct Event {
    /// The platform.
    pub component_app_id: AppId,
    /// When it happened, Unix seconds. Of two that contradict each other the later one counts.
    pub create_time: u64,
    /// What it is.
    pub told: Told,
}

/// What a platform is told.
#[derive(Clone, Debug)]
pub enum Told {
    /// `component_verify_ticket`: what the platform's token is got with; every ten minutes.
    Ticket(Secret),
    /// `authorized`, and `updateauthorized` where the permission sets have changed: the account has a new
    /// code, and a new refresh token comes for it.
    Authorised {
        /// The account.
        app_id: AppId,
        /// Good for one exchange. The redirect of the same authorisation brings the same one.
        code: Secret,
        /// What the authorisation began with.
        pre_auth_code: Option<Secret>,
        /// Whether it was authorised before.
        is_update: bool,
    },
    /// `unauthorized`: the account lets the platform serve it no more.
    Withdrawn {
        /// The account.
        app_id: AppId,
    },
    /// Of a kind that is not known here.
    Other {
        /// InfoType.
        kind: String,
    },
}

/// Why a body is no event of a platform.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EventError {
    /// It can't be read.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// A field is missing, or not of its form.
    #[error("{0} is missing or malformed")]
    Field(&'static str),
}

impl Told {
    /// InfoType.
    pub fn kind(&self) -> &str {
        match self {
            Self::Ticket(_) => "component_verify_ticket",
            Self::Authorised {
                is_update: false, ..
            } => "authorized",
            Self::Authorised {
                is_update: true, ..
            } => "updateauthorized",
            Self::Withdrawn { .. } => "unauthorized",
            Self::Other { kind } => kind,
        }
    }

    /// The account that it is about.
    pub fn app_id(&self) -> Option<&AppId> {
        match self {
            Self::Authorised { app_id, .. } | Self::Withdrawn { app_id } => Some(app_id),
            Self::Ticket(_) | Self::Other { .. } => None,
        }
    }
}

impl Event {
    /// Reads a body in clear.
    ///
    /// # Errors
    ///
    /// It is no XML or JSON, or what every event or one of this kind has is missing.
    pub fn read(body: &[u8]) -> Result<Self, EventError> {
        let tree = Format::of(body).parse(body)?;
        let text = |name: &'static str| tree.text(name).filter(|text| !text.is_empty());
        let app_id = |name: &'static str| {
            let id = text(name).ok_or(EventError::Field(name))?;
            AppId::parse(id).map_err(|_| EventError::Field(name))
        };
        let secret = |name: &'static str| {
            let value = text(name).ok_or(EventError::Field(name))?;
            Secret::parse(value).map_err(|_| EventError::Field(name))
        };
        let kind = text("InfoType").ok_or(EventError::Field("InfoType"))?;
        let told = match kind {
            "component_verify_ticket" => Told::Ticket(secret("ComponentVerifyTicket")?),
            "authorized" | "updateauthorized" => Told::Authorised {
                app_id: app_id("AuthorizerAppid")?,
                code: secret("AuthorizationCode")?,
                pre_auth_code: secret("PreAuthCode").ok(),
                is_update: kind == "updateauthorized",
            },
            "unauthorized" => Told::Withdrawn {
                app_id: app_id("AuthorizerAppid")?,
            },
            other => Told::Other {
                kind: other.to_owned(),
            },
        };
        let create_time = text("CreateTime").and_then(|time| time.trim().parse().ok());
        Ok(Self {
            component_app_id: app_id("AppId")?,
            create_time: create_time.ok_or(EventError::Field("CreateTime"))?,
            told,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(info_type: &str, rest: &str) -> Result<Event, EventError> {
        let body = format!(
            "<xml><AppId>wx0c</AppId><CreateTime>1413192760</CreateTime>\
             <InfoType>{info_type}</InfoType>{rest}</xml>"
        );
        Event::read(body.as_bytes())
    }

    #[test]
    fn events_are_told_apart() {
        let ticket = event(
            "component_verify_ticket",
            "<ComponentVerifyTicket>ticket@@@1</ComponentVerifyTicket>",
        );
        let ticket = ticket.unwrap();
        assert_eq!(ticket.create_time, 1_413_192_760);
        assert!(matches!(ticket.told, Told::Ticket(ticket) if ticket.expose() == "ticket@@@1"));

        let code = "<AuthorizerAppid>wx01</AuthorizerAppid><AuthorizationCode>q@@@1</AuthorizationCode>\
             <AuthorizationCodeExpiredTime>600</AuthorizationCodeExpiredTime>";
        for (kind, expected) in [("authorized", false), ("updateauthorized", true)] {
            let told = event(kind, code).unwrap().told;
            assert_eq!(told.kind(), kind);
            assert_eq!(told.app_id().unwrap().as_str(), "wx01");
            let Told::Authorised {
                is_update,
                pre_auth_code,
                ..
            } = told
            else {
                panic!("{kind}")
            };
            assert_eq!((is_update, pre_auth_code.is_none()), (expected, true));
        }
        let withdrawn = event("unauthorized", "<AuthorizerAppid>wx01</AuthorizerAppid>");
        assert!(matches!(withdrawn.unwrap().told, Told::Withdrawn { .. }));
        let other = event("notify_third_fasteregister", "<appid>wx9</appid>");
        assert_eq!(other.unwrap().told.kind(), "notify_third_fasteregister");
    }

    #[test]
    fn what_is_missing_is_named() {
        let field = |result: Result<Event, EventError>| match result {
            Err(EventError::Field(name)) => name,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            field(event("component_verify_ticket", "")),
            "ComponentVerifyTicket"
        );
        assert_eq!(field(event("authorized", "")), "AuthorizerAppid");
        assert_eq!(
            field(event(
                "authorized",
                "<AuthorizerAppid>wx01</AuthorizerAppid>"
            )),
            "AuthorizationCode"
        );
        assert_eq!(field(event("", "")), "InfoType");
        assert_eq!(
            field(Event::read(
                b"<xml><AppId>wx0c</AppId><InfoType>x</InfoType></xml>"
            )),
            "CreateTime"
        );
        assert!(matches!(
            Event::read(b"no xml"),
            Err(EventError::Body(_) | EventError::Field(_))
        ));
    }
}
