//! A plugin that misbehaves on purpose, for tests of the host. The text says how; what it does not know
//! it echoes.

use std::hint::black_box;
use wxhost_sdk::login::{Login, LoginHandler, Verdict};
use wxhost_sdk::message::{CustomerMessage, TemplateMessage};
use wxhost_sdk::payment::{self, PaymentHandler};
use wxhost_sdk::prelude::*;
use wxhost_sdk::push::{Composition, Push, PushHandler, Recipient};
use wxhost_sdk::{AttributeChange, Effect, egress, random, time, wechat_api};

/// Does whatever the text, the push or the page says.
pub struct Rogue;

impl CallbackHandler for Rogue {
    fn on_text(event: &Event, text: &Text) -> Result {
        let (verb, argument) = text.content.split_once(' ').unwrap_or((&text.content, ""));
        let number = || argument.parse::<u64>();
        match verb {
            // Time.
            "loop" => loop {
                black_box(());
            },
            "sleep" => {
                sleep(number()?);
                Reply::text("slept").into()
            }
            // A reply that has no form as a customer-service message.
            "sleep-video" => {
                sleep(number()?);
                Reply::video("MEDIA", "", "").into()
            }

            // Memory and stack.
            "allocate" => allocate(),
            "recurse" => Reply::text(recurse(0, black_box(u64::MAX)).to_string()).into(),
            "overflow" => Reply::text(overflow(0, black_box(u64::MAX)).to_string()).into(),

            // Endings.
            "panic" => panic!("the text said so"),
            "unreachable" => {
                #[cfg(target_arch = "wasm32")]
                core::arch::wasm32::unreachable();
                #[cfg(not(target_arch = "wasm32"))]
                unreachable!("the text said so")
            }
            "error" => Err(Error::dependency("the text said so")),

            // Host calls.
            "flood" => loop {
                log::info("a line that nobody asked for, again and again and again and again");
            },
            "reads" => loop {
                kv::get("n")?;
            },
            "list" => loop {
                kv::page("", None, u32::MAX)?;
            },
            "get-large" => loop {
                kv::get("large")?;
            },
            "bytes" => loop {
                black_box(random::bytes(u32::MAX));
            },
            "fill-cache" => loop {
                cache::set("filled", &vec![0; 64 * 1024], u32::MAX)?;
            },

            // Replies and effects that the host must not let through as they are.
            "forbidden" => Reply::text("before\u{0}\u{8}\u{b}\u{1f}\u{fffe}]]><evil/>after").into(),
            "big" => Reply::text("大".repeat(1000)).into(),
            "huge" => Reply::text("x".repeat(8 * 1024 * 1024)).into(),
            "empty-media" => Reply::image("").into(),
            "articles" => {
                let article = Article::new("title", "https://example.com/");
                Reply::news(vec![article; number()? as usize]).into()
            }
            "effects" => Ok((0..100_000).fold(Outcome::none(), |outcome, n| {
                outcome.put(format!("effect/{n}"), "x")
            })),
            "big-effect" => Ok(Outcome::none().put("big", vec![b'x'; 1024 * 1024])),
            "bad-key" => Ok(Outcome::none().put("a\nkey", "x")),
            "long-value" => Ok(Outcome::none().put("long", vec![b'x'; 70 * 1024])),
            // As many and as large as may be, one by one.
            "fill" => Ok((0..64).fold(Outcome::none(), |outcome, n| {
                outcome.put(format!("fill/{n}"), "x")
            })),
            "put-large" => Ok(Outcome::none().put("large", vec![b'x'; 60 * 1024])),
            "put-much" => Ok((0..5).fold(Outcome::none(), |outcome, n| {
                outcome.put(format!("much/{n}"), vec![b'x'; 60 * 1024])
            })),

            // What a good plugin does, to be looked at.
            "count" => count(0),
            "stale-sleep" => count(number()?),
            "put" => {
                let (key, value) = argument.split_once(' ').unwrap_or((argument, ""));
                Ok(Outcome::reply(Reply::text("put")).put(key, value))
            }
            "put-new" => Ok(Outcome::reply(Reply::text("put")).put_new(argument, "x")),
            "get" => {
                let value = kv::get_text(argument)?;
                Reply::text(value.unwrap_or_else(|| "nothing".to_owned())).into()
            }
            "account" => Reply::text(format!("{:?}", account::info())).into(),
            "config" => Reply::text(config::text()).into(),
            "secret" => Reply::text(config::has_secret(argument).to_string()).into(),
            "remember" => {
                let before = cache::get("remembered")?;
                cache::set("remembered", argument.as_bytes(), 60)?;
                Reply::text(String::from_utf8(before.unwrap_or_default())?).into()
            }
            "state" => Reply::text(state().to_string()).into(),
            _ => reach_out(event, verb, argument)
                .unwrap_or_else(|| Reply::text(&text.content).into()),
        }
    }
}

