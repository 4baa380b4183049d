//! Values of one type as another: what an assignment does.
//!
//! As in PostgreSQL an assignment converts between numbers, between dates and times, and anything
//! to TEXT; numbers are rounded half away from zero, and what is out of range is refused. Text is
//! read as a value of any type, because parameters come as text.

use chrono::{DateTime, Utc};
use datafusion::arrow::array::types::Date32Type;
use datafusion::arrow::compute::kernels::cast_utils::{
    Parser, string_to_datetime, string_to_time_nanoseconds,
};
use serde::de::IgnoredAny;
use types::cell::to_text;
use types::limits::ROW_MAX_BYTES;
use types::value::{DataType, Value};
use types::{Error, ErrorCode, Result};

const MICROS_PER_DAY: i64 = 86_400_000_000;
/// Longest piece of a value that an error repeats, in characters.
const QUOTED_MAX_CHARS: usize = 40;
/// Digits before the point from which a FLOAT is spelt with an exponent.
const FLOAT_DIGITS: i32 = 6;
/// The same for DOUBLE.
const DOUBLE_DIGITS: i32 = 15;

/// `value` as a column of type `to` stores it.
///
/// # Errors
/// `TYPE_MISMATCH` if values of that type are not assigned to such a column, if the value is out
/// of its range, or if it is text that does not say such a value; `VALUE_TOO_LARGE` for text and
/// bytes that no row can hold.
pub fn cast(value: Value, to: DataType) -> Result<Value> {
    let cast = match (value, to) {
        (Value::Null, _) => Some(Value::Null),
        (value @ (Value::Text(_) | Value::Json(_) | Value::File(_) | Value::Bytes(_)), to)
            if is_of(&value, to) =>
        {
            return check_size(value);
        }
        (value, to) if is_of(&value, to) => Some(value),
        (Value::Text(text), to) => {
            return check_size(from_text(&text, to).ok_or_else(|| mismatch_text(&text, to))?);
        }
        (value, DataType::Text) => text_of(value),
        (Value::Timestamp(v), DataType::DateTime) => Some(Value::DateTime(v)),
        (Value::DateTime(v), DataType::Timestamp) => Some(Value::Timestamp(v)),
        (Value::Timestamp(v) | Value::DateTime(v), DataType::Date) => {
            i32::try_from(v.div_euclid(MICROS_PER_DAY))
                .ok()
                .map(Value::Date)
        }
        (Value::Timestamp(v) | Value::DateTime(v), DataType::Time) => {
            Some(Value::Time(v.rem_euclid(MICROS_PER_DAY)))
        }
        (Value::Date(v), DataType::Timestamp) => days_to_micros(v).map(Value::Timestamp),
        (Value::Date(v), DataType::DateTime) => days_to_micros(v).map(Value::DateTime),
        (Value::Json(text), DataType::File) if is_object(&text) => Some(Value::File(text)),
        (Value::File(text), DataType::Json) => Some(Value::Json(text)),
        (value, to) => return number(&value, to).ok_or_else(|| mismatch(&value, to)),
    };
    cast.ok_or_else(|| {
        Error::new(
            ErrorCode::TypeMismatch,
            format!("the value is out of range for {}", name(to)),
        )
    })
}

/// A type as SQL spells it.
pub fn name(data_type: DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN",
        DataType::SmallInt => "SMALLINT",
        DataType::Int => "INT",
        DataType::BigInt => "BIGINT",
        DataType::Float => "FLOAT",
        DataType::Double => "DOUBLE",
        DataType::Decimal { precision, scale } => return format!("DECIMAL({precision},{scale})"),
        DataType::Text => "TEXT",
        DataType::Timestamp => "TIMESTAMP",
        DataType::DateTime => "DATETIME",
        DataType::Date => "DATE",
        DataType::Time => "TIME",
        DataType::Uuid => "UUID",
        DataType::Json => "JSON",
        DataType::Bytes => "BYTES",
        DataType::File => "FILE",
    }
    .to_owned()
}

