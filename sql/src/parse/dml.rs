//! SELECT, EXPLAIN, INSERT, UPDATE, DELETE, EXECUTE AS USER.

use datafusion::sql::sqlparser::ast::{Expr, ObjectNamePart, Query, SelectItem, SetExpr};
use datafusion::sql::sqlparser::tokenizer::{Location, Token};
use types::{Error, ErrorCode, Result};

use super::tokens::{Tokens, invalid};
use crate::statement::{
    Assignment, ConflictAction, Delete, ExecuteAs, Insert, InsertSource, InsertValue, OnConflict,
    Statement, Update,
};

pub(super) fn select(tokens: &mut Tokens<'_>) -> Result<Statement> {
    Ok(Statement::Select(query(tokens)?))
}

pub(super) fn explain(tokens: &mut Tokens<'_>) -> Result<Statement> {
    if tokens.peek_words(&["ANALYZE"]) {
        return Err(tokens.error("EXPLAIN ANALYZE is not supported yet"));
    }
    if tokens.at_query() {
        return Ok(Statement::Explain(query(tokens)?));
    }
    let written = if tokens.words(&["INSERT"]) {
        insert(tokens)?
    } else if tokens.words(&["UPDATE"]) {
        update(tokens)?
    } else if tokens.words(&["DELETE"]) {
        delete(tokens)?
    } else {
        return Err(tokens.expected("SELECT, INSERT, UPDATE or DELETE"));
    };
    Ok(Statement::ExplainWrite(Box::new(written)))
}

/// A query that reads and nothing else.
fn query(tokens: &mut Tokens<'_>) -> Result<Box<Query>> {
    let at = tokens.here();
    let query = tokens.query()?;
    if !query.locks.is_empty() {
        return Err(invalid(
            "FOR UPDATE and FOR SHARE are not supported: nothing is locked",
            at,
        ));
    }
    if has_other_syntax(&query) {
        return Err(invalid("the query has a clause of another SQL dialect", at));
    }
    if let Some(what) = not_a_read(&query.body) {
        return Err(invalid(&format!("{what} is not supported in a query"), at));
    }
    Ok(query)
}

fn has_other_syntax(query: &Query) -> bool {
    query.for_clause.is_some()
        || query.settings.is_some()
        || query.format_clause.is_some()
        || !query.pipe_operators.is_empty()
}

fn not_a_read(body: &SetExpr) -> Option<&'static str> {
    match body {
        SetExpr::Select(select) => select.into.as_ref().map(|_| "SELECT INTO"),
        SetExpr::Query(query) => not_a_read(&query.body),
        SetExpr::SetOperation { left, right, .. } => not_a_read(left).or_else(|| not_a_read(right)),
        SetExpr::Values(_) | SetExpr::Table(_) => None,
        SetExpr::Insert(_) => Some("INSERT"),
        SetExpr::Update(_) => Some("UPDATE"),
        SetExpr::Delete(_) => Some("DELETE"),
        SetExpr::Merge(_) => Some("MERGE"),
    }
}

// ---- INSERT
// --------------------------------------------------------------------------------------

pub(super) fn insert(tokens: &mut Tokens<'_>) -> Result<Statement> {
    tokens.expect_words(&["INTO"])?;
    let table = tokens.qualified_name("a table")?;
    let columns = insert_columns(tokens)?;
    let at = tokens.here();
    let source = insert_source(tokens)?;
    if let InsertSource::Values(rows) = &source {
        same_length(rows, columns.as_deref(), at)?;
    }
    let on_conflict = on_conflict(tokens)?;
    let returning = returning(tokens)?;
    Ok(Statement::Insert(Box::new(Insert {
        table,
        columns,
        source,
        on_conflict,
        returning,
    })))
}

fn insert_columns(tokens: &mut Tokens<'_>) -> Result<Option<Vec<String>>> {
    if !tokens.take(&Token::LParen) {
        return Ok(None);
    }
    if tokens.at_query() {
        // `INSERT INTO t (SELECT …)`: the parenthesis belongs to the query.
        tokens.back();
        return Ok(None);
    }
    let mut names: Vec<String> = Vec::new();
    loop {
        let at = tokens.here();
        let name = tokens.name("a column")?;
        if names.contains(&name) {
            return Err(invalid(&format!("column \"{name}\" is given twice"), at));
        }
        names.push(name);
        if !tokens.take(&Token::Comma) {
            break;
        }
    }
    tokens.expect(&Token::RParen)?;
    Ok(Some(names))
}

fn insert_source(tokens: &mut Tokens<'_>) -> Result<InsertSource> {
    if tokens.words(&["DEFAULT", "VALUES"]) {
        return Ok(InsertSource::DefaultValues);
    }
    if tokens.words(&["VALUES"]) {
        let rows = tokens.list(|tokens| tokens.parenthesized(value))?;
        return Ok(InsertSource::Values(rows));
    }
    if tokens.at_query() {
        return Ok(InsertSource::Query(query(tokens)?));
    }
    Err(tokens.expected("VALUES, DEFAULT VALUES or a query"))
}

fn value(tokens: &mut Tokens<'_>) -> Result<InsertValue> {
    if tokens.words(&["DEFAULT"]) {
        return Ok(InsertValue::Default);
    }
    let at = tokens.here();
    let expr = tokens.expr()?;
    if is_file(&expr) {
        let message = "FILE('…') refers to a part of the request; files are not stored yet";
        let error = Error::new(ErrorCode::InvalidInput, message);
        return Err(error.at_position(at.line, at.column));
    }
    Ok(InsertValue::Expr(expr))
}

