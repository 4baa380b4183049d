//! Makes expressions mean what they say where DataFusion means something else: a UUID equals its
//! spelling in capitals, `CAST(x AS UUID)` refuses what is none, whole numbers do not wrap, and a
//! literal is of the type of what it is compared with.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType as ArrowType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{Between, Case, Cast, InList, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, lit};
use types::value::DataType;

use super::operands::{self, Operand};
use super::{arithmetic, bounded, convert, functions};

/// `plan` with every expression in it as [`expr`] makes it, under the name it had.
pub fn plan(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        let names = NamePreserver::new(&node);
        let named = |expr: Expr| {
            let name = names.save(&expr);
            Ok(transform(expr, &schema)?.update_data(|expr| name.restore(expr)))
        };
        let node = node.map_expressions(|expr| match expr {
            // It has no name of its own, and the columns in it have.
            Expr::GroupingSet(_) => expr.map_children(named),
            expr => named(expr),
        })?;
        node.map_data(LogicalPlan::recompute_schema)
    })?;
    Ok(rewritten.data)
}

/// `expr` with operators, literals and casts that mean what they say.
pub fn expr(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    Ok(transform(expr, schema)?.data)
}

fn transform(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => binary(*left, op, *right, schema),
        Expr::Negative(inner) => Ok(negative(*inner, schema)),
        Expr::InList(InList {
            expr,
            list,
            negated,
        }) => {
            let of = Operand::of(&expr, schema);
            let list: Result<Vec<Expr>> = list
                .into_iter()
                .map(|item| operands::compared(item, &of))
                .collect();
            Ok(Transformed::yes(Expr::InList(InList {
                expr,
                list: list?,
                negated,
            })))
        }
        Expr::Between(Between {
            expr,
            negated,
            low,
            high,
        }) => {
            let of = Operand::of(&expr, schema);
            Ok(Transformed::yes(Expr::Between(Between {
                low: Box::new(operands::compared(*low, &of)?),
                high: Box::new(operands::compared(*high, &of)?),
                expr,
                negated,
            })))
        }
        Expr::Case(case) => Ok(Transformed::yes(Expr::Case(branches(case, schema)?))),
        Expr::ScalarFunction(function) => Ok(Transformed::yes(Expr::ScalarFunction(arguments(
            function, schema,
        )))),
        Expr::Cast(Cast { expr, field }) => {
            let to = convert::data_type(&field);
            match checked_cast(&expr, to, schema) {
                Some(function) => Ok(Transformed::yes(function(*expr, to))),
                None => Ok(Transformed::no(Expr::Cast(Cast { expr, field }))),
            }
        }
        other => Ok(Transformed::no(other)),
    })
}

fn binary(left: Expr, op: Operator, right: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let same = |left, right| {
        Expr::BinaryExpr(BinaryExpr {
            left: Box::new(left),
            op,
            right: Box::new(right),
        })
    };
    if compares(op) {
        let (of_left, of_right) = (Operand::of(&left, schema), Operand::of(&right, schema));
        let left = operands::compared(left, &of_right)?;
        let right = operands::compared(right, &of_left)?;
        let left = operands::widened(left, &of_left, &of_right);
        let right = operands::widened(right, &of_right, &of_left);
        return Ok(Transformed::yes(same(left, right)));
    }
    if !calculates(op) {
        return Ok(Transformed::no(same(left, right)));
    }
    if arithmetic::is_checked(op)
        && arithmetic::is_calculated(&left)
        && Operand::of(&right, schema).is_whole()
    {
        return Ok(Transformed::yes(arithmetic::calculate(left, op, right)));
    }
    let (of_left, of_right) = (Operand::of(&left, schema), Operand::of(&right, schema));
    if arithmetic::is_checked(op) && of_left.is_whole() && of_right.is_whole() {
        return Ok(Transformed::yes(arithmetic::calculate(left, op, right)));
    }
    if op == Operator::StringConcat {
        let is_text = of_left.is_text() || of_right.is_text();
        if !(is_text && of_left.is_flat() && of_right.is_flat()) {
            return Ok(Transformed::no(same(left, right)));
        }
        let shown = |expr, of: &Operand| match of.is_float() {
            true => float_text(expr, DataType::Text),
            false => expr,
        };
        let joined = arithmetic::join(shown(left, &of_left), shown(right, &of_right));
        return Ok(Transformed::yes(joined));
    }
    let left = operands::calculated(left, op, &of_left, &of_right);
    let right = operands::calculated(right, op, &of_right, &of_left);
    Ok(Transformed::yes(same(left, right)))
}

