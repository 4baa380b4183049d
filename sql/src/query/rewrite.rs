//! Makes expressions mean what they say of types that Arrow has only as text: a UUID equals its
//! spelling in capitals, and `CAST(x AS UUID)` refuses what is none.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::expr::{Between, Cast, InList, ScalarFunction};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};
use types::cell::to_text;
use types::value::{DataType, Value};

use super::{cast, convert, functions};

/// `plan` with every expression in it as [`expr`] makes it.
pub fn plan(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        node.map_expressions(|e| transform(e, &schema))
    })?;
    Ok(rewritten.data)
}

/// `expr` with literals beside UUIDs in the canonical form, and with casts that check.
pub fn expr(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    Ok(transform(expr, schema)?.data)
}

fn transform(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) => {
            let (left, right) = (*left, *right);
            let (left_uuid, right_uuid) =
                (beside(&right, &left, schema), beside(&left, &right, schema));
            let left = if left_uuid { canonical(left)? } else { left };
            let right = if right_uuid { canonical(right)? } else { right };
            let whole = BinaryExpr {
                left: Box::new(left),
                op,
                right: Box::new(right),
            };
            Ok(changed(Expr::BinaryExpr(whole), left_uuid || right_uuid))
        }
        Expr::InList(InList {
            expr,
            list,
            negated,
        }) if list.iter().any(is_text) && is_uuid(&expr, schema) => {
            let list: Result<Vec<Expr>> = list.into_iter().map(canonical).collect();
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
        }) if (is_text(&low) || is_text(&high)) && is_uuid(&expr, schema) => {
            let (low, high) = (Box::new(canonical(*low)?), Box::new(canonical(*high)?));
            Ok(Transformed::yes(Expr::Between(Between {
                expr,
                negated,
                low,
                high,
            })))
        }
        Expr::Cast(Cast { expr, field }) => {
            match checked(&expr, convert::data_type(&field), schema) {
                Some(data_type) => Ok(Transformed::yes(check(*expr, data_type))),
                None => Ok(Transformed::no(Expr::Cast(Cast { expr, field }))),
            }
        }
        other => Ok(Transformed::no(other)),
    })
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

fn changed(expr: Expr, changed: bool) -> Transformed<Expr> {
    if changed {
        Transformed::yes(expr)
    } else {
        Transformed::no(expr)
    }
}

/// Is `literal` text compared with a UUID?
fn beside(uuid: &Expr, literal: &Expr, schema: &DFSchema) -> bool {
    is_text(literal) && is_uuid(uuid, schema)
}

fn is_text(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::Literal(
            ScalarValue::Utf8(Some(_))
                | ScalarValue::LargeUtf8(Some(_))
                | ScalarValue::Utf8View(Some(_)),
            _
        )
    )
}

fn is_uuid(expr: &Expr, schema: &DFSchema) -> bool {
    // An expression whose type cannot be told gets its error from the planner.
    expr.to_field(schema)
        .is_ok_and(|(_, field)| convert::data_type(&field) == DataType::Uuid)
}

fn canonical(expr: Expr) -> Result<Expr> {
    let Expr::Literal(literal, metadata) = expr else {
        return Ok(expr);
    };
    let Some(Some(text)) = literal.try_as_str() else {
        return Ok(Expr::Literal(literal, metadata));
    };
    let uuid = cast::cast(Value::Text(text.to_owned()), DataType::Uuid)
        .map_err(|error| DataFusionError::External(Box::new(error)))?;
    Ok(Expr::Literal(
        ScalarValue::Utf8(Some(to_text(&uuid))),
        metadata,
    ))
}

/// The type, if casting `expr` to it has to look at the text.
fn checked(expr: &Expr, to: DataType, schema: &DFSchema) -> Option<DataType> {
    let has_form = matches!(to, DataType::Uuid | DataType::Json | DataType::File);
    let (_, field) = expr.to_field(schema).ok()?;
    (has_form && convert::data_type(&field) != to).then_some(to)
}

fn check(expr: Expr, data_type: DataType) -> Expr {
    let text = Expr::Cast(Cast::new(
        Box::new(expr),
        convert::arrow_type(DataType::Text),
    ));
    let function = Arc::new(functions::checked_text(data_type));
    Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![text]))
}
