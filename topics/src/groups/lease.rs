//! Leases: their ids, and how a command finds one.

use std::ops::Range;

use storage::keys::Kind;
use storage::{Batch, Direction, KeyRange, Read, keys};
use types::ids::{LeaseTimeMs, LogIndex, Offset, TopicId, Version};
use types::limits;

use super::partition::Partition;
use super::record::{self, LeaseRecord};
use super::segment::{State, to_ranges, windows};
use super::stop::{Stop, invalid, lease_lost};
use crate::ApplyContext;

/// A lease, by its claim's place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseId {
    /// The log entry.
    pub index: LogIndex,
    /// The claim within it.
    pub ordinal: u32,
}

impl LeaseId {
    /// The lease of the claim at `version`.
    pub fn of(version: Version) -> LeaseId {
        LeaseId {
            index: version.index,
            ordinal: version.ordinal,
        }
    }

    /// As clients see it: 24 hexadecimal digits, opaque to them.
    pub fn text(self) -> String {
        format!("{:016x}{:08x}", self.index, self.ordinal)
    }

    /// The id behind a text; none if it is not one that [`LeaseId::text`] made.
    fn parse(text: &str) -> Option<LeaseId> {
        let (index, ordinal) = text.split_at_checked(16)?;
        let id = LeaseId {
            index: u64::from_str_radix(index, 16).ok()?,
            ordinal: u32::from_str_radix(ordinal, 16).ok()?,
        };
        (id.text() == text).then_some(id)
    }
}

/// A lease that holds something, or whose messages were all acked lately, as a command found it.
pub struct Lease {
    /// Which.
    pub id: LeaseId,
    /// Its record.
    pub record: LeaseRecord,
}

impl Lease {
    /// The lease behind what a client sent.
    ///
    /// # Refusals
    /// `INVALID_INPUT` if the text is not a lease id at all; `LEASE_LOST` if nothing is known of
    /// such a lease: all of it was nacked, released, given to somebody else or acked long ago, or
    /// the group was reset.
    pub fn find(read: &dyn Read, topic: TopicId, group: &str, text: &str) -> Result<Lease, Stop> {
        let id = LeaseId::parse(text).ok_or_else(|| invalid("that is not a lease id"))?;
        let record = record::load(read, &keys::topics::lease(topic, group, text))?;
        record
            .map(|record| Lease { id, record })
            .ok_or_else(holds_nothing)
    }

    /// Its partition, open for changes.
    pub fn open<'b>(
        &self,
        batch: &'b mut Batch,
        at: ApplyContext,
        topic: TopicId,
        group: &'b str,
    ) -> storage::Result<Partition<'b>> {
        let partition = self.record.partition;
        Partition::open(batch, at, topic, group, partition)?.ok_or_else(|| {
            let key = keys::topics::cursor(topic, group, partition);
            record::corrupt(
                &key,
                "a lease holds offsets there, but there is no position",
            )
        })
    }

    /// Has it not run out?
    pub fn is_live(&self, now: LeaseTimeMs) -> bool {
        now < self.record.expires
    }

    /// All offsets it was granted, as ranges.
    pub fn granted(&self) -> Vec<Range<Offset>> {
        self.record
            .granted
            .iter()
            .map(|range| range.start..range.end)
            .collect()
    }

    /// Was this offset granted by it?
    pub fn was_granted(&self, offset: Offset) -> bool {
        let granted = &self.record.granted;
        let at = granted.partition_point(|range| range.end <= offset);
        granted.get(at).is_some_and(|range| range.start <= offset)
    }
}

/// What an ack or a nack asks of a lease.
pub struct Request<'a> {
    /// Just these; empty: all the lease holds.
    pub offsets: &'a [Offset],
    /// In a transaction: everything named must still be the lease's.
    pub strict: bool,
    /// May an offset be named that the lease's own consumer acked already?
    pub done_is_fine: bool,
}

