//! SELECT of one row by its whole primary key, without DataFusion.
//!
//! It answers what [`super::engine`] would, or leaves the query to it: anything that is not plainly
//! of the form `SELECT columns FROM t WHERE key = literal` goes the long way.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, GroupByExpr, Ident, ObjectName, Query, Select, SelectFlavor, SelectItem,
    SetExpr, TableAlias, TableFactor, TableWithJoins, Value as Literal,
};
use storage::Snapshot;
use storage::keys::rows;
use types::ids::Version;
use types::row;
use types::schema::{Column, Table};
use types::value::{DataType, Value};

use super::context::{may_read, owner};
use super::engine::QueryEngine;
use super::{cast, params, provider};
use crate::answer::{ResultColumn, Rows};
use crate::failure::Result;
use crate::names::{self, SYSTEM_NAMESPACE};
use crate::session::{Param, Session};

/// Answers the query if it is a lookup by primary key; none if it is not.
pub fn select(
    engine: &QueryEngine,
    read: &Arc<dyn Snapshot>,
    query: &Query,
    session: &Session<'_>,
    params: &[Param],
) -> Result<Option<Rows>> {
    let Some((select, name, alias)) = plain_select(query) else {
        return Ok(None);
    };
    let Some(selection) = &select.selection else {
        return Ok(None);
    };
    let Some((namespace, name)) = table_name(name, session) else {
        return Ok(None);
    };
    if namespace == SYSTEM_NAMESPACE {
        return Ok(None);
    }
    let Some(found) = engine.catalog.table(read.as_ref(), &namespace, &name)? else {
        return Ok(None);
    };
    let table = found.record;
    // A table with an alias is called by it alone.
    let called = alias.map_or_else(|| table.name.clone(), |alias| names::fold(&alias.name));
    let Some(columns) = projection(select, &table, &called) else {
        return Ok(None);
    };
    let Some(key) = key_values(&table, &called, selection, params) else {
        return Ok(None);
    };
    may_read(&table, session)?;
    let row_key = rows::row(table.id, owner(&table, session), &key);
    let rows = match read.get(&row_key)? {
        Some(stored) => vec![read_row(&table, &columns, &row_key, &stored)?],
        None => Vec::new(),
    };
    let columns = columns
        .into_iter()
        .map(|(at, name)| result_column(&table, at, name))
        .collect();
    Ok(Some(Rows { columns, rows }))
}

/// The values that `selection` says the primary key has, in its order: if it is nothing but one
/// `column = literal` for each of the key's columns, where comparing values is comparing keys.
/// `called` is what columns of the table may be qualified with.
pub fn key_values(
    table: &Table,
    called: &str,
    selection: &Expr,
    params: &[Param],
) -> Option<Vec<Value>> {
    let mut values: Vec<Option<Value>> = vec![None; table.primary_key.len()];
    let mut parts = vec![selection];
    while let Some(part) = parts.pop() {
        let (left, right) = match part {
            Expr::Nested(inner) => {
                parts.push(inner);
                continue;
            }
            Expr::BinaryOp {
                left,
                op: BinaryOperator::And,
                right,
            } => {
                parts.extend([&**left, &**right]);
                continue;
            }
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Eq,
                right,
            } => (&**left, &**right),
            _ => return None,
        };
        let (column, literal) = match (column(table, called, left), column(table, called, right)) {
            (Some(column), None) => (column, right),
            (None, Some(column)) => (column, left),
            _ => return None,
        };
        let position = table.primary_key.iter().position(|id| *id == column.id)?;
        let value = exactly(literal, column.data_type, params)?;
        if values[position].replace(value).is_some() {
            return None;
        }
    }
    values.into_iter().collect()
}

/// The query's only SELECT, its table and the table's alias; none if there is anything else in it.
fn plain_select(query: &Query) -> Option<(&Select, &ObjectName, Option<&TableAlias>)> {
    let Query {
        with: None,
        body,
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks,
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators,
    } = query
    else {
        return None;
    };
    let SetExpr::Select(select) = &**body else {
        return None;
    };
    let [TableWithJoins { relation, joins }] = select.from.as_slice() else {
        return None;
    };
    let nothing_else = locks.is_empty()
        && pipe_operators.is_empty()
        && joins.is_empty()
        && select.optimizer_hints.is_empty()
        && select.distinct.is_none()
        && select.select_modifiers.is_none()
        && select.top.is_none()
        && select.exclude.is_none()
        && select.into.is_none()
        && select.lateral_views.is_empty()
        && select.prewhere.is_none()
        && select.connect_by.is_empty()
        && is_ungrouped(&select.group_by)
        && select.cluster_by.is_empty()
        && select.distribute_by.is_empty()
        && select.sort_by.is_empty()
        && select.having.is_none()
        && select.named_window.is_empty()
        && select.qualify.is_none()
        && select.value_table_mode.is_none()
        && select.flavor == SelectFlavor::Standard;
    match relation {
        TableFactor::Table {
            name,
            alias,
            args: None,
            with_hints,
            version: None,
            with_ordinality: false,
            partitions,
            json_path: None,
            sample: None,
            index_hints,
        } if nothing_else
            && with_hints.is_empty()
            && partitions.is_empty()
            && index_hints.is_empty()
            && alias.as_ref().is_none_or(|alias| alias.columns.is_empty()) =>
        {
            Some((select, name, alias.as_ref()))
        }
        _ => None,
    }
}

