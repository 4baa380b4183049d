//! Tests on real processes, in one binary because each link of it costs more than a test.
//!
//! A module is a promise, and reads like a page of the contract.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod ack_repeats;
mod addresses;
mod bad_input;
mod chaos;
mod consume_answers;
mod controls;
mod crash;
mod damaged_files;
mod deploy;
mod digests;
mod disk;
mod disk_failures;
mod failover;
mod far_behind;
mod few_files;
mod group_rules;
mod groups;
mod history;
mod large_state;
mod members;
mod metrics;
mod own;
mod partitions;
mod planned;
mod power;
mod reads;
mod recover;
mod retention;
mod runbook;
mod seed;
mod snapshots;
mod sql_statements;
mod sql_types;
mod sql_users;
mod start_up;
mod steady;
mod tls;
mod topic_streams;
mod topics;
