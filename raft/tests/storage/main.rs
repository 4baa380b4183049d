//! Log, apply, state and snapshots, without the consensus on top.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod apply;
mod crash_points;
mod history;
mod install;
mod log_model;
mod log_store;
mod state_machine;
mod suite;
mod support;
mod surgery;
