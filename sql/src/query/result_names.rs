//! Names of result columns: as the query spells them, without what planning adds.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, ObjectName, ObjectNamePart, Query, SelectItem, SetExpr, visit_expressions_mut,
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
    for (at, item) in items.iter().enumerate() {
        let column = if at < first {
            Some(at)
        } else if at >= last {
            (width + at).checked_sub(count)
        } else {
            None
        };
        if let SelectItem::UnnamedExpr(expr) = item
            && !matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
            && let Some(column) = column.and_then(|at| columns.get_mut(at))
        {
            *column = of_expr(expr);
        }
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
