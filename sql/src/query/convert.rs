//! Values and Arrow arrays.
//!
//! Arrow has no UUID, JSON or FILE, and one timestamp where SQL has two. Such columns are Arrow
//! text (UUIDs in their canonical form, whose order is the UUIDs' order) or Arrow timestamps, and
//! the field's metadata names the type. Projections keep a field's metadata, so the type comes
//! back; what an expression derives has the natural type of its Arrow type.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanBuilder, PrimitiveBuilder, StringBuilder,
};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{ArrowPrimitiveType, DataType as ArrowType, Field, TimeUnit};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::FormatOptions;
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err};
use types::cell::{JsonStyle, push_json_string, to_text, write_json};
use types::value::{DECIMAL_PRECISION_MAX, DataType, Value};

/// Metadata key: the name of the type where the Arrow type does not say it.
const TYPE_KEY: &str = "duet.type";
/// Metadata key: the flags of a table's column, in the form of [`flags`].
const FLAGS_KEY: &str = "duet.flags";
/// The time zone of all our timestamps.
const UTC: &str = "+00:00";

/// The Arrow type values of `data_type` have in arrays.
pub fn arrow_type(data_type: DataType) -> ArrowType {
    match data_type {
        DataType::Boolean => ArrowType::Boolean,
        DataType::SmallInt => ArrowType::Int16,
        DataType::Int => ArrowType::Int32,
        DataType::BigInt => ArrowType::Int64,
        DataType::Float => ArrowType::Float32,
        DataType::Double => ArrowType::Float64,
        DataType::Decimal { precision, scale } => {
            ArrowType::Decimal128(precision, i8::try_from(scale).unwrap_or(i8::MAX))
        }
        DataType::Text | DataType::Uuid | DataType::Json | DataType::File => ArrowType::Utf8,
        DataType::Timestamp | DataType::DateTime => {
            ArrowType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
        }
        DataType::Date => ArrowType::Date32,
        DataType::Time => ArrowType::Time64(TimeUnit::Microsecond),
        DataType::Bytes => ArrowType::Binary,
    }
}

/// An Arrow field for values of `data_type`.
pub fn field(name: &str, data_type: DataType, nullable: bool) -> Field {
    let field = Field::new(name, arrow_type(data_type), nullable);
    let tag = match data_type {
        DataType::Uuid => "Uuid",
        DataType::Json => "Json",
        DataType::File => "File",
        DataType::DateTime => "DateTime",
        _ => return field,
    };
    field.with_metadata(HashMap::from([(TYPE_KEY.to_owned(), tag.to_owned())]))
}

/// A table's column as an Arrow field.
pub fn column_field(name: &str, data_type: DataType, nullable: bool, in_key: bool) -> Field {
    let mut field = field(name, data_type, nullable);
    let flags = match (in_key, nullable) {
        (true, _) => "pk,nn",
        (false, false) => "nn",
        (false, true) => return field,
    };
    let mut metadata = field.metadata().clone();
    metadata.insert(FLAGS_KEY.to_owned(), flags.to_owned());
    field.set_metadata(metadata);
    field
}

/// What a result column says of the column behind it: `pk`, `nn`.
pub fn flags(field: &Field) -> Vec<&'static str> {
    let flags = field.metadata().get(FLAGS_KEY).map_or("", String::as_str);
    ["pk", "nn"]
        .into_iter()
        // The other side of an outer join makes nulls of what never is null.
        .filter(|flag| flags.split(',').any(|f| f == *flag) && !field.is_nullable())
        .collect()
}

/// The type that values of an Arrow field have in SQL. Types that SQL has not are shown as the
/// nearest one that holds them, lists and structures as JSON.
pub fn data_type(field: &Field) -> DataType {
    let tag = field.metadata().get(TYPE_KEY).map_or("", String::as_str);
    match (natural_type(field.data_type()), tag) {
        (DataType::Text, "Uuid") => DataType::Uuid,
        (DataType::Text, "Json") => DataType::Json,
        (DataType::Text, "File") => DataType::File,
        (DataType::Timestamp, "DateTime") => DataType::DateTime,
        (natural, _) => natural,
    }
}

