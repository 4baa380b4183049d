//! The functions that depend on who asks and when, and those that make ids.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::datatypes::{DataType as ArrowType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use types::ids::WallTimeUs;
use types::value::{DataType, Value};

use super::{cast, convert};
use crate::session::{Entropy, Session};

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The value of a function without arguments that depends on the session, its time, or nothing but
/// chance; none if the name is not one of ours.
pub fn session_value(
    name: &str,
    session: &Session<'_>,
    entropy: &Arc<dyn Entropy>,
) -> Option<Value> {
    let (_, value) = constant_of(name, session).or_else(|| {
        new_id_of(name).map(|kind| (kind.data_type(), kind.next(session.now, entropy)))
    })?;
    Some(value)
}

/// The function of this name as it is for `session`; none if the name is not one of ours.
pub fn session_function(
    name: &str,
    session: &Session<'_>,
    entropy: &Arc<dyn Entropy>,
) -> Option<Result<ScalarUDF>> {
    if let Some(kind) = new_id_of(name) {
        return Some(Ok(ScalarUDF::new_from_impl(NewIdFunction {
            kind,
            now: session.now,
            entropy: Arc::clone(entropy),
            signature: Signature::nullary(Volatility::Volatile),
        })));
    }
    let (data_type, value) = constant_of(name, session)?;
    Some(constant(name, data_type, &value))
}

fn constant_of(name: &str, session: &Session<'_>) -> Option<(DataType, Value)> {
    let text = |text: &str| (DataType::Text, Value::Text(text.to_owned()));
    Some(match name {
        "now" | "current_timestamp" | "localtimestamp" => {
            (DataType::Timestamp, Value::Timestamp(session.now))
        }
        "current_date" | "today" => {
            let days = i32::try_from(session.now.div_euclid(MICROS_PER_DAY));
            (DataType::Date, days.map_or(Value::Null, Value::Date))
        }
        "current_time" | "localtime" => (
            DataType::Time,
            Value::Time(session.now.rem_euclid(MICROS_PER_DAY)),
        ),
        "current_user" | "user" => text(session.effective_user),
        "session_user" => text(session.user),
        "current_role" => text(session.role.as_str()),
        "current_schema" => session
            .namespace
            .map_or((DataType::Text, Value::Null), text),
        _ => return None,
    })
}

fn new_id_of(name: &str) -> Option<NewId> {
    match name {
        "ulid" => Some(NewId::Ulid),
        "uuid_v7" => Some(NewId::UuidV7),
        "snowflake_id" => Some(NewId::SnowflakeId),
        _ => None,
    }
}

/// Does a function give something else for each call, session or time? `volatility` is what it
/// says of itself.
pub fn varies(volatility: Volatility) -> bool {
    match volatility {
        Volatility::Immutable => false,
        Volatility::Stable | Volatility::Volatile => true,
    }
}

fn constant(name: &str, data_type: DataType, value: &Value) -> Result<ScalarUDF> {
    Ok(ScalarUDF::new_from_impl(SessionConstant {
        name: name.to_owned(),
        value: convert::to_scalar(data_type, value)?,
        signature: Signature::nullary(Volatility::Stable),
    }))
}

/// A function without arguments that has one value throughout a statement.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SessionConstant {
    name: String,
    value: ScalarValue,
    signature: Signature,
}

impl ScalarUDFImpl for SessionConstant {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[ArrowType]) -> Result<ArrowType> {
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum NewId {
    Ulid,
    UuidV7,
    SnowflakeId,
}

impl NewId {
    fn data_type(self) -> DataType {
        match self {
            NewId::Ulid => DataType::Text,
            NewId::UuidV7 => DataType::Uuid,
            NewId::SnowflakeId => DataType::BigInt,
        }
    }

