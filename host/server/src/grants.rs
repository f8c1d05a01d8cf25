//! What an account's plugin may reach: what its manifest asks for *and* the operator grants to the
//! account; and of WeChat's API nothing that gives away or resets a token, a ticket or a secret, whoever
//! grants it.

mod path;

use serde::{Deserialize, Serialize};
use wxhost_runtime::{Origin, PathPrefix, Wanted};

pub use self::path::{ApiPath, PathError};
use crate::egress::Target;

/// Entries of a list of grants.
const MAX_ENTRIES: usize = 64;

/// What an operator grants, as it is said and stored. Nothing, unless said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OperatorGrants {
    /// Beginnings of paths of WeChat's API, in whole segments, such as `/cgi-bin/menu/`.
    #[schema(example = json!(["/cgi-bin/menu/"]))]
    pub api: Vec<String>,
    /// Origins of the tenant's own systems, such as `https://shop.example` or
    /// `http://shop.example:8080`; a host alone is meant with `https`.
    #[schema(example = json!(["https://shop.example"]))]
    pub egress: Vec<String>,
}

impl OperatorGrants {
    /// Refuses lists that are too long and entries that cannot be meant: the reason, for the operator.
    pub fn check(&self) -> Result<(), String> {
        for (what, entries) in [("api", &self.api), ("egress", &self.egress)] {
            if entries.len() > MAX_ENTRIES {
                return Err(format!("{what} has more than {MAX_ENTRIES} entries"));
            }
        }
        for text in &self.api {
            let prefix: PathPrefix = text.parse().map_err(|error| format!("api: {error}"))?;
            check_prefix(&prefix)?;
        }
        for text in &self.egress {
            let origin: Origin = text.parse().map_err(|error| format!("egress: {error}"))?;
            if !origin.names_a_host() {
                return Err(format!("egress: {text:?} names no host: say which"));
            }
        }
        Ok(())
    }
}

/// What an operator grants, ready to be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    api: Vec<PathPrefix>,
    egress: Vec<Origin>,
}

impl From<&OperatorGrants> for Grants {
    /// A stored entry that cannot be read any more grants nothing.
    fn from(said: &OperatorGrants) -> Self {
        Self {
            api: said
                .api
                .iter()
                .filter_map(|text| text.parse().ok())
                .collect(),
            egress: said
                .egress
                .iter()
                .filter_map(|text| text.parse().ok())
                .collect(),
        }
    }
}

impl Grants {
    /// What a stored list grants.
    pub(crate) fn from_stored(stored: &str) -> Result<Self, serde_json::Error> {
        let said: OperatorGrants = serde_json::from_str(stored)?;
        Ok(Self::from(&said))
    }

    /// Whether a plugin may call a path of WeChat's API. Only paths in plain form are ever granted, so
    /// nothing can mean one thing here and another at WeChat's.
    pub fn allows_api(&self, wanted: &Wanted, path: &ApiPath) -> bool {
        let path = path.as_str();
        wanted.api.iter().any(|prefix| prefix.covers(path))
            && self.api.iter().any(|prefix| prefix.covers(path))
            && never(path).is_none()
    }

    /// Whether a plugin may send a request to a host. Its address is checked by `egress` when it is
    /// connected to.
    pub fn allows_egress(&self, wanted: &Wanted, target: &Target<'_>) -> bool {
        let covers = |origin: &Origin| origin.covers(target.tls, target.host, target.port);
        wanted.egress.iter().any(covers) && self.egress.iter().any(covers)
    }

    /// What a plugin asks for and does not get, or not in full. A plugin that asks for any host gets what
    /// it asked for with the first one that is granted.
    pub fn missing(&self, wanted: &Wanted) -> Wanted {
        let api = wanted.api.iter().filter(|asked| {
            let granted = self.api.iter().any(|given| given.covers_prefix(asked));
            !granted
        });
        let egress = wanted.egress.iter().filter(|asked| {
            let granted = self
                .egress
                .iter()
                .any(|given| given.covers_origin(asked) || asked.covers_origin(given));
            !granted
        });
        Wanted {
            api: api.cloned().collect(),
            egress: egress.cloned().collect(),
            // What an account may do with money stands with its merchants.
            pay: Vec::new(),
        }
    }
}

/// Refuses a manifest that asks for what nobody can grant: the reason, for the plugin's author.
pub fn check_wanted(wanted: &Wanted) -> Result<(), String> {
    wanted.api.iter().try_for_each(check_prefix)
}

fn check_prefix(prefix: &PathPrefix) -> Result<(), String> {
    match never(prefix.as_path()) {
        Some(why) => Err(format!("api: {prefix} can't be granted: it {why}")),
        None => Ok(()),
    }
}

