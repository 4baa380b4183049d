//! Tables as DataFusion sees them: rows read from a snapshot, batch by batch.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::Session as DataFusionSession;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::datasource::{TableProvider, TableType};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
    SortOrderPushdownResult,
};
use storage::{Direction, KeyRange, Snapshot};
use types::ids::{ColumnId, Version};
use types::row;
use types::schema::{Column, Table};
use types::value::{DataType, Value};

use super::convert::{self, ColumnBuilder};
use super::ranges;

/// Most rows in one batch.
const BATCH_ROWS_MAX: usize = 8_192;
/// Stored bytes after which a batch is closed.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// The Arrow schema of a table's columns.
pub fn schema_of(table: &Table) -> Schema {
    let field = |column: &Column| {
        let in_key = table.primary_key.contains(&column.id);
        convert::column_field(
            &column.name,
            column.data_type,
            column.nullable && !in_key,
            in_key,
        )
    };
    Schema::new(table.columns.iter().map(field).collect::<Vec<_>>())
}

/// What a row that does not name the column reads as.
pub fn missing_value(column: &Column) -> Result<Value, row::MalformedRow> {
    let Some(field) = &column.missing else {
        return Ok(Value::Null);
    };
    // A field alone is a row but for its schema version.
    let row = [&[0; 4], field.as_slice()].concat();
    let (_, value) = row::decode(&row)?
        .into_iter()
        .next()
        .ok_or(row::MalformedRow)?;
    Ok(value)
}

/// The error for stored bytes that are not what was written.
pub fn corrupt(table: &Table, key: &[u8]) -> storage::Error {
    storage::Error::Corrupt {
        what: format!("a row of table {} (key {key:02x?})", table.qualified_name()),
    }
}

/// A table of one snapshot, with the rows of one owner.
pub struct StoredTable {
    read: Arc<dyn Snapshot>,
    table: Arc<Table>,
    owner: Option<String>,
    schema: SchemaRef,
}

impl StoredTable {
    /// A table; `owner` for USER and STREAM tables.
    pub fn new(
        read: Arc<dyn Snapshot>,
        table: Arc<Table>,
        owner: Option<String>,
    ) -> Result<StoredTable> {
        if table.kind.has_owner() != owner.is_some() {
            return internal_err!(
                "table {} and its owner do not agree",
                table.qualified_name()
            );
        }
        let schema = Arc::new(schema_of(&table));
        Ok(StoredTable {
            read,
            table,
            owner,
            schema,
        })
    }
}

impl fmt::Debug for StoredTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredTable({})", self.table.qualified_name())
    }
}

#[async_trait]
impl TableProvider for StoredTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|filter| match ranges::narrows(&self.table, filter) {
                true => TableProviderFilterPushDown::Inexact,
                false => TableProviderFilterPushDown::Unsupported,
            })
            .collect())
    }

    async fn scan(
        &self,
        _state: &dyn DataFusionSession,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let projection = match projection {
            Some(columns) => columns.clone(),
            None => (0..self.table.columns.len()).collect(),
        };
        let owner = self.owner.as_deref();
        let ranges = ranges::row_ranges(&*self.read, &self.table, owner, filters);
        let ranges = ranges.map_err(external)?;
        Ok(Arc::new(TableScan::new(self, projection, ranges, limit)?))
    }
}

