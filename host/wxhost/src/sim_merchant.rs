//! The merchant of `wxhost sim serve`: invented, with its keys in files as the merchant platform gives them out.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::transcript;

/// Its number (商户号).
const MERCHANT: &str = "1900000001";

/// Invents a merchant for the accounts, puts its keys into `directory`, and shows the commands by which a host is
/// told of it.
pub(crate) async fn invent(api: &str, app_ids: &[&str], directory: &Path) -> Result<()> {
    let http = Client::builder().no_proxy().build()?;
    let merchant = json!({"mch_id": MERCHANT, "app_ids": app_ids});
    let url = format!("{api}/_sim/merchants");
    let answer = http.post(url).json(&merchant).send().await?;
    let status = answer.status();
    ensure!(status == StatusCode::OK, "no merchant was made: {status}");
    let console: Value = answer.json().await?;
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    for (name, content) in [
        ("apiclient_key.pem", &console["private_key"]),
        ("apiclient_cert.pem", &console["certificate"]),
        ("pub_key.pem", &console["public_key"]["pem"]),
        ("v3_key", &console["v3_key"]),
    ] {
        let path = directory.join(name);
        let content = content.as_str().context("a key")?;
        std::fs::write(&path, content)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let (keys, key_id) = (directory.display(), &console["public_key"]["id"]);
    let key_id = key_id.as_str().context("the id of a key")?;
    transcript::say(&format!(
        "  a merchant, whose keys are in {keys}; the host is told of it with\n    \
         wxhost merchant add {MERCHANT} --tenant … --public-url http://127.0.0.1:8080 \\\n      \
         --v3-key @{keys}/v3_key --private-key @{keys}/apiclient_key.pem \\\n      \
         --certificate @{keys}/apiclient_cert.pem --public-key @{keys}/pub_key.pem \\\n      \
         --public-key-id {key_id}"
    ));
    for app_id in app_ids {
        transcript::say(&format!(
            "    wxhost merchant bind {MERCHANT} {app_id} --refunds"
        ));
    }
    transcript::say(&format!(
        "  somebody pays with  curl {api}/_sim/pay -d '{{\"mch_id\": \"{MERCHANT}\", \"out_trade_no\": \"…\"}}'"
    ));
    Ok(())
}
