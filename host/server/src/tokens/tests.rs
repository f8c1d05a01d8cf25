//! Tokens of one host, against a WeChat that counts; of several hosts in `shared`.

mod address;
mod refused;
mod shared;

use std::sync::atomic::Ordering;

use futures::future::join_all;
use serde_json::json;
use wxhost_wechat::api::{Method, Request, generic};
use wxhost_wechat::errcode::Errcode;
use wxhost_wechat::secret::AppSecret;

use super::testing::{Bed, Host, SECRET, redis, until};
use super::*;
use crate::accounts::AccountChange;
use crate::audit::Author;
use crate::client::CallError;
use crate::clock::Clock;
use crate::credentials::Facts;
use crate::credentials::{CredentialChange, TokenLine};

use TokenLine::{Classic, Stable};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn question() -> Request {
    generic(
        Method::Get,
        "/cgi-bin/getcallbackip",
        Vec::new(),
        String::new(),
    )
    .unwrap()
}

async fn ask(host: &Host) -> Result<(), CallError> {
    let account = host.account();
    host.client
        .send(&account, &question(), soon())
        .await
        .map(drop)
}

#[tokio::test]
async fn callers_at_once_cause_one_fetch() {
    for line in [Stable, Classic] {
        let bed = Bed::new(line, 7200).await;
        let host = bed.alone().await;
        let tokens = join_all((0..50).map(|_| host.token())).await;
        for token in &tokens {
            assert_eq!(
                token.as_ref().unwrap().fence,
                tokens[0].as_ref().unwrap().fence
            );
        }
        let fetches = bed.count("stable_fetches") + bed.count("classic_fetches");
        assert_eq!(fetches, 1, "{line:?}");
    }
}

#[tokio::test]
async fn a_token_ends_by_the_databases_clock_and_not_by_the_hosts_own() {
    const HOUR_MS: i64 = 3_600_000;
    let mut bed = Bed::new(Stable, 7200).await;
    bed.clock = DatabaseClock::ahead(HOUR_MS);
    let host = bed.alone().await;
    let token = host.token().await.unwrap();
    let left_ms = token.expires_at_ms - Clock.now_ms();
    assert!((left_ms - 3 * HOUR_MS).abs() < 600_000, "{left_ms}");
    // It is as young there as one that was just fetched.
    assert_eq!(host.token().await.unwrap().fence, token.fence);
}

#[tokio::test]
async fn a_wave_of_refusals_of_an_old_token_does_not_end_the_fresh_one() {
    let bed = Bed::new(Stable, 7200).await;
    let host = bed.alone().await;
    let old = host.token().await.unwrap();
    bed.neighbour_fetches(Stable).await;
    for answer in join_all((0..30).map(|_| ask(&host))).await {
        answer.unwrap();
    }
    // The first one, the neighbour's, and one for the whole wave.
    assert_eq!(bed.count("stable_fetches"), 3);
    let fresh = host.held().unwrap();
    assert!(fresh.fence > old.fence);
    host.tokens.expire(&host.account(), &old).await;
    assert_eq!(host.held().unwrap().fence, fresh.fence);
}

#[tokio::test]
async fn a_token_is_forced_only_when_it_was_refused_given_out_again_and_refused_again() {
    let bed = Bed::new(Stable, 7200).await;
    let host = bed.alone().await;
    let first = host.token().await.unwrap();
    assert!(host.tokens.expire(&host.account(), &first).await);
    let again = host.token().await.unwrap();
    assert_eq!(again.hash, first.hash);
    assert_eq!(bed.count("forced"), 0, "the refusal may have been wrong");
    assert!(host.tokens.expire(&host.account(), &again).await);
    let second = host.token().await.unwrap();
    assert_ne!(second.hash, first.hash);
    assert_eq!(bed.count("forced"), 1);

    // WeChat would take the second, so these refusals are not proof enough to force a third at once.
    assert!(host.tokens.expire(&host.account(), &second).await);
    let second = host.token().await.unwrap();
    assert!(host.tokens.expire(&host.account(), &second).await);
    let again = host.token().await.unwrap();
    assert_eq!(again.hash, second.hash);
    assert_eq!(bed.count("forced"), 1);
    let fetches = bed.count("stable_fetches");
    assert!(!host.tokens.expire(&host.account(), &again).await);
    assert_eq!(host.token().await.unwrap().hash, second.hash);
    assert_eq!(bed.count("stable_fetches"), fetches);
}

