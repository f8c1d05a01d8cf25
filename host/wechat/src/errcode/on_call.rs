//! What a code means on the call that answered it.
//!
//! Only where the calls differ is a code named beside a kind of call; everything else is the same
//! everywhere. The rules are those of the calls' own pages, not of the list of all codes.

use super::{Advice, Errcode, remedy};

/// A code on a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OnCall {
    code: Errcode,
    kind: CallKind,
}

/// What a code is about, as far as callers treat codes alike.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Class {
    /// No error.
    Success,
    /// The same thing was done before, so that a repeated call has succeeded (45065: a mass message of
    /// this `clientmsgid` is on its way).
    Repeated,
    /// Neither done nor refused: WeChat looks at it and decides by itself (40252: a template message
    /// is held for review; 89504 on mass messages: the administrator is asked).
    Held,
    /// The credential of the call has ended or never was: [`OnCall::names_bad_token`].
    Token,
    /// WeChat is busy, or is called too fast.
    Busy,
    /// A day's or a month's quota is used up.
    Exhausted,
    /// This user can't be reached in this way, by no fault of the message.
    Unreachable,
    /// The message or its template is at fault.
    Content,
    /// The account lacks the right to this API.
    Rights,
    /// The address that called is not on the account's list: other hosts may be.
    Address,
    /// The account is closed to every call until its owner acts: [`OnCall::needs_owner`].
    Owner,
    /// Everything else; most of it is a mistake in the call.
    Other,
}

/// Whom or what a code concerns: how far its lesson goes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Concern {
    /// This one call.
    Call,
    /// The message, whoever it is for.
    Content,
    /// The user, whatever is sent in this way.
    User,
    /// This API of the account.
    Path,
    /// The host that called.
    Host,
    /// Every call of the account.
    Account,
    /// The credential of the call.
    Credential,
    /// WeChat itself.
    Service,
}

/// Calls among which codes mean the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum CallKind {
    /// Gives out a credential for an AppId and a secret, or works with both.
    Credential,
    /// Works for a user who authorised it (网页授权); its tokens are the user's.
    Authorisation,
    /// Belongs to a third-party platform.
    Platform,
    /// Sends a template message or a subscription notice.
    Notice,
    /// Sends a customer-service message.
    Customer,
    /// Sends to many.
    Mass,
    /// Publishes.
    Publication,
    /// Any other.
    Ordinary,
}

impl CallKind {
    fn of(path: &str) -> Self {
        match path {
            "/cgi-bin/token" | "/cgi-bin/stable_token" | "/cgi-bin/clear_quota/v2" => {
                Self::Credential
            }
            "/cgi-bin/message/template/send"
            | "/cgi-bin/message/template/subscribe"
            | "/cgi-bin/message/subscribe/bizsend"
            | "/cgi-bin/message/subscribe/send" => Self::Notice,
            // These take a platform's token.
            _ if path.starts_with("/sns/oauth2/component/") => Self::Platform,
            _ if path.starts_with("/sns/") => Self::Authorisation,
            _ if path.starts_with("/cgi-bin/component/") => Self::Platform,
            _ if path.starts_with("/cgi-bin/message/custom/") => Self::Customer,
            _ if path.starts_with("/cgi-bin/message/mass/") => Self::Mass,
            _ if path.starts_with("/cgi-bin/freepublish/") => Self::Publication,
            _ => Self::Ordinary,
        }
    }

    /// Whether the call names the account by its AppId, with a secret.
    fn bears_secret(self) -> bool {
        matches!(self, Self::Credential | Self::Platform)
    }

    /// Whether the call sends something that a user sees.
    fn sends(self) -> bool {
        matches!(self, Self::Notice | Self::Customer | Self::Mass)
    }
}

impl OnCall {
    pub(super) fn new(code: Errcode, path: &str) -> Self {
        Self {
            code,
            kind: CallKind::of(path),
        }
    }

    /// The code itself.
    pub fn code(self) -> Errcode {
        self.code
    }

    /// What the code is about.
    pub fn class(self) -> Class {
        let on_this_call = self.by_kind();
        on_this_call.unwrap_or_else(|| everywhere(self.code.0))
    }

