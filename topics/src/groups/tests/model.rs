//! A group as its rules say it, with one state an offset and no regard for cost.

use std::collections::{BTreeMap, BTreeSet};

use types::ErrorCode;
use types::command::Position;
use types::limits::{LEASE_DONE_KEEP_MS, LEASE_DONE_SWEEP_MAX};

use super::super::demand::Demand;

/// What an offset between `committed` and `next` is.
#[derive(Clone, PartialEq, Debug)]
pub enum Offset {
    Leased { lease: String, deliveries: u32 },
    Ready { not_before: u64, deliveries: u32 },
    Done,
}

/// A partition and the group's position in it.
#[derive(Default, Debug)]
pub struct Partition {
    pub earliest: u64,
    pub end: u64,
    pub group: Option<Work>,
}

#[derive(Default, Debug)]
pub struct Work {
    pub committed: u64,
    pub next: u64,
    pub consumed: bool,
    pub offsets: BTreeMap<u64, Offset>,
}

#[derive(Debug)]
pub struct Lease {
    pub partition: u32,
    pub consumer: String,
    pub expires: u64,
    pub granted: BTreeSet<u64>,
    pub lost: bool,
}

#[derive(Default, Debug)]
pub struct Model {
    pub now: u64,
    pub partitions: Vec<Partition>,
    pub leases: BTreeMap<String, Lease>,
    /// Leases that were acked to their end, by when they are forgotten.
    pub done: BTreeSet<(u64, String)>,
    pub next_partition: u32,
}

pub type Refusal<T> = Result<T, ErrorCode>;

impl Work {
    fn at(offset: u64, consumed: bool) -> Work {
        Work {
            committed: offset,
            next: offset,
            consumed,
            offsets: BTreeMap::new(),
        }
    }

    /// Removes what is done at the front.
    fn advance(&mut self) {
        while self.offsets.get(&self.committed) == Some(&Offset::Done) {
            self.offsets.remove(&self.committed);
            self.committed += 1;
        }
    }

    fn trim(&mut self, floor: u64) {
        for (_, state) in self.offsets.range_mut(..floor) {
            *state = Offset::Done;
        }
        self.advance();
        if self.next < floor {
            self.next = floor;
        }
        self.committed = self.committed.max(floor);
    }
}

impl Model {
    pub fn new(partitions: u32) -> Model {
        let partitions = (0..partitions).map(|_| Partition::default()).collect();
        Model {
            partitions,
            ..Model::default()
        }
    }

    pub fn part(&mut self, partition: u32) -> &mut Partition {
        &mut self.partitions[partition as usize]
    }

    pub fn work(&mut self, partition: u32) -> &mut Work {
        self.part(partition).group.as_mut().expect("a position")
    }

    pub fn claimable_at(&self, state: &Offset) -> Option<u64> {
        match state {
            Offset::Leased { lease, .. } => Some(self.leases[lease].expires),
            Offset::Ready { not_before, .. } => Some(*not_before),
            Offset::Done => None,
        }
    }

    /// Offsets that could be granted again, with the time from which they could.
    pub fn again(&self, partition: u32) -> BTreeMap<u64, u64> {
        let part = &self.partitions[partition as usize];
        let Some(work) = &part.group else {
            return BTreeMap::new();
        };
        let open = work.offsets.range(part.earliest..);
        open.filter_map(|(offset, state)| Some((*offset, self.claimable_at(state)?)))
            .collect()
    }

    pub fn fresh(&self, partition: u32) -> std::ops::Range<u64> {
        let part = &self.partitions[partition as usize];
        part.group
            .as_ref()
            .map_or(0..0, |work| work.next.max(part.earliest)..part.end)
    }

    pub fn demand(&self, partition: Option<u32>) -> Demand {
        let addressed: Vec<u32> = self.addressed(partition);
        if addressed
            .iter()
            .any(|p| self.partitions[*p as usize].group.is_none())
        {
            return Demand::NoPosition;
        }
        let times = addressed.iter().flat_map(|p| self.again(*p).into_values());
        let first = times.min();
        match first {
            _ if addressed.iter().any(|p| !self.fresh(*p).is_empty()) => Demand::Ready,
            Some(at) if at <= self.now => Demand::Ready,
            Some(at) => Demand::NotBefore(at),
            None => Demand::Nothing,
        }
    }

    pub fn addressed(&self, partition: Option<u32>) -> Vec<u32> {
        let all = 0..u32::try_from(self.partitions.len()).unwrap();
        partition.map_or(all.collect(), |p| vec![p])
    }

