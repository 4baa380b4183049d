//! Engines and batches against plain maps.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod batch;
mod common;
mod engines;
mod memory_crash;
