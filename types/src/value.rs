//! Column types and values.

use serde::{Deserialize, Serialize};

/// Most digits of a DECIMAL.
pub const DECIMAL_PRECISION_MAX: u8 = 38;

/// A column's type (CONTRACT §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DataType {
    /// true or false.
    Boolean,
    /// 16-bit signed integer.
    SmallInt,
    /// 32-bit signed integer.
    Int,
    /// 64-bit signed integer.
    BigInt,
    /// 32-bit IEEE 754.
    Float,
    /// 64-bit IEEE 754.
    Double,
    /// Exact number of `precision` digits, `scale` of them after the point.
    Decimal {
        /// Digits in all, 1 to [`DECIMAL_PRECISION_MAX`].
        precision: u8,
        /// Digits after the point, 0 to `precision`.
        scale: u8,
    },
    /// UTF-8 text.
    Text,
    /// Instant, microseconds, UTC.
    Timestamp,
    /// Instant, microseconds, UTC; kept apart from `Timestamp` only in its name.
    DateTime,
    /// Day.
    Date,
    /// Time of day, microseconds.
    Time,
    /// 128-bit UUID.
    Uuid,
    /// JSON text, checked when written.
    Json,
    /// Bytes.
    Bytes,
    /// Reference to a stored file, a JSON object.
    File,
}

/// A value of a column. `PartialEq` is structural (NaN differs from NaN); SQL comparison is the
/// query engine's business.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// SQL NULL, of any type.
    Null,
    /// BOOLEAN.
    Boolean(bool),
    /// SMALLINT.
    SmallInt(i16),
    /// INT.
    Int(i32),
    /// BIGINT.
    BigInt(i64),
    /// FLOAT.
    Float(f32),
    /// DOUBLE.
    Double(f64),
    /// DECIMAL: `unscaled` × 10^-`scale`.
    Decimal {
        /// All digits.
        unscaled: i128,
        /// Digits after the point.
        scale: u8,
    },
    /// TEXT.
    Text(String),
    /// TIMESTAMP: microseconds since 1970-01-01T00:00:00Z.
    Timestamp(i64),
    /// DATETIME: microseconds since 1970-01-01T00:00:00Z.
    DateTime(i64),
    /// DATE: days since 1970-01-01.
    Date(i32),
    /// TIME: microseconds since midnight.
    Time(i64),
    /// UUID.
    Uuid([u8; 16]),
    /// JSON text.
    Json(String),
    /// BYTES.
    Bytes(Vec<u8>),
    /// FILE: the reference as JSON text.
    File(String),
}

impl Value {
    /// Is it SQL NULL?
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }
}
