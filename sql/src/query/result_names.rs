//! Names of result columns: as the query spells them, without what planning adds.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::common::{DataFusionError, SchemaError};
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, Query, SelectItem, SetExpr, visit_expressions_mut,
};

use crate::names;

/// Gives the computed columns of a result the names the query suggests; `columns` are as planning
/// named them.
pub fn rename(query: &Query, columns: &mut [String]) {
    let Some(items) = projection(&query.body) else {
        return;
    };
    let wildcard = |item: &SelectItem| {
        matches!(
            item,
            SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)
        )
    };
    let (count, width) = (items.len(), columns.len());
    // A wildcard stands for any number of columns: count from the nearer end.
    let first = items.iter().position(wildcard).unwrap_or(count);
    let last = items.iter().rposition(wildcard).map_or(count, |at| at + 1);
    if first == count && count != width {
        // An item that stands for several columns: which they are is not in the query.
        return;
    }
    for (at, item) in items.iter().enumerate() {
        let column = if at < first {
            Some(at)
        } else if at >= last {
            (width + at).checked_sub(count)
        } else {
            None
        };
        let name = match item {
            SelectItem::UnnamedExpr(expr) => of_expr(expr),
            SelectItem::ExprWithAlias { alias, .. } => names::fold(alias),
            _ => continue,
        };
        if let Some(column) = column.and_then(|at| columns.get_mut(at)) {
            *column = name;
        }
    }
}

/// Is it the error for two result columns of one name? SQL has nothing against them.
pub fn are_repeated(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::Plan(message) => message.contains("require unique expression names"),
        DataFusionError::SchemaError(error, _) => matches!(
            **error,
            SchemaError::DuplicateQualifiedField { .. }
                | SchemaError::DuplicateUnqualifiedField { .. }
        ),
        _ => false,
    }
}

/// The query with names of its own for the result columns that another may be called like. The
/// first of a kind keeps its name, which ORDER BY may refer to.
pub fn distinct(mut query: Query) -> Query {
    distinct_in(&mut query.body);
    query
}

fn distinct_in(body: &mut SetExpr) {
    match body {
        SetExpr::Query(query) => distinct_in(&mut query.body),
        SetExpr::SetOperation { left, right, .. } => {
            distinct_in(left);
            distinct_in(right);
        }
        SetExpr::Select(select) => {
            let has_wildcard = select.projection.iter().any(|item| {
                matches!(
                    item,
                    SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)
                )
            });
            let mut taken = BTreeSet::new();
            for (at, item) in select.projection.iter_mut().enumerate() {
                let (expr, name) = match item {
                    SelectItem::UnnamedExpr(expr) => {
                        let name = planned_name(expr);
                        (expr, name)
                    }
                    SelectItem::ExprWithAlias { expr, alias } => {
                        let name = names::fold(alias);
                        (expr, name)
                    }
                    _ => continue,
                };
                if taken.insert(name) && !has_wildcard {
                    continue;
                }
                let alias = Ident::with_quote('"', format!("?column?{at}"));
                let expr = expr.clone();
                *item = SelectItem::ExprWithAlias { expr, alias };
            }
        }
        _ => {}
    }
}

/// What planning may call a column that shows `expr`: casts and parentheses do not count.
fn planned_name(expr: &Expr) -> String {
    match expr {
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => planned_name(inner),
        other => of_expr(other),
    }
}

/// The name of a column that shows `expr`: that of the column it is, or its text.
pub fn of_expr(expr: &Expr) -> String {
    match expr {
        Expr::Identifier(ident) => names::fold(ident),
        Expr::CompoundIdentifier(parts) => parts.last().map_or_else(String::new, names::fold),
        Expr::Nested(inner) => of_expr(inner),
        other => {
            let mut spelt = other.clone();
            let _: ControlFlow<()> = visit_expressions_mut(&mut spelt, |expr| {
                if let Expr::Function(function) = expr {
                    fold_name(&mut function.name);
                }
                ControlFlow::Continue(())
            });
            spelt.to_string()
        }
    }
}

fn fold_name(name: &mut ObjectName) {
    for part in &mut name.0 {
        if let Some(ident) = part.as_ident().filter(|ident| ident.quote_style.is_none()) {
            let mut folded = ident.clone();
            folded.value = names::fold(ident);
            *part = ObjectNamePart::Identifier(folded);
        }
    }
}

/// The items of the leftmost SELECT, which names the columns.
fn projection(body: &SetExpr) -> Option<&[SelectItem]> {
    match body {
        SetExpr::Select(select) => Some(&select.projection),
        SetExpr::Query(query) => projection(&query.body),
        SetExpr::SetOperation { left, .. } => projection(left),
        _ => None,
    }
}
