//! The types of messages are those of `wit/callback.wit`, name by name.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use wxhost_wechat::message::*;

/// One content of every kind.
fn one_of_each() -> Vec<Content> {
    let device = Content::Device(Device::default());
    let pictures = Pictures {
        key: String::new(),
        source: PictureSource::Camera,
        md5s: Vec::new(),
    };
    let session = CustomerService {
        change: SessionChange::Created,
        account: String::new(),
        from_account: None,
    };
    let user_data = UserData {
        change: UserDataChange::Modified,
        open_id: String::new(),
        item: String::new(),
    };
    vec![
        Content::Text(Text::default()),
        Content::Image(Image::default()),
        Content::Voice(Voice::default()),
        Content::Video(Video::default()),
        Content::ShortVideo(Video::default()),
        Content::Location(Location::default()),
        Content::Link(Link::default()),
        Content::MiniProgramPage(MiniProgramPage::default()),
        Content::File(File::default()),
        device,
        Content::Subscribe(Subscribe::default()),
        Content::Unsubscribe,
        Content::Scan(Scan::default()),
        Content::Position(Position::default()),
        Content::Click(String::new()),
        Content::View(View::default()),
        Content::ViewMiniProgram(View::default()),
        Content::ScanCode(ScanCode::default()),
        Content::Pictures(pictures),
        Content::LocationSelect(LocationSelect::default()),
        Content::TemplateSent(TemplateSent::default()),
        Content::MassSent(MassSent::default()),
        Content::Published(Published::default()),
        Content::SubscriptionPopup(vec![Subscription::default()]),
        Content::SubscriptionChange(vec![Subscription::default()]),
        Content::SubscriptionSent(vec![SubscriptionSent::default()]),
        Content::CustomerService(session),
        Content::Verification(Verification::default()),
        Content::UserData(user_data),
        Content::EnterSession(String::new()),
        Content::GuideScan(GuideScan::default()),
        Content::MediaCheck(MediaCheck::default()),
        Content::Other(Other::default()),
    ]
}

/// The names inside a block of the WIT file such as `record text {`.
fn wit_block(wit: &str, header: &str) -> Vec<String> {
    let Some((_, block)) = wit.split_once(&format!("  {header} {{\n")) else {
        return Vec::new();
    };
    let (block, _) = block.split_once("\n  }").unwrap();
    let lines = block
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("///"));
    let names = lines.map(|line| line.split([':', '(', ',']).next().unwrap().to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

/// The type of each case of `variant content`, without `list<>`.
fn wit_types(wit: &str) -> BTreeMap<&str, &str> {
    let (_, block) = wit.split_once("variant content {").unwrap();
    let (block, _) = block.split_once("\n  }").unwrap();
    let cases = block.lines().map(|line| line.trim().trim_end_matches(','));
    let typed = cases.filter_map(|case| case.strip_suffix(')')?.split_once('('));
    typed
        .map(|(name, own)| (name, own.trim_start_matches("list<").trim_end_matches('>')))
        .collect()
}

/// The field names of the outermost struct in a pretty-printed value.
fn fields(printed: &str) -> Vec<String> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let named: Vec<_> = printed.lines().filter(|line| line.contains(": ")).collect();
    let outer = named.iter().map(|line| indent(line)).min().unwrap_or(0);
    let own = named.iter().filter(|line| indent(line) == outer);
    own.map(|line| line.trim().split_once(": ").unwrap().0.replace('_', "-"))
        .collect()
}

#[test]
fn types_are_those_of_the_plugin_contract() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/callback.wit");
    let wit = fs::read_to_string(path).unwrap();
    let contents = one_of_each();
    let kinds: Vec<_> = contents
        .iter()
        .map(|content| content.kind().to_owned())
        .collect();
    assert_eq!(kinds, wit_block(&wit, "variant content"));
    let types = wit_types(&wit);
    for content in &contents {
        let record = types.get(content.kind()).copied().unwrap_or("unsubscribe");
        let expected = wit_block(&wit, &format!("record {record}"));
        assert_eq!(
            fields(&format!("{content:#?}")),
            expected,
            "{}",
            content.kind()
        );
    }
}
