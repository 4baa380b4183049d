//! A message whose lease ran out goes to the next member who asks.
//!
//! No clock tells when a lease ran out: lease time stands still while nobody leads. But leases of
//! the same length run out in the order in which they were granted. So where a later one certainly
//! ran out, because its message went to somebody else, the earlier one had too; and who asked after
//! that, and was given nothing, or messages of that partition which nobody had before, was told
//! what is not so.
//!
//! That all leases ran out late alike is not seen here. How long one lasts while a leader stays is
//! measured in `groups::when_a_lease_ends_its_messages_come_again_to_whoever_waits`.

use std::collections::BTreeMap;

use super::{Deed, Delivery, Done, Outcome, REQUEST_MAX, ns};

/// What a member was told who asked for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Poll {
    pub told: Got,
    pub invoke_ns: u64,
    pub return_ns: u64,
}

/// What it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Got {
    Nothing,
    /// Messages of this partition; are some of them given for the first time?
    Some {
        partition: u32,
        fresh: bool,
    },
    /// It may have been given something that it does not know of.
    Unknown,
}

/// A message of which one member's lease ran out, and the member that had it next.
struct RunOut<'a> {
    offset: u64,
    first: &'a Delivery,
    next: &'a Delivery,
    /// Did the member ask for more time? Then it ran out later than others.
    extended: bool,
}

/// Of how many redeliveries it is known by when they were due, and which of them came late. Mostly
/// they were due after they came: what shows that a lease had run out is itself a redelivery.
pub(super) fn late(deliveries: &[Delivery], done: &[Done], polls: &[Poll]) -> (u64, Vec<String>) {
    let run_out = run_out(deliveries, done);
    let proofs = Proofs::new(&run_out);
    let mut polls = polls.to_vec();
    polls.sort_by_key(|poll| poll.invoke_ns);
    let mut wrong = Vec::new();
    let in_time = run_out.iter().filter(|run_out| !run_out.extended);
    let mut bounded = 0;
    for run_out in in_time {
        let (first, next) = (run_out.first, run_out.next);
        let Some(ran_out_by) = proofs.of(first) else {
            continue;
        };
        if somebody_may_have_had_it(&polls, first.return_ns, ran_out_by) {
            continue;
        }
        bounded += 1;
        let from = polls.partition_point(|poll| poll.invoke_ns < ran_out_by);
        let asked = polls[from..].iter();
        let missed = asked
            .take_while(|poll| poll.invoke_ns < next.invoke_ns)
            .find(|poll| poll.return_ns <= next.invoke_ns && poll.misses(first.partition));
        let Some(missed) = missed else { continue };
        if somebody_may_have_had_it(&polls, first.return_ns, missed.return_ns) {
            continue;
        }
        wrong.push(format!(
            "leases: {}:{} came late: lease {} had run out by {ran_out_by} ns, as a later one had, \
             then somebody was told {missed:?}, and lease {} from {} ns",
            first.partition, run_out.offset, first.lease, next.lease, next.invoke_ns
        ));
    }
    (bounded, wrong)
}

impl Poll {
    /// Should it have been given what was free in that partition? What was given before goes first.
    fn misses(&self, of: u32) -> bool {
        match self.told {
            Got::Nothing => true,
            Got::Some { partition, fresh } => partition == of && fresh,
            Got::Unknown => false,
        }
    }
}

/// Was a grant under way at that time of which nobody knows? A request may come to the leader after
/// its sender has given up.
fn somebody_may_have_had_it(polls: &[Poll], from_ns: u64, until_ns: u64) -> bool {
    polls.iter().any(|poll| {
        let end = poll.return_ns.saturating_add(ns(REQUEST_MAX));
        poll.told == Got::Unknown && poll.invoke_ns <= until_ns && end >= from_ns
    })
}

/// The leases that certainly ran out: their messages went to others, whom we know, and nothing that
/// was done with them explains it.
fn run_out<'a>(deliveries: &'a [Delivery], done: &[Done]) -> Vec<RunOut<'a>> {
    let mut holds: BTreeMap<(u32, u64), Vec<(u32, &Delivery)>> = BTreeMap::new();
    for delivery in deliveries {
        for (offset, times) in &delivery.offsets {
            let key = (delivery.partition, *offset);
            holds.entry(key).or_default().push((*times, delivery));
        }
    }
    let mut deeds: BTreeMap<&str, Vec<Deed>> = BTreeMap::new();
    for done in done.iter().filter(|done| done.outcome != Outcome::Fail) {
        deeds.entry(&done.lease).or_default().push(done.deed);
    }
    let mut found = Vec::new();
    for ((_, offset), mut holds) in holds {
        holds.sort_by_key(|(times, _)| *times);
        for pair in holds.windows(2) {
            let [(times, first), (times_next, next)] = pair else {
                continue;
            };
            let deeds = deeds
                .get(first.lease.as_str())
                .map_or(&[][..], Vec::as_slice);
            let ran_out = deeds.iter().all(|deed| *deed == Deed::Extend);
            if times + 1 == *times_next && ran_out {
                found.push(RunOut {
                    offset,
                    first,
                    next,
                    extended: !deeds.is_empty(),
                });
            }
        }
    }
    found
}

/// By when leases had run out that were granted at some moment.
struct Proofs {
    /// Not before when a lease was granted, and by when it or one that was granted later had run
    /// out, ordered by the first.
    by: Vec<(u64, u64)>,
}

impl Proofs {
    fn new(run_out: &[RunOut<'_>]) -> Proofs {
        let seen = |run_out: &RunOut<'_>| (run_out.first.invoke_ns, run_out.next.return_ns);
        let mut by: Vec<(u64, u64)> = run_out.iter().map(seen).collect();
        by.sort_unstable();
        let mut soonest = u64::MAX;
        for (_, run_out_by) in by.iter_mut().rev() {
            soonest = soonest.min(*run_out_by);
            *run_out_by = soonest;
        }
        Proofs { by }
    }

    /// By when the lease of a delivery had run out, as others show that were granted after it: for
    /// as long, and some were kept for longer.
    fn of(&self, delivery: &Delivery) -> Option<u64> {
        let later = self
            .by
            .partition_point(|(granted, _)| *granted < delivery.return_ns);
        self.by.get(later).map(|(_, run_out_by)| *run_out_by)
    }
}
