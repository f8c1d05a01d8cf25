//! Requests that are signed in the place of bearing a key: whoever reads one on its way, in a proxy's log or a
//! trace, can make no other.

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::random;

/// How every signing secret begins.
const PREFIX: &str = "wxs_";
/// Random bytes of one.
const SECRET_BYTES: usize = 32;

/// What a tenant's system signs with: given out once, with its key, and sealed at rest.
#[derive(Clone, Debug)]
pub struct SigningSecret(SecretString);

/// What is signed of a request.
#[derive(Clone, Copy, Debug)]
pub struct SignedRequest<'a> {
    /// Such as `POST`.
    pub method: &'a str,
    /// Path and query, as they stand in the request line.
    pub target: &'a str,
    /// Unix seconds.
    pub timestamp: &'a str,
    /// Different in each request.
    pub nonce: &'a str,
    /// SHA-256 of the body, in hex.
    pub body_digest: &'a str,
}

impl SigningSecret {
    /// A new one.
    pub(super) fn generate() -> Self {
        let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
        random::fill(bytes.as_mut());
        let digits = Zeroizing::new(hex::encode(bytes.as_ref()));
        Self(format!("{PREFIX}{}", digits.as_str()).into())
    }

    /// One that was opened.
    pub(super) fn opened(text: SecretString) -> Self {
        Self(text)
    }

    /// Itself.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether a signature, in hex, is this request's.
    pub fn verifies(&self, request: SignedRequest<'_>, signature: &str) -> bool {
        let Ok(signature) = hex::decode(signature) else {
            return false;
        };
        self.mac(request).verify_slice(&signature).is_ok()
    }

    fn mac(&self, request: SignedRequest<'_>) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(self.expose().as_bytes())
            .expect("HMAC takes a key of any length");
        let SignedRequest {
            method,
            target,
            timestamp,
            nonce,
            body_digest,
        } = request;
        for part in [method, target, timestamp, nonce, body_digest] {
            mac.update(part.as_bytes());
            mac.update(b"\n");
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: SignedRequest<'_> = SignedRequest {
        method: "POST",
        target: "/api/v1/accounts/wx01/push/text",
        timestamp: "1700000000",
        nonce: "0123456789abcdef",
        body_digest: "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    };

    #[test]
    fn a_signature_is_what_openssl_makes() {
        // printf '%s\n' POST /api/v1/accounts/wx01/push/text 1700000000 0123456789abcdef "$(printf '{}' |
        // sha256sum | cut -d' ' -f1)" | openssl dgst -sha256 -hmac wxs_secret
        let secret = SigningSecret::opened(SecretString::from("wxs_secret"));
        let signature = "51b9d1aafd4bd1e2e3a8986c624d07807f4b359c31b54a58ebfdb7c1b3b474df";
        assert!(secret.verifies(REQUEST, signature));
    }

    #[test]
    fn everything_is_signed() {
        let secret = SigningSecret::generate();
        let signature = hex::encode(secret.mac(REQUEST).finalize().into_bytes());
        assert!(secret.verifies(REQUEST, &signature));
        for other in [
            SignedRequest {
                method: "GET",
                ..REQUEST
            },
            SignedRequest {
                target: "/api/v1/accounts/wx02/push/text",
                ..REQUEST
            },
            SignedRequest {
                timestamp: "1700000001",
                ..REQUEST
            },
            SignedRequest {
                nonce: "0123456789abcdee",
                ..REQUEST
            },
            SignedRequest {
                body_digest: "",
                ..REQUEST
            },
        ] {
            assert!(!secret.verifies(other, &signature), "{other:?}");
        }
        assert!(!secret.verifies(REQUEST, "no hex"));
        assert!(!SigningSecret::generate().verifies(REQUEST, &signature));
        assert!(!format!("{secret:?}").contains(&secret.expose()[4..]));
    }
}
