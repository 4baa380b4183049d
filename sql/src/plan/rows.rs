//! Changes of rows: keys, index entries, constraints, messages.
//!
//! A statement changes a set of rows, and its constraints hold for the set: after
//! `UPDATE t SET id = id + 1` every id is unique, so it is allowed, whatever the order of the rows.
//! Keys that rows of the set had and give up go first, then every new row is put, in order.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use storage::keys::rows as keys;
use types::cell::to_text;
use types::command::{Change, Expectation, RouteTarget, RowEvent};
use types::limits::{KEY_MAX_BYTES, ROW_MAX_BYTES, ROWS_PER_STATEMENT_MAX};
use types::partition::partition_of;
use types::schema::{PayloadMode, RowOp, Table};
use types::value::Value;
use types::{Error, ErrorCode, row};

use super::context::Context;
use super::draft::{Draft, within_envelope};
use super::prepared::Prepared;
use crate::catalog::{Found, pinned};
use crate::failure::Result;
use crate::query::{StoredRow, cast, owner};

/// What happens to one row.
pub(super) enum RowChange {
    /// The row is new.
    Insert { values: Vec<Value> },
    /// The row gets other values.
    Update {
        before: StoredRow,
        values: Vec<Value>,
    },
    /// The row goes.
    Delete { before: StoredRow },
}

/// Plans changes of the rows of one table.
pub(super) struct RowWriter<'a> {
    context: &'a Context<'a>,
    pub prepared: Arc<Prepared>,
    pub owner: Option<&'a str>,
    pub draft: Draft,
    bytes: usize,
}

/// A key and value of an index.
struct IndexEntry {
    key: Vec<u8>,
    /// May no other row have it?
    is_unique: bool,
    /// Which index.
    index: usize,
}

/// A row as it will be: its key and bytes, and its index entries.
struct NewRow {
    key: Vec<u8>,
    row: Vec<u8>,
    entries: Vec<IndexEntry>,
}

/// Keys of a statement's rows before and after it.
#[derive(Default)]
struct KeySets {
    old: BTreeSet<Vec<u8>>,
    new: BTreeSet<Vec<u8>>,
}