#[tokio::test]
async fn an_operator_forces_a_token_within_wechats_limits() {
    let bed = Bed::new(Stable, 7200).await;
    let host = bed.alone().await;
    let first = host.token().await.unwrap();
    let forced = host.tokens.force_refresh(&host.account(), soon()).await;
    assert_ne!(forced.unwrap().hash, first.hash);
    let refused = host.tokens.force_refresh(&host.account(), soon()).await;
    assert!(matches!(
        refused,
        Err(TokenError::ForcedLately {
            wait_seconds: 1..=32
        })
    ));
    assert_eq!(bed.count("forced"), 1);
}

#[tokio::test]
async fn a_neighbour_that_fetches_again_and_again_fails_no_call() {
    for line in [Stable, Classic] {
        let bed = Bed::new(line, 7200).await;
        let host = bed.alone().await;
        for _ in 0..6 {
            ask(&host).await.unwrap();
            // The second makes the token before the neighbour's first end at once.
            bed.neighbour_fetches(Classic).await;
            bed.neighbour_fetches(Classic).await;
        }
        let expected = if line == Stable { 1 } else { 0 };
        assert_eq!(bed.count("stable_fetches"), expected);
    }
}

#[tokio::test]
async fn a_wrong_secret_stops_all_questions_until_there_is_another() {
    let bed = Bed::new(Stable, 7200).await;
    let host = bed.alone().await;
    bed.change(json!({"secret": "another0another0another0another0"}));
    let blocked = async || match host.token().await {
        Err(TokenError::AccountBlocked { attention }) => attention.errcode,
        other => panic!("{other:?}"),
    };
    let errcode = blocked().await;
    assert!([40001, 40125].contains(&errcode), "{errcode}");
    let questions = || {
        let control = bed.wechat.control();
        let counters = control.ask(http::Method::GET, "/counters", &json!(null));
        counters.unwrap()["requests"].as_u64().unwrap()
    };
    let asked = questions();
    assert_eq!(blocked().await, errcode);
    assert_eq!(
        host.account()
            .credentials
            .attention
            .as_ref()
            .unwrap()
            .errcode,
        errcode
    );
    assert_eq!(questions(), asked);

    // The owner says that it is mended, but it is not.
    host.accounts
        .clear_attention(&bed.app_id, &Author::host())
        .await
        .unwrap();
    host.accounts.refresh().await.unwrap();
    host.tokens.clear_backoff(&host.account());
    assert_eq!(blocked().await, errcode);
    assert_eq!(questions(), asked + 1);

    bed.change(json!({"secret": SECRET}));
    let secret = Some(Some(AppSecret::parse(SECRET).unwrap()));
    let change = AccountChange {
        credentials: CredentialChange {
            secret,
            ..CredentialChange::default()
        },
        ..AccountChange::default()
    };
    host.accounts
        .change_account(&bed.app_id, change, &Author::host())
        .await
        .unwrap();
    host.accounts.refresh().await.unwrap();
    host.token().await.unwrap();
}

#[tokio::test]
async fn a_busy_wechat_is_asked_again_and_a_slow_one_costs_no_more_than_the_deadline() {
    let bed = Bed::new(Stable, 7200).await;
    let host = bed.alone().await;
    bed.fault(json!({"kind": "busy", "path_prefix": "/cgi-bin/stable_token", "count": 2}));
    host.token().await.unwrap();

    let bed = Bed::new(Stable, 7200).await;
    let host = bed.alone().await;
    bed.fault(
        json!({"kind": "slow", "ms": 700, "path_prefix": "/cgi-bin/stable_token", "count": 1}),
    );
    let deadline = Instant::now() + Duration::from_millis(100);
    let late = host
        .tokens
        .get(&host.account(), Credential::AccessToken, deadline)
        .await;
    assert!(matches!(late, Err(TokenError::Deadline)), "{late:?}");
    // The fetch has gone on for those who come later.
    host.token().await.unwrap();
    assert_eq!(bed.count("stable_fetches"), 1);
}

