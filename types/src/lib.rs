//! Plain data that every other crate shares: ids, values, schemas, commands, outcomes, error codes,
//! limits and the encodings of rows and cells.
//!
//! This crate does no IO, is not async, and knows neither clocks nor randomness.

pub mod cell;
pub mod command;
pub mod error;
pub mod histogram;
pub mod ids;
pub mod limits;
pub mod outcome;
pub mod partition;
pub mod planted;
pub mod row;
pub mod schema;
pub mod value;

pub use error::{Error, ErrorCode, Result};