/// How a push misbehaves: open ids and what is done to them. Everyone else is sent a text with their name.
impl PushHandler for Rogue {
    fn compose(push: &Push, recipient: &Recipient) -> Result<Composition> {
        let is_named = |verb: &str| {
            // As `"verb":["open id", …]`; the SDK's own reader is not what is tested here.
            let list = push
                .data
                .split_once(&format!("\"{verb}\":["))
                .map(|(_, list)| list);
            let list = list
                .and_then(|list| list.split_once(']'))
                .map(|(list, _)| list);
            list.is_some_and(|list| list.contains(&format!("\"{}\"", recipient.open_id)))
        };
        if is_named("panic") {
            panic!("the push said so");
        }
        if is_named("loop") {
            loop {
                black_box(());
            }
        }
        if is_named("lacking") {
            return Err(Error::dependency("the push said so"));
        }
        if is_named("strangers") {
            return Ok(Composition::send(CustomerMessage::text(
                "oStranger",
                "hello",
            )));
        }
        if is_named("skip") {
            return Ok(Composition::skip("the push\nsaid so"));
        }
        let text = recipient.text(format!("hello {}", recipient.open_id));
        let late = is_named("late");
        let text = if late { text.expires_at(1) } else { text };
        let template = recipient.template("T1").field("thing1", "hello");
        Ok(Composition::send(text).or(template))
    }

    fn compose_all(push: &Push, recipients: &[Recipient]) -> Result<Vec<Composition>> {
        let mut composed = Vec::new();
        for recipient in recipients {
            composed.push(Self::compose(push, recipient)?);
        }
        if push.data.contains("\"too-few\"") {
            composed.pop();
        }
        Ok(composed)
    }
}

/// How a login misbehaves: what the page's address says behind `do=`. Everyone else is let in, by
/// name.
impl LoginHandler for Rogue {
    fn decide(login: &Login) -> Result<Verdict> {
        let verb = login.return_to.split_once("do=").map(|(_, verb)| verb);
        match verb.unwrap_or_default() {
            "panic" => panic!("the page said so"),
            "loop" => loop {
                black_box(());
            },
            "lacking" => Err(Error::dependency("the page said so")),
            "refuse" => Ok(Verdict::refuse("not-today")),
            "shout" => Ok(Verdict::refuse("NOT TODAY!")),
            "twice" => Ok(Verdict::admit().claim("a", "1").claim("a", "2")),
            "much" => Ok(Verdict::admit().claim("a", "x".repeat(257))),
            _ => Ok(Verdict::admit()
                .claim("who", &login.open_id)
                .claim("login", &login.id[..8])),
        }
    }
}

/// How a payment misbehaves: what the order brings along says. Of any other it is noted how often it came.
impl PaymentHandler for Rogue {
    fn handle(event: &payment::Event) -> Result {
        let order = &event.order;
        let (verb, argument) = match &order.attach {
            None => ("", ""),
            Some(attach) => attach.split_once(' ').unwrap_or((attach, "")),
        };
        let outcome = Outcome::none();
        match verb {
            "panic" => panic!("the order said so"),
            "loop" => loop {
                black_box(());
            },
            "lacking" => Err(Error::dependency("the order said so")),
            "steal" => Ok(outcome.refund(argument, "stolen-1", None)),
            "double" => Ok(outcome.refund_part(&order.out_trade_no, "double-1", order.total * 2)),
            "effects" => Ok((0..100_000).fold(outcome, |outcome, n| {
                outcome.put(format!("effect/{n}"), "x")
            })),
            _ => {
                let key = format!("paid/{}", order.out_trade_no);
                let count = kv::get_json::<u64>(&key)?.unwrap_or(0) + 1;
                outcome.put_json(key, &count)
            }
        }
    }
}