impl<'a> RowWriter<'a> {
    /// Pins the table's record: columns, constraints, indexes and routes are as they were read.
    pub fn new(context: &'a Context<'a>, table: &Found<Table>) -> Result<RowWriter<'a>> {
        context.may_write(&table.record)?;
        let prepared = context.planner.prepared.get(context, table)?;
        let mut draft = Draft::default();
        draft.pin(table);
        let owner = owner(&table.record, &context.session);
        Ok(RowWriter {
            context,
            prepared,
            owner,
            draft,
            bytes: 0,
        })
    }

    // ---- One row -----------------------------------------------------------------------------

    /// The row's key.
    pub fn key(&self, values: &[Value]) -> types::Result<Vec<u8>> {
        let primary_key = self.prepared.primary_key.iter().map(|at| &values[*at]);
        let key = keys::row(self.prepared.table.id, self.owner, primary_key);
        check_key(&key)?;
        Ok(key)
    }

    /// The keys under which no other row may stand: of UNIQUE indexes, by position.
    pub fn unique_keys(
        &self,
        values: &[Value],
        key: &[u8],
    ) -> types::Result<Vec<(usize, Vec<u8>)>> {
        let entries = self.entries(values, key)?.into_iter();
        Ok(entries
            .filter(|e| e.is_unique)
            .map(|e| (e.index, e.key))
            .collect())
    }

    fn entries(&self, values: &[Value], key: &[u8]) -> types::Result<Vec<IndexEntry>> {
        let table = &self.prepared.table;
        let mut entries = Vec::with_capacity(table.indexes.len());
        for (index, columns) in self.prepared.indexes.iter().enumerate() {
            let definition = &table.indexes[index];
            let indexed = || columns.iter().map(|at| &values[*at]);
            let key = keys::index_entry(
                table.id,
                definition.id,
                definition.unique,
                self.owner,
                indexed(),
                self.encoded_primary_key(key),
            );
            check_key(&key)?;
            let is_unique = definition.unique && !indexed().any(Value::is_null);
            entries.push(IndexEntry {
                key,
                is_unique,
                index,
            });
        }
        Ok(entries)
    }

    /// The part of a row's key behind table and owner.
    fn encoded_primary_key<'k>(&self, key: &'k [u8]) -> &'k [u8] {
        let prefix = keys::owner_prefix(self.prepared.table.id, self.owner);
        key.get(prefix.len()..).unwrap_or_default()
    }

    fn encode(&self, values: &[Value]) -> types::Result<Vec<u8>> {
        let table = &self.prepared.table;
        let fields = self
            .prepared
            .by_id
            .iter()
            .map(|at| (table.columns[*at].id, &values[*at]));
        let row = row::encode(table.schema_version, fields);
        if row.len() > ROW_MAX_BYTES {
            let message = format!(
                "a row of {} bytes; a row has at most {ROW_MAX_BYTES}",
                row.len()
            );
            return Err(Error::new(ErrorCode::ValueTooLarge, message));
        }
        Ok(row)
    }

    /// The value as the column at `at` holds it.
    pub fn assign(&self, value: Value, at: usize) -> types::Result<Value> {
        let column = &self.prepared.table.columns[at];
        let value = cast(value, column.data_type).map_err(|mut error| {
            error.message = format!("column \"{}\": {}", column.name, error.message);
            error
        })?;
        if value.is_null() && !column.nullable {
            let message = format!(
                "column \"{}\" of {} cannot be NULL",
                column.name,
                self.prepared.table.qualified_name()
            );
            return Err(Error::new(ErrorCode::NotNullViolation, message));
        }
        Ok(value)
    }

    // ---- The set -----------------------------------------------------------------------------

    /// Puts the changes into the draft.
    ///
    /// # Errors
    /// `UNIQUE_VIOLATION` if a new key is another row's in the snapshot, or twice in the set;
    /// `VALUE_TOO_LARGE`. What another write takes meanwhile is held by expectations.
    pub fn write(&mut self, changes: &[RowChange]) -> Result<()> {
        if changes.len() > ROWS_PER_STATEMENT_MAX {
            let message = format!("a statement changes at most {ROWS_PER_STATEMENT_MAX} rows");
            return Err(Error::new(ErrorCode::ValueTooLarge, message).into());
        }
        let mut sets = KeySets::default();
        for change in changes {
            self.note_old(change, &mut sets)?;
        }
        let mut new_rows = Vec::with_capacity(changes.len());
        for change in changes {
            new_rows.push(self.new_row(change, &mut sets)?);
        }
        self.remove_old(changes, &sets)?;
        for (change, new_row) in changes.iter().zip(new_rows) {
            if let Some(new_row) = new_row {
                self.put(change, new_row)?;
            }
        }
        Ok(())
    }

    fn note_old(&mut self, change: &RowChange, sets: &mut KeySets) -> types::Result<()> {
        let (RowChange::Update { before, .. } | RowChange::Delete { before }) = change else {
            return Ok(());
        };
        self.draft.expect(pinned(&before.key, before.version));
        for entry in self.entries(&before.values, &before.key)? {
            sets.old.insert(entry.key);
        }
        sets.old.insert(before.key.clone());
        Ok(())
    }

    /// The row after the change, its keys checked and expected to be free.
    fn new_row(&mut self, change: &RowChange, sets: &mut KeySets) -> Result<Option<NewRow>> {
        let (RowChange::Insert { values } | RowChange::Update { values, .. }) = change else {
            return Ok(None);
        };
        let key = self.key(values)?;
        let row = self.encode(values)?;
        let entries = self.entries(values, &key)?;
        self.claim(&key, sets, || self.key_columns(None), values)?;
        for entry in entries.iter().filter(|entry| entry.is_unique) {
            self.claim(
                &entry.key,
                sets,
                || self.key_columns(Some(entry.index)),
                values,
            )?;
        }
        // An entry that duplicates may share is still this row's own: it must not be taken for one
        // that the statement gives up.
        let shared = entries.iter().filter(|entry| !entry.is_unique);
        sets.new.extend(shared.map(|entry| entry.key.clone()));
        let absent: Vec<Expectation> = std::iter::once(&key)
            .chain(
                entries
                    .iter()
                    .filter(|entry| entry.is_unique)
                    .map(|entry| &entry.key),
            )
            .filter(|key| !sets.old.contains(*key))
            .map(|key| Expectation::absent(key.clone()))
            .collect();
        self.draft.expect(absent);
        Ok(Some(NewRow { key, row, entries }))
    }

    /// Makes a key that only one row may have one of this statement's.
    fn claim<'p>(
        &self,
        key: &[u8],
        sets: &mut KeySets,
        columns: impl Fn() -> &'p [usize],
        values: &[Value],
    ) -> Result<()>
    where
        Self: 'p,
    {
        let taken = !sets.new.insert(key.to_vec())
            || (!sets.old.contains(key) && self.context.snapshot().get(key)?.is_some());
        if taken {
            return Err(self.unique_violation(columns(), values).into());
        }
        Ok(())
    }

    /// Positions of the columns of the primary key, or of an index.
    pub fn key_columns(&self, index: Option<usize>) -> &[usize] {
        match index {
            None => &self.prepared.primary_key,
            Some(index) => &self.prepared.indexes[index],
        }
    }

    /// `UNIQUE_VIOLATION` for these columns of the row.
    pub fn unique_violation(&self, columns: &[usize], values: &[Value]) -> Error {
        unique_violation(&self.prepared.table, columns, values)
    }

    /// Deletes the rows that go, with their messages, and the keys that rows gave up.
    fn remove_old(&mut self, changes: &[RowChange], sets: &KeySets) -> types::Result<()> {
        for change in changes {
            let (before, event) = match change {
                RowChange::Insert { .. } => continue,
                RowChange::Update { before, .. } => (before, None),
                RowChange::Delete { before } => (
                    before,
                    self.event(RowOp::Delete, &before.values, Some(before))?,
                ),
            };
            if !sets.new.contains(&before.key) {
                self.push(before.key.clone(), None, event)?;
            }
            for entry in self.entries(&before.values, &before.key)? {
                if !sets.new.contains(&entry.key) {
                    self.push(entry.key, None, None)?;
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, change: &RowChange, new_row: NewRow) -> types::Result<()> {
        let (op, values, before) = match change {
            RowChange::Insert { values } => (RowOp::Insert, values, None),
            RowChange::Update { before, values } => (RowOp::Update, values, Some(before)),
            RowChange::Delete { .. } => return Ok(()),
        };
        let event = self.event(op, values, before)?;
        let primary_key = self.encoded_primary_key(&new_row.key).to_vec();
        let same_key = before.is_some_and(|before| before.key == new_row.key);
        let kept = match before {
            Some(before) if same_key => self.entries(&before.values, &before.key)?,
            _ => Vec::new(),
        };
        self.push(new_row.key, Some(new_row.row), event)?;
        for entry in new_row.entries {
            if kept.iter().all(|old| old.key != entry.key) {
                self.push(entry.key, Some(primary_key.clone()), None)?;
            }
        }
        Ok(())
    }

    fn push(
        &mut self,
        key: Vec<u8>,
        after: Option<Vec<u8>>,
        event: Option<RowEvent>,
    ) -> types::Result<()> {
        let before_bytes = event
            .as_ref()
            .and_then(|e| e.before.as_ref())
            .map_or(0, Bytes::len);
        self.bytes += key.len() + after.as_ref().map_or(0, Vec::len) + before_bytes;
        within_envelope(self.bytes)?;
        self.draft.push(Change {
            key: key.into(),
            after: after.map(Bytes::from),
            event,
        });
        Ok(())
    }

    // ---- Messages ----------------------------------------------------------------------------

    /// What the topics are told; none if no route takes the change. `values` are those that the
    /// routes' WHERE looks at: the new ones, or of a row that goes the old ones.
    fn event(
        &self,
        op: RowOp,
        values: &[Value],
        before: Option<&StoredRow>,
    ) -> types::Result<Option<RowEvent>> {
        let table = &self.prepared.table;
        let mut message_key = None;
        let mut targets = Vec::new();
        let user = self.owner.unwrap_or_default();
        for (route, filter) in table.routes.iter().zip(&self.prepared.filters) {
            if route.op != op {
                continue;
            }
            if let Some(filter) = filter
                && !filter.matches(values)?
            {
                continue;
            }
            let message_key: &String = message_key.get_or_insert_with(|| self.message_key(values));
            targets.push(RouteTarget {
                topic_id: route.topic_id,
                partition: partition_of(user, message_key, route.partitions),
                payload: route.payload.into(),
            });
        }
        let Some(message_key) = message_key else {
            return Ok(None);
        };
        let diff = i32::from(PayloadMode::Diff);
        let needs_before = match op {
            RowOp::Insert => false,
            RowOp::Update => targets.iter().any(|target| target.payload == diff),
            RowOp::Delete => true,
        };
        let before = before.filter(|_| needs_before);
        let before = before.map(|before| self.image(before)).transpose()?;
        Ok(Some(RowEvent {
            table_id: table.id,
            op: op.into(),
            user: user.to_owned(),
            message_key,
            before,
            targets,
        }))
    }

    /// A stored row as a message shows it: under the names and with the columns of now.
    fn image(&self, stored: &StoredRow) -> types::Result<Bytes> {
        match row::schema_version(&stored.row) == Ok(self.prepared.table.schema_version) {
            true => Ok(Bytes::copy_from_slice(&stored.row)),
            false => self.encode(&stored.values).map(Bytes::from),
        }
    }

    fn message_key(&self, values: &[Value]) -> String {
        let texts: Vec<String> = self
            .prepared
            .primary_key
            .iter()
            .map(|at| to_text(&values[*at]))
            .collect();
        texts.join(",")
    }

    /// The changes without the updates that leave a row as it is: those count, but nothing is
    /// written for them and nobody is told.
    pub fn without_unchanged(&self, changes: Vec<RowChange>) -> types::Result<Vec<RowChange>> {
        let mut kept = Vec::with_capacity(changes.len());
        for change in changes {
            let unchanged = match &change {
                RowChange::Update { before, values } => self.is_unchanged(before, values)?,
                RowChange::Insert { .. } | RowChange::Delete { .. } => false,
            };
            if !unchanged {
                kept.push(change);
            }
        }
        Ok(kept)
    }

    fn is_unchanged(&self, before: &StoredRow, values: &[Value]) -> types::Result<bool> {
        // Bytes too, not values alone: NaN differs from itself.
        Ok(before.values == values || before.row == self.encode(values)?)
    }
}

/// `UNIQUE_VIOLATION` for these columns of a row of the table.
pub(super) fn unique_violation(table: &Table, columns: &[usize], values: &[Value]) -> Error {
    let names: Vec<&str> = columns
        .iter()
        .map(|at| table.columns[*at].name.as_str())
        .collect();
    let texts: Vec<String> = columns.iter().map(|at| shortened(&values[*at])).collect();
    let message = format!(
        "{} has a row with ({}) = ({}) already",
        table.qualified_name(),
        names.join(", "),
        texts.join(", ")
    );
    Error::new(ErrorCode::UniqueViolation, message)
}

pub(super) fn check_key(key: &[u8]) -> types::Result<()> {
    if key.len() <= KEY_MAX_BYTES {
        return Ok(());
    }
    let message = format!(
        "a key of {} bytes; a key has at most {KEY_MAX_BYTES}",
        key.len()
    );
    Err(Error::new(ErrorCode::ValueTooLarge, message))
}

/// A value in an error message.
fn shortened(value: &Value) -> String {
    const SHOWN_CHARS: usize = 60;
    let text = to_text(value);
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
