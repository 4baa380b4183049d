//! Segments in memory: runs of offsets in one state.

use std::ops::Range;

use storage::keys;
use types::ids::{LeaseTimeMs, Offset};

use super::lease::LeaseId;
use super::record::{self, SegmentKind, SegmentRecord};

/// What a run of offsets is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Held by a lease. It can be granted again once the lease has run out.
    Leased {
        /// Which.
        lease: LeaseId,
        /// When it runs out.
        expires: LeaseTimeMs,
        /// How often the offsets were delivered, this time included.
        deliveries: u32,
    },
    /// Held by nobody.
    Ready {
        /// Not to be granted before this.
        not_before: LeaseTimeMs,
        /// How often the offsets were delivered; 0 if every grant was released.
        deliveries: u32,
    },
    /// Acked.
    Done,
}

impl State {
    /// When it can be granted (again); none: never, it is done.
    pub fn claimable_at(self) -> Option<LeaseTimeMs> {
        match self {
            State::Leased { expires, .. } => Some(expires),
            State::Ready { not_before, .. } => Some(not_before),
            State::Done => None,
        }
    }

    /// How often the offsets were delivered; 0 when done, where nobody asks any more.
    pub fn deliveries(self) -> u32 {
        match self {
            State::Leased { deliveries, .. } | State::Ready { deliveries, .. } => deliveries,
            State::Done => 0,
        }
    }

    /// The lease that holds it.
    pub fn lease(self) -> Option<LeaseId> {
        match self {
            State::Leased { lease, .. } => Some(lease),
            State::Ready { .. } | State::Done => None,
        }
    }
}

/// Offsets from `start` to before `end`, all in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The first offset.
    pub start: Offset,
    /// The offset after the last.
    pub end: Offset,
    /// What they are.
    pub state: State,
}

impl Segment {
    /// How many offsets.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// How many offsets that are not done.
    pub fn open(&self) -> u64 {
        if self.state == State::Done {
            0
        } else {
            self.len()
        }
    }

    pub fn decode(key: &[u8], stored: &[u8]) -> storage::Result<Segment> {
        let start =
            keys::topics::split_segment(key).map_err(|e| record::corrupt(key, &e.to_string()))?;
        let stored: SegmentRecord = record::decode(key, stored)?;
        let kind = SegmentKind::try_from(stored.kind)
            .map_err(|_| record::corrupt(key, "it is of an unknown kind"))?;
        if stored.end <= start {
            return Err(record::corrupt(key, "it ends before it begins"));
        }
        let deliveries = stored.deliveries;
        let state = match kind {
            SegmentKind::Leased => State::Leased {
                lease: LeaseId {
                    index: stored.lease_index,
                    ordinal: stored.lease_ordinal,
                },
                expires: stored.claimable_at,
                deliveries,
            },
            SegmentKind::Ready => State::Ready {
                not_before: stored.claimable_at,
                deliveries,
            },
            SegmentKind::Done => State::Done,
        };
        Ok(Segment {
            start,
            end: stored.end,
            state,
        })
    }

    pub fn record(&self) -> SegmentRecord {
        let kind = match self.state {
            State::Leased { .. } => SegmentKind::Leased,
            State::Ready { .. } => SegmentKind::Ready,
            State::Done => SegmentKind::Done,
        };
        let lease = self.state.lease().unwrap_or_default();
        SegmentRecord {
            end: self.end,
            kind: kind.into(),
            deliveries: self.state.deliveries(),
            claimable_at: self.state.claimable_at().unwrap_or(0),
            lease_index: lease.index,
            lease_ordinal: lease.ordinal,
        }
    }
}

