//! The query engine: everything that evaluates SQL expressions and reads tables.
//!
//! - [`engine`]: SELECT through DataFusion, over one snapshot;
//! - [`lookup`]: SELECT of one row by its whole primary key, without DataFusion;
//! - [`eval`]: expressions over the rows of one table: UPDATE SET, WHERE, RETURNING, route filters;
//! - [`scan`]: the rows an UPDATE or DELETE means;
//! - [`context`]: names as DataFusion's planner looks them up; [`provider`]: tables as its
//!   executor reads them; [`ranges`]: filters on the primary key as ranges of keys;
//! - [`functions`], [`params`], [`literal`], [`rewrite`], [`operands`], [`result_names`]: from SQL
//!   to what DataFusion understands, and back;
//! - [`arithmetic`], [`sum`], [`bounded`]: what has an error instead of a wrong or endless result;
//! - [`system`]: the server's own tables;
//! - [`convert`]: values and Arrow arrays; [`cast`]: values of one type as another;
//! - [`failure`]: DataFusion's errors as ours.

mod arithmetic;
mod bounded;
pub mod cast;
mod context;
mod convert;
mod engine;
mod eval;
mod failure;
mod functions;
mod literal;
mod lookup;
mod operands;
pub mod params;
mod provider;
mod ranges;
mod result_names;
mod rewrite;
mod scan;
mod sum;
mod system;

pub use cast::cast;
pub use context::{may_read, owner};
pub use engine::QueryEngine;
pub use eval::CompiledExpr;
pub use provider::corrupt;
pub(crate) use scan::has_subquery;
pub use scan::{Keep, Meant, StoredRow, every_row, rows_query};
pub use system::{
    ClusterRow, SystemFacts, TopicOffsetRow, default_text, table_columns, table_names,
};

#[cfg(test)]
mod tests;

/// The value of a literal.
#[cfg(test)]
pub(crate) fn literal_value(
    expr: &datafusion::sql::sqlparser::ast::Expr,
) -> Option<types::value::Value> {
    literal::value(expr, &[]).ok().flatten()
}
