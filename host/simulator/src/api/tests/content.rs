//! Media, material, drafts and publishing.

use super::*;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\nrest";

/// A form with one file, and fields.
pub(super) fn form(
    file: Option<(&str, &str, &[u8])>,
    fields: &[(&str, &str)],
) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    if let Some((name, content_type, bytes)) = file {
        let head = format!(
            "--B\r\nContent-Disposition: form-data; name=\"media\"; filename=\"{name}\"\r\n\
             Content-Type: {content_type}\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    for (name, value) in fields {
        let part =
            format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    body.extend_from_slice(b"--B--\r\n");
    ("multipart/form-data; boundary=B".to_owned(), body)
}

impl Sim {
    pub(super) async fn upload(
        &self,
        path: &str,
        (content_type, body): (String, Vec<u8>),
    ) -> Value {
        let request = self.http.post(self.url(path));
        let request = request.header("content-type", content_type).body(body);
        request.send().await.unwrap().json().await.unwrap()
    }

    async fn permanent_picture(&self, at: &impl Fn(&str) -> String) -> String {
        let path = format!("{}&type=image", at("/cgi-bin/material/add_material"));
        let added = self
            .upload(&path, form(Some(("a.png", "image/png", PNG)), &[]))
            .await;
        assert!(text(&added, "url").starts_with("http"));
        text(&added, "media_id").to_owned()
    }
}

#[tokio::test]
async fn temporary_media_is_served_for_three_days() {
    let sim = Sim::start().await;
    let at = sim.open().await;
    let path = format!("{}&type=image", at("/cgi-bin/media/upload"));
    let up = sim
        .upload(&path, form(Some(("a.png", "image/png", PNG)), &[]))
        .await;
    assert_eq!(up["type"], "image");
    assert_eq!(up["created_at"], START.as_secs());
    let id = text(&up, "media_id").to_owned();
    let path = format!("{}&media_id={id}", at("/cgi-bin/media/get"));
    let down = sim.http.get(sim.url(&path)).send().await.unwrap();
    assert_eq!(down.headers()["content-type"], "image/png");
    assert_eq!(
        down.headers()["content-disposition"],
        "attachment; filename=\"a.png\""
    );
    assert_eq!(down.bytes().await.unwrap(), PNG);
    let path = format!("{}&media_id={id}", at("/cgi-bin/media/get/jssdk"));
    assert_eq!(code(&sim.get(&path).await), 40007);

    sim.advance(3 * 24 * 3600 - 1).await;
    let at = sim.open().await;
    let path = format!("{}&media_id={id}", at("/cgi-bin/media/get"));
    assert_eq!(
        sim.http
            .get(sim.url(&path))
            .send()
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap(),
        PNG
    );
    sim.advance(1).await;
    let answer = sim.http.get(sim.url(&path)).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/plain");
    assert_eq!(code(&answer.json().await.unwrap()), 40007);
    assert_eq!(code(&sim.get(&at("/cgi-bin/media/get")).await), 41006);
}

#[tokio::test]
async fn an_upload_is_a_form_with_a_file_of_the_right_kind_and_size() {
    let sim = Sim::start().await;
    let at = sim.open().await;
    let mp4: &[u8] = b"\0\0\0\x18ftypmp42";
    let mut large_thumb = vec![0xff, 0xd8];
    large_thumb.resize(64 * 1024 + 1, 0);
    let mut large_voice = b"#!AMR\n".to_vec();
    large_voice.resize(2 * 1024 * 1024 + 1, 0);
    let mut large_image = PNG.to_vec();
    large_image.resize(10 * 1024 * 1024 + 1, 0);
    for (kind, name, bytes, expected) in [
        ("image", "a.png", PNG, 0),
        ("image", "a.txt", PNG, 40005),
        ("image", "a.png", b"text".as_slice(), 40005),
        ("image", "a.png", b"", 44001),
        ("image", "", PNG, 41005),
        ("image", "a.png", &large_image, 40009),
        ("voice", "a.amr", b"#!AMR\nx", 0),
        ("voice", "a.amr", &large_voice, 40010),
        ("voice", "a.png", PNG, 40005),
        ("video", "a.mp4", mp4, 0),
        ("video", "a.mp4", PNG, 40005),
        ("thumb", "a.jpg", b"\xff\xd8x", 0),
        ("thumb", "a.png", PNG, 40005),
        ("thumb", "a.jpg", &large_thumb, 40012),
        ("song", "a.mp3", b"ID3", 40004),
    ] {
        let path = format!("{}&type={kind}", at("/cgi-bin/media/upload"));
        let form = form(Some((name, "application/octet-stream", bytes)), &[]);
        let answer = sim.upload(&path, form).await;
        assert_eq!(code(&answer), expected, "{kind} {name} {answer}");
        if expected == 0 && kind == "thumb" {
            assert!(answer["thumb_media_id"].is_string());
        }
    }
    let path = format!("{}&type=image", at("/cgi-bin/media/upload"));
    assert_eq!(
        code(&sim.post(&path, &json!({ "media": "x" })).await),
        41005
    );
    assert_eq!(
        code(&sim.upload(&path, form(None, &[("media", "x")])).await),
        41005
    );
    assert_eq!(code(&sim.post_text(&path, "").await), 44002);
    let path = at("/cgi-bin/media/uploadimg");
    let picture = sim
        .upload(&path, form(Some(("a.png", "image/png", PNG)), &[]))
        .await;
    assert!(text(&picture, "url").starts_with("http"));
    large_image.truncate(1024 * 1024);
    let large = form(Some(("a.png", "image/png", &large_image)), &[]);
    assert_eq!(code(&sim.upload(&path, large).await), 40009);
}

#[tokio::test]
async fn material_stays_until_it_is_removed() {
    let sim = Sim::start().await;
    let at = sim.open().await;
    let id = sim.permanent_picture(&at).await;
    let path = format!("{}&type=video", at("/cgi-bin/material/add_material"));
    let mp4: &[u8] = b"\0\0\0\x18ftypmp42";
    let file = Some(("a.mp4", "video/mp4", mp4));
    let description = r#"{"title":"t","introduction":"i"}"#;
    let video = sim
        .upload(&path, form(file, &[("description", description)]))
        .await;
    assert_eq!(code(&sim.upload(&path, form(file, &[])).await), 47001);
    let counts = sim.get(&at("/cgi-bin/material/get_materialcount")).await;
    assert_eq!(
        (&counts["image_count"], &counts["video_count"]),
        (&json!(1), &json!(1))
    );
    sim.advance(30 * 24 * 3600).await;
    let at = sim.open().await;
    let get = at("/cgi-bin/material/get_material");
    let body = json!({ "media_id": id }).to_string();
    let down = sim
        .http
        .post(sim.url(&get))
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(down.bytes().await.unwrap(), PNG);
    let shown = sim
        .post(&get, &json!({ "media_id": video["media_id"] }))
        .await;
    assert_eq!(shown["title"], "t");
    let list = at("/cgi-bin/material/batchget_material");
    let page = sim
        .post(&list, &json!({ "type": "image", "offset": 0, "count": 20 }))
        .await;
    assert_eq!(page["item"][0]["media_id"], id.as_str());
    for (body, expected) in [
        (json!({ "type": "image", "offset": 0, "count": 0 }), 40097),
        (json!({ "type": "image", "offset": 0, "count": 21 }), 40097),
        (json!({ "type": "image", "count": 1 }), 40097),
        (json!({ "type": "thumb", "offset": 0, "count": 1 }), 40004),
    ] {
        assert_eq!(code(&sim.post(&list, &body).await), expected, "{body}");
    }
    let remove = at("/cgi-bin/material/del_material");
    assert_eq!(
        code(&sim.post(&remove, &json!({ "media_id": id })).await),
        0
    );
    assert_eq!(
        code(&sim.post(&remove, &json!({ "media_id": id })).await),
        40007
    );
    assert_eq!(
        code(&sim.post(&get, &json!({ "media_id": id })).await),
        40007
    );
}

#[tokio::test]
async fn drafts_are_written_and_published() {
    let sim = Sim::start().await;
    let at = sim.open().await;
    let cover = sim.permanent_picture(&at).await;
    let article = json!({ "title": "标题", "content": "<p>文</p>", "thumb_media_id": cover });
    let changed = |name: &str, value: Value| {
        let mut article = article.clone();
        article[name] = value;
        json!({ "articles": [article] })
    };
    let add = at("/cgi-bin/draft/add");
    for (body, expected) in [
        (json!({}), 44003),
        (json!({ "articles": [] }), 44003),
        (json!({ "articles": vec![&article; 9] }), 45008),
        (changed("title", json!("")), 44003),
        (changed("title", json!("好".repeat(65))), 45003),
        (changed("digest", json!("好".repeat(121))), 45004),
        (changed("content", json!("")), 44004),
        (changed("content", json!("好".repeat(20_000))), 45002),
        (changed("thumb_media_id", Value::Null), 41006),
        (changed("thumb_media_id", json!("x")), 40007),
        (changed("article_type", json!("x")), 40097),
    ] {
        let answer = sim.post(&add, &body).await;
        assert_eq!(code(&answer), expected, "{answer}");
    }
    let escaped = format!(
        r#"{{"articles":[{{"title":"\u4f60","content":"x","thumb_media_id":"{cover}"}}]}}"#
    );
    assert_eq!(code(&sim.post_text(&add, escaped).await), 40033);
    let draft = sim.post(&add, &json!({ "articles": [article] })).await;
    let draft = json!({ "media_id": draft["media_id"] });
    let mut update = draft.clone();
    update["index"] = json!(0);
    update["articles"] = changed("title", json!("新标题"))["articles"][0].clone();
    assert_eq!(
        code(&sim.post(&at("/cgi-bin/draft/update"), &update).await),
        0
    );
    update["index"] = json!(1);
    assert_eq!(
        code(&sim.post(&at("/cgi-bin/draft/update"), &update).await),
        40097
    );
    let shown = sim.post(&at("/cgi-bin/draft/get"), &draft).await;
    assert_eq!(shown["news_item"][0]["title"], "新标题");
    let list = json!({ "offset": 0, "count": 20, "no_content": 1 });
    let page = sim.post(&at("/cgi-bin/draft/batchget"), &list).await;
    assert_eq!(page["item"][0]["content"]["news_item"][0]["content"], "");
    assert_eq!(sim.get(&at("/cgi-bin/draft/count")).await["total_count"], 1);

    let publish = sim.post(&at("/cgi-bin/freepublish/submit"), &draft).await;
    let publish = json!({ "publish_id": publish["publish_id"] });
    assert_eq!(sim.get(&at("/cgi-bin/draft/count")).await["total_count"], 0);
    let status = at("/cgi-bin/freepublish/get");
    let done = sim.post(&status, &publish).await;
    assert_eq!(done["publish_status"], 0);
    let article = json!({ "article_id": done["article_id"] });
    let shown = sim
        .post(&at("/cgi-bin/freepublish/getarticle"), &article)
        .await;
    assert_eq!(shown["news_item"][0]["title"], "新标题");
    sim.does("oA", "message").await;
    assert_eq!(sim.say("oA", "mpnewsarticle", article.clone()).await, 0);
    let remove = at("/cgi-bin/freepublish/delete");
    assert_eq!(code(&sim.post(&remove, &article).await), 0);
    assert_eq!(code(&sim.post(&remove, &article).await), 53600);
    assert_eq!(sim.post(&status, &publish).await["publish_status"], 5);
    assert_eq!(
        code(&sim.post(&status, &json!({ "publish_id": "1" })).await),
        53502
    );
    let remove = at("/cgi-bin/draft/delete");
    assert_eq!(code(&sim.post(&remove, &draft).await), 40007);
}