fn calculates(op: Operator) -> bool {
    matches!(
        op,
        Operator::Plus
            | Operator::Minus
            | Operator::Multiply
            | Operator::Divide
            | Operator::Modulo
            | Operator::StringConcat
    )
}

fn compares(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

/// `-x` as `0 - x`, where the smallest number has no opposite.
fn negative(inner: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let zero = match Operand::of(&inner, schema).arrow() {
        Some(ArrowType::Int16) => lit(0_i16),
        Some(ArrowType::Int32) => lit(0_i32),
        Some(ArrowType::Int64) => lit(0_i64),
        _ => return Transformed::no(Expr::Negative(Box::new(inner))),
    };
    Transformed::yes(arithmetic::calculate(zero, Operator::Minus, inner))
}

/// CASE: `CASE x WHEN literal` compares, and its results are of one type.
fn branches(case: Case, schema: &DFSchema) -> Result<Case> {
    let Case {
        expr,
        when_then_expr,
        else_expr,
    } = case;
    let of = expr.as_ref().map(|expr| Operand::of(expr, schema));
    let results: Vec<Operand> = when_then_expr
        .iter()
        .map(|(_, then)| then)
        .chain(&else_expr)
        .map(|result| Operand::of(result, schema))
        .collect();
    let is_float = results.iter().any(Operand::is_float);
    let result = |expr: Box<Expr>| match is_float {
        true => Box::new(operands::as_double(*expr)),
        false => expr,
    };
    let when_then_expr = when_then_expr
        .into_iter()
        .map(|(when, then)| {
            let when = match &of {
                Some(of) => Box::new(operands::compared(*when, of)?),
                None => when,
            };
            Ok((when, result(then)))
        })
        .collect::<Result<_>>()?;
    Ok(Case {
        expr,
        when_then_expr,
        else_expr: else_expr.map(result),
    })
}

/// A literal argument is a DOUBLE, unless it stands beside a DECIMAL; and lists have a bound.
fn arguments(function: ScalarFunction, schema: &DFSchema) -> ScalarFunction {
    let ScalarFunction { func, args } = function;
    let func = bounded::bounded_list(&func).map_or(func, Arc::new);
    let shows = matches!(func.name(), "concat" | "concat_ws");
    if !shows && !args.iter().any(operands::is_decimal_literal) {
        return ScalarFunction { func, args };
    }
    let operands: Vec<Operand> = args.iter().map(|arg| Operand::of(arg, schema)).collect();
    let is_exact = operands
        .iter()
        .any(|of| of.is_decimal() && !of.is_literal());
    let args = args
        .into_iter()
        .zip(&operands)
        .map(|(arg, of)| match of {
            of if shows && of.is_float() => float_text(arg, DataType::Text),
            _ if is_exact || shows => arg,
            _ => operands::as_double(arg),
        })
        .collect();
    ScalarFunction { func, args }
}

/// How to cast `expr`, if not as Arrow does.
fn checked_cast(
    expr: &Expr,
    to: DataType,
    schema: &DFSchema,
) -> Option<fn(Expr, DataType) -> Expr> {
    let (_, field) = expr.to_field(schema).ok()?;
    let from = convert::data_type(&field);
    match (from, to) {
        (DataType::Float | DataType::Double, DataType::Text) => Some(float_text),
        (DataType::Text, DataType::Bytes) => Some(check),
        (from, DataType::Uuid | DataType::Json | DataType::File) if from != to => Some(check),
        _ => None,
    }
}

fn check(expr: Expr, data_type: DataType) -> Expr {
    let text = Expr::Cast(Cast::new(
        Box::new(expr),
        convert::arrow_type(DataType::Text),
    ));
    let function = Arc::new(functions::checked_text(data_type));
    Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![text]))
}

fn float_text(expr: Expr, _text: DataType) -> Expr {
    let function = Arc::new(functions::float_text());
    Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![expr]))
}
