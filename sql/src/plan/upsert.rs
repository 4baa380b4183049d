//! ON CONFLICT: what an INSERT does with a row that is there already.

use std::collections::BTreeSet;

use storage::keys::rows as keys;
use types::command::Expectation;
use types::value::Value;
use types::{Error, ErrorCode};

use super::context::{Context, failed};
use super::insert::column_position;
use super::rows::{RowChange, RowWriter};
use super::update::Assignments;
use crate::catalog::versioned;
use crate::failure::Result;
use crate::query::{CompiledExpr, StoredRow, params};
use crate::statement::{ConflictAction, InsertValue, OnConflict};

/// ON CONFLICT, looked up and compiled.
pub(super) struct Upsert {
    /// Which key decides: the primary key (`None`) or an index. No target: any of them.
    target: Option<Option<usize>>,
    update: Option<Update>,
}

/// DO UPDATE. Its expressions see the stored row's values followed by the new ones.
struct Update {
    assignments: Assignments,
    selection: Option<CompiledExpr>,
}

/// A row that stands in the way.
struct Conflict {
    /// The primary key (`None`) or an index.
    index: Option<usize>,
    /// The key both have.
    key: Vec<u8>,
}

impl Upsert {
    pub fn new(
        context: &Context<'_>,
        writer: &RowWriter<'_>,
        on_conflict: &OnConflict,
    ) -> Result<Upsert> {
        let names = on_conflict.target.as_deref();
        let target = names.map(|names| target(writer, names)).transpose()?;
        let update = match &on_conflict.action {
            ConflictAction::Nothing => None,
            ConflictAction::Update {
                assignments,
                selection,
            } => {
                let table = &writer.prepared.table;
                let compile = |expr: &_| {
                    let engine = &context.planner.engine;
                    engine.compile_upsert(table, expr, &context.session, context.params)
                };
                let selection = selection.as_ref().map(compile).transpose()?;
                if let Some(condition) = &selection {
                    condition.check_condition("WHERE")?;
                }
                let assignments = Assignments::new(table, assignments, compile)?;
                Some(Update {
                    assignments,
                    selection,
                })
            }
        };
        Ok(Upsert { target, update })
    }
}

/// The key over exactly these columns.
fn target(writer: &RowWriter<'_>, names: &[String]) -> types::Result<Option<usize>> {
    let table = &writer.prepared.table;
    let wanted: types::Result<BTreeSet<usize>> = names
        .iter()
        .map(|name| column_position(table, name))
        .collect();
    let wanted = wanted?;
    let is_wanted = |columns: &[usize]| columns.iter().copied().collect::<BTreeSet<_>>() == wanted;
    if is_wanted(writer.key_columns(None)) {
        return Ok(None);
    }
    let mut unique = (0..table.indexes.len()).filter(|at| table.indexes[*at].unique);
    unique
        .find(|at| is_wanted(writer.key_columns(Some(*at))))
        .map(Some)
        .ok_or_else(|| {
            let message = format!(
                "ON CONFLICT ({}): there is no PRIMARY KEY or UNIQUE over just these columns",
                names.join(", ")
            );
            Error::new(ErrorCode::InvalidSql, message)
        })
}

/// What becomes of each row to insert, in order: rows that are skipped are left out.
pub(super) fn resolve(
    context: &Context<'_>,
    writer: &mut RowWriter<'_>,
    upsert: &Upsert,
    rows: Vec<Vec<Value>>,
) -> Result<Vec<RowChange>> {
    let mut changes = Vec::with_capacity(rows.len());
    // Keys that rows of this statement have taken, and rows that it updates.
    let mut taken = BTreeSet::new();
    for values in rows {
        let own_keys = candidate_keys(writer, upsert, &values)?;
        let mut conflict = None;
        for (index, key) in &own_keys {
            let in_statement = taken.contains(key);
            if in_statement || context.snapshot().get(key)?.is_some() {
                conflict = Some((
                    Conflict {
                        index: *index,
                        key: key.clone(),
                    },
                    in_statement,
                ));
                break;
            }
        }
        let Some((conflict, in_statement)) = conflict else {
            taken.extend(own_keys.into_iter().map(|(_, key)| key));
            changes.push(RowChange::Insert { values });
            continue;
        };
        match &upsert.update {
            None if in_statement => {}
            // The row is skipped because of what was read: it must still be there.
            None => writer.draft.expect([Expectation::exists(conflict.key)]),
            Some(_) if in_statement => return Err(twice().into()),
            Some(update) => {
                let before = stored(context, writer, &conflict)?;
                if !taken.insert(before.key.clone()) {
                    return Err(twice().into());
                }
                taken.insert(conflict.key);
                changes.extend(updated(context, writer, update, before, values)?);
            }
        }
    }
    Ok(changes)
}

/// The keys of a row that decide about a conflict: the target's, or all.
fn candidate_keys(
    writer: &RowWriter<'_>,
    upsert: &Upsert,
    values: &[Value],
) -> types::Result<Vec<(Option<usize>, Vec<u8>)>> {
    let key = writer.key(values)?;
    let unique = writer.unique_keys(values, &key)?;
    let all = std::iter::once((None, key))
        .chain(unique.into_iter().map(|(index, key)| (Some(index), key)));
    Ok(all
        .filter(|(index, _)| upsert.target.is_none_or(|target| target == *index))
        .collect())
}

/// The row that stands in the way.
fn stored(context: &Context<'_>, writer: &RowWriter<'_>, conflict: &Conflict) -> Result<StoredRow> {
    let table = &writer.prepared.table;
    let missing = || storage::Error::Corrupt {
        what: format!("an index of {} points at no row", table.qualified_name()),
    };
    let bytes = context.snapshot().get(&conflict.key)?.ok_or_else(missing)?;
    let Some(_) = conflict.index else {
        return Ok(StoredRow::decode(table, conflict.key.clone(), &bytes)?);
    };
    let (_, primary_key) = versioned(&conflict.key, &bytes)?;
    let mut key = keys::owner_prefix(table.id, writer.owner);
    key.extend_from_slice(primary_key);
    let bytes = context.snapshot().get(&key)?.ok_or_else(missing)?;
    Ok(StoredRow::decode(table, key, &bytes)?)
}

/// The update of a stored row by one that was to be inserted; none if its WHERE says so.
fn updated(
    context: &Context<'_>,
    writer: &RowWriter<'_>,
    update: &Update,
    before: StoredRow,
    excluded: Vec<Value>,
) -> Result<Option<RowChange>> {
    let mut both = before.values.clone();
    both.extend(excluded);
    if let Some(condition) = &update.selection
        && !condition.matches(&both)?
    {
        return Ok(None);
    }
    let mut rows = update.assignments.apply(context, writer, &[both])?;
    let mut values = rows.pop().unwrap_or_default();
    values.truncate(before.values.len());
    Ok(Some(RowChange::Update { before, values }))
}

fn twice() -> Error {
    failed("ON CONFLICT DO UPDATE would change a row a second time in one statement")
}

/// The highest parameter in the clause.
pub(super) fn highest_param(on_conflict: &OnConflict) -> types::Result<usize> {
    let ConflictAction::Update {
        assignments,
        selection,
    } = &on_conflict.action
    else {
        return Ok(0);
    };
    let mut highest = selection.as_ref().map_or(Ok(0), params::highest)?;
    for assignment in assignments {
        if let InsertValue::Expr(expr) = &assignment.value {
            highest = highest.max(params::highest(expr)?);
        }
    }
    Ok(highest)
}
