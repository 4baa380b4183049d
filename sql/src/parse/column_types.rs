//! The types of columns, by their names in CONTRACT §3 and PostgreSQL's names for the same.

use datafusion::sql::sqlparser::tokenizer::Token;
use types::Result;
use types::value::{DECIMAL_PRECISION_MAX, DataType};

use super::tokens::{Tokens, invalid};

const KNOWN: &str = "BOOLEAN, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p,s), TEXT, \
                     TIMESTAMP, DATETIME, DATE, TIME, UUID, JSON, BYTES and FILE";

pub(super) fn column_type(tokens: &mut Tokens<'_>) -> Result<DataType> {
    let at = tokens.here();
    let word = tokens.name_or_string_any("a type")?.to_ascii_uppercase();
    let data_type = match word.as_str() {
        "BOOLEAN" | "BOOL" => DataType::Boolean,
        "SMALLINT" | "INT2" => DataType::SmallInt,
        "INT" | "INTEGER" | "INT4" => DataType::Int,
        "BIGINT" | "INT8" => DataType::BigInt,
        "FLOAT" | "REAL" | "FLOAT4" => DataType::Float,
        "FLOAT8" => DataType::Double,
        "DOUBLE" => {
            let _precision = tokens.words(&["PRECISION"]);
            DataType::Double
        }
        "DECIMAL" | "NUMERIC" => decimal(tokens)?,
        "TEXT" | "STRING" | "VARCHAR" => DataType::Text,
        "TIMESTAMP" => {
            time_zone(tokens)?;
            DataType::Timestamp
        }
        "TIMESTAMPTZ" => DataType::Timestamp,
        "DATETIME" => DataType::DateTime,
        "DATE" => DataType::Date,
        "TIME" => DataType::Time,
        "UUID" => DataType::Uuid,
        "JSON" | "JSONB" => DataType::Json,
        "BYTES" | "BYTEA" => DataType::Bytes,
        "FILE" => DataType::File,
        _ => {
            return Err(invalid(
                &format!("there is no type {word}; types are {KNOWN}"),
                at,
            ));
        }
    };
    if tokens.take(&Token::LParen) {
        tokens.back();
        return Err(tokens.error(&format!(
            "{word} takes no length: no bound would be enforced"
        )));
    }
    Ok(data_type)
}

/// `(precision)` or `(precision, scale)`. A DECIMAL without them would have to guess.
fn decimal(tokens: &mut Tokens<'_>) -> Result<DataType> {
    let at = tokens.here();
    if !tokens.take(&Token::LParen) {
        return Err(tokens.error("DECIMAL needs its digits: DECIMAL(precision, scale)"));
    }
    let precision: u8 = tokens.number("a precision")?;
    let scale = if tokens.take(&Token::Comma) {
        tokens.number("a scale")?
    } else {
        0_u8
    };
    tokens.expect(&Token::RParen)?;
    if precision == 0 || precision > DECIMAL_PRECISION_MAX || scale > precision {
        let message = format!(
            "DECIMAL({precision}, {scale}): the precision is 1 to {DECIMAL_PRECISION_MAX}, the \
             scale 0 to the precision"
        );
        return Err(invalid(&message, at));
    }
    Ok(DataType::Decimal { precision, scale })
}

/// Every TIMESTAMP is an instant in UTC, so WITH TIME ZONE says what is true; WITHOUT does not.
fn time_zone(tokens: &mut Tokens<'_>) -> Result<()> {
    if tokens.words(&["WITH", "TIME", "ZONE"]) {
        return Ok(());
    }
    if tokens.peek_words(&["WITHOUT", "TIME", "ZONE"]) {
        return Err(tokens.error("every TIMESTAMP is an instant in UTC; write TIMESTAMP alone"));
    }
    Ok(())
}