#[tokio::test]
async fn wechats_minute_limit_is_respected_without_asking() {
    let bed = Bed::new(Stable, 7200).await;
    let host = bed.alone().await;
    bed.change(json!({"minute_quotas": {"/cgi-bin/stable_token": 0}}));
    for _ in 0..3 {
        match host.token().await {
            Err(TokenError::Refused(refusal)) => assert_eq!(refusal.errcode, Errcode(45011)),
            other => panic!("{other:?}"),
        }
    }
    let path = "/requests?path=/cgi-bin/stable_token";
    let asked = bed
        .wechat
        .control()
        .ask(http::Method::GET, path, &json!(null));
    assert_eq!(asked.unwrap().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn tickets_come_from_the_same_machine_and_outlive_a_bad_token() {
    let bed = Bed::new(Stable, 7200).await;
    let host = bed.alone().await;
    host.token().await.unwrap();
    bed.neighbour_fetches(Stable).await;
    for credential in [Credential::JsapiTicket, Credential::CardTicket] {
        let account = host.account();
        let ticket = host.tokens.get(&account, credential, soon()).await.unwrap();
        let again = host.tokens.get(&account, credential, soon()).await.unwrap();
        assert_eq!(ticket.fence, again.fence);
    }
}

/// Holds a token of two hours that ends in a minute.
fn hold_an_old_one(host: &Host) -> Arc<Token> {
    let facts = Facts {
        value: "old".into(),
        fence: 1,
        fetched_at_ms: 0,
        lifetime_ms: 7_200_000,
        left_ms: 60_000,
        now_ms: host.tokens.parts.clock.now_ms(),
        spread: 0,
    };
    let account = host.account();
    let slot = account.slots.of(Credential::AccessToken);
    slot.hold(Arc::new(Token::new(facts)))
}

#[tokio::test]
async fn a_token_in_use_is_renewed_before_it_ends_and_nobody_waits() {
    let bed = Bed::new(Stable, 7200).await;
    let host = bed.alone().await;
    let old = hold_an_old_one(&host);
    host.tokens.renew_due().await;
    assert_eq!(bed.count("stable_fetches"), 0, "nobody has used it");
    assert_eq!(host.token().await.unwrap().fence, old.fence);
    host.tokens.renew_due().await;
    host.tokens.renew_due().await;
    assert_eq!(host.token().await.unwrap().fence, old.fence);
    until("newer token", || {
        host.held().filter(|held| held.fence > old.fence)
    })
    .await;
    host.tokens.renew_due().await;
    assert_eq!(bed.count("stable_fetches"), 1);
}

#[tokio::test]
async fn an_account_without_a_secret_has_no_token() {
    let bed = Bed::new(Stable, 7200).await;
    let host = bed.alone().await;
    let change = AccountChange {
        credentials: CredentialChange {
            secret: Some(None),
            ..CredentialChange::default()
        },
        ..AccountChange::default()
    };
    host.accounts
        .change_account(&bed.app_id, change, &Author::host())
        .await
        .unwrap();
    host.accounts.refresh().await.unwrap();
    assert!(matches!(host.token().await, Err(TokenError::NoSecret)));
}

#[tokio::test]
async fn a_token_that_was_granted_takes_the_place_of_older_ones_only() {
    for shared in [None, redis()] {
        let bed = Bed::new(Stable, 7200).await;
        let host = match &shared {
            None => bed.alone().await,
            Some(redis) => bed.sharing(redis).await,
        };
        let held = host.token().await.unwrap();
        let granted = async |value: &str, asked_at_ms: i64| {
            let fresh = json!({"access_token": value, "expires_in": 7200});
            let fresh = serde_json::from_value(fresh).unwrap();
            let tokens = host.client.tokens();
            let by = (asked_at_ms, soon());
            tokens
                .hold_granted(&host.account(), fresh, by)
                .await
                .unwrap()
        };
        // It came before the one that was fetched since, which it would end.
        let kept = granted("older", held.fetched_at_ms - 1).await;
        assert_eq!(kept.hash, held.hash);
        assert_eq!(host.held().unwrap().hash, held.hash);
        // An owner has authorised anew: what was fetched before has ended.
        let newer = granted("newer", held.fetched_at_ms + 1).await;
        assert_eq!(newer.expose(), "newer");
        assert_eq!(host.held().unwrap().hash, newer.hash);
    }
}
