//! Payloads: the JSON a consumer sees of a message (CONTRACT §3.1).
//!
//! A message holds row images and the version of the renderer that was current when it was
//! appended. Payloads are made when they are read, and must come out the same for ever: the tests
//! below freeze them. Another form of output is another renderer version beside this one.

use std::collections::BTreeMap;
use std::sync::Arc;

use storage::{Error, Read, keys};
use types::cell::{JsonStyle, push_json_string, write_json};
use types::ids::{ColumnId, TableId, Version};
use types::row;
use types::schema::{PayloadMode, RowOp, Table};
use types::value::Value;

use crate::message::Message;

/// The renderer that new messages name.
pub const RENDERER_VERSION: u8 = 1;

/// Makes payloads. Keeps the table definitions it has read, so use one for all the messages of an
/// answer, and no longer than the view it reads from.
pub struct Renderer<'r> {
    read: &'r dyn Read,
    definitions: BTreeMap<(TableId, u32), Arc<Definition>>,
}

impl<'r> Renderer<'r> {
    /// A renderer that finds table definitions in `read`.
    pub fn new(read: &'r dyn Read) -> Renderer<'r> {
        Renderer {
            read,
            definitions: BTreeMap::new(),
        }
    }

    /// The payload of a message, as JSON text.
    ///
    /// # Errors
    /// Fatal only: an image or table definition that is damaged or missing is [`Error::Corrupt`], a
    /// renderer version of the future is [`Error::Foreign`].
    pub fn payload(&mut self, message: &Message<'_>) -> storage::Result<String> {
        if message.renderer != RENDERER_VERSION {
            return Err(Error::Foreign {
                what: format!(
                    "a message needs renderer {}, this version has {RENDERER_VERSION}",
                    message.renderer
                ),
            });
        }
        let mut out = String::with_capacity(256);
        match message.payload {
            PayloadMode::Full => self.full(message, &mut out)?,
            PayloadMode::Key => self.key(message, &mut out)?,
            PayloadMode::Diff => self.diff(message, &mut out)?,
        }
        Ok(out)
    }

    fn full(&mut self, message: &Message<'_>, out: &mut String) -> storage::Result<()> {
        let row = self.row(message, subject(message)?)?;
        out.push('{');
        for column in &row.definition.columns {
            row.write_field(column, out);
            out.push(',');
        }
        row.definition.write_table(out);
        out.push_str(",\"_deleted\":");
        out.push_str(if message.op == RowOp::Delete {
            "true}"
        } else {
            "false}"
        });
        Ok(())
    }

    fn key(&mut self, message: &Message<'_>, out: &mut String) -> storage::Result<()> {
        let row = self.row(message, subject(message)?)?;
        out.push('{');
        for id in &row.definition.primary_key {
            if let Some(column) = row
                .definition
                .columns
                .iter()
                .find(|column| column.id == *id)
            {
                row.write_field(column, out);
                out.push(',');
            }
        }
        row.definition.write_table(out);
        out.push('}');
        Ok(())
    }

    fn diff(&mut self, message: &Message<'_>, out: &mut String) -> storage::Result<()> {
        let before = message
            .before
            .map(|image| self.row(message, image))
            .transpose()?;
        let after = message
            .after
            .map(|image| self.row(message, image))
            .transpose()?;
        // The newer definition names the columns; a row older than one reads as its default.
        let Some(definition) = after
            .as_ref()
            .or(before.as_ref())
            .map(|row| &row.definition)
        else {
            return Err(no_image(message));
        };
        let changed = match (&before, &after) {
            (Some(before), Some(after)) => changed_columns(definition, before, after),
            _ => definition.columns.iter().collect(),
        };
        out.push_str("{\"before\":");
        write_side(before.as_ref(), &changed, out);
        out.push_str(",\"after\":");
        write_side(after.as_ref(), &changed, out);
        out.push(',');
        definition.write_table(out);
        out.push('}');
        Ok(())
    }

    fn row(&mut self, message: &Message<'_>, image: &[u8]) -> storage::Result<Row> {
        let damaged = |_| Error::Corrupt {
            what: format!(
                "a message of table {} holds a damaged row",
                message.table_id
            ),
        };
        let schema_version = row::schema_version(image).map_err(damaged)?;
        let definition = self.definition(message.table_id, schema_version)?;
        Ok(Row {
            definition,
            fields: row::decode(image).map_err(damaged)?,
        })
    }

    fn definition(&mut self, table: TableId, version: u32) -> storage::Result<Arc<Definition>> {
        if let Some(known) = self.definitions.get(&(table, version)) {
            return Ok(Arc::clone(known));
        }
        let unreadable = |why: &str| Error::Corrupt {
            what: format!("definition {version} of table {table}, which a message needs, {why}"),
        };
        let stored = self
            .read
            .get(&keys::catalog::table_version(table, version))?
            .ok_or_else(|| unreadable("is missing"))?;
        let (_, json) = Version::split(&stored).ok_or_else(|| unreadable("is cut short"))?;
        let record: Table =
            serde_json::from_slice(json).map_err(|e| unreadable(&format!("is damaged: {e}")))?;
        let definition =
            Definition::new(&record).map_err(|e| unreadable(&format!("is damaged: {e}")))?;
        let definition = Arc::new(definition);
        self.definitions
            .insert((table, version), Arc::clone(&definition));
        Ok(definition)
    }
}

/// What rendering needs of a table's definition.
struct Definition {
    qualified_name: String,
    columns: Vec<ColumnText>,
    primary_key: Vec<ColumnId>,
}

struct ColumnText {
    id: ColumnId,
    name: String,
    missing: Value,
}

impl Definition {
    fn new(table: &Table) -> Result<Definition, row::MalformedRow> {
        let columns = table
            .columns
            .iter()
            .map(|column| {
                let missing = match &column.missing {
                    None => Value::Null,
                    Some(field) => row::decode_field(field)?.1,
                };
                Ok(ColumnText {
                    id: column.id,
                    name: column.name.clone(),
                    missing,
                })
            })
            .collect::<Result<_, row::MalformedRow>>()?;
        Ok(Definition {
            qualified_name: table.qualified_name(),
            columns,
            primary_key: table.primary_key.clone(),
        })
    }

