//! SQL: from text to rows, or to the commands that are replicated.
//!
//! [`parse`] turns a request's text into [`Statement`]s. [`plan`] turns a statement that writes
//! into a [`Plan`]: expectations about what it saw and physical commands, everything evaluated
//! once. [`query`] runs what only reads. `OVERVIEW.md` tells the life of a statement.
//!
//! This crate is the only one with sqlparser and DataFusion. It never sees a cluster condition:
//! it knows a snapshot and the caller, neither leaders nor the log.

pub mod answer;
pub mod catalog;
pub mod failure;
pub mod names;
pub mod parse;
pub mod plan;
pub mod query;
pub mod session;
pub mod statement;

pub use answer::{Answer, ResultColumn, Rows};
pub use catalog::{Catalog, Found};
pub use failure::{Failure, Result};
pub use parse::{Parsed, StatementCache, parse};
pub use plan::{Plan, Planner, Transaction, overlay, runs_query};
pub use query::QueryEngine;
pub use session::{Entropy, Inject, Param, PasswordHasher, Session};
pub use statement::Statement;
