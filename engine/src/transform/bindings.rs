//! The guest contract as Rust types, made from `transforms/wit/transform.wit`.

#![allow(clippy::pedantic, missing_docs, unreachable_pub, reason = "generated code")]

wasmtime::component::bindgen!({
    path: "../transforms/wit",
    world: "transform",
    exports: { default: async },
    ownership: Borrowing { duplicate_if_necessary: true },
});
