//! What DataFusion's SQL planner asks: which tables and functions there are. Names are looked up
//! in the catalog of one snapshot, when a statement names them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::datatypes::{DataType as ArrowType, FieldRef, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DataFusionError, Result, TableReference, plan_err};
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::{TableProvider, provider_as_source};
use datafusion::execution::SessionState;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion::logical_expr::{
    AggregateUDF, Expr, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF,
};
use datafusion::sql::sqlparser::ast;
use storage::Snapshot;
use types::schema::{AccessLevel, Role, Table, TableKind};
use types::value::DataType;
use types::{Error, ErrorCode};

use super::bounded::{self, Budget};
use super::convert;
use super::functions::{self, session_function};
use super::provider::StoredTable;
use super::sum::checked_sum;
use super::system;
use crate::catalog::Catalog;
use crate::names::SYSTEM_NAMESPACE;
use crate::query::SystemFacts;
use crate::session::{Entropy, Session};

/// Where tables are read from. Expressions over the row of one table have no such place.
pub struct Source<'a> {
    /// The snapshot.
    pub read: Arc<dyn Snapshot>,
    /// The tables' definitions.
    pub catalog: &'a Catalog,
    /// What the system tables show beside them.
    pub facts: &'a Arc<dyn SystemFacts>,
}

/// One statement's view of tables and functions.
pub struct Context<'a> {
    state: &'a SessionState,
    session: &'a Session<'a>,
    entropy: &'a Arc<dyn Entropy>,
    source: Option<Source<'a>>,
    varies: AtomicBool,
    budget: Budget,
}

impl<'a> Context<'a> {
    /// A view; without `source` there are no tables.
    pub fn new(
        state: &'a SessionState,
        session: &'a Session<'a>,
        entropy: &'a Arc<dyn Entropy>,
        source: Option<Source<'a>>,
    ) -> Context<'a> {
        Context {
            state,
            session,
            entropy,
            source,
            varies: AtomicBool::new(false),
            budget: Budget::new(),
        }
    }

    /// Was a function asked for that gives something else at another time, for another session or
    /// in another call?
    pub fn varies(&self) -> bool {
        self.varies.load(Ordering::Relaxed)
    }

    fn provider(&self, name: &TableReference) -> Result<Arc<dyn TableProvider>> {
        let Some(source) = &self.source else {
            return plan_err!("a subquery is not possible here");
        };
        let missing = || not_found(&name.to_string());
        let namespace = match name {
            TableReference::Bare { table } => self.session.namespace.ok_or_else(|| {
                refused(
                    ErrorCode::TableNotFound,
                    format!(
                        "there is no table \"{table}\": write namespace.{table}, or choose a \
                             namespace with USE"
                    ),
                )
            })?,
            TableReference::Partial { schema, .. } => schema,
            TableReference::Full { .. } => return Err(missing()),
        };
        if namespace == SYSTEM_NAMESPACE {
            return system::table(name.table(), source, self.session)?.ok_or_else(missing);
        }
        let found = source
            .catalog
            .table(source.read.as_ref(), namespace, name.table())
            .map_err(|e| DataFusionError::External(Box::new(e)))?
            .ok_or_else(missing)?;
        let table = found.record;
        may_read(&table, self.session).map_err(|e| DataFusionError::External(Box::new(e)))?;
        let owner = owner(&table, self.session).map(str::to_owned);
        Ok(Arc::new(StoredTable::new(
            Arc::clone(&source.read),
            table,
            owner,
        )?))
    }
}

/// Whose rows of `table` the session means; none for tables whose rows have no owner.
pub fn owner<'a>(table: &Table, session: &Session<'a>) -> Option<&'a str> {
    table.kind.has_owner().then_some(session.effective_user)
}

