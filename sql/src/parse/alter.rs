//! ALTER TABLE, CREATE INDEX, DROP INDEX.

use datafusion::sql::sqlparser::tokenizer::Token;
use types::Result;

use super::tables::{added_column, default_value, drop_object, if_exists, if_not_exists};
use super::tokens::Tokens;
use crate::statement::{AlterTable, CreateIndex, Statement, TableChange};

pub(super) fn alter_table(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let table = tokens.qualified_name("a table")?;
    let change = if tokens.words(&["ADD"]) {
        let _noise = tokens.words(&["COLUMN"]);
        let if_not_exists = if_not_exists(tokens)?;
        TableChange::Add {
            column: added_column(tokens)?,
            if_not_exists,
        }
    } else if tokens.words(&["DROP"]) {
        let _noise = tokens.words(&["COLUMN"]);
        let if_exists = if_exists(tokens)?;
        let column = tokens.name("a column")?;
        let _either = tokens.words(&["RESTRICT"]) || tokens.words(&["CASCADE"]);
        TableChange::Drop { column, if_exists }
    } else if tokens.words(&["RENAME"]) {
        if tokens.peek_words(&["TO"]) {
            return Err(tokens.error("a table cannot be renamed; RENAME COLUMN a TO b"));
        }
        let _noise = tokens.words(&["COLUMN"]);
        let column = tokens.name("a column")?;
        tokens.expect_words(&["TO"])?;
        let to = tokens.name("a column")?;
        TableChange::Rename { column, to }
    } else if tokens.words(&["ALTER"]) {
        column_change(tokens)?
    } else {
        return Err(tokens.expected("ADD, DROP, RENAME or ALTER COLUMN"));
    };
    if tokens.take(&Token::Comma) {
        tokens.back();
        return Err(tokens.error("ALTER TABLE makes one change"));
    }
    Ok(Statement::AlterTable(Box::new(AlterTable {
        table,
        change,
    })))
}

fn column_change(tokens: &mut Tokens<'_>) -> Result<TableChange> {
    let _noise = tokens.words(&["COLUMN"]);
    let column = tokens.name("a column")?;
    if tokens.words(&["SET", "DEFAULT"]) {
        let default = default_value(tokens)?;
        Ok(TableChange::Default { column, default })
    } else if tokens.words(&["DROP", "DEFAULT"]) {
        let default = None;
        Ok(TableChange::Default { column, default })
    } else if tokens.words(&["SET", "NOT", "NULL"]) {
        let nullable = false;
        Ok(TableChange::Nullable { column, nullable })
    } else if tokens.words(&["DROP", "NOT", "NULL"]) {
        let nullable = true;
        Ok(TableChange::Nullable { column, nullable })
    } else {
        Err(tokens.expected("SET DEFAULT, DROP DEFAULT, SET NOT NULL or DROP NOT NULL"))
    }
}

pub(super) fn create_index(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let unique = tokens.words(&["UNIQUE"]);
    tokens.expect_words(&["INDEX"])?;
    let if_not_exists = if_not_exists(tokens)?;
    let name = tokens.name("an index")?;
    tokens.expect_words(&["ON"])?;
    let table = tokens.qualified_name("a table")?;
    let columns = tokens.parenthesized(|tokens| tokens.name("a column"))?;
    if tokens.peek_words(&["WHERE"]) {
        return Err(tokens.error("an index holds all rows: WHERE is not supported"));
    }
    Ok(Statement::CreateIndex(CreateIndex {
        name,
        if_not_exists,
        unique,
        table,
        columns,
    }))
}

pub(super) fn drop_index(tokens: &mut Tokens<'_>) -> Result<Statement> {
    Ok(Statement::DropIndex(drop_object(tokens, "an index")?))
}
