//! What the log store knows without asking its engine.

use std::collections::VecDeque;

use types::ids::LogIndex;
use types::limits::{LOG_BYTES_STEP, LOG_TAIL_MAX_BYTES, LOG_TAIL_MAX_ENTRIES};

use crate::codec;
use crate::type_config::{LogEntry, LogId, Vote};

/// Entries that would leave a gap in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("append of entry {found} to a log whose next entry is {expected}")]
pub struct Hole {
    found: LogIndex,
    expected: LogIndex,
}

/// The log's ends and its youngest entries.
///
/// Invariants:
/// - The log holds exactly the entries from `first` to before [`LogMemory::next`].
/// - `tail` holds those from `tail_start` on; all before it are in the engine, durable and
///   readable.
/// - Entries from `durable_end` on are not durable yet, and all of them are in `tail`.
#[derive(Debug)]
pub(super) struct LogMemory {
    pub vote: Option<Vote>,
    pub committed: Option<LogId>,
    pub purged: Option<LogId>,
    /// The last entry; where there is none, the last purged one.
    pub last: Option<LogId>,
    first: LogIndex,
    tail: VecDeque<LogEntry>,
    tail_start: LogIndex,
    tail_bytes: usize,
    durable_end: LogIndex,
    growth: Growth,
}

/// What one read takes from where, decided at one moment.
pub(super) struct ReadPlan {
    /// Were entries asked for that were purged?
    pub begins_late: bool,
    /// Indexes to read from the engine; may be empty.
    pub stored: std::ops::Range<LogIndex>,
    /// What follows them, from memory.
    pub tail: Vec<LogEntry>,
}

impl LogMemory {
    /// A log whose entries are all in the engine.
    pub(super) fn new(
        vote: Option<Vote>,
        committed: Option<LogId>,
        purged: Option<LogId>,
        last: Option<LogId>,
        growth: Growth,
    ) -> LogMemory {
        let first = purged.map_or(0, |id| id.index + 1);
        let next = last.map_or(first, |id| id.index + 1);
        LogMemory {
            vote,
            committed,
            purged,
            last,
            first,
            tail: VecDeque::new(),
            tail_start: next,
            tail_bytes: 0,
            durable_end: next,
            growth,
        }
    }

    /// Index of the next entry to append.
    pub(super) fn next(&self) -> LogIndex {
        self.last.map_or(self.first, |id| id.index + 1)
    }

    /// Index of the first entry, there or not.
    pub(super) fn first(&self) -> LogIndex {
        self.first
    }

    /// First index that is not durable.
    pub(super) fn durable_end(&self) -> LogIndex {
        self.durable_end
    }

    /// Makes entries readable. A log that never held an entry takes any first one: openraft starts
    /// at 0, its conformance suite elsewhere.
    pub(super) fn append(&mut self, entries: &[LogEntry]) -> Result<(), Hole> {
        let Some(head) = entries.first() else {
            return Ok(());
        };
        if self.last.is_none() {
            self.first = head.log_id.index;
            self.tail_start = self.first;
            self.durable_end = self.first;
        }
        for entry in entries {
            let expected = self.next();
            if entry.log_id.index != expected {
                return Err(Hole {
                    found: entry.log_id.index,
                    expected,
                });
            }
            let bytes = codec::encoded_len(entry);
            self.tail_bytes += bytes;
            self.growth.add(expected, bytes as u64);
            self.tail.push_back(entry.clone());
            self.last = Some(entry.log_id);
        }
        Ok(())
    }

    /// Everything before `end` is durable and in the engine.
    pub(super) fn set_durable(&mut self, end: LogIndex) {
        self.durable_end = end.min(self.next());
        while self.tail_start < self.durable_end
            && (self.tail_bytes > LOG_TAIL_MAX_BYTES || self.tail.len() > LOG_TAIL_MAX_ENTRIES)
        {
            self.pop_front();
        }
    }

    /// Removes the entries after `last`; all of them if there is none.
    pub(super) fn truncate_after(&mut self, last: Option<LogId>) {
        let end = last.map_or(0, |id| id.index + 1);
        if end >= self.next() {
            return;
        }
        while self.tail_start + (self.tail.len() as u64) > end.max(self.tail_start) {
            if let Some(entry) = self.tail.pop_back() {
                self.tail_bytes -= codec::encoded_len(&entry);
            }
        }
        self.tail_start = self.tail_start.min(end.max(self.first));
        self.durable_end = self.durable_end.min(end);
        self.last = if end > self.first { last } else { self.purged };
        self.growth.truncate(end);
    }

