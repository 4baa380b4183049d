//! Values as JSON: cells of SQL answers (CONTRACT §2.1) and of message payloads (§3.1).
//!
//! Messages are rendered when they are consumed, so this output must never change for a given
//! value: `tests/frozen_cells.rs` holds it. A change of form needs a new renderer version.

use std::fmt::Write;

use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat, TimeDelta, Timelike};

use crate::value::Value;

/// Where the JSON goes. The two differ only in JSON columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonStyle {
    /// A cell of a SQL answer: JSON columns are strings.
    Cell,
    /// A field of a message payload: JSON columns are inlined.
    Payload,
}

/// Appends the JSON form of `value` to `out`.
pub fn write_json(value: &Value, style: JsonStyle, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Boolean(v) => out.push_str(if *v { "true" } else { "false" }),
        Value::SmallInt(v) => push_display(out, v),
        Value::Int(v) => push_display(out, v),
        Value::BigInt(v) => push_quoted(out, v),
        Value::Float(v) => push_float(out, f64::from(*v), serde_json::to_string(v)),
        Value::Double(v) => push_float(out, *v, serde_json::to_string(v)),
        Value::Json(text) => match style {
            JsonStyle::Cell => push_json_string(out, text),
            JsonStyle::Payload => out.push_str(text),
        },
        Value::File(text) => out.push_str(text),
        Value::Bytes(bytes) => push_bytes(out, bytes),
        Value::Text(text) => push_json_string(out, text),
        Value::Decimal { .. }
        | Value::Timestamp(_)
        | Value::DateTime(_)
        | Value::Date(_)
        | Value::Time(_)
        | Value::Uuid(_) => push_quoted(out, &to_text(value)),
    }
}

/// The value as plain text: message keys, table and CSV output. NULL is the empty string.
pub fn to_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Boolean(v) => v.to_string(),
        Value::SmallInt(v) => v.to_string(),
        Value::Int(v) => v.to_string(),
        Value::BigInt(v) => v.to_string(),
        Value::Float(v) => v.to_string(),
        Value::Double(v) => v.to_string(),
        Value::Decimal { unscaled, scale } => decimal_text(*unscaled, *scale),
        Value::Text(v) | Value::Json(v) | Value::File(v) => v.clone(),
        Value::Timestamp(v) | Value::DateTime(v) => timestamp_text(*v),
        Value::Date(v) => date_text(*v),
        Value::Time(v) => time_text(*v),
        Value::Uuid(v) => uuid::Uuid::from_bytes(*v).hyphenated().to_string(),
        Value::Bytes(v) => v
            .iter()
            .fold(String::with_capacity(v.len() * 2), |mut text, byte| {
                push_display(&mut text, &format_args!("{byte:02x}"));
                text
            }),
    }
}

/// RFC 3339 in UTC, microseconds where there are any. Instants outside chrono's range (about
/// ±262 000 years) are clamped to its ends.
pub fn timestamp_text(micros: i64) -> String {
    let clamped = micros.clamp(
        DateTime::<chrono::Utc>::MIN_UTC.timestamp_micros(),
        DateTime::<chrono::Utc>::MAX_UTC.timestamp_micros(),
    );
    let instant = DateTime::from_timestamp_micros(clamped).unwrap_or(DateTime::UNIX_EPOCH);
    let format = if instant.nanosecond() == 0 {
        SecondsFormat::Secs
    } else {
        SecondsFormat::Micros
    };
    instant.to_rfc3339_opts(format, true)
}

/// Days outside chrono's range are clamped to its ends, as [`timestamp_text`] does.
fn date_text(days: i32) -> String {
    let end = if days < 0 {
        NaiveDate::MIN
    } else {
        NaiveDate::MAX
    };
    let days = TimeDelta::days(i64::from(days));
    let date = NaiveDate::default().checked_add_signed(days).unwrap_or(end);
    date.format("%Y-%m-%d").to_string()
}

fn time_text(micros: i64) -> String {
    let seconds = u32::try_from(micros.div_euclid(1_000_000)).unwrap_or(0);
    let nanos = u32::try_from(micros.rem_euclid(1_000_000)).unwrap_or(0) * 1_000;
    let time = NaiveTime::from_num_seconds_from_midnight_opt(seconds, nanos).unwrap_or_default();
    time.format("%H:%M:%S%.6f").to_string()
}

/// `unscaled` × 10^-`scale` in plain digits.
fn decimal_text(unscaled: i128, scale: u8) -> String {
    let digits = unscaled.unsigned_abs().to_string();
    let scale = usize::from(scale);
    let sign = if unscaled < 0 { "-" } else { "" };
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// JSON has no NaN or infinities; they become strings, as in PostgreSQL's `to_json`.
fn push_float(out: &mut String, value: f64, finite: serde_json::Result<String>) {
    match finite {
        Ok(text) if value.is_finite() => out.push_str(&text),
        _ if value.is_nan() => out.push_str("\"NaN\""),
        _ if value > 0.0 => out.push_str("\"Infinity\""),
        _ => out.push_str("\"-Infinity\""),
    }
}

fn push_bytes(out: &mut String, bytes: &[u8]) {
    out.push('[');
    for (i, byte) in bytes.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_display(out, byte);
    }
    out.push(']');
}

/// Appends `text` as a JSON string, quoted and escaped.
pub fn push_json_string(out: &mut String, text: &str) {
    match serde_json::to_string(text) {
        Ok(quoted) => out.push_str(&quoted),
        Err(e) => unreachable!("a str always serializes: {e}"),
    }
}

fn push_quoted(out: &mut String, value: &impl std::fmt::Display) {
    out.push('"');
    push_display(out, value);
    out.push('"');
}

fn push_display(out: &mut String, value: &impl std::fmt::Display) {
    if write!(out, "{value}").is_err() {
        unreachable!("writing to a String cannot fail");
    }
}
