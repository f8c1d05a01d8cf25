//! Attacks and accidents against real servers on loopback addresses. Only the answers of DNS are ours.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::*;
use crate::secrets::GivenSecret;

/// Where the tests' back ends are, and the only network that is allowed.
const NEAR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
/// Stands for what must not be reached.
const INNER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The outside world's DNS: each name gives its answers one after the other, the last one for ever.
#[derive(Default)]
struct Names(Mutex<HashMap<String, VecDeque<Vec<IpAddr>>>>);

impl Names {
    fn with(self, name: &str, answers: &[&[Ipv4Addr]]) -> Self {
        let answers = answers.iter();
        let answers = answers.map(|answer| answer.iter().copied().map(IpAddr::V4).collect());
        self.0.lock().insert(name.to_owned(), answers.collect());
        self
    }
}

#[async_trait]
impl Resolve for Names {
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let mut names = self.0.lock();
        let answers = names.get_mut(host);
        let answers = answers.ok_or(io::Error::from(io::ErrorKind::NotFound))?;
        match answers.len() {
            1 => Ok(answers[0].clone()),
            _ => Ok(answers.pop_front().unwrap_or_default()),
        }
    }
}

/// A back end that answers each request with what `answer` makes of it, on a connection of its own.
struct Backend {
    port: u16,
    /// Every request as it came, and connections that said nothing as empty text.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Backend {
    async fn start(
        address: (Ipv4Addr, u16),
        answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read_request(&mut stream).await;
                let answer = answer(&request);
                noted.lock().push(request);
                // The client hangs up on what is too long for it.
                let _ = stream.write_all(&answer).await;
            }
        });
        Self { port, seen }
    }

    async fn near(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start((NEAR, 0), answer).await
    }

    fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.port)
    }

    fn requests(&self) -> Vec<String> {
        self.seen.lock().clone()
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length = length.map_or(0, |length| length.parse().expect("a length"));
            if body.len() >= length {
                return text;
            }
        }
        if stream.read_buf(&mut read).await.unwrap_or_default() == 0 {
            return text;
        }
    }
}