/// The scan of a table in the order of its keys, or in the reverse one.
#[derive(Clone)]
struct TableScan {
    read: Arc<dyn Snapshot>,
    table: Arc<Table>,
    /// Positions among the table's columns.
    projection: Vec<usize>,
    ranges: Vec<KeyRange>,
    direction: Direction,
    limit: Option<usize>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl TableScan {
    fn new(
        stored: &StoredTable,
        projection: Vec<usize>,
        ranges: Vec<KeyRange>,
        limit: Option<usize>,
    ) -> Result<TableScan> {
        let schema = Arc::new(stored.schema.project(&projection)?);
        let order = key_order(&stored.table, &projection, Direction::Forward);
        Ok(TableScan {
            read: Arc::clone(&stored.read),
            table: Arc::clone(&stored.table),
            projection,
            ranges,
            direction: Direction::Forward,
            limit,
            properties: properties(&schema, order),
            schema,
        })
    }

    fn reversed(&self) -> TableScan {
        let order = key_order(&self.table, &self.projection, Direction::Reverse);
        TableScan {
            direction: Direction::Reverse,
            properties: properties(&self.schema, order),
            ..self.clone()
        }
    }

    fn reader(&self) -> Result<Reader> {
        let columns: Vec<Column> = self
            .projection
            .iter()
            .map(|at| self.table.columns[*at].clone())
            .collect();
        let mut wanted: Vec<(ColumnId, usize)> = columns
            .iter()
            .enumerate()
            .map(|(at, column)| (column.id, at))
            .collect();
        wanted.sort_unstable();
        let missing: Result<Vec<Value>, _> = columns.iter().map(missing_value).collect();
        let missing = missing.map_err(|e| {
            let what = format!("definition of {}: {e}", self.table.qualified_name());
            DataFusionError::External(Box::new(storage::Error::Corrupt { what }))
        })?;
        Ok(Reader {
            read: Arc::clone(&self.read),
            table: Arc::clone(&self.table),
            types: columns.iter().map(|column| column.data_type).collect(),
            missing,
            wanted_ids: wanted.iter().map(|(id, _)| *id).collect(),
            wanted_at: wanted.iter().map(|(_, at)| *at).collect(),
            ranges: match self.direction {
                Direction::Forward => self.ranges.iter().rev().cloned().collect(),
                Direction::Reverse => self.ranges.clone(),
            },
            direction: self.direction,
            left: self.limit.unwrap_or(usize::MAX),
            schema: Arc::clone(&self.schema),
        })
    }
}

fn properties(schema: &SchemaRef, order: Vec<PhysicalSortExpr>) -> Arc<PlanProperties> {
    let equivalences = match order.is_empty() {
        true => EquivalenceProperties::new(Arc::clone(schema)),
        false => EquivalenceProperties::new_with_orderings(Arc::clone(schema), [order]),
    };
    Arc::new(PlanProperties::new(
        equivalences,
        Partitioning::UnknownPartitioning(1),
        EmissionType::Incremental,
        Boundedness::Bounded,
    ))
}

/// The order of the scan's rows: the primary key's columns as far as they are all in the
/// projection and sorted in SQL as their keys are.
fn key_order(table: &Table, projection: &[usize], direction: Direction) -> Vec<PhysicalSortExpr> {
    let descending = direction == Direction::Reverse;
    // A key has no nulls; this is what ORDER BY without NULLS FIRST or LAST asks for.
    let options = SortOptions {
        descending,
        nulls_first: descending,
    };
    let mut order = Vec::new();
    for id in &table.primary_key {
        let at = projection
            .iter()
            .position(|at| table.columns[*at].id == *id);
        let Some((at, column)) = at.map(|at| (at, &table.columns[projection[at]])) else {
            break;
        };
        if matches!(column.data_type, DataType::Float | DataType::Double) {
            break;
        }
        let expr: Arc<dyn PhysicalExpr> = Arc::new(PhysicalColumn::new(&column.name, at));
        order.push(PhysicalSortExpr::new(expr, options));
    }
    order
}

impl fmt::Debug for TableScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as(DisplayFormatType::Default, f)
    }
}

