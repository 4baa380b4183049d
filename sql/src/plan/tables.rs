//! CREATE TABLE, DROP TABLE.

use storage::keys::catalog as keys;
use types::ids::ColumnId;
use types::limits::{COLUMNS_MAX, INDEXES_MAX};
use types::schema::{AccessLevel, Column, DefaultExpr, Index, Namespace, Role, Table};
use types::value::DataType;
use types::{Error, ErrorCode};

use super::Plan;
use super::context::{Context, failed, invalid, no_namespace, not_found, refuse_system};
use super::draft::{AuditEntry, Draft, json};
use super::edits::Edits;
use super::prepared;
use crate::answer::Answer;
use crate::catalog::Found;
use crate::failure::Result;
use crate::names::{check_new, check_new_dotted};
use crate::query::cast;
use crate::statement::{ColumnDefinition, CreateTable, DropObject, UniqueConstraint};

/// Names that payloads use beside the row's columns.
const PAYLOAD_FIELDS: [&str; 2] = ["_table", "_deleted"];

pub(super) fn create(context: &Context<'_>, create: &CreateTable) -> Result<Plan> {
    context.require(Role::Dba, "CREATE TABLE")?;
    let namespace = create.name.namespace_in(&context.session)?;
    check_new_dotted("table's name", &create.name.name)?;
    let namespace = context.writable_namespace(namespace)?;
    let qualified = format!("{}.{}", namespace.record.name, create.name.name);
    let name_key = keys::table_name(namespace.record.id, &create.name.name);
    if context.snapshot().get(&name_key)?.is_some() {
        let message = format!("Table {qualified} exists already");
        if create.if_not_exists {
            return Ok(Plan::nothing(Answer::done(message)));
        }
        return Err(failed(message).into());
    }
    let mut draft = Draft::default();
    let id = draft.next_id(context.snapshot(), keys::COUNTER_TABLE)?;
    let table = definition(context, create, id, &namespace)?;
    touch(&mut draft, namespace);
    for index in &table.indexes {
        let value = [table.id.to_be_bytes(), index.id.to_be_bytes()].concat();
        draft.put_new(keys::index_name(table.namespace_id, &index.name), value);
    }
    draft.put_new(name_key, id.to_be_bytes().to_vec());
    draft.put_new(keys::table_version(id, table.schema_version), json(&table));
    draft.put_new(keys::table(id), json(&table));
    audit(context, &mut draft, "CREATE TABLE", &qualified);
    Ok(draft.into_plan(Answer::done(format!("Table {qualified} created")))?)
}

/// Pins the namespace and gives its record a new version, which DROP NAMESPACE will notice.
pub(super) fn touch(draft: &mut Draft, namespace: Found<Namespace>) {
    draft.pin(&namespace);
    draft.put(namespace.key, json(&*namespace.record));
}

fn definition(
    context: &Context<'_>,
    create: &CreateTable,
    id: u32,
    namespace: &Found<Namespace>,
) -> Result<Table> {
    if create.columns.len() > COLUMNS_MAX {
        return Err(invalid(format!("a table has at most {COLUMNS_MAX} columns")).into());
    }
    if create.primary_key.is_empty() {
        let message = "a table needs a PRIMARY KEY: rows and messages are found by it";
        return Err(Error::new(ErrorCode::InvalidSql, message).into());
    }
    let primary_key = key_columns(&create.columns, &create.primary_key, "PRIMARY KEY")?;
    let mut columns = Vec::with_capacity(create.columns.len());
    for (definition, id) in create.columns.iter().zip(1..) {
        let column = Column {
            id,
            name: definition.name.clone(),
            data_type: definition.data_type,
            nullable: definition.nullable && !primary_key.contains(&id),
            default: definition.default.clone(),
            missing: None,
        };
        check_column(context, &column)?;
        columns.push(column);
    }
    let mut table = Table {
        id,
        namespace_id: namespace.record.id,
        namespace: namespace.record.name.clone(),
        name: create.name.name.clone(),
        kind: create.kind,
        access: create.access.unwrap_or(AccessLevel::Public),
        ttl_seconds: None,
        schema_version: 1,
        next_column_id: ColumnId::try_from(columns.len() + 1).unwrap_or(ColumnId::MAX),
        columns,
        primary_key,
        indexes: Vec::new(),
        routes: Vec::new(),
        created_at: context.session.now,
    };
    add_unique_indexes(context, &mut table, create)?;
    Ok(table)
}

