//! Every kind of callback: which type it gets, and what is left over for `extra`.

use wxhost_wechat::message::*;
use wxhost_wechat::xml;

/// A message with these fields; MsgType and, for an event, Event among them.
pub(crate) fn read(fields: &str) -> Message {
    let body = format!(
        "<xml><ToUserName>gh_1</ToUserName><FromUserName>oUser</FromUserName>\
         <CreateTime>1700000000</CreateTime>{fields}</xml>"
    );
    Message::from_tree(xml::parse(body.as_bytes()).unwrap()).unwrap()
}

pub(crate) fn event(name: &str, fields: &str) -> Message {
    read(&format!(
        "<MsgType>event</MsgType><Event>{name}</Event>{fields}"
    ))
}

pub(crate) fn message(msg_type: &str, fields: &str) -> Message {
    read(&format!("<MsgType>{msg_type}</MsgType>{fields}"))
}

/// Compares the content and the paths of what is left.
fn check(message: Message, content: Content, extra: &[&str]) {
    assert_eq!(message.content, content);
    let paths: Vec<_> = message
        .extra
        .iter()
        .map(|(path, _)| path.as_str())
        .collect();
    assert_eq!(paths, extra, "{content:?}");
}

#[test]
fn messages() {
    check(
        message(
            "text",
            "<Content>hi</Content><MsgId>7</MsgId><bizmsgmenuid>101</bizmsgmenuid>",
        ),
        Content::Text(Text {
            content: "hi".into(),
            menu_id: Some("101".into()),
        }),
        &["MsgId"],
    );
    check(
        message("image", "<PicUrl>u</PicUrl><MediaId>m</MediaId>"),
        Content::Image(Image {
            pic_url: "u".into(),
            media_id: "m".into(),
        }),
        &[],
    );
    check(
        message(
            "voice",
            "<MediaId>m</MediaId><Format>amr</Format><MediaId16K>w</MediaId16K>\
             <Recognition></Recognition>",
        ),
        Content::Voice(Voice {
            media_id: "m".into(),
            format: "amr".into(),
            wideband_media_id: Some("w".into()),
            recognition: None,
        }),
        &["Recognition"],
    );
    let video = Video {
        media_id: "m".into(),
        thumb_media_id: "t".into(),
    };
    let fields = "<MediaId>m</MediaId><ThumbMediaId>t</ThumbMediaId>";
    check(message("video", fields), Content::Video(video.clone()), &[]);
    check(
        message("shortvideo", fields),
        Content::ShortVideo(video),
        &[],
    );
    check(
        message(
            "location",
            "<Location_X>23.134521</Location_X><Location_Y>-113.358803</Location_Y>\
             <Scale>20</Scale><Label>位置</Label>",
        ),
        Content::Location(Location {
            latitude: 23.134_521,
            longitude: -113.358_803,
            scale: 20,
            label: "位置".into(),
        }),
        &[],
    );
    check(
        message(
            "link",
            "<Title>t</Title><Description>d</Description><Url>u</Url>",
        ),
        Content::Link(Link {
            title: "t".into(),
            description: "d".into(),
            url: "u".into(),
        }),
        &[],
    );
    check(
        message(
            "miniprogrampage",
            "<Title>t</Title><AppId>wx1</AppId><PagePath>p</PagePath><ThumbUrl>u</ThumbUrl>\
             <ThumbMediaId>m</ThumbMediaId>",
        ),
        Content::MiniProgramPage(MiniProgramPage {
            title: "t".into(),
            app_id: "wx1".into(),
            page_path: "p".into(),
            thumb_url: "u".into(),
            thumb_media_id: "m".into(),
        }),
        &[],
    );
    check(
        message(
            "file",
            "<Title>a.pdf</Title><Description>d</Description><FileKey>k</FileKey>\
             <FileMd5>5d</FileMd5><FileTotalLen>5000000000</FileTotalLen>",
        ),
        Content::File(File {
            title: "a.pdf".into(),
            description: "d".into(),
            key: "k".into(),
            md5: "5d".into(),
            size: 5_000_000_000,
        }),
        &[],
    );
}

#[test]
fn devices() {
    let fields = "<DeviceType>gh_1</DeviceType><DeviceID>d</DeviceID><SessionID>9</SessionID>\
        <Content>AQI=</Content><OpenID>oUser</OpenID>";
    let device = |is_event| Device {
        is_event,
        device_id: "d".into(),
        device_type: "gh_1".into(),
        session_id: "9".into(),
        content: "AQI=".into(),
    };
    check(
        message("device_text", fields),
        Content::Device(device(false)),
        &["OpenID"],
    );
    let fields = format!("<Event>bind</Event>{fields}");
    check(
        message("device_event", &fields),
        Content::Device(device(true)),
        &["Event", "OpenID"],
    );
}