/// Cuts `segments` (ascending) at the borders of `cuts` (ascending, disjoint), changes the state of
/// what lies inside by `change`, and joins neighbours of equal state.
pub fn rewrite(
    segments: &[Segment],
    cuts: &[Range<Offset>],
    mut change: impl FnMut(&Segment) -> State,
) -> Vec<Segment> {
    let mut out: Vec<Segment> = Vec::with_capacity(segments.len() + 2);
    let mut cuts = cuts.iter().peekable();
    for segment in segments {
        let mut at = segment.start;
        while at < segment.end {
            while cuts.next_if(|cut| cut.end <= at).is_some() {}
            let (end, inside) = match cuts.peek() {
                Some(cut) if cut.start <= at => (cut.end.min(segment.end), true),
                Some(cut) => (cut.start.min(segment.end), false),
                None => (segment.end, false),
            };
            let mut piece = Segment {
                start: at,
                end,
                state: segment.state,
            };
            if inside {
                piece.state = change(&piece);
            }
            push_joined(&mut out, piece);
            at = end;
        }
    }
    out
}

fn push_joined(out: &mut Vec<Segment>, piece: Segment) {
    match out.last_mut() {
        Some(last) if last.end == piece.start && last.state == piece.state => last.end = piece.end,
        _ => out.push(piece),
    }
}

/// Joins ranges (ascending) into windows that one read covers: ranges further apart than this are
/// read apart, or a change at both ends of a long partition would read all that lies between.
const WINDOW_GAP: u64 = 256;

/// Groups ranges (ascending, disjoint) so that those of a group lie close together.
pub fn windows(ranges: &[Range<Offset>]) -> impl Iterator<Item = &[Range<Offset>]> {
    ranges.chunk_by(|a, b| b.start - a.end <= WINDOW_GAP)
}

/// Offsets in any order, some perhaps twice, as ranges. None is [`Offset::MAX`], which no message
/// ever has and no half-open range can hold.
pub fn to_ranges(offsets: &[Offset]) -> Vec<Range<Offset>> {
    let mut sorted = offsets.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
        .chunk_by(|a, b| a.checked_add(1) == Some(*b))
        .filter_map(|run| Some(*run.first()?..run.last()?.saturating_add(1)))
        .collect()
}

#[cfg(test)]
#[expect(
    clippy::single_range_in_vec_init,
    reason = "a list of one range is meant"
)]
mod tests {
    use super::*;

    fn ready(start: Offset, end: Offset, not_before: LeaseTimeMs) -> Segment {
        Segment {
            start,
            end,
            state: State::Ready {
                not_before,
                deliveries: 1,
            },
        }
    }

    fn done(start: Offset, end: Offset) -> Segment {
        Segment {
            start,
            end,
            state: State::Done,
        }
    }

    #[test]
    fn a_cut_inside_a_segment_splits_it_in_three() {
        let out = rewrite(&[ready(0, 10, 7)], &[3..5], |_| State::Done);
        assert_eq!(out, [ready(0, 3, 7), done(3, 5), ready(5, 10, 7)]);
    }

    #[test]
    fn what_becomes_equal_is_joined_with_its_neighbours() {
        let segments = [done(0, 2), ready(2, 4, 7), done(4, 6), ready(6, 8, 9)];
        assert_eq!(
            rewrite(&segments, &[2..4], |_| State::Done),
            [done(0, 6), ready(6, 8, 9)]
        );
        assert_eq!(rewrite(&segments, &[0..8], |_| State::Done), [done(0, 8)]);
    }

    #[test]
    fn cuts_may_span_segments_and_miss_them() {
        let segments = [ready(5, 8, 1), ready(8, 10, 2)];
        let out = rewrite(&segments, &[0..2, 7..9, 20..30], |_| State::Done);
        assert_eq!(out, [ready(5, 7, 1), done(7, 9), ready(9, 10, 2)]);
    }

    #[test]
    fn offsets_become_ranges_and_near_ranges_one_window() {
        let ranges = to_ranges(&[9, 3, 4, 3, 5, 1_000]);
        assert_eq!(ranges, [3..6, 9..10, 1_000..1_001]);
        let windows: Vec<_> = windows(&ranges).collect();
        assert_eq!(windows, [&[3..6, 9..10][..], &[1_000..1_001][..]]);
    }
}
