//! What is worked out once for a version of a table's record: its route filters, compiled, and its
//! literal defaults, evaluated.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use types::ids::{TableId, Version};
use types::schema::{Column, DefaultExpr, Table};
use types::value::{DataType, Value};

use super::context::Context;
use super::routes;
use crate::catalog::{Found, PROVISIONAL_INDEX};
use crate::query::{CompiledExpr, cast};

/// Tables kept; at more, all are dropped.
const TABLES_MAX: usize = 10_000;

/// A table's record and what follows from it.
pub(super) struct Prepared {
    pub table: Arc<Table>,
    /// One a route; none where the route takes all rows.
    pub filters: Vec<Option<CompiledExpr>>,
    /// One a column: the value of a literal default; none for functions, NULL without default.
    literals: Vec<Option<Value>>,
    /// Positions of the primary key's columns.
    pub primary_key: Vec<usize>,
    /// For each index the positions of its columns.
    pub indexes: Vec<Vec<usize>>,
    /// Positions of all columns, in order of their ids: the order of fields in a row.
    pub by_id: Vec<usize>,
}

/// Prepared tables by id, each in the version last used.
#[derive(Default)]
pub(super) struct PreparedTables {
    tables: Mutex<BTreeMap<TableId, (Version, Arc<Prepared>)>>,
}

impl PreparedTables {
    pub fn get(&self, context: &Context<'_>, found: &Found<Table>) -> types::Result<Arc<Prepared>> {
        // A panic while the lock is held leaves a whole map: it is only read and inserted into.
        let cached = self
            .tables
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&found.record.id)
            .filter(|(version, _)| *version == found.version)
            .map(|(_, prepared)| Arc::clone(prepared));
        if let Some(prepared) = cached {
            return Ok(prepared);
        }
        let prepared = Arc::new(Prepared::new(context, &found.record)?);
        if found.version.index != PROVISIONAL_INDEX {
            let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
            if tables.len() >= TABLES_MAX {
                tables.clear();
            }
            tables.insert(found.record.id, (found.version, Arc::clone(&prepared)));
        }
        Ok(prepared)
    }
}

impl Prepared {
    fn new(context: &Context<'_>, table: &Arc<Table>) -> types::Result<Prepared> {
        let filter = |route: &types::schema::Route| {
            let filter = route.filter.as_deref();
            filter
                .map(|text| routes::compile_filter(context, table, text))
                .transpose()
        };
        let filters: types::Result<Vec<_>> = table.routes.iter().map(filter).collect();
        let literals: types::Result<Vec<_>> = table
            .columns
            .iter()
            .map(|column| literal_default(context, column))
            .collect();
        let positions = |ids: &[u32]| -> Vec<usize> {
            ids.iter()
                .filter_map(|id| table.columns.iter().position(|column| column.id == *id))
                .collect()
        };
        let mut by_id: Vec<usize> = (0..table.columns.len()).collect();
        by_id.sort_by_key(|at| table.columns[*at].id);
        Ok(Prepared {
            filters: filters?,
            literals: literals?,
            primary_key: positions(&table.primary_key),
            indexes: table
                .indexes
                .iter()
                .map(|index| positions(&index.columns))
                .collect(),
            by_id,
            table: Arc::clone(table),
        })
    }

    /// The value that an INSERT without one gives the column at `at`.
    pub fn default(&self, context: &Context<'_>, at: usize) -> types::Result<Value> {
        if let Some(value) = &self.literals[at] {
            return Ok(value.clone());
        }
        let column = &self.table.columns[at];
        match &column.default {
            Some(default) => computed_default(context, default, column.data_type),
            None => Ok(Value::Null),
        }
    }
}

/// Is the default one that the column can hold?
pub(super) fn check_default(context: &Context<'_>, column: &Column) -> types::Result<()> {
    default_value(context, column).map(|_| ())
}

/// The column's default, evaluated.
pub(super) fn default_value(context: &Context<'_>, column: &Column) -> types::Result<Value> {
    let value = match literal_default(context, column)? {
        Some(value) => Ok(value),
        None => match &column.default {
            Some(default) => computed_default(context, default, column.data_type),
            None => Ok(Value::Null),
        },
    };
    value.map_err(|error| in_default(error, column))
}

fn literal_default(context: &Context<'_>, column: &Column) -> types::Result<Option<Value>> {
    let text = match &column.default {
        None => return Ok(Some(Value::Null)),
        Some(DefaultExpr::Literal(text)) => text,
        Some(_) => return Ok(None),
    };
    let expr = crate::parse::expression(text)?;
    let value = context
        .planner
        .engine
        .constant(&expr, &context.session, &[])?;
    cast(value, column.data_type)
        .map(Some)
        .map_err(|error| in_default(error, column))
}

fn in_default(mut error: types::Error, column: &Column) -> types::Error {
    error.message = format!("DEFAULT of column \"{}\": {}", column.name, error.message);
    error
}

fn computed_default(
    context: &Context<'_>,
    default: &DefaultExpr,
    data_type: DataType,
) -> types::Result<Value> {
    let now = context.session.now;
    let entropy = &context.planner.inject.entropy;
    let value = match default {
        DefaultExpr::Literal(_) => Value::Null,
        DefaultExpr::Now => Value::Timestamp(now),
        DefaultExpr::Ulid => Value::Text(entropy.ulid(now)),
        DefaultExpr::UuidV7 => Value::Uuid(entropy.uuid_v7(now)),
        DefaultExpr::SnowflakeId => Value::BigInt(entropy.snowflake_id(now)),
        DefaultExpr::CurrentUser => Value::Text(context.session.effective_user.to_owned()),
    };
    cast(value, data_type)
}
