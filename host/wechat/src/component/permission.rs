//! Permission sets (权限集): what an account grants a platform, by numbers. A number that is not known here
//! is kept and shown as it is.

/// Messages (消息管理): callbacks, passive replies, customer-service messages.
pub const MESSAGES: u32 = 1;

/// The sets that official accounts know, in WeChat's words.
const NAMES: &[(u32, &str)] = &[
    (1, "消息管理"),
    (2, "用户管理"),
    (3, "账号服务"),
    (4, "网页服务"),
    (5, "微信小店"),
    (6, "微信多客服"),
    (7, "群发与通知"),
    (8, "微信卡券"),
    (9, "微信扫一扫"),
    (10, "微信连WIFI"),
    (11, "素材管理"),
    (12, "微信摇周边"),
    (13, "微信门店"),
    (15, "菜单管理"),
    (22, "城市服务"),
    (23, "广告管理"),
    (24, "开放平台账号管理"),
    (26, "微信电子发票"),
    (27, "快速注册小程序"),
    (33, "小程序关联管理"),
    (34, "微信商品库"),
    (44, "好物圈"),
    (46, "一物一码"),
    (47, "财政电子票据"),
    (54, "服务号对话管理"),
    (66, "服务市场"),
    (89, "服务号订阅通知"),
    (113, "就医助手"),
    (172, "公众号推送调试工具"),
];

/// Which sets open the paths that begin so; any one of them does. Paths that are not here need none that is
/// known.
const NEEDS: &[(&str, &[u32])] = &[
    ("/cgi-bin/message/custom/", &[1]),
    ("/customservice/", &[6]),
    ("/cgi-bin/customservice/", &[6]),
    ("/cgi-bin/user/", &[2]),
    ("/cgi-bin/tags/", &[2]),
    ("/cgi-bin/qrcode/", &[3]),
    ("/cgi-bin/shorten/", &[3]),
    ("/cgi-bin/ticket/getticket", &[4]),
    ("/cgi-bin/message/template/subscribe", &[7]),
    ("/cgi-bin/message/template/", &[7]),
    ("/cgi-bin/template/", &[7]),
    ("/cgi-bin/message/mass/", &[7]),
    ("/cgi-bin/freepublish/", &[7]),
    ("/cgi-bin/media/", &[11]),
    ("/cgi-bin/material/", &[11]),
    ("/cgi-bin/draft/", &[11]),
    ("/cgi-bin/menu/", &[15]),
    ("/cgi-bin/open/", &[24]),
    ("/cgi-bin/message/subscribe/bizsend", &[89]),
    ("/wxaapi/newtmpl/", &[89]),
];

/// What WeChat calls a set.
pub fn name(id: u32) -> Option<&'static str> {
    let known = NAMES.iter().find(|(known, _)| *known == id);
    known.map(|(_, name)| *name)
}

/// A set for people: its name, if it is known, and its number.
pub fn shown(id: u32) -> String {
    match name(id) {
        Some(name) => format!("{name} ({id})"),
        None => id.to_string(),
    }
}

/// The set that a path of the API, or all paths that begin so, need and that is not `granted`.
pub fn missing(path: &str, granted: &[u32]) -> Option<u32> {
    let (_, sets) = NEEDS.iter().find(|(prefix, _)| path.starts_with(prefix))?;
    let is_granted = sets.iter().any(|set| granted.contains(set));
    (!is_granted).then(|| sets[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_names_the_set_that_it_lacks() {
        let granted = [1, 7];
        for (path, lacks) in [
            ("/cgi-bin/message/custom/send", None),
            ("/cgi-bin/message/template/send", None),
            ("/cgi-bin/menu/create", Some(15)),
            ("/cgi-bin/menu/", Some(15)),
            ("/cgi-bin/user/info/batchget", Some(2)),
            ("/cgi-bin/ticket/getticket", Some(4)),
            ("/cgi-bin/message/subscribe/bizsend", Some(89)),
            ("/cgi-bin/getcallbackip", None),
        ] {
            assert_eq!(missing(path, &granted), lacks, "{path}");
        }
        assert_eq!(shown(15), "菜单管理 (15)");
        assert_eq!(shown(121), "121");
    }
}
