//! In which order rows of one contact leave.

use super::*;

#[tokio::test]
async fn messages_of_different_apis_go_out_in_order_and_do_not_wait_for_one_that_rests() {
    for db in databases().await {
        let steps = [
            send(Kind::Template, "oA", "1"),
            send(Kind::CustomerMessage, "oA", "2"),
            send(Kind::Template, "oA", "3"),
            send(Kind::Tags, "oA", "tag"),
        ];
        event(&db, "m:1", &steps).await;
        see(&db, wrote("oA", NOW)).await;
        // A tag is nothing that the contact sees.
        let first = lease_of(&db, APP, at(NOW)).await;
        assert_eq!(payloads(&first), ["1", "tag"]);
        assert!(lease_of(&db, APP, at(NOW + 2000)).await.is_empty());
        let template = first.iter().find(|row| row.outgoing.path == TEMPLATE);
        settle_as(&db, template.unwrap(), NOW + 2001, Final::Sent).await;
        let second = lease_of(&db, APP, at(NOW + 2001)).await;
        assert_eq!(payloads(&second), ["2"]);
        settle_as(&db, &second[0], NOW + 2002, Final::Sent).await;
        // WeChat takes no more templates today.
        rest(&db, APP, TEMPLATE, NOW + 1000 * MINUTE).await;
        event(&db, "m:2", &[send(Kind::LateAnswer, "oA", "4")]).await;
        let third = lease_of(&db, APP, at(NOW + 2003)).await;
        assert_eq!(payloads(&third), ["4"]);
        settle_as(&db, &third[0], NOW + 2004, Final::Sent).await;
        let morning = NOW + 1000 * MINUTE;
        // Nobody has ended the tag, so its lease has run out.
        let last = lease_of(&db, APP, at(morning)).await;
        assert_eq!(payloads(&last), ["3", "tag"]);
    }
}

#[tokio::test]
async fn a_template_that_was_refused_for_the_day_does_not_hold_up_a_chat_answer() {
    for db in databases().await {
        let steps = [
            send(Kind::Template, "oA", "offer"),
            send(Kind::LateAnswer, "oA", "answer"),
        ];
        event(&db, "m:1", &steps).await;
        see(&db, wrote("oA", NOW)).await;
        let leased = lease_of(&db, APP, at(NOW)).await;
        assert_eq!(payloads(&leased), ["offer"]);
        let report = Report::default();
        let wait = Postponement {
            due_at: NOW + 1260 * MINUTE,
            report: &report,
            uncounted: 1,
        };
        assert!(postpone(&db, &leased[0], at(NOW), wait).await.unwrap());
        let leased = lease_of(&db, APP, at(NOW + 1)).await;
        assert_eq!(payloads(&leased), ["answer"]);
    }
}

#[tokio::test]
async fn a_tag_that_is_taken_after_it_was_given_is_taken_last_whatever_rests() {
    let untag = "/cgi-bin/tags/members/batchuntagging";
    for db in databases().await {
        let steps = [
            send(Kind::Tags, "oA", "give"),
            over(Kind::Tags, untag, "oA", "take"),
        ];
        event(&db, "m:1", &steps).await;
        rest(&db, APP, "/cgi-bin/tags/members/batchtagging", NOW + MINUTE).await;
        assert!(lease_of(&db, APP, at(NOW)).await.is_empty());
        let given = lease_of(&db, APP, at(NOW + MINUTE)).await;
        assert_eq!(payloads(&given), ["give"]);
        settle_as(&db, &given[0], NOW + MINUTE, Final::Sent).await;
        let taken = lease_of(&db, APP, at(NOW + MINUTE)).await;
        assert_eq!(payloads(&taken), ["take"]);
    }
}
