//! The rows an UPDATE or DELETE means.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use storage::keys::rows;
use storage::{Direction, KeyRange, Snapshot};
use types::ids::{ColumnId, Version};
use types::limits::{ROWS_PER_STATEMENT_MAX, ROWS_PER_STATEMENT_MAX_BYTES};
use types::schema::Table;
use types::value::Value;
use types::{Error, ErrorCode, row};

use super::engine::QueryEngine;
use super::eval::{CompiledExpr, Scope};
use super::failure::{Phase, refusal};
use super::{lookup, provider, ranges};
use crate::failure::Result;
use crate::session::{Param, Session};

/// Rows read before the condition is evaluated for them together.
const CHUNK_ROWS: usize = 1_024;
/// Stored bytes after which a chunk is closed.
const CHUNK_BYTES: usize = 4 << 20;

/// What is needed of the rows that a condition means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All of them.
    Rows,
    /// Their keys and versions: `row` and `values` are empty.
    Keys,
}

/// Which rows a statement means.
#[derive(Clone, Copy)]
pub struct Meant<'a> {
    /// Of which table.
    pub table: &'a Table,
    /// Whose.
    pub owner: Option<&'a str>,
    /// Its WHERE; none: all.
    pub selection: Option<&'a ast::Expr>,
    /// What is needed of them.
    pub keep: Keep,
}

/// A row as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRow {
    /// Its key.
    pub key: Vec<u8>,
    /// When it was written.
    pub version: Version,
    /// Its bytes, without the version.
    pub row: Vec<u8>,
    /// Its values, in the order of the table's columns.
    pub values: Vec<Value>,
}

impl StoredRow {
    /// A row out of its key and stored value.
    ///
    /// # Errors
    /// If the bytes are not a row.
    pub fn decode(table: &Table, key: Vec<u8>, stored: &[u8]) -> storage::Result<StoredRow> {
        Decoder::new(table)?.decode(key, stored)
    }
}

/// Decodes rows of one table, all columns of them.
struct Decoder<'a> {
    table: &'a Table,
    ids: Vec<ColumnId>,
    /// Where in the row each of `ids` stands.
    positions: Vec<usize>,
    missing: Vec<Value>,
}

impl<'a> Decoder<'a> {
    fn new(table: &'a Table) -> storage::Result<Decoder<'a>> {
        let mut columns: Vec<(ColumnId, usize)> = table
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| (column.id, at))
            .collect();
        columns.sort_unstable();
        let missing: Result<Vec<Value>, _> =
            table.columns.iter().map(provider::missing_value).collect();
        Ok(Decoder {
            table,
            ids: columns.iter().map(|(id, _)| *id).collect(),
            positions: columns.iter().map(|(_, at)| *at).collect(),
            missing: missing.map_err(|e| storage::Error::Corrupt {
                what: format!("definition of {}: {e}", table.qualified_name()),
            })?,
        })
    }

    fn decode(&self, key: Vec<u8>, stored: &[u8]) -> storage::Result<StoredRow> {
        let damaged = || provider::corrupt(self.table, &key);
        let (version, row) = Version::split(stored).ok_or_else(damaged)?;
        let mut values = self.missing.clone();
        row::decode_columns(row, &self.ids, |at, value| {
            values[self.positions[at]] = value;
        })
        .map_err(|_| damaged())?;
        Ok(StoredRow {
            version,
            row: row.to_vec(),
            values,
            key,
        })
    }
}

impl QueryEngine {
    /// The rows that a statement means, in key order.
    ///
    /// # Errors
    /// `VALUE_TOO_LARGE` beyond [`ROWS_PER_STATEMENT_MAX`] rows or
    /// [`ROWS_PER_STATEMENT_MAX_BYTES`]; otherwise as [`QueryEngine::compile`] and
    /// [`CompiledExpr::eval`].
    pub async fn matching_rows(
        &self,
        read: Arc<dyn Snapshot>,
        meant: Meant<'_>,
        session: &Session<'_>,
        params: &[Param],
    ) -> Result<Vec<StoredRow>> {
        let Meant {
            table,
            owner,
            selection,
            keep,
        } = meant;
        let decoder = Decoder::new(table)?;
        let Some(selection) = selection else {
            let all = vec![KeyRange::prefix(&rows::owner_prefix(table.id, owner))];
            return filtered(&read, &decoder, all, None, keep).await;
        };
        if let Some(key) = lookup::key_values(table, &table.name, selection, params) {
            let key = rows::row(table.id, owner, &key);
            return Ok(match read.get(&key)? {
                Some(stored) => vec![decoder.decode(key, &stored)?],
                None => Vec::new(),
            });
        }
        if has_subquery(selection) {
            return self
                .by_query(read, &decoder, (meant, selection), session, params)
                .await;
        }
        let scope = Scope::table(table)?;
        let logical = self.logical(&scope, selection, session, params)?;
        let condition = self
            .physical(&scope, &logical.expr)
            .map_err(|error| refusal(error, Phase::Planning))?;
        condition.check_condition("WHERE")?;
        let filters = split_conjunction_owned(logical.expr);
        let ranges = ranges::row_ranges(&*read, table, owner, &filters)?;
        filtered(&read, &decoder, ranges, Some(&condition), keep).await
    }

