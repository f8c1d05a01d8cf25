//! The import of an account's followers: those who came before the host did.
//!
//! Every host runs the loop; an import is leased by one of them at a time and goes on from where the
//! database says it is, so a host that stops or dies is followed by another. First the list of
//! followers in pages of 10,000, then what WeChat knows of each, 100 at a time, a few batches at once.
//! A used-up quota waits for WeChat's next day; a busy WeChat is asked again, later each time.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{FutureExt, join_all};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wxhost_wechat::api::user::{Followers, Infos, Language, MAX_INFOS, User};
use wxhost_wechat::errcode::Advice;
use wxhost_wechat::id::OpenId;

use crate::accounts::{Account, Accounts};
use crate::backoff::{self, spread};
use crate::client::{CallError, Client};
use crate::clock::millis;
use crate::db::imports::{self, Import, Listed, Told};
use crate::db::{Database, DbError, Lease};
use crate::random;

/// Imports at the same time, on one host.
const AT_ONCE: usize = 2;
/// Batches at the same time, of one import.
const BATCHES: usize = 4;
/// How often the loop looks by itself.
const PERIOD: Duration = Duration::from_secs(1);
/// How long an import is this host's since it last came further.
const LEASE: Duration = Duration::from_secs(60);
/// How long a call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Failures in a row before an import is given up.
const MAX_FAILURES: i64 = 20;
/// The wait after the first failure; doubled with each.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait after a failure.
const MAX_WAIT: Duration = Duration::from_secs(15 * 60);
/// How long an account rests that can't call WeChat before its owner has acted.
const BLOCKED_REST: Duration = Duration::from_secs(60);
/// Where followers are listed. Codes mean the same where they are asked about.
const FOLLOWERS_PATH: &str = "/cgi-bin/user/get";

/// Why an import does not come further now.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Database(#[from] DbError),
    #[error("another host has the import")]
    Lost,
    #[error("there is no such account any more")]
    NoAccount,
    #[error("the account is disabled")]
    Disabled,
}

/// What comes after an import has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Again after this time.
    Wait(Duration),
    /// It has failed.
    Fail,
    /// It is no more this host's.
    Leave,
}

/// Imports followers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Importer {
    /// Where imports and contacts are.
    pub db: Database,
    /// Whose they are.
    pub accounts: Arc<Accounts>,
    /// Calls WeChat.
    pub client: Arc<Client>,
}