#[test]
fn following_and_scanning() {
    check(
        event(
            "subscribe",
            "<EventKey>qrscene_shop:7</EventKey><Ticket>T</Ticket>",
        ),
        Content::Subscribe(Subscribe {
            scene: Some("shop:7".into()),
            ticket: Some("T".into()),
            event_key: "qrscene_shop:7".into(),
        }),
        &[],
    );
    for key in ["", "last_trade_no_4200", "scanbarcode|ean13|690"] {
        check(
            event("subscribe", &format!("<EventKey>{key}</EventKey>")),
            Content::Subscribe(Subscribe {
                event_key: key.into(),
                ..Subscribe::default()
            }),
            &[],
        );
    }
    check(
        event("subscribe", ""),
        Content::Subscribe(Subscribe::default()),
        &[],
    );
    check(
        event("unsubscribe", "<EventKey></EventKey>"),
        Content::Unsubscribe,
        &["EventKey"],
    );
    check(
        event("SCAN", "<EventKey>7</EventKey><Ticket>T</Ticket>"),
        Content::Scan(Scan {
            scene: "7".into(),
            ticket: "T".into(),
        }),
        &[],
    );
    check(
        event(
            "LOCATION",
            "<Latitude>23.1</Latitude><Longitude>113.3</Longitude><Precision>119.385040</Precision>",
        ),
        Content::Position(Position {
            latitude: 23.1,
            longitude: 113.3,
            precision: 119.38504,
        }),
        &[],
    );
    check(
        event("user_enter_tempsession", "<SessionFrom>sobot</SessionFrom>"),
        Content::EnterSession("sobot".into()),
        &[],
    );
    check(
        event(
            "guide_qrcode_scan_event",
            "<GuideScanEvent><qrcode_guide_account>g</qrcode_guide_account>\
             <qrcode_guide_openid>og</qrcode_guide_openid><openid>o</openid><action>1</action>\
             <qrcode_info>i</qrcode_info><new>n</new></GuideScanEvent>",
        ),
        Content::GuideScan(GuideScan {
            guide_account: "g".into(),
            guide_open_id: "og".into(),
            open_id: "o".into(),
            action: "1".into(),
            qrcode_info: "i".into(),
        }),
        &["GuideScanEvent.new"],
    );
}

#[test]
fn menu_buttons() {
    check(
        event("CLICK", "<EventKey>K</EventKey>"),
        Content::Click("K".into()),
        &[],
    );
    check(
        event("VIEW", "<EventKey>www.qq.com</EventKey>"),
        Content::View(View {
            target: "www.qq.com".into(),
            menu_id: None,
        }),
        &[],
    );
    check(
        event(
            "view_miniprogram",
            "<EventKey>pages/a</EventKey><MenuId>4</MenuId>",
        ),
        Content::ViewMiniProgram(View {
            target: "pages/a".into(),
            menu_id: Some("4".into()),
        }),
        &[],
    );
    for (name, waits) in [("scancode_push", false), ("scancode_waitmsg", true)] {
        check(
            event(
                name,
                "<EventKey>6</EventKey><ScanCodeInfo><ScanType>qrcode</ScanType>\
                 <ScanResult>1</ScanResult></ScanCodeInfo>",
            ),
            Content::ScanCode(ScanCode {
                key: "6".into(),
                waits,
                scan_type: "qrcode".into(),
                scan_result: "1".into(),
            }),
            &[],
        );
    }
    for (name, source) in [
        ("pic_sysphoto", PictureSource::Camera),
        ("pic_photo_or_album", PictureSource::CameraOrAlbum),
        ("pic_weixin", PictureSource::Album),
    ] {
        let pictures = |md5s: &[&str]| {
            let md5s = md5s.iter().map(|md5| (*md5).to_owned()).collect();
            Content::Pictures(Pictures {
                key: "6".into(),
                source,
                md5s,
            })
        };
        let fields = |items: &str| {
            format!(
                "<EventKey>6</EventKey><SendPicsInfo><Count>1</Count><PicList>{items}</PicList>\
                 </SendPicsInfo>"
            )
        };
        let one = fields("<item><PicMd5Sum>a</PicMd5Sum></item>");
        check(event(name, &one), pictures(&["a"]), &["SendPicsInfo.Count"]);
        let two = fields(
            "<item><PicMd5Sum>a</PicMd5Sum></item><item><PicMd5Sum>b</PicMd5Sum><w>9</w></item>",
        );
        let extra = ["SendPicsInfo.Count", "SendPicsInfo.PicList.item[1].w"];
        check(event(name, &two), pictures(&["a", "b"]), &extra);
        check(
            event(name, &fields("")),
            pictures(&[]),
            &["SendPicsInfo.Count", "SendPicsInfo.PicList"],
        );
    }
    check(
        event(
            "location_select",
            "<EventKey>6</EventKey><SendLocationInfo><Location_X>23</Location_X>\
             <Location_Y>113</Location_Y><Scale>15</Scale><Label>L</Label><Poiname></Poiname>\
             </SendLocationInfo>",
        ),
        Content::LocationSelect(LocationSelect {
            key: "6".into(),
            location: Location {
                latitude: 23.0,
                longitude: 113.0,
                scale: 15,
                label: "L".into(),
            },
            poi_name: String::new(),
        }),
        &[],
    );
}