    /// With a subquery in the condition: SELECT finds the primary keys.
    async fn by_query(
        &self,
        read: Arc<dyn Snapshot>,
        decoder: &Decoder<'_>,
        (meant, selection): (Meant<'_>, &ast::Expr),
        session: &Session<'_>,
        params: &[Param],
    ) -> Result<Vec<StoredRow>> {
        let query = rows_query(decoder.table, Some(selection))?;
        let keys = self
            .query(Arc::clone(&read), &query, session, params)
            .await?;
        let mut found = Found::new(meant.keep);
        for key in keys.rows {
            let key = rows::row(decoder.table.id, meant.owner, &key);
            let stored = read
                .get(&key)?
                .ok_or_else(|| provider::corrupt(decoder.table, &key))?;
            found.add(decoder.decode(key, &stored)?)?;
        }
        found.rows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(found.rows)
    }
}

/// All rows of a table, whoever owns them, in key order.
///
/// # Errors
/// As [`QueryEngine::matching_rows`], for too many.
pub fn every_row(read: &dyn Snapshot, table: &Table) -> Result<Vec<StoredRow>> {
    let decoder = Decoder::new(table)?;
    let range = KeyRange::prefix(&rows::table_prefix(table.id));
    let mut found = Found::new(Keep::Rows);
    for pair in read.scan(&range, Direction::Forward) {
        let (key, stored) = pair?;
        found.add(decoder.decode(key, &stored)?)?;
    }
    Ok(found.rows)
}

/// Rows as they are found, within the bounds of a statement.
struct Found {
    rows: Vec<StoredRow>,
    keep: Keep,
    bytes: usize,
}

impl Found {
    fn new(keep: Keep) -> Found {
        Found {
            rows: Vec::new(),
            keep,
            bytes: 0,
        }
    }

    fn add(&mut self, mut row: StoredRow) -> types::Result<()> {
        if self.rows.len() == ROWS_PER_STATEMENT_MAX {
            return Err(too_much(format!("{ROWS_PER_STATEMENT_MAX} rows")));
        }
        if self.keep == Keep::Keys {
            (row.row, row.values) = (Vec::new(), Vec::new());
        }
        self.bytes += row.key.len() + row.row.len();
        if self.bytes > ROWS_PER_STATEMENT_MAX_BYTES {
            return Err(too_much(format!(
                "rows of {ROWS_PER_STATEMENT_MAX_BYTES} bytes"
            )));
        }
        self.rows.push(row);
        Ok(())
    }
}

fn too_much(bound: String) -> Error {
    Error::new(
        ErrorCode::ValueTooLarge,
        format!("the statement is about more than {bound}; divide it"),
    )
}

/// The rows of the ranges for which `condition` holds.
async fn filtered(
    read: &Arc<dyn Snapshot>,
    decoder: &Decoder<'_>,
    ranges: Vec<KeyRange>,
    condition: Option<&CompiledExpr>,
    keep: Keep,
) -> Result<Vec<StoredRow>> {
    let mut found = Found::new(keep);
    for mut range in ranges {
        loop {
            let (chunk, next) = chunk(read, decoder, &range)?;
            let rows = match condition {
                None => chunk,
                Some(condition) => passing(condition, chunk)?,
            };
            rows.into_iter().try_for_each(|row| found.add(row))?;
            let Some(next) = next else { break };
            range.start = next;
            // Reading does not wait for anything, so others would not get their turn.
            tokio::task::yield_now().await;
        }
    }
    Ok(found.rows)
}

/// The first rows of a range, and where to go on; none at its end.
fn chunk(
    read: &Arc<dyn Snapshot>,
    decoder: &Decoder<'_>,
    range: &KeyRange,
) -> storage::Result<(Vec<StoredRow>, Option<Vec<u8>>)> {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    for pair in read.scan(range, Direction::Forward) {
        let (key, stored) = pair?;
        if rows.len() == CHUNK_ROWS || bytes >= CHUNK_BYTES {
            return Ok((rows, Some(key)));
        }
        bytes += stored.len();
        rows.push(decoder.decode(key, &stored)?);
    }
    Ok((rows, None))
}

fn passing(condition: &CompiledExpr, chunk: Vec<StoredRow>) -> types::Result<Vec<StoredRow>> {
    let rows: Vec<&[Value]> = chunk.iter().map(|row| row.values.as_slice()).collect();
    let holds = condition.eval_slices(&rows)?;
    let passing = chunk.into_iter().zip(holds);
    Ok(passing
        .filter(|(_, holds)| *holds == Value::Boolean(true))
        .map(|(row, _)| row)
        .collect())
}

/// Is there a query in the expression?
pub(crate) fn has_subquery(expr: &ast::Expr) -> bool {
    let found = ast::visit_expressions(expr, |expr| match expr {
        ast::Expr::Subquery(_) | ast::Expr::Exists { .. } | ast::Expr::InSubquery { .. } => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// `SELECT primary key FROM table WHERE selection`.
///
/// # Errors
/// None that a table's names could give.
pub fn rows_query(table: &Table, selection: Option<&ast::Expr>) -> types::Result<Box<ast::Query>> {
    let quoted = |name: &str| ast::Ident::with_quote('"', name).to_string();
    let called = quoted(&table.name);
    let key: Vec<String> = table
        .primary_key
        .iter()
        .filter_map(|id| table.column(*id))
        .map(|column| format!("{called}.{}", quoted(&column.name)))
        .collect();
    let text = format!(
        "SELECT {} FROM {}.{called}",
        key.join(", "),
        quoted(&table.namespace)
    );
    let parsed = Parser::new(&PostgreSqlDialect {})
        .try_with_sql(&text)
        .and_then(|mut parser| parser.parse_query());
    let mut query =
        parsed.map_err(|error| Error::new(ErrorCode::InternalError, error.to_string()))?;
    if let ast::SetExpr::Select(select) = &mut *query.body {
        select.selection = selection.cloned();
    }
    Ok(query)
}
