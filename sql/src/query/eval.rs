//! Expressions over the rows of one table: UPDATE SET, WHERE, RETURNING, route filters.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType as ArrowType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::{DFSchema, TableReference};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::sql::planner::PlannerContext;
use datafusion::sql::sqlparser::ast;
use types::schema::Table;
use types::value::{DataType, Value};
use types::{Error, ErrorCode, Result};

use super::context::Context;
use super::engine::QueryEngine;
use super::failure::{Phase, refusal};
use super::{convert, params, provider, rewrite};
use crate::names;
use crate::session::{Param, Session};

/// What the row that was to be inserted is called in ON CONFLICT DO UPDATE.
const EXCLUDED: &str = "excluded";

/// An expression checked against a table's columns.
#[derive(Clone, Debug)]
pub struct CompiledExpr {
    code: Code,
    data_type: DataType,
    /// NULL, or of type BOOLEAN.
    is_condition: bool,
    name: String,
    depends_on_session: bool,
}

/// How to get the value. Most expressions of an UPDATE are literals and columns, which need no
/// planner.
#[derive(Clone, Debug)]
enum Code {
    Literal(Value),
    /// The column at this position of the row.
    Column(usize),
    Physical(Physical),
}

/// An expression of DataFusion over just the columns it uses.
#[derive(Clone, Debug)]
struct Physical {
    expr: Arc<dyn PhysicalExpr>,
    /// The columns: position in the row, and type.
    inputs: Vec<(usize, DataType)>,
    schema: SchemaRef,
}

impl CompiledExpr {
    /// Its value for each row. A row has one value a column, in the table's order.
    ///
    /// # Errors
    /// `SQL_EXECUTION_ERROR` if it has no value for one of the rows, as 1/0.
    pub fn eval(&self, rows: &[Vec<Value>]) -> Result<Vec<Value>> {
        let rows: Vec<&[Value]> = rows.iter().map(Vec::as_slice).collect();
        self.eval_slices(&rows)
    }

    /// Its value for one row; see [`CompiledExpr::eval`].
    pub fn eval_row(&self, row: &[Value]) -> Result<Value> {
        Ok(self.eval_slices(&[row])?.pop().unwrap_or(Value::Null))
    }

    /// Is it true for the row? NULL is not. See [`CompiledExpr::eval`].
    pub fn matches(&self, row: &[Value]) -> Result<bool> {
        Ok(self.eval_row(row)? == Value::Boolean(true))
    }

    /// The type of its values.
    pub fn data_type(&self) -> DataType {
        self.data_type
    }

    /// Is it something that is true or not?
    ///
    /// # Errors
    /// `INVALID_SQL`; `clause` names the place it stands in.
    pub fn check_condition(&self, clause: &str) -> Result<()> {
        if self.is_condition {
            return Ok(());
        }
        Err(Error::new(
            ErrorCode::InvalidSql,
            format!(
                "{clause} needs a BOOLEAN, not {}",
                super::cast::name(self.data_type)
            ),
        ))
    }

    /// The name of a result column that shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Does it give something else for another session, at another time or in another call? Then
    /// it must not be kept for later.
    pub fn depends_on_session(&self) -> bool {
        self.depends_on_session
    }

    pub(super) fn eval_slices(&self, rows: &[&[Value]]) -> Result<Vec<Value>> {
        match &self.code {
            Code::Literal(value) => Ok(vec![value.clone(); rows.len()]),
            Code::Column(at) => Ok(rows
                .iter()
                .map(|row| row.get(*at).cloned().unwrap_or(Value::Null))
                .collect()),
            Code::Physical(physical) => physical
                .eval(rows, self.data_type)
                .map_err(|error| refusal(error, Phase::Running)),
        }
    }
}

impl Physical {
    fn eval(
        &self,
        rows: &[&[Value]],
        data_type: DataType,
    ) -> datafusion::common::Result<Vec<Value>> {
        let arrays: datafusion::common::Result<Vec<ArrayRef>> = self
            .inputs
            .iter()
            .map(|(at, data_type)| {
                let values = rows.iter().map(|row| row.get(*at).unwrap_or(&Value::Null));
                convert::to_array(*data_type, values)
            })
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let schema = Arc::clone(&self.schema);
        let batch = RecordBatch::try_new_with_options(schema, arrays?, &options)?;
        let array = self.expr.evaluate(&batch)?.into_array(rows.len())?;
        convert::to_values(&array, data_type)
    }
}