#[test]
fn results_of_sending() {
    for status in ["success", "failed:user block", "failed: system failed"] {
        check(
            event(
                "TEMPLATESENDJOBFINISH",
                &format!("<MsgID>200163836</MsgID><Status>{status}</Status>"),
            ),
            Content::TemplateSent(TemplateSent {
                msg_id: 200_163_836,
                status: status.into(),
            }),
            &[],
        );
    }
    check(
        event(
            "MASSSENDJOBFINISH",
            "<MsgID>1000001625</MsgID><Status>err(30003)</Status><TotalCount>4</TotalCount>\
             <FilterCount>3</FilterCount><SentCount>2</SentCount><ErrorCount>1</ErrorCount>\
             <ArticleUrlResult><Count>1</Count></ArticleUrlResult>",
        ),
        Content::MassSent(MassSent {
            msg_id: 1_000_001_625,
            status: "err(30003)".into(),
            total: 4,
            filtered: 3,
            sent: 2,
            failed: 1,
        }),
        &["ArticleUrlResult.Count"],
    );
    for name in ["PUBLISHJOBFINISH", "FREEPUBLISHJOBFINISH"] {
        check(
            event(
                name,
                "<PublishEventInfo><publish_id>22</publish_id><publish_status>2</publish_status>\
                 <article_id>a</article_id><fail_idx>1</fail_idx><fail_idx>2</fail_idx>\
                 </PublishEventInfo>",
            ),
            Content::Published(Published {
                publish_id: "22".into(),
                status: Some(2),
                article_id: "a".into(),
            }),
            &[
                "PublishEventInfo.fail_idx[0]",
                "PublishEventInfo.fail_idx[1]",
            ],
        );
    }
    check(
        event(
            "wxa_media_check",
            "<trace_id>t</trace_id><version>2</version><result><suggest>risky</suggest>\
             <label>20001</label></result>",
        ),
        Content::MediaCheck(MediaCheck {
            trace_id: "t".into(),
            suggest: "risky".into(),
            label: 20001,
        }),
        &["version"],
    );
}

#[test]
fn subscriptions() {
    let item = "<List><TemplateId>T</TemplateId><SubscribeStatusString>accept\
        </SubscribeStatusString><PopupScene>2</PopupScene></List>";
    let subscription = |popup_scene| Subscription {
        template_id: "T".into(),
        status: "accept".into(),
        popup_scene,
    };
    let fields = format!("<SubscribeMsgPopupEvent>{item}{item}</SubscribeMsgPopupEvent>");
    check(
        event("subscribe_msg_popup_event", &fields),
        Content::SubscriptionPopup(vec![subscription(Some(2)), subscription(Some(2))]),
        &[],
    );
    let item = item.replace("<PopupScene>2</PopupScene>", "");
    let fields = format!("<SubscribeMsgChangeEvent>{item}</SubscribeMsgChangeEvent>");
    check(
        event("subscribe_msg_change_event", &fields),
        Content::SubscriptionChange(vec![subscription(None)]),
        &[],
    );
    check(
        event(
            "subscribe_msg_sent_event",
            "<SubscribeMsgSentEvent><List><TemplateId>T</TemplateId><MsgID>1700827132819554304\
             </MsgID><ErrorCode>-3</ErrorCode><ErrorStatus>no</ErrorStatus></List>\
             </SubscribeMsgSentEvent>",
        ),
        Content::SubscriptionSent(vec![SubscriptionSent {
            template_id: "T".into(),
            msg_id: "1700827132819554304".into(),
            error_code: Some(-3),
            error_status: "no".into(),
        }]),
        &[],
    );
}

