//! `WITH (name = value, …)`.

use datafusion::sql::sqlparser::tokenizer::{Location, Token};
use types::{Error, Result};

use super::tokens::{Tokens, invalid};

/// The options of one WITH clause. Each is taken by who knows it; [`Options::none_left`] refuses
/// the rest.
pub(super) struct Options {
    entries: Vec<Entry>,
}

/// One option.
pub(super) struct Entry {
    /// In lower case.
    name: String,
    at: Location,
    pub(super) value: OptionValue,
}

/// An option's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OptionValue {
    /// A string literal, or a bare word.
    Text(String),
    /// A whole number from 0.
    Number(u64),
    /// NULL.
    Null,
}

impl Entry {
    /// The error that the value is not what the option takes.
    pub(super) fn expected(&self, what: &str) -> Error {
        invalid(&format!("{} takes {what}", self.name), self.at)
    }
}

impl Options {
    /// The clause, if there is one.
    pub(super) fn parse(tokens: &mut Tokens<'_>) -> Result<Options> {
        let entries = if tokens.words(&["WITH"]) {
            tokens.parenthesized(entry)?
        } else {
            Vec::new()
        };
        let again = entries
            .iter()
            .enumerate()
            .find(|(i, entry): &(usize, &Entry)| {
                entries[..*i].iter().any(|other| other.name == entry.name)
            });
        match again {
            Some((_, entry)) => Err(invalid(&format!("{} is given twice", entry.name), entry.at)),
            None => Ok(Options { entries }),
        }
    }

    /// Takes the option called `name`, in lower case.
    pub(super) fn take(&mut self, name: &str) -> Option<Entry> {
        let position = self.entries.iter().position(|entry| entry.name == name)?;
        Some(self.entries.remove(position))
    }

    /// Refuses options that nobody took; `known` lists those there are.
    pub(super) fn none_left(&self, known: &str) -> Result<()> {
        match self.entries.first() {
            None => Ok(()),
            Some(entry) => Err(invalid(
                &format!("unknown option {}; there are {known}", entry.name),
                entry.at,
            )),
        }
    }
}

fn entry(tokens: &mut Tokens<'_>) -> Result<Entry> {
    let at = tokens.here();
    let name = tokens.name("an option")?;
    tokens.expect(&Token::Eq)?;
    let value = if tokens.words(&["NULL"]) {
        OptionValue::Null
    } else if tokens.at_number() {
        OptionValue::Number(tokens.number(&name)?)
    } else {
        OptionValue::Text(tokens.name_or_string_any("a value")?)
    };
    Ok(Entry { name, at, value })
}
