//! Filters on a primary key, or on all columns of an index, as ranges of keys.
//!
//! A range may hold more than the filter lets through, never less: the filter is evaluated again
//! above the scan.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use datafusion::common::{Column as ColumnRef, ScalarValue};
use datafusion::logical_expr::expr::{Between, InList};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use storage::keys::{encoding, rows};
use storage::{Direction, KeyRange, Snapshot};
use types::ids::ColumnId;
use types::schema::{Column, Index, Table};
use types::value::{DataType, Value};

use super::convert;
use crate::catalog::versioned;

/// Most ranges one scan has; what would make more is left to the filter.
const RANGES_MAX: usize = 1_000;

/// What one filter says of one column.
#[derive(Clone, Debug, PartialEq)]
struct Bound {
    /// Position in the primary key.
    key_position: usize,
    allows: Allowed,
}

#[derive(Clone, Debug, PartialEq)]
enum Allowed {
    /// One of these.
    OneOf(Vec<Value>),
    /// At least, or more than if `strict`.
    From { value: Value, strict: bool },
    /// At most, or less than if `strict`.
    To { value: Value, strict: bool },
}

/// Does a filter narrow the range of keys to read?
pub fn narrows(table: &Table, filter: &Expr) -> bool {
    let is_indexed = |id| {
        table
            .indexes
            .iter()
            .any(|index| index.columns.contains(&id))
    };
    !bounds(table, filter).is_empty() || equalities(table, filter).into_keys().any(is_indexed)
}

/// The ranges of keys that hold every row of `owner` that passes all `filters`, as
/// [`key_ranges`] has them, or by an index where that reads less.
pub fn row_ranges(
    read: &dyn Snapshot,
    table: &Table,
    owner: Option<&str>,
    filters: &[Expr],
) -> storage::Result<Vec<KeyRange>> {
    let is_by_key = filters
        .iter()
        .flat_map(|f| bounds(table, f))
        .any(|bound| bound.key_position == 0 && matches!(bound.allows, Allowed::OneOf(_)));
    if !is_by_key && let Some(found) = by_index(read, table, owner, filters)? {
        return Ok(found);
    }
    Ok(key_ranges(table, owner, filters))
}

/// The rows that an index finds, each a range of its own; none if no index has all its columns
/// given, or if it finds too many.
fn by_index(
    read: &dyn Snapshot,
    table: &Table,
    owner: Option<&str>,
    filters: &[Expr],
) -> storage::Result<Option<Vec<KeyRange>>> {
    let given: BTreeMap<ColumnId, Value> =
        filters.iter().flat_map(|f| equalities(table, f)).collect();
    let mut indexes: Vec<&Index> = table
        .indexes
        .iter()
        .filter(|index| index.columns.iter().all(|id| given.contains_key(id)))
        .collect();
    // One row, rather than some; the more columns, the fewer.
    indexes.sort_by_key(|index| (!index.unique, usize::MAX - index.columns.len()));
    let Some(index) = indexes.first() else {
        return Ok(None);
    };
    let values = index.columns.iter().filter_map(|id| given.get(id));
    let entries = rows::index_entry(table.id, index.id, index.unique, owner, values, &[]);
    let mut found = Vec::new();
    for pair in read.scan(&KeyRange::prefix(&entries), Direction::Forward) {
        let (key, stored) = pair?;
        if found.len() == RANGES_MAX {
            return Ok(None);
        }
        let (_, primary_key) = versioned(&key, &stored)?;
        let mut start = rows::owner_prefix(table.id, owner);
        start.extend_from_slice(primary_key);
        let mut end = start.clone();
        end.push(0);
        found.push(KeyRange::new(start, end));
    }
    found.sort_unstable_by(|a, b| a.start.cmp(&b.start));
    Ok(Some(found))
}