    /// What the code is about where that depends on the call.
    fn by_kind(self) -> Option<Class> {
        use CallKind as K;
        Some(match (self.code.0, self.kind) {
            (40001, K::Credential) => Class::Owner,
            // The tokens of these calls are a user's: the account's own is not at fault.
            (40001 | 40014 | 42001, K::Authorisation) => Class::Other,
            (40013, K::Credential | K::Platform | K::Authorisation) => Class::Owner,
            // A mini program's, which the message leads to.
            (40013 | 40166, kind) if kind.sends() => Class::Content,
            (40013, _) => Class::Other,
            (40125 | 40243, K::Authorisation) => Class::Owner,
            (40094 | 40125 | 40243 | 50004 | 61024, kind) if !kind.bears_secret() => Class::Other,
            (40252, K::Notice) | (89504 | 89505, K::Mass) => Class::Held,
            (40252, _) => Class::Other,
            (45065, K::Mass) => Class::Repeated,
            (45087, K::Customer) | (45062, K::Mass) | (53500, K::Publication) => Class::Rights,
            // What the user authorised does not reach this far.
            (48001 | 50001, K::Authorisation) => Class::Other,
            (50002, K::Credential | K::Platform) => Class::Owner,
            _ => return None,
        })
    }

    /// What may be done about it. What is unknown is never repeated.
    pub fn advice(self) -> Advice {
        let own = self.code.row().map_or(Advice::Never, |(_, _, own)| *own);
        match (self.class(), own) {
            (Class::Owner | Class::Address, _) | (Class::Rights, Advice::Never) => Advice::Alert,
            (Class::Held, _) => Advice::Await,
            (Class::Unreachable, Advice::Never) => Advice::Fallback,
            // Tokens that are not the account's are not the host's to renew.
            (class, Advice::RefreshToken) if class != Class::Token => Advice::Never,
            (_, own) => own,
        }
    }

    /// Whom or what it concerns.
    pub fn concern(self) -> Concern {
        match self.class() {
            Class::Owner => Concern::Account,
            Class::Address => Concern::Host,
            Class::Rights | Class::Exhausted => Concern::Path,
            Class::Busy if self.code.is_minute_limit() => Concern::Path,
            Class::Busy if self.is_too_often_for_user() => Concern::User,
            Class::Busy => Concern::Service,
            Class::Unreachable => Concern::User,
            Class::Content => Concern::Content,
            Class::Token => Concern::Credential,
            Class::Success | Class::Repeated | Class::Held | Class::Other => Concern::Call,
        }
    }

    /// Whether the access token or ticket of the call is at fault, so that a fresh one would do.
    pub fn names_bad_token(self) -> bool {
        self.class() == Class::Token
    }

    /// Whether no call of this account can succeed from here before its owner acts: a wrong AppId or
    /// AppSecret, a frozen account, an address that is not on the IP allow-list (which other hosts'
    /// may be: [`Self::is_for_address`]).
    pub fn needs_owner(self) -> bool {
        matches!(self.class(), Class::Owner | Class::Address)
    }

    /// Whether it is the calling address that is refused, and so this host alone.
    pub fn is_for_address(self) -> bool {
        self.class() == Class::Address
    }

    /// Whether the same thing was done before, so that a repeated call has succeeded.
    pub fn is_repeat(self) -> bool {
        self.class() == Class::Repeated
    }

    /// Whether it is neither sent nor refused: WeChat decides by itself within about half an hour, and
    /// then delivers without a new call, or does not (模板消息审核).
    pub fn is_held(self) -> bool {
        self.class() == Class::Held
    }

    /// What to do, in one sentence for an operator.
    pub fn remedy(self) -> &'static str {
        remedy::of(self)
    }

    fn is_too_often_for_user(self) -> bool {
        matches!(self.code.0, 40241 | 43108 | 43117 | 45169)
    }
}

