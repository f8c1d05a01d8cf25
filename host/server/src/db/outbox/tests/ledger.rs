//! What the ledger of customer-service messages lets through.

use super::*;
use crate::db::contacts::Contacts;

#[tokio::test]
async fn five_messages_go_after_one_of_the_contact_and_the_next_one_restores_them() {
    for db in databases().await {
        see(&db, wrote("oA", NOW)).await;
        event(&db, "m:1", &messages(8)).await;
        for _ in 0..5 {
            assert_eq!(next(&db, NOW + 1).await, Begun::Go);
        }
        assert_eq!(next(&db, NOW + 1).await, Begun::Refused(Refusal::UsedUp));
        see(&db, wrote("oA", NOW + 1000)).await;
        assert_eq!(next(&db, NOW + 1001).await, Begun::Go);
        let late = NOW + 1000 + 48 * 60 * MINUTE;
        assert_eq!(next(&db, late).await, Begun::Refused(Refusal::Closed));
    }
}

#[tokio::test]
async fn scenes_are_counted_apart_and_not_added_together() {
    for db in databases().await {
        let mut tapped = update("oA", NOW);
        tapped.menu_granted_at = Some(NOW);
        tapped.last.follow = Some(NOW);
        see(&db, tapped).await;
        event(&db, "m:1", &messages(6)).await;
        for _ in 0..3 {
            assert_eq!(next(&db, NOW + 1).await, Begun::Go);
        }
        assert_eq!(next(&db, NOW + 1).await, Begun::Refused(Refusal::UsedUp));
        let mut scanned = update("oA", NOW + 2);
        scanned.last.scan = Some(NOW + 2);
        see(&db, scanned).await;
        assert_eq!(next(&db, NOW + 3).await, Begun::Go);
        let later = NOW + 2 + MINUTE;
        assert_eq!(next(&db, later).await, Begun::Refused(Refusal::Closed));
    }
}

#[tokio::test]
async fn nothing_goes_to_who_left() {
    for db in databases().await {
        event(&db, "m:1", &messages(1)).await;
        see(&db, wrote("oA", NOW)).await;
        let mut left = update("oA", NOW + 1);
        left.unfollowed_at = Some(NOW + 1);
        see(&db, left).await;
        assert_eq!(next(&db, NOW + 2).await, Begun::Refused(Refusal::Closed));
    }
}

#[tokio::test]
async fn who_may_have_written_before_the_host_came_is_tried_until_wechat_refuses() {
    let hour = 60 * MINUTE;
    for db in databases().await {
        // Never met, and met by something that is no message.
        for open_id in ["oA", "oB", "oC"] {
            event(&db, open_id, &[send(Kind::CustomerMessage, open_id, "1")]).await;
        }
        see(&db, update("oB", NOW)).await;
        let leased = lease_of(&db, APP, at(NOW + 1)).await;
        assert_eq!(leased.len(), 3);
        for row in &leased {
            let begun = begin(&db, row, at(NOW + 1), &scenes()).await.unwrap();
            assert_eq!(begun, Begun::Go);
            settle_as(&db, row, NOW + 1, Final::Failed).await;
            let open_id = &row.outgoing.open_id;
            let contact = ContactKey {
                app_id: APP,
                open_id,
            };
            allowance::exhaust(&db, contact, NOW + 1).await.unwrap();
        }
        event(&db, "m:2", &messages(2)).await;
        assert_eq!(next(&db, NOW + 2).await, Begun::Refused(Refusal::Closed));
        // What the contact does from now on is known.
        see(&db, wrote("oA", NOW + 3)).await;
        assert_eq!(next(&db, NOW + 4).await, Begun::Go);
        // Who was met two days ago has done nothing since that the host would not know.
        see(&db, update("oD", NOW)).await;
        event(&db, "m:3", &[send(Kind::CustomerMessage, "oD", "1")]).await;
        let later = next(&db, NOW + 48 * hour).await;
        assert_eq!(later, Begun::Refused(Refusal::Closed));
    }
}

#[tokio::test]
async fn a_refusal_of_wechat_corrects_the_ledger_up_to_what_the_contact_did_since() {
    for db in databases().await {
        let contact = ContactKey {
            app_id: APP,
            open_id: "oA",
        };
        see(&db, wrote("oA", NOW)).await;
        event(&db, "m:1", &messages(4)).await;
        assert_eq!(next(&db, NOW + 1).await, Begun::Go);
        // That message was refused, but the contact has written again meanwhile.
        see(&db, wrote("oA", NOW + 5)).await;
        allowance::exhaust(&db, contact, NOW + 1).await.unwrap();
        assert_eq!(next(&db, NOW + 6).await, Begun::Go);
        allowance::exhaust(&db, contact, NOW + 6).await.unwrap();
        assert_eq!(next(&db, NOW + 7).await, Begun::Refused(Refusal::UsedUp));
        see(&db, wrote("oA", NOW + 8)).await;
        assert_eq!(next(&db, NOW + 9).await, Begun::Go);
    }
}

#[tokio::test]
async fn a_message_that_was_not_taken_gives_its_room_back() {
    for db in databases().await {
        let contact = ContactKey {
            app_id: APP,
            open_id: "oA",
        };
        see(&db, wrote("oA", NOW)).await;
        event(&db, "m:1", &messages(7)).await;
        assert_eq!(next(&db, NOW + 1).await, Begun::Go);
        allowance::release(&db, contact, NOW + 1).await.unwrap();
        for _ in 0..5 {
            assert_eq!(next(&db, NOW + 1).await, Begun::Go);
        }
        assert_eq!(next(&db, NOW + 1).await, Begun::Refused(Refusal::UsedUp));
    }
}

#[tokio::test]
async fn what_is_foretold_is_what_the_ledger_lets_through() {
    for db in databases().await {
        let two_days_ago = NOW - 48 * 60 * MINUTE;
        see(&db, wrote("oWrote", NOW)).await;
        see(&db, wrote("oLongAgo", two_days_ago - 1)).await;
        let mut followed = update("oFollows", two_days_ago);
        followed.last.follow = Some(two_days_ago);
        see(&db, followed).await;
        let mut left = update("oLeft", NOW);
        left.unfollowed_at = Some(NOW);
        see(&db, left).await;
        see(&db, update("oMet", NOW)).await;
        let open_ids = ["oWrote", "oLongAgo", "oFollows", "oLeft", "oMet", "oNever"];
        let reach = async |open_ids: &[&str]| {
            let contacts = Contacts {
                app_id: APP,
                open_ids,
            };
            let rules = (&scenes(), NOW + 1);
            allowance::reach(&db, contacts, rules).await.unwrap()
        };
        let foretold = reach(&open_ids).await;
        assert_eq!(reach(&[]).await, allowance::Reach::default());
        // Each for itself, beside what happens when a message goes.
        for open_id in open_ids {
            event(&db, open_id, &[send(Kind::CustomerMessage, open_id, "1")]).await;
            let told = reach(&[open_id]).await;
            let begun = next(&db, NOW + 1).await;
            let goes = told.by_chat + told.untested == 1;
            assert_eq!(begun == Begun::Go, goes, "{open_id}: {told:?}, {begun:?}");
        }
        assert_eq!((foretold.by_chat, foretold.untested), (1, 2));
        let others = foretold.by_template + foretold.by_nothing;
        assert_eq!((others, foretold.opted_out), (3, 0));
    }
}