impl DisplayAs for TableScan {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<&str> = self
            .schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        write!(
            f,
            "TableScan: table={}, columns=[{}], key_ranges={}",
            self.table.qualified_name(),
            columns.join(", "),
            self.ranges.len()
        )?;
        if self.direction == Direction::Reverse {
            f.write_str(", reverse")?;
        }
        match self.limit {
            Some(limit) => write!(f, ", limit={limit}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for TableScan {
    fn name(&self) -> &str {
        "TableScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(TableScan {
            limit,
            ..self.clone()
        }))
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
    ) -> Result<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        let keys = key_order(&self.table, &self.projection, Direction::Reverse);
        let is_reverse = order.len() <= keys.len()
            && order.iter().zip(&keys).all(|(wanted, key)| {
                wanted.options.descending && wanted.expr.as_ref() == key.expr.as_ref()
            });
        Ok(match is_reverse && self.limit.is_none() {
            true => SortOrderPushdownResult::Exact {
                inner: Arc::new(self.reversed()),
            },
            false => SortOrderPushdownResult::Unsupported,
        })
    }

    fn execute(
        &self,
        partition: usize,
        _context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("a table scan has one partition, not {partition}");
        }
        let batches = futures::stream::try_unfold((self.reader()?, true), |(mut reader, first)| {
            async move {
                if !first {
                    // Reading does not wait for anything, so others would not get their turn.
                    tokio::task::yield_now().await;
                }
                let batch = reader.next_batch()?;
                Ok(batch.map(|batch| (batch, (reader, false))))
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.schema),
            batches,
        )))
    }
}

/// Reads the rows of ranges of keys, in order.
struct Reader {
    read: Arc<dyn Snapshot>,
    table: Arc<Table>,
    types: Vec<DataType>,
    /// What a row reads as that does not name the column.
    missing: Vec<Value>,
    /// The columns wanted, ascending.
    wanted_ids: Vec<ColumnId>,
    /// Where in the batch each of `wanted_ids` stands.
    wanted_at: Vec<usize>,
    /// What is still to be read, the next one last.
    ranges: Vec<KeyRange>,
    direction: Direction,
    left: usize,
    schema: SchemaRef,
}

impl Reader {
    /// The next rows; none at the end.
    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let mut builders: Vec<ColumnBuilder> = self
            .types
            .iter()
            .map(|data_type| ColumnBuilder::new(*data_type))
            .collect();
        let (mut rows, mut bytes) = (0, 0);
        let mut values = self.missing.clone();
        while let Some(mut range) = self.ranges.pop() {
            let mut full_at = None;
            for pair in self.read.scan(&range, self.direction) {
                if rows == self.left || rows == BATCH_ROWS_MAX || bytes >= BATCH_BYTES_MAX {
                    full_at = Some(pair.map_err(external)?.0);
                    break;
                }
                let (key, stored) = pair.map_err(external)?;
                self.decode(&key, &stored, &mut values)?;
                for (builder, value) in builders.iter_mut().zip(&values) {
                    builder
                        .push(value)
                        .map_err(|_| external(corrupt(&self.table, &key)))?;
                }
                rows += 1;
                bytes += stored.len();
            }
            if let Some(mut key) = full_at {
                match self.direction {
                    Direction::Forward => range.start = key,
                    Direction::Reverse => {
                        // The end is not part of a range, and this key is still to be read.
                        key.push(0);
                        range.end = Some(key);
                    }
                }
                self.ranges.push(range);
                break;
            }
        }
        if rows == 0 {
            return Ok(None);
        }
        self.left -= rows;
        if self.left == 0 {
            self.ranges.clear();
        }
        let arrays = builders.into_iter().map(ColumnBuilder::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?;
        Ok(Some(batch))
    }

    fn decode(&self, key: &[u8], stored: &[u8], values: &mut [Value]) -> Result<()> {
        let damaged = || external(corrupt(&self.table, key));
        let (_, row) = Version::split(stored).ok_or_else(damaged)?;
        values.clone_from_slice(&self.missing);
        row::decode_columns(row, &self.wanted_ids, |at, value| {
            values[self.wanted_at[at]] = value;
        })
        .map_err(|_| damaged())
    }
}

fn external(error: storage::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
