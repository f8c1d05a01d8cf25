//! A deployment's secrets: their values, and to which origins each may go.
//!
//! They are stored sealed, the origins in the same box as the values: whoever can write to the database
//! but lacks the master key cannot send a secret elsewhere by changing its origins.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use wxhost_runtime::{Origin, Wanted};
use zeroize::Zeroizing;

/// Secrets of one deployment.
const MAX_SECRETS: usize = 32;

/// Bytes of a secret's name.
const MAX_NAME_BYTES: usize = 64;

/// Bytes of a secret.
const MAX_SECRET_BYTES: usize = 4 << 10;

/// Origins of one secret.
const MAX_ORIGINS: usize = 16;

/// Under this name, which no secret can have, the origins stand beside the values: a host of the version
/// before reads them as one more secret that no plugin can name.
const ORIGINS: &str = ":origins";

/// A secret as its tenant gives it.
#[derive(Clone, Debug)]
pub struct GivenSecret {
    /// The secret.
    pub value: SecretString,
    /// Where it may go; if absent, to every host that the plugin's manifest names.
    pub origins: Option<Vec<String>>,
}

/// The secrets of a deployment, by name.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<String, Secret>);

/// A secret, and where it may go.
#[derive(Clone)]
pub struct Secret {
    value: SecretString,
    origins: Vec<Origin>,
}

/// The origins as they are stored.
#[derive(Deserialize, Serialize)]
#[serde(transparent)]
struct StoredOrigins(BTreeMap<String, Vec<Origin>>);

impl Secrets {
    /// Takes what a tenant gives, for a plugin that asks for so much.
    ///
    /// # Errors
    /// What is too many, too long, misnamed or no origin; never the secret itself.
    pub fn of(given: BTreeMap<String, GivenSecret>, wanted: &Wanted) -> Result<Self, String> {
        check(&given)?;
        let mut secrets = BTreeMap::new();
        for (name, GivenSecret { value, origins }) in given {
            let origins = match &origins {
                None => named_by(wanted),
                Some(texts) => origins_of(&name, texts)?,
            };
            secrets.insert(name, Secret { value, origins });
        }
        Ok(Self(secrets))
    }

    /// Reads what [`Secrets::to_stored`] wrote. Secrets of a deployment that was made before they had
    /// origins go to the hosts that its manifest names.
    ///
    /// # Errors
    /// It is not what it should be.
    pub fn from_stored(stored: &[u8], wanted: &Wanted) -> Result<Self, serde_json::Error> {
        let mut values: BTreeMap<String, SecretString> =
            serde_json::from_slice::<BTreeMap<String, String>>(stored)?
                .into_iter()
                .map(|(name, value)| (name, value.into()))
                .collect();
        let mut origins = match values.remove(ORIGINS) {
            None => None,
            Some(text) => {
                let stored: StoredOrigins = serde_json::from_str(text.expose_secret())?;
                Some(stored.0)
            }
        };
        let secrets = values.into_iter().map(|(name, value)| {
            let origins = match &mut origins {
                None => named_by(wanted),
                Some(origins) => origins.remove(&name).unwrap_or_default(),
            };
            (name, Secret { value, origins })
        });
        Ok(Self(secrets.collect()))
    }

    /// As they are put into their box.
    ///
    /// # Errors
    /// None that texts and lists can cause.
    pub fn to_stored(&self) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
        let origins = self.0.iter();
        let origins = origins.map(|(name, secret)| (name.clone(), secret.origins.clone()));
        let origins = serde_json::to_string(&StoredOrigins(origins.collect()))?;
        let values = self.0.iter();
        let mut values: BTreeMap<&str, &str> = values
            .map(|(name, secret)| (&**name, secret.value.expose_secret()))
            .collect();
        values.insert(ORIGINS, &origins);
        serde_json::to_vec(&values).map(Zeroizing::new)
    }

    /// Whether there is one of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The one of this name, with its name.
    pub(crate) fn get(&self, name: &str) -> Option<(&str, &Secret)> {
        let (name, secret) = self.0.get_key_value(name)?;
        Some((name, secret))
    }

    /// Where each may go.
    pub fn origins(&self) -> impl Iterator<Item = (&str, &[Origin])> {
        let secrets = self.0.iter();
        secrets.map(|(name, secret)| (&**name, &*secret.origins))
    }
}

impl Secret {
    /// The secret itself.
    pub(crate) fn expose(&self) -> &str {
        self.value.expose_secret()
    }

    /// Whether it may go to this scheme, host and port.
    pub(crate) fn may_go_to(&self, tls: bool, host: &str, port: u16) -> bool {
        let origins = &mut self.origins.iter();
        origins.any(|origin| origin.covers(tls, host, port))
    }
}