fn natural_type(arrow: &ArrowType) -> DataType {
    match arrow {
        ArrowType::Boolean => DataType::Boolean,
        ArrowType::Int8 | ArrowType::UInt8 | ArrowType::Int16 => DataType::SmallInt,
        ArrowType::UInt16 | ArrowType::Int32 => DataType::Int,
        ArrowType::UInt32 | ArrowType::Int64 | ArrowType::UInt64 => DataType::BigInt,
        ArrowType::Float16 | ArrowType::Float32 => DataType::Float,
        ArrowType::Float64 => DataType::Double,
        ArrowType::Decimal32(precision, scale)
        | ArrowType::Decimal64(precision, scale)
        | ArrowType::Decimal128(precision, scale)
        | ArrowType::Decimal256(precision, scale) => DataType::Decimal {
            precision: (*precision).min(DECIMAL_PRECISION_MAX),
            scale: u8::try_from(*scale).unwrap_or(0).min(DECIMAL_PRECISION_MAX),
        },
        ArrowType::Timestamp(..) => DataType::Timestamp,
        ArrowType::Date32 | ArrowType::Date64 => DataType::Date,
        ArrowType::Time32(_) | ArrowType::Time64(_) => DataType::Time,
        ArrowType::Binary
        | ArrowType::LargeBinary
        | ArrowType::BinaryView
        | ArrowType::FixedSizeBinary(_) => DataType::Bytes,
        ArrowType::Dictionary(_, values) => natural_type(values),
        nested if is_nested(nested) => DataType::Json,
        _ => DataType::Text,
    }
}

fn is_nested(arrow: &ArrowType) -> bool {
    matches!(
        arrow,
        ArrowType::List(_)
            | ArrowType::LargeList(_)
            | ArrowType::FixedSizeList(..)
            | ArrowType::ListView(_)
            | ArrowType::LargeListView(_)
            | ArrowType::Struct(_)
            | ArrowType::Map(..)
    )
}

// ---- From values to arrays --------------------------------------------------------------------

/// Builds an array of one column's values.
#[derive(Debug)]
pub enum ColumnBuilder {
    /// BOOLEAN.
    Boolean(BooleanBuilder),
    /// SMALLINT.
    SmallInt(PrimitiveBuilder<Int16Type>),
    /// INT.
    Int(PrimitiveBuilder<Int32Type>),
    /// BIGINT.
    BigInt(PrimitiveBuilder<Int64Type>),
    /// FLOAT.
    Float(PrimitiveBuilder<Float32Type>),
    /// DOUBLE.
    Double(PrimitiveBuilder<Float64Type>),
    /// DECIMAL of this scale.
    Decimal(PrimitiveBuilder<Decimal128Type>, u8),
    /// TEXT, UUID, JSON, FILE.
    Text(StringBuilder),
    /// TIMESTAMP, DATETIME.
    Timestamp(PrimitiveBuilder<TimestampMicrosecondType>),
    /// DATE.
    Date(PrimitiveBuilder<Date32Type>),
    /// TIME.
    Time(PrimitiveBuilder<Time64MicrosecondType>),
    /// BYTES.
    Bytes(BinaryBuilder),
}