    fn write_table(&self, out: &mut String) {
        out.push_str("\"_table\":");
        push_json_string(out, &self.qualified_name);
    }
}

/// A row image, decoded.
struct Row {
    definition: Arc<Definition>,
    /// In ascending order of column id.
    fields: Vec<(ColumnId, Value)>,
}

impl Row {
    fn value<'a>(&'a self, column: &'a ColumnText) -> &'a Value {
        match self.fields.binary_search_by_key(&column.id, |(id, _)| *id) {
            Ok(at) => &self.fields[at].1,
            Err(_) => &column.missing,
        }
    }

    fn write_field(&self, column: &ColumnText, out: &mut String) {
        push_json_string(out, &column.name);
        out.push(':');
        write_json(self.value(column), JsonStyle::Payload, out);
    }
}

/// The image that `full` and `key` show.
fn subject<'a>(message: &Message<'a>) -> storage::Result<&'a [u8]> {
    match message.op {
        RowOp::Insert | RowOp::Update => message.after,
        RowOp::Delete => message.before,
    }
    .ok_or_else(|| no_image(message))
}

fn no_image(message: &Message<'_>) -> Error {
    Error::Corrupt {
        what: format!(
            "a message of table {} lacks the row it shows",
            message.table_id
        ),
    }
}

/// The columns a consumer would see change: compared as JSON, so that NaN equals itself.
fn changed_columns<'d>(
    definition: &'d Definition,
    before: &Row,
    after: &Row,
) -> Vec<&'d ColumnText> {
    let json = |row: &Row, column| {
        let mut text = String::new();
        write_json(row.value(column), JsonStyle::Payload, &mut text);
        text
    };
    definition
        .columns
        .iter()
        .filter(|c| json(before, c) != json(after, c))
        .collect()
}

fn write_side(row: Option<&Row>, columns: &[&ColumnText], out: &mut String) {
    let Some(row) = row else {
        out.push_str("null");
        return;
    };
    out.push('{');
    for (i, column) in columns.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        row.write_field(column, out);
    }
    out.push('}');
}