fn is_of(value: &Value, data_type: DataType) -> bool {
    matches!(
        (value, data_type),
        (Value::Boolean(_), DataType::Boolean)
            | (Value::SmallInt(_), DataType::SmallInt)
            | (Value::Int(_), DataType::Int)
            | (Value::BigInt(_), DataType::BigInt)
            | (Value::Float(_), DataType::Float)
            | (Value::Double(_), DataType::Double)
            | (Value::Text(_), DataType::Text)
            | (Value::Timestamp(_), DataType::Timestamp)
            | (Value::DateTime(_), DataType::DateTime)
            | (Value::Date(_), DataType::Date)
            | (Value::Time(_), DataType::Time)
            | (Value::Uuid(_), DataType::Uuid)
            | (Value::Json(_), DataType::Json)
            | (Value::Bytes(_), DataType::Bytes)
            | (Value::File(_), DataType::File)
    )
}

fn check_size(value: Value) -> Result<Value> {
    let bytes = match &value {
        Value::Text(text) | Value::Json(text) | Value::File(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => 0,
    };
    if bytes > ROW_MAX_BYTES {
        return Err(Error::new(
            ErrorCode::ValueTooLarge,
            format!("a value of {bytes} bytes is larger than a row may be ({ROW_MAX_BYTES})"),
        ));
    }
    Ok(value)
}

fn text_of(value: Value) -> Option<Value> {
    match value {
        Value::Bytes(_) => None,
        Value::Json(text) | Value::File(text) => Some(Value::Text(text)),
        Value::Float(v) => Some(Value::Text(float_text(
            f64::from(v),
            &format!("{v:e}"),
            FLOAT_DIGITS,
        ))),
        Value::Double(v) => Some(Value::Text(float_text(v, &format!("{v:e}"), DOUBLE_DIGITS))),
        other => Some(Value::Text(to_text(&other))),
    }
}

/// A float as PostgreSQL spells it. `scientific` has its shortest digits: `-1.5e-7`. Numbers from
/// 10^`digits` and those below 0.0001 have an exponent.
fn float_text(value: f64, scientific: &str, digits: i32) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..digits).contains(&exponent) {
        let (sign, mantissa) = match mantissa.strip_prefix('-') {
            Some(rest) => ("-", rest),
            None => ("", mantissa),
        };
        return format!("{sign}{}", plain_digits(mantissa, exponent));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

/// `mantissa` × 10^`exponent` without an exponent; one digit stands before the mantissa's point.
fn plain_digits(mantissa: &str, exponent: i32) -> String {
    let digits = mantissa.replace('.', "");
    let shift = usize::try_from(exponent.unsigned_abs()).unwrap_or(0);
    if exponent < 0 {
        return format!("0.{}{digits}", "0".repeat(shift.saturating_sub(1)));
    }
    if digits.len() <= shift + 1 {
        return format!("{digits:0<width$}", width = shift + 1);
    }
    let (whole, fraction) = digits.split_at(shift + 1);
    format!("{whole}.{fraction}")
}

fn mismatch(value: &Value, to: DataType) -> Error {
    let what = match value {
        Value::Bytes(_) => "a BYTES value".to_owned(),
        Value::Json(_) => "a JSON value".to_owned(),
        Value::File(_) => "a FILE value".to_owned(),
        other => to_text(other),
    };
    Error::new(
        ErrorCode::TypeMismatch,
        format!("{what} cannot be stored as {}", name(to)),
    )
}

fn mismatch_text(text: &str, to: DataType) -> Error {
    let mut quoted: String = text.chars().take(QUOTED_MAX_CHARS).collect();
    if quoted.len() < text.len() {
        quoted.push('…');
    }
    Error::new(
        ErrorCode::TypeMismatch,
        format!("'{quoted}' is not a valid {}", name(to)),
    )
}

// ---- Text -------------------------------------------------------------------------------------

/// The value that `text` says; none if it says none of that type.
pub fn from_text(text: &str, to: DataType) -> Option<Value> {
    let trimmed = text.trim();
    match to {
        DataType::Text => Some(Value::Text(text.to_owned())),
        DataType::Boolean => boolean(trimmed).map(Value::Boolean),
        DataType::SmallInt => trimmed.parse().ok().map(Value::SmallInt),
        DataType::Int => trimmed.parse().ok().map(Value::Int),
        DataType::BigInt => trimmed.parse().ok().map(Value::BigInt),
        DataType::Float => {
            let value: f32 = trimmed.parse().ok()?;
            (value.is_finite() || !trimmed.contains(|c: char| c.is_ascii_digit()))
                .then_some(Value::Float(value))
        }
        DataType::Double => {
            let value: f64 = trimmed.parse().ok()?;
            (value.is_finite() || !trimmed.contains(|c: char| c.is_ascii_digit()))
                .then_some(Value::Double(value))
        }
        DataType::Decimal { precision, scale } => decimal_from_text(trimmed, precision, scale)
            .map(|unscaled| Value::Decimal { unscaled, scale }),
        DataType::Timestamp => instant(trimmed).map(Value::Timestamp),
        DataType::DateTime => instant(trimmed).map(Value::DateTime),
        DataType::Date => Date32Type::parse(trimmed)
            .or_else(|| i32::try_from(instant(trimmed)?.div_euclid(MICROS_PER_DAY)).ok())
            .map(Value::Date),
        DataType::Time => {
            let nanos = string_to_time_nanoseconds(trimmed).ok()?;
            let micros = nanos.div_euclid(1_000);
            (0..MICROS_PER_DAY)
                .contains(&micros)
                .then_some(Value::Time(micros))
        }
        DataType::Uuid => uuid::Uuid::try_parse(trimmed)
            .ok()
            .map(|uuid| Value::Uuid(uuid.into_bytes())),
        DataType::Json => is_json(text).then(|| Value::Json(text.to_owned())),
        DataType::File => is_object(text).then(|| Value::File(text.to_owned())),
        DataType::Bytes => match text.strip_prefix("\\x") {
            Some(hex) => hex_bytes(hex).map(Value::Bytes),
            None => Some(Value::Bytes(text.as_bytes().to_vec())),
        },
    }
}

/// As PostgreSQL reads booleans.
fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// Microseconds since 1970. Without a time zone the text is UTC.
fn instant(text: &str) -> Option<i64> {
    let instant: DateTime<Utc> = string_to_datetime(&Utc, text).ok()?;
    Some(instant.timestamp_micros())
}

/// Does not recurse, however deep the text nests.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

fn is_object(text: &str) -> bool {
    text.trim_start().starts_with('{') && is_json(text)
}

fn hex_bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = hex
        .chars()
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect();
    let digits = digits?;
    (digits.len() % 2 == 0).then(|| {
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    })
}