/// What names in an expression can mean: the columns of a row.
pub(super) struct Scope {
    schema: DFSchema,
    types: Vec<DataType>,
}

impl Scope {
    /// No columns.
    pub fn empty() -> Scope {
        Scope {
            schema: DFSchema::empty(),
            types: Vec::new(),
        }
    }

    /// A table's columns.
    pub fn table(table: &Table) -> Result<Scope> {
        Scope::new(table, table_fields(table))
    }

    /// A table's columns, then those of the row that was to be inserted.
    pub fn upsert(table: &Table) -> Result<Scope> {
        let mut fields = table_fields(table);
        for column in &table.columns {
            // Without a qualifier and under a name of its own, so that a bare name means the
            // stored row's column, as in PostgreSQL.
            let field = convert::field(&excluded(&column.name), column.data_type, true);
            fields.push((None, Arc::new(field)));
        }
        Scope::new(table, fields)
    }

    fn new(table: &Table, fields: Vec<(Option<TableReference>, FieldRef)>) -> Result<Scope> {
        let schema = DFSchema::new_with_metadata(fields, HashMap::new())
            .map_err(|error| refusal(error, Phase::Planning))?;
        let types = table.columns.iter().map(|column| column.data_type).cycle();
        let count = schema.fields().len();
        Ok(Scope {
            schema,
            types: types.take(count).collect(),
        })
    }
}

fn table_fields(table: &Table) -> Vec<(Option<TableReference>, FieldRef)> {
    let qualifier = TableReference::partial(table.namespace.as_str(), table.name.as_str());
    let schema = provider::schema_of(table);
    schema
        .fields()
        .iter()
        .map(|f| (Some(qualifier.clone()), Arc::clone(f)))
        .collect()
}

fn excluded(column: &str) -> String {
    format!("{EXCLUDED}.{column}")
}

/// `excluded.c` under the name its column has in [`Scope::upsert`].
fn rename_excluded(expr: &mut ast::Expr) {
    use std::ops::ControlFlow;
    let _: ControlFlow<()> = ast::visit_expressions_mut(expr, |expr| {
        if let ast::Expr::CompoundIdentifier(parts) = expr
            && let [table, column] = parts.as_slice()
            && names::fold(table) == EXCLUDED
        {
            let name = excluded(&names::fold(column));
            *expr = ast::Expr::Identifier(ast::Ident::with_quote('"', name));
        }
        ControlFlow::Continue(())
    });
}

impl QueryEngine {
    /// Checks an expression against a table's columns.
    ///
    /// # Errors
    /// `INVALID_SQL` if it names what is not there or its types do not fit; `INVALID_PARAMETER`.
    pub fn compile(
        &self,
        table: &Table,
        expr: &ast::Expr,
        session: &Session<'_>,
        params: &[Param],
    ) -> Result<CompiledExpr> {
        match simple(table, expr, params)? {
            Some(compiled) => Ok(compiled),
            None => self.compile_in(&Scope::table(table)?, expr, session, params),
        }
    }

    /// As [`QueryEngine::compile`], for ON CONFLICT DO UPDATE: rows have the values of the stored
    /// row, then those of the row that was to be inserted, which is called `excluded`.
    pub fn compile_upsert(
        &self,
        table: &Table,
        expr: &ast::Expr,
        session: &Session<'_>,
        params: &[Param],
    ) -> Result<CompiledExpr> {
        if let Some(compiled) = simple(table, expr, params)? {
            return Ok(compiled);
        }
        let mut renamed = expr.clone();
        rename_excluded(&mut renamed);
        self.compile_in(&Scope::upsert(table)?, &renamed, session, params)
    }

    fn compile_in(
        &self,
        scope: &Scope,
        expr: &ast::Expr,
        session: &Session<'_>,
        params: &[Param],
    ) -> Result<CompiledExpr> {
        let logical = self.logical(scope, expr, session, params)?;
        let compiled = self.physical(scope, &logical.expr);
        let mut compiled = compiled.map_err(|error| refusal(error, Phase::Planning))?;
        compiled.name = super::result_names::of_expr(expr);
        compiled.depends_on_session = logical.depends_on_session;
        Ok(compiled)
    }

