//! A batch of changes that shows its own writes: what apply runs on.
//!
//! The batch lies over a snapshot. Puts and deletes are kept by key, so that a read finds the last
//! one at once; deleted ranges are kept apart. An entry of the overlay is always younger than any
//! deleted range around it, because deleting a range drops the entries inside it. Two things
//! follow: a read looks at the entries first, then at the ranges, then at the snapshot; and
//! [`Batch::into_ops`] may emit all ranges first and then one op a key.

use std::cmp::Ordering;
use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

use crate::chain;
use crate::engine::{Direction, KeyRange, Op, Pair, Read, Scan, Snapshot};
use crate::error::Result;

/// A key's last change: its value, or none if it was deleted.
type Change = Option<Vec<u8>>;

/// Changes over a snapshot, to be written atomically.
///
/// Invariants:
/// - No two deleted ranges overlap, and none is empty. (They may touch: ranges of neighbouring key
///   kinds must not become one.)
/// - Every entry is younger than every deleted range that contains its key.
/// - With an open savepoint, undoing the journal from its end gives each earlier state in turn.
pub struct Batch {
    base: Arc<dyn Snapshot>,
    entries: BTreeMap<Vec<u8>, Change>,
    /// Start → end.
    deleted: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    journal: Vec<Undo>,
    open_savepoints: usize,
    size_bytes: usize,
    digest: u64,
}

/// What a link of the digest's chain is about. The numbers are in every node's digest.
mod chained {
    pub const PUT: u8 = 1;
    pub const DELETE: u8 = 2;
    pub const DELETE_RANGE: u8 = 3;
}

/// A point in a batch's life to come back to. It ends with [`Batch::rollback`] to it,
/// [`Batch::release`] of it, or either of an older one.
#[derive(Debug)]
#[must_use = "a savepoint costs a journal until it is rolled back or released"]
pub struct Savepoint {
    journal_len: usize,
    /// How many were open with this one.
    depth: usize,
}

/// How to take back one change.
enum Undo {
    /// The key had this change before; none: it had no entry.
    Entry {
        key: Vec<u8>,
        before: Option<Change>,
    },
    /// A range was deleted.
    Range {
        /// Start of the range that the deletion put into `deleted`.
        start: Vec<u8>,
        /// The ranges it swallowed.
        ranges: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        /// The entries it dropped.
        entries: Vec<(Vec<u8>, Change)>,
    },
}

impl Batch {
    /// An empty batch over `base`.
    pub fn new(base: Arc<dyn Snapshot>) -> Batch {
        Batch {
            base,
            entries: BTreeMap::new(),
            deleted: BTreeMap::new(),
            journal: Vec::new(),
            open_savepoints: 0,
            size_bytes: 0,
            digest: 0,
        }
    }

    /// An empty batch over `base` that goes on from the [`digest`](Batch::digest) of an earlier
    /// one.
    pub fn with_digest(base: Arc<dyn Snapshot>, digest: u64) -> Batch {
        Batch {
            digest,
            ..Batch::new(base)
        }
    }