    pub fn resolve(&self, partition: u32, position: Position) -> Refusal<u64> {
        let part = &self.partitions[partition as usize];
        match position {
            Position::Latest(_) => Ok(part.end),
            Position::Earliest(_) => Ok(part.earliest),
            Position::Offset(offset) if (part.earliest..=part.end).contains(&offset) => Ok(offset),
            Position::Offset(_) => Err(ErrorCode::OffsetOutOfRange),
            Position::Timestamp(_) => unreachable!("not generated"),
        }
    }

    pub fn ensure(&mut self, partition: Option<u32>, start: Position) -> Refusal<()> {
        let missing: Vec<u32> = self
            .addressed(partition)
            .into_iter()
            .filter(|p| self.partitions[*p as usize].group.is_none())
            .collect();
        let starts: Vec<u64> = missing
            .iter()
            .map(|p| self.resolve(*p, start))
            .collect::<Refusal<_>>()?;
        for (partition, offset) in missing.into_iter().zip(starts) {
            self.part(partition).group = Some(Work::at(offset, true));
        }
        Ok(())
    }

    /// The partition a claim must grant in; none if nothing can be granted.
    pub fn turn(&self, partition: Option<u32>) -> Option<u32> {
        let count = u32::try_from(self.partitions.len()).unwrap();
        let order = match partition {
            Some(one) => vec![one],
            None => (0..count)
                .map(|i| (self.next_partition + i) % count)
                .collect(),
        };
        order
            .into_iter()
            .find(|p| self.demand(Some(*p)) == Demand::Ready)
    }

    pub fn trim(&mut self, partition: u32) {
        let floor = self.part(partition).earliest;
        self.work(partition).trim(floor);
    }

    /// Does `lease` hold the offset?
    fn holds(&self, lease: &str, offset: u64) -> bool {
        let partition = self.leases[lease].partition as usize;
        self.partitions[partition].group.as_ref().is_some_and(|work| {
            matches!(work.offsets.get(&offset), Some(Offset::Leased { lease: l, .. }) if l == lease)
        })
    }

    /// All that the lease holds.
    pub fn held(&self, lease: &str) -> Vec<u64> {
        let Some(known) = self.leases.get(lease) else {
            return vec![];
        };
        known
            .granted
            .iter()
            .copied()
            .filter(|offset| self.holds(lease, *offset))
            .collect()
    }

    /// What each lease holds that holds something.
    pub fn holdings(&self) -> BTreeMap<String, Vec<u64>> {
        let held = |lease: &String| (lease.clone(), self.held(lease));
        let holdings = self.leases.keys().map(held);
        holdings.filter(|(_, held)| !held.is_empty()).collect()
    }

    /// Remembers the leases that held something before and now hold nothing because all of that is
    /// done.
    pub fn note_done(&mut self, before: &BTreeMap<String, Vec<u64>>) {
        for (lease, held) in before {
            let known = &self.leases[lease];
            let acked = held.iter().all(|o| self.is_done(known.partition, *o));
            if !known.lost && acked && self.held(lease).is_empty() {
                let until = self.now + LEASE_DONE_KEEP_MS;
                self.done.insert((until, lease.clone()));
            }
        }
    }

    /// What every claim that grants something forgets.
    pub fn forget_done(&mut self) {
        for _ in 0..LEASE_DONE_SWEEP_MAX {
            match self.done.first() {
                Some((until, _)) if *until <= self.now => self.done.pop_first(),
                Some(_) | None => return,
            };
        }
    }

    fn is_done(&self, partition: u32, offset: u64) -> bool {
        let work = self.partitions[partition as usize]
            .group
            .as_ref()
            .expect("a position");
        offset < work.committed || work.offsets.get(&offset) == Some(&Offset::Done)
    }

    /// What an ack or nack by lease is about.
    pub fn asked(
        &self,
        lease: &str,
        offsets: &[u64],
        strict: bool,
        done_is_fine: bool,
    ) -> Refusal<Vec<u64>> {
        let held = self.held(lease);
        if held.is_empty() && !self.done.iter().any(|(_, done)| done == lease) {
            return Err(ErrorCode::LeaseLost);
        }
        let known = &self.leases[lease];
        if offsets.is_empty() {
            let mut granted = known.granted.iter();
            let all_done = granted.all(|offset| self.is_done(known.partition, *offset));
            let again = done_is_fine && !strict && all_done;
            return if (strict && known.lost) || (held.is_empty() && !again) {
                Err(ErrorCode::LeaseLost)
            } else {
                Ok(held)
            };
        }
        if !offsets.iter().all(|offset| known.granted.contains(offset)) {
            return Err(ErrorCode::InvalidInput);
        }
        let (held, others): (Vec<u64>, Vec<u64>) =
            offsets.iter().partition(|offset| held.contains(offset));
        let ours = done_is_fine && !strict && !known.lost;
        if others
            .iter()
            .all(|offset| ours && self.is_done(known.partition, *offset))
        {
            Ok(held)
        } else {
            Err(ErrorCode::LeaseLost)
        }
    }

