//! A plugin in Rust for `wasm32-wasip2`, without the SDK: bindings by `wit-bindgen`, WASI by the standard
//! library.

wit_bindgen::generate!({
    path: "../../../wit",
    world: "callback-plugin",
});

use exports::wxhost::plugin::callback_handler::{Guest, Outcome};
use wxhost::plugin::callback::{Content, Event};
use wxhost::plugin::failure::PluginError;
use wxhost::plugin::reply::Reply;

struct Plugin;

impl Guest for Plugin {
    fn handle(event: Event) -> Result<Outcome, PluginError> {
        let reply = match event.content {
            Content::Text(text) => {
                // To the plugin's log.
                println!("somebody wrote");
                Some(Reply::Text(format!("{} from Rust", text.content)))
            }
            _ => None,
        };
        Ok(Outcome {
            reply,
            effects: Vec::new(),
        })
    }
}

export!(Plugin);
