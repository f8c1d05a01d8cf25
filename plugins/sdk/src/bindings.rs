//! The contract of `wit/` in Rust, as wit-bindgen writes it. The rest of the crate gives it its face;
//! nothing here is meant to be named by a plugin.

wit_bindgen::generate!({
    path: "../../wit",
    world: "callback-plugin",
    additional_derives: [PartialEq],
    pub_export_macro: true,
    export_macro_name: "export_callback_handler",
    default_bindings_module: "wxhost_sdk::bindings",
});