    pub fn ack(&mut self, lease: &str, offsets: &[u64], strict: bool) -> Refusal<u64> {
        let asked = self.asked(lease, offsets, strict, true)?;
        let partition = self.leases[lease].partition;
        let work = self.work(partition);
        work.offsets
            .extend(asked.into_iter().map(|offset| (offset, Offset::Done)));
        work.advance();
        Ok(work.committed)
    }

    pub fn ack_upto(&mut self, partition: u32, upto: u64, by: &str, strict: bool) -> Refusal<u64> {
        let now = self.now;
        let end = self.part(partition).end;
        if self.part(partition).group.is_none() && upto < end {
            self.part(partition).group = Some(Work::at(0, false));
        }
        let Some(work) = &mut self.part(partition).group else {
            return Err(ErrorCode::InvalidInput);
        };
        if strict && upto < work.committed {
            return Err(ErrorCode::LeaseLost);
        }
        let limit = if work.consumed { work.next } else { end };
        if upto >= limit {
            return Err(ErrorCode::InvalidInput);
        }
        if !work.consumed {
            work.committed = work.committed.max(upto + 1);
            work.next = work.committed;
            return Ok(work.committed);
        }
        let mut marked = Vec::new();
        for (offset, state) in work.offsets.clone().range(..=upto) {
            match state {
                Offset::Done | Offset::Ready { deliveries: 0, .. } => {}
                Offset::Ready { .. } => marked.push((*offset, None)),
                Offset::Leased { lease, .. } => {
                    let holder = &self.leases[lease];
                    if holder.consumer == by {
                        marked.push((*offset, None));
                    } else if holder.expires <= now {
                        marked.push((*offset, Some(lease.clone())));
                    }
                }
            }
        }
        if strict && marked.last().is_none_or(|(offset, _)| *offset != upto) {
            return Err(ErrorCode::LeaseLost);
        }
        for (offset, loser) in marked {
            self.work(partition).offsets.insert(offset, Offset::Done);
            if let Some(loser) = loser {
                self.leases.get_mut(&loser).expect("known").lost = true;
            }
        }
        let work = self.work(partition);
        work.advance();
        Ok(work.committed)
    }

    pub fn nack(&mut self, lease: &str, offsets: &[u64], delay: u64, strict: bool) -> Refusal<()> {
        let asked = self.asked(lease, offsets, strict, false)?;
        let not_before = self.now + delay;
        self.give_back(lease, &asked, not_before, 0);
        Ok(())
    }

    pub fn release(&mut self, lease: &str, from: u64) -> Vec<u64> {
        let undone: Vec<u64> = self
            .held(lease)
            .into_iter()
            .filter(|o| *o >= from)
            .collect();
        if undone.is_empty() {
            return undone;
        }
        self.give_back(lease, &undone, self.now, 1);
        let granted = &mut self.leases.get_mut(lease).expect("known").granted;
        granted.retain(|offset| !undone.contains(offset));
        let partition = self.leases[lease].partition;
        let work = self.work(partition);
        while let Some((last, Offset::Ready { deliveries: 0, .. })) = work.offsets.last_key_value()
        {
            work.next = *last;
            work.offsets.pop_last();
        }
        undone
    }

    fn give_back(&mut self, lease: &str, offsets: &[u64], not_before: u64, undone: u32) {
        let partition = self.leases[lease].partition;
        for offset in offsets {
            let state = self.work(partition).offsets.get_mut(offset).expect("held");
            if let Offset::Leased { deliveries, .. } = *state {
                *state = Offset::Ready {
                    not_before,
                    deliveries: deliveries - undone,
                };
            }
        }
    }

    pub fn extend(&mut self, lease: &str, lease_ms: u64) -> Refusal<u64> {
        let expires = self.now + lease_ms;
        if self.held(lease).is_empty() || self.leases[lease].expires <= self.now {
            return Err(ErrorCode::LeaseLost);
        }
        self.leases.get_mut(lease).expect("known").expires = expires;
        Ok(expires)
    }

    pub fn reset(&mut self, partition: Option<u32>, to: Position) -> Refusal<()> {
        let addressed = self.addressed(partition);
        let targets: Vec<u64> = addressed
            .iter()
            .map(|p| self.resolve(*p, to))
            .collect::<Refusal<_>>()?;
        if partition.is_none() {
            self.done.clear();
        }
        for (partition, offset) in addressed.into_iter().zip(targets) {
            let consumed = self
                .part(partition)
                .group
                .as_ref()
                .is_some_and(|w| w.consumed);
            self.part(partition).group = Some(Work::at(offset, consumed));
        }
        Ok(())
    }
}
