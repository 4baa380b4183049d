//! Operators whose result may not be what they say: `+`, `-` and `*` of whole numbers, which would
//! wrap, and `||`, which would grow without bound.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, Datum, StringArray};
use datafusion::arrow::compute::kernels::concat_elements::concat_elements_utf8_many;
use datafusion::arrow::compute::kernels::numeric::{add, mul, sub};
use datafusion::arrow::datatypes::{DataType as ArrowType, Field, FieldRef};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;
use types::{Error, ErrorCode};

use super::bounded;

/// `SQL_EXECUTION_ERROR`: the result of `what` is out of range for a type.
pub fn out_of_range(what: &str, data_type: &str) -> Error {
    let message = format!("{what}: the result is out of range for {data_type}");
    Error::new(ErrorCode::SqlExecutionError, message)
}

/// `left op right` with an error where it has no value. Both are whole numbers.
///
/// A chain of operators becomes one call: planning asks for types again and again, and would walk
/// down the whole chain each time.
pub fn calculate(left: Expr, op: Operator, right: Expr) -> Expr {
    let (mut ops, mut operands) = match left {
        Expr::ScalarFunction(call) if continues(&call, op) => (chain(&call).to_vec(), call.args),
        left => (Vec::new(), vec![left]),
    };
    ops.push(op);
    operands.push(right);
    call(ScalarUDF::new_from_impl(Chain::new(ops)), operands)
}

/// Is it such a call? Then it is a whole number.
pub fn is_calculated(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if !chain(call).is_empty())
}

/// May `op` be one of these operators?
pub fn is_checked(op: Operator) -> bool {
    matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply)
}

/// `left || right`, within a bound. One of them is text.
pub fn join(left: Expr, right: Expr) -> Expr {
    let mut operands = match left {
        Expr::ScalarFunction(call) if call.func.inner().is::<BoundedConcat>() => call.args,
        left => vec![left],
    };
    operands.push(right);
    call(ScalarUDF::new_from_impl(BoundedConcat::new()), operands)
}

fn call(function: ScalarUDF, operands: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), operands))
}

/// The operators of the chain that a call is; none if it is another function's.
fn chain(call: &ScalarFunction) -> &[Operator] {
    let inner = call.func.inner().downcast_ref::<Chain>();
    inner.map_or(&[], |chain| chain.ops.as_slice())
}

/// Is `chain op x` calculated from left to right?
fn continues(call: &ScalarFunction, op: Operator) -> bool {
    let is_product = |op| op == Operator::Multiply;
    chain(call)
        .first()
        .is_some_and(|first| is_product(*first) == is_product(op))
}

/// `a op b op c …`, calculated from left to right: sums and differences, or products.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Chain {
    /// One less than there are operands.
    ops: Vec<Operator>,
    name: String,
    signature: Signature,
}

impl Chain {
    fn new(ops: Vec<Operator>) -> Chain {
        Chain {
            name: ops.iter().map(ToString::to_string).collect(),
            ops,
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

/// The widest of types of whole numbers; BIGINT for NULL alone.
fn widest(types: &[ArrowType]) -> ArrowType {
    [ArrowType::Int64, ArrowType::Int32, ArrowType::Int16]
        .into_iter()
        .find(|wide| types.contains(wide))
        .unwrap_or(ArrowType::Int64)
}

impl ScalarUDFImpl for Chain {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[ArrowType]) -> Result<Vec<ArrowType>> {
        Ok(vec![widest(types); types.len()])
    }

    fn return_type(&self, types: &[ArrowType]) -> Result<ArrowType> {
        Ok(widest(types))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<ArrowType> = args
            .arg_fields
            .iter()
            .map(|field| field.data_type().clone())
            .collect();
        Ok(result_field(&self.name, widest(&types), &args))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut operands = args.args.into_iter();
        let Some(mut value) = operands.next() else {
            return internal_err!("a calculation without operands");
        };
        for (op, operand) in self.ops.iter().zip(operands) {
            let kernel: fn(&dyn Datum, &dyn Datum) -> _ = match op {
                Operator::Plus => add,
                Operator::Minus => sub,
                _ => mul,
            };
            value =
                apply(&value, &operand, kernel).map_err(|error| overflow(error, *op, &operand))?;
        }
        Ok(value)
    }
}

/// NULL only where an operand may be.
fn result_field(name: &str, data_type: ArrowType, args: &ReturnFieldArgs<'_>) -> FieldRef {
    let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
    Arc::new(Field::new(name, data_type, nullable))
}

fn overflow(error: DataFusionError, op: Operator, operand: &ColumnarValue) -> DataFusionError {
    match error.find_root() {
        DataFusionError::ArrowError(arrow, _)
            if matches!(**arrow, ArrowError::ArithmeticOverflow(_)) =>
        {
            let data_type = match operand.data_type() {
                ArrowType::Int16 => "SMALLINT",
                ArrowType::Int32 => "INT",
                _ => "BIGINT",
            };
            DataFusionError::External(Box::new(out_of_range(&op.to_string(), data_type)))
        }
        _ => error,
    }
}

/// `||` of texts. NULL with anything is NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
struct BoundedConcat {
    signature: Signature,
}

impl BoundedConcat {
    fn new() -> BoundedConcat {
        BoundedConcat {
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for BoundedConcat {
    fn name(&self) -> &str {
        "||"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[ArrowType]) -> Result<Vec<ArrowType>> {
        Ok(vec![ArrowType::Utf8; types.len()])
    }

    fn return_type(&self, _types: &[ArrowType]) -> Result<ArrowType> {
        Ok(ArrowType::Utf8)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(result_field(self.name(), ArrowType::Utf8, &args))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        bounded::check(bounded::total(&args.args, args.number_rows)?)?;
        let is_constant = args
            .args
            .iter()
            .all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let texts: Vec<&StringArray> = arrays.iter().map(AsArray::as_string).collect();
        let joined = concat_elements_utf8_many(&texts)?;
        match is_constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
                &joined, 0,
            )?)),
            false => Ok(ColumnarValue::Array(Arc::new(joined))),
        }
    }
}
