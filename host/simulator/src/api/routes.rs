//! Which paths there are, how they are called, and who answers them.

use std::collections::HashMap;
use std::sync::LazyLock;

use http::Method;

use crate::Environment;
use crate::api::answer::Outcome;
use crate::api::app::App;
use crate::api::arrival::Arrival;
use crate::api::body::Body;
use crate::api::component_calls::ComponentCall;
use crate::api::refusal::Refusal;
use crate::api::rid::Rids;
use crate::api::{
    address_calls, articles, code_calls, component_calls, customer_calls, desk, login_calls,
    mass_calls, media_calls, menu_calls, quota_calls, subscription_calls, tag_calls,
    template_calls, token_calls, user_calls,
};

/// Every family's calls.
const FAMILIES: &[&[Route]] = &[
    token_calls::ROUTES,
    quota_calls::ROUTES,
    address_calls::ROUTES,
    user_calls::ROUTES,
    tag_calls::ROUTES,
    customer_calls::ROUTES,
    template_calls::ROUTES,
    subscription_calls::ROUTES,
    mass_calls::ROUTES,
    media_calls::ROUTES,
    articles::ROUTES,
    menu_calls::ROUTES,
    code_calls::ROUTES,
    desk::ROUTES,
    component_calls::ROUTES,
    login_calls::ROUTES,
];

/// One path.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) call: Entry,
}

/// How a call comes in, and who answers it.
#[derive(Clone, Copy)]
pub(crate) enum Entry {
    /// Names its app by app id and secret, in the query or in the body.
    Secret(fn(&mut SecretCall<'_>) -> Outcome),
    /// Of a third-party platform: with its token in the query, or its secret in the body.
    Component(fn(&mut ComponentCall<'_>) -> Outcome),
    /// With an access token in the query.
    Token(fn(&mut Call<'_>) -> Outcome),
}

impl Route {
    pub(crate) const fn get(path: &'static str, call: fn(&mut Call<'_>) -> Outcome) -> Self {
        Self {
            method: Method::GET,
            path,
            call: Entry::Token(call),
        }
    }

    pub(crate) const fn post(path: &'static str, call: fn(&mut Call<'_>) -> Outcome) -> Self {
        Self {
            method: Method::POST,
            path,
            call: Entry::Token(call),
        }
    }
}

/// A call that an access token has opened.
pub(crate) struct Call<'a> {
    pub(crate) app: &'a mut App,
    pub(crate) rids: &'a Rids,
    pub(crate) arrival: &'a Arrival,
    pub(crate) now_ms: u64,
    pub(crate) chance: &'a dyn Environment,
    /// What users see escaped, once the body was read.
    pub(crate) shown_escaped: bool,
}

impl Call<'_> {
    /// The body as JSON.
    pub(crate) fn body(&mut self) -> Result<Body, Refusal> {
        let body = Body::parse(&self.arrival.body)?;
        self.shown_escaped = body.shown_escaped;
        Ok(body)
    }

    /// Seconds since 1970.
    pub(crate) fn now_seconds(&self) -> u64 {
        self.now_ms / 1000
    }
}

/// A call that names its app by app id and secret.
pub(crate) struct SecretCall<'a> {
    pub(crate) apps: &'a mut HashMap<wxhost_wechat::id::AppId, App>,
    pub(crate) path: &'static str,
    pub(crate) arrival: &'a Arrival,
    pub(crate) now_ms: u64,
    pub(crate) chance: &'a dyn Environment,
}

/// The route of a path.
pub(crate) fn find(path: &str) -> Option<&'static Route> {
    static BY_PATH: LazyLock<HashMap<&str, &Route>> = LazyLock::new(|| {
        let routes = FAMILIES.iter().flat_map(|family| family.iter());
        routes.map(|route| (route.path, route)).collect()
    });
    BY_PATH.get(path).copied()
}
