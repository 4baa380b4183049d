//! The OpenAPI document of the routes, for `/openapi.json`.
//!
//! `openapi.json` is written by hand; the tests hold it against the paths and the serde types, so
//! that it cannot tell another story than the server.

use serde_json::Value;

const TEXT: &str = include_str!("openapi.json");

/// The document, with the version of this build.
pub fn document() -> Value {
    #[expect(
        clippy::expect_used,
        reason = "the text is part of the program and read by a test"
    )]
    let mut document: Value = serde_json::from_str(TEXT).expect("openapi.json is valid JSON");
    document["info"]["version"] = Value::from(env!("CARGO_PKG_VERSION"));
    document
}

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;
