//! Functions that make much out of little: within [`FUNCTION_RESULT_MAX_BYTES`], or not at all.
//!
//! What a function makes is outside the memory that queries account for, so it is estimated before
//! the function runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::kernels::length::length;
use datafusion::arrow::compute::{cast, concat};
use datafusion::arrow::datatypes::{DataType as ArrowType, FieldRef, Int64Type};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use types::limits::FUNCTION_RESULT_MAX_BYTES;
use types::{Error, ErrorCode};

/// Makes lists as long as an argument says; SQL has no type for them.
const REMOVED: [&str; 4] = ["range", "generate_series", "array_repeat", "array_resize"];

/// Longest character, in UTF-8.
const CHARACTER_MAX_BYTES: u64 = 4;

/// Takes functions away that nothing bounds.
///
/// # Panics
/// Never: the functions of a session can be changed.
pub fn restrict(state: &mut SessionState) {
    for name in REMOVED {
        state
            .deregister_udf(name)
            .expect("functions can be taken from a session");
    }
}

/// What constants of one statement may still make: they are there all at once.
#[derive(Clone, Debug)]
pub struct Budget(Arc<AtomicUsize>);

impl Budget {
    /// All of it.
    pub fn new() -> Budget {
        Budget(Arc::new(AtomicUsize::new(FUNCTION_RESULT_MAX_BYTES)))
    }

    fn spend(&self, bytes: usize) -> Result<()> {
        let spent = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(bytes)
            });
        spent.map(|_| ()).map_err(|_| too_large())
    }
}

/// The function with a bound, if it is one that makes much out of little.
pub fn bounded(function: &Arc<ScalarUDF>, budget: &Budget) -> Option<ScalarUDF> {
    let estimate = match function.name() {
        "repeat" => repeat,
        "lpad" | "rpad" => pad,
        "replace" | "regexp_replace" => replace,
        "concat" | "concat_ws" | "overlay" => concatenation,
        _ => return None,
    };
    Some(ScalarUDF::new_from_impl(Bounded {
        inner: Arc::clone(function),
        estimate: Estimate(estimate),
        budget: budget.clone(),
    }))
}

/// The function with a bound, if it makes lists out of copies of its arguments.
pub fn bounded_list(function: &Arc<ScalarUDF>) -> Option<ScalarUDF> {
    let copies = matches!(
        function.name(),
        "make_array" | "array_append" | "array_prepend" | "array_concat"
    );
    copies.then(|| {
        ScalarUDF::new_from_impl(Bounded {
            inner: Arc::clone(function),
            estimate: Estimate(total),
            budget: Budget::new(),
        })
    })
}

/// `SQL_EXECUTION_ERROR` for more than [`FUNCTION_RESULT_MAX_BYTES`].
pub fn check(bytes: u64) -> Result<usize> {
    match usize::try_from(bytes) {
        Ok(bytes) if bytes <= FUNCTION_RESULT_MAX_BYTES => Ok(bytes),
        _ => Err(too_large()),
    }
}

fn too_large() -> DataFusionError {
    let message = format!(
        "a function would make more than {FUNCTION_RESULT_MAX_BYTES} bytes: shorten its result, or \
         select fewer rows"
    );
    let error = Error::new(ErrorCode::SqlExecutionError, message);
    DataFusionError::External(Box::new(error))
}

/// The bytes of all texts and lists among the arguments.
pub fn total(args: &[ColumnarValue], rows: usize) -> Result<u64> {
    let mut total = 0_u64;
    for arg in args {
        let sum = match arg {
            ColumnarValue::Array(list) if list.data_type().is_nested() => {
                list.get_array_memory_size() as u64
            }
            ColumnarValue::Scalar(list) if list.data_type().is_nested() => list.size() as u64,
            flat => numbers(flat, true)?
                .iter()
                .fold(0_u64, |sum, n| sum.saturating_add(*n)),
        };
        let times = match arg {
            ColumnarValue::Array(_) => 1,
            ColumnarValue::Scalar(_) => rows as u64,
        };
        total = total.saturating_add(sum.saturating_mul(times));
    }
    Ok(total)
}

/// For each row, or once for a constant: a text's length, or a number, 0 for less. NULL is 0.
fn numbers(arg: &ColumnarValue, texts_only: bool) -> Result<Vec<u64>> {
    let array: ArrayRef = match arg {
        ColumnarValue::Array(array) => Arc::clone(array),
        ColumnarValue::Scalar(scalar) => scalar.to_array()?,
    };
    let array = match array.data_type() {
        text if text.is_string() => length(&array)?,
        number if number.is_integer() && !texts_only => array,
        _ => return Ok(vec![0; array.len()]),
    };
    let array = cast(&array, &ArrowType::Int64)?;
    let values = array.as_primitive::<Int64Type>().iter();
    Ok(values
        .map(|v| u64::try_from(v.unwrap_or(0)).unwrap_or(0))
        .collect())
}