/// Checks what a tenant gives, before anything costly is done with its plugin.
///
/// # Errors
/// As for [`Secrets::of`].
pub fn check(given: &BTreeMap<String, GivenSecret>) -> Result<(), String> {
    if given.len() > MAX_SECRETS {
        return Err(format!("there may be at most {MAX_SECRETS}"));
    }
    for (name, given) in given {
        if !is_name(name) {
            return Err(format!(
                "a name must be 1 to {MAX_NAME_BYTES} of letters, digits, _, - and ."
            ));
        }
        if given.value.expose_secret().len() > MAX_SECRET_BYTES {
            return Err(format!("{name} has more than {MAX_SECRET_BYTES} bytes"));
        }
        if let Some(texts) = &given.origins {
            origins_of(name, texts)?;
        }
    }
    Ok(())
}

/// Names and origins; no values.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.origins()).finish()
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed)
}

/// The hosts that a manifest names. One that asks for any host names none: a secret for such a plugin
/// says by itself where it may go.
fn named_by(wanted: &Wanted) -> Vec<Origin> {
    let named = wanted.egress.iter().filter(|origin| origin.names_a_host());
    named.cloned().collect()
}

fn origins_of(name: &str, texts: &[String]) -> Result<Vec<Origin>, String> {
    if !(1..=MAX_ORIGINS).contains(&texts.len()) {
        return Err(format!("{name}: origins: there must be 1 to {MAX_ORIGINS}"));
    }
    let origin_of = |text: &String| match text.parse::<Origin>() {
        Ok(origin) if origin.names_a_host() => Ok(origin),
        Ok(_) => Err(format!(
            "{name}: origins: {text:?} names no host: say which"
        )),
        Err(error) => Err(format!("{name}: origins: {error}")),
    };
    texts.iter().map(origin_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(egress: &[&str]) -> Wanted {
        Wanted {
            egress: egress.iter().map(|text| text.parse().unwrap()).collect(),
            ..Wanted::default()
        }
    }

    fn given(name: &str, value: &str, origins: Option<&[&str]>) -> BTreeMap<String, GivenSecret> {
        let origins = origins.map(|texts| texts.iter().map(|&text| text.to_owned()).collect());
        let value = value.into();
        [(name.to_owned(), GivenSecret { value, origins })].into()
    }

    fn shown(secrets: &Secrets) -> String {
        format!("{secrets:?}").replace("Origin", "")
    }

    #[test]
    fn a_secret_goes_where_it_is_said_or_else_where_the_manifest_says() {
        let asks = wanted(&["https://erp.example", "http://*", "http://b.example:8080"]);
        let secrets = Secrets::of(given("key", "v", None), &asks).unwrap();
        let (_, key) = secrets.get("key").unwrap();
        assert!(key.may_go_to(true, "erp.example", 443));
        assert!(key.may_go_to(false, "b.example", 8080));
        assert!(!key.may_go_to(false, "any.example", 80));
        assert!(!key.may_go_to(false, "erp.example", 80));
        let secrets = Secrets::of(given("key", "v", Some(&["https://c.example"])), &asks).unwrap();
        let (_, key) = secrets.get("key").unwrap();
        assert!(key.may_go_to(true, "c.example", 443));
        assert!(!key.may_go_to(true, "erp.example", 443));
    }

    #[test]
    fn what_is_stored_comes_back_with_its_origins() {
        let asks = wanted(&["https://erp.example"]);
        let secrets = given("key", "hush", Some(&["https://c.example"]));
        let secrets = Secrets::of(secrets, &asks).unwrap();
        let stored = secrets.to_stored().unwrap();
        let back = Secrets::from_stored(&stored, &asks).unwrap();
        assert_eq!(shown(&back), shown(&secrets));
        assert_eq!(back.get("key").unwrap().1.expose(), "hush");
        assert!(!back.contains(ORIGINS));
        assert!(!shown(&back).contains("hush"));
        // A host of the version before reads texts by name.
        let before: BTreeMap<String, String> = serde_json::from_slice(&stored).unwrap();
        assert_eq!(before["key"], "hush");
        assert!(!is_name(ORIGINS));
    }

    #[test]
    fn secrets_from_before_they_had_origins_go_to_the_hosts_of_the_manifest() {
        let asks = wanted(&["https://erp.example", "https://*"]);
        let secrets = Secrets::from_stored(br#"{"key":"v"}"#, &asks).unwrap();
        let (_, key) = secrets.get("key").unwrap();
        assert!(key.may_go_to(true, "erp.example", 443));
        assert!(!key.may_go_to(true, "evil.example", 443));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_the_secret_in_the_reason() {
        let asks = wanted(&[]);
        let long = "hush".repeat(1025);
        for (secrets, part) in [
            (given("a b", "hush", None), "a name must be"),
            (given(ORIGINS, "hush", None), "a name must be"),
            (given("a", &long, None), "a has more than 4096"),
            (given("a", "hush", Some(&[])), "there must be 1 to 16"),
            (
                given("a", "hush", Some(&["https://a.example"; 17])),
                "there must be 1 to 16",
            ),
            (
                given("a", "hush", Some(&["https://*"])),
                "names no host: say which",
            ),
            (given("a", "hush", Some(&["ftp://a"])), "is not an origin"),
        ] {
            let reason = Secrets::of(secrets, &asks).unwrap_err();
            assert!(reason.contains(part), "{reason}");
            assert!(!reason.contains("hush"), "{reason}");
        }
    }
}