    /// A hash chain over every change that was ever asked for, those rolled back too: the same
    /// calls in the same order give the same digest, into however many batches they are cut.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    fn chain(&mut self, kind: u8, key: &[u8], rest: &[u8]) {
        // With its length, so that no two pairs are the same bytes.
        let key_len = (key.len() as u64).to_be_bytes();
        self.digest = chain::link(self.digest, &[&[kind], &key_len, key, rest]);
    }

    /// The key gets the value.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.change(key, Some(value));
    }

    /// The key loses its value, if it has one.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.change(key, None);
    }

    fn change(&mut self, key: Vec<u8>, change: Change) {
        match &change {
            Some(value) => self.chain(chained::PUT, &key, value),
            None => self.chain(chained::DELETE, &key, &[]),
        }
        let added = entry_bytes(&key, &change);
        let journal_key = (self.open_savepoints > 0).then(|| key.clone());
        let before = match self.entries.entry(key) {
            btree_map::Entry::Vacant(entry) => {
                entry.insert(change);
                None
            }
            btree_map::Entry::Occupied(mut entry) => {
                let before = entry.insert(change);
                self.size_bytes -= entry_bytes(entry.key(), &before);
                Some(before)
            }
        };
        self.size_bytes += added;
        if let Some(key) = journal_key {
            self.journal.push(Undo::Entry { key, before });
        }
    }

    /// All keys of the range lose their values. The range must lie within one key kind and have an
    /// end (the engine refuses the batch otherwise); an empty one changes nothing.
    pub fn delete_range(&mut self, range: KeyRange) {
        if range.is_empty() {
            return;
        }
        self.chain(
            chained::DELETE_RANGE,
            &range.start,
            range.end.as_deref().unwrap_or_default(),
        );
        let bounds = (Bound::Included(&range.start), end_bound(range.end.as_ref()));
        let entries: Vec<_> = self.entries.extract_if(bounds, |_, _| true).collect();
        for (key, change) in &entries {
            self.size_bytes -= entry_bytes(key, change);
        }
        let ranges = self.take_overlapping(&range);
        let mut merged = range;
        for (start, end) in &ranges {
            if *start < merged.start {
                merged.start.clone_from(start);
            }
            if is_end_before(merged.end.as_deref(), end.as_deref()) {
                merged.end.clone_from(end);
            }
        }
        self.insert_deleted(merged.start.clone(), merged.end);
        if self.open_savepoints > 0 {
            self.journal.push(Undo::Range {
                start: merged.start,
                ranges,
                entries,
            });
        }
    }

    /// Removes and returns the deleted ranges that share a key with `range`.
    fn take_overlapping(&mut self, range: &KeyRange) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let starts: Vec<Vec<u8>> = self
            .deleted_over(range)
            .map(|(start, _)| start.clone())
            .collect();
        starts
            .into_iter()
            .filter_map(|start| self.remove_deleted(&start))
            .collect()
    }

    /// The deleted ranges that share a key with `range`, in descending order.
    fn deleted_over<'a>(
        &'a self,
        range: &'a KeyRange,
    ) -> impl Iterator<Item = (&'a Vec<u8>, &'a Option<Vec<u8>>)> + 'a {
        self.deleted
            .range::<[u8], _>((Bound::Unbounded, end_bound(range.end.as_deref())))
            .rev()
            .take_while(|(_, end)| {
                end.as_deref()
                    .is_none_or(|end| end > range.start.as_slice())
            })
    }

    fn insert_deleted(&mut self, start: Vec<u8>, end: Option<Vec<u8>>) {
        self.size_bytes += range_bytes(&start, end.as_deref());
        self.deleted.insert(start, end);
    }

    fn remove_deleted(&mut self, start: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        let (start, end) = self.deleted.remove_entry(start)?;
        self.size_bytes -= range_bytes(&start, end.as_deref());
        Some((start, end))
    }

    fn is_deleted(&self, key: &[u8]) -> bool {
        // Most batches delete no range: ask nothing of the tree then.
        !self.deleted.is_empty()
            && self
                .deleted
                .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
                .next_back()
                .is_some_and(|(_, end)| end.as_deref().is_none_or(|end| key < end))
    }

    /// Marks the current state, to be able to come back to it.
    pub fn savepoint(&mut self) -> Savepoint {
        self.open_savepoints += 1;
        Savepoint {
            journal_len: self.journal.len(),
            depth: self.open_savepoints,
        }
    }

    /// Takes back every change made since the savepoint.
    ///
    /// # Panics
    /// If the savepoint has ended already.
    pub fn rollback(&mut self, savepoint: Savepoint) {
        self.check_open(&savepoint);
        while self.journal.len() > savepoint.journal_len {
            if let Some(undo) = self.journal.pop() {
                self.undo(undo);
            }
        }
        self.end(&savepoint);
    }

    /// Keeps every change made since the savepoint and stops paying for it.
    ///
    /// # Panics
    /// If the savepoint has ended already.
    pub fn release(&mut self, savepoint: Savepoint) {
        self.check_open(&savepoint);
        self.end(&savepoint);
    }

    fn check_open(&self, savepoint: &Savepoint) {
        assert!(
            savepoint.depth <= self.open_savepoints && savepoint.journal_len <= self.journal.len(),
            "the savepoint has ended already"
        );
    }

    fn end(&mut self, savepoint: &Savepoint) {
        self.open_savepoints = savepoint.depth - 1;
        if self.open_savepoints == 0 {
            self.journal.clear();
        }
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Entry { key, before } => {
                let key_len = key.len();
                let added = before
                    .as_ref()
                    .map_or(0, |change| entry_bytes(&key, change));
                let undone = match before {
                    Some(change) => self.entries.insert(key, change),
                    None => self.entries.remove(&key),
                };
                if let Some(change) = undone {
                    self.size_bytes -= key_len + change.map_or(0, |value| value.len());
                }
                self.size_bytes += added;
            }
            Undo::Range {
                start,
                ranges,
                entries,
            } => {
                self.remove_deleted(&start);
                for (start, end) in ranges {
                    self.insert_deleted(start, end);
                }
                for (key, change) in entries {
                    self.size_bytes += entry_bytes(&key, &change);
                    self.entries.insert(key, change);
                }
            }
        }
    }

    /// Bytes of the keys and values that [`Batch::into_ops`] would give.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Would [`Batch::into_ops`] give nothing?
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.deleted.is_empty()
    }

    /// The changes, for [`Engine::write`](crate::engine::Engine::write): the deleted ranges, then
    /// the last change of each key, both in ascending order.
    ///
    /// In this order they give what the calls gave in theirs: of two changes of a key only the
    /// last counts; a change made before a range around it was deleted is not there any more; and
    /// one made after it comes after it here.
    pub fn into_ops(self) -> Vec<Op> {
        let mut ops = Vec::with_capacity(self.deleted.len() + self.entries.len());
        for (start, end) in self.deleted {
            ops.push(Op::DeleteRange {
                range: KeyRange { start, end },
            });
        }
        for (key, change) in self.entries {
            ops.push(match change {
                Some(value) => Op::Put { key, value },
                None => Op::Delete { key },
            });
        }
        ops
    }

    /// What the snapshot holds of `range`, without the deleted ranges. These are jumped over, not
    /// walked through: a cleared topic may have millions of messages.
    fn scan_base<'a>(&'a self, range: &KeyRange, direction: Direction) -> Scan<'a> {
        let mut gaps = vec![range.clone()];
        for (start, end) in self.deleted_over(range) {
            // Ranges come in descending order, so each cuts the lowest gap.
            let Some(lowest) = gaps.pop() else { break };
            if let Some(end) = end {
                gaps.push(KeyRange {
                    start: end.clone(),
                    end: lowest.end,
                });
            }
            gaps.push(KeyRange {
                start: lowest.start,
                end: Some(start.clone()),
            });
        }
        gaps.retain(|gap| !gap.is_empty());
        match direction {
            Direction::Forward => gaps.reverse(),
            Direction::Reverse => {}
        }
        match gaps.as_slice() {
            [] => Box::new(std::iter::empty()),
            [gap] => self.base.scan(gap, direction),
            _ => Box::new(
                gaps.into_iter()
                    .flat_map(move |gap| self.base.scan(&gap, direction)),
            ),
        }
    }
}