fn days_to_micros(days: i32) -> Option<i64> {
    i64::from(days).checked_mul(MICROS_PER_DAY)
}

// ---- Numbers ----------------------------------------------------------------------------------

/// A number as another type of number.
fn number(value: &Value, to: DataType) -> Option<Value> {
    match to {
        DataType::SmallInt => i16::try_from(integer(value)?).ok().map(Value::SmallInt),
        DataType::Int => i32::try_from(integer(value)?).ok().map(Value::Int),
        DataType::BigInt => i64::try_from(integer(value)?).ok().map(Value::BigInt),
        DataType::Double => double(value).map(Value::Double),
        DataType::Float => {
            let wide = double(value)?;
            let narrow = wide as f32;
            (narrow.is_finite() || !wide.is_finite()).then_some(Value::Float(narrow))
        }
        DataType::Decimal { precision, scale } => {
            decimal(value, precision, scale).map(|unscaled| Value::Decimal { unscaled, scale })
        }
        _ => None,
    }
}

/// The nearest whole number.
fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::SmallInt(v) => Some(i128::from(*v)),
        Value::Int(v) => Some(i128::from(*v)),
        Value::BigInt(v) => Some(i128::from(*v)),
        Value::Float(v) => whole(f64::from(*v)),
        Value::Double(v) => whole(*v),
        Value::Decimal { unscaled, scale } => rescale(*unscaled, *scale, 0),
        _ => None,
    }
}

