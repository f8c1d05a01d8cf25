//! Messages that WeChat holds for review.

use super::*;

#[tokio::test]
async fn a_template_that_wechat_reviews_is_held_and_followed_to_its_verdict() {
    let path = "/cgi-bin/message/template/send";
    let post = Post::new().await;
    let reviewed =
        |review: &str| json!({"template_id": "T1", "content": "{{first.DATA}}", "review": review});
    post.sim("templates", &reviewed("block"));
    post.event("m:1", "oA", vec![template()]).await;
    let mut post = post.with_hosts(1).await;
    let held = post.until(0, "held").await;
    assert_eq!((held.errcode, held.attempts), (Some(40252), 1));
    assert_eq!(held.reason.as_deref(), Some("held-for-review"));
    post.end().await;
    let control = post.bed.wechat.control();
    control.advance(Duration::from_secs(30 * 60));
    let db = post.bed.db();
    let (app_id, id) = (&*post.bed.app_id, &*held.id);
    let row = outbox::RowId { app_id, id };
    let asked = outbox::ask_again(db, row, Some(1), "held-for-review");
    asked.await.unwrap();
    let mut post = post.with_hosts(1).await;
    let failed = post.until(0, "failed").await;
    assert_eq!(failed.reason.as_deref(), Some("blocked-by-review"));
    assert_eq!(post.received(path), 1);
    assert_eq!(post.shown().len(), 0);
    post.end().await;
}

#[tokio::test]
async fn an_event_tells_that_a_held_template_was_delivered() {
    let post = Post::new().await;
    let reviewed = json!({"template_id": "T1", "content": "{{first.DATA}}", "review": "pass"});
    post.sim("templates", &reviewed);
    post.event("m:1", "oA", vec![template()]).await;
    let mut post = post.with_hosts(1).await;
    post.until(0, "held").await;
    post.end().await;
    let receipt = |open_id: &str, msgid: &str| Receipt {
        app_id: post.bed.app_id.clone(),
        open_id: open_id.to_owned(),
        msgid: msgid.to_owned(),
        failure: None,
    };
    let receipts = [receipt("oB", "7"), receipt("oA", "8")];
    Receipt::insert(post.bed.db(), &receipts).await.unwrap();
    let row = &post.rows().await[0];
    assert_eq!((&*row.state, row.msgid.as_deref()), ("sent", Some("8")));
}