    fn next(self, now: WallTimeUs, entropy: &Arc<dyn Entropy>) -> Value {
        match self {
            NewId::Ulid => Value::Text(entropy.ulid(now)),
            NewId::UuidV7 => Value::Uuid(entropy.uuid_v7(now)),
            NewId::SnowflakeId => Value::BigInt(entropy.snowflake_id(now)),
        }
    }
}

/// A function that gives a new id for each row.
struct NewIdFunction {
    kind: NewId,
    now: WallTimeUs,
    entropy: Arc<dyn Entropy>,
    signature: Signature,
}

impl std::fmt::Debug for NewIdFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for NewIdFunction {
    fn eq(&self, other: &NewIdFunction) -> bool {
        (self.kind, self.now) == (other.kind, other.now)
    }
}

impl Eq for NewIdFunction {}

impl Hash for NewIdFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.kind, self.now).hash(state);
    }
}

impl ScalarUDFImpl for NewIdFunction {
    fn name(&self) -> &str {
        match self.kind {
            NewId::Ulid => "ulid",
            NewId::UuidV7 => "uuid_v7",
            NewId::SnowflakeId => "snowflake_id",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[ArrowType]) -> Result<ArrowType> {
        Ok(convert::arrow_type(self.kind.data_type()))
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let field: Field = convert::field(self.name(), self.kind.data_type(), false);
        Ok(Arc::new(field))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ids: Vec<Value> = (0..args.number_rows)
            .map(|_| self.kind.next(self.now, &self.entropy))
            .collect();
        let array: ArrayRef = convert::to_array(self.kind.data_type(), &ids)?;
        debug_assert_eq!(array.len(), args.number_rows);
        Ok(ColumnarValue::Array(array))
    }
}

/// A cast of text to a type that Arrow has only as text: what is not of that type is an error, and
/// UUIDs get their canonical form.
pub fn checked_text(data_type: DataType) -> ScalarUDF {
    ScalarUDF::new_from_impl(CheckedText {
        data_type,
        name: format!("to_{}", cast::name(data_type).to_ascii_lowercase()),
        signature: Signature::string(1, Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedText {
    data_type: DataType,
    name: String,
    signature: Signature,
}

impl ScalarUDFImpl for CheckedText {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[ArrowType]) -> Result<ArrowType> {
        Ok(convert::arrow_type(self.data_type))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(convert::field(
            &self.name,
            self.data_type,
            nullable,
        )))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let Some(array) = arrays.first() else {
            return exec_err!("{} takes one argument", self.name);
        };
        let values: Result<Vec<Value>> = convert::to_values(array, DataType::Text)?
            .into_iter()
            .map(|value| {
                cast::cast(value, self.data_type)
                    .map_err(|error| DataFusionError::External(Box::new(error)))
            })
            .collect();
        Ok(ColumnarValue::Array(convert::to_array(
            self.data_type,
            &values?,
        )?))
    }
}

/// A FLOAT or DOUBLE as PostgreSQL spells it.
pub fn float_text() -> ScalarUDF {
    let types = vec![ArrowType::Float32, ArrowType::Float64];
    ScalarUDF::new_from_impl(FloatText {
        signature: Signature::uniform(1, types, Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FloatText {
    signature: Signature,
}

impl ScalarUDFImpl for FloatText {
    fn name(&self) -> &str {
        "float_text"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[ArrowType]) -> Result<ArrowType> {
        Ok(convert::arrow_type(DataType::Text))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let Some(array) = arrays.first() else {
            return exec_err!("{} takes one argument", self.name());
        };
        let of = match array.data_type() {
            ArrowType::Float32 => DataType::Float,
            _ => DataType::Double,
        };
        let texts: Result<Vec<Value>> = convert::to_values(array, of)?
            .into_iter()
            .map(|value| {
                cast::cast(value, DataType::Text)
                    .map_err(|error| DataFusionError::External(Box::new(error)))
            })
            .collect();
        let texts = convert::to_array(DataType::Text, &texts?)?;
        Ok(ColumnarValue::Array(texts))
    }
}
