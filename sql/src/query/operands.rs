//! Literals beside something of a type: `price = '10.10'` compares numbers, `at = '1500-01-01'`
//! times, and `0.1` beside a DOUBLE is a DOUBLE.

use datafusion::arrow::datatypes::{DataType as ArrowType, FieldRef};
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, lit};
use types::cell::to_text;
use types::value::{DECIMAL_PRECISION_MAX, DataType, Value};

use super::{cast, convert};

/// What is known of the expression on the other side.
pub struct Operand {
    /// None if its type cannot be told: it gets its error from the planner.
    field: Option<FieldRef>,
    is_literal: bool,
}

impl Operand {
    /// Of an expression.
    pub fn of(expr: &Expr, schema: &DFSchema) -> Operand {
        Operand {
            field: expr.to_field(schema).ok().map(|(_, field)| field),
            is_literal: matches!(expr, Expr::Literal(..)),
        }
    }

    /// Its type.
    pub fn arrow(&self) -> Option<&ArrowType> {
        self.field.as_ref().map(|field| field.data_type())
    }

    fn data_type(&self) -> Option<DataType> {
        self.field.as_ref().map(|field| convert::data_type(field))
    }

    /// Is it a literal?
    pub fn is_literal(&self) -> bool {
        self.is_literal
    }

    /// Is it a FLOAT or DOUBLE?
    pub fn is_float(&self) -> bool {
        self.arrow().is_some_and(ArrowType::is_floating)
    }

    /// Is it a SMALLINT, INT, BIGINT or NULL?
    pub fn is_whole(&self) -> bool {
        self.arrow()
            .is_some_and(|of| of.is_signed_integer() || of.is_null())
    }

    /// Is it text?
    pub fn is_text(&self) -> bool {
        self.arrow().is_some_and(ArrowType::is_string)
    }

    /// Is it neither a list nor bytes?
    pub fn is_flat(&self) -> bool {
        self.arrow()
            .is_some_and(|of| !of.is_nested() && !of.is_binary())
    }

    /// Is it a DECIMAL?
    pub fn is_decimal(&self) -> bool {
        self.arrow().is_some_and(ArrowType::is_decimal)
    }
}

/// `expr` as it is compared with `other`.
///
/// # Errors
/// `TYPE_MISMATCH` for text that says no value of the type it is compared with.
pub fn compared(expr: Expr, other: &Operand) -> Result<Expr> {
    let Some(data_type) = other.data_type() else {
        return Ok(expr);
    };
    if let Some(text) = text_of(&expr) {
        return Ok(match data_type {
            DataType::Uuid => lit(to_text(&value(text, data_type)?)),
            DataType::Boolean | DataType::Bytes | DataType::Timestamp | DataType::DateTime => {
                scalar(data_type, &value(text, data_type)?)?
            }
            DataType::Decimal { precision, .. } => match exact(text.trim()) {
                Some(decimal) => decimal,
                None => scalar(
                    data_type,
                    &value(
                        text,
                        DataType::Decimal {
                            precision,
                            scale: 0,
                        },
                    )?,
                )?,
            },
            _ => expr,
        });
    }
    if other.is_float() {
        return Ok(match &expr {
            Expr::Literal(..) => as_double(expr),
            _ => expr,
        });
    }
    if let (true, Expr::Literal(ScalarValue::Float64(Some(v)), _)) = (other.is_decimal(), &expr)
        && let Some(decimal) = exact(&v.to_string())
    {
        return Ok(decimal);
    }
    Ok(expr)
}

/// A DECIMAL that is no literal, beside a FLOAT or DOUBLE that is none, is compared as DOUBLE: not
/// every DOUBLE is a DECIMAL.
pub fn widened(expr: Expr, of: &Operand, other: &Operand) -> Expr {
    match of.is_decimal() && !of.is_literal && other.is_float() {
        true => Expr::Cast(Cast::new(Box::new(expr), ArrowType::Float64)),
        false => expr,
    }
}

/// `expr` as an operand of `op`, which calculates.
pub fn calculated(expr: Expr, op: Operator, of: &Operand, other: &Operand) -> Expr {
    let is_double = match op {
        Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Modulo => {
            other.is_float()
        }
        // A quotient of literals has no scale of its own.
        Operator::Divide => !other.is_decimal() || other.is_literal,
        _ => false,
    };
    match is_double && of.is_literal {
        true => as_double(expr),
        false => expr,
    }
}

/// Is it a literal with a decimal point?
pub fn is_decimal_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Decimal128(..), _))
}

/// A literal with a decimal point as DOUBLE; anything else as it is.
pub fn as_double(expr: Expr) -> Expr {
    let decimal = match &expr {
        Expr::Literal(ScalarValue::Decimal128(Some(unscaled), _, scale), _) => {
            u8::try_from(*scale).ok().map(|scale| Value::Decimal {
                unscaled: *unscaled,
                scale,
            })
        }
        _ => None,
    };
    match decimal.and_then(|decimal| to_text(&decimal).parse::<f64>().ok()) {
        Some(double) => lit(double),
        None => expr,
    }
}

fn text_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(literal, _) => literal.try_as_str().flatten(),
        _ => None,
    }
}

fn value(text: &str, data_type: DataType) -> Result<Value> {
    cast::cast(Value::Text(text.to_owned()), data_type)
        .map_err(|error| DataFusionError::External(Box::new(error)))
}

fn scalar(data_type: DataType, value: &Value) -> Result<Expr> {
    Ok(lit(convert::to_scalar(data_type, value)?))
}

/// The number that `text` says, with as many digits after the point as it has; none if no DECIMAL
/// has them.
fn exact(text: &str) -> Option<Expr> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i64>().ok()?),
        None => (text, 0),
    };
    let fraction = mantissa.split_once('.').map_or(0, |(_, f)| f.len());
    let scale = i64::try_from(fraction).ok()?.checked_sub(exponent)?.max(0);
    let scale = u8::try_from(scale)
        .ok()
        .filter(|s| *s <= DECIMAL_PRECISION_MAX)?;
    let unscaled = cast::decimal_from_text(text, DECIMAL_PRECISION_MAX, scale)?;
    let digits = unscaled
        .unsigned_abs()
        .checked_ilog10()
        .map_or(1, |log| log + 1);
    let precision = u8::try_from(digits).ok()?.max(scale).max(1);
    let scale = i8::try_from(scale).ok()?;
    Some(lit(ScalarValue::Decimal128(
        Some(unscaled),
        precision,
        scale,
    )))
}