impl ColumnBuilder {
    /// A builder for values of `data_type`.
    pub fn new(data_type: DataType) -> ColumnBuilder {
        match data_type {
            DataType::Boolean => ColumnBuilder::Boolean(BooleanBuilder::new()),
            DataType::SmallInt => ColumnBuilder::SmallInt(PrimitiveBuilder::new()),
            DataType::Int => ColumnBuilder::Int(PrimitiveBuilder::new()),
            DataType::BigInt => ColumnBuilder::BigInt(PrimitiveBuilder::new()),
            DataType::Float => ColumnBuilder::Float(PrimitiveBuilder::new()),
            DataType::Double => ColumnBuilder::Double(PrimitiveBuilder::new()),
            DataType::Decimal { scale, .. } => {
                let builder = PrimitiveBuilder::new().with_data_type(arrow_type(data_type));
                ColumnBuilder::Decimal(builder, scale)
            }
            DataType::Text | DataType::Uuid | DataType::Json | DataType::File => {
                ColumnBuilder::Text(StringBuilder::new())
            }
            DataType::Timestamp | DataType::DateTime => ColumnBuilder::Timestamp(
                PrimitiveBuilder::new().with_data_type(arrow_type(data_type)),
            ),
            DataType::Date => ColumnBuilder::Date(PrimitiveBuilder::new()),
            DataType::Time => ColumnBuilder::Time(PrimitiveBuilder::new()),
            DataType::Bytes => ColumnBuilder::Bytes(BinaryBuilder::new()),
        }
    }

    /// Appends a value. An error means that it is of another type than the column.
    pub fn push(&mut self, value: &Value) -> Result<()> {
        match (self, value) {
            (builder, Value::Null) => builder.push_null(),
            (ColumnBuilder::Boolean(builder), Value::Boolean(v)) => builder.append_value(*v),
            (ColumnBuilder::SmallInt(builder), Value::SmallInt(v)) => builder.append_value(*v),
            (ColumnBuilder::Int(builder), Value::Int(v)) => builder.append_value(*v),
            (ColumnBuilder::BigInt(builder), Value::BigInt(v)) => builder.append_value(*v),
            (ColumnBuilder::Float(builder), Value::Float(v)) => builder.append_value(*v),
            (ColumnBuilder::Double(builder), Value::Double(v)) => builder.append_value(*v),
            (ColumnBuilder::Decimal(builder, of), Value::Decimal { unscaled, scale })
                if of == scale =>
            {
                builder.append_value(*unscaled);
            }
            (ColumnBuilder::Text(builder), Value::Text(v) | Value::Json(v) | Value::File(v)) => {
                builder.append_value(v);
            }
            (ColumnBuilder::Text(builder), Value::Uuid(_)) => builder.append_value(to_text(value)),
            (ColumnBuilder::Timestamp(builder), Value::Timestamp(v) | Value::DateTime(v)) => {
                builder.append_value(*v);
            }
            (ColumnBuilder::Date(builder), Value::Date(v)) => builder.append_value(*v),
            (ColumnBuilder::Time(builder), Value::Time(v)) => builder.append_value(*v),
            (ColumnBuilder::Bytes(builder), Value::Bytes(v)) => builder.append_value(v),
            (builder, value) => {
                return Err(DataFusionError::Internal(format!(
                    "{value:?} in a column of {builder:?}"
                )));
            }
        }
        Ok(())
    }

    fn push_null(&mut self) {
        match self {
            ColumnBuilder::Boolean(builder) => builder.append_null(),
            ColumnBuilder::SmallInt(builder) => builder.append_null(),
            ColumnBuilder::Int(builder) => builder.append_null(),
            ColumnBuilder::BigInt(builder) => builder.append_null(),
            ColumnBuilder::Float(builder) => builder.append_null(),
            ColumnBuilder::Double(builder) => builder.append_null(),
            ColumnBuilder::Decimal(builder, _) => builder.append_null(),
            ColumnBuilder::Text(builder) => builder.append_null(),
            ColumnBuilder::Timestamp(builder) => builder.append_null(),
            ColumnBuilder::Date(builder) => builder.append_null(),
            ColumnBuilder::Time(builder) => builder.append_null(),
            ColumnBuilder::Bytes(builder) => builder.append_null(),
        }
    }

