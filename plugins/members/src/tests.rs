//! Who is let in, and that settings and schema fit each other.

use serde_json::{Value, json};
use wxhost_sdk::login::Verdict;
use wxhost_sdk::testing::{TestHost, contact, login};

use super::Members;

fn settings() -> Value {
    serde_json::from_str(include_str!("../example.json")).unwrap()
}

fn host() -> TestHost {
    let mut member = contact("oMember");
    member.attributes = json!({"level": "gold", "card": 42, "note": "private"}).to_string();
    let mut blocked = contact("oBlocked");
    blocked.tags = vec![2, 101];
    TestHost::new()
        .config(&settings())
        .contact(member)
        .contact(blocked)
}

#[test]
fn sessions_say_what_a_member_is_and_nothing_else() {
    let decided = host().decide::<Members>(&login("oMember"));
    let expected = Verdict::admit().claim("level", "gold").claim("card", "42");
    assert_eq!(decided.result.unwrap(), expected);
    let guest = host().decide::<Members>(&login("oGuest"));
    assert_eq!(guest.result.unwrap(), Verdict::admit());
}

#[test]
fn who_is_blocked_a_stranger_or_nobody_is_not_let_in() {
    let refused = |host: TestHost, open_id: &str| {
        let decided = { host }.decide::<Members>(&login(open_id));
        decided.result.unwrap()
    };
    assert_eq!(refused(host(), "oBlocked"), Verdict::refuse("blocked"));
    let closed = host().config(&json!({"followers_only": true}));
    let verdict = refused(closed, "oGuest");
    assert_eq!(verdict, Verdict::refuse("followers-only"));
    let mut snapshot = login("oMember");
    snapshot.snapshot_user = true;
    let decided = host().decide::<Members>(&snapshot);
    assert_eq!(decided.result.unwrap(), Verdict::refuse("snapshot"));
}

#[test]
fn the_example_is_what_the_schema_says() {
    let schema: Value = serde_json::from_str(include_str!("../schema.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    assert!(schema.is_valid(&settings()));
    assert!(!schema.is_valid(&json!({"attributes": ["No Word"]})));
}
