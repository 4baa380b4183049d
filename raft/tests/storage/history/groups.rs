//! Groups as their promises say it: one slot an offset, and no regard for cost. What a command is
//! refused for is the concern of the crate `topics`' own model; here a refusal is taken as it
//! comes, where one is possible at all.

use std::collections::BTreeMap;

use types::command::{
    Ack, Claim, CommandKind, Extend, Nack, Position, Release, ResetGroup, StartAt,
};
use types::outcome::{CommandResult, Grant};

use super::model::Partitions;

/// Topic, group, partition.
type Place = (u32, String, u32);

/// An offset between the committed position and the first that was never granted.
#[derive(Clone, Debug, Default)]
struct Slot {
    lease: Option<String>,
    ready_at: u64,
    deliveries: u32,
    done: bool,
}

/// A group's position in a partition.
#[derive(Clone, Debug, Default)]
pub struct Work {
    pub committed: u64,
    pub next: u64,
    consumed: bool,
    slots: BTreeMap<u64, Slot>,
}

/// What is known of a lease that was once granted.
#[derive(Clone, Debug)]
pub struct Lease {
    pub place: Place,
    pub consumer: String,
}

/// All groups.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    pub work: BTreeMap<Place, Work>,
    pub leases: BTreeMap<String, Lease>,
}

impl Work {
    fn at(offset: u64, consumed: bool) -> Work {
        Work {
            committed: offset,
            next: offset,
            consumed,
            slots: BTreeMap::new(),
        }
    }

    pub fn open(&self) -> u64 {
        self.slots.values().filter(|slot| !slot.done).count() as u64
    }

    fn advance(&mut self) {
        while self
            .slots
            .get(&self.committed)
            .is_some_and(|slot| slot.done)
        {
            self.slots.remove(&self.committed);
            self.committed += 1;
        }
    }

    fn finish(&mut self, offsets: impl IntoIterator<Item = u64>) {
        for offset in offsets {
            let slot = self.slots.get_mut(&offset).expect("it is open");
            slot.done = true;
            slot.lease = None;
        }
        self.advance();
    }

    /// What is below the floor is gone, whoever had it.
    fn trim(&mut self, floor: u64) {
        let gone: Vec<u64> = self.slots.range(..floor).map(|(o, _)| *o).collect();
        self.finish(gone);
        self.committed = self.committed.max(floor);
        self.next = self.next.max(floor);
    }
}

impl Groups {
    /// A topic is gone, with its groups.
    pub fn drop_topic(&mut self, topic: u32) {
        self.work.retain(|(of, _, _), _| *of != topic);
        self.leases.retain(|_, lease| lease.place.0 != topic);
    }

    /// What a lease holds.
    pub fn held(&self, lease: &str) -> Vec<u64> {
        let work = self
            .leases
            .get(lease)
            .and_then(|known| self.work.get(&known.place));
        let slots = work.into_iter().flat_map(|work| &work.slots);
        slots
            .filter(|(_, slot)| slot.lease.as_deref() == Some(lease))
            .map(|(offset, _)| *offset)
            .collect()
    }

