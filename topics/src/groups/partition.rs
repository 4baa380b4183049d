//! One group's work on one partition: cursor and segments, as a command changes them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use storage::keys::{self, Kind};
use storage::{Batch, Direction, KeyRange, Read};
use types::ids::{LeaseTimeMs, Offset, PartitionId, TopicId, WallTimeUs};
use types::limits;

use super::lease::LeaseId;
use super::record::{self, Cursor, LeaseRecord};
use super::segment::{self, Segment, State};
use crate::ApplyContext;

/// A group's partition, open for changes. Segments and deadlines are written at once; the cursor
/// and the leases' counts by [`Partition::finish`], without which the records don't agree.
pub struct Partition<'b> {
    batch: &'b mut Batch,
    topic: TopicId,
    group: &'b str,
    partition: PartitionId,
    now: LeaseTimeMs,
    wall_time: WallTimeUs,
    cursor: Cursor,
    stored: Cursor,
    /// What each lease no longer holds.
    freed: BTreeMap<LeaseId, Freed>,
    /// Leases that lost something to somebody else.
    lost: BTreeSet<LeaseId>,
}

/// Offsets that a lease no longer holds.
struct Freed {
    count: u64,
    /// Is all of it done?
    done: bool,
}

impl<'b> Partition<'b> {
    /// The group's partition, if it has a position there.
    pub fn open(
        batch: &'b mut Batch,
        at: ApplyContext,
        topic: TopicId,
        group: &'b str,
        partition: PartitionId,
    ) -> storage::Result<Option<Partition<'b>>> {
        let cursor: Option<Cursor> =
            record::load(batch, &keys::topics::cursor(topic, group, partition))?;
        Ok(cursor.map(|cursor| Partition {
            batch,
            topic,
            group,
            partition,
            now: at.lease_time,
            wall_time: at.wall_time,
            stored: cursor.clone(),
            cursor,
            freed: BTreeMap::new(),
            lost: BTreeSet::new(),
        }))
    }

    /// The position, as changed so far.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// The lease clock.
    pub fn now(&self) -> LeaseTimeMs {
        self.now
    }

    /// What the change is made in, for reads beside it.
    pub fn read(&self) -> &dyn Read {
        self.batch
    }

    /// The segments that share an offset with `range`, in order.
    pub fn segments(&self, range: &Range<Offset>) -> storage::Result<Vec<Segment>> {
        let mut found = Vec::new();
        if range.is_empty() {
            return Ok(found);
        }
        // The one that `range` begins in may have begun before it.
        let up_to_start = KeyRange::new(self.segment_key(0), self.segment_key(range.start + 1));
        if let Some(pair) = self.batch.scan(&up_to_start, Direction::Reverse).next() {
            let (key, stored) = pair?;
            let first = Segment::decode(&key, &stored)?;
            if first.end > range.start {
                found.push(first);
            }
        }
        let rest = KeyRange::new(
            self.segment_key(range.start + 1),
            self.segment_key(range.end),
        );
        for pair in self.batch.scan(&rest, Direction::Forward) {
            let (key, stored) = pair?;
            found.push(Segment::decode(&key, &stored)?);
        }
        Ok(found)
    }

    /// Segments that can be granted now, those that could for the longest time first: as many as
    /// hold `limit` offsets, and at most `scan_max`.
    pub fn claimable(&self, limit: u64, scan_max: usize) -> storage::Result<Vec<Segment>> {
        let due = KeyRange::new(
            self.deadline_key(0, 0),
            self.deadline_key(self.now.saturating_add(1), 0),
        );
        let mut found = Vec::new();
        let mut room = limit;
        for pair in self.batch.scan(&due, Direction::Forward).take(scan_max) {
            if room == 0 {
                break;
            }
            let (key, _) = pair?;
            let (_, start) = keys::topics::split_deadline(&key)
                .map_err(|e| record::corrupt(&key, &e.to_string()))?;
            let segment_key = self.segment_key(start);
            let stored = self
                .batch
                .get(&segment_key)?
                .ok_or_else(|| record::corrupt(&key, "its segment is missing"))?;
            let segment = Segment::decode(&segment_key, &stored)?;
            room = room.saturating_sub(segment.len());
            found.push(segment);
        }
        Ok(found)
    }

    /// Gives the offsets in `cuts` (ascending, disjoint, between `committed` and `next`) the states
    /// that `change` makes of theirs.
    pub fn rewrite(
        &mut self,
        cuts: &[Range<Offset>],
        mut change: impl FnMut(&Segment) -> State,
    ) -> storage::Result<()> {
        for window in segment::windows(cuts) {
            let (Some(first), Some(last)) = (window.first(), window.last()) else {
                continue;
            };
            // One offset more on both sides, to join what becomes equal to its neighbours.
            let around = first.start.saturating_sub(1)..last.end.saturating_add(1);
            let old = self.segments(&around)?;
            let freed = &mut self.freed;
            let new = segment::rewrite(&old, window, |piece| {
                let state = change(piece);
                if let Some(lease) = piece.state.lease().filter(|l| state.lease() != Some(*l)) {
                    let entry = freed.entry(lease).or_insert(Freed {
                        count: 0,
                        done: true,
                    });
                    entry.count += piece.len();
                    entry.done &= state == State::Done;
                }
                state
            });
            self.replace(&old, &new);
        }
        Ok(())
    }

    /// Appends fresh offsets in a state that is not done.
    pub fn append(&mut self, len: u64, state: State) -> Segment {
        let (start, end) = (self.cursor.next, self.cursor.next + len);
        let segment = Segment { start, end, state };
        self.put(&segment);
        self.cursor.open += len;
        self.cursor.next = end;
        self.cursor.consumed = true;
        segment
    }

    /// Takes back grants at the end that were no delivery: the offsets are fresh again.
    pub fn shrink(&mut self) -> storage::Result<()> {
        while self.cursor.committed < self.cursor.next {
            let last = self.cursor.next - 1..self.cursor.next;
            match self.segments(&last)?.as_slice() {
                [last] if matches!(last.state, State::Ready { deliveries: 0, .. }) => {
                    self.replace(&[*last], &[]);
                    self.cursor.next = last.start;
                }
                _ => break,
            }
        }
        Ok(())
    }

    /// Moves the position up to the floor: what is below it is gone, whoever had it.
    pub fn trim(&mut self, floor: Offset) -> storage::Result<()> {
        if floor <= self.cursor.committed {
            return Ok(());
        }
        let gone = self.cursor.committed..floor.min(self.cursor.next);
        if !gone.is_empty() {
            self.rewrite(&[gone], |_| State::Done)?;
            self.advance()?;
        }
        if self.cursor.next < floor {
            self.cursor.next = floor;
            self.cursor.committed = floor;
        }
        Ok(())
    }

    /// Sets the position of a group that never claimed here, forwards only.
    pub fn set_position(&mut self, to: Offset) {
        if to > self.cursor.committed {
            self.cursor.committed = to;
            self.cursor.next = to;
        }
    }

    /// Notes that a lease lost something to somebody else.
    pub fn note_lost(&mut self, leases: impl IntoIterator<Item = LeaseId>) {
        self.lost.extend(leases);
    }

    /// Moves the position over what is done, and writes cursor and leases. Returns the position.
    pub fn finish(mut self) -> storage::Result<Cursor> {
        self.advance()?;
        if self.cursor != self.stored {
            if self.cursor.committed != self.stored.committed {
                self.cursor.updated_at = self.wall_time;
            }
            let key = keys::topics::cursor(self.topic, self.group, self.partition);
            record::store(self.batch, key, &self.cursor);
        }
        for (lease, freed) in std::mem::take(&mut self.freed) {
            self.free(lease, &freed)?;
        }
        Ok(self.cursor)
    }

    /// Done segments never touch, so at most one leads.
    fn advance(&mut self) -> storage::Result<()> {
        let committed = self.cursor.committed;
        if committed == self.cursor.next {
            return Ok(());
        }
        let key = self.segment_key(committed);
        let stored = self
            .batch
            .get(&key)?
            .ok_or_else(|| record::corrupt(&key, "it should begin where the position is"))?;
        let first = Segment::decode(&key, &stored)?;
        if first.state == State::Done {
            self.batch.delete(key);
            self.cursor.committed = first.end;
        }
        Ok(())
    }

    /// A lease that comes to hold nothing goes; but if it was acked to its end, it stays for a
    /// while, so that who lost the answer to that ack can repeat it.
    fn free(&mut self, lease: LeaseId, freed: &Freed) -> storage::Result<()> {
        let key = keys::topics::lease(self.topic, self.group, &lease.text());
        let mut record: LeaseRecord = record::load(self.batch, &key)?
            .ok_or_else(|| record::corrupt(&key, "it holds offsets but has no record"))?;
        record.held = record
            .held
            .checked_sub(freed.count)
            .ok_or_else(|| record::corrupt(&key, "it lost more offsets than it held"))?;
        record.lost |= self.lost.contains(&lease);
        if record.held == 0 && (record.lost || !freed.done) {
            self.batch.delete(key);
            return Ok(());
        }
        if record.held == 0 {
            let until = self.now.saturating_add(limits::LEASE_DONE_KEEP_MS);
            let end = keys::topics::lease_end(self.topic, self.group, until, &lease.text());
            self.batch.put(end, Vec::new());
        }
        record::store(self.batch, key, &record);
        Ok(())
    }

    /// Writes the difference between two lists of segments, both ascending, over one range.
    fn replace(&mut self, old: &[Segment], new: &[Segment]) {
        let find = |list: &[Segment], start| {
            list.binary_search_by_key(&start, |s| s.start)
                .ok()
                .map(|at| list[at])
        };
        for segment in old {
            self.cursor.open -= segment.open();
            let successor = find(new, segment.start);
            if successor == Some(*segment) {
                continue;
            }
            if let Some(at) = segment.state.claimable_at() {
                self.batch.delete(self.deadline_key(at, segment.start));
            }
            if successor.is_none() {
                self.batch.delete(self.segment_key(segment.start));
            }
        }
        for segment in new {
            self.cursor.open += segment.open();
            if find(old, segment.start) != Some(*segment) {
                self.put(segment);
            }
        }
    }

    fn put(&mut self, segment: &Segment) {
        let key = self.segment_key(segment.start);
        record::store(self.batch, key, &segment.record());
        if let Some(at) = segment.state.claimable_at() {
            self.batch
                .put(self.deadline_key(at, segment.start), Vec::new());
        }
    }

    fn segment_key(&self, start: Offset) -> Vec<u8> {
        keys::topics::segment(self.topic, self.group, self.partition, start)
    }

    fn deadline_key(&self, at: LeaseTimeMs, start: Offset) -> Vec<u8> {
        keys::topics::deadline(self.topic, self.group, self.partition, at, start)
    }
}

/// All of one kind that belongs to a group's partition.
pub fn all(kind: Kind, topic: TopicId, group: &str, partition: PartitionId) -> KeyRange {
    KeyRange::prefix(&keys::topics::group_partition_prefix(
        kind, topic, group, partition,
    ))
}