impl Importer {
    /// Imports until `stop`; what is under way then is given back.
    pub async fn run(self, stop: CancellationToken) {
        let owner: Arc<str> = random::unique_name().into();
        let mut imports = JoinSet::new();
        loop {
            if imports.len() < AT_ONCE {
                match imports::lease(&self.db, self.lease(&owner)).await {
                    Ok(Some(import)) => {
                        let (importer, owner) = (self.clone(), Arc::clone(&owner));
                        let stop = stop.clone();
                        imports.spawn(async move { importer.work(import, &owner, &stop).await });
                        continue;
                    }
                    Ok(None) => {}
                    Err(error) => tracing::debug!(error = %error, "imports can't be read"),
                }
            }
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = imports.join_next() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
        while imports.join_next().await.is_some() {}
    }

    /// Goes on with an import until it ends, or can't come further now.
    async fn work(&self, import: Import, owner: &str, stop: &CancellationToken) {
        let app_id = import.app_id.clone();
        let ended = match self.go_on(import, owner, stop).await {
            Ok(true) => {
                tracing::info!(account.app_id = app_id, "the followers are imported");
                let now_ms = self.db.now_ms();
                imports::finish(&self.db, &app_id, owner, now_ms, None).await
            }
            Ok(false) => {
                let now_ms = self.db.now_ms();
                imports::postpone(&self.db, &app_id, owner, now_ms, None).await
            }
            Err((failures, why)) => self.stop(&app_id, owner, failures, &why).await,
        };
        if let Err(error) = ended {
            tracing::warn!(account.app_id = app_id, error = %error, "the state of an import can't be kept");
        }
    }

    /// True when it is done, false when this host stops. The number is that of failures before.
    async fn go_on(
        &self,
        mut import: Import,
        owner: &str,
        stop: &CancellationToken,
    ) -> Result<bool, (i64, Stop)> {
        let account = self.account(&import.app_id).map_err(|why| (0, why))?;
        // Boxed: what the client does is deep enough for the compiler as it is.
        loop {
            if stop.is_cancelled() {
                return Ok(false);
            }
            let failures = import.failures;
            if import.all_listed == 0 {
                let page = self.list(&account, &mut import, owner).boxed().await;
                page.map_err(|why| (failures, why))?;
            } else {
                let more = self.fetch(&account, owner).boxed().await;
                if !more.map_err(|why| (failures, why))? {
                    return Ok(true);
                }
            }
            import.failures = 0;
        }
    }

    /// Lists one page.
    async fn list(
        &self,
        account: &Arc<Account>,
        import: &mut Import,
        owner: &str,
    ) -> Result<(), Stop> {
        let at_ms = self.db.now_ms();
        // What is stored is WeChat's, so it parses; if not, the list begins anew.
        let next = OpenId::parse(&import.next_open_id).ok();
        let call = Followers { next };
        let page = self.client.call(account, &call, deadline()).await?;
        let open_ids: Vec<&str> = page.open_ids.iter().map(OpenId::as_str).collect();
        let next = page.next.as_ref().map(OpenId::as_str);
        // A page that leads to itself would never end.
        let next = next.filter(|next| *next != import.next_open_id);
        let listed = Listed {
            total: i64::try_from(page.total).unwrap_or(i64::MAX),
            open_ids: &open_ids,
            next,
            at_ms,
        };
        let lease = self.lease(owner);
        if !imports::keep_page(&self.db, &import.app_id, lease, listed).await? {
            return Err(Stop::Lost);
        }
        import.next_open_id = next.unwrap_or_default().to_owned();
        import.all_listed = i64::from(next.is_none());
        Ok(())
    }

    /// Fetches some batches; false when there is none left.
    async fn fetch(&self, account: &Arc<Account>, owner: &str) -> Result<bool, Stop> {
        let app_id = account.app_id.as_str();
        let limit = i64::try_from(BATCHES * MAX_INFOS).unwrap_or(i64::MAX);
        let open_ids = imports::to_fetch(&self.db, app_id, limit).await?;
        if open_ids.is_empty() {
            return Ok(false);
        }
        let batches = open_ids.chunks(MAX_INFOS);
        let batches = batches.map(|batch| self.fetch_batch(account, owner, batch));
        for ended in join_all(batches).await {
            ended?;
        }
        Ok(true)
    }

    /// Fetches a batch. One that WeChat refuses because of a single open id is halved until that one
    /// is found and left as it is.
    async fn fetch_batch(
        &self,
        account: &Arc<Account>,
        owner: &str,
        open_ids: &[String],
    ) -> Result<(), Stop> {
        let mut parts = vec![open_ids];
        while let Some(part) = parts.pop() {
            let at_ms = self.db.now_ms();
            let parsed = part.iter().filter_map(|id| OpenId::parse(id).ok());
            let call = Infos {
                open_ids: parsed.collect(),
                language: Language::default(),
            };
            let told = match self.client.call(account, &call, deadline()).await {
                Ok(answer) => told_of(part, &answer.users),
                Err(CallError::Refused(refusal)) if refusal.errcode.names_unknown_open_id() => {
                    if part.len() > 1 {
                        let (left, right) = part.split_at(part.len() / 2);
                        parts.extend([left, right]);
                        continue;
                    }
                    told_of(part, &[])
                }
                Err(error) => return Err(error.into()),
            };
            let (app_id, lease) = (account.app_id.as_str(), self.lease(owner));
            if !imports::keep_told(&self.db, app_id, lease, &told, at_ms).await? {
                return Err(Stop::Lost);
            }
        }
        Ok(())
    }

    async fn stop(
        &self,
        app_id: &str,
        owner: &str,
        failures: i64,
        why: &Stop,
    ) -> Result<(), DbError> {
        let now_ms = self.db.now_ms();
        let next = after(why, failures, now_ms);
        tracing::warn!(account.app_id = app_id, error = %why, next = ?next, "an import stops");
        let error = why.to_string();
        match next {
            Next::Leave => Ok(()),
            Next::Fail => imports::finish(&self.db, app_id, owner, now_ms, Some(&error)).await,
            Next::Wait(wait) => {
                let wait = millis(spread(wait));
                imports::postpone(&self.db, app_id, owner, now_ms + wait, Some(&error)).await
            }
        }
    }

    fn account(&self, app_id: &str) -> Result<Arc<Account>, Stop> {
        let account = self.accounts.get(app_id).ok_or(Stop::NoAccount)?;
        if account.is_active() {
            Ok(account)
        } else {
            Err(Stop::Disabled)
        }
    }

    fn lease<'a>(&self, owner: &'a str) -> Lease<'a> {
        Lease::begin(&self.db, owner, LEASE)
    }
}

