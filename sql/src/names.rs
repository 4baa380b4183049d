//! Names of things: folding, bounds, and where a name without a namespace belongs.

use datafusion::sql::sqlparser::ast::Ident;
use types::limits::NAME_MAX_BYTES;
use types::{Error, ErrorCode, Result};

use crate::session::Session;

/// The namespace of the server's own tables. Nothing can be created in it.
pub const SYSTEM_NAMESPACE: &str = "system";

/// A name of a table or topic as the statement wrote it, folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QualifiedName {
    /// The part before the dot.
    pub namespace: Option<String>,
    /// The part after it.
    pub name: String,
}

impl QualifiedName {
    /// The namespace meant: the one written, or the session's.
    pub fn namespace_in<'a>(&'a self, session: &Session<'a>) -> Result<&'a str> {
        self.namespace
            .as_deref()
            .or(session.namespace)
            .ok_or_else(|| {
                Error::new(
                    ErrorCode::InvalidSql,
                    format!(
                        "\"{}\" names no namespace: write namespace.{}, or choose one with USE",
                        self.name, self.name
                    ),
                )
            })
    }
}

impl std::fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// An identifier as it is meant: unquoted ones fold to lower case, as in PostgreSQL, which leaves
/// letters outside ASCII as they are.
pub fn fold(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

/// Is `name` fit for something that is created? `what` names it in the error.
///
/// # Errors
/// `INVALID_INPUT` for an empty name, one longer than [`NAME_MAX_BYTES`], or one with a character
/// that names cannot have.
pub fn check_new(what: &str, name: &str) -> Result<()> {
    let problem = if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > NAME_MAX_BYTES {
        format!("is longer than {NAME_MAX_BYTES} bytes")
    } else if name.contains(|c: char| c.is_control()) {
        "contains a control character".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::new(
        ErrorCode::InvalidInput,
        format!("the {what} {problem}"),
    ))
}

/// As [`check_new`], for namespaces, tables and topics: their names are joined by dots and divided
/// there again.
pub fn check_new_dotted(what: &str, name: &str) -> Result<()> {
    check_new(what, name)?;
    if name.contains(['.', '/']) {
        return Err(Error::new(
            ErrorCode::InvalidInput,
            format!("the {what} \"{name}\" contains a character that separates names"),
        ));
    }
    Ok(())
}