    /// Removes the entries up to and including `upto`, also where the log does not reach that far.
    pub(super) fn purge(&mut self, upto: LogId) {
        if self.purged.is_some_and(|purged| purged.index >= upto.index) {
            return;
        }
        let first = upto.index + 1;
        while self.tail_start < first && !self.tail.is_empty() {
            self.pop_front();
        }
        self.tail_start = self.tail_start.max(first);
        self.durable_end = self.durable_end.max(first);
        if self.next() <= first {
            self.last = Some(upto);
        }
        self.first = first;
        self.purged = Some(upto);
        self.growth.purge(first);
    }

    /// What to read for the entries from `start` to before `end`: those the log holds, from memory
    /// not more than `max_bytes` of them but at least one.
    pub(super) fn plan(&self, start: LogIndex, end: LogIndex, max_bytes: usize) -> ReadPlan {
        let begins_late = start < self.first.min(end);
        let start = start.max(self.first);
        let end = end.min(self.next()).max(start);
        let stored = start..end.min(self.tail_start).max(start);
        let mut tail = Vec::new();
        let mut bytes = 0;
        if stored.end < end {
            // Within the tail by the invariants, so it fits a usize.
            let skip = (stored.end - self.tail_start) as usize;
            let take = (end - stored.end) as usize;
            for entry in self.tail.range(skip..skip + take) {
                bytes += codec::encoded_len(entry);
                if bytes > max_bytes && !tail.is_empty() {
                    break;
                }
                tail.push(entry.clone());
            }
        }
        ReadPlan {
            begins_late,
            stored,
            tail,
        }
    }

    /// Bytes of the entries after `index`; at most [`LOG_BYTES_STEP`] too many.
    pub(super) fn bytes_after(&self, index: Option<LogIndex>) -> u64 {
        self.growth.bytes_after(index)
    }

    /// The last entry after which there are at most `bytes`, or up to [`LOG_BYTES_STEP`] fewer;
    /// none if all entries together are not more.
    pub(super) fn last_before(&self, bytes: u64) -> Option<LogIndex> {
        self.growth.last_before(bytes)
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.tail.pop_front() {
            self.tail_bytes -= codec::encoded_len(&entry);
            self.tail_start += 1;
        }
    }
}

/// How many bytes came after which index, coarsely: one mark a [`LOG_BYTES_STEP`].
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// Index of an entry, and the bytes of all entries before it.
    marks: VecDeque<(LogIndex, u64)>,
    total: u64,
}

impl Growth {
    /// The entry `index`, the next one, has `bytes`.
    pub(super) fn add(&mut self, index: LogIndex, bytes: u64) {
        let due = self
            .marks
            .back()
            .is_none_or(|(_, before)| self.total >= before + LOG_BYTES_STEP);
        if due {
            self.marks.push_back((index, self.total));
        }
        self.total += bytes;
    }

    fn truncate(&mut self, end: LogIndex) {
        while self.marks.back().is_some_and(|(index, _)| *index >= end) {
            if let Some((_, before)) = self.marks.pop_back() {
                self.total = before;
            }
        }
    }

    fn purge(&mut self, first: LogIndex) {
        while self.marks.get(1).is_some_and(|(index, _)| *index <= first) {
            self.marks.pop_front();
        }
    }

    fn last_before(&self, bytes: u64) -> Option<LogIndex> {
        let few = |(_, before): &(LogIndex, u64)| self.total - before <= bytes;
        let at = self.marks.partition_point(|mark| !few(mark));
        // No mark: the entry at the end alone is too much, and stays. The first: all are few.
        match self.marks.get(at) {
            Some((index, _)) if at > 0 => index.checked_sub(1),
            _ => None,
        }
    }

    fn bytes_after(&self, index: Option<LogIndex>) -> u64 {
        let first = index.map_or(0, |index| index + 1);
        let after = self.marks.partition_point(|(mark, _)| *mark <= first);
        match after
            .checked_sub(1)
            .and_then(|at| self.marks.get(at))
            .or(self.marks.front())
        {
            Some((_, before)) => self.total - before,
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::type_config::{LeaderId, Payload};

    #[test]
    fn small_entries_are_kept_up_to_a_number() {
        let leader_id = LeaderId {
            term: 1,
            node_id: 1,
        };
        let blank = |index| LogEntry {
            log_id: LogId::new(leader_id, index),
            payload: Payload::Blank,
        };
        let count = 2 * LOG_TAIL_MAX_ENTRIES as u64;
        let entries: Vec<LogEntry> = (0..count).map(blank).collect();
        let mut memory = LogMemory::new(None, None, None, None, Growth::default());
        memory.append(&entries).unwrap();
        let all = |memory: &LogMemory| memory.plan(0, count, usize::MAX).tail.len() as u64;
        assert_eq!(all(&memory), count, "they are not durable");
        memory.set_durable(count);
        let plan = memory.plan(0, count, usize::MAX);
        assert_eq!(plan.stored, 0..count - LOG_TAIL_MAX_ENTRIES as u64);
        assert_eq!(plan.tail.len(), LOG_TAIL_MAX_ENTRIES);
    }
}
