//! What happens in the demo, and how each exchange must come out.

use anyhow::{Context as _, Result};
use wxhost_simulator::{Forgery, Outcome, Shown, UserAction, WechatPlatform};
use wxhost_wechat::id::{AppId, OpenId};
use wxhost_wechat::reply::Reply;

use super::admin::Admin;
use super::cast::{Cast, Player};
use super::random_hex;
use crate::transcript::{self, say};

/// The demo's exchanges.
pub(super) struct Script<'d> {
    wechat: &'d WechatPlatform,
    admin: &'d Admin,
    cast: &'d Cast,
    /// The account of each genuine message so far.
    told: Vec<AppId>,
    right: u32,
    wrong: u32,
}

impl<'d> Script<'d> {
    pub(super) fn new(wechat: &'d WechatPlatform, admin: &'d Admin, cast: &'d Cast) -> Self {
        Self {
            wechat,
            admin,
            cast,
            told: Vec::new(),
            right: 0,
            wrong: 0,
        }
    }

    /// Plays everything in order.
    pub(super) async fn play(&mut self) -> Result<()> {
        self.save_settings().await;
        self.converse().await?;
        self.forge().await?;
        self.resend().await
    }

    /// Says how it went.
    pub(super) fn conclude(&self) -> bool {
        say(&format!("\n{} right, {} wrong", self.right, self.wrong));
        self.wrong == 0
    }

    /// WeChat checks each URL when its settings are saved.
    async fn save_settings(&mut self) {
        let cast = self.cast;
        for player in [&cast.echo, &cast.tea_house, &cast.bookshop] {
            say(&format!("\nWeChat checks the URL of {}", player.name));
            let accepted = self.wechat.verify_url(&player.account).await;
            self.expect("accepted", accepted.is_ok(), || format!("{accepted:?}"));
        }
    }

    /// Messages and events in each of the three modes.
    async fn converse(&mut self) -> Result<()> {
        let cast = self.cast;
        let text = |text: &str| Shown::Reply(Reply::Text(text.to_owned()));
        let user = new_user()?;
        for (player, action, expected) in [
            (
                &cast.echo,
                UserAction::text("你好"),
                text("You wrote: 你好"),
            ),
            (&cast.echo, UserAction::image("media-1"), Shown::Nothing),
            (
                &cast.tea_house,
                UserAction::click("HOURS"),
                text("每天 10:00 至 22:00 营业。"),
            ),
            // The plugin remembers what this user asked last.
            (
                &cast.tea_house,
                UserAction::text("更多"),
                text("节假日 18:00 打烊。"),
            ),
            (
                &cast.bookshop,
                UserAction::follow_by_qr("poster-3", "gQE-ticket"),
                text("欢迎从三号海报来到书店，凭此消息九折。"),
            ),
            (&cast.bookshop, UserAction::image("media-2"), Shown::Nothing),
            (
                &cast.bookshop,
                UserAction::text("人工"),
                Shown::Reply(Reply::TransferCustomerService(None)),
            ),
        ] {
            self.told.push(player.account.app_id.clone());
            let delivery = self.wechat.user_does(&player.account, &user, &action).await;
            transcript::delivery(player.name, &player.account, &user, &action, &delivery);
            let answered = matches!(
                delivery.attempts.as_slice(),
                [only] if matches!(only.outcome, Outcome::Replied(_) | Outcome::Silent)
            );
            self.expect(
                "as it should be",
                answered && delivery.shown == expected,
                || format!("should see: {expected}"),
            );
        }
        Ok(())
    }

    /// What no plugin may ever see.
    async fn forge(&mut self) -> Result<()> {
        let cast = self.cast;
        let user = new_user()?;
        let action = UserAction::text("新书");
        for (player, forgery) in [
            (&cast.bookshop, Forgery::BadSignature),
            (&cast.bookshop, Forgery::Plaintext),
            (&cast.echo, Forgery::StaleTimestamp),
        ] {
            let callback = self.wechat.compose(&player.account, &user, &action);
            let answer = self
                .wechat
                .forge(&player.account, &callback, forgery)
                .await?;
            transcript::forgery(player.name, &player.account, &action, forgery, &answer);
            self.expect(
                "refused",
                answer.status == forgery.deserved_status(),
                || format!("should be {}", forgery.deserved_status()),
            );
        }
        Ok(())
    }

    /// WeChat's re-sends: one message delivered three times at once and once more afterwards is one
    /// run with one answer.
    async fn resend(&mut self) -> Result<()> {
        let Player { name, account } = &self.cast.bookshop;
        let user = new_user()?;
        let action = UserAction::text("新书");
        self.told.push(account.app_id.clone());
        let callback = self.wechat.compose(account, &user, &action);
        let mut delivery = self.wechat.push_overlapping(account, &callback).await;
        let again = self.wechat.push(account, &callback).await;
        delivery.attempts.extend(again.attempts);
        say("\nWeChat delivers one message three times at once, and once more when it is answered");
        transcript::delivery(name, account, &user, &action, &delivery);

        let expected = Outcome::Replied(Reply::Text("本周新书：《茶经》。".to_owned()));
        let outcomes: Vec<_> = delivery.attempts.iter().map(|a| &a.outcome).collect();
        self.expect(
            "four deliveries, one answer",
            outcomes == [&expected; 4],
            || format!("{outcomes:?}"),
        );

        let due = self
            .told
            .iter()
            .filter(|told| **told == account.app_id)
            .count();
        let calls = self.admin.calls(account, due).await?;
        let begin = format!("m:{}:", callback.value("MsgId").context("MsgId")?);
        let is_of_it = |call: &&serde_json::Value| {
            let event_id = call["event_id"].as_str();
            event_id.is_some_and(|event_id| event_id.starts_with(&begin))
        };
        let runs = calls.iter().filter(is_of_it).count();
        self.expect("the plugin ran once", runs == 1, || {
            format!("{runs} call records")
        });
        self.expect("and never for a forgery", calls.len() == due, || {
            format!("{} call records, {due} are due", calls.len())
        });
        let visits = self
            .admin
            .stored(account, &format!("visits/{user}"))
            .await?;
        self.expect(
            "its effects were committed once",
            visits.as_deref() == Some("1"),
            || format!("visits of this user: {visits:?}"),
        );
        Ok(())
    }

    /// Checks what is said, and counts it.
    fn expect(&mut self, what: &str, holds: bool, instead: impl FnOnce() -> String) {
        if holds {
            self.right += 1;
            say(&format!("  ✓ {what}"));
        } else {
            self.wrong += 1;
            say(&format!("  ✗ {what}: {}", instead()));
        }
    }
}

/// A user that no plugin has met.
fn new_user() -> Result<OpenId> {
    Ok(OpenId::parse(&format!("o{}", random_hex(13)?))?)
}