wxhost_sdk::register!(
    Rogue,
    handlers = [callback, push, login, payment],
    manifest = include_str!("../plugin.toml")
);

/// Leaves the host, speaks to people or notes something of them; nothing if the verb is none of that.
fn reach_out(event: &Event, verb: &str, argument: &str) -> Option<Result> {
    let result = match verb {
        // What leaves the host, and where it must not go.
        "api" => show(wechat_api::call(&get_request(argument))),
        "api-denied" => show(wechat_api::call(&get_request("/cgi-bin/token"))),
        "api-flood" => loop {
            black_box(wechat_api::menu().is_ok());
        },
        "user" => show(wechat_api::user_info(argument)),
        "menu" => show(wechat_api::menu()),
        "quota" => show(wechat_api::quota(argument)),
        "fetch" => fetch(argument),
        "fetch-loopback" => fetch("http://127.0.0.1:6379/"),
        "fetch-mapped" => fetch("http://[::ffff:127.0.0.1]:6379/"),
        "fetch-metadata" => fetch("http://169.254.169.254/latest/meta-data/"),
        "fetch-secret" => {
            let secret = [egress::Part::secret("api-key")];
            let request = egress::Request::get(argument).header_of("authorization", secret);
            show(request.send().map(|answer| answer.status))
        }
        // Passes on what a person wrote, as a good plugin may.
        "pass-on" => {
            let (url, words) = argument.split_once(' ').unwrap_or((argument, ""));
            let request = egress::Request::new("POST", url)
                .header("authorization", words)
                .body(words);
            show(request.send().map(|answer| answer.status))
        }
        "fetch-flood" => loop {
            black_box(egress::Request::get("https://example.com/").send().is_ok());
        },

        // People, and what is said to them.
        "contact" => show(contacts::get(argument)),
        "send" => {
            let message = CustomerMessage::text(&event.open_id, argument);
            Ok(Outcome::reply(Reply::text("sent")).send(message))
        }
        "send-to" => {
            let (open_id, text) = argument.split_once(' ').unwrap_or((argument, ""));
            let message = CustomerMessage::text(open_id, text);
            Ok(Outcome::reply(Reply::text("sent")).send(message))
        }
        "send-some" => {
            let sent = Outcome::reply(Reply::text("sent"));
            let count = argument.parse().unwrap_or(1);
            Ok((0..count).fold(sent, |outcome, n: u32| {
                outcome.send(CustomerMessage::text(&event.open_id, n.to_string()))
            }))
        }
        // More than an outcome may hold.
        "send-many" => Ok((0..100).fold(Outcome::none(), |outcome, n: u32| {
            outcome.send(CustomerMessage::text(&event.open_id, n.to_string()))
        })),
        "send-nobody" => Ok(Outcome::none().send(CustomerMessage::text("o 1", "hello"))),
        "template" => {
            let message = TemplateMessage::new(&event.open_id, argument);
            let message = message.field("first", "hello");
            Ok(Outcome::reply(Reply::text("sent")).send(message))
        }
        "tag" => {
            let tag = argument.parse().unwrap_or_default();
            Ok(Outcome::reply(Reply::text("tagged")).tag(&event.open_id, [tag]))
        }
        "remark" => Ok(Outcome::reply(Reply::text("noted")).remark(&event.open_id, argument)),
        "note" => Ok(
            Outcome::reply(Reply::text("noted")).effect(Effect::SetAttributes(AttributeChange {
                open_id: event.open_id.clone(),
                attributes: argument.to_owned(),
            })),
        ),
        "opt-out" => Ok(Outcome::reply(Reply::text("bye")).opt_out(&event.open_id, true)),
        _ => return None,
    };
    Some(result)
}

