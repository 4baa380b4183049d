//! SELECT through DataFusion, over one snapshot.
//!
//! What is the same for all queries is built once, and so is the bound on their memory; a query has
//! its own view of names ([`super::context`]), and ends when its future is dropped. Nothing here
//! reaches files: what comes in is a query, and there is neither a way to make a table of a file
//! nor a disk to spill to.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SessionState, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use datafusion::sql::sqlparser::ast;
use futures::TryStreamExt;
use storage::Snapshot;
use types::limits::{QUERY_MEMORY_MAX_BYTES, RESULT_MAX_BYTES, RESULT_ROWS_MAX};
use types::value::Value;
use types::{Error, ErrorCode};

use super::context::{Context, Source};
use super::failure::{Phase, failure};
use super::system::SystemFacts;
use super::{bounded, convert, lookup, params, result_names, rewrite};
use crate::answer::{ResultColumn, Rows};
use crate::catalog::Catalog;
use crate::failure::Result;
use crate::session::{Entropy, Param, Session};

/// Rows DataFusion hands from operator to operator at once.
const BATCH_ROWS: usize = 8_192;

/// Evaluates SQL. Built once; clones share everything.
#[derive(Clone)]
pub struct QueryEngine {
    pub(super) facts: Arc<dyn SystemFacts>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) catalog: Catalog,
    pub(super) state: Arc<SessionState>,
}

impl QueryEngine {
    /// An engine.
    ///
    /// # Panics
    /// If DataFusion cannot be set up without a disk to spill to, which does no IO.
    pub fn new(facts: Arc<dyn SystemFacts>, entropy: Arc<dyn Entropy>) -> QueryEngine {
        let spilling = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        let memory = Arc::new(GreedyMemoryPool::new(QUERY_MEMORY_MAX_BYTES));
        let runtime = RuntimeEnvBuilder::new()
            .with_disk_manager_builder(spilling)
            .with_memory_pool(memory)
            .build_arc()
            .expect("a runtime without a disk needs nothing that can fail");
        let mut config = SessionConfig::new()
            .with_target_partitions(1)
            .with_batch_size(BATCH_ROWS)
            .with_information_schema(false)
            .with_create_default_catalog_and_schema(false);
        let options = config.options_mut();
        options.sql_parser.map_string_types_to_utf8view = false;
        // It compares metadata too, which a cast keeps in one place and drops in the other.
        options.execution.skip_physical_aggregate_schema_check = true;
        let mut state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_default_features()
            .build();
        bounded::restrict(&mut state);
        QueryEngine {
            facts,
            entropy,
            catalog: Catalog::new(),
            state: Arc::new(state),
        }
    }

    /// The catalog it looks names up in.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The rows of a query.
    ///
    /// # Errors
    /// `TABLE_NOT_FOUND`, `PERMISSION_DENIED`, `INVALID_PARAMETER`; `INVALID_SQL` for what cannot
    /// be planned; `SQL_EXECUTION_ERROR` for what fails while it runs, and for results beyond
    /// [`RESULT_ROWS_MAX`] or [`RESULT_MAX_BYTES`].
    pub async fn select(
        &self,
        read: Arc<dyn Snapshot>,
        query: &ast::Query,
        session: &Session<'_>,
        params: &[Param],
    ) -> Result<Rows> {
        params::check_count(params::highest(query)?, params)?;
        if let Some(rows) = lookup::select(self, &read, query, session, params)? {
            return Ok(rows);
        }
        self.query(read, query, session, params).await
    }

    /// As [`QueryEngine::select`], always through DataFusion.
    pub(super) async fn query(
        &self,
        read: Arc<dyn Snapshot>,
        query: &ast::Query,
        session: &Session<'_>,
        params: &[Param],
    ) -> Result<Rows> {
        let plan = self.plan(read, query, session, params)?;
        let columns = result_columns(&plan, query);
        self.run(&plan, columns).await
    }

    /// How a query would be run: columns `plan_type` and `plan`.
    ///
    /// # Errors
    /// As [`QueryEngine::select`], where they arise in planning.
    pub async fn explain(
        &self,
        read: Arc<dyn Snapshot>,
        query: &ast::Query,
        session: &Session<'_>,
        params: &[Param],
    ) -> Result<Rows> {
        params::check_count(params::highest(query)?, params)?;
        let plan = self.plan(read, query, session, params)?;
        let explained = LogicalPlanBuilder::from(plan)
            .explain(false, false)
            .and_then(LogicalPlanBuilder::build)
            .map_err(|error| failure(error, Phase::Planning))?;
        let columns = plan_columns(&explained);
        self.run(&explained, columns).await
    }

