//! What members were given and did, as it must not be, and as it may.

use super::*;

const SECOND: u64 = 1_000_000_000;

/// Offset 0 of partition 0, given for the `times`th time at that second.
fn given(lease: &str, times: u32, at: u64) -> Delivery {
    Delivery {
        lease: lease.into(),
        partition: 0,
        offsets: vec![(0, times)],
        invoke_ns: at * SECOND,
        return_ns: at * SECOND + 1_000,
    }
}

fn did(lease: &str, deed: Deed, outcome: Outcome, at: u64) -> Done {
    Done {
        lease: lease.into(),
        deed,
        outcome,
        invoke_ns: at * SECOND,
    }
}

fn found(deliveries: &[Delivery], done: &[Done]) -> String {
    violations(deliveries, done, &[(0, 1)].into()).join("; ")
}

const NOW: Deed = Deed::Nack {
    delay: Duration::ZERO,
};
const LATER: Deed = Deed::Nack { delay: DELAY };

#[test]
fn what_may_be_passes() {
    let ack = |lease, at| did(lease, Deed::Ack, Outcome::Ok, at);
    assert_eq!(found(&[given("a", 1, 0)], &[ack("a", 1)]), "");
    // Ran out; then its late ack is refused.
    let twice = [given("a", 1, 0), given("b", 2, 2)];
    let late = did("a", Deed::Ack, Outcome::Fail, 3);
    assert_eq!(found(&twice, &[late, ack("b", 3)]), "");
    // Given back, with and without delay, and perhaps.
    let soon = [given("a", 1, 0), given("b", 2, 1)];
    let back = did("a", NOW, Outcome::Ok, 1);
    assert_eq!(found(&soon, &[back, ack("b", 2)]), "");
    let back = did("a", LATER, Outcome::Ok, 0);
    assert_eq!(found(&soon, &[back, ack("b", 2)]), "");
    let perhaps = did("a", NOW, Outcome::Unknown, 1);
    assert_eq!(found(&soon, &[perhaps, ack("b", 2)]), "");
    // An ack of which nobody knows, and a delivery whose answer was lost.
    let perhaps = did("a", Deed::Ack, Outcome::Unknown, 1);
    assert_eq!(found(&[given("a", 1, 0)], &[perhaps]), "");
    assert_eq!(
        found(&[given("a", 1, 0), given("b", 3, 4)], &[ack("b", 5)]),
        ""
    );
}

#[test]
fn two_holders_at_once_are_seen() {
    let ack = did("b", Deed::Ack, Outcome::Ok, 3);
    let early = [given("a", 1, 0), given("b", 2, 1)];
    assert!(found(&early, std::slice::from_ref(&ack)).contains("two members at once"));
    // The extension counts, if it was answered.
    let at_three = [given("a", 1, 0), given("b", 2, 3)];
    let extend = |outcome| did("a", Deed::Extend, outcome, 1);
    let one = [extend(Outcome::Ok), ack.clone()];
    assert!(found(&at_three, &one).contains("two members at once"));
    assert_eq!(
        found(&at_three, &[extend(Outcome::Unknown), ack.clone()]),
        ""
    );
    // So does a delay.
    let one = [did("a", LATER, Outcome::Ok, 1), ack.clone()];
    assert!(found(&early, &one).contains("too early"));
    let same = [given("a", 1, 0), given("b", 1, 5)];
    assert!(found(&same, &[ack]).contains("as the same delivery"));
}

#[test]
fn what_comes_after_its_ack_and_what_never_comes_is_seen() {
    let twice = [given("a", 1, 0), given("b", 2, 9)];
    let ack = |lease| did(lease, Deed::Ack, Outcome::Ok, 1);
    assert!(found(&twice, &[ack("a"), ack("b")]).contains("after it was acknowledged"));
    assert!(found(&[], &[]).contains("given to nobody"));
    assert!(found(&[given("a", 1, 0)], &[]).contains("nobody who had it said so"));
}

#[test]
fn positions_that_go_back_or_too_far_are_seen() {
    let seen = |all: &[i64]| {
        let positions: Vec<Position> = all
            .iter()
            .map(|committed| Position {
                watcher: 0,
                partition: 0,
                committed: *committed,
            })
            .collect();
        backwards(&positions, &[(0, 5)].into()).len()
    };
    assert_eq!(seen(&[-1, 0, 0, 4]), 0);
    assert_eq!(seen(&[2, 1]), 1);
    assert_eq!(seen(&[5]), 1);
}

/// As [`given`], of another offset.
fn other(lease: &str, times: u32, at: u64) -> Delivery {
    Delivery {
        offsets: vec![(1, times)],
        ..given(lease, times, at)
    }
}

fn told(told: Got, at: u64) -> Poll {
    Poll {
        told,
        invoke_ns: at * SECOND,
        return_ns: at * SECOND + 1_000,
    }
}

#[test]
fn a_message_that_comes_later_than_somebody_asked_for_it_is_seen() {
    // The second lease, granted later, had run out by the fourth second. The first one's message
    // comes in the sixth.
    let deliveries = [
        given("a", 1, 0),
        other("b", 1, 1),
        other("c", 2, 4),
        given("d", 2, 6),
    ];
    let late = |told: Got, at: u64, deeds: &[Done], also: &[Poll]| {
        let polls = [&[self::told(told, at)], also].concat();
        late::late(&deliveries, deeds, &polls).1.len()
    };
    let (of_it, of_another) = (
        |fresh| Got::Some {
            partition: 0,
            fresh,
        },
        Got::Some {
            partition: 1,
            fresh: true,
        },
    );
    assert_eq!(late(Got::Nothing, 5, &[], &[]), 1);
    assert_eq!(late(of_it(true), 5, &[], &[]), 1);
    // Others that waited went first, or another partition's turn it was.
    assert_eq!(late(of_it(false), 5, &[], &[]), 0);
    assert_eq!(late(of_another, 5, &[], &[]), 0);
    // Not certainly free yet, or not any more.
    assert_eq!(late(Got::Nothing, 3, &[], &[]), 0);
    assert_eq!(late(Got::Nothing, 7, &[], &[]), 0);
    // What was done with the leases explains it.
    let back = [did("b", LATER, Outcome::Unknown, 2)];
    assert_eq!(late(Got::Nothing, 5, &back, &[]), 0);
    let longer = [did("a", Deed::Extend, Outcome::Ok, 1)];
    assert_eq!(late(Got::Nothing, 5, &longer, &[]), 0);
    let refused = [did("a", Deed::Ack, Outcome::Fail, 4)];
    assert_eq!(late(Got::Nothing, 5, &refused, &[]), 1);
    // Somebody may have had it in between.
    let lost = [told(Got::Unknown, 3)];
    assert_eq!(late(Got::Nothing, 5, &[], &lost), 0);
    // What is counted is what could have been objected to.
    assert_eq!(late::late(&deliveries, &[], &[]).0, 1);
    assert_eq!(late::late(&deliveries, &[], &lost).0, 0);
    assert_eq!(late::late(&deliveries[..1], &[], &[]).0, 0);
}
