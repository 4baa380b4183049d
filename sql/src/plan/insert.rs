//! INSERT.

use types::limits::ROWS_PER_STATEMENT_MAX;
use types::schema::Table;
use types::value::Value;
use types::{Error, ErrorCode};

use super::Plan;
use super::context::Context;
use super::prepared::Prepared;
use super::returning::Returning;
use super::rows::{RowChange, RowWriter};
use super::upsert::{self, Upsert};
use crate::answer::Answer;
use crate::failure::Result;
use crate::query::params;
use crate::statement::{Insert, InsertSource, InsertValue};

pub(super) async fn plan(context: &Context<'_>, insert: &Insert) -> Result<Plan> {
    let table = context.table(&insert.table)?;
    let mut writer = RowWriter::new(context, &table)?;
    check_params(context, insert)?;
    let returning = Returning::new(context, &table.record, insert.returning.as_deref())?;
    let rows = match &insert.source {
        InsertSource::Values(rows) => {
            let width = rows.first().map_or(0, Vec::len);
            let columns = target_columns(&table.record, insert, width)?;
            literal_rows(context, &writer, &columns, rows)?
        }
        InsertSource::DefaultValues => vec![full_row(context, &writer, &[], Vec::new())?],
        InsertSource::Query(query) => {
            let engine = &context.planner.engine;
            let read = std::sync::Arc::clone(&context.read);
            let selected = engine
                .select(read, query, &context.session, context.params)
                .await?;
            check_count(selected.rows.len())?;
            let columns = target_columns(&table.record, insert, selected.columns.len())?;
            let rows = selected.rows.into_iter();
            rows.map(|row| full_row(context, &writer, &columns, row))
                .collect::<Result<_>>()?
        }
    };
    let changes = match &insert.on_conflict {
        None => rows
            .into_iter()
            .map(|values| RowChange::Insert { values })
            .collect(),
        Some(on_conflict) => {
            let upsert = Upsert::new(context, &writer, on_conflict)?;
            upsert::resolve(context, &mut writer, &upsert, rows)?
        }
    };
    let row_count = changes.len() as u64;
    let returned = returning
        .map(|r| r.rows(changes.iter().map(after)))
        .transpose()?;
    let changes = writer.without_unchanged(changes)?;
    writer.write(&changes)?;
    let message = format!("Inserted {row_count} row(s)");
    let answer = Answer::Done {
        message,
        row_count,
        returning: returned,
    };
    if changes.is_empty() {
        return Ok(Plan::nothing(answer));
    }
    Ok(writer.draft.into_plan(answer)?)
}

fn after(change: &RowChange) -> &[Value] {
    match change {
        RowChange::Insert { values } | RowChange::Update { values, .. } => values,
        RowChange::Delete { before } => &before.values,
    }
}

/// A query checks its own parameters.
fn check_params(context: &Context<'_>, insert: &Insert) -> types::Result<()> {
    let mut highest = 0;
    match &insert.source {
        InsertSource::Query(query) => highest = params::highest(&**query)?,
        InsertSource::DefaultValues => {}
        InsertSource::Values(rows) => {
            for value in rows.iter().flatten() {
                if let InsertValue::Expr(expr) = value {
                    highest = highest.max(params::highest(expr)?);
                }
            }
        }
    }
    if let Some(on_conflict) = &insert.on_conflict {
        highest = highest.max(upsert::highest_param(on_conflict)?);
    }
    for item in insert.returning.iter().flatten() {
        highest = highest.max(params::highest(item)?);
    }
    params::check_count(highest, context.params)
}

/// The positions of the columns that the statement gives `width` values for. Without names they are
/// the table's first ones; the rest get their defaults, as in PostgreSQL.
fn target_columns(table: &Table, insert: &Insert, width: usize) -> types::Result<Vec<usize>> {
    let Some(names) = &insert.columns else {
        check_width(width.max(table.columns.len()), table.columns.len())?;
        return Ok((0..width).collect());
    };
    check_width(width, names.len())?;
    names
        .iter()
        .map(|name| column_position(table, name))
        .collect()
}

/// Where in the table a column is.
pub(super) fn column_position(table: &Table, name: &str) -> types::Result<usize> {
    table
        .columns
        .iter()
        .position(|column| column.name == *name)
        .ok_or_else(|| {
            let message = format!("table {} has no column \"{name}\"", table.qualified_name());
            Error::new(ErrorCode::InvalidSql, message)
        })
}

fn check_width(given: usize, expected: usize) -> types::Result<()> {
    if given == expected {
        return Ok(());
    }
    let message = format!("a row has {given} value(s) for {expected} column(s)");
    Err(Error::new(ErrorCode::InvalidSql, message))
}

fn check_count(rows: usize) -> types::Result<()> {
    if rows <= ROWS_PER_STATEMENT_MAX {
        return Ok(());
    }
    let message = format!("a statement changes at most {ROWS_PER_STATEMENT_MAX} rows");
    Err(Error::new(ErrorCode::ValueTooLarge, message))
}

fn literal_rows(
    context: &Context<'_>,
    writer: &RowWriter<'_>,
    columns: &[usize],
    rows: &[Vec<InsertValue>],
) -> Result<Vec<Vec<Value>>> {
    check_count(rows.len())?;
    let mut full = Vec::with_capacity(rows.len());
    for row in rows {
        let mut given = Vec::with_capacity(row.len());
        for (value, at) in row.iter().zip(columns) {
            given.push(evaluate(context, &writer.prepared, value, *at)?);
        }
        full.push(full_row(context, writer, columns, given)?);
    }
    Ok(full)
}

fn evaluate(
    context: &Context<'_>,
    prepared: &Prepared,
    value: &InsertValue,
    at: usize,
) -> types::Result<Value> {
    match value {
        InsertValue::Default => prepared.default(context, at),
        InsertValue::Expr(expr) => {
            context
                .planner
                .engine
                .constant(expr, &context.session, context.params)
        }
    }
}

/// A row with a value for every column: those given, and defaults.
fn full_row(
    context: &Context<'_>,
    writer: &RowWriter<'_>,
    columns: &[usize],
    given: Vec<Value>,
) -> Result<Vec<Value>> {
    let mut row: Vec<Option<Value>> = vec![None; writer.prepared.table.columns.len()];
    for (at, value) in columns.iter().zip(given) {
        row[*at] = Some(value);
    }
    let values = row.into_iter().enumerate().map(|(at, value)| {
        let value = match value {
            Some(value) => value,
            None => writer.prepared.default(context, at)?,
        };
        writer.assign(value, at)
    });
    Ok(values.collect::<types::Result<_>>()?)
}
