//! CREATE INDEX, DROP INDEX.

use std::collections::BTreeSet;

use storage::keys::{Kind, catalog as keys, rows as row_keys};
use types::ids::{ColumnId, IndexId, TableId};
use types::limits::INDEXES_MAX;
use types::schema::{Index, Role, Table};
use types::value::{DataType, Value};
use types::{Error, ErrorCode};

use super::context::{Context, failed, invalid, no_namespace, refuse_system};
use super::draft::{AuditEntry, Draft, json};
use super::rows::{check_key, unique_violation};
use super::{Plan, whole};
use crate::answer::Answer;
use crate::catalog::versioned;
use crate::failure::Result;
use crate::names::check_new;
use crate::query::{StoredRow, cast};
use crate::statement::{CreateIndex, DropObject};

pub(super) fn create(context: &Context<'_>, create: &CreateIndex) -> Result<Plan> {
    context.require(Role::Dba, "CREATE INDEX")?;
    check_new("index's name", &create.name)?;
    let found = context.table(&create.table)?;
    let name_key = keys::index_name(found.record.namespace_id, &create.name);
    if context.snapshot().get(&name_key)?.is_some() {
        let message = format!("Index {} exists already", create.name);
        if create.if_not_exists {
            return Ok(Plan::nothing(Answer::done(message)));
        }
        return Err(failed(message).into());
    }
    if found.record.indexes.len() >= INDEXES_MAX {
        return Err(invalid(format!("a table has at most {INDEXES_MAX} indexes")).into());
    }
    let mut table = Table::clone(&found.record);
    let index = Index {
        id: table.indexes.iter().map(|i| i.id).max().unwrap_or(0) + 1,
        name: create.name.clone(),
        columns: columns(&table, &create.columns)?,
        unique: create.unique,
    };
    let mut draft = Draft::default();
    draft.pin(&found);
    let rows = whole::rows(context, &mut draft, &table, "CREATE INDEX")?;
    build(&mut draft, &table, &index, &rows)?;
    let value = [table.id.to_be_bytes(), index.id.to_be_bytes()].concat();
    draft.put_new(name_key, value);
    table.indexes.push(index);
    draft.put(found.key, json(&table));
    let details = format!("on {}", table.qualified_name());
    audit(
        context,
        &mut draft,
        ("CREATE INDEX", &details),
        &create.name,
    );
    let answer = Answer::done(format!("Index {} created", create.name));
    draft
        .into_plan(answer)
        .map_err(|error| too_large(error, rows.len()).into())
}

/// Puts an entry for each row.
fn build(draft: &mut Draft, table: &Table, index: &Index, rows: &[StoredRow]) -> Result<()> {
    let positions: Vec<usize> = index
        .columns
        .iter()
        .filter_map(|id| table.columns.iter().position(|column| column.id == *id))
        .collect();
    let mut taken = BTreeSet::new();
    for row in rows {
        let values = || positions.iter().map(|at| &row.values[*at]);
        let damaged = |_| crate::query::corrupt(table, &row.key);
        let (_, owner, primary_key) = row_keys::split_row(&row.key).map_err(damaged)?;
        let key = row_keys::index_entry(
            table.id,
            index.id,
            index.unique,
            owner.as_deref(),
            values(),
            primary_key,
        );
        check_key(&key)?;
        let must_differ = index.unique && !values().any(Value::is_null);
        if must_differ && !taken.insert(key.clone()) {
            return Err(unique_violation(table, &positions, &row.values).into());
        }
        draft.put(key, primary_key.to_vec());
    }
    Ok(())
}

/// The ids of the columns named.
fn columns(table: &Table, names: &[String]) -> types::Result<Vec<ColumnId>> {
    let wrong = |message: String| Error::new(ErrorCode::InvalidSql, message);
    let mut ids = Vec::with_capacity(names.len());
    for name in names {
        let column = table.column_named(name).ok_or_else(|| {
            wrong(format!(
                "table {} has no column \"{name}\"",
                table.qualified_name()
            ))
        })?;
        if matches!(column.data_type, DataType::Json | DataType::File) {
            let type_name = cast::name(column.data_type);
            return Err(wrong(format!(
                "\"{name}\" is {type_name}, which has no order"
            )));
        }
        if ids.contains(&column.id) {
            return Err(wrong(format!("\"{name}\" is given twice")));
        }
        ids.push(column.id);
    }
    Ok(ids)
}

fn too_large(error: Error, rows: usize) -> Error {
    if error.code != ErrorCode::ValueTooLarge {
        return error;
    }
    let message = format!(
        "the index of {rows} rows is larger than a transaction may be, and it is built in one: \
         create it while the table is smaller"
    );
    Error::new(ErrorCode::ValueTooLarge, message)
}

pub(super) fn drop(context: &Context<'_>, drop: &DropObject) -> Result<Plan> {
    context.require(Role::Dba, "DROP INDEX")?;
    let namespace = drop.name.namespace_in(&context.session)?;
    refuse_system(namespace)?;
    let name = &drop.name.name;
    let Some(found) = context.catalog().namespace(context.snapshot(), namespace)? else {
        return Err(no_namespace(namespace).into());
    };
    let name_key = keys::index_name(found.record.id, name);
    let Some(stored) = context.snapshot().get(&name_key)? else {
        let message = format!("Index {namespace}.{name} does not exist");
        if drop.if_exists {
            return Ok(Plan::nothing(Answer::done(message)));
        }
        return Err(failed(message).into());
    };
    let (table, id) = place(&name_key, &stored)?;
    let missing = || storage::Error::Corrupt {
        what: format!("index {namespace}.{name} names no table"),
    };
    let found = context
        .catalog()
        .table_by_id(context.snapshot(), table)?
        .ok_or_else(missing)?;
    let mut table = Table::clone(&found.record);
    let at = table.indexes.iter().position(|index| index.id == id);
    let index = table.indexes.remove(at.ok_or_else(missing)?);
    let mut draft = Draft::default();
    draft.pin(&found);
    draft.put(found.key, json(&table));
    remove(&mut draft, &table, &index);
    let details = format!("on {}", table.qualified_name());
    audit(context, &mut draft, ("DROP INDEX", &details), name);
    Ok(draft.into_plan(Answer::done(format!("Index {name} dropped")))?)
}

/// The index's name and entries go.
pub(super) fn remove(draft: &mut Draft, table: &Table, index: &Index) {
    draft.delete(keys::index_name(table.namespace_id, &index.name));
    let kind = match index.unique {
        true => Kind::UniqueIndex,
        false => Kind::Index,
    };
    draft.delete_prefix(&row_keys::index_prefix(kind, table.id, index.id));
}

/// What an index's name stands for.
fn place(key: &[u8], stored: &[u8]) -> storage::Result<(TableId, IndexId)> {
    let (_, ids) = versioned(key, stored)?;
    match (ids.first_chunk::<4>(), ids.last_chunk::<4>()) {
        (Some(table), Some(index)) if ids.len() == 8 => {
            Ok((u32::from_be_bytes(*table), u32::from_be_bytes(*index)))
        }
        _ => Err(storage::Error::Corrupt {
            what: "the name of an index stands for none".to_owned(),
        }),
    }
}

fn audit(context: &Context<'_>, draft: &mut Draft, (action, details): (&str, &str), target: &str) {
    draft.audit(
        &context.session,
        AuditEntry {
            action,
            target,
            details,
            subject: None,
        },
    );
}