impl Read for Batch {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self.entries.get(key) {
            Some(change) => Ok(change.clone()),
            None if self.is_deleted(key) => Ok(None),
            None => self.base.get(key),
        }
    }

    fn scan<'a>(&'a self, range: &KeyRange, direction: Direction) -> Scan<'a> {
        let mut own = entries_in(&self.entries, range, direction).peekable();
        let base = self.scan_base(range, direction);
        if own.peek().is_none() {
            return base;
        }
        Box::new(Merged {
            direction,
            own,
            base: base.peekable(),
            failed: false,
        })
    }
}

/// Own changes over the snapshot's pairs.
struct Merged<'a> {
    direction: Direction,
    own: Peekable<Own<'a>>,
    base: Peekable<Scan<'a>>,
    failed: bool,
}

impl Iterator for Merged<'_> {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Result<Pair>> {
        while !self.failed {
            let order = match (self.own.peek(), self.base.peek()) {
                (None, None) => return None,
                (_, Some(Err(_))) => {
                    self.failed = true;
                    return self.base.next();
                }
                (Some(_), None) => Ordering::Less,
                (None, Some(Ok(_))) => Ordering::Greater,
                (Some((own, _)), Some(Ok((base, _)))) => match self.direction {
                    Direction::Forward => own.as_slice().cmp(base),
                    Direction::Reverse => base.as_slice().cmp(own),
                },
            };
            if order == Ordering::Greater {
                return self.base.next();
            }
            if order == Ordering::Equal {
                // The own change hides the snapshot's pair.
                self.base.next();
            }
            if let Some((key, Some(value))) = self.own.next() {
                return Some(Ok((key.clone(), value.clone())));
            }
        }
        None
    }
}

/// Entries of the overlay within a range, in order.
struct Own<'a> {
    entries: Option<btree_map::Range<'a, Vec<u8>, Change>>,
    direction: Direction,
}

impl<'a> Iterator for Own<'a> {
    type Item = (&'a Vec<u8>, &'a Change);

    fn next(&mut self) -> Option<Self::Item> {
        let entries = self.entries.as_mut()?;
        match self.direction {
            Direction::Forward => entries.next(),
            Direction::Reverse => entries.next_back(),
        }
    }
}

fn entries_in<'a>(
    entries: &'a BTreeMap<Vec<u8>, Change>,
    range: &KeyRange,
    direction: Direction,
) -> Own<'a> {
    // BTreeMap::range panics on a range that ends before it starts.
    let entries = (!range.is_empty()).then(|| {
        let start = Bound::Included(range.start.as_slice());
        entries.range::<[u8], _>((start, end_bound(range.end.as_deref())))
    });
    Own { entries, direction }
}

/// The bound of a range that has this first key after it.
fn end_bound<T>(end: Option<T>) -> Bound<T> {
    end.map_or(Bound::Unbounded, Bound::Excluded)
}

/// Does `a` end a range before `b` does? None is the end of the database.
fn is_end_before(a: Option<&[u8]>, b: Option<&[u8]>) -> bool {
    match (a, b) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(a), Some(b)) => a < b,
    }
}

fn entry_bytes(key: &[u8], change: &Change) -> usize {
    key.len() + change.as_ref().map_or(0, Vec::len)
}

fn range_bytes(start: &[u8], end: Option<&[u8]>) -> usize {
    start.len() + end.map_or(0, <[u8]>::len)
}
