//! The query engine: everything that evaluates SQL expressions and reads tables.
//!
//! - [`engine`]: SELECT through DataFusion, over one snapshot;
//! - [`lookup`]: SELECT of one row by its whole primary key, without DataFusion;
//! - [`eval`]: expressions over the rows of one table: UPDATE SET, WHERE, RETURNING, route filters;
//! - [`scan`]: the rows an UPDATE or DELETE means;
//! - [`context`]: names as DataFusion's planner looks them up; [`provider`]: tables as its
//!   executor reads them; [`ranges`]: filters on the primary key as ranges of keys;
//! - [`functions`], [`params`], [`literal`], [`rewrite`], [`result_names`]: from SQL to what
//!   DataFusion understands, and back;
//! - [`system`]: the server's own tables;
//! - [`convert`]: values and Arrow arrays; [`cast`]: values of one type as another;
//! - [`failure`]: DataFusion's errors as ours.

pub mod cast;
mod context;
mod convert;
mod engine;
mod eval;
mod failure;
mod functions;
mod literal;
mod lookup;
pub mod params;
mod provider;
mod ranges;
mod result_names;
mod rewrite;
mod scan;
mod system;

pub use cast::cast;
pub use context::{may_read, owner};
pub use engine::QueryEngine;
pub use eval::CompiledExpr;
pub use scan::StoredRow;
pub use system::{ClusterRow, SystemFacts, TopicOffsetRow, default_text};

#[cfg(test)]
mod tests;
