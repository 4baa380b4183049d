//! ALTER TABLE. Rows are not rewritten: each says in which version of the definition it was
//! written, and columns are known by numbers that are never used again.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Ident, visit_expressions_mut};
use storage::keys::{catalog as keys, rows as row_keys};
use types::command::Expectation;
use types::limits::COLUMNS_MAX;
use types::row;
use types::schema::{Column, DefaultExpr, Role, Table};
use types::value::Value;
use types::{Error, ErrorCode};

use super::context::{Context, failed, invalid};
use super::draft::{AuditEntry, Draft, json};
use super::tables::check_column;
use super::{Plan, indexes, prepared, routes, whole};
use crate::answer::Answer;
use crate::failure::Result;
use crate::names::fold;
use crate::parse;
use crate::statement::{AlterTable, ColumnDefinition, TableChange};

pub(super) fn plan(context: &Context<'_>, alter: &AlterTable) -> Result<Plan> {
    context.require(Role::Dba, "ALTER TABLE")?;
    let found = context.table(&alter.table)?;
    let qualified = found.record.qualified_name();
    let mut edit = Edit {
        context,
        table: Table::clone(&found.record),
        draft: Draft::default(),
    };
    edit.draft.pin(&found);
    let (details, is_done) = match &alter.change {
        TableChange::Add {
            column,
            if_not_exists,
        } => (
            format!("ADD COLUMN {}", column.name),
            edit.add(column, *if_not_exists)?,
        ),
        TableChange::Drop { column, if_exists } => (
            format!("DROP COLUMN {column}"),
            edit.drop(column, *if_exists)?,
        ),
        TableChange::Rename { column, to } => (
            format!("RENAME COLUMN {column} TO {to}"),
            edit.rename(column, to)?,
        ),
        TableChange::Default { column, default } => (
            format!(
                "ALTER COLUMN {column} {} DEFAULT",
                set_or_drop(default.is_some())
            ),
            edit.set_default(column, default.as_ref())?,
        ),
        TableChange::Nullable { column, nullable } => (
            format!("ALTER COLUMN {column} {} NOT NULL", set_or_drop(!nullable)),
            edit.set_nullable(column, *nullable)?,
        ),
    };
    let answer = Answer::done(format!("Table {qualified} altered"));
    if !is_done {
        return Ok(Plan::nothing(answer));
    }
    let Edit {
        table, mut draft, ..
    } = edit;
    draft.put(found.key, json(&table));
    draft.audit(
        &context.session,
        AuditEntry {
            action: "ALTER TABLE",
            target: &qualified,
            details: &details,
            subject: None,
        },
    );
    Ok(draft.into_plan(answer)?)
}

fn set_or_drop(is_set: bool) -> &'static str {
    if is_set { "SET" } else { "DROP" }
}

/// A definition in the making. Each change says whether there was anything to do.
struct Edit<'a> {
    context: &'a Context<'a>,
    table: Table,
    draft: Draft,
}

