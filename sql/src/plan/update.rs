//! UPDATE.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::Expr;
use types::schema::Table;
use types::value::Value;

use super::Plan;
use super::context::Context;
use super::insert::column_position;
use super::returning::Returning;
use super::rows::{RowChange, RowWriter};
use crate::answer::Answer;
use crate::failure::Result;
use crate::query::{CompiledExpr, Keep, Meant, params};
use crate::statement::{Assignment, InsertValue, Update};

/// SET, looked up and compiled.
pub(super) struct Assignments {
    /// Column and its new value; none: DEFAULT.
    sets: Vec<(usize, Option<CompiledExpr>)>,
}

impl Assignments {
    pub fn new(
        table: &Table,
        assignments: &[Assignment],
        compile: impl Fn(&Expr) -> types::Result<CompiledExpr>,
    ) -> types::Result<Assignments> {
        let set = |assignment: &Assignment| {
            let at = column_position(table, &assignment.column)?;
            let value = match &assignment.value {
                InsertValue::Default => None,
                InsertValue::Expr(expr) => Some(compile(expr)?),
            };
            Ok((at, value))
        };
        let sets: types::Result<Vec<_>> = assignments.iter().map(set).collect();
        Ok(Assignments { sets: sets? })
    }

    /// The rows with their new values. All expressions see the old ones.
    pub fn apply(
        &self,
        context: &Context<'_>,
        writer: &RowWriter<'_>,
        rows: &[Vec<Value>],
    ) -> types::Result<Vec<Vec<Value>>> {
        let mut updated = rows.to_vec();
        for (at, expr) in &self.sets {
            let values = match expr {
                Some(expr) => expr.eval(rows)?,
                None => {
                    let default = |_: &Vec<Value>| writer.prepared.default(context, *at);
                    rows.iter().map(default).collect::<types::Result<_>>()?
                }
            };
            for (row, value) in updated.iter_mut().zip(values) {
                row[*at] = writer.assign(value, *at)?;
            }
        }
        Ok(updated)
    }
}

pub(super) async fn plan(context: &Context<'_>, update: &Update) -> Result<Plan> {
    let table = context.table(&update.table)?;
    let mut writer = RowWriter::new(context, &table)?;
    check_params(context, update)?;
    let engine = &context.planner.engine;
    let assignments = Assignments::new(&table.record, &update.assignments, |expr| {
        engine.compile(&table.record, expr, &context.session, context.params)
    })?;
    let returning = Returning::new(context, &table.record, update.returning.as_deref())?;
    let stored = engine
        .matching_rows(
            Arc::clone(&context.read),
            Meant {
                table: &table.record,
                owner: writer.owner,
                selection: update.selection.as_ref(),
                keep: Keep::Rows,
            },
            &context.session,
            context.params,
        )
        .await?;
    let old: Vec<Vec<Value>> = stored.iter().map(|row| row.values.clone()).collect();
    let new = assignments.apply(context, &writer, &old)?;
    let row_count = stored.len() as u64;
    let returned = returning
        .map(|r| r.rows(new.iter().map(Vec::as_slice)))
        .transpose()?;
    let changes = stored
        .into_iter()
        .zip(new)
        .map(|(before, values)| RowChange::Update { before, values })
        .collect();
    let changes = writer.without_unchanged(changes)?;
    writer.write(&changes)?;
    let message = format!("Updated {row_count} row(s)");
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

fn check_params(context: &Context<'_>, update: &Update) -> types::Result<()> {
    let mut highest = update.selection.as_ref().map_or(Ok(0), params::highest)?;
    for assignment in &update.assignments {
        if let InsertValue::Expr(expr) = &assignment.value {
            highest = highest.max(params::highest(expr)?);
        }
    }
    for item in update.returning.iter().flatten() {
        highest = highest.max(params::highest(item)?);
    }
    params::check_count(highest, context.params)
}