/// The sum over all rows of what `of` says of the arguments in one.
fn by_row(args: &[ColumnarValue], rows: usize, of: impl Fn(&[u64]) -> u64) -> Result<u64> {
    let columns: Vec<Vec<u64>> = args
        .iter()
        .map(|arg| numbers(arg, false))
        .collect::<Result<_>>()?;
    let mut total = 0_u64;
    for row in 0..rows {
        let values: Vec<u64> = columns
            .iter()
            .map(|column| column.get(row).or(column.first()).copied().unwrap_or(0))
            .collect();
        total = total.saturating_add(of(&values));
    }
    Ok(total)
}

fn at(values: &[u64], position: usize) -> u64 {
    values.get(position).copied().unwrap_or(0)
}

fn repeat(args: &[ColumnarValue], rows: usize) -> Result<u64> {
    by_row(args, rows, |v| at(v, 0).saturating_mul(at(v, 1)))
}

fn pad(args: &[ColumnarValue], rows: usize) -> Result<u64> {
    by_row(args, rows, |v| at(v, 1).saturating_mul(CHARACTER_MAX_BYTES))
}

/// Every character, and the end, may match.
fn replace(args: &[ColumnarValue], rows: usize) -> Result<u64> {
    by_row(args, rows, |v| {
        let matches = at(v, 0).saturating_add(1);
        at(v, 0).saturating_add(matches.saturating_mul(at(v, 2)))
    })
}

/// A separator stands between any two.
fn concatenation(args: &[ColumnarValue], rows: usize) -> Result<u64> {
    let separators =
        (args.len() as u64).saturating_mul(total(args.get(..1).unwrap_or(args), rows)?);
    Ok(total(args, rows)?.saturating_add(separators))
}

/// Bytes of the result for these arguments and so many rows, or more.
#[derive(Clone, Copy)]
struct Estimate(fn(&[ColumnarValue], usize) -> Result<u64>);

impl std::fmt::Debug for Estimate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Estimate")
    }
}

/// A function, within the bound. What DataFusion can tell of the function beyond its result (how to
/// simplify it) is left out: simplifying, too, makes results.
#[derive(Debug)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    estimate: Estimate,
    budget: Budget,
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Bounded) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Bounded {}

impl std::hash::Hash for Bounded {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl Bounded {
    /// In halves, if it would be too much at once.
    fn invoke(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let estimate = check((self.estimate.0)(&args.args, rows)?);
        let is_constant = args
            .args
            .iter()
            .all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        match estimate {
            Ok(bytes) if is_constant => {
                self.budget.spend(bytes)?;
                self.inner.invoke_with_args(args)
            }
            Ok(_) => self.inner.invoke_with_args(args),
            Err(_) if rows > 1 && !is_constant => {
                let middle = rows / 2;
                let first = self.invoke(slice(&args, 0, middle))?.into_array(middle)?;
                let rest = self.invoke(slice(&args, middle, rows - middle))?;
                let rest = rest.into_array(rows - middle)?;
                let made = [first, rest];
                let bytes = made
                    .iter()
                    .map(|array| total(&[ColumnarValue::Array(Arc::clone(array))], array.len()));
                check(bytes.sum::<Result<u64>>()?)?;
                Ok(ColumnarValue::Array(concat(&[&made[0], &made[1]])?))
            }
            Err(error) => Err(error),
        }
    }
}

fn slice(args: &ScalarFunctionArgs, from: usize, rows: usize) -> ScalarFunctionArgs {
    let part = |arg: &ColumnarValue| match arg {
        ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(from, rows)),
        ColumnarValue::Scalar(scalar) => ColumnarValue::Scalar(scalar.clone()),
    };
    ScalarFunctionArgs {
        args: args.args.iter().map(part).collect(),
        arg_fields: args.arg_fields.clone(),
        number_rows: rows,
        return_field: Arc::clone(&args.return_field),
        config_options: Arc::clone(&args.config_options),
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, types: &[ArrowType]) -> Result<Vec<ArrowType>> {
        self.inner.coerce_types(types)
    }

    fn return_type(&self, types: &[ArrowType]) -> Result<ArrowType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.invoke(args)
    }
}
