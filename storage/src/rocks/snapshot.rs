//! Snapshots that own what they need, and the scans over them.

use std::sync::Arc;

use rocksdb::{DB, DBRawIteratorWithThreadMode, ReadOptions, SnapshotWithThreadMode};

use self::cell::Cell;
use super::{Database, database_error};
use crate::engine::{Direction, KeyRange, Pair, Read, Scan};
use crate::error::Result;

mod cell {
    #![expect(
        clippy::mem_forget,
        reason = "how self_cell takes its own guard against panics away"
    )]

    use super::{Arc, DB, Database, SnapshotWithThreadMode};

    type View<'a> = SnapshotWithThreadMode<'a, DB>;

    self_cell::self_cell!(
        /// A snapshot with the database it borrows from.
        pub(super) struct Cell {
            owner: Arc<Database>,

            #[covariant]
            dependent: View,
        }
    );
}

/// A view of the database that keeps it open.
pub(super) struct OwnedSnapshot(Cell);

impl OwnedSnapshot {
    pub(super) fn of(database: &Arc<Database>) -> OwnedSnapshot {
        OwnedSnapshot(Cell::new(Arc::clone(database), |database| {
            database.db.snapshot()
        }))
    }

    fn pairs(&self, range: &KeyRange, direction: Direction) -> Result<Pairs<'_>> {
        let family = self.0.borrow_owner().family_of_range(range)?;
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(range.start.as_slice());
        if let Some(end) = &range.end {
            options.set_iterate_upper_bound(end.as_slice());
        }
        let mut iterator = self
            .0
            .borrow_dependent()
            .raw_iterator_cf_opt(family, options);
        match direction {
            Direction::Forward => iterator.seek_to_first(),
            Direction::Reverse => iterator.seek_to_last(),
        }
        Ok(Pairs {
            iterator,
            direction,
            ended: false,
        })
    }
}

impl Read for OwnedSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let family = self.0.borrow_owner().family_of(key)?;
        self.0
            .borrow_dependent()
            .get_cf(family, key)
            .map_err(|e| database_error("read", &e))
    }

    fn scan<'a>(&'a self, range: &KeyRange, direction: Direction) -> Scan<'a> {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        match self.pairs(range, direction) {
            Ok(pairs) => Box::new(pairs),
            Err(e) => Box::new(std::iter::once(Err(e))),
        }
    }
}

/// A running scan, standing on the pair it gives next.
struct Pairs<'a> {
    iterator: DBRawIteratorWithThreadMode<'a, DB>,
    direction: Direction,
    ended: bool,
}

impl Iterator for Pairs<'_> {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Result<Pair>> {
        if self.ended {
            return None;
        }
        let Some((key, value)) = self.iterator.item() else {
            // The end of the range, or an error: RocksDB stops the same way for both.
            self.ended = true;
            let status = self.iterator.status();
            return status.err().map(|e| Err(database_error("scan", &e)));
        };
        let pair = (key.to_vec(), value.to_vec());
        match self.direction {
            Direction::Forward => self.iterator.next(),
            Direction::Reverse => self.iterator.prev(),
        }
        Some(Ok(pair))
    }
}
