//! DataFusion's errors as ours.

use std::error::Error as StdError;

use datafusion::common::{DataFusionError, SchemaError};
use datafusion::sql::sqlparser::parser::ParserError;
use types::{Error, ErrorCode};

use crate::failure::Failure;

/// While planning: an error of the statement. While running: an error of its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before the first row is read.
    Planning,
    /// After.
    Running,
}

/// What an error of DataFusion means for the statement.
pub fn failure(error: DataFusionError, phase: Phase) -> Failure {
    match error {
        DataFusionError::External(error) => external(error),
        DataFusionError::Context(_, error) | DataFusionError::Diagnostic(_, error) => {
            failure(*error, phase)
        }
        DataFusionError::Collection(mut errors) => match errors.is_empty() {
            true => refused(
                ErrorCode::InternalError,
                "a query failed without saying why",
            ),
            false => failure(errors.swap_remove(0), phase),
        },
        DataFusionError::Shared(error) => match std::sync::Arc::try_unwrap(error) {
            Ok(error) => failure(error, phase),
            Err(shared) => borrowed(&shared, phase),
        },
        other => Failure::Refused(described(&other, phase)),
    }
}

/// As [`failure`], where storage is not read: whatever it is, it is an error of the statement.
pub fn refusal(error: DataFusionError, phase: Phase) -> Error {
    match failure(error, phase) {
        Failure::Refused(error) => error,
        Failure::Storage(error) => Error::new(ErrorCode::InternalError, error.to_string()),
    }
}

fn external(error: Box<dyn StdError + Send + Sync>) -> Failure {
    let error = match error.downcast::<storage::Error>() {
        Ok(error) => return Failure::Storage(*error),
        Err(error) => error,
    };
    match error.downcast::<Error>() {
        Ok(error) => Failure::Refused(*error),
        Err(error) => refused(ErrorCode::InternalError, error.to_string()),
    }
}

/// For an error that others hold too, so that it cannot be taken apart.
fn borrowed(error: &DataFusionError, phase: Phase) -> Failure {
    match error.find_root() {
        DataFusionError::External(error) => {
            if let Some(error) = error.downcast_ref::<storage::Error>() {
                Failure::Storage(error.clone())
            } else if let Some(error) = error.downcast_ref::<Error>() {
                Failure::Refused(error.clone())
            } else {
                refused(ErrorCode::InternalError, error.to_string())
            }
        }
        root => Failure::Refused(described(root, phase)),
    }
}

fn refused(code: ErrorCode, message: impl Into<String>) -> Failure {
    Failure::Refused(Error::new(code, message))
}

fn described(error: &DataFusionError, phase: Phase) -> Error {
    let by_phase = match phase {
        Phase::Planning => ErrorCode::InvalidSql,
        Phase::Running => ErrorCode::SqlExecutionError,
    };
    match error {
        DataFusionError::Plan(message) => Error::new(ErrorCode::InvalidSql, clean(message)),
        DataFusionError::SQL(error, _) => match error.as_ref() {
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
                Error::new(ErrorCode::InvalidSql, clean(message))
            }
            ParserError::RecursionLimitExceeded => {
                Error::new(ErrorCode::InvalidSql, "the statement nests too deep")
            }
        },
        DataFusionError::NotImplemented(message) => Error::new(
            ErrorCode::InvalidSql,
            format!("not supported: {}", clean(message)),
        ),
        DataFusionError::SchemaError(error, _) => schema_error(error),
        DataFusionError::Execution(message) => Error::new(by_phase, clean(message)),
        DataFusionError::ArrowError(error, _) => {
            Error::new(ErrorCode::SqlExecutionError, clean(&error.to_string()))
        }
        DataFusionError::ResourcesExhausted(_) => Error::new(
            ErrorCode::SqlExecutionError,
            "the query needs more memory than there is for queries at the moment: select fewer \
             columns or rows, or add LIMIT",
        ),
        other => Error::new(ErrorCode::InternalError, clean(&other.to_string())),
    }
}

fn schema_error(error: &SchemaError) -> Error {
    let message = match error {
        SchemaError::FieldNotFound {
            field,
            valid_fields,
        } => {
            let names: Vec<&str> = valid_fields.iter().map(|c| c.name.as_str()).collect();
            match names.is_empty() {
                true => format!("there is no column \"{}\"", field.name),
                false => {
                    format!(
                        "there is no column \"{}\" among {}",
                        field.name,
                        names.join(", ")
                    )
                }
            }
        }
        SchemaError::AmbiguousReference { field } => {
            format!("column \"{}\" is ambiguous", field.name)
        }
        other => clean(&other.to_string()),
    };
    Error::new(ErrorCode::InvalidSql, message)
}

/// Drops what DataFusion and Arrow put before their messages and the backtrace behind.
fn clean(message: &str) -> String {
    const PREFIXES: [&str; 12] = [
        "Error during planning: ",
        "Execution error: ",
        "SQL error: ",
        "Schema error: ",
        "Arrow error: ",
        "Cast error: ",
        "Parser error: ",
        "Compute error: ",
        "Invalid argument error: ",
        "Arithmetic overflow: ",
        "Optimizer rule 'simplify_expressions' failed",
        "Internal error: ",
    ];
    let mut rest = message
        .split("\n\nbacktrace:")
        .next()
        .unwrap_or(message)
        .trim();
    while let Some(shorter) = PREFIXES.iter().find_map(|prefix| rest.strip_prefix(prefix)) {
        rest = shorter.trim_start();
    }
    rest.to_owned()
}
