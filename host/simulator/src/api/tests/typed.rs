//! The calls that `wxhost_wechat::api` describes, answered here and read there: two readings of the
//! same documents must agree.

use wxhost_wechat::api::{
    Call, Method as ApiMethod, customer_message, draft, kf_account, kf_session, mass, menu,
    network, qrcode, quota, short_key, tag, template, user,
};
use wxhost_wechat::id::{AppId, OpenId};

use super::*;

impl Sim {
    async fn call<C: Call>(&self, call: &C) -> C::Answer {
        let request = call.request().unwrap();
        let mut query = request.query.clone();
        query.push(("access_token".into(), token(&self.stable(false).await)));
        let url = self.url(&request.path);
        let http = match request.method {
            ApiMethod::Get => self.http.get(url),
            ApiMethod::Post => {
                let json = request.json().unwrap().to_owned();
                self.http.post(url).body(json)
            }
        };
        let answer = http.query(&query).send().await.unwrap();
        let bytes = answer.bytes().await.unwrap();
        C::answer(&bytes).unwrap_or_else(|error| panic!("{} {error}", request.path))
    }
}

fn id(text: &str) -> OpenId {
    OpenId::parse(text).unwrap()
}

#[tokio::test]
async fn people_and_tags() {
    let sim = Sim::start().await;
    let follower = json!({ "open_id": "oA", "union_id": "u", "qr_scene_str": "shop" });
    sim.stage(
        "followers",
        json!({ "followers": [follower], "open_ids": ["oB"] }),
    )
    .await;
    let page = sim.call(&user::Followers::default()).await;
    assert_eq!((page.total, page.open_ids.len(), page.next), (2, 2, None));
    let created = tag::Create {
        name: "贵宾".into(),
    };
    sim.call(&created).await;
    let remark = user::SetRemark {
        open_id: id("oA"),
        remark: "老客户".into(),
    };
    sim.call(&remark).await;
    let language = user::Language::Simplified;
    let info = user::Info {
        open_id: id("oA"),
        language,
    };
    let info = sim.call(&info).await;
    assert!(info.subscribed);
    assert_eq!(info.union_id.as_deref(), Some("u"));
    assert_eq!(info.remark, "老客户");
    assert_eq!(info.scene().as_deref(), Some("shop"));
    sim.does("oB", "unfollow").await;
    let infos = user::Infos {
        open_ids: vec![id("oA"), id("oB")],
        language,
    };
    let infos = sim.call(&infos).await;
    let subscribed: Vec<bool> = infos.users.iter().map(|user| user.subscribed).collect();
    assert_eq!(subscribed, [true, false]);
    sim.call(&tag::List).await;
}

#[tokio::test]
async fn messages() {
    let sim = Sim::start().await;
    sim.does("oA", "message").await;
    sim.stage("followers", json!({ "open_ids": ["oB"] })).await;
    let choice = customer_message::Choice {
        id: "101".into(),
        content: "满意".into(),
    };
    for content in [
        customer_message::Content::Text {
            content: "你好 \"<a>\"\n😀".into(),
        },
        customer_message::Content::News {
            articles: [customer_message::Article {
                title: "t".into(),
                description: "d".into(),
                url: "https://a.example".into(),
                pic_url: String::new(),
            }],
        },
        customer_message::Content::MsgMenu(customer_message::Menu {
            head: "?".into(),
            choices: vec![choice],
            tail: "!".into(),
        }),
    ] {
        let send = customer_message::Send {
            open_id: id("oA"),
            content,
            kf_account: None,
        };
        sim.call(&send).await;
    }
    let path = format!("/apps/{APP}/messages?open_id=oA");
    let shown = sim.control("GET", &path, Value::Null).await;
    assert_eq!(shown[0]["message"]["text"]["content"], "你好 \"<a>\"\n😀");
    assert_eq!(shown[0]["shown_escaped"], false);
    let template = json!({ "template_id": "T1", "content": "{{thing1.DATA}}" });
    sim.stage("templates", template).await;
    let send = template::Send {
        open_id: id("oA"),
        template_id: "T1".into(),
        url: Some("https://a.example".into()),
        mini_program: None,
        data: template::Data(vec![("thing1".into(), "茶".into())]),
        client_msg_id: Some("once".into()),
    };
    let first = sim.call(&send).await;
    assert!(first.msg_id.0 > 1 << 53);
    assert_eq!(sim.call(&send).await.msg_id, first.msg_id);
    assert_eq!(sim.call(&template::List).await.templates.len(), 1);
    let draft = mass::Draft {
        content: mass::Content::Text {
            content: "大家好".into(),
        },
        send_ignore_reprint: false,
        client_msg_id: Some("mass-1".into()),
    };
    let everybody = mass::SendToList {
        open_ids: vec![id("oA"), id("oB")],
        draft: draft.clone(),
    };
    let sent = sim.call(&everybody).await;
    assert!(!sent.repeated);
    sim.advance(60).await;
    let again = sim.call(&everybody).await;
    assert_eq!((again.repeated, again.msg_id), (true, sent.msg_id));
    let status = mass::Status {
        msg_id: sent.msg_id,
    };
    assert_eq!(sim.call(&status).await.msg_status, "SEND_SUCCESS");
    sim.call(&mass::SetSpeed { speed: 2 }).await;
    assert_eq!(sim.call(&mass::Speed {}).await.real_speed, 45);
    let to_all = mass::SendToAll {
        tag_id: None,
        draft: mass::Draft {
            client_msg_id: Some("mass-2".into()),
            ..draft
        },
    };
    sim.call(&to_all).await;
}