/// May the session read the table?
///
/// # Errors
/// `PERMISSION_DENIED`.
pub fn may_read(table: &Table, session: &Session<'_>) -> types::Result<()> {
    let denied = |why: &str| {
        let message = format!("table {} {why}", table.qualified_name());
        Err(Error::new(ErrorCode::PermissionDenied, message))
    };
    match table.kind {
        TableKind::User | TableKind::Stream => Ok(()),
        TableKind::Shared if session.effective_user != session.user => {
            denied("is SHARED: EXECUTE AS USER is for USER and STREAM tables")
        }
        TableKind::Shared => match table.access {
            AccessLevel::Public => Ok(()),
            AccessLevel::Private | AccessLevel::Restricted if session.role >= Role::Service => {
                Ok(())
            }
            AccessLevel::Dba if session.role >= Role::Dba => Ok(()),
            AccessLevel::Private | AccessLevel::Restricted => denied("needs role service"),
            AccessLevel::Dba => denied("needs role dba"),
        },
    }
}

fn refused(code: ErrorCode, message: impl Into<String>) -> DataFusionError {
    DataFusionError::External(Box::new(Error::new(code, message)))
}

fn not_found(name: &str) -> DataFusionError {
    refused(
        ErrorCode::TableNotFound,
        format!("there is no table \"{name}\""),
    )
}

impl ContextProvider for Context<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        Ok(provider_as_source(self.provider(&name)?))
    }

    fn get_table_function_source(
        &self,
        name: &str,
        args: Vec<Expr>,
    ) -> Result<Arc<dyn TableSource>> {
        let Some(function) = self.state.table_functions().get(name) else {
            return plan_err!("there is no table function \"{name}\"");
        };
        let args = datafusion::catalog::TableFunctionArgs::new(&args, self.state);
        Ok(provider_as_source(
            function.create_table_provider_with_args(args)?,
        ))
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> Result<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(
            name, schema,
        ))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(Types))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        if let Some(function) = session_function(name, self.session, self.entropy) {
            self.varies.store(true, Ordering::Relaxed);
            return function.ok().map(Arc::new);
        }
        let function = self.state.scalar_functions().get(name)?;
        if functions::varies(function.signature().volatility) {
            self.varies.store(true, Ordering::Relaxed);
        }
        match bounded::bounded(function, &self.budget) {
            Some(bounded) => Some(Arc::new(bounded)),
            None => Some(Arc::clone(function)),
        }
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        match name {
            "sum" => Some(Arc::new(checked_sum())),
            _ => self.state.aggregate_functions().get(name).cloned(),
        }
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _variable_names: &[String]) -> Option<ArrowType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        names(self.state.scalar_functions())
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        names(self.state.higher_order_functions())
    }

    fn udaf_names(&self) -> Vec<String> {
        names(self.state.aggregate_functions())
    }

    fn udwf_names(&self) -> Vec<String> {
        names(self.state.window_functions())
    }
}

fn names<T>(functions: &HashMap<String, T>) -> Vec<String> {
    let mut names: Vec<String> = functions.keys().cloned().collect();
    names.sort_unstable();
    names
}

/// Our types where DataFusion's differ or are missing: `CAST(x AS UUID)`.
#[derive(Debug)]
struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> Result<Option<FieldRef>> {
        use ast::DataType as Sql;
        let data_type = match sql_type {
            Sql::Uuid => DataType::Uuid,
            Sql::JSON | Sql::JSONB => DataType::Json,
            Sql::Timestamp(..) => DataType::Timestamp,
            Sql::Datetime(_) => DataType::DateTime,
            Sql::Time(..) => DataType::Time,
            Sql::Float(_) => DataType::Float,
            Sql::Bytea | Sql::Bytes(_) | Sql::Blob(_) => DataType::Bytes,
            Sql::Text
            | Sql::Varchar(_)
            | Sql::String(_)
            | Sql::Character(_)
            | Sql::CharacterVarying(_)
            | Sql::Char(_)
            | Sql::CharVarying(_) => DataType::Text,
            Sql::Custom(name, arguments) if arguments.is_empty() => {
                match name.to_string().to_ascii_lowercase().as_str() {
                    "file" => DataType::File,
                    "bytes" => DataType::Bytes,
                    _ => return Ok(None),
                }
            }
            _ => return Ok(None),
        };
        Ok(Some(Arc::new(convert::field("", data_type, true))))
    }
}