/// What comes after an import has stopped for this reason.
fn after(why: &Stop, failures: i64, now_ms: i64) -> Next {
    let refused = match why {
        Stop::Lost => return Next::Leave,
        Stop::NoAccount => return Next::Fail,
        Stop::Disabled
        | Stop::Call(
            CallError::NoSecret
            | CallError::AccountBlocked { .. }
            | CallError::AddressRefused { .. },
        ) => {
            return Next::Wait(BLOCKED_REST);
        }
        Stop::Call(CallError::Resting { wait }) => return Next::Wait(*wait),
        Stop::Call(CallError::Refused(refusal)) => Some(refusal.errcode.on(FOLLOWERS_PATH)),
        Stop::Call(CallError::Invalid(_)) => return Next::Fail,
        Stop::Call(_) | Stop::Database(_) => None,
    };
    if let Some(rest) = refused.and_then(|refused| backoff::limit_rest(refused, now_ms)) {
        return Next::Wait(rest);
    }
    match refused.map_or(Advice::Backoff, |refused| refused.advice()) {
        Advice::Never | Advice::Fallback | Advice::Alert | Advice::Await => Next::Fail,
        _ if failures >= MAX_FAILURES => Next::Fail,
        Advice::Backoff | Advice::RefreshToken | Advice::NextDay => {
            let doublings = u32::try_from(failures).unwrap_or_default();
            Next::Wait(backoff::doubled(FIRST_WAIT, doublings, MAX_WAIT))
        }
    }
}

/// What was told of each contact asked about; of some WeChat says nothing.
fn told_of(open_ids: &[String], users: &[User]) -> Vec<Told> {
    let told = |open_id: &String| match users.iter().find(|user| user.open_id.as_str() == open_id) {
        Some(user) => Told {
            open_id: open_id.clone(),
            following: Some(user.subscribed),
            followed_at: i64::try_from(user.subscribe_time)
                .ok()
                .filter(|seconds| *seconds > 0)
                .map(|seconds| seconds.saturating_mul(1000)),
            union_id: user.union_id.clone(),
            qr_scene: user.scene(),
            tags: user.tags.clone(),
            remark: user.remark.clone(),
        },
        None => Told {
            open_id: open_id.clone(),
            following: None,
            followed_at: None,
            union_id: None,
            qr_scene: None,
            tags: Vec::new(),
            remark: String::new(),
        },
    };
    open_ids.iter().map(told).collect()
}