    /// The expression with its types made to fit and its constants folded.
    pub(super) fn logical(
        &self,
        scope: &Scope,
        expr: &ast::Expr,
        session: &Session<'_>,
        params: &[Param],
    ) -> Result<Logical> {
        let bound = params::bind(expr, params)?;
        let context = Context::new(&self.state, session, &self.entropy, None);
        let plan = || {
            let planner = super::engine::sql_planner(&context);
            let expr = planner.sql_to_expr(bound, &scope.schema, &mut PlannerContext::new())?;
            let expr = rewrite::expr(expr, &scope.schema)?;
            let simplify = SimplifyContext::builder()
                .with_schema(Arc::new(scope.schema.clone()))
                .with_config_options(Arc::clone(self.state.config_options()))
                .build();
            let simplifier = ExprSimplifier::new(simplify);
            let expr = simplifier.coerce(expr, &scope.schema)?;
            simplifier.simplify(expr)
        };
        let expr = plan().map_err(|error| refusal(error, Phase::Planning))?;
        Ok(Logical {
            expr,
            depends_on_session: context.varies(),
        })
    }

    /// The expression as something that runs, over just the columns it uses.
    pub(super) fn physical(
        &self,
        scope: &Scope,
        expr: &Expr,
    ) -> datafusion::common::Result<CompiledExpr> {
        let (_, field): (_, Arc<Field>) = expr.to_field(&scope.schema)?;
        let mut used = Vec::new();
        for column in expr.column_refs() {
            used.push(scope.schema.index_of_column(column)?);
        }
        used.sort_unstable();
        used.dedup();
        let fields = used
            .iter()
            .map(|at| {
                let (qualifier, field) = scope.schema.qualified_field(*at);
                (qualifier.cloned(), Arc::clone(field))
            })
            .collect();
        let schema = DFSchema::new_with_metadata(fields, HashMap::new())?;
        let physical = self.state.create_physical_expr(expr.clone(), &schema)?;
        Ok(CompiledExpr {
            code: Code::Physical(Physical {
                expr: physical,
                inputs: used.iter().map(|at| (*at, scope.types[*at])).collect(),
                schema: Arc::new(nullable(schema.as_arrow())),
            }),
            data_type: convert::data_type(&field),
            is_condition: matches!(field.data_type(), ArrowType::Boolean | ArrowType::Null),
            name: String::new(),
            depends_on_session: false,
        })
    }

    /// The value of an expression that names no column. A literal with a decimal point is a
    /// DECIMAL of as many digits as it has; one with an exponent is a DOUBLE.
    ///
    /// # Errors
    /// As [`QueryEngine::compile`] and [`CompiledExpr::eval`].
    pub fn constant(
        &self,
        expr: &ast::Expr,
        session: &Session<'_>,
        params: &[Param],
    ) -> Result<Value> {
        if let Some(value) = super::literal::value(expr, params)? {
            return Ok(value);
        }
        if let Some(name) = super::literal::function_name(expr)
            && let Some(value) = super::functions::session_value(&name, session, &self.entropy)
        {
            return Ok(value);
        }
        self.compile_in(&Scope::empty(), expr, session, params)?
            .eval_row(&[])
    }
}

/// A literal, a parameter or a column of the table.
fn simple(table: &Table, expr: &ast::Expr, params: &[Param]) -> Result<Option<CompiledExpr>> {
    let (code, data_type, is_null) = if let Some(value) = super::literal::value(expr, params)? {
        let is_null = value.is_null();
        let data_type = super::literal::data_type(&value);
        (Code::Literal(value), data_type, is_null)
    } else if let Some(column) = super::lookup::column(table, &table.name, expr)
        && let Some(at) = table.columns.iter().position(|c| c.id == column.id)
    {
        (Code::Column(at), column.data_type, false)
    } else {
        return Ok(None);
    };
    Ok(Some(CompiledExpr {
        code,
        data_type,
        is_condition: is_null || data_type == DataType::Boolean,
        name: super::result_names::of_expr(expr),
        depends_on_session: false,
    }))
}

/// Before a row is stored its NOT NULL columns may hold anything.
fn nullable(schema: &Schema) -> Schema {
    let fields = schema.fields().iter();
    Schema::new(
        fields
            .map(|f| f.as_ref().clone().with_nullable(true))
            .collect::<Vec<_>>(),
    )
}

/// A planned expression.
pub(super) struct Logical {
    /// What it computes.
    pub expr: Expr,
    /// See [`CompiledExpr::depends_on_session`].
    pub depends_on_session: bool,
}
