//! The description of the admin API. Its paths come from the routes themselves (`admin::routes`).

use utoipa::{
    Modify, OpenApi,
    openapi::{
        self,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::error::{ErrorBody, ErrorDetail};

/// What the document says beside the paths.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "wxhost admin API",
        description = "Tenants, WeChat official accounts, their plugins and the records of calls. \
            Times are Unix milliseconds. Every answer that is not a success is an `ErrorBody`.",
    ),
    components(schemas(ErrorBody, ErrorDetail)),
    security(("admin_token" = [])),
    modifiers(&AdminToken),
)]
pub struct Document;

struct AdminToken;

impl Modify for AdminToken {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("admin_token", SecurityScheme::Http(scheme.clone()));
        components.add_security_scheme("api_key", SecurityScheme::Http(scheme));
    }
}