    fn plan(
        &self,
        read: Arc<dyn Snapshot>,
        query: &ast::Query,
        session: &Session<'_>,
        params: &[Param],
    ) -> Result<LogicalPlan> {
        if !query.locks.is_empty() {
            return Err(Error::new(
                ErrorCode::InvalidSql,
                "FOR UPDATE and FOR SHARE are not supported: a transaction is one request",
            )
            .into());
        }
        let bound = params::bind(query, params)?;
        let planned = self.plan_bound(&read, bound.clone(), session);
        match planned {
            Err(error) if result_names::are_repeated(&error) => {
                let renamed = result_names::distinct(bound);
                self.plan_bound(&read, renamed, session)
            }
            planned => planned,
        }
        .map_err(|error| failure(error, Phase::Planning))
    }

    fn plan_bound(
        &self,
        read: &Arc<dyn Snapshot>,
        bound: ast::Query,
        session: &Session<'_>,
    ) -> datafusion::common::Result<LogicalPlan> {
        let read = Arc::clone(read);
        let source = Source {
            read,
            catalog: &self.catalog,
            facts: &self.facts,
        };
        let context = Context::new(&self.state, session, &self.entropy, Some(source));
        let statement = ast::Statement::Query(Box::new(bound));
        let reads_only = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        let plan = sql_planner(&context).sql_statement_to_plan(statement)?;
        reads_only.verify_plan(&plan)?;
        rewrite::plan(plan)
    }

    async fn run(&self, plan: &LogicalPlan, columns: Vec<ResultColumn>) -> Result<Rows> {
        let physical = self
            .state
            .create_physical_plan(plan)
            .await
            .map_err(|error| failure(error, Phase::Planning))?;
        let running = |error| failure(error, Phase::Running);
        let mut batches = execute_stream(physical, self.task()).map_err(running)?;
        let mut collector = Collector {
            columns,
            rows: Vec::new(),
            bytes: 0,
        };
        while let Some(batch) = batches.try_next().await.map_err(running)? {
            collector.add(&batch)?;
        }
        Ok(Rows {
            columns: collector.columns,
            rows: collector.rows,
        })
    }

    /// What one query runs in; the bound on memory is that of all together.
    fn task(&self) -> Arc<TaskContext> {
        Arc::new(TaskContext::new(
            None,
            String::new(),
            self.state.config().clone(),
            // Plans hold their functions; these maps are for plans that come over a wire.
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            Arc::clone(self.state.runtime_env()),
        ))
    }
}

/// The planner of all our SQL: a number with a decimal point is a DECIMAL.
pub(super) fn sql_planner<'a>(context: &'a Context<'a>) -> SqlToRel<'a, Context<'a>> {
    let options = ParserOptions::new().with_parse_float_as_decimal(true);
    SqlToRel::new_with_options(context, options)
}

impl std::fmt::Debug for QueryEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("QueryEngine")
    }
}

fn plan_columns(plan: &LogicalPlan) -> Vec<ResultColumn> {
    let fields = plan.schema().fields().iter();
    fields
        .map(|field| ResultColumn {
            name: field.name().clone(),
            data_type: convert::data_type(field),
            flags: convert::flags(field),
        })
        .collect()
}

fn result_columns(plan: &LogicalPlan, query: &ast::Query) -> Vec<ResultColumn> {
    let mut columns = plan_columns(plan);
    let mut names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    result_names::rename(query, &mut names);
    for (column, name) in columns.iter_mut().zip(names) {
        column.name = name;
    }
    columns
}

/// Collects a result, within its bounds.
struct Collector {
    columns: Vec<ResultColumn>,
    rows: Vec<Vec<Value>>,
    bytes: usize,
}

impl Collector {
    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.rows.len() + batch.num_rows() > RESULT_ROWS_MAX {
            return Err(too_large(format!("more than {RESULT_ROWS_MAX} rows")));
        }
        let first = self.rows.len();
        let width = self.columns.len();
        self.rows
            .resize_with(first + batch.num_rows(), || Vec::with_capacity(width));
        for (column, array) in self.columns.iter().zip(batch.columns()) {
            let values = convert::to_values(array, column.data_type)
                .map_err(|error: DataFusionError| failure(error, Phase::Running))?;
            for (row, value) in self.rows[first..].iter_mut().zip(values) {
                self.bytes += shown_bytes(&value);
                row.push(value);
            }
            // After each column: many of them may show the same large value.
            if self.bytes > RESULT_MAX_BYTES {
                return Err(too_large(format!("larger than {RESULT_MAX_BYTES} bytes")));
            }
        }
        Ok(())
    }
}

fn too_large(how: String) -> crate::failure::Failure {
    Error::new(
        ErrorCode::SqlExecutionError,
        format!("the result is {how}: add LIMIT"),
    )
    .into()
}

/// About how many bytes a value takes in an answer.
fn shown_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Boolean(_) | Value::SmallInt(_) | Value::Int(_) => 6,
        Value::Text(text) | Value::Json(text) | Value::File(text) => text.len() + 3,
        // As an array of numbers.
        Value::Bytes(bytes) => bytes.len() * 4 + 3,
        _ => 24,
    }
}
