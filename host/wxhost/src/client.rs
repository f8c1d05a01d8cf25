//! The admin API of a running host, as the command line's verbs use it.

use std::{fmt, io::Write, path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Args;
use reqwest::{Method, Url};
use serde::Serialize;
use serde_json::Value;

/// Long enough to compile a large component.
const TIMEOUT: Duration = Duration::from_secs(180);

/// Which host, and by what right.
#[derive(Args)]
pub(crate) struct Connection {
    /// The host's address.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "WXHOST_SERVER",
        default_value = "http://127.0.0.1:8080"
    )]
    server: Url,
    /// The host's admin token.
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "WXHOST_ADMIN_TOKEN",
        hide_env_values = true
    )]
    admin_token: Option<String>,
    /// Prints what the host answers, as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("server", &self.server.as_str())
            .finish_non_exhaustive()
    }
}

/// A client of one host.
pub(crate) struct Client {
    http: reqwest::Client,
    server: Url,
    admin_token: String,
}

impl Connection {
    /// A client of this host.
    pub(crate) fn client(&self) -> Result<Client> {
        let admin_token = self
            .admin_token
            .clone()
            .context("no admin token: give --admin-token or set WXHOST_ADMIN_TOKEN")?;
        Ok(Client {
            http: reqwest::Client::builder().timeout(TIMEOUT).build()?,
            server: self.server.clone(),
            admin_token,
        })
    }
}

impl Client {
    /// A client of a host on this machine: no proxy stands between, whatever the environment says.
    pub(crate) fn of_local(server: Url, admin_token: &str) -> Result<Self> {
        Ok(Self {
            http: reqwest::Client::builder()
                .timeout(TIMEOUT)
                .no_proxy()
                .build()?,
            server,
            admin_token: admin_token.to_owned(),
        })
    }

    /// `GET /api/v1/<path>?<query>`; parts of the query that are `None` are left out.
    pub(crate) async fn get(&self, path: &[&str], query: &[(&str, Option<&str>)]) -> Result<Value> {
        self.call(self.http.get(self.url_with(path, query)?)).await
    }

    fn url_with(&self, path: &[&str], query: &[(&str, Option<&str>)]) -> Result<Url> {
        let mut url = self.url(path)?;
        for (name, value) in query {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        Ok(url)
    }

    /// `POST /api/v1/<path>?<query>` without a body.
    pub(crate) async fn post_with(
        &self,
        path: &[&str],
        query: &[(&str, Option<&str>)],
    ) -> Result<Value> {
        let url = self.url_with(path, query)?;
        self.call(self.http.post(url)).await
    }

    /// `DELETE /api/v1/<path>?<query>`.
    pub(crate) async fn delete_with(
        &self,
        path: &[&str],
        query: &[(&str, Option<&str>)],
    ) -> Result<Value> {
        let url = self.url_with(path, query)?;
        self.call(self.http.delete(url)).await
    }

    /// `POST /api/v1/<path>`.
    pub(crate) async fn post(&self, path: &[&str], body: &impl Serialize) -> Result<Value> {
        self.send(Method::POST, path, body).await
    }

    /// `PUT /api/v1/<path>`.
    pub(crate) async fn put(&self, path: &[&str], body: &impl Serialize) -> Result<Value> {
        self.send(Method::PUT, path, body).await
    }

    /// `PATCH /api/v1/<path>`.
    pub(crate) async fn patch(&self, path: &[&str], body: &impl Serialize) -> Result<Value> {
        self.send(Method::PATCH, path, body).await
    }

    /// `DELETE /api/v1/<path>`.
    pub(crate) async fn delete(&self, path: &[&str]) -> Result<Value> {
        let url = self.url(path)?;
        self.call(self.http.delete(url)).await
    }

    async fn send(&self, method: Method, path: &[&str], body: &impl Serialize) -> Result<Value> {
        let url = self.url(path)?;
        self.call(self.http.request(method, url).json(body)).await
    }

    async fn call(&self, request: reqwest::RequestBuilder) -> Result<Value> {
        let response = request
            .bearer_auth(&self.admin_token)
            .send()
            .await
            .with_context(|| format!("cannot reach the host at {}", self.server))?;
        let status = response.status();
        let text = response.text().await.context("the answer broke off")?;
        let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(body);
        }
        let error = &body["error"];
        match error["message"].as_str() {
            Some(message) => bail!(
                "{message} ({}, request {})",
                error["code"].as_str().unwrap_or_default(),
                error["request_id"].as_str().unwrap_or_default(),
            ),
            None => bail!("the host answered {status}"),
        }
    }

    /// Segments are escaped, so an id with a slash stays one.
    fn url(&self, path: &[&str]) -> Result<Url> {
        let mut url = self.server.clone();
        url.path_segments_mut()
            .ok()
            .context("--server must be an http:// or https:// address")?
            .pop_if_empty()
            .extend(["api", "v1"])
            .extend(path);
        Ok(url)
    }
}

/// A value from the command line; `@FILE` stands for what the file holds, so that secrets need not
/// show in the list of processes.
pub(crate) fn value_or_file(given: &str) -> Result<String> {
    match given.strip_prefix('@') {
        None => Ok(given.to_owned()),
        Some(path) => std::fs::read_to_string(path)
            .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
            .with_context(|| format!("cannot read {path}")),
    }
}

/// A JSON document from the command line: the document itself, or a file that holds it.
pub(crate) fn json_or_file(given: &str) -> Result<Box<serde_json::value::RawValue>> {
    let is_document = given.trim_start().starts_with(['{', '[', '"']);
    let text = if is_document && !Path::new(given).exists() {
        given.to_owned()
    } else {
        std::fs::read_to_string(given).with_context(|| format!("cannot read {given}"))?
    };
    serde_json::from_str(&text).with_context(|| format!("{given} is not a JSON document"))
}

/// Tells on standard error why a verb failed.
pub(crate) fn complain(error: &anyhow::Error) {
    // There is nobody else to tell.
    let _ = writeln!(std::io::stderr(), "wxhost: {error:#}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(server: &str) -> Client {
        let connection = Connection {
            server: server.parse().unwrap(),
            admin_token: Some(String::from("token")),
            json: false,
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        connection.client().unwrap()
    }

    #[test]
    fn addresses_are_put_together_and_escaped() {
        for (server, path, expected) in [
            ("http://h:1", &["tenants"][..], "http://h:1/api/v1/tenants"),
            ("http://h:1/", &["tenants"], "http://h:1/api/v1/tenants"),
            (
                "https://h/in/",
                &["calls", "a/b"],
                "https://h/in/api/v1/calls/a%2Fb",
            ),
        ] {
            assert_eq!(client(server).url(path).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn documents_are_given_or_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.json");
        std::fs::write(&file, r#"{"a": 1}"#).unwrap();
        let read = json_or_file(file.to_str().unwrap()).unwrap();
        assert_eq!(read.get(), r#"{"a": 1}"#);
        assert_eq!(json_or_file(r#"{"b":2}"#).unwrap().get(), r#"{"b":2}"#);
        assert!(json_or_file("{oops").is_err());
        assert!(json_or_file("no-such-file.json").is_err());

        let secret = directory.path().join("secret");
        std::fs::write(&secret, "s3cret\n").unwrap();
        let given = format!("@{}", secret.display());
        assert_eq!(value_or_file(&given).unwrap(), "s3cret");
        assert_eq!(value_or_file("plain").unwrap(), "plain");
    }
}
