//! Tests on real processes, in one binary because each link of it costs more than a test.
//!
//! A module is a promise, and reads like a page of the contract.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod ack_repeats;
mod bad_input;
mod consume_answers;
mod crash;
mod failover;
mod group_rules;
mod groups;
mod metrics;
mod own;
mod reads;
mod retention;
mod seed;
mod sql_statements;
mod sql_types;
mod sql_users;
mod start_up;
mod tls;
mod topic_streams;
mod topics;
