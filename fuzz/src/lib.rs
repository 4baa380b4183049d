//! What reads bytes that this build did not write itself, each as a function of any bytes: what
//! clients send, what other nodes send, what the disk gives back. A panic is a finding, and so is
//! what does not come back as it was where that is promised.
//!
//! `tests/bounded.rs` gives every target its corpus and some thousand changes of it, the same ones
//! every time. `coverage.sh` runs one target for as long as wanted, guided by coverage.

// In this crate a panic is the report.
#![expect(clippy::unwrap_used, reason = "in a target a panic is the report")]

pub mod mutate;

mod targets;

pub use targets::TARGETS;

/// One way in.
pub struct Target {
    /// Its name, and that of its directory in `corpus`.
    pub name: &'static str,
    /// Reads the bytes.
    pub run: fn(&[u8]),
    /// Inputs that are well formed, made by the code that writes them.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How many changed inputs the bounded run tries: fewer where one takes long.
    pub tries: usize,
}
