//! Template messages that are held for review.

use super::*;

#[tokio::test]
async fn a_message_that_is_reviewed_is_delivered_or_blocked_without_another_call() {
    let sim = Sim::start().await;
    sim.stage("followers", json!({ "open_ids": ["oA"] })).await;
    for (template_id, review) in [("T1", "pass"), ("T2", "block")] {
        let template = json!({
            "template_id": template_id, "content": "{{first.DATA}}", "review": review,
        });
        sim.stage("templates", template).await;
    }
    let at = sim.open().await;
    let send = async |template_id: &str, client_msg_id: &str| {
        let body = json!({
            "touser": "oA", "template_id": template_id, "client_msg_id": client_msg_id,
            "data": { "first": { "value": "1" } },
        });
        let answer = sim.post(&at("/cgi-bin/message/template/send"), &body).await;
        assert!(answer["msgid"].is_null(), "{answer}");
        code(&answer)
    };
    let shown = async || {
        let path = format!("/apps/{APP}/messages");
        let shown = sim.control("GET", &path, Value::Null).await;
        shown.as_array().unwrap().len()
    };
    for template_id in ["T1", "T2"] {
        assert_eq!(send(template_id, template_id).await, 40252);
        // The same message is held once.
        assert_eq!(send(template_id, template_id).await, 40252);
    }
    assert_eq!(shown().await, 0);
    sim.advance(30 * 60).await;
    assert_eq!(shown().await, 1);
    let blocked = async |template_id: &str, after: u64| {
        let body = json!({ "tmpl_msg_id": template_id, "largest_id": after, "limit": 100 });
        let answer = sim.post(&at("/wxa/sec/queryblocktmplmsg"), &body).await;
        answer["msginfo"]
            .as_array()
            .unwrap_or_else(|| panic!("{answer}"))
            .clone()
    };
    assert_eq!(blocked("T1", 0).await, Vec::<Value>::new());
    let of_second = blocked("T2", 0).await;
    assert_eq!(of_second.len(), 1);
    assert_eq!(of_second[0]["openid"], "oA");
    assert_eq!(blocked("T2", 1).await.len(), 0);
}
