//! Parameters: `$1…` become literals before anything is planned, so that a parameter behaves as
//! the same literal would; and literals get a spelling that the planner takes for what they are.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType as SqlType, Expr, UnaryOperator, Value as Literal, ValueWithSpan, Visit,
    VisitMut, Visitor, VisitorMut,
};
use types::cell::to_text;
use types::value::Value;
use types::{Error, ErrorCode, Result};

use super::literal;
use crate::session::Param;

/// `statement` with its parameters in place.
///
/// # Errors
/// `INVALID_PARAMETER` if there is no value for a parameter.
pub fn bind<T: Visit + VisitMut + Clone>(statement: &T, params: &[Param]) -> Result<T> {
    let mut bound = statement.clone();
    match VisitMut::visit(&mut bound, &mut Binder { params }) {
        ControlFlow::Continue(()) => Ok(bound),
        ControlFlow::Break(error) => Err(error),
    }
}

/// The highest number among the parameters of `statement`; 0 if it has none.
///
/// # Errors
/// `INVALID_PARAMETER` for a parameter that is not `$` and a number from 1.
pub fn highest<T: Visit>(statement: &T) -> Result<usize> {
    let mut search = Search { highest: 0 };
    match Visit::visit(statement, &mut search) {
        ControlFlow::Continue(()) => Ok(search.highest),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Are there as many parameters as the statement, whose parameters go up to `highest`, names?
///
/// # Errors
/// `INVALID_PARAMETER` if there are more or fewer.
pub fn check_count(highest: usize, params: &[Param]) -> Result<()> {
    if highest == params.len() {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::InvalidParameter,
        format!(
            "the statement has {highest} parameter(s), {} were given",
            params.len()
        ),
    ))
}

/// The value of the parameter `name`.
pub fn value<'a>(name: &str, params: &'a [Param]) -> Result<&'a Param> {
    let number = number(name)?;
    params.get(number - 1).ok_or_else(|| {
        Error::new(
            ErrorCode::InvalidParameter,
            format!("there is no value for parameter {name}"),
        )
    })
}

fn number(name: &str) -> Result<usize> {
    match name
        .strip_prefix('$')
        .and_then(|digits| digits.parse().ok())
    {
        Some(number) if number > 0 => Ok(number),
        _ => Err(Error::new(
            ErrorCode::InvalidParameter,
            format!("{name} is not a parameter: they are called $1, $2, and so on"),
        )),
    }
}

struct Search {
    highest: usize,
}

impl Visitor for Search {
    type Break = Error;

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<Error> {
        if let Literal::Placeholder(name) = &value.value {
            match number(name) {
                Ok(number) => self.highest = self.highest.max(number),
                Err(error) => return ControlFlow::Break(error),
            }
        }
        ControlFlow::Continue(())
    }
}

struct Binder<'a> {
    params: &'a [Param],
}

impl VisitorMut for Binder<'_> {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        let Expr::Value(place) = expr else {
            return ControlFlow::Continue(());
        };
        if let Err(error) = self.set(place) {
            return ControlFlow::Break(error);
        }
        if let Literal::Number(digits, _) = &place.value {
            if let Some(positive) = digits.strip_prefix('-') {
                // The sign is not part of a number: a second one before it would make a comment.
                let positive = number_expr(positive);
                *expr = Expr::UnaryOp {
                    op: UnaryOperator::Minus,
                    expr: Box::new(positive),
                };
            } else if literal::is_double(digits) {
                *expr = number_expr(digits);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, place: &mut ValueWithSpan) -> ControlFlow<Error> {
        match self.set(place) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

impl Binder<'_> {
    fn set(&self, place: &mut ValueWithSpan) -> Result<()> {
        match &place.value {
            Literal::Placeholder(name) => place.value = of_param(value(name, self.params)?)?,
            Literal::UnicodeStringLiteral(text) => {
                place.value = Literal::SingleQuotedString(text.clone());
            }
            _ => {}
        }
        Ok(())
    }
}

/// A number without a sign: what is no DECIMAL is read as a DOUBLE.
fn number_expr(digits: &str) -> Expr {
    if !literal::is_double(digits) {
        return Expr::Value(Literal::Number(digits.to_owned(), false).into());
    }
    let text = Literal::SingleQuotedString(digits.replace('_', ""));
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(Expr::Value(text.into())),
        data_type: SqlType::DoublePrecision,
        array: false,
        format: None,
    }
}

fn of_param(param: &Param) -> Result<Literal> {
    Ok(match param {
        Value::Null => Literal::Null,
        Value::Boolean(v) => Literal::Boolean(*v),
        Value::SmallInt(_) | Value::Int(_) | Value::BigInt(_) | Value::Decimal { .. } => {
            Literal::Number(to_text(param), false)
        }
        Value::Float(v) if v.is_finite() => Literal::Number(float_digits(f64::from(*v), v), false),
        Value::Double(v) if v.is_finite() => Literal::Number(float_digits(*v, v), false),
        Value::Text(_)
        | Value::Timestamp(_)
        | Value::DateTime(_)
        | Value::Date(_)
        | Value::Time(_)
        | Value::Uuid(_)
        | Value::Json(_)
        | Value::File(_) => Literal::SingleQuotedString(to_text(param)),
        Value::Bytes(_) => Literal::HexStringLiteral(to_text(param)),
        Value::Float(_) | Value::Double(_) => {
            return Err(Error::new(
                ErrorCode::InvalidParameter,
                "a number that is not finite cannot be a parameter",
            ));
        }
    })
}

/// The shortest digits that say a number. A whole one gets an exponent, by which it stays a double.
fn float_digits(value: f64, shown: &(impl std::fmt::Debug + std::fmt::LowerExp)) -> String {
    match value.fract() == 0.0 {
        true => format!("{shown:e}"),
        false => format!("{shown:?}"),
    }
}
