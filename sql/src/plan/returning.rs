//! RETURNING: what a statement answers about the rows it changed.

use datafusion::sql::sqlparser::ast::{Expr, SelectItem};
use types::schema::{Column, Table};
use types::value::Value;
use types::{Error, ErrorCode};

use super::context::Context;
use crate::answer::{ResultColumn, Rows};
use crate::failure::Result;
use crate::names::fold;
use crate::query::CompiledExpr;

/// The clause, compiled.
pub(super) struct Returning {
    columns: Vec<ResultColumn>,
    items: Vec<Item>,
}

enum Item {
    /// A column of the table, by position.
    Column(usize),
    Expr(CompiledExpr),
}

impl Returning {
    /// None if the statement has no such clause.
    ///
    /// # Errors
    /// As an expression over the table's columns.
    pub fn new(
        context: &Context<'_>,
        table: &Table,
        items: Option<&[SelectItem]>,
    ) -> Result<Option<Returning>> {
        let Some(items) = items else { return Ok(None) };
        let mut returning = Returning {
            columns: Vec::new(),
            items: Vec::new(),
        };
        for item in items {
            match item {
                SelectItem::Wildcard(_) => {
                    for (at, column) in table.columns.iter().enumerate() {
                        returning.columns.push(result_column(table, column, None));
                        returning.items.push(Item::Column(at));
                    }
                }
                SelectItem::UnnamedExpr(expr) => returning.add(context, table, expr, None)?,
                SelectItem::ExprWithAlias { expr, alias } => {
                    returning.add(context, table, expr, Some(fold(alias)))?;
                }
                SelectItem::QualifiedWildcard(..) | SelectItem::ExprWithAliases { .. } => {
                    let message = "RETURNING takes *, columns and expressions";
                    return Err(Error::new(ErrorCode::InvalidSql, message).into());
                }
            }
        }
        Ok(Some(returning))
    }

    fn add(
        &mut self,
        context: &Context<'_>,
        table: &Table,
        expr: &Expr,
        alias: Option<String>,
    ) -> Result<()> {
        if let Expr::Identifier(ident) = expr
            && let Some(at) = table
                .columns
                .iter()
                .position(|column| column.name == fold(ident))
        {
            self.columns
                .push(result_column(table, &table.columns[at], alias));
            self.items.push(Item::Column(at));
            return Ok(());
        }
        let engine = &context.planner.engine;
        let compiled = engine.compile(table, expr, &context.session, context.params)?;
        let name = alias.unwrap_or_else(|| compiled.name().to_owned());
        self.columns
            .push(ResultColumn::new(name, compiled.data_type()));
        self.items.push(Item::Expr(compiled));
        Ok(())
    }

    /// The clause's answer for these rows of the table.
    ///
    /// # Errors
    /// `SQL_EXECUTION_ERROR` if an expression has no value for one of them.
    pub fn rows<'v>(self, rows: impl Iterator<Item = &'v [Value]>) -> types::Result<Rows> {
        let rows: Vec<Vec<Value>> = rows.map(<[Value]>::to_vec).collect();
        let mut result = vec![Vec::with_capacity(self.items.len()); rows.len()];
        for item in &self.items {
            match item {
                Item::Column(at) => {
                    for (result, row) in result.iter_mut().zip(&rows) {
                        result.push(row[*at].clone());
                    }
                }
                Item::Expr(expr) => {
                    for (result, value) in result.iter_mut().zip(expr.eval(&rows)?) {
                        result.push(value);
                    }
                }
            }
        }
        Ok(Rows {
            columns: self.columns,
            rows: result,
        })
    }
}

fn result_column(table: &Table, column: &Column, alias: Option<String>) -> ResultColumn {
    let mut flags = Vec::new();
    if table.primary_key.contains(&column.id) {
        flags.push("pk");
    }
    if !column.nullable {
        flags.push("nn");
    }
    let name = alias.unwrap_or_else(|| column.name.clone());
    ResultColumn {
        name,
        data_type: column.data_type,
        flags,
    }
}
