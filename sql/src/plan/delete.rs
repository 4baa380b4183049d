//! DELETE.

use std::sync::Arc;

use types::schema::{RowOp, Table};

use super::Plan;
use super::context::Context;
use super::returning::Returning;
use super::rows::{RowChange, RowWriter};
use crate::answer::Answer;
use crate::failure::Result;
use crate::query::{Keep, Meant, params};
use crate::statement::Delete;

pub(super) async fn plan(context: &Context<'_>, delete: &Delete) -> Result<Plan> {
    let table = context.table(&delete.table)?;
    let mut writer = RowWriter::new(context, &table)?;
    check_params(context, delete)?;
    let returning = Returning::new(context, &table.record, delete.returning.as_deref())?;
    let stored = context
        .planner
        .engine
        .matching_rows(
            Arc::clone(&context.read),
            Meant {
                table: &table.record,
                owner: writer.owner,
                selection: delete.selection.as_ref(),
                keep: needed(&table.record, returning.as_ref()),
            },
            &context.session,
            context.params,
        )
        .await?;
    let row_count = stored.len() as u64;
    let values = stored.iter().map(|row| row.values.as_slice());
    let returned = returning.map(|r| r.rows(values)).transpose()?;
    let changes: Vec<RowChange> = stored
        .into_iter()
        .map(|before| RowChange::Delete { before })
        .collect();
    writer.write(&changes)?;
    let message = format!("Deleted {row_count} row(s)");
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

/// Index entries, messages and RETURNING are made of a row's values; otherwise its key is enough.
fn needed(table: &Table, returning: Option<&Returning>) -> Keep {
    let is_told = table.routes.iter().any(|route| route.op == RowOp::Delete);
    match is_told || !table.indexes.is_empty() || returning.is_some() {
        true => Keep::Rows,
        false => Keep::Keys,
    }
}

fn check_params(context: &Context<'_>, delete: &Delete) -> types::Result<()> {
    let mut highest = delete.selection.as_ref().map_or(Ok(0), params::highest)?;
    for item in delete.returning.iter().flatten() {
        highest = highest.max(params::highest(item)?);
    }
    params::check_count(highest, context.params)
}
