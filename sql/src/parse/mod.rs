//! From text to [`Statement`]s.
//!
//! sqlparser makes the tokens and parses expressions and queries; the statements around them are
//! ours, parsed on the same tokens, one file a family. Nothing ever searches text.

mod alter;
mod cache;
mod column_types;
mod depth;
mod dialect;
mod dml;
mod options;
mod tables;
mod tokens;
mod topics;
mod transactions;

mod users;

#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

pub use cache::{Parsed, StatementCache};
use datafusion::sql::sqlparser::ast::{Expr, Value, visit_expressions_mut};
use dialect::BoundedDialect;
use tokens::Tokens;
use types::limits::{SQL_MAX_BYTES, STATEMENTS_MAX};
use types::{Error, ErrorCode, Result};

use crate::statement::Statement;

/// Parses a request's whole text.
///
/// # Errors
/// `EMPTY_SQL` if there is no statement in it; `INVALID_SQL` with the position for everything else
/// that is not a statement we know, is nested too deeply or is too long.
pub fn parse(text: &str) -> Result<Vec<Statement>> {
    if text.len() > SQL_MAX_BYTES {
        let message = format!("the text is longer than {SQL_MAX_BYTES} bytes");
        return Err(Error::new(ErrorCode::InvalidSql, message));
    }
    let dialect = BoundedDialect::new();
    let mut tokens = Tokens::new(text, &dialect)?;
    let mut statements = Vec::new();
    loop {
        while tokens.semicolon() {}
        if tokens.at_end() {
            break;
        }
        if statements.len() == STATEMENTS_MAX {
            return Err(tokens.error(&format!("more than {STATEMENTS_MAX} statements")));
        }
        // Which one, for a client that sent several; none of them has run.
        let ordinal = u32::try_from(statements.len()).unwrap_or(u32::MAX);
        let parsed = statement(&mut tokens).map_err(|error| error.at_statement(ordinal))?;
        statements.push(parsed);
        if !tokens.semicolon() && !tokens.at_end() {
            return Err(tokens.expected("; or the end"));
        }
    }
    if statements.is_empty() {
        return Err(Error::new(
            ErrorCode::EmptySql,
            "there is no statement in the text",
        ));
    }
    Ok(statements)
}

/// Parses the text of an expression alone, as it stands in a route's record.
pub fn expression(text: &str) -> Result<Expr> {
    let dialect = BoundedDialect::new();
    let mut tokens = Tokens::new(text, &dialect)?;
    let expr = tokens.expr()?;
    if !tokens.at_end() {
        return Err(tokens.expected("the end of the expression"));
    }
    Ok(expr)
}

/// The text of an expression, from which [`expression`] makes the same one.
///
/// # Errors
/// `INVALID_SQL` for one that no text is found for.
pub fn expression_text(expr: &Expr) -> Result<String> {
    let text = expr.to_string();
    if expression(&text).is_ok_and(|again| again == *expr) {
        return Ok(text);
    }
    // Not every string survives between plain quotes; escaped ones do.
    let mut escaped = expr.clone();
    let _: ControlFlow<()> = visit_expressions_mut(&mut escaped, |expr| {
        if let Expr::Value(place) = expr
            && let Value::SingleQuotedString(text)
            | Value::UnicodeStringLiteral(text)
            | Value::NationalStringLiteral(text) = &place.value
        {
            place.value = Value::EscapedStringLiteral(text.clone());
        }
        ControlFlow::Continue(())
    });
    let text = escaped.to_string();
    if expression(&text).is_ok_and(|again| again == escaped) {
        return Ok(text);
    }
    let message = "a literal or name in the expression cannot be kept as it is";
    Err(Error::new(ErrorCode::InvalidSql, message))
}

fn statement(tokens: &mut Tokens<'_>) -> Result<Statement> {
    if tokens.at_query() {
        return dml::select(tokens);
    }
    let word = tokens
        .statement_word()
        .ok_or_else(|| tokens.expected("a statement"))?;
    match word.as_str() {
        "INSERT" => dml::insert(tokens),
        "UPDATE" => dml::update(tokens),
        "DELETE" => dml::delete(tokens),
        "EXPLAIN" => dml::explain(tokens),
        "EXECUTE" => dml::execute_as(tokens),
        "CREATE" => create(tokens),
        "DROP" => drop_object(tokens),
        "ALTER" => alter(tokens),
        "SHOW" => tables::show(tokens),
        "DESCRIBE" | "DESC" => tables::describe(tokens),
        "USE" => tables::use_namespace(tokens),
        "CLEAR" => topics::clear(tokens),
        "CONSUME" => topics::consume(tokens),
        "ACK" => topics::ack(tokens),
        "NACK" => topics::nack(tokens),
        "RESET" => topics::reset(tokens),
        "BEGIN" | "START" => transactions::begin(tokens, &word),
        "COMMIT" | "END" => transactions::commit(tokens),
        "ROLLBACK" | "ABORT" => transactions::rollback(tokens),
        _ => {
            tokens.back();
            Err(tokens.error(&format!("unknown statement {word}")))
        }
    }
}

fn create(tokens: &mut Tokens<'_>) -> Result<Statement> {
    if tokens.words(&["NAMESPACE"]) {
        tables::create_namespace(tokens)
    } else if tokens.words(&["TOPIC"]) {
        topics::create(tokens)
    } else if let Some(kind) = tables::kind_before_table(tokens) {
        tables::create_table(tokens, kind)
    } else if tokens.words(&["USER"]) {
        users::create(tokens)
    } else if tokens.peek_words(&["INDEX"]) || tokens.peek_words(&["UNIQUE", "INDEX"]) {
        alter::create_index(tokens)
    } else {
        Err(tokens.expected("NAMESPACE, [USER|SHARED|STREAM] TABLE, [UNIQUE] INDEX, TOPIC or USER"))
    }
}

fn drop_object(tokens: &mut Tokens<'_>) -> Result<Statement> {
    if tokens.words(&["NAMESPACE"]) {
        tables::drop_namespace(tokens)
    } else if tokens.words(&["TABLE"]) {
        tables::drop_table(tokens)
    } else if tokens.words(&["TOPIC"]) {
        topics::drop_topic(tokens)
    } else if tokens.words(&["USER"]) {
        users::drop_user(tokens)
    } else if tokens.words(&["INDEX"]) {
        alter::drop_index(tokens)
    } else {
        Err(tokens.expected("NAMESPACE, TABLE, INDEX, TOPIC or USER"))
    }
}

fn alter(tokens: &mut Tokens<'_>) -> Result<Statement> {
    if tokens.words(&["TOPIC"]) {
        topics::alter(tokens)
    } else if tokens.words(&["USER"]) {
        users::alter(tokens)
    } else if tokens.words(&["TABLE"]) {
        alter::alter_table(tokens)
    } else {
        Err(tokens.expected("TABLE, TOPIC or USER"))
    }
}