/// Paths that nothing grants, with what lies below them, and why. The token APIs are WeChat's
/// documents 获取接口调用凭据, 网页授权 and 第三方平台.
const NEVER: [(&str, &str); 6] = [
    ("/cgi-bin/ticket", "returns a ticket"),
    ("/cgi-bin/clear_quota/v2", "takes the AppSecret"),
    // Tokens, authorisation codes and refresh tokens of every account that a platform holds.
    (
        "/cgi-bin/component",
        "is a platform's, for all of its accounts",
    ),
    // A new mini program's authorisation code.
    (
        "/cgi-bin/account/fastregister",
        "returns an authorisation code",
    ),
    // Every call of the account can be looked up: its URL with the token in it, its body, its answer.
    (
        "/cgi-bin/openapi/rid",
        "shows other calls, with their tokens",
    ),
    // User tokens by code and by refresh token, session keys; all of it is the host's login lane.
    ("/sns", "returns users' tokens and session keys"),
];

/// What is never part of a segment's name, and why: WeChat names what returns or resets such a thing for
/// it, today's (`stable_token`, `openplugin/token`, `resetusersessionkey`) and tomorrow's.
const NEVER_NAMED: [(&str, &str); 4] = [
    ("token", "returns or resets a token"),
    ("getticket", "returns a ticket"),
    ("secret", "returns or resets a secret"),
    ("sessionkey", "returns or resets a session key"),
];