    /// The array of what was appended.
    pub fn finish(self) -> ArrayRef {
        match self {
            ColumnBuilder::Boolean(mut builder) => Arc::new(builder.finish()),
            ColumnBuilder::SmallInt(mut builder) => Arc::new(builder.finish()),
            ColumnBuilder::Int(mut builder) => Arc::new(builder.finish()),
            ColumnBuilder::BigInt(mut builder) => Arc::new(builder.finish()),
            ColumnBuilder::Float(mut builder) => Arc::new(builder.finish()),
            ColumnBuilder::Double(mut builder) => Arc::new(builder.finish()),
            ColumnBuilder::Decimal(mut builder, _) => Arc::new(builder.finish()),
            ColumnBuilder::Text(mut builder) => Arc::new(builder.finish()),
            ColumnBuilder::Timestamp(mut builder) => Arc::new(builder.finish()),
            ColumnBuilder::Date(mut builder) => Arc::new(builder.finish()),
            ColumnBuilder::Time(mut builder) => Arc::new(builder.finish()),
            ColumnBuilder::Bytes(mut builder) => Arc::new(builder.finish()),
        }
    }
}

/// An array of `values`, which are of `data_type` or NULL.
pub fn to_array<'a>(
    data_type: DataType,
    values: impl IntoIterator<Item = &'a Value>,
) -> Result<ArrayRef> {
    let mut builder = ColumnBuilder::new(data_type);
    for value in values {
        builder.push(value)?;
    }
    Ok(builder.finish())
}

/// `value` as a DataFusion scalar.
pub fn to_scalar(data_type: DataType, value: &Value) -> Result<ScalarValue> {
    ScalarValue::try_from_array(&to_array(data_type, [value])?, 0)
}

// ---- From arrays to values --------------------------------------------------------------------

/// The values of `array` as `data_type`, which is what [`data_type`] says of its field. Numbers
/// that the type cannot hold are an error.
pub fn to_values(array: &ArrayRef, data_type: DataType) -> Result<Vec<Value>> {
    if is_nested(array.data_type()) {
        return nested_values(array);
    }
    let wanted = arrow_type(data_type);
    let array = if *array.data_type() == wanted {
        Arc::clone(array)
    } else {
        // Not the default, which makes NULL of what does not fit.
        let options = CastOptions {
            safe: false,
            format_options: FormatOptions::default(),
        };
        cast_with_options(array, &wanted, &options).map_err(arrow_error)?
    };
    match data_type {
        DataType::Boolean => {
            let array = array.as_boolean();
            Ok(array
                .iter()
                .map(|v| v.map_or(Value::Null, Value::Boolean))
                .collect())
        }
        DataType::SmallInt => Ok(primitive::<Int16Type>(&array, Value::SmallInt)),
        DataType::Int => Ok(primitive::<Int32Type>(&array, Value::Int)),
        DataType::BigInt => Ok(primitive::<Int64Type>(&array, Value::BigInt)),
        DataType::Float => Ok(primitive::<Float32Type>(&array, Value::Float)),
        DataType::Double => Ok(primitive::<Float64Type>(&array, Value::Double)),
        DataType::Decimal { scale, .. } => {
            let value = |unscaled| Value::Decimal { unscaled, scale };
            Ok(primitive::<Decimal128Type>(&array, value))
        }
        DataType::Timestamp => Ok(primitive::<TimestampMicrosecondType>(
            &array,
            Value::Timestamp,
        )),
        DataType::DateTime => Ok(primitive::<TimestampMicrosecondType>(
            &array,
            Value::DateTime,
        )),
        DataType::Date => Ok(primitive::<Date32Type>(&array, Value::Date)),
        DataType::Time => Ok(primitive::<Time64MicrosecondType>(&array, Value::Time)),
        DataType::Text => Ok(text(&array, Value::Text)),
        DataType::Json => Ok(text(&array, Value::Json)),
        DataType::File => Ok(text(&array, Value::File)),
        DataType::Uuid => uuids(&array),
        DataType::Bytes => {
            let array = array.as_binary::<i32>();
            Ok(array
                .iter()
                .map(|v| v.map_or(Value::Null, |v| Value::Bytes(v.to_vec())))
                .collect())
        }
    }
}