#[test]
fn subscriptions_in_json_have_no_wrapper() {
    for list in [r#"{"TemplateId":"T"}"#, r#"[{"TemplateId":"T"}]"#] {
        let body = format!(
            r#"{{"ToUserName":"gh_1","FromUserName":"o","CreateTime":"1","MsgType":"event",
            "Event":"subscribe_msg_change_event","List":{list},"none":null,"empty":[],"bare":{{}}}}"#
        );
        let message =
            Message::from_tree(wxhost_wechat::json::parse(body.as_bytes()).unwrap()).unwrap();
        let subscription = Subscription {
            template_id: "T".into(),
            ..Subscription::default()
        };
        assert_eq!(message.create_time, 1);
        check(
            message,
            Content::SubscriptionChange(vec![subscription]),
            &["none", "empty", "bare"],
        );
    }
}

#[test]
fn account_and_user_data() {
    for (name, change) in [
        ("kf_create_session", SessionChange::Created),
        ("kf_close_session", SessionChange::Closed),
    ] {
        check(
            event(name, "<KfAccount>a@b</KfAccount><CloseType>KF</CloseType>"),
            Content::CustomerService(CustomerService {
                change,
                account: "a@b".into(),
                from_account: None,
            }),
            &["CloseType"],
        );
    }
    check(
        event(
            "kf_switch_session",
            "<FromKfAccount>a@b</FromKfAccount><ToKfAccount>c@b</ToKfAccount>",
        ),
        Content::CustomerService(CustomerService {
            change: SessionChange::Switched,
            account: "c@b".into(),
            from_account: Some("a@b".into()),
        }),
        &[],
    );
    for (kind, time, reason) in [
        ("qualification_verify_success", "ExpiredTime", ""),
        ("qualification_verify_fail", "FailTime", "by time"),
        ("naming_verify_success", "ExpiredTime", ""),
        ("naming_verify_fail", "FailTime", "by time"),
        ("annual_renew", "ExpiredTime", ""),
        ("verify_expired", "ExpiredTime", ""),
    ] {
        check(
            event(
                kind,
                &format!("<{time}>1442401156</{time}><FailReason>{reason}</FailReason>"),
            ),
            Content::Verification(Verification {
                kind: kind.into(),
                at: 1_442_401_156,
                reason: reason.into(),
            }),
            &[],
        );
    }
    for (name, change) in [
        ("user_info_modified", UserDataChange::Modified),
        ("user_authorization_revoke", UserDataChange::Revoked),
        ("user_authorization_cancellation", UserDataChange::Cancelled),
    ] {
        let data = |item: &str| {
            Content::UserData(UserData {
                change,
                open_id: "o2".into(),
                item: item.into(),
            })
        };
        check(
            event(name, "<openid>o2</openid><appid>wx1</appid>"),
            data(""),
            &["appid"],
        );
        let fields = "<OpenID>o2</OpenID><RevokeInfo>1</RevokeInfo>";
        check(event(name, fields), data("1"), &[]);
    }
}

#[test]
fn unknown_kinds_keep_every_field() {
    let other = |msg_type: &str, event: &str| {
        Content::Other(Other {
            msg_type: msg_type.into(),
            event: event.into(),
        })
    };
    check(
        event(
            "debug_demo",
            "<debug_str>d</debug_str><A><B>1</B><B>2</B></A>",
        ),
        other("event", "debug_demo"),
        &["debug_str", "A.B[0]", "A.B[1]"],
    );
    check(
        message("notsure", "<Event>x</Event>"),
        other("notsure", ""),
        &["Event"],
    );
    check(event("", ""), other("event", ""), &[]);
    check(read("<MsgType>event</MsgType>"), other("event", ""), &[]);
}

#[test]
fn names_are_compared_without_case() {
    check(
        message("TEXT", "<Content>hi</Content>"),
        message("text", "<Content>hi</Content>").content,
        &[],
    );
    let expected = Content::Click("K".into());
    check(
        read("<MsgType>Event</MsgType><Event>click</Event><EventKey>K</EventKey>"),
        expected,
        &[],
    );
}

#[test]
fn missing_fields_are_empty_and_unreadable_numbers_stay_in_extra() {
    check(message("image", ""), Content::Image(Image::default()), &[]);
    check(
        message("location", ""),
        Content::Location(Location::default()),
        &[],
    );
    check(
        message(
            "location",
            "<Location_X>NaN</Location_X><Location_Y>far</Location_Y><Scale>-1</Scale>",
        ),
        Content::Location(Location::default()),
        &["Location_X", "Location_Y", "Scale"],
    );
    let fields = "<MsgID>18446744073709551616</MsgID>";
    check(
        event("TEMPLATESENDJOBFINISH", fields),
        Content::TemplateSent(TemplateSent::default()),
        &["MsgID"],
    );
}