/// Why nobody can grant a path, to a plugin or to a tenant's system; nothing where somebody can. Letters count alike in both cases, in case
/// WeChat does not tell them apart.
pub(crate) fn never(path: &str) -> Option<&'static str> {
    let path = path.to_ascii_lowercase();
    let below = |root: &str| {
        let rest = path.strip_prefix(root);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let listed = NEVER.iter().find(|(root, _)| below(root));
    let plain = path.replace(['_', '-'], "");
    let named = NEVER_NAMED.iter().find(|(name, _)| plain.contains(name));
    listed.or(named).map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(api: &[&str], egress: &[&str]) -> OperatorGrants {
        OperatorGrants {
            api: api.iter().map(|&text| text.into()).collect(),
            egress: egress.iter().map(|&text| text.into()).collect(),
        }
    }

    fn wanted(api: &[&str], egress: &[&str]) -> Wanted {
        Wanted {
            api: api.iter().map(|text| text.parse().unwrap()).collect(),
            egress: egress.iter().map(|text| text.parse().unwrap()).collect(),
            ..Wanted::default()
        }
    }

    #[test]
    fn grants_that_cannot_be_meant_are_refused() {
        for (grants, expected) in [
            (said(&[], &[]), ""),
            (said(&["/cgi-bin/menu/"], &["shop.example"]), ""),
            (said(&["/cgi-bin"], &["http://10.0.0.1:8080"]), ""),
            (said(&["cgi-bin"], &[]), "\"cgi-bin\" is not a path prefix"),
            (said(&["/"], &[]), "\"/\" is not a path prefix"),
            (said(&[""], &[]), "api: \"\" is not"),
            (said(&[], &["a b"]), "egress: \"a b\" is not"),
            (said(&[], &["https://*"]), "names no host"),
            (said(&["/a"; MAX_ENTRIES + 1], &[]), "more than 64"),
            (said(&["/cgi-bin/token"], &[]), "can't be granted"),
        ] {
            let refusal = grants.check().err().unwrap_or_default();
            assert!(refusal.contains(expected), "{refusal}");
            assert_eq!(refusal.is_empty(), expected.is_empty(), "{refusal}");
        }
    }

    fn allowed(grants: &Grants, wanted: &Wanted, path: &str) -> bool {
        ApiPath::parse(path).is_ok_and(|path| grants.allows_api(wanted, &path))
    }

    #[test]
    fn a_path_is_allowed_where_both_say_so() {
        let wanted = wanted(&["/cgi-bin/tags/", "/cgi-bin/user/info"], &[]);
        for (granted, path, allowed) in [
            (["/cgi-bin/tags/"], "/cgi-bin/tags/get", true),
            (["/cgi-bin/tags/get"], "/cgi-bin/tags/get", true),
            (["/cgi-bin/"], "/cgi-bin/tags/get", true),
            // Granted and not asked for; asked for and not granted; neither.
            (["/cgi-bin/"], "/cgi-bin/menu/get", false),
            (["/cgi-bin/tags/get"], "/cgi-bin/tags/create", false),
            (["/cgi-bin/menu/"], "/cgi-bin/draft/get", false),
        ] {
            let grants = Grants::from(&said(&granted, &[]));
            let found = self::allowed(&grants, &wanted, path);
            assert_eq!(found, allowed, "{granted:?} {path}");
        }
        let nobody = Grants::default();
        assert!(!allowed(&nobody, &wanted, "/cgi-bin/tags/get"));
    }

    #[test]
    fn a_path_that_walks_around_its_grant_is_not_allowed() {
        let wanted = wanted(&["/cgi-bin/"], &[]);
        let grants = Grants::from(&said(&["/cgi-bin/"], &[]));
        assert!(allowed(&grants, &wanted, "/cgi-bin/tags/get"));
        for path in [
            "/cgi-bin//token",
            "//cgi-bin/tags/get",
            "/cgi-bin/./token",
            "/cgi-bin/tags/../token",
            "/cgi-bin/tags/%2e%2e/token",
            "/cgi-bin/tags%2F..%2Ftoken",
            "/cgi-bin/%74oken",
            "/cgi-bin/tags/get?access_token=x",
            "/cgi-bin/tags/get#/token",
            "/cgi-bin/tags/get.",
            "/cgi-bin/tags/get/",
            "/cgi-bin/tags\\get",
            "/Cgi-Bin/tags/get",
            "user@api.weixin.qq.com/cgi-bin/tags/get",
        ] {
            assert!(!allowed(&grants, &wanted, path), "{path}");
        }
    }

    #[test]
    fn nobody_grants_a_token_a_ticket_or_a_secret() {
        let wanted = wanted(
            &["/cgi-bin", "/CGI-BIN", "/sns", "/wxa", "/bizwifi", "/SNS"],
            &[],
        );
        let everything = ["/cgi-bin", "/CGI-BIN", "/sns", "/wxa", "/bizwifi", "/SNS"];
        let grants = Grants::from(&said(&everything, &[]));
        for path in [
            "/cgi-bin/token",
            "/cgi-bin/Token",
            "/CGI-BIN/TOKEN",
            "/cgi-bin/stable_token",
            "/cgi-bin/ticket/getticket",
            "/cgi-bin/clear_quota/v2",
            "/cgi-bin/component/api_component_token",
            "/cgi-bin/component/api_query_auth",
            "/cgi-bin/component/api_get_authorizer_list",
            "/cgi-bin/account/fastregister",
            "/cgi-bin/openapi/rid/get",
            "/sns",
            "/sns/oauth2/access_token",
            "/sns/oauth2/refresh_token",
            "/sns/jscode2session",
            "/sns/userinfo",
            "/SNS/oauth2/access_token",
            "/bizwifi/openplugin/token",
            "/wxa/resetusersessionkey",
            "/wxa/reset_session-key",
        ] {
            assert!(!allowed(&grants, &wanted, path), "{path}");
            let asked = Wanted {
                api: vec![path.parse().unwrap()],
                ..Wanted::default()
            };
            let refusal = check_wanted(&asked).unwrap_err();
            assert!(refusal.contains(path), "{refusal}");
        }
        for path in [
            "/cgi-bin/tags/get",
            "/cgi-bin/clear_quota",
            "/cgi-bin/openapi/quota/get",
            "/cgi-bin/account/getaccountbasicinfo",
            "/cgi-bin/qrcode/create",
            "/cgi-bin/componentx",
            "/wxa/getwxacode",
        ] {
            assert!(allowed(&grants, &wanted, path), "{path}");
        }
    }

    #[test]
    fn a_host_is_allowed_where_both_say_so() {
        let one = wanted(&[], &["https://erp.example"]);
        let any = wanted(&[], &["https://*", "http://*"]);
        let grants = Grants::from(&said(&[], &["erp.example", "http://erp.example:8080"]));
        for (wanted, tls, host, port, allowed) in [
            (&one, true, "erp.example", 443, true),
            (&one, false, "erp.example", 80, false),
            (&one, false, "erp.example", 8080, false),
            (&any, true, "erp.example", 443, true),
            (&any, true, "erp.example", 8443, false),
            (&any, false, "erp.example", 8080, true),
            (&any, true, "erp.example.", 443, false),
            (&any, true, "evil.erp.example", 443, false),
            (&any, true, "evil.example", 443, false),
            (&any, false, "169.254.169.254", 80, false),
        ] {
            let target = Target { tls, host, port };
            assert_eq!(grants.allows_egress(wanted, &target), allowed, "{target:?}");
        }
        let target = Target {
            tls: true,
            host: "erp.example",
            port: 443,
        };
        assert!(!Grants::default().allows_egress(&any, &target));
        assert!(!grants.allows_egress(&Wanted::default(), &target));
    }

    #[test]
    fn what_is_asked_and_not_granted_is_shown() {
        let wanted = wanted(
            &["/cgi-bin/tags/", "/cgi-bin/user/info"],
            &["https://erp.example", "https://*", "http://*"],
        );
        let grants = Grants::from(&said(&["/cgi-bin/tags"], &["https://shop.example"]));
        let missing = grants.missing(&wanted);
        let shown: Vec<_> = missing.egress.iter().map(ToString::to_string).collect();
        assert_eq!(missing.api.len(), 1);
        assert_eq!(missing.api[0].as_path(), "/cgi-bin/user/info");
        assert_eq!(shown, ["https://erp.example", "http://*"]);
    }
}