/// Which offsets a request means, as ranges that the lease holds.
///
/// # Refusals
/// `INVALID_INPUT` for an offset the lease was never granted. `LEASE_LOST` if a named offset is no
/// longer the lease's; where none is named, if the lease holds nothing and that is not because all
/// of it is done, or in a transaction if it lost any.
pub fn held_by(
    work: &Partition<'_>,
    lease: &Lease,
    request: &Request<'_>,
) -> Result<Vec<Range<Offset>>, Stop> {
    let Request {
        offsets,
        strict,
        done_is_fine,
    } = *request;
    if offsets.len() > limits::ACK_OFFSETS_MAX {
        let max = limits::ACK_OFFSETS_MAX;
        return Err(invalid(format!(
            "at most {max} offsets can be named at once"
        )));
    }
    if offsets.is_empty() {
        if strict && lease.record.lost {
            return Err(lease_lost(
                "the lease lost some of its messages to somebody else",
            ));
        }
        let standing = standing(work, lease.id, &lease.granted())?;
        let done_before = done_is_fine && !strict && standing.elsewhere == 0;
        if lease.record.held == 0 && !done_before {
            return Err(holds_nothing());
        }
        return Ok(standing.held);
    }
    // Looked at one by one, since a client may name any number: only then do ranges hold them.
    if !offsets.iter().all(|offset| lease.was_granted(*offset)) {
        return Err(invalid(
            "an offset is named that the lease was never granted",
        ));
    }
    let asked = to_ranges(offsets);
    let standing = standing(work, lease.id, &asked)?;
    let done_is_ours = done_is_fine && !strict && !lease.record.lost;
    if standing.elsewhere > 0 || (standing.done > 0 && !done_is_ours) {
        return Err(lease_lost(
            "an offset is named that the lease holds no more",
        ));
    }
    Ok(standing.held)
}

fn holds_nothing() -> Stop {
    lease_lost(
        "the lease holds nothing any more: what it held was acked, released, given to somebody \
         else, or the group was reset",
    )
}

/// Forgets leases whose messages were all acked long enough ago, [`limits::LEASE_DONE_SWEEP_MAX`]
/// at most.
pub fn forget_done(
    batch: &mut Batch,
    topic: TopicId,
    group: &str,
    now: LeaseTimeMs,
) -> storage::Result<()> {
    let ends = KeyRange::prefix(&keys::topics::group_prefix(Kind::LeaseEnd, topic, group));
    let oldest: Vec<_> = batch
        .scan(&ends, Direction::Forward)
        .take(limits::LEASE_DONE_SWEEP_MAX)
        .collect::<storage::Result<_>>()?;
    for (key, _) in oldest {
        let (at, lease) = keys::topics::split_lease_end(topic, group, &key)
            .map_err(|e| record::corrupt(&key, &e.to_string()))?;
        if at > now {
            break;
        }
        batch.delete(keys::topics::lease(topic, group, &lease));
        batch.delete(key);
    }
    Ok(())
}

/// What has become of offsets that a lease was granted.
#[derive(Default)]
struct Standing {
    /// The lease holds them.
    held: Vec<Range<Offset>>,
    /// How many are done.
    done: u64,
    /// How many are open and not the lease's.
    elsewhere: u64,
}

fn standing(
    work: &Partition<'_>,
    lease: LeaseId,
    asked: &[Range<Offset>],
) -> storage::Result<Standing> {
    let mut standing = Standing::default();
    for window in windows(asked) {
        let (Some(first), Some(last)) = (window.first(), window.last()) else {
            continue;
        };
        let segments = work.segments(&(first.start..last.end))?;
        for range in window {
            // What has no segment lies below the position: it was granted, so it is not fresh
            // unless its grant was released.
            let mut unseen = range.end - range.start;
            let first = segments.partition_point(|segment| segment.end <= range.start);
            for segment in &segments[first..] {
                let common = segment.start.max(range.start)..segment.end.min(range.end);
                if common.is_empty() {
                    break;
                }
                let count = common.end - common.start;
                unseen -= count;
                match segment.state {
                    State::Leased { lease: holder, .. } if holder == lease => {
                        standing.held.push(common);
                    }
                    State::Leased { .. } | State::Ready { .. } => standing.elsewhere += count,
                    State::Done => standing.done += count,
                }
            }
            if range.end <= work.cursor().next {
                standing.done += unseen;
            } else {
                standing.elsewhere += unseen;
            }
        }
    }
    Ok(standing)
}

#[cfg(test)]
mod tests {
    use super::super::record::RangeRecord;
    use super::*;

    #[test]
    fn a_lease_id_comes_back_and_nothing_else_is_one() {
        let id = LeaseId {
            index: 0xa1f3,
            ordinal: 2,
        };
        assert_eq!(id.text(), "000000000000a1f300000002");
        assert_eq!(LeaseId::parse(&id.text()), Some(id));
        for wrong in [
            "",
            "7",
            "000000000000A1F300000002",
            "+00000000000a1f300000002",
            "é",
        ] {
            assert_eq!(LeaseId::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_what_lies_in_a_grant_was_granted() {
        let granted = [(2, 5), (5, 7), (9, 10)]
            .into_iter()
            .map(|(start, end)| RangeRecord { start, end })
            .collect();
        let lease = Lease {
            id: LeaseId::default(),
            record: LeaseRecord {
                granted,
                ..LeaseRecord::default()
            },
        };
        let found: Vec<Offset> = (0..12).filter(|o| lease.was_granted(*o)).collect();
        assert_eq!(found, [2, 3, 4, 5, 6, 9]);
        assert!(!lease.was_granted(Offset::MAX));
    }
}
