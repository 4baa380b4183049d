//! What a statement answers.

use types::value::{DataType, Value};

/// The answer to one statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Rows.
    Rows(Rows),
    /// It was done.
    Done {
        /// One line for a person: `Inserted 1 row(s)`.
        message: String,
        /// Rows matched or inserted; 0 for statements about anything else.
        row_count: u64,
        /// The rows of RETURNING.
        returning: Option<Rows>,
    },
}

impl Answer {
    /// An answer without rows.
    pub fn done(message: impl Into<String>) -> Answer {
        Answer::Done {
            message: message.into(),
            row_count: 0,
            returning: None,
        }
    }
}

/// Rows with their columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// The columns.
    pub columns: Vec<ResultColumn>,
    /// The rows, each with one value a column.
    pub rows: Vec<Vec<Value>>,
}

/// A column of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultColumn {
    /// Its name or alias.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// `pk`: part of the table's primary key; `nn`: never null.
    pub flags: Vec<&'static str>,
}

impl ResultColumn {
    /// A column without flags.
    pub fn new(name: impl Into<String>, data_type: DataType) -> ResultColumn {
        ResultColumn {
            name: name.into(),
            data_type,
            flags: Vec::new(),
        }
    }
}