impl Edit<'_> {
    fn add(&mut self, definition: &ColumnDefinition, if_not_exists: bool) -> Result<bool> {
        if self.table.column_named(&definition.name).is_some() {
            if if_not_exists {
                return Ok(false);
            }
            return Err(self.exists(&definition.name).into());
        }
        if self.table.columns.len() >= COLUMNS_MAX {
            return Err(invalid(format!("a table has at most {COLUMNS_MAX} columns")).into());
        }
        let mut column = Column {
            id: self.table.next_column_id,
            name: definition.name.clone(),
            data_type: definition.data_type,
            nullable: definition.nullable,
            default: definition.default.clone(),
            missing: None,
        };
        check_column(self.context, &column)?;
        let value = self.value_of_old_rows(&column)?;
        if value.is_null() && !column.nullable {
            self.expect_no_rows(&column)?;
        }
        if !value.is_null() {
            column.missing = Some(row::encode_field(column.id, &value));
        }
        self.table.columns.push(column);
        self.table.next_column_id += 1;
        self.next_version();
        Ok(true)
    }

    /// What rows that are there already have in a new column: its default, evaluated once.
    fn value_of_old_rows(&self, column: &Column) -> Result<Value> {
        if matches!(
            column.default,
            Some(DefaultExpr::Ulid | DefaultExpr::UuidV7 | DefaultExpr::SnowflakeId)
        ) {
            let message = format!(
                "column \"{}\": rows that are there already would all get the same id; add the \
                 column without DEFAULT, UPDATE them, then SET DEFAULT",
                column.name
            );
            return Err(invalid(message).into());
        }
        Ok(prepared::default_value(self.context, column)?)
    }

    fn expect_no_rows(&mut self, column: &Column) -> Result<()> {
        let prefix = row_keys::table_prefix(self.table.id);
        let range = storage::KeyRange::prefix(&prefix);
        let first = self
            .context
            .read
            .scan(&range, storage::Direction::Forward)
            .next()
            .transpose()?;
        if first.is_some() {
            let message = format!(
                "column \"{}\" is NOT NULL without a DEFAULT, and {} has rows",
                column.name,
                self.table.qualified_name()
            );
            return Err(Error::new(ErrorCode::NotNullViolation, message).into());
        }
        if self.context.in_transaction {
            let message = "ADD COLUMN of a NOT NULL column without DEFAULT cannot stand in a \
                           transaction";
            return Err(invalid(message).into());
        }
        self.draft.expect([Expectation::prefix_empty(prefix)]);
        Ok(())
    }

    fn drop(&mut self, name: &str, if_exists: bool) -> Result<bool> {
        let Some(column) = self.table.column_named(name) else {
            if if_exists {
                return Ok(false);
            }
            return Err(self.missing(name).into());
        };
        let id = column.id;
        if self.table.primary_key.contains(&id) {
            let message = format!("column \"{name}\" is part of the PRIMARY KEY");
            return Err(failed(message).into());
        }
        let (gone, kept) = std::mem::take(&mut self.table.indexes)
            .into_iter()
            .partition(|index| index.columns.contains(&id));
        self.table.indexes = kept;
        for index in &gone {
            indexes::remove(&mut self.draft, &self.table, index);
        }
        self.table.columns.retain(|column| column.id != id);
        self.next_version();
        self.check_routes(|filter| {
            format!("a route's WHERE ({filter}) needs column \"{name}\": drop that source first")
        })?;
        Ok(true)
    }

    fn rename(&mut self, name: &str, to: &str) -> Result<bool> {
        if self.table.column_named(name).is_none() {
            return Err(self.missing(name).into());
        }
        if self.table.column_named(to).is_some() {
            return Err(self.exists(to).into());
        }
        for column in &mut self.table.columns {
            if column.name == name {
                to.clone_into(&mut column.name);
                check_column(self.context, column)?;
            }
        }
        for route in &mut self.table.routes {
            if let Some(filter) = &route.filter {
                route.filter = Some(renamed(filter, name, to)?);
            }
        }
        self.next_version();
        self.check_routes(|filter| format!("a route's WHERE ({filter}) cannot be renamed"))?;
        Ok(true)
    }

    fn set_default(&mut self, name: &str, default: Option<&DefaultExpr>) -> Result<bool> {
        let missing = self.missing(name);
        let column = self.table.columns.iter_mut().find(|c| c.name == name);
        let column = column.ok_or(missing)?;
        column.default = default.cloned();
        check_column(self.context, column)?;
        Ok(true)
    }

    fn set_nullable(&mut self, name: &str, nullable: bool) -> Result<bool> {
        let column = self.table.column_named(name);
        let column = column.ok_or_else(|| self.missing(name))?;
        let (id, was_nullable) = (column.id, column.nullable);
        if nullable && self.table.primary_key.contains(&id) {
            let message = format!("column \"{name}\" is part of the PRIMARY KEY");
            return Err(failed(message).into());
        }
        if nullable == was_nullable {
            return Ok(false);
        }
        if !nullable {
            let at = self.table.columns.iter().position(|c| c.id == id);
            let rows = whole::rows(self.context, &mut self.draft, &self.table, "SET NOT NULL")?;
            let is_null =
                |row: &crate::query::StoredRow| at.is_some_and(|at| row.values[at].is_null());
            if rows.iter().any(is_null) {
                let message = format!(
                    "column \"{name}\" of {} holds NULL",
                    self.table.qualified_name()
                );
                return Err(Error::new(ErrorCode::NotNullViolation, message).into());
            }
        }
        for column in &mut self.table.columns {
            if column.id == id {
                column.nullable = nullable;
            }
        }
        Ok(true)
    }

    /// Rows and messages name the version of the definition that they were made under.
    fn next_version(&mut self) {
        self.table.schema_version += 1;
        let key = keys::table_version(self.table.id, self.table.schema_version);
        self.draft.put_new(key, json(&self.table));
    }

    /// Does every route's WHERE still mean something?
    fn check_routes(&self, wrong: impl Fn(&str) -> String) -> Result<()> {
        for filter in self.table.routes.iter().filter_map(|r| r.filter.as_deref()) {
            if routes::compile_filter(self.context, &self.table, filter).is_err() {
                return Err(failed(wrong(filter)).into());
            }
        }
        Ok(())
    }

    fn missing(&self, name: &str) -> Error {
        let table = self.table.qualified_name();
        let message = format!("table {table} has no column \"{name}\"");
        Error::new(ErrorCode::InvalidSql, message)
    }

    fn exists(&self, name: &str) -> Error {
        let table = self.table.qualified_name();
        failed(format!("table {table} has a column \"{name}\" already"))
    }
}

/// A route's WHERE with a column under its new name.
fn renamed(filter: &str, name: &str, to: &str) -> types::Result<String> {
    let mut expr = parse::expression(filter)?;
    let rename = |ident: &mut Ident| {
        if fold(ident) == name {
            *ident = Ident::with_quote('"', to);
        }
    };
    let _: ControlFlow<()> = visit_expressions_mut(&mut expr, |expr| {
        match expr {
            Expr::Identifier(ident) => rename(ident),
            Expr::CompoundIdentifier(parts) => {
                if let Some(last) = parts.last_mut() {
                    rename(last);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
    parse::expression_text(&expr)
}