pub(super) fn check_column(context: &Context<'_>, column: &Column) -> Result<()> {
    check_new("column's name", &column.name)?;
    if PAYLOAD_FIELDS.contains(&column.name.as_str()) {
        let message = format!(
            "a column cannot be called {}: messages use that name",
            column.name
        );
        return Err(invalid(message).into());
    }
    if column.data_type == DataType::File
        && !matches!(column.default, None | Some(DefaultExpr::Literal(_)))
    {
        return Err(invalid("a FILE column has no computed default").into());
    }
    // What cannot be a value of the column should fail now, not at the first INSERT.
    prepared::check_default(context, column)?;
    Ok(())
}

/// The ids of the columns named in a key.
fn key_columns(
    columns: &[ColumnDefinition],
    names: &[String],
    what: &str,
) -> types::Result<Vec<ColumnId>> {
    let wrong = |message: String| Error::new(ErrorCode::InvalidSql, message);
    let mut ids = Vec::with_capacity(names.len());
    for name in names {
        let at = columns.iter().position(|column| column.name == *name);
        let at = at.ok_or_else(|| wrong(format!("{what}: there is no column \"{name}\"")))?;
        if matches!(columns[at].data_type, DataType::Json | DataType::File) {
            let type_name = cast::name(columns[at].data_type);
            return Err(wrong(format!(
                "{what}: \"{name}\" is {type_name}, which has no order"
            )));
        }
        let id = ColumnId::try_from(at + 1).unwrap_or(ColumnId::MAX);
        if ids.contains(&id) {
            return Err(wrong(format!("{what}: \"{name}\" is given twice")));
        }
        ids.push(id);
    }
    Ok(ids)
}

fn add_unique_indexes(
    context: &Context<'_>,
    table: &mut Table,
    create: &CreateTable,
) -> Result<()> {
    for (constraint, id) in create.unique.iter().zip(1..) {
        let columns = key_columns(&create.columns, &constraint.columns, "UNIQUE")?;
        let is_covered = columns == table.primary_key
            || table.indexes.iter().any(|index| index.columns == columns);
        if is_covered && constraint.name.is_none() {
            continue;
        }
        let name = index_name(context, table, constraint)?;
        table.indexes.push(Index {
            id,
            name,
            columns,
            unique: true,
        });
    }
    if table.indexes.len() > INDEXES_MAX {
        return Err(invalid(format!("a table has at most {INDEXES_MAX} indexes")).into());
    }
    Ok(())
}

/// The name given, or as PostgreSQL makes one: `table_column_key`, with a number if that is taken.
fn index_name(
    context: &Context<'_>,
    table: &Table,
    constraint: &UniqueConstraint,
) -> Result<String> {
    let is_taken = |name: &str| -> Result<bool> {
        let key = keys::index_name(table.namespace_id, name);
        Ok(table.indexes.iter().any(|index| index.name == name)
            || context.snapshot().get(&key)?.is_some())
    };
    if let Some(name) = &constraint.name {
        check_new("constraint's name", name)?;
        if is_taken(name)? {
            return Err(failed(format!("an index called {name} exists already")).into());
        }
        return Ok(name.clone());
    }
    let base = format!("{}_{}_key", table.name, constraint.columns.join("_"));
    let mut name = base.clone();
    let mut number = 0;
    while is_taken(&name)? {
        number += 1;
        name = format!("{base}{number}");
    }
    check_new("UNIQUE constraint's name made of table and columns", &name)?;
    Ok(name)
}

pub(super) fn drop(context: &Context<'_>, drop: &DropObject) -> Result<Plan> {
    context.require(Role::Dba, "DROP TABLE")?;
    let namespace = drop.name.namespace_in(&context.session)?;
    refuse_system(namespace)?;
    let name = &drop.name.name;
    let Some(table) = context
        .catalog()
        .table(context.snapshot(), namespace, name)?
    else {
        if drop.if_exists {
            let message = format!("Table {namespace}.{name} does not exist");
            return Ok(Plan::nothing(Answer::done(message)));
        }
        return Err(
            match context.catalog().namespace(context.snapshot(), namespace)? {
                Some(_) => not_found("table", namespace, name),
                None => no_namespace(namespace),
            }
            .into(),
        );
    };
    let qualified = table.record.qualified_name();
    if !drop.cascade && !table.record.routes.is_empty() {
        let message = format!(
            "{} route(s) to topics depend on table {qualified}; CASCADE drops them too",
            table.record.routes.len()
        );
        return Err(failed(message).into());
    }
    let mut draft = Draft::default();
    let mut edits = Edits::default();
    edits.drop_table(context, table)?;
    edits.write(&mut draft);
    audit(context, &mut draft, "DROP TABLE", &qualified);
    Ok(draft.into_plan(Answer::done(format!("Table {qualified} dropped")))?)
}

fn audit(context: &Context<'_>, draft: &mut Draft, action: &str, target: &str) {
    draft.audit(
        &context.session,
        AuditEntry {
            action,
            target,
            details: "",
            subject: None,
        },
    );
}