#[tokio::test]
async fn menus_codes_and_keys() {
    let sim = Sim::start().await;
    let entry = |name: &str| menu::Entry {
        name: name.into(),
        action: menu::Action::Click { key: "K".into() },
    };
    let create = menu::Create {
        buttons: vec![
            menu::Button::Entry(entry("今日歌曲")),
            menu::Button::List {
                name: "菜单".into(),
                sub_button: vec![entry("子")],
            },
        ],
    };
    sim.call(&create).await;
    let platform = Some(menu::Platform::Ios);
    let conditional = menu::AddConditional {
        buttons: vec![menu::Button::Entry(entry("苹果"))],
        rule: menu::MatchRule {
            tag_id: None,
            client_platform_type: platform,
        },
    };
    let added = sim.call(&conditional).await;
    let menus = sim.call(&menu::Get).await;
    assert_eq!(menus.menu.buttons[1].sub_button[0].name, "子");
    assert_eq!(menus.conditional[0].menu_id, Some(added.menu_id));
    let in_force = sim.call(&menu::InForce).await;
    assert!(in_force.is_open);
    assert_eq!(in_force.menu.unwrap().buttons[1].sub_button[0].name, "子");
    let delete = menu::DeleteConditional {
        menu_id: added.menu_id,
    };
    sim.call(&delete).await;
    sim.call(&menu::Delete).await;

    for (scene, life, ends) in [
        (qrcode::Scene::Number(7), qrcode::Life::Seconds(60), 60),
        (qrcode::Scene::Text("店".into()), qrcode::Life::Permanent, 0),
    ] {
        let code = sim.call(&qrcode::Create { scene, life }).await;
        assert_eq!(code.expire_seconds, ends);
    }
    let create = short_key::Create {
        data: "长".into(),
        expire_seconds: 60,
    };
    let key = sim.call(&create).await.key;
    assert_eq!(sim.call(&short_key::Fetch { key }).await.data, "长");
}

#[tokio::test]
async fn accounts_drafts_and_quotas() {
    let sim = Sim::start().await;
    let kf_account = "a@test";
    let add = kf_account::Add {
        kf_account: kf_account.into(),
        nickname: "客服".into(),
    };
    sim.call(&add).await;
    let accounts = sim.call(&kf_account::List).await.accounts;
    assert_eq!(accounts[0].nickname, "客服");
    assert_eq!(accounts[0].wechat_id, None);
    assert!(sim.call(&kf_account::Online).await.accounts.is_empty());
    assert_eq!(sim.call(&kf_session::Waiting).await.count, 0);
    assert_eq!(sim.call(&draft::Count).await.total_count, 0);
    assert!(
        !sim.call(&network::CallbackAddresses)
            .await
            .ip_list
            .is_empty()
    );
    let of = quota::Get {
        cgi_path: "/cgi-bin/draft/count".into(),
    };
    assert_eq!(sim.call(&of).await.quota.used, 1);
    let clear = quota::Clear {
        app_id: AppId::parse(APP).unwrap(),
    };
    sim.call(&clear).await;
    assert_eq!(sim.call(&of).await.quota.used, 0);
    let refused = sim.get("/cgi-bin/draft/count").await;
    assert_eq!(code(&refused), 41001);
    let token = token(&sim.stable(false).await);
    let refused = sim
        .post(
            &format!("/cgi-bin/draft/get?access_token={token}"),
            &json!({}),
        )
        .await;
    let error = wxhost_wechat::errcode::read(refused.to_string().as_bytes()).unwrap_err();
    let trace = quota::Trace {
        rid: error.rid.unwrap(),
    };
    assert_eq!(sim.call(&trace).await.request.request_body, "{}");
}
