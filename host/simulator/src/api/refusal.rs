//! How WeChat says no: an errcode and a text, with HTTP status 200.

use std::borrow::Cow;

use serde_json::{Map, Value};
use wxhost_wechat::errcode::Errcode;

/// An answer with an errcode other than 0. The rid is added when it is sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) errcode: i64,
    pub(crate) text: Cow<'static, str>,
    /// What else the answer holds, such as the earlier msg_id of a repeated clientmsgid.
    pub(crate) more: Map<String, Value>,
}

impl Refusal {
    /// A refusal with WeChat's usual text for that code.
    pub(crate) fn of(errcode: i64) -> Self {
        let meaning = || Errcode(errcode).meaning().unwrap_or("error");
        Self::because(errcode, usual_text(errcode).unwrap_or_else(meaning))
    }

    /// A refusal with a text of its own.
    pub(crate) fn because(errcode: i64, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            errcode,
            text: text.into(),
            more: Map::new(),
        }
    }

    /// Adds a field to the answer.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    /// The body, with its rid.
    pub(crate) fn body(&self, rid: &str) -> Value {
        let mut body = Map::new();
        body.insert("errcode".to_owned(), self.errcode.into());
        body.insert(
            "errmsg".to_owned(),
            format!("{} rid: {rid}", self.text).into(),
        );
        body.extend(self.more.clone());
        Value::Object(body)
    }
}

/// What errmsg says, before the rid (全局返回码 and recorded answers), where we know it.
fn usual_text(errcode: i64) -> Option<&'static str> {
    Some(match errcode {
        -1 => "system error",
        40001 => {
            "invalid credential, access_token is invalid or not latest, could get access_token by \
             getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r"
        }
        40002 => "invalid grant_type",
        40003 => "invalid openid",
        40004 => "invalid media type",
        40005 => "invalid file type",
        40006 => "invalid meida size",
        40007 => "invalid media_id",
        40008 => "invalid message type",
        40009 => "invalid image size",
        40010 => "invalid voice size",
        40011 => "invalid video size",
        40012 => "invalid thumb size",
        40013 => "invalid appid",
        40014 => "invalid access_token",
        40015 => "invalid menu type",
        40016 => "invalid button size",
        40017 => "invalid button type",
        40018 => "invalid button name size",
        40019 => "invalid button key size",
        40020 => "invalid button url size",
        40023 => "invalid sub button size",
        40024 => "invalid sub button type",
        40025 => "invalid sub button name size",
        40026 => "invalid sub button key size",
        40027 => "invalid sub button url size",
        40029 => "invalid code,",
        40030 => "invalid refresh_token,",
        40031 => "invalid openid list",
        40032 => "invalid openid list size",
        40033 => "invalid charset. please check your request, if include \\uxxxx will create fail!",
        40035 => "invalid parameter",
        40037 => "invalid template_id",
        40039 => "invalid url size",
        40050 => "invalid timeline type",
        40053 => "invalid action info",
        40059 => "invalid msg id",
        40060 => "invalid article idx",
        40066 => "invalid url",
        40073 => "invalid card id",
        40097 => "invalid args",
        40252 => "template message is under review",
        40125 => "invalid appsecret",
        40130 => "invalid openid list size, at least two openid",
        40132 => "invalid username",
        40137 => "invalid image format",
        40163 => "code been used,",
        40164 => "invalid ip, not in whitelist",
        40165 => "invalid weapp pagepath",
        40169 => "invalid scene",
        40243 => "AppSecret frozen",
        41001 => "access_token missing",
        41002 => "appid missing",
        41004 => "appsecret missing",
        41005 => "media data missing",
        41006 => "media_id missing",
        41007 => "sub_menu data missing",
        41003 => "refresh_token missing,",
        41008 => "missing code,",
        41009 => "missing openid",
        41030 => "invalid page",
        42002 => "refresh_token expired,",
        42003 => "oauth_code expired,",
        42001 => "access_token expired",
        43001 => "require GET method",
        43002 => "require POST method",
        43004 => "require subscribe",
        43019 => "require remove blacklist",
        43101 => "user refuse to accept the msg",
        43107 => "subscribe message is banned",
        43108 => "concurrent sending to the same user",
        44001 => "empty media data",
        44002 => "empty post data",
        44003 => "empty news data",
        44004 => "empty content",
        44005 => "empty list size",
        45001 => "media size out of limit",
        45002 => "content size out of limit",
        45003 => "title size out of limit",
        45004 => "description size out of limit",
        45005 => "url size out of limit",
        45008 => "article size out of limit",
        45009 => "reach max api daily quota limit",
        45011 => "api minute-quota reach limit mustslower retry next minute",
        45015 => "response out of time limit or subscription is canceled",
        45028 => "has no masssend quota",
        45029 => "qrcode count out of limit",
        45047 => "out of response count limit",
        45056 => "too many tag now, no need to add new",
        45057 => "the count of fans in this tag is bigger than 100000",
        45058 => "can't modify sys tag",
        45059 => "can not add more tags to the user",
        45065 => "clientmsgid exist",
        45066 => "clientmsgid retry too fast",
        45067 => "clientmsgid size out of limit",
        45072 => "invalid command",
        45080 => "no conversation in last 30 seconds",
        45081 => "typing state already set",
        45083 => "invalid speed",
        45084 => "speed missing",
        45157 => "invalid tag name",
        45158 => "tag name too long",
        45159 => "invalid tag id",
        46001 => "media data no exist",
        46003 => "menu no exist",
        46004 => "user no exist",
        47001 => "data format error",
        47003 => "argument invalid!",
        48001 => "api unauthorized",
        48004 => "api forbidden for irregularities, view detail on mp.weixin.qq.com",
        48006 => "forbid to clear quota because of reaching the limit",
        48008 => "no permission for this msgtype",
        49003 => "not match openid with appid",
        50004 => "token interface forbidden",
        50007 => "account frozen",
        53503 => "draft fail to pass publish check",
        53600 => "invalid article id",
        61451 => "invalid parameter",
        61452 => "invalid kf_account",
        61453 => "kf_account exsited",
        61454 => "invalid kf_acount length",
        61455 => "illegal character in kf_account",
        61456 => "kf_account count exceeded",
        65301 => "menu no exist",
        65302 => "no such user",
        65303 => "there is no selfmenu, please create selfmenu first",
        65304 => "match rule empty",
        65305 => "menu count limit",
        65400 => "please enable new custom service, or wait for a while if you have enabled",
        65413 => "user is not in a session",
        65414 => "user is being served by other kf",
        65415 => "kf is not online",
        65416 => "invalid query parameter",
        65417 => "query period is over the limit",
        76001 => "rid not found",
        76002 => "rid is invalid",
        76003 => "no permission to query this rid, or cgi_path is invalid",
        76004 => "rid is too old",
        76021 => "cgi_path not found",
        76022 => "no permission for this cgi_path",
        _ => return None,
    })
}