    /// Takes over a command that was applied, and checks that it did what it should have.
    pub fn apply(
        &mut self,
        partitions: &Partitions,
        at: (u64, String),
        kind: &CommandKind,
        result: &CommandResult,
    ) {
        let (now, lease_id) = at;
        match (kind, result) {
            (CommandKind::Claim(claim), CommandResult::NothingToClaim) => {
                self.ensure(partitions, claim);
                for partition in addressed(claim.partition, claim.partitions) {
                    let place = (claim.topic_id, claim.group.clone(), partition);
                    let ends = partitions.ends(claim.topic_id, partition);
                    let work = &self.work[&place];
                    assert!(work.next.max(ends.start) >= ends.end, "fresh ones are left");
                    let mut kept = work.slots.range(ends.start..);
                    let waiting = kept.any(|(_, slot)| !slot.done && slot.ready_at <= now);
                    assert!(!waiting, "some could be delivered again");
                    if claim.partition.is_some() || claim.partitions == 1 {
                        self.work_of(&place).trim(ends.start);
                    }
                }
            }
            (CommandKind::Claim(claim), CommandResult::Granted(grant)) => {
                assert_eq!(grant.lease_id, lease_id);
                self.ensure(partitions, claim);
                self.grant(partitions, now, claim, grant);
            }
            (CommandKind::Ack(ack), CommandResult::Acknowledged { committed }) => {
                let found = match ack.upto_offset {
                    Some(upto) => self.ack_upto(now, ack, upto),
                    None => self.ack_lease(ack),
                };
                assert_eq!(found, *committed);
            }
            (CommandKind::Nack(nack), CommandResult::Done) => self.nack(now, nack),
            (CommandKind::Extend(extend), CommandResult::Extended { expires, .. }) => {
                assert_eq!(*expires, now + extend.lease_ms);
                self.extend(extend, *expires);
            }
            (CommandKind::Release(release), CommandResult::Done) => self.release(now, release),
            (CommandKind::Reset(reset), CommandResult::Done) => self.reset(partitions, reset),
            other => panic!("no answer to that command: {other:?}"),
        }
    }

    /// Must this command succeed, whatever came before?
    pub fn cannot_be_refused(&self, partitions: &Partitions, kind: &CommandKind) -> bool {
        match kind {
            CommandKind::Claim(claim) => {
                let start = claim.start.as_ref().map(StartAt::get);
                let mut places = addressed(claim.partition, claim.partitions)
                    .map(|partition| (claim.topic_id, claim.group.clone(), partition));
                !matches!(start, Some(Position::Offset(_)))
                    || places.all(|place| self.work.contains_key(&place))
            }
            CommandKind::Ack(ack) if ack.upto_offset.is_none() => {
                !ack.strict && ack.offsets.is_empty() && !self.held(&ack.lease_id).is_empty()
            }
            CommandKind::Nack(nack) => {
                !nack.strict && nack.offsets.is_empty() && !self.held(&nack.lease_id).is_empty()
            }
            CommandKind::Reset(reset) => match reset.to.as_ref().map(StartAt::get) {
                Some(Position::Offset(offset)) => addressed(reset.partition, reset.partitions)
                    .all(|p| partitions.is_start(reset.topic_id, p, offset)),
                _ => true,
            },
            CommandKind::Release(_) => true,
            _ => false,
        }
    }

    fn work_of(&mut self, place: &Place) -> &mut Work {
        self.work.get_mut(place).expect("it has a position")
    }

    fn ensure(&mut self, partitions: &Partitions, claim: &Claim) {
        let start = claim
            .start
            .as_ref()
            .map_or(Position::Latest(true), StartAt::get);
        for partition in addressed(claim.partition, claim.partitions) {
            let offset = partitions.resolve(claim.topic_id, partition, start);
            let place = (claim.topic_id, claim.group.clone(), partition);
            self.work
                .entry(place)
                .or_insert_with(|| Work::at(offset, true));
        }
    }

    fn grant(&mut self, partitions: &Partitions, now: u64, claim: &Claim, grant: &Grant) {
        let asked = claim.partition.unwrap_or(grant.partition);
        assert_eq!(grant.partition, asked);
        let place = (claim.topic_id, claim.group.clone(), asked);
        let ends = partitions.ends(claim.topic_id, asked);
        let work = self.work_of(&place);
        work.trim(ends.start);
        work.consumed = true;
        let mut count = 0;
        for range in &grant.ranges {
            for offset in range.start..range.end {
                count += 1;
                assert!(ends.contains(&offset), "{offset} is no message");
                if offset == work.next {
                    work.next += 1;
                    work.slots.insert(offset, Slot::default());
                }
                let slot = work.slots.get_mut(&offset);
                let slot = slot.expect("neither done, nor beyond the next fresh one");
                assert!(!slot.done && slot.ready_at <= now, "{offset} is somebody's");
                slot.deliveries += 1;
                assert_eq!(slot.deliveries, range.deliveries);
                slot.lease = Some(grant.lease_id.clone());
                slot.ready_at = grant.expires;
            }
        }
        assert!((1..=claim.limit).contains(&count), "{count} granted");
        assert_eq!(grant.expires, now + claim.lease_ms);
        let consumer = claim.consumer_id.clone();
        let lease = Lease { place, consumer };
        let before = self.leases.insert(grant.lease_id.clone(), lease);
        assert!(before.is_none(), "a lease id is given out once");
    }