fn deadline() -> Instant {
    Instant::now() + CALL_TIMEOUT
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wxhost_wechat::errcode;

    use super::*;
    use crate::backoff::MINUTE_REST;
    use crate::clock::Clock;
    use crate::clock::until_midnight;
    use crate::credentials::TokenLine;
    use crate::db::contacts;
    use crate::tokens::testing::Bed;

    /// Lets hosts import until it has ended; returns how it did.
    async fn ended(bed: &Bed, hosts: usize) -> Import {
        let stop = CancellationToken::new();
        let mut runs = Vec::new();
        for _ in 0..hosts {
            let host = bed.alone().await;
            let importer = Importer {
                db: bed.db().clone(),
                accounts: Arc::clone(&host.accounts),
                client: Arc::clone(&host.client),
            };
            runs.push((tokio::spawn(importer.run(stop.clone())), host));
        }
        let ending = async {
            loop {
                let import = imports::find(bed.db(), &bed.app_id).await.unwrap().unwrap();
                if import.state != "running" {
                    return import;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let import = tokio::time::timeout(Duration::from_secs(30), ending).await;
        stop.cancel();
        for (run, _host) in runs {
            run.await.unwrap();
        }
        import.expect("it ends")
    }

    fn join(bed: &Bed, count: usize) {
        let control = bed.wechat.control();
        let path = format!("/apps/{}/followers", bed.app_id);
        let named = json!({"open_id": "oA", "union_id": "uA", "qr_scene_str": "shop"});
        let crowd = json!({"followers": [named], "count": count});
        control.ask(http::Method::POST, &path, &crowd).unwrap();
    }

    async fn begin(bed: &Bed) {
        imports::start(bed.db(), &bed.app_id, Clock.now_ms())
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn all_followers_are_imported_once() {
        let bed = Bed::new(TokenLine::Stable, 7200).await;
        join(&bed, 249);
        begin(&bed).await;
        let import = ended(&bed, 2).await;
        assert_eq!((&*import.state, import.error), ("done", None));
        assert_eq!(
            (import.total, import.listed, import.fetched),
            (250, 250, 250)
        );
        let page = contacts::list(bed.db(), &bed.app_id, None, 1000)
            .await
            .unwrap();
        assert_eq!(page.contacts.len(), 250);
        assert!(
            page.contacts
                .iter()
                .all(|contact| contact.following == Some(true))
        );
        let known = contacts::find(bed.db(), &bed.app_id, "oA")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(known.union_id.as_deref(), Some("uA"));
        assert_eq!(known.qr_scene.as_deref(), Some("shop"));
    }

    #[tokio::test]
    async fn a_quota_that_is_used_up_is_waited_for_and_the_import_goes_on() {
        let bed = Bed::new(TokenLine::Stable, 7200).await;
        join(&bed, 9);
        let path = "/cgi-bin/user/info/batchget";
        bed.fault(json!({"kind": "errcode", "errcode": 45009, "path_prefix": path, "count": 1}));
        begin(&bed).await;
        let waiting = ended(&bed, 1).await;
        assert_eq!(
            (&*waiting.state, waiting.listed, waiting.fetched),
            ("waiting", 10, 0)
        );
        assert!(waiting.due_at > Clock.now_ms());
        assert!(waiting.error.is_some_and(|error| error.contains("45009")));
        begin(&bed).await;
        let done = ended(&bed, 1).await;
        assert_eq!((&*done.state, done.listed, done.fetched), ("done", 10, 10));
    }

    #[tokio::test]
    async fn one_bad_open_id_does_not_hold_up_the_others() {
        let bed = Bed::new(TokenLine::Stable, 7200).await;
        join(&bed, 6);
        begin(&bed).await;
        // Listed by WeChat once, and not known to it any more.
        let lease = Lease {
            owner: "me",
            now_ms: Clock.now_ms(),
            until_ms: Clock.now_ms(),
        };
        imports::lease(bed.db(), lease).await.unwrap().unwrap();
        let gone = Listed {
            total: 1,
            open_ids: &["oGone"],
            next: Some(""),
            at_ms: 1,
        };
        assert!(
            imports::keep_page(bed.db(), &bed.app_id, lease, gone)
                .await
                .unwrap()
        );
        let import = ended(&bed, 1).await;
        assert_eq!(
            (&*import.state, import.error, import.fetched),
            ("done", None, 8)
        );
    }

    #[test]
    fn an_import_waits_or_fails_as_the_error_advises() {
        let now_ms = 1_700_000_000_000;
        let refused = |code: i64| {
            let body = format!(r#"{{"errcode":{code},"errmsg":"no"}}"#);
            Stop::Call(CallError::Refused(
                errcode::read(body.as_bytes()).unwrap_err(),
            ))
        };
        let second = Duration::from_secs(1);
        for (why, failures, expected) in [
            (refused(45009), 0, Next::Wait(until_midnight(now_ms))),
            (refused(45011), 19, Next::Wait(MINUTE_REST)),
            (refused(45011), MAX_FAILURES, Next::Wait(MINUTE_REST)),
            (refused(-1), 0, Next::Wait(second)),
            (refused(-1), 3, Next::Wait(second * 8)),
            (refused(-1), 19, Next::Wait(MAX_WAIT)),
            (refused(-1), 20, Next::Fail),
            (refused(48001), 0, Next::Fail),
            (Stop::Call(CallError::Timeout), 1, Next::Wait(second * 2)),
            (
                Stop::Call(CallError::NoSecret),
                99,
                Next::Wait(BLOCKED_REST),
            ),
            (Stop::NoAccount, 0, Next::Fail),
            (Stop::Lost, 0, Next::Leave),
        ] {
            assert_eq!(after(&why, failures, now_ms), expected, "{why}");
        }
    }
}
