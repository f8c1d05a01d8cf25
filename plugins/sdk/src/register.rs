//! The door of a plugin: what the host calls, and what it reads without calling.

/// Makes a type the plugin of this crate: exports its handler and embeds its manifest.
///
/// ```
/// use wxhost_sdk::prelude::*;
///
/// pub struct Parrot;
///
/// impl CallbackHandler for Parrot {
///     fn on_text(_: &Event, text: &Text) -> Result {
///         Reply::text(&text.content).into()
///     }
/// }
///
/// wxhost_sdk::register!(Parrot);
/// # fn main() {}
/// ```
///
/// A plugin that wants more than the name and the version of its crate to be known writes a `plugin.toml`
/// and names it: `register!(Parrot, manifest = include_str!("../plugin.toml"))`. It is what asks for
/// WeChat's API and for other systems; see `wit/README.md`.
///
/// A plugin with settings gives their JSON Schema too, and the host refuses a deployment whose settings
/// break it: `register!(Parrot, config_schema = include_str!("schema.json"))`.
///
/// A plugin that handles something else than callbacks, or more, says so:
/// `register!(Orders, handlers = [push])`, `register!(Shop, handlers = [callback, push, login])`.
#[macro_export]
macro_rules! register {
    ($plugin:ty, handlers = [$($handler:ident),+ $(,)?] $(, manifest = $manifest:expr)? $(, config_schema = $schema:expr)? $(,)?) => {
        $($crate::export_handler!($handler, $plugin);)+

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            $crate::embed_section!("wxhost:plugin", $crate::manifest_text!($($manifest)?));
            $($crate::embed_section!("wxhost:config-schema", $schema);)?
        };

        // On other targets nothing is exported: tests call it.
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            $(const _: &str = $manifest;)?
            $(const _: &str = $schema;)?
        };
    };
    ($plugin:ty $(, manifest = $manifest:expr)? $(, config_schema = $schema:expr)? $(,)?) => {
        $crate::register!($plugin, handlers = [callback] $(, manifest = $manifest)? $(, config_schema = $schema)?);
    };
}

/// Exports one handler; on targets where nothing is exported, the type is checked.
#[doc(hidden)]
#[macro_export]
macro_rules! export_handler {
    (callback, $plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Component;

            impl $crate::bindings::exports::wxhost::plugin::callback_handler::Guest for Component {
                fn handle(
                    event: $crate::Event,
                ) -> ::core::result::Result<$crate::Outcome, $crate::register::PluginError> {
                    $crate::register::handle_callback::<$plugin>(event)
                }
            }

            $crate::bindings::export_callback_handler!(Component with_types_in $crate::bindings);
        };

        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&$crate::Event) -> $crate::Result =
            <$plugin as $crate::CallbackHandler>::handle;
    };
    (push, $plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::push::{Composition, Push, Recipient};

            struct Component;

            impl $crate::bindings::push::exports::wxhost::plugin::push_handler::Guest for Component {
                fn compose(
                    push: Push,
                    recipients: ::std::vec::Vec<Recipient>,
                ) -> ::core::result::Result<
                    ::std::vec::Vec<Composition>,
                    $crate::register::PluginError,
                > {
                    $crate::register::handle_push::<$plugin>(push, recipients)
                }
            }

            $crate::bindings::push::export_push_handler!(Component with_types_in $crate::bindings::push);
        };

        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(
            &$crate::push::Push,
            &$crate::push::Recipient,
        ) -> $crate::Result<$crate::push::Composition> =
            <$plugin as $crate::push::PushHandler>::compose;
    };
    (login, $plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Component;

            impl $crate::bindings::login::exports::wxhost::plugin::login_handler::Guest for Component {
                fn decide(
                    login: $crate::login::Login,
                ) -> ::core::result::Result<$crate::login::Verdict, $crate::register::PluginError>
                {
                    $crate::register::handle_login::<$plugin>(login)
                }
            }

            $crate::bindings::login::export_login_handler!(Component with_types_in $crate::bindings::login);
        };

        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&$crate::login::Login) -> $crate::Result<$crate::login::Verdict> =
            <$plugin as $crate::login::LoginHandler>::decide;
    };
    (payment, $plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Component;

            impl $crate::bindings::payment::exports::wxhost::plugin::payment_handler::Guest for Component {
                fn handle(
                    event: $crate::payment::Event,
                ) -> ::core::result::Result<$crate::payment::Outcome, $crate::register::PluginError>
                {
                    $crate::register::handle_payment::<$plugin>(event)
                }
            }

            $crate::bindings::payment::export_payment_handler!(Component with_types_in $crate::bindings::payment);
        };

        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&$crate::payment::Event) -> $crate::Result =
            <$plugin as $crate::payment::PaymentHandler>::handle;
    };
}