    /// What a request by lease names of what the lease holds.
    fn named(&self, lease: &str, offsets: &[u64]) -> Vec<u64> {
        let mut held = self.held(lease);
        held.retain(|offset| offsets.is_empty() || offsets.contains(offset));
        held
    }

    fn ack_lease(&mut self, ack: &Ack) -> u64 {
        let named = self.named(&ack.lease_id, &ack.offsets);
        let place = self.leases[&ack.lease_id].place.clone();
        let work = self.work_of(&place);
        work.finish(named);
        work.committed
    }

    fn ack_upto(&mut self, now: u64, ack: &Ack, upto: u64) -> u64 {
        let place = (ack.topic_id, ack.group.clone(), ack.partition);
        let leases = &self.leases;
        let work = self
            .work
            .entry(place)
            .or_insert_with(|| Work::at(upto + 1, false));
        if !work.consumed {
            work.committed = work.committed.max(upto + 1);
            work.next = work.committed;
            return work.committed;
        }
        let upto = work.slots.range(..=upto);
        let ours = upto.filter(|(_, slot)| match &slot.lease {
            None => slot.deliveries > 0,
            Some(lease) => leases[lease].consumer == ack.consumer_id || slot.ready_at <= now,
        });
        let ours: Vec<u64> = ours.map(|(offset, _)| *offset).collect();
        work.finish(ours);
        work.committed
    }

    fn give_back(&mut self, lease: &str, offsets: &[u64], ready_at: u64, undone: u32) {
        let place = self.leases[lease].place.clone();
        let work = self.work_of(&place);
        for offset in offsets {
            let slot = work.slots.get_mut(offset).expect("it is held");
            slot.lease = None;
            slot.ready_at = ready_at;
            slot.deliveries -= undone;
        }
    }

    fn nack(&mut self, now: u64, nack: &Nack) {
        let named = self.named(&nack.lease_id, &nack.offsets);
        self.give_back(&nack.lease_id, &named, now + nack.delay_ms, 0);
    }

    fn extend(&mut self, extend: &Extend, expires: u64) {
        let place = self.leases[&extend.lease_id].place.clone();
        let held = self.held(&extend.lease_id);
        let work = self.work_of(&place);
        for offset in held {
            work.slots.get_mut(&offset).expect("it is held").ready_at = expires;
        }
    }

    fn release(&mut self, now: u64, release: &Release) {
        let mut named = self.held(&release.lease_id);
        named.retain(|offset| *offset >= release.from_offset);
        if named.is_empty() {
            return;
        }
        self.give_back(&release.lease_id, &named, now, 1);
        let place = self.leases[&release.lease_id].place.clone();
        let work = self.work_of(&place);
        while let Some((last, slot)) = work.slots.last_key_value() {
            if slot.done || slot.lease.is_some() || slot.deliveries > 0 {
                break;
            }
            work.next = *last;
            work.slots.pop_last();
        }
    }

    fn reset(&mut self, partitions: &Partitions, reset: &ResetGroup) {
        let to = reset
            .to
            .as_ref()
            .map_or(Position::Latest(true), StartAt::get);
        for partition in addressed(reset.partition, reset.partitions) {
            let offset = partitions.resolve(reset.topic_id, partition, to);
            let place = (reset.topic_id, reset.group.clone(), partition);
            let consumed = self.work.get(&place).is_some_and(|work| work.consumed);
            self.work.insert(place, Work::at(offset, consumed));
        }
    }
}

fn addressed(partition: Option<u32>, partitions: u32) -> std::ops::Range<u32> {
    partition.map_or(0..partitions, |one| one..one + 1)
}
