//! SHOW NAMESPACES, SHOW TABLES, DESCRIBE, USE: answers out of the catalog alone.

use types::cell::to_text;
use types::schema::Table;
use types::value::{DataType, Value};
use types::{Error, ErrorCode};

use super::context::{Context, no_namespace, not_found};
use crate::answer::{Answer, ResultColumn, Rows};
use crate::failure::Result;
use crate::names::{QualifiedName, SYSTEM_NAMESPACE};
use crate::query::{cast, default_text, table_columns, table_names};
use crate::statement::Statement;

pub(super) fn answer(context: &Context<'_>, statement: &Statement) -> Result<Answer> {
    match statement {
        Statement::ShowNamespaces => namespaces(context),
        Statement::ShowTables { namespace } => tables(context, namespace.as_deref()),
        Statement::Describe(name) => describe(context, name),
        Statement::Use(namespace) => use_namespace(context, namespace),
        other => {
            let message = format!("{} is not answered from the catalog", other.kind());
            Err(Error::new(ErrorCode::InternalError, message).into())
        }
    }
}

fn namespaces(context: &Context<'_>) -> Result<Answer> {
    let namespaces = context.catalog().all_namespaces(context.snapshot())?;
    let mut rows: Vec<Vec<Value>> = namespaces
        .iter()
        .map(|found| {
            vec![
                text(&found.record.name),
                Value::Timestamp(found.record.created_at),
            ]
        })
        .collect();
    // It is there without having been created.
    rows.push(vec![text(SYSTEM_NAMESPACE), Value::Null]);
    rows.sort_by_key(|row| to_text(&row[0]));
    Ok(Answer::Rows(Rows {
        columns: vec![
            ResultColumn::new("name", DataType::Text),
            ResultColumn::new("created_at", DataType::Timestamp),
        ],
        rows,
    }))
}

fn tables(context: &Context<'_>, namespace: Option<&str>) -> Result<Answer> {
    let Some(name) = namespace.or(context.session.namespace) else {
        let message = "SHOW TABLES needs a namespace: SHOW TABLES IN name, or USE name before it";
        return Err(Error::new(ErrorCode::InvalidSql, message).into());
    };
    let rows = match name {
        SYSTEM_NAMESPACE => system_tables(),
        _ => tables_in(context, name)?,
    };
    Ok(Answer::Rows(Rows {
        columns: vec![
            ResultColumn::new("namespace_id", DataType::Text),
            ResultColumn::new("table_name", DataType::Text),
            ResultColumn::new("table_type", DataType::Text),
            ResultColumn::new("created_at", DataType::Timestamp),
        ],
        rows,
    }))
}

fn tables_in(context: &Context<'_>, name: &str) -> Result<Vec<Vec<Value>>> {
    let namespace = context.catalog().namespace(context.snapshot(), name)?;
    let namespace = namespace.ok_or_else(|| no_namespace(name))?;
    let tables = context
        .catalog()
        .tables_in(context.snapshot(), namespace.record.id)?;
    let rows = tables.iter().map(|found| {
        let table = &found.record;
        vec![
            text(&table.namespace),
            text(&table.name),
            text(table.kind.as_str()),
            Value::Timestamp(table.created_at),
        ]
    });
    Ok(rows.collect())
}

fn system_tables() -> Vec<Vec<Value>> {
    let row = |name| {
        vec![
            text(SYSTEM_NAMESPACE),
            text(name),
            text("SYSTEM"),
            Value::Null,
        ]
    };
    table_names().map(row).collect()
}

fn describe(context: &Context<'_>, name: &QualifiedName) -> Result<Answer> {
    let rows = match name.namespace_in(&context.session)? {
        SYSTEM_NAMESPACE => system_columns(context, &name.name)?,
        _ => {
            let table = context.table(name)?;
            crate::query::may_read(&table.record, &context.session)?;
            columns(&table.record)
        }
    };
    Ok(Answer::Rows(Rows {
        columns: vec![
            ResultColumn::new("column_name", DataType::Text),
            ResultColumn::new("data_type", DataType::Text),
            ResultColumn::new("is_nullable", DataType::Boolean),
            ResultColumn::new("is_primary_key", DataType::Boolean),
            ResultColumn::new("column_default", DataType::Text),
        ],
        rows,
    }))
}

fn system_columns(context: &Context<'_>, name: &str) -> Result<Vec<Vec<Value>>> {
    let columns = table_columns(name, &context.session)?;
    let columns = columns.ok_or_else(|| not_found("table", SYSTEM_NAMESPACE, name))?;
    let rows = columns.iter().map(|(name, data_type)| {
        vec![
            text(name),
            text(&cast::name(*data_type)),
            Value::Boolean(true),
            Value::Boolean(false),
            Value::Null,
        ]
    });
    Ok(rows.collect())
}

fn columns(table: &Table) -> Vec<Vec<Value>> {
    let columns = table.columns.iter().map(|column| {
        let default = column
            .default
            .as_ref()
            .map_or(Value::Null, |d| text(default_text(d)));
        vec![
            text(&column.name),
            text(&cast::name(column.data_type)),
            Value::Boolean(column.nullable),
            Value::Boolean(table.primary_key.contains(&column.id)),
            default,
        ]
    });
    columns.collect()
}

fn use_namespace(context: &Context<'_>, name: &str) -> Result<Answer> {
    let exists = name == SYSTEM_NAMESPACE
        || context
            .catalog()
            .namespace(context.snapshot(), name)?
            .is_some();
    if !exists {
        return Err(no_namespace(name).into());
    }
    Ok(Answer::done(format!("Using namespace {name}")))
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}