fn primitive<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    value: impl Fn(T::Native) -> Value,
) -> Vec<Value> {
    array
        .as_primitive::<T>()
        .iter()
        .map(|v| v.map_or(Value::Null, &value))
        .collect()
}

fn text(array: &ArrayRef, value: impl Fn(String) -> Value) -> Vec<Value> {
    let array = array.as_string::<i32>();
    array
        .iter()
        .map(|v| v.map_or(Value::Null, |v| value(v.to_owned())))
        .collect()
}

fn uuids(array: &ArrayRef) -> Result<Vec<Value>> {
    let array = array.as_string::<i32>();
    array
        .iter()
        .map(|text| match text {
            None => Ok(Value::Null),
            Some(text) => match uuid::Uuid::try_parse(text) {
                Ok(uuid) => Ok(Value::Uuid(uuid.into_bytes())),
                Err(_) => exec_err!("'{text}' is not a UUID"),
            },
        })
        .collect()
}

fn nested_values(array: &ArrayRef) -> Result<Vec<Value>> {
    (0..array.len())
        .map(|row| {
            if array.is_null(row) {
                return Ok(Value::Null);
            }
            let mut json = String::new();
            write_nested(array, row, &mut json)?;
            Ok(Value::Json(json))
        })
        .collect()
}

/// One element of any array as JSON. The depth is that of the type, which the parser bounds.
fn write_nested(array: &ArrayRef, row: usize, out: &mut String) -> Result<()> {
    if array.is_null(row) {
        out.push_str("null");
        return Ok(());
    }
    match array.data_type() {
        ArrowType::List(_) => write_list(&array.as_list::<i32>().value(row), out),
        ArrowType::LargeList(_) => write_list(&array.as_list::<i64>().value(row), out),
        ArrowType::FixedSizeList(..) => write_list(&array.as_fixed_size_list().value(row), out),
        ArrowType::Struct(fields) => {
            let columns = array.as_struct().columns();
            write_object(
                fields.iter().map(|f| f.name().clone()).zip(columns),
                row,
                out,
            )
        }
        ArrowType::Map(..) => {
            let entries = array.as_map().value(row);
            let keys = entries.column(0);
            let names = to_values(keys, natural_type(keys.data_type()))?;
            out.push('{');
            for (at, name) in names.iter().enumerate() {
                write_name(at, &to_text(name), out);
                write_nested(entries.column(1), at, out)?;
            }
            out.push('}');
            Ok(())
        }
        other if is_nested(other) => exec_err!("values of type {other} cannot be shown"),
        flat => {
            let values = to_values(&array.slice(row, 1), natural_type(flat))?;
            write_json(
                values.first().unwrap_or(&Value::Null),
                JsonStyle::Payload,
                out,
            );
            Ok(())
        }
    }
}

fn write_list(items: &ArrayRef, out: &mut String) -> Result<()> {
    out.push('[');
    for at in 0..items.len() {
        if at > 0 {
            out.push(',');
        }
        write_nested(items, at, out)?;
    }
    out.push(']');
    Ok(())
}

fn write_object<'a>(
    members: impl Iterator<Item = (String, &'a ArrayRef)>,
    row: usize,
    out: &mut String,
) -> Result<()> {
    out.push('{');
    for (at, (name, values)) in members.enumerate() {
        write_name(at, &name, out);
        write_nested(values, row, out)?;
    }
    out.push('}');
    Ok(())
}

fn write_name(at: usize, name: &str, out: &mut String) {
    if at > 0 {
        out.push(',');
    }
    push_json_string(out, name);
    out.push(':');
}

fn arrow_error(error: ArrowError) -> DataFusionError {
    DataFusionError::ArrowError(Box::new(error), None)
}
