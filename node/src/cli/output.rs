//! Result sets as an aligned table, as JSON and as CSV.

use std::io::{self, Write};

use client::api::ResultSet;
use client::api::sql::{DataType, SchemaField};
use serde_json::{Map, Value};
use unicode_width::UnicodeWidthStr;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns for people
    #[default]
    Table,
    /// One JSON document per statement: an array of row objects, or what a write did
    Json,
    /// RFC 4180 with a header line; null is empty
    Csv,
}

/// Prints one result. What a statement without rows did goes to stderr in CSV, which has no place
/// for it.
pub fn result(out: &mut dyn Write, result: &ResultSet, format: Format) -> io::Result<()> {
    let Some(rows) = &result.rows else {
        return no_rows(out, result, format);
    };
    match format {
        Format::Table => {
            let right: Vec<bool> = result
                .schema
                .iter()
                .map(|field| is_number(field.data_type))
                .collect();
            let names = result.schema.iter().zip(&right);
            let headers: Vec<Cell> = names
                .map(|(field, right)| Cell::new(field.name.clone(), *right))
                .collect();
            let lines = rows.iter().map(|row| {
                let cells = row.iter().enumerate();
                cells
                    .map(|(i, value)| Cell::new(text(value), right.get(i) == Some(&true)))
                    .collect()
            });
            table(out, &headers, &lines.collect::<Vec<Vec<Cell>>>())?;
            let plural = if rows.len() == 1 { "row" } else { "rows" };
            writeln!(out, "({} {plural})", rows.len())?;
            if let Some(lease_id) = &result.lease_id {
                writeln!(out, "lease {lease_id}")?;
            }
            Ok(())
        }
        Format::Json => {
            let objects: Vec<String> = rows
                .iter()
                .map(|row| json_object(&result.schema, row))
                .collect();
            writeln!(out, "[{}]", objects.join(","))
        }
        Format::Csv => {
            let names: Vec<String> = result
                .schema
                .iter()
                .map(|field| field.name.clone())
                .collect();
            csv_line(out, names.iter().map(|name| Some(name.clone())))?;
            for row in rows {
                csv_line(out, row.iter().map(csv_text))?;
            }
            Ok(())
        }
    }
}

/// Written by hand, because the columns keep their order, and a name may be there twice.
fn json_object(schema: &[SchemaField], row: &[Value]) -> String {
    let fields: Vec<String> = schema
        .iter()
        .zip(row)
        .map(|(field, value)| format!("{}:{value}", Value::from(field.name.as_str())))
        .collect();
    format!("{{{}}}", fields.join(","))
}

fn no_rows(out: &mut dyn Write, result: &ResultSet, format: Format) -> io::Result<()> {
    let message = result.message.as_deref().unwrap_or("Done");
    match format {
        Format::Table => writeln!(out, "{message}"),
        Format::Json => {
            let mut object = Map::new();
            object.insert("message".into(), message.into());
            object.insert("row_count".into(), result.row_count.into());
            if let Some(receipt) = &result.receipt {
                object.insert("receipt".into(), serde_json::to_value(receipt)?);
            }
            writeln!(out, "{}", Value::Object(object))
        }
        Format::Csv => {
            eprintln!("{message}");
            Ok(())
        }
    }
}

/// One cell of an aligned table.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    right: bool,
}

impl Cell {
    /// A cell whose text starts at the column's left edge.
    pub fn left(text: impl Into<String>) -> Cell {
        Cell::new(text.into(), false)
    }

    /// A cell whose text ends at the column's right edge, for numbers.
    pub fn right(text: impl ToString) -> Cell {
        Cell::new(text.to_string(), true)
    }

    fn new(text: String, right: bool) -> Cell {
        Cell {
            text: one_line(&text),
            right,
        }
    }
}

/// A number of bytes as people read it, in powers of 1024.
pub fn in_units(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = UNITS[0];
    for larger in &UNITS[1..] {
        // What would be rounded to 1024.0 is 1.0 of the next one.
        if value < 1_023.95 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    format!("{value:.1} {unit}")
}

/// Prints a header, a rule and rows, with columns as wide as their widest cell.
pub fn table(out: &mut dyn Write, headers: &[Cell], rows: &[Vec<Cell>]) -> io::Result<()> {
    let mut widths: Vec<usize> = headers.iter().map(|cell| cell.text.width()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text.width());
        }
    }
    table_line(out, headers, &widths)?;
    let rules: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
    writeln!(out, "{}", rules.join("+"))?;
    for row in rows {
        table_line(out, row, &widths)?;
    }
    Ok(())
}

fn table_line(out: &mut dyn Write, cells: &[Cell], widths: &[usize]) -> io::Result<()> {
    let padded: Vec<String> = cells
        .iter()
        .zip(widths)
        .map(|(cell, width)| {
            let space = " ".repeat(width - cell.text.width());
            if cell.right {
                format!(" {space}{} ", cell.text)
            } else {
                format!(" {}{space} ", cell.text)
            }
        })
        .collect();
    writeln!(out, "{}", padded.join("|").trim_end())
}

/// Control characters would break the table, or worse, steer the terminal.
fn one_line(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.chars()
            .flat_map(|c| {
                if c.is_control() {
                    c.escape_default().to_string()
                } else {
                    c.into()
                }
                .chars()
                .collect::<Vec<_>>()
            })
            .collect()
    } else {
        text.to_owned()
    }
}

/// A cell for people: text as it is, bytes as text if they are UTF-8.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::String(text) => text.clone(),
        Value::Array(_) => match bytes(value) {
            Some(bytes) => match String::from_utf8(bytes) {
                Ok(text) => text,
                Err(error) => hex(error.as_bytes()),
            },
            None => value.to_string(),
        },
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

/// A cell for programs: like [`text`], but bytes always in hexadecimal, and null is no text.
fn csv_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Array(_) => Some(bytes(value).map_or_else(|| value.to_string(), |b| hex(&b))),
        _ => Some(text(value)),
    }
}

/// The bytes of a BYTES cell.
pub fn bytes(value: &Value) -> Option<Vec<u8>> {
    let numbers = value.as_array()?.iter();
    numbers
        .map(|number| number.as_u64().and_then(|byte| u8::try_from(byte).ok()))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\\x{digits}")
}

fn csv_line(out: &mut dyn Write, cells: impl Iterator<Item = Option<String>>) -> io::Result<()> {
    let cells: Vec<String> = cells.map(csv_cell).collect();
    // RFC 4180 ends lines with CRLF.
    write!(out, "{}\r\n", cells.join(","))
}

/// Quoted where it must be; an empty text too, because null is the cell without quotes.
fn csv_cell(text: Option<String>) -> String {
    match text {
        None => String::new(),
        Some(text) if text.is_empty() || text.contains([',', '"', '\r', '\n']) => {
            format!("\"{}\"", text.replace('"', "\"\""))
        }
        Some(text) => text,
    }
}

fn is_number(data_type: DataType) -> bool {
    use DataType::*;
    match data_type {
        SmallInt | Int | BigInt | Float | Double | Decimal { .. } => true,
        Boolean | Text | Timestamp | Date | DateTime | Time | Json | Bytes | Uuid | File => false,
    }
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
