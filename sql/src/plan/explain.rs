//! EXPLAIN of INSERT, UPDATE and DELETE: what would be written, and how its rows would be found.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::Query;
use types::value::{DataType, Value};
use types::{Error, ErrorCode};

use super::context::Context;
use crate::answer::{Answer, ResultColumn, Rows};
use crate::failure::Result;
use crate::query::{params, rows_query};
use crate::statement::{InsertSource, Statement};

/// Plans nothing and changes nothing; who may not write gets no plan either.
pub(super) async fn answer(context: &Context<'_>, statement: &Statement) -> Result<Answer> {
    let name = match statement {
        Statement::Insert(insert) => &insert.table,
        Statement::Update(update) => &update.table,
        Statement::Delete(delete) => &delete.table,
        other => {
            let message = format!("EXPLAIN does not take {}", other.kind());
            return Err(Error::new(ErrorCode::InvalidSql, message).into());
        }
    };
    let table = context.table(name)?.record;
    context.may_write(&table)?;
    let query: Option<Box<Query>> = match statement {
        Statement::Insert(insert) => match &insert.source {
            InsertSource::Query(query) => Some(query.clone()),
            InsertSource::Values(_) | InsertSource::DefaultValues => None,
        },
        Statement::Update(update) => Some(rows_query(&table, update.selection.as_ref())?),
        Statement::Delete(delete) => Some(rows_query(&table, delete.selection.as_ref())?),
        _ => None,
    };
    let text = |text: String| Value::Text(text);
    let write = format!("{}: {}", statement.kind(), table.qualified_name());
    let mut rows = Rows {
        columns: vec![
            ResultColumn::new("plan_type", DataType::Text),
            ResultColumn::new("plan", DataType::Text),
        ],
        rows: vec![vec![text("write".to_owned()), text(write)]],
    };
    if let Some(query) = query {
        // Others may stand in SET or RETURNING.
        let count = params::highest(&*query)?.min(context.params.len());
        let engine = &context.planner.engine;
        let read = Arc::clone(&context.read);
        let found = engine
            .explain(read, &query, &context.session, &context.params[..count])
            .await?;
        rows.rows.extend(found.rows);
    }
    Ok(Answer::Rows(rows))
}
