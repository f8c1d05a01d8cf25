//! Generated from `wit/`: the values that cross the sandbox's border, and the traits that `imports`
//! implements. How exports are found and called is in `plugin`.
#![expect(missing_docs, reason = "generated; its documentation is the WIT's")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "plugin",
    imports: {
        default: trappable,
        "wxhost:plugin/kv": async | trappable,
        "wxhost:plugin/cache": async | trappable,
        "wxhost:plugin/contacts": async | trappable,
        "wxhost:plugin/wechat-api": async | trappable,
        "wxhost:plugin/egress": async | trappable,
        "wxhost:plugin/pay": async | trappable,
        "wxhost:plugin/orders": async | trappable,
    },
    exports: { default: async },
});