/// The manifest as it was given, or one of the crate's name and version.
#[doc(hidden)]
#[macro_export]
macro_rules! manifest_text {
    () => {
        ::core::concat!(
            "name = \"",
            ::core::env!("CARGO_PKG_NAME"),
            "\"\nversion = \"",
            ::core::env!("CARGO_PKG_VERSION"),
            "\"\n",
        )
    };
    ($text:expr) => {
        $text
    };
}

/// Embeds text as a custom section.
#[doc(hidden)]
#[macro_export]
macro_rules! embed_section {
    ($name:literal, $text:expr) => {
        const _: () = {
            const TEXT: &str = $text;

            #[unsafe(link_section = $name)]
            static SECTION: [u8; TEXT.len()] = $crate::register::bytes_of(TEXT);
        };
    };
}

#[doc(hidden)]
pub use crate::bindings::wxhost::plugin::failure::PluginError;

/// What the exported function does.
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub fn handle_callback<P: crate::CallbackHandler>(
    event: crate::Event,
) -> Result<crate::Outcome, PluginError> {
    std::panic::set_hook(Box::new(|panic| crate::log::error(panic.to_string())));
    let outcome = P::handle(&event).map_err(PluginError::from);
    // The instance is dropped whole after this call: taking the event apart would be wasted work.
    std::mem::forget(event);
    outcome
}

/// What the exported function does.
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub fn handle_push<P: crate::push::PushHandler>(
    push: crate::push::Push,
    recipients: Vec<crate::push::Recipient>,
) -> Result<Vec<crate::push::Composition>, PluginError> {
    std::panic::set_hook(Box::new(|panic| crate::log::error(panic.to_string())));
    let composed = P::compose_all(&push, &recipients).map_err(PluginError::from);
    // The instance is dropped whole after this call: taking these apart would be wasted work.
    std::mem::forget((push, recipients));
    composed
}

/// What the exported function does.
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub fn handle_login<P: crate::login::LoginHandler>(
    login: crate::login::Login,
) -> Result<crate::login::Verdict, PluginError> {
    std::panic::set_hook(Box::new(|panic| crate::log::error(panic.to_string())));
    P::decide(&login).map_err(PluginError::from)
}

/// What the exported function does.
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub fn handle_payment<P: crate::payment::PaymentHandler>(
    event: crate::payment::Event,
) -> Result<crate::payment::Outcome, PluginError> {
    std::panic::set_hook(Box::new(|panic| crate::log::error(panic.to_string())));
    let outcome = P::handle(&event).map_err(PluginError::from)?;
    Ok(crate::payment::Outcome {
        effects: outcome.effects,
    })
}

/// The bytes of a text as an array, at compile time: a custom section holds no pointers.
#[doc(hidden)]
#[must_use]
pub const fn bytes_of<const LENGTH: usize>(text: &str) -> [u8; LENGTH] {
    match text.as_bytes().first_chunk() {
        Some(bytes) => *bytes,
        None => panic!("the array is as long as the text"),
    }
}
