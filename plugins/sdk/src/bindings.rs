//! The contract of `wit/` in Rust, as wit-bindgen writes it: a world for each handler, so that a plugin
//! exports those that it has. The rest of the crate gives it its face; nothing here is meant to be named by
//! a plugin.

wit_bindgen::generate!({
    path: "../../wit",
    world: "callback-plugin",
    additional_derives: [PartialEq],
    pub_export_macro: true,
    export_macro_name: "export_callback_handler",
    default_bindings_module: "wxhost_sdk::bindings",
});

/// The world of plugins that decide on logins; what it shares with the first one is the same type.
pub mod login {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "login-plugin",
        with: {
            "wxhost:plugin/account@0.1.0": crate::bindings::wxhost::plugin::account,
            "wxhost:plugin/cache@0.1.0": crate::bindings::wxhost::plugin::cache,
            "wxhost:plugin/config@0.1.0": crate::bindings::wxhost::plugin::config,
            "wxhost:plugin/contacts@0.1.0": crate::bindings::wxhost::plugin::contacts,
            "wxhost:plugin/egress@0.1.0": crate::bindings::wxhost::plugin::egress,
            "wxhost:plugin/failure@0.1.0": crate::bindings::wxhost::plugin::failure,
            "wxhost:plugin/kv@0.1.0": crate::bindings::wxhost::plugin::kv,
            "wxhost:plugin/log@0.1.0": crate::bindings::wxhost::plugin::log,
            "wxhost:plugin/money@0.1.0": crate::bindings::wxhost::plugin::money,
            "wxhost:plugin/orders@0.1.0": crate::bindings::wxhost::plugin::orders,
            "wxhost:plugin/pay@0.1.0": crate::bindings::wxhost::plugin::pay,
            "wxhost:plugin/random@0.1.0": crate::bindings::wxhost::plugin::random,
            "wxhost:plugin/time@0.1.0": crate::bindings::wxhost::plugin::time,
            "wxhost:plugin/wechat-api@0.1.0": crate::bindings::wxhost::plugin::wechat_api,
        },
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_login_handler",
        default_bindings_module: "wxhost_sdk::bindings::login",
    });
}

/// The world of plugins that compose pushes; what it shares with the other one is the same type.
pub mod push {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "push-plugin",
        with: {
            "wxhost:plugin/account@0.1.0": crate::bindings::wxhost::plugin::account,
            "wxhost:plugin/cache@0.1.0": crate::bindings::wxhost::plugin::cache,
            "wxhost:plugin/config@0.1.0": crate::bindings::wxhost::plugin::config,
            "wxhost:plugin/contacts@0.1.0": crate::bindings::wxhost::plugin::contacts,
            "wxhost:plugin/egress@0.1.0": crate::bindings::wxhost::plugin::egress,
            "wxhost:plugin/failure@0.1.0": crate::bindings::wxhost::plugin::failure,
            "wxhost:plugin/kv@0.1.0": crate::bindings::wxhost::plugin::kv,
            "wxhost:plugin/log@0.1.0": crate::bindings::wxhost::plugin::log,
            "wxhost:plugin/messages@0.1.0": crate::bindings::wxhost::plugin::messages,
            "wxhost:plugin/money@0.1.0": crate::bindings::wxhost::plugin::money,
            "wxhost:plugin/orders@0.1.0": crate::bindings::wxhost::plugin::orders,
            "wxhost:plugin/pay@0.1.0": crate::bindings::wxhost::plugin::pay,
            "wxhost:plugin/random@0.1.0": crate::bindings::wxhost::plugin::random,
            "wxhost:plugin/time@0.1.0": crate::bindings::wxhost::plugin::time,
            "wxhost:plugin/wechat-api@0.1.0": crate::bindings::wxhost::plugin::wechat_api,
        },
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_push_handler",
        default_bindings_module: "wxhost_sdk::bindings::push",
    });
}

/// The world of plugins that handle what money does; what it shares with the first one is the same type.
pub mod payment {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "payment-plugin",
        with: {
            "wxhost:plugin/account@0.1.0": crate::bindings::wxhost::plugin::account,
            "wxhost:plugin/cache@0.1.0": crate::bindings::wxhost::plugin::cache,
            "wxhost:plugin/config@0.1.0": crate::bindings::wxhost::plugin::config,
            "wxhost:plugin/contacts@0.1.0": crate::bindings::wxhost::plugin::contacts,
            "wxhost:plugin/effects@0.1.0": crate::bindings::wxhost::plugin::effects,
            "wxhost:plugin/egress@0.1.0": crate::bindings::wxhost::plugin::egress,
            "wxhost:plugin/failure@0.1.0": crate::bindings::wxhost::plugin::failure,
            "wxhost:plugin/kv@0.1.0": crate::bindings::wxhost::plugin::kv,
            "wxhost:plugin/log@0.1.0": crate::bindings::wxhost::plugin::log,
            "wxhost:plugin/messages@0.1.0": crate::bindings::wxhost::plugin::messages,
            "wxhost:plugin/money@0.1.0": crate::bindings::wxhost::plugin::money,
            "wxhost:plugin/orders@0.1.0": crate::bindings::wxhost::plugin::orders,
            "wxhost:plugin/pay@0.1.0": crate::bindings::wxhost::plugin::pay,
            "wxhost:plugin/random@0.1.0": crate::bindings::wxhost::plugin::random,
            "wxhost:plugin/time@0.1.0": crate::bindings::wxhost::plugin::time,
            "wxhost:plugin/wechat-api@0.1.0": crate::bindings::wxhost::plugin::wechat_api,
        },
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_payment_handler",
        default_bindings_module: "wxhost_sdk::bindings::payment",
    });
}