/// What a code is about wherever the call makes no difference.
fn everywhere(code: i64) -> Class {
    match code {
        0 => Class::Success,
        40001 | 40014 | 42001 | 42004 | 42006 => Class::Token,
        -1 | 40241 | 42010 | 43100 | 43108 | 43117 | 44990 | 45011 | 45066 | 45085 | 45102
        | 45169 | 53501 | 61450 | 9001002 | 268487001 | 268487002 => Class::Busy,
        45009 | 45028 => Class::Exhausted,
        43004 | 43006 | 43019 | 43101 | 45015 | 45047 | 48002 | 50002 | 50005 | 70000 => {
            Class::Unreachable
        }
        40007
        | 40037
        | 40249
        | 43102
        | 43116
        | 45002
        | 45008
        | 45012..=45014
        | 45098
        | 45099
        | 45166
        | 45168
        | 47001
        | 47003
        | 48011
        | 87014 => Class::Content,
        43104 | 43106 | 43107 | 48001 | 48004 | 48008 | 61007 | 200011 => Class::Rights,
        40164 | 45035 | 61004 | 89501 | 89503..=89507 => Class::Address,
        40094 | 40125 | 40243 | 50004 | 50007 | 61003 | 61023 | 61024 => Class::Owner,
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errcode::table::TABLE;

    const TOKEN: &str = "/cgi-bin/stable_token";
    const CUSTOM: &str = "/cgi-bin/message/custom/send";
    const TEMPLATE: &str = "/cgi-bin/message/template/send";
    const NOTICE: &str = "/cgi-bin/message/subscribe/bizsend";
    const MASS: &str = "/cgi-bin/message/mass/sendall";
    const MENU: &str = "/cgi-bin/menu/create";
    const USER: &str = "/cgi-bin/user/info";
    const OAUTH: &str = "/sns/oauth2/access_token";
    const PLATFORM: &str = "/cgi-bin/component/api_query_auth";

    fn classes(path: &str, class: Class, codes: &[i64]) {
        for code in codes.iter().copied().map(Errcode) {
            assert_eq!(code.on(path).class(), class, "{code} on {path}");
        }
    }

    #[test]
    fn advice_is_the_documents_by_class() {
        use Advice::{Alert, Backoff, Fallback, Never, NextDay, RefreshToken};
        let check = |class: Class, advice: Advice, codes: &[i64]| {
            for code in codes.iter().copied().map(Errcode) {
                let told = code.on(CUSTOM);
                assert_eq!((told.class(), told.advice()), (class, advice), "{code}");
            }
        };
        check(Class::Success, Never, &[0]);
        check(Class::Token, RefreshToken, &[40001, 40014, 42001]);
        check(Class::Busy, Backoff, &[-1, 45011, 43108, 45066]);
        check(Class::Exhausted, NextDay, &[45009, 45028]);
        check(Class::Unreachable, Fallback, &[43004, 45015, 45047, 43101]);
        check(Class::Unreachable, Fallback, &[43019, 48002, 50002, 50005]);
        check(Class::Content, Never, &[40037, 47001, 47003, 45002, 45008]);
        check(Class::Content, Never, &[45168]);
        // Another media id would do.
        check(Class::Content, Fallback, &[40007]);
        check(Class::Rights, Alert, &[48001, 48004, 61007]);
        check(Class::Address, Alert, &[40164, 61004, 89501, 89503, 89506]);
        check(Class::Owner, Alert, &[50007, 61003]);
        check(Class::Other, Never, &[40003, 41001, 44002, 45065]);
    }

    #[test]
    fn an_app_id_is_the_accounts_where_it_is_given_and_a_mini_programs_in_a_message() {
        classes(TOKEN, Class::Owner, &[40013, 40125, 40243, 50004, 61024]);
        for path in [TEMPLATE, NOTICE, CUSTOM, MASS] {
            classes(path, Class::Content, &[40013, 40166]);
            let told = Errcode(40013).on(path);
            assert_eq!(told.concern(), Concern::Content, "{path}");
            assert!(!told.needs_owner() && told.advice() == Advice::Never);
            assert!(told.remedy().contains("mini program"), "{path}");
        }
        for path in [MENU, USER, "/cgi-bin/clear_quota", "/cgi-bin/open/create"] {
            classes(path, Class::Other, &[40013]);
            assert_eq!(Errcode(40013).on(path).concern(), Concern::Call);
        }
    }

    #[test]
    fn a_secret_can_only_be_wrong_where_one_is_given() {
        for code in [40125, 40243, 50004, 61024].map(Errcode) {
            assert!(code.on(TOKEN).needs_owner(), "{code}");
            assert!(!code.on(CUSTOM).needs_owner(), "{code}");
            assert!(!code.on(USER).needs_owner(), "{code}");
        }
    }

    #[test]
    fn a_credential_that_is_refused_is_the_one_of_the_call() {
        assert!(Errcode(40001).on(CUSTOM).names_bad_token());
        let secret = Errcode(40001).on(TOKEN);
        assert!(secret.needs_owner() && !secret.names_bad_token());
        assert_eq!(secret.advice(), Advice::Alert);
        for code in [40001, 40014, 42001].map(Errcode) {
            let told = code.on("/sns/userinfo");
            assert!(!told.names_bad_token() && told.advice() == Advice::Never);
        }
        assert!(Errcode(42006).on(PLATFORM).names_bad_token());
        let exchange = "/sns/oauth2/component/access_token";
        assert!(Errcode(42001).on(exchange).names_bad_token());
    }

    #[test]
    fn an_address_is_refused_for_one_host_on_any_call() {
        for path in [TOKEN, CUSTOM, USER, PLATFORM] {
            for code in [40164, 61004, 89503, 89506, 89507].map(Errcode) {
                let told = code.on(path);
                assert!(told.is_for_address() && told.needs_owner(), "{code}");
                assert_eq!(told.concern(), Concern::Host);
            }
        }
    }

    #[test]
    fn an_address_is_refused_by_these_codes_only() {
        let refusing = |path: &str| -> Vec<i64> {
            let codes = TABLE.iter().map(|(code, ..)| Errcode(*code));
            let refusing = codes.filter(|code| code.on(path).is_for_address());
            refusing.map(|code| code.0).collect()
        };
        let everywhere = [
            40164, 45035, 61004, 89501, 89503, 89504, 89505, 89506, 89507,
        ];
        assert_eq!(refusing(TOKEN), everywhere);
        // There the administrator is asked about the message, not about the address.
        let mass = [40164, 45035, 61004, 89501, 89503, 89506, 89507];
        assert_eq!(refusing(MASS), mass);
    }

    #[test]
    fn what_wechat_still_looks_at_is_neither_sent_nor_failed() {
        for told in [
            Errcode(40252).on(TEMPLATE),
            Errcode(89504).on(MASS),
            Errcode(89505).on(MASS),
        ] {
            assert!(told.is_held());
            assert_eq!(
                (told.advice(), told.concern()),
                (Advice::Await, Concern::Call)
            );
        }
        assert!(!Errcode(40252).on(USER).is_held());
        assert!(Errcode(89505).on(TOKEN).is_for_address());
        classes(TEMPLATE, Class::Content, &[40249, 43116]);
    }

    #[test]
    fn rights_persons_and_repeats_belong_to_their_calls() {
        classes(CUSTOM, Class::Rights, &[48001, 45087]);
        classes(MASS, Class::Rights, &[48001, 45062]);
        classes("/cgi-bin/freepublish/submit", Class::Rights, &[53500]);
        classes(OAUTH, Class::Other, &[48001, 50001]);
        classes(CUSTOM, Class::Unreachable, &[50002, 70000, 43006]);
        classes(PLATFORM, Class::Owner, &[50002, 61003, 61023]);
        assert!(Errcode(45065).on(MASS).is_repeat());
        assert!(!Errcode(45065).on(CUSTOM).is_repeat());
    }

    #[test]
    fn how_far_a_lesson_goes_is_told() {
        for (code, concern) in [
            (-1, Concern::Service),
            (0, Concern::Call),
            (40001, Concern::Credential),
            (40003, Concern::Call),
            (43108, Concern::User),
            (45009, Concern::Path),
            (45011, Concern::Path),
            (45047, Concern::User),
            (48001, Concern::Path),
            (50007, Concern::Account),
        ] {
            assert_eq!(Errcode(code).on(CUSTOM).concern(), concern, "{code}");
        }
    }

    #[test]
    fn every_code_holds_together_on_every_kind_of_call() {
        for path in [
            TOKEN, CUSTOM, TEMPLATE, MASS, MENU, USER, OAUTH, PLATFORM, "",
        ] {
            for code in TABLE.iter().map(|(code, ..)| Errcode(*code)) {
                let told = code.on(path);
                assert!(told.remedy().ends_with('.'), "{code}");
                assert!(!(told.names_bad_token() && told.needs_owner()), "{code}");
                assert_eq!(
                    told.names_bad_token(),
                    told.advice() == Advice::RefreshToken,
                    "{code} on {path}"
                );
            }
        }
    }
}