fn ok(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

fn moved(status: u16, location: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Moved\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
        .into_bytes()
}

/// Egress that may reach [`NEAR`] beside public addresses.
fn egress(names: Names) -> Egress {
    let near = Network::from(IpAddr::V4(NEAR));
    Egress::new(vec![near], Arc::new(names)).expect("a client")
}

fn get(url: &str) -> Request {
    Request {
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
        timeout: MAX_TIMEOUT,
    }
}

/// A secret that may go to the tests' back ends by their names, on any port.
fn secrets() -> Secrets {
    let origins = ["erp.test", "other.test"].map(|host| format!("http://{host}:*"));
    let key = GivenSecret {
        value: "s3cr3t-value".into(),
        origins: Some(origins.into()),
    };
    let given = BTreeMap::from([("key".to_owned(), key)]);
    Secrets::of(given, &wxhost_runtime::Wanted::default()).expect("a secret")
}

fn text(text: &str) -> Part {
    Part::Bytes(text.into())
}

fn key() -> Part {
    Part::Secret("key".to_owned())
}

async fn fetch(egress: &Egress, request: Request) -> Result<Response, EgressError> {
    fetch_where(egress, request, |target| target.host != "ungranted.test").await
}

async fn fetch_where(
    egress: &Egress,
    request: Request,
    granted: impl Fn(&Target<'_>) -> bool + Sync,
) -> Result<Response, EgressError> {
    let secrets = secrets();
    let sender = Sender {
        tenant: "tenant",
        granted: &granted,
        secrets: &secrets,
        deadline: Instant::now() + Duration::from_secs(60),
    };
    egress.fetch(sender, request).await
}

#[tokio::test]
async fn a_granted_host_is_reached_with_secrets_filled_in() {
    let backend = Backend::near(|request| ok(&format!("echo: {request}"))).await;
    let egress = egress(Names::default().with("erp.test", &[&[NEAR]]));
    let mut request = get(&backend.url("erp.test", "/a?b=c"));
    request.method = "POST".to_owned();
    request.headers = vec![("X-Key".to_owned(), vec![key()])];
    request.body = vec![text("<"), key(), text(">")];
    let response = fetch(&egress, request).await.expect("an answer");
    assert_eq!(response.status, 200);
    let [seen] = backend.requests().try_into().expect("one request");
    assert!(
        seen.starts_with(
            "POST /a?b=c HTTP/1.1\r\nx-key: s3cr3t-value\r\naccept-encoding: identity"
        ),
        "{seen}"
    );
    assert!(seen.ends_with("\r\n\r\n<s3cr3t-value>"), "{seen}");
    let echo = String::from_utf8(response.body).expect("text");
    assert_eq!(
        echo,
        format!("echo: {}", seen.replace("s3cr3t-value", "[secret:key]"))
    );
}

#[tokio::test]
async fn a_contacts_words_leave_as_they_were_written() {
    let backend = Backend::near(|_| ok("")).await;
    let egress = egress(Names::default().with("erp.test", &[&[NEAR]]));
    let mut request = get(&backend.url("erp.test", "/{{secret:key}}"));
    request.method = "POST".to_owned();
    request.headers = vec![("x-text".to_owned(), vec![text("{{secret:key}}")])];
    request.body = vec![text("{{secret:key}} [secret:key]")];
    fetch(&egress, request).await.expect("an answer");
    let [seen] = backend.requests().try_into().expect("one request");
    assert!(!seen.contains("s3cr3t"), "{seen}");
    assert!(seen.contains("x-text: {{secret:key}}\r\n"), "{seen}");
    assert!(
        seen.ends_with("\r\n\r\n{{secret:key}} [secret:key]"),
        "{seen}"
    );
}

#[tokio::test]
async fn a_secret_goes_nowhere_but_to_its_origins() {
    let backend = Backend::near(|_| ok("")).await;
    let egress = egress(Names::default().with("third.test", &[&[NEAR]]));
    let mut request = get(&backend.url("third.test", "/"));
    request.headers = vec![("x-key".to_owned(), vec![key()])];
    let refused = fetch(&egress, request).await;
    assert_eq!(
        refused,
        Err(EgressError::SecretNotForHost("key".to_owned()))
    );
    assert!(backend.requests().is_empty());
}

#[tokio::test]
async fn answers_that_may_hide_an_echo_are_refused() {
    for (head, body) in [
        ("200 OK\r\ncontent-encoding: gzip", "anything"),
        ("206 Partial Content\r\ncontent-range: bytes 0-3/12", "s3cr"),
    ] {
        let length = body.len();
        let answer = format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\n\r\n{body}");
        let backend = Backend::near(move |_| answer.clone().into_bytes()).await;
        let egress = egress(Names::default().with("erp.test", &[&[NEAR]]));
        let plain = get(&backend.url("erp.test", "/"));
        fetch(&egress, plain.clone()).await.expect("an answer");
        let with_key = Request {
            headers: vec![("x-key".to_owned(), vec![key()])],
            ..plain.clone()
        };
        let refused = fetch(&egress, with_key.clone()).await;
        assert_eq!(refused, Err(EgressError::AnswerRefused), "{head}");
        let mut ranged = with_key;
        ranged
            .headers
            .push(("range".to_owned(), vec![text("bytes=0-3")]));
        let refused = fetch(&egress, ranged).await;
        assert!(
            matches!(refused, Err(EgressError::InvalidArgument(_))),
            "{refused:?}"
        );
        assert_eq!(backend.requests().len(), 2);
    }
}

#[tokio::test]
async fn nothing_is_reached_without_a_grant() {
    let backend = Backend::near(|_| ok("")).await;
    let egress = egress(Names::default().with("erp.test", &[&[NEAR]]));
    let request = get(&backend.url("erp.test", "/"));
    let refused = fetch_where(&egress, request, |_| false).await;
    let target = format!("erp.test:{}", backend.port);
    assert_eq!(refused, Err(EgressError::NotGranted(target)));
    assert!(backend.requests().is_empty());
}

#[tokio::test]
async fn addresses_in_urls_are_refused_in_every_form() {
    let backend = Backend::start((INNER, 0), |_| ok("")).await;
    let egress = egress(Names::default());
    for host in [
        "127.0.0.2",
        "127.2",
        "0x7f.2",
        "017700000002",
        "2130706434",
        "[::ffff:127.0.0.2]",
        "[::127.0.0.2]",
        "[::1]",
        "0",
    ] {
        let refused = fetch(&egress, get(&backend.url(host, "/"))).await;
        assert_eq!(refused, Err(EgressError::AddressRefused), "{host}");
    }
    assert!(backend.requests().is_empty());
}

#[tokio::test]
async fn names_of_inner_addresses_are_refused() {
    let backend = Backend::start((INNER, 0), |_| ok("")).await;
    let inner = egress(Names::default().with("metadata.test", &[&[INNER]]));
    let refused = fetch(&inner, get(&backend.url("metadata.test", "/"))).await;
    assert_eq!(refused, Err(EgressError::AddressRefused));
    let system = Egress::new(Vec::new(), Arc::new(SystemResolver::default())).expect("a client");
    let refused = fetch(&system, get(&backend.url("localhost", "/"))).await;
    assert_eq!(refused, Err(EgressError::AddressRefused));
    assert!(backend.requests().is_empty());
}

#[tokio::test]
async fn only_the_permitted_addresses_of_a_name_are_tried() {
    let near = Backend::near(|_| ok("near")).await;
    let inner = Backend::start((INNER, near.port), |_| ok("inner")).await;
    let egress = egress(Names::default().with("mixed.test", &[&[INNER, NEAR]]));
    let response = fetch(&egress, get(&near.url("mixed.test", "/"))).await;
    assert_eq!(response.expect("an answer").body, b"near");
    assert!(inner.requests().is_empty());
}

#[tokio::test]
async fn a_name_that_is_rebound_between_two_requests_is_refused() {
    let near = Backend::near(|_| ok("near")).await;
    let inner = Backend::start((INNER, near.port), |_| ok("inner")).await;
    let egress = egress(Names::default().with("rebound.test", &[&[NEAR], &[INNER]]));
    let url = near.url("rebound.test", "/");
    fetch(&egress, get(&url)).await.expect("an answer");
    assert_eq!(
        fetch(&egress, get(&url)).await,
        Err(EgressError::AddressRefused)
    );
    assert!(inner.requests().is_empty());
}

#[tokio::test]
async fn a_name_that_is_rebound_within_a_redirect_is_refused() {
    let near = Backend::near(|_| moved(302, "/again")).await;
    let inner = Backend::start((INNER, near.port), |_| ok("inner")).await;
    let egress = egress(Names::default().with("rebound.test", &[&[NEAR], &[INNER]]));
    let refused = fetch(&egress, get(&near.url("rebound.test", "/"))).await;
    assert_eq!(refused, Err(EgressError::RedirectRefused));
    assert!(inner.requests().is_empty());
}

#[tokio::test]
async fn connections_are_not_kept_for_others() {
    // One that was kept would go on to where the name led before.
    let near = Backend::near(|_| ok("near")).await;
    let inner = Backend::start((INNER, near.port), |_| ok("inner")).await;
    let networks = [NEAR, INNER].map(|address| Network::from(IpAddr::V4(address)));
    let names = Names::default().with("moving.test", &[&[NEAR], &[INNER]]);
    let egress = Egress::new(networks.into(), Arc::new(names)).expect("a client");
    for expected in ["near", "inner"] {
        let response = fetch(&egress, get(&near.url("moving.test", "/"))).await;
        assert_eq!(response.expect("an answer").body, expected.as_bytes());
    }
    assert_eq!((near.requests().len(), inner.requests().len()), (1, 1));
}

#[tokio::test]
async fn redirects_are_followed_up_to_five() {
    let backend = Backend::near(|request| {
        let left: u32 = request[5..6].parse().expect("a number");
        match left {
            0 => ok("there"),
            _ => moved(307, &format!("/{}", left - 1)),
        }
    });
    let backend = backend.await;
    let egress = egress(Names::default().with("erp.test", &[&[NEAR]]));
    let response = fetch(&egress, get(&backend.url("erp.test", "/5"))).await;
    assert_eq!(response.expect("an answer").body, b"there");
    let refused = fetch(&egress, get(&backend.url("erp.test", "/6"))).await;
    assert_eq!(refused, Err(EgressError::RedirectRefused));
    assert_eq!(backend.requests().len(), 6 + 6);
}

#[tokio::test]
async fn redirects_to_hosts_without_a_grant_are_refused() {
    let goal = Backend::near(|_| ok("goal")).await;
    let location = goal.url("ungranted.test", "/");
    let backend = Backend::near(move |_| moved(302, &location)).await;
    let names = Names::default().with("erp.test", &[&[NEAR]]);
    let egress = egress(names.with("ungranted.test", &[&[NEAR]]));
    let refused = fetch(&egress, get(&backend.url("erp.test", "/"))).await;
    assert_eq!(refused, Err(EgressError::RedirectRefused));
    assert!(goal.requests().is_empty());
}

#[tokio::test]
async fn redirects_to_inner_addresses_are_refused() {
    let goal = Backend::start((INNER, 0), |_| ok("metadata")).await;
    for location in [
        goal.url("127.0.0.2", "/latest/meta-data/"),
        goal.url("0x7f.2", "/"),
        goal.url("[::ffff:7f00:2]", "/"),
        goal.url("metadata.test", "/"),
        "file:///etc/passwd".to_owned(),
    ] {
        let told = location.clone();
        let backend = Backend::near(move |_| moved(301, &told)).await;
        let names = Names::default().with("erp.test", &[&[NEAR]]);
        let egress = egress(names.with("metadata.test", &[&[INNER]]));
        let refused = fetch(&egress, get(&backend.url("erp.test", "/"))).await;
        assert_eq!(refused, Err(EgressError::RedirectRefused), "{location}");
    }
    assert!(goal.requests().is_empty());
}

#[tokio::test]
async fn secrets_do_not_follow_a_redirect_to_another_host() {
    let goal = Backend::near(|_| ok("goal")).await;
    let location = goal.url("other.test", "/");
    let backend = Backend::near(move |_| moved(307, &location)).await;
    let names = Names::default().with("erp.test", &[&[NEAR]]);
    let egress = egress(names.with("other.test", &[&[NEAR]]));
    let mut request = get(&backend.url("erp.test", "/"));
    request.headers = vec![
        ("x-key".to_owned(), vec![key()]),
        ("x-plain".to_owned(), vec![text("plain")]),
    ];
    fetch(&egress, request.clone()).await.expect("an answer");
    let [seen] = goal.requests().try_into().expect("one request");
    assert!(
        seen.contains("x-plain: plain") && !seen.contains("x-key"),
        "{seen}"
    );

    request.method = "POST".to_owned();
    request.body = vec![key()];
    assert_eq!(
        fetch(&egress, request).await,
        Err(EgressError::RedirectRefused)
    );
    assert_eq!(goal.requests().len(), 1);
}

#[tokio::test]
async fn answers_have_a_bound() {
    let backend = Backend::near(|request| {
        let body = |bytes| "x".repeat(bytes);
        match &request[..8] {
            "GET /fit" => ok(&body(MAX_ANSWER_BYTES)),
            "GET /big" => ok(&body(MAX_ANSWER_BYTES + 1)),
            // Nothing says how long it will be.
            "GET /unk" => format!("HTTP/1.1 200 OK\r\n\r\n{}", body(8 << 20)).into_bytes(),
            _ => format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", body(40 << 10)).into_bytes(),
        }
    });
    let backend = backend.await;
    let egress = egress(Names::default().with("erp.test", &[&[NEAR]]));
    let fits = fetch(&egress, get(&backend.url("erp.test", "/fit"))).await;
    assert_eq!(fits.expect("an answer").body.len(), MAX_ANSWER_BYTES);
    for path in ["/big", "/unk", "/header"] {
        let refused = fetch(&egress, get(&backend.url("erp.test", path))).await;
        assert_eq!(refused, Err(EgressError::TooLarge), "{path}");
    }
}

#[tokio::test]
async fn requests_have_a_bound() {
    let backend = Backend::near(|_| ok("")).await;
    let egress = egress(Names::default().with("erp.test", &[&[NEAR]]));
    let mut request = get(&backend.url("erp.test", "/"));
    request.method = "PUT".to_owned();
    request.body = vec![Part::Bytes(vec![b'x'; MAX_REQUEST_BYTES])];
    fetch(&egress, request.clone()).await.expect("an answer");
    request.body.push(text("x"));
    let refused = fetch(&egress, request).await;
    assert!(
        matches!(refused, Err(EgressError::InvalidArgument(_))),
        "{refused:?}"
    );
    assert_eq!(backend.requests().len(), 1);
}

#[tokio::test]
async fn slow_back_ends_are_given_up() {
    // One never answers; one begins and never ends.
    for beginning in ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx"] {
        let listener = TcpListener::bind((NEAR, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            read_request(&mut stream).await;
            stream.write_all(beginning.as_bytes()).await.expect("heard");
            // Ends when the client hangs up, which is looked for too.
            while stream.read_u8().await.is_ok() {}
        });
        let egress = egress(Names::default().with("slow.test", &[&[NEAR]]));
        let mut request = get(&format!("http://slow.test:{port}/"));
        request.timeout = Duration::from_millis(50);
        assert_eq!(fetch(&egress, request).await, Err(EgressError::Timeout));
        serving.await.expect("the connection was closed");
    }
}

#[tokio::test]
async fn methods_about_the_way_are_refused() {
    let egress = egress(Names::default().with("erp.test", &[&[NEAR]]));
    for method in [
        "CONNECT",
        "TRACE",
        "OPTIONS",
        "get",
        "",
        "GET / HTTP/1.1\r\nx: ",
    ] {
        let mut request = get("http://erp.test/");
        request.method = method.to_owned();
        let refused = fetch(&egress, request).await;
        assert!(
            matches!(refused, Err(EgressError::InvalidArgument(_))),
            "{method}"
        );
    }
}

#[tokio::test]
async fn what_does_not_answer_is_unreachable() {
    let plain = TcpListener::bind((NEAR, 0)).await.expect("a port");
    let port = plain.local_addr().expect("an address").port();
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.expect("a connection");
        stream.write_all(&ok("not TLS")).await.expect("heard");
    });
    let egress = egress(Names::default().with("erp.test", &[&[NEAR]]));
    let tls = format!("https://erp.test:{port}/");
    assert_eq!(
        fetch(&egress, get(&tls)).await,
        Err(EgressError::Unreachable),
        "no TLS there"
    );
    let unknown = fetch(&egress, get("https://unknown.test/")).await;
    assert_eq!(unknown, Err(EgressError::Unreachable));
}

#[tokio::test]
async fn the_end_of_the_call_is_the_end_of_its_requests() {
    let silent = TcpListener::bind((NEAR, 0)).await.expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let egress = egress(Names::default().with("erp.test", &[&[NEAR]]));
    let secrets = Secrets::default();
    let sender = Sender {
        tenant: "tenant",
        granted: &|_| true,
        secrets: &secrets,
        deadline: Instant::now() + Duration::from_millis(50),
    };
    let request = get(&format!("http://erp.test:{port}/"));
    assert_eq!(
        egress.fetch(sender, request).await,
        Err(EgressError::Timeout)
    );
}