/// What a filter says that columns are equal to.
fn equalities(table: &Table, filter: &Expr) -> BTreeMap<ColumnId, Value> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else {
        return BTreeMap::new();
    };
    let (column, literal) = match (&**left, op, &**right) {
        (left, Operator::And, right) => {
            let mut both = equalities(table, left);
            both.extend(equalities(table, right));
            return both;
        }
        (Expr::Column(column), Operator::Eq, Expr::Literal(literal, _))
        | (Expr::Literal(literal, _), Operator::Eq, Expr::Column(column)) => (column, literal),
        _ => return BTreeMap::new(),
    };
    let equality = table.column_named(&column.name).and_then(|column| {
        let value = key_value(column, literal)?;
        Some((column.id, value))
    });
    equality.into_iter().collect()
}

/// The ranges of keys that hold every row of `owner` that passes all `filters`; ascending and
/// disjoint. None at all: no row passes.
fn key_ranges(table: &Table, owner: Option<&str>, filters: &[Expr]) -> Vec<KeyRange> {
    let bounds: Vec<Bound> = filters.iter().flat_map(|f| bounds(table, f)).collect();
    let mut prefixes = vec![rows::owner_prefix(table.id, owner)];
    for position in 0..table.primary_key.len() {
        let here = || bounds.iter().filter(move |b| b.key_position == position);
        let sets = here().filter_map(|b| match &b.allows {
            Allowed::OneOf(values) => Some(values),
            Allowed::From { .. } | Allowed::To { .. } => None,
        });
        match sets.min_by_key(|values| values.len()) {
            Some(values) if prefixes.len().saturating_mul(values.len()) <= RANGES_MAX => {
                prefixes = extend(&prefixes, values);
            }
            _ => {
                let limits: Vec<&Allowed> = here().map(|b| &b.allows).collect();
                return prefixes.iter().filter_map(|p| range(p, &limits)).collect();
            }
        }
    }
    prefixes
        .iter()
        .map(|prefix| KeyRange::prefix(prefix))
        .collect()
}

/// Each prefix followed by each value, in order and without repetitions.
fn extend(prefixes: &[Vec<u8>], values: &[Value]) -> Vec<Vec<u8>> {
    let mut extended: Vec<Vec<u8>> = prefixes
        .iter()
        .flat_map(|prefix| values.iter().map(|value| with_value(prefix, value)))
        .collect();
    extended.sort_unstable();
    extended.dedup();
    extended
}

fn with_value(prefix: &[u8], value: &Value) -> Vec<u8> {
    let mut key = prefix.to_vec();
    encoding::put_value(&mut key, value);
    key
}

