//! Requests of tenants' systems that are signed in the place of bearing their key.

use anyhow::{Context, Result, ensure};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wxhost_tests::api::WechatApi;
use wxhost_tests::host::Host;
use wxhost_tests::{secrets, wait};

use crate::office;
use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    BOTH: a_signed_request_is_good_once_and_as_it_was_signed;
    SHARED: a_signed_request_is_good_at_one_host;
}

/// A system that never sends its key.
struct Signer {
    app_id: String,
    id: String,
    secret: String,
}

/// A request as it was signed.
#[derive(Clone)]
struct Signed {
    target: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Signer {
    async fn open(stage: &Stage, host: &Host, api: &WechatApi) -> Result<Self> {
        let tenant = host.admin().add_tenant().await?;
        let nothing = (&json!({}), &json!({}));
        let account = office::admit(stage, host, api, &tenant, nothing).await?;
        let wanted = json!({"tenant_id": tenant, "grants": ["push"]});
        let made = host.admin().post("/api/v1/keys", &wanted).await?;
        let text = |name: &str| made[name].as_str().context("a text").map(str::to_owned);
        for secret in ["key", "signing_secret"] {
            secrets::remember(&text(secret)?);
        }
        Ok(Self {
            app_id: account.app_id().to_owned(),
            id: text("id")?,
            secret: text("signing_secret")?,
        })
    }

    /// A push, signed so many seconds from now.
    fn sign(&self, ahead: i64) -> Result<Signed> {
        let body = json!({"recipients": ["oA"], "data": {"content": "hi"}}).to_string();
        let target = format!("/api/v1/accounts/{}/push/text", self.app_id);
        let timestamp = jiff::Timestamp::now().as_second() + ahead;
        let (timestamp, nonce) = (timestamp.to_string(), secrets::letters(16)?);
        let digest = hex::encode(Sha256::digest(&body));
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(self.secret.as_bytes())?;
        for part in ["POST", &target, &timestamp, &nonce, &digest] {
            mac.update(format!("{part}\n").as_bytes());
        }
        let signature = hex::encode(mac.finalize().into_bytes());
        let headers = vec![
            ("x-wxhost-key-id", self.id.clone()),
            ("x-wxhost-timestamp", timestamp),
            ("x-wxhost-nonce", nonce),
            ("x-wxhost-content-sha256", digest),
            ("x-wxhost-signature", signature),
        ];
        Ok(Signed {
            target,
            headers,
            body,
        })
    }
}

impl Signed {
    fn with(&self, name: &str, value: &str) -> Self {
        let mut signed = self.clone();
        for header in &mut signed.headers {
            if header.0 == name {
                value.clone_into(&mut header.1);
            }
        }
        signed
    }

    async fn send(&self, host: &Host) -> Result<(u16, Value)> {
        let url = format!("{}{}", host.base(), self.target);
        let request = host.http().request(Method::POST, url);
        let request = request.header("content-type", "application/json");
        let request = self.headers.iter().fold(request, |request, (name, value)| {
            request.header(*name, value)
        });
        let answer = request.body(self.body.clone()).send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    }

    async fn expect(&self, host: &Host, status: u16, code: &str) -> Result<()> {
        let (given, answer) = self.send(host).await?;
        ensure!(
            given == status && answer["error"]["code"] == code,
            "{given}: {answer}"
        );
        Ok(())
    }
}

async fn a_signed_request_is_good_once_and_as_it_was_signed(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let host = &site.host().await?;
    let signer = Signer::open(&stage, host, &api).await?;
    let signed = signer.sign(0)?;
    let (status, push) = signed.send(host).await?;
    ensure!(status == 202 && push["recipients"] == 1, "{status}: {push}");
    signed.expect(host, 401, "nonce-used").await?;
    // Whatever is changed of it, it is no longer what was signed.
    let mut other = signer.sign(0)?;
    other.body = other.body.replace("oA", "oB");
    other.expect(host, 401, "signature-refused").await?;
    let mut other = signer.sign(0)?;
    other.target.push_str("?a=1");
    other.expect(host, 401, "signature-refused").await?;
    let fresh = signer.sign(0)?;
    for (name, value) in [
        ("x-wxhost-nonce", "0123456789abcdef"),
        ("x-wxhost-nonce", "short"),
        ("x-wxhost-timestamp", "1"),
        ("x-wxhost-timestamp", "soon"),
        ("x-wxhost-key-id", "key-none"),
        ("x-wxhost-content-sha256", ""),
        ("x-wxhost-signature", "00"),
        ("x-wxhost-signature", "no hex"),
    ] {
        let spoilt = fresh.with(name, value);
        spoilt.expect(host, 401, "signature-refused").await?;
    }
    for ahead in [-301, 301] {
        let untimely = signer.sign(ahead)?;
        untimely.expect(host, 401, "signature-refused").await?;
    }
    // What was refused has used no nonce up.
    let (status, push) = fresh.send(host).await?;
    ensure!(status == 202, "{status}: {push}");
    // A key's end is its signatures' end.
    let path = format!("/api/v1/keys/{}", signer.id);
    host.admin().call(Method::DELETE, &path, None).await?;
    signer.sign(0)?.expect(host, 401, "signature-refused").await
}

async fn a_signed_request_is_good_at_one_host(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let (host, other) = (&site.host().await?, site.host().await?);
    let signer = Signer::open(&stage, host, &api).await?;
    wait::until("a host that knows the key", wait::SOON, async || {
        Ok((signer.sign(0)?.send(&other).await?.0 == 202).then_some(()))
    })
    .await?;
    for _ in 0..10 {
        let signed = signer.sign(0)?;
        let (one, two) = tokio::join!(signed.send(host), signed.send(&other));
        let mut statuses = [one?.0, two?.0];
        statuses.sort_unstable();
        ensure!(statuses == [202, 401], "{statuses:?}");
    }
    Ok(())
}
