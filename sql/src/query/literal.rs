//! Literals without a planner: what most INSERTs, UPDATEs and lookups consist of.

use datafusion::sql::sqlparser::ast::{Expr, FunctionArguments, UnaryOperator, Value as Literal};
use types::Result;
use types::value::{DECIMAL_PRECISION_MAX, DataType, Value};

use super::{cast, params};
use crate::names;
use crate::session::Param;

/// The value of a literal or parameter, with a sign before it or in parentheses; none for any
/// other expression.
///
/// # Errors
/// `INVALID_PARAMETER` for a parameter that is not there.
pub fn value(expr: &Expr, params: &[Param]) -> Result<Option<Value>> {
    match expr {
        Expr::Nested(inner) => value(inner, params),
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => match &**expr {
            Expr::Value(literal) => match &literal.value {
                Literal::Number(digits, _) => Ok(number(&format!("-{digits}"))),
                _ => Ok(None),
            },
            _ => Ok(None),
        },
        Expr::Value(literal) => Ok(match &literal.value {
            Literal::Null => Some(Value::Null),
            Literal::Boolean(v) => Some(Value::Boolean(*v)),
            Literal::Number(digits, _) => number(digits),
            Literal::SingleQuotedString(text)
            | Literal::EscapedStringLiteral(text)
            | Literal::UnicodeStringLiteral(text) => Some(Value::Text(text.clone())),
            Literal::DollarQuotedString(text) => Some(Value::Text(text.value.clone())),
            Literal::Placeholder(name) => Some(params::value(name, params)?.clone()),
            _ => None,
        }),
        _ => Ok(None),
    }
}

/// BIGINT if it is whole and fits, else DECIMAL; DOUBLE with an exponent or too many digits.
fn number(text: &str) -> Option<Value> {
    let plain = text.replace('_', "");
    let text = plain.as_str();
    if let Ok(value) = text.parse() {
        return Some(Value::BigInt(value));
    }
    if !text.contains(['e', 'E'])
        && let Some(fraction) = text
            .split_once('.')
            .map_or(Some(0), |(_, f)| u8::try_from(f.len()).ok())
        && fraction <= DECIMAL_PRECISION_MAX
        && let Some(unscaled) = cast::decimal_from_text(text, DECIMAL_PRECISION_MAX, fraction)
    {
        return Some(Value::Decimal {
            unscaled,
            scale: fraction,
        });
    }
    text.parse().ok().map(Value::Double)
}

/// Is a number read as a DOUBLE, because of an exponent or of too many digits for a DECIMAL?
pub fn is_double(digits: &str) -> bool {
    let count = digits.bytes().filter(u8::is_ascii_digit).count();
    digits.contains(['e', 'E']) || count > usize::from(DECIMAL_PRECISION_MAX)
}

/// The type of a literal; TEXT for NULL.
pub fn data_type(literal: &Value) -> DataType {
    match literal {
        Value::Boolean(_) => DataType::Boolean,
        Value::SmallInt(_) => DataType::SmallInt,
        Value::Int(_) => DataType::Int,
        Value::BigInt(_) => DataType::BigInt,
        Value::Float(_) => DataType::Float,
        Value::Double(_) => DataType::Double,
        Value::Decimal { scale, .. } => DataType::Decimal {
            precision: DECIMAL_PRECISION_MAX,
            scale: *scale,
        },
        Value::Null | Value::Text(_) => DataType::Text,
        Value::Timestamp(_) => DataType::Timestamp,
        Value::DateTime(_) => DataType::DateTime,
        Value::Date(_) => DataType::Date,
        Value::Time(_) => DataType::Time,
        Value::Uuid(_) => DataType::Uuid,
        Value::Json(_) => DataType::Json,
        Value::Bytes(_) => DataType::Bytes,
        Value::File(_) => DataType::File,
    }
}

/// The folded name of a call without arguments: `NOW()`, `CURRENT_TIMESTAMP`; none for any other
/// expression.
pub fn function_name(expr: &Expr) -> Option<String> {
    let Expr::Function(function) = expr else {
        return None;
    };
    let no_arguments = match &function.args {
        FunctionArguments::None => true,
        FunctionArguments::List(list) => {
            list.args.is_empty() && list.clauses.is_empty() && list.duplicate_treatment.is_none()
        }
        FunctionArguments::Subquery(_) => false,
    };
    let plain = function.filter.is_none()
        && function.over.is_none()
        && function.within_group.is_empty()
        && function.null_treatment.is_none();
    match function.name.0.as_slice() {
        [part] if no_arguments && plain => part.as_ident().map(names::fold),
        _ => None,
    }
}