fn table_name(name: &ObjectName, session: &Session<'_>) -> Option<(String, String)> {
    match name.0.as_slice() {
        [name] => Some((session.namespace?.to_owned(), names::fold(name.as_ident()?))),
        [namespace, name] => Some((
            names::fold(namespace.as_ident()?),
            names::fold(name.as_ident()?),
        )),
        _ => None,
    }
}

/// The columns to show, by position in the table, and their names; none if they are not all
/// columns, or if two have one name.
fn projection(select: &Select, table: &Table, called: &str) -> Option<Vec<(usize, String)>> {
    let mut columns: Vec<(usize, String)> = Vec::new();
    for item in &select.projection {
        let (expr, alias): (&Expr, Option<&Ident>) = match item {
            SelectItem::UnnamedExpr(expr) => (expr, None),
            SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias)),
            SelectItem::Wildcard(options)
                if options.opt_ilike.is_none()
                    && options.opt_exclude.is_none()
                    && options.opt_except.is_none()
                    && options.opt_replace.is_none()
                    && options.opt_rename.is_none()
                    && options.opt_alias.is_none()
                    && select.projection.len() == 1 =>
            {
                let all = table.columns.iter().enumerate();
                return Some(all.map(|(at, column)| (at, column.name.clone())).collect());
            }
            _ => return None,
        };
        let column = column(table, called, expr)?;
        let at = table.columns.iter().position(|c| c.id == column.id)?;
        let name = alias.map_or_else(|| column.name.clone(), names::fold);
        if columns.iter().any(|(_, other)| *other == name) {
            return None;
        }
        columns.push((at, name));
    }
    Some(columns)
}

/// The column that `expr` names; none if it is anything else.
pub fn column<'a>(table: &'a Table, called: &str, expr: &Expr) -> Option<&'a Column> {
    match expr {
        Expr::Identifier(ident) => table.column_named(&names::fold(ident)),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [qualifier, ident] if names::fold(qualifier) == called => {
                table.column_named(&names::fold(ident))
            }
            _ => None,
        },
        _ => None,
    }
}

/// A literal or parameter as a value of the column, where no conversion could change what `=`
/// means; none otherwise.
fn exactly(literal: &Expr, data_type: DataType, params: &[Param]) -> Option<Value> {
    let value = match literal {
        Expr::Value(literal) => match &literal.value {
            Literal::SingleQuotedString(text)
            | Literal::EscapedStringLiteral(text)
            | Literal::UnicodeStringLiteral(text) => Value::Text(text.clone()),
            Literal::Boolean(v) => Value::Boolean(*v),
            Literal::Number(digits, _) => Value::BigInt(digits.parse().ok()?),
            Literal::Placeholder(name) => params::value(name, params).ok()?.clone(),
            _ => return None,
        },
        _ => return None,
    };
    match (&value, data_type) {
        (Value::Text(_), DataType::Text)
        | (Value::Boolean(_), DataType::Boolean)
        | (Value::BigInt(_), DataType::BigInt) => Some(value),
        (Value::BigInt(v), DataType::SmallInt) => i16::try_from(*v).ok().map(Value::SmallInt),
        (Value::BigInt(v), DataType::Int) => i32::try_from(*v).ok().map(Value::Int),
        (
            Value::Text(text),
            DataType::Uuid
            | DataType::Boolean
            | DataType::Bytes
            | DataType::Timestamp
            | DataType::DateTime,
        ) => cast::from_text(text, data_type),
        _ => None,
    }
}

fn read_row(
    table: &Table,
    columns: &[(usize, String)],
    key: &[u8],
    stored: &[u8],
) -> storage::Result<Vec<Value>> {
    let damaged = || provider::corrupt(table, key);
    let mut wanted: Vec<(u32, usize)> = Vec::with_capacity(columns.len());
    let mut values = Vec::with_capacity(columns.len());
    for (at, (position, _)) in columns.iter().enumerate() {
        let column = &table.columns[*position];
        wanted.push((column.id, at));
        values.push(provider::missing_value(column).map_err(|_| damaged())?);
    }
    wanted.sort_unstable();
    let ids: Vec<u32> = wanted.iter().map(|(id, _)| *id).collect();
    let (_, row) = Version::split(stored).ok_or_else(damaged)?;
    let mut found = vec![None; ids.len()];
    row::decode_columns(row, &ids, |at, value| found[at] = Some(value)).map_err(|_| damaged())?;
    for ((_, at), value) in wanted.iter().zip(found) {
        if let Some(value) = value {
            values[*at] = value;
        }
    }
    Ok(values)
}

fn result_column(table: &Table, at: usize, name: String) -> ResultColumn {
    let column = &table.columns[at];
    let flags = match (table.primary_key.contains(&column.id), column.nullable) {
        (true, _) => vec!["pk", "nn"],
        (false, false) => vec!["nn"],
        (false, true) => Vec::new(),
    };
    ResultColumn {
        name,
        data_type: column.data_type,
        flags,
    }
}

fn is_ungrouped(group_by: &GroupByExpr) -> bool {
    match group_by {
        GroupByExpr::Expressions(columns, modifiers) => columns.is_empty() && modifiers.is_empty(),
        GroupByExpr::All(_) => false,
    }
}