/// The keys under `prefix` whose next value keeps to `limits`; none if that is none.
fn range(prefix: &[u8], limits: &[&Allowed]) -> Option<KeyRange> {
    let mut range = KeyRange::prefix(prefix);
    for limit in limits {
        match limit {
            Allowed::OneOf(_) => {}
            Allowed::From { value, strict } => {
                let at = KeyRange::prefix(&with_value(prefix, value));
                let start = if *strict { at.end? } else { at.start };
                range.start = range.start.max(start);
            }
            Allowed::To { value, strict } => {
                let at = KeyRange::prefix(&with_value(prefix, value));
                let end = if *strict { Some(at.start) } else { at.end };
                range.end = match (range.end, end) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
        }
    }
    let some = range
        .end
        .as_ref()
        .is_none_or(|end| range.start.cmp(end) == Ordering::Less);
    some.then_some(range)
}

/// What a filter says of the primary key's columns; nothing for a filter of another form.
fn bounds(table: &Table, filter: &Expr) -> Vec<Bound> {
    match filter {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::And,
            right,
        }) => {
            let mut both = bounds(table, left);
            both.extend(bounds(table, right));
            both
        }
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Or,
            right,
        }) => either(bounds(table, left), bounds(table, right))
            .into_iter()
            .collect(),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (&**left, &**right) {
            (Expr::Column(column), Expr::Literal(literal, _)) => {
                comparison(table, column, *op, literal)
                    .into_iter()
                    .collect()
            }
            (Expr::Literal(literal, _), Expr::Column(column)) => op
                .swap()
                .and_then(|op| comparison(table, column, op, literal))
                .into_iter()
                .collect(),
            _ => Vec::new(),
        },
        Expr::InList(InList {
            expr,
            list,
            negated: false,
        }) => match &**expr {
            Expr::Column(column) => one_of(table, column, list).into_iter().collect(),
            _ => Vec::new(),
        },
        Expr::Between(Between {
            expr,
            negated: false,
            low,
            high,
        }) => match (&**expr, &**low, &**high) {
            (Expr::Column(column), Expr::Literal(low, _), Expr::Literal(high, _)) => [
                comparison(table, column, Operator::GtEq, low),
                comparison(table, column, Operator::LtEq, high),
            ]
            .into_iter()
            .flatten()
            .collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// `a = 1 OR a = 2` is one of both. Anything else on either side allows more than bounds say.
fn either(left: Vec<Bound>, right: Vec<Bound>) -> Option<Bound> {
    let (left, right) = (only(left)?, only(right)?);
    match (left.allows, right.allows) {
        (Allowed::OneOf(mut values), Allowed::OneOf(more))
            if left.key_position == right.key_position =>
        {
            values.extend(more);
            Some(Bound {
                key_position: left.key_position,
                allows: Allowed::OneOf(values),
            })
        }
        _ => None,
    }
}

fn only(mut bounds: Vec<Bound>) -> Option<Bound> {
    let bound = bounds.pop()?;
    bounds.is_empty().then_some(bound)
}

fn comparison(
    table: &Table,
    column: &ColumnRef,
    op: Operator,
    literal: &ScalarValue,
) -> Option<Bound> {
    let (key_position, column) = key_column(table, column)?;
    let value = key_value(column, literal)?;
    let allows = match op {
        Operator::Eq => Allowed::OneOf(vec![value]),
        Operator::Gt => Allowed::From {
            value,
            strict: true,
        },
        Operator::GtEq => Allowed::From {
            value,
            strict: false,
        },
        Operator::Lt => Allowed::To {
            value,
            strict: true,
        },
        Operator::LtEq => Allowed::To {
            value,
            strict: false,
        },
        _ => return None,
    };
    Some(Bound {
        key_position,
        allows,
    })
}

fn one_of(table: &Table, column: &ColumnRef, list: &[Expr]) -> Option<Bound> {
    let (key_position, column) = key_column(table, column)?;
    let values: Option<Vec<Value>> = list
        .iter()
        .map(|item| match item {
            Expr::Literal(literal, _) => key_value(column, literal),
            _ => None,
        })
        .collect();
    Some(Bound {
        key_position,
        allows: Allowed::OneOf(values?),
    })
}

fn key_column<'a>(table: &'a Table, column: &ColumnRef) -> Option<(usize, &'a Column)> {
    table
        .primary_key
        .iter()
        .enumerate()
        .find_map(|(position, id)| {
            let key_column = table.column(*id)?;
            (key_column.name == column.name).then_some((position, key_column))
        })
}

/// The literal as a value of the column. Only where comparing such values in SQL is comparing
/// their keys: not for floats (-0 and NaN), nor for JSON and files.
fn key_value(column: &Column, literal: &ScalarValue) -> Option<Value> {
    match column.data_type {
        DataType::Float | DataType::Double | DataType::Json | DataType::File => return None,
        _ => {}
    }
    if literal.is_null() {
        return None;
    }
    let text_for_text = matches!(
        (literal, column.data_type),
        (
            ScalarValue::Utf8(_) | ScalarValue::LargeUtf8(_) | ScalarValue::Utf8View(_),
            DataType::Text | DataType::Uuid
        )
    );
    if !text_for_text && literal.data_type() != convert::arrow_type(column.data_type) {
        return None;
    }
    let value = convert::to_values(&literal.to_array().ok()?, column.data_type)
        .ok()?
        .pop()?;
    if column.data_type == DataType::Uuid {
        // As text, so a spelling other than the canonical one equals no UUID and orders elsewhere.
        let spelt = literal.try_as_str().flatten()?;
        return (types::cell::to_text(&value) == spelt).then_some(value);
    }
    Some(value)
}
