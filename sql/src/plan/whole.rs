//! All rows of a table, whoever owns them: what an index is built of, and NOT NULL checked on.

use storage::keys::rows as keys;
use types::command::Expectation;
use types::schema::Table;

use super::context::{Context, invalid};
use super::draft::Draft;
use crate::failure::Result;
use crate::query::{StoredRow, every_row};

/// The rows, in order of their keys. The draft holds only if they are still all, as they are.
///
/// # Errors
/// `VALUE_TOO_LARGE` if there are more than one statement may read; `INVALID_INPUT` within a
/// transaction, which may have written some of them itself.
pub(super) fn rows(
    context: &Context<'_>,
    draft: &mut Draft,
    table: &Table,
    what: &str,
) -> Result<Vec<StoredRow>> {
    if context.in_transaction {
        return Err(invalid(format!("{what} cannot stand in a transaction")).into());
    }
    let rows = every_row(&*context.read, table)?;
    let newest = rows.iter().map(|row| row.version.index).max().unwrap_or(0);
    let prefix = keys::table_prefix(table.id);
    let unchanged = Expectation::prefix_unchanged(prefix, newest, rows.len() as u64);
    draft.expect([unchanged]);
    Ok(rows)
}