fn whole(value: f64) -> Option<i128> {
    // Far beyond every integer column, and exact in f64.
    (value.abs() < 1e30).then(|| value.round() as i128)
}

fn double(value: &Value) -> Option<f64> {
    match value {
        Value::SmallInt(v) => Some(f64::from(*v)),
        Value::Int(v) => Some(f64::from(*v)),
        Value::BigInt(v) => Some(*v as f64),
        Value::Float(v) => Some(f64::from(*v)),
        Value::Double(v) => Some(*v),
        // The nearest double, which dividing would not always give.
        Value::Decimal { .. } => to_text(value).parse().ok(),
        _ => None,
    }
}

fn decimal(value: &Value, precision: u8, scale: u8) -> Option<i128> {
    let unscaled = match value {
        Value::SmallInt(v) => rescale(i128::from(*v), 0, scale)?,
        Value::Int(v) => rescale(i128::from(*v), 0, scale)?,
        Value::BigInt(v) => rescale(i128::from(*v), 0, scale)?,
        Value::Decimal {
            unscaled,
            scale: from,
        } => rescale(*unscaled, *from, scale)?,
        // The shortest digits that say the float, as PostgreSQL takes them.
        Value::Float(v) => return decimal_from_text(&v.to_string(), precision, scale),
        Value::Double(v) => return decimal_from_text(&v.to_string(), precision, scale),
        _ => return None,
    };
    fits(unscaled, precision).then_some(unscaled)
}

fn fits(unscaled: i128, precision: u8) -> bool {
    10_u128
        .checked_pow(u32::from(precision))
        .is_none_or(|bound| unscaled.unsigned_abs() < bound)
}

/// `unscaled` × 10^-`from` with `to` digits after the point, rounded half away from zero.
fn rescale(unscaled: i128, from: u8, to: u8) -> Option<i128> {
    if to >= from {
        return unscaled.checked_mul(10_i128.checked_pow(u32::from(to - from))?);
    }
    let Some(divisor) = 10_i128.checked_pow(u32::from(from - to)) else {
        return Some(0);
    };
    let (quotient, remainder) = (unscaled / divisor, unscaled % divisor);
    let up = i128::from(remainder.unsigned_abs() >= divisor.unsigned_abs().div_ceil(2));
    Some(quotient + up * unscaled.signum())
}

/// Reads `[+-]digits[.digits][e[+-]digits]` exactly, then rounds half away from zero.
pub fn decimal_from_text(text: &str, precision: u8, scale: u8) -> Option<i128> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // The digit before which the point stands once the value is multiplied by 10^scale.
    let point = i64::try_from(whole.len()).ok()? + i64::from(exponent) + i64::from(scale);
    let kept = usize::try_from(point.max(0)).ok()?;
    let mut unscaled = 0_i128;
    for at in 0..kept {
        let digit = digits.get(at).map_or(0, |d| i128::from(d - b'0'));
        if at >= digits.len() && unscaled == 0 {
            break;
        }
        unscaled = unscaled.checked_mul(10)?.checked_add(digit)?;
    }
    if point >= 0 && digits.get(kept).is_some_and(|d| *d >= b'5') {
        unscaled = unscaled.checked_add(1)?;
    }
    fits(unscaled, precision).then_some(if negative { -unscaled } else { unscaled })
}

#[cfg(test)]
#[path = "cast_tests.rs"]
mod tests;