fn is_file(expr: &Expr) -> bool {
    let Expr::Function(function) = expr else {
        return false;
    };
    match function.name.0.as_slice() {
        [ObjectNamePart::Identifier(name)] => name.value.eq_ignore_ascii_case("file"),
        _ => false,
    }
}

fn same_length(rows: &[Vec<InsertValue>], columns: Option<&[String]>, at: Location) -> Result<()> {
    let expected = columns.map_or_else(|| rows.first().map_or(0, Vec::len), <[String]>::len);
    match rows.iter().position(|row| row.len() != expected) {
        None => Ok(()),
        Some(row) => {
            let found = rows[row].len();
            let message = format!("row {} has {found} value(s) instead of {expected}", row + 1);
            Err(invalid(&message, at))
        }
    }
}

fn on_conflict(tokens: &mut Tokens<'_>) -> Result<Option<OnConflict>> {
    if !tokens.words(&["ON"]) {
        return Ok(None);
    }
    tokens.expect_words(&["CONFLICT"])?;
    if tokens.peek_words(&["ON", "CONSTRAINT"]) {
        return Err(tokens.error("ON CONFLICT names columns, not a constraint"));
    }
    let at = tokens.here();
    let target = if tokens.take(&Token::LParen) {
        tokens.back();
        Some(tokens.parenthesized(|tokens| tokens.name("a column"))?)
    } else {
        None
    };
    tokens.expect_words(&["DO"])?;
    if tokens.words(&["NOTHING"]) {
        return Ok(Some(OnConflict {
            target,
            action: ConflictAction::Nothing,
        }));
    }
    tokens.expect_words(&["UPDATE", "SET"])?;
    if target.is_none() {
        return Err(invalid(
            "ON CONFLICT DO UPDATE needs the columns: ON CONFLICT (id)",
            at,
        ));
    }
    let assignments = assignments(tokens)?;
    let selection = selection(tokens)?;
    Ok(Some(OnConflict {
        target,
        action: ConflictAction::Update {
            assignments,
            selection,
        },
    }))
}

// ---- UPDATE, DELETE
// ------------------------------------------------------------------------------

pub(super) fn update(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let table = tokens.qualified_name("a table")?;
    if tokens.peek_words(&["AS"]) {
        return Err(tokens.error("UPDATE takes no alias"));
    }
    tokens.expect_words(&["SET"])?;
    let assignments = assignments(tokens)?;
    if tokens.peek_words(&["FROM"]) {
        return Err(tokens.error("UPDATE … FROM is not supported yet"));
    }
    let selection = selection(tokens)?;
    let returning = returning(tokens)?;
    Ok(Statement::Update(Box::new(Update {
        table,
        assignments,
        selection,
        returning,
    })))
}

pub(super) fn delete(tokens: &mut Tokens<'_>) -> Result<Statement> {
    tokens.expect_words(&["FROM"])?;
    let table = tokens.qualified_name("a table")?;
    if tokens.peek_words(&["USING"]) {
        return Err(tokens.error("DELETE … USING is not supported yet"));
    }
    let selection = selection(tokens)?;
    let returning = returning(tokens)?;
    Ok(Statement::Delete(Box::new(Delete {
        table,
        selection,
        returning,
    })))
}

fn assignments(tokens: &mut Tokens<'_>) -> Result<Vec<Assignment>> {
    let mut assignments: Vec<Assignment> = Vec::new();
    loop {
        let at = tokens.here();
        let column = tokens.name("a column")?;
        if assignments
            .iter()
            .any(|assignment| assignment.column == column)
        {
            return Err(invalid(&format!("column \"{column}\" is set twice"), at));
        }
        tokens.expect(&Token::Eq)?;
        assignments.push(Assignment {
            column,
            value: value(tokens)?,
        });
        if !tokens.take(&Token::Comma) {
            return Ok(assignments);
        }
    }
}

fn selection(tokens: &mut Tokens<'_>) -> Result<Option<Expr>> {
    if tokens.words(&["WHERE"]) {
        tokens.expr().map(Some)
    } else {
        Ok(None)
    }
}

fn returning(tokens: &mut Tokens<'_>) -> Result<Option<Vec<SelectItem>>> {
    if !tokens.words(&["RETURNING"]) {
        return Ok(None);
    }
    tokens.list(Tokens::select_item).map(Some)
}

// ---- EXECUTE AS USER
// -----------------------------------------------------------------------------

pub(super) fn execute_as(tokens: &mut Tokens<'_>) -> Result<Statement> {
    tokens.expect_words(&["AS", "USER"])?;
    let user = tokens.string("a user's id")?;
    tokens.expect(&Token::LParen)?;
    let statement = if tokens.at_query() {
        select(tokens)?
    } else if tokens.words(&["INSERT"]) {
        insert(tokens)?
    } else if tokens.words(&["UPDATE"]) {
        update(tokens)?
    } else if tokens.words(&["DELETE"]) {
        delete(tokens)?
    } else {
        return Err(tokens.expected("SELECT, INSERT, UPDATE or DELETE"));
    };
    let _optional = tokens.semicolon();
    tokens.expect(&Token::RParen)?;
    Ok(Statement::ExecuteAs(ExecuteAs {
        user,
        statement: Box::new(statement),
    }))
}
