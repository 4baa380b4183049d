//! BEGIN, COMMIT, ROLLBACK.

use types::Result;

use super::tokens::Tokens;
use crate::statement::Statement;

pub(super) fn begin(tokens: &mut Tokens<'_>, word: &str) -> Result<Statement> {
    if word == "START" {
        tokens.expect_words(&["TRANSACTION"])?;
    } else {
        noise(tokens);
    }
    Ok(Statement::Begin)
}

pub(super) fn commit(tokens: &mut Tokens<'_>) -> Result<Statement> {
    noise(tokens);
    Ok(Statement::Commit)
}

pub(super) fn rollback(tokens: &mut Tokens<'_>) -> Result<Statement> {
    noise(tokens);
    if tokens.peek_words(&["TO"]) {
        return Err(tokens.error("savepoints are not supported"));
    }
    Ok(Statement::Rollback)
}

/// Words that PostgreSQL allows and that say nothing.
fn noise(tokens: &mut Tokens<'_>) {
    let _either = tokens.words(&["TRANSACTION"]) || tokens.words(&["WORK"]);
}