/// Answers with what came of something, error or not.
fn show<T: std::fmt::Debug>(result: T) -> Result {
    Reply::text(format!("{result:?}")).into()
}

/// A GET of WeChat's API.
fn get_request(path: &str) -> wechat_api::Request {
    wechat_api::Request {
        method: wechat_api::Method::Get,
        path: path.to_owned(),
        query: Vec::new(),
        body: String::new(),
    }
}

/// Answers with the body that an address gives, or the error.
fn fetch(url: &str) -> Result {
    let answer = egress::Request::get(url).send();
    show(answer.map(|answer| {
        (
            answer.status,
            String::from_utf8_lossy(&answer.body).into_owned(),
        )
    }))
}

/// Keeps the processor busy for some milliseconds.
fn sleep(ms: u64) {
    let end_ms = time::now_ms().saturating_add(ms);
    while time::now_ms() < end_ms {}
}

/// Takes memory without end.
fn allocate() -> Result {
    let mut blocks = Vec::new();
    loop {
        blocks.push(black_box(vec![1_u8; 1024 * 1024]));
    }
}

/// Calls itself until `end`, which is far: it needs nothing but the stack that the host gives.
fn recurse(depth: u64, end: u64) -> u64 {
    if depth == end {
        return depth;
    }
    // Turning the result keeps the compiler from making a loop of it.
    recurse(depth + 1, end).rotate_left(7) ^ depth
}

/// Calls itself until `end` with values on the plugin's own stack, in its memory.
fn overflow(depth: u64, end: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if depth == end {
        depth
    } else {
        overflow(depth + 1, end) ^ frame[black_box(0)]
    }
}

/// Reads the counter `n`, lets `ms` pass, and answers and stores one more.
fn count(ms: u64) -> Result {
    let count = kv::get_json::<u64>("n")?.unwrap_or(0) + 1;
    sleep(ms);
    Outcome::reply(Reply::text(count.to_string())).put_json("n", &count)
}

/// How often this was called in this instance: once, if each event gets a fresh one.
fn state() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static CALLS: AtomicU32 = AtomicU32::new(0);
    CALLS.fetch_add(1, Ordering::Relaxed) + 1
}

#[cfg(test)]
mod tests {
    use super::Rogue;
    use wxhost_sdk::Fault;
    use wxhost_sdk::testing::{TestHost, text};

    #[test]
    fn a_verb_does_its_thing_and_the_rest_is_echoed() {
        let mut host = TestHost::new();
        let mut check = |content: &str, reply: Option<&str>| {
            assert_eq!(
                host.deliver::<Rogue>(&text(content)).reply_text(),
                reply,
                "{content}"
            );
        };
        check("hello there", Some("hello there"));
        check("sleep 0", Some("slept"));
        check("count", Some("1"));
        check("stale-sleep 0", Some("2"));
        check("get n", Some("2"));
        check("put n 7", Some("put"));
        check("count", Some("8"));
        check("config", Some("{}"));
        check("bad-key", None);
        check(
            "api-denied",
            Some("Err(Error::NotGranted(\"/cgi-bin/token\"))"),
        );
        check(
            "fetch-loopback",
            Some("Err(Error::NotGranted(\"127.0.0.1:6379\"))"),
        );
        check("contact oNobody", Some("Ok(None)"));
        check("send hello", Some("sent"));
    }

    #[test]
    fn misbehaviour_is_what_the_limits_are_about() {
        let mut host = TestHost::new();
        assert!(host.run::<Rogue>(&text("effects")).effects().len() > 64);
        assert!(
            host.run::<Rogue>(&text("big"))
                .reply_text()
                .is_some_and(|text| text.len() > 2048)
        );
        let error = host
            .run::<Rogue>(&text("error"))
            .result
            .expect_err("it says so");
        assert_eq!(error.fault(), Fault::Dependency);
    }
}
