//! What entries do to a state: expectations, atomicity, versions, idempotency, node numbers, and
//! that however a log is cut into runs the state is the same.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::support::{EnvelopeExt, change, delete, dump, entry, envelope, put, row_key};
use bytes::Bytes;
use proptest::prelude::*;
use raft::apply::{ApplyFailure, apply_entry, idempotency};
use storage::keys::{Kind, catalog, meta};
use storage::memory::MemoryEngine;
use storage::{Batch, Durability, Engine};
use types::ErrorCode;
use types::command::{
    APPLY_VERSION, Audit, Change, Command, CommandKind, CompareDigest, DeleteRange, Entry,
    Envelope, Expectation, RegisterNode, RouteTarget, RowEvent, Write,
};
use types::ids::Version;
use types::limits::{IDEMPOTENCY_KEEP_MS, IDEMPOTENCY_SWEEP_MAX, NODE_ID_MAX};
use types::outcome::{Applied, CommandResult, Outcome, Rejection};
use types::schema::{PayloadMode, RowOp};

const DAY: u64 = IDEMPOTENCY_KEEP_MS;

/// A state that entries are applied to, one run each.
#[derive(Default)]
struct State {
    engine: MemoryEngine,
    index: u64,
    members: BTreeSet<u64>,
}

impl State {
    fn try_apply(&mut self, entry: &Entry) -> Result<Vec<Outcome>, ApplyFailure> {
        self.index += 1;
        let mut batch = Batch::new(self.engine.snapshot());
        let outcomes = apply_entry(&mut batch, self.index, entry, &self.members)?;
        self.engine.write(&batch.into_ops(), Durability::Flushed)?;
        Ok(outcomes)
    }

    fn apply(&mut self, time: u64, envelopes: Vec<Envelope>) -> Vec<Outcome> {
        self.try_apply(&entry(time, envelopes)).unwrap()
    }

    fn apply_one(&mut self, envelope: Envelope) -> Outcome {
        self.apply(1, vec![envelope]).pop().unwrap()
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.engine.get(key).unwrap()
    }

    fn version(&self, key: &[u8]) -> Option<Version> {
        self.get(key).map(|value| Version::split(&value).unwrap().0)
    }

    fn dump(&self) -> Vec<storage::Pair> {
        dump(self.engine.snapshot().as_ref())
    }
}

fn is_applied(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Applied(_))
}

fn stale(key: &[u8]) -> Outcome {
    Outcome::Rejected(Rejection::Stale {
        key: Bytes::copy_from_slice(key),
    })
}

fn at(index: u64, ordinal: u32) -> Version {
    Version { index, ordinal }
}

fn register(nonce: &[u8], requested_id: u64) -> Envelope {
    let nonce = Bytes::copy_from_slice(nonce);
    envelope(vec![
        CommandKind::RegisterNode(RegisterNode {
            nonce,
            requested_id,
        })
        .into(),
    ])
}

fn registered(outcome: &Outcome) -> Option<u64> {
    match outcome {
        Outcome::Applied(applied) => match applied.results[..] {
            [CommandResult::NodeRegistered(id)] => Some(id),
            _ => panic!("{outcome:?}"),
        },
        Outcome::Rejected(Rejection::Refused { error, .. }) => {
            assert_eq!(error.code, ErrorCode::Conflict);
            None
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_value_gets_the_version_of_its_change() {
    let mut state = State::default();
    let two = envelope(vec![
        change(&row_key(1), Some(b"a")),
        change(&row_key(2), Some(b"b")),
    ]);
    state.apply(1, vec![two, put(&row_key(3), b"c")]);
    assert_eq!(
        state.get(&row_key(1)).unwrap(),
        [&at(1, 0).to_bytes()[..], b"a"].concat()
    );
    assert_eq!(state.version(&row_key(2)), Some(at(1, 1)));
    assert_eq!(state.version(&row_key(3)), Some(at(1, 2)));
    state.apply(1, vec![put(&row_key(1), b"d")]);
    assert_eq!(state.version(&row_key(1)), Some(at(2, 0)));
}

#[test]
fn every_kind_of_expectation_holds_or_rejects() {
    let (here, gone) = (row_key(1), row_key(9));
    let prefix = Kind::Row.prefix();
    let holds = [
        Expectation::version(here.clone(), at(1, 0)),
        Expectation::absent(gone.clone()),
        Expectation::exists(here.clone()),
        Expectation::prefix_empty(Kind::Index.prefix()),
        Expectation::prefix_empty(gone.clone()),
        Expectation::prefix_unchanged(prefix.clone(), 1, 1),
        Expectation::prefix_unchanged(Kind::Index.prefix(), 0, 0),
    ];
    let misses = [
        Expectation::version(here.clone(), at(1, 1)),
        Expectation::version(here.clone(), at(2, 0)),
        Expectation::version(gone.clone(), at(1, 0)),
        Expectation::absent(here.clone()),
        Expectation::exists(gone.clone()),
        Expectation::prefix_empty(prefix.clone()),
        Expectation::prefix_empty(here.clone()),
        Expectation::prefix_unchanged(prefix.clone(), 0, 1),
        Expectation::prefix_unchanged(prefix.clone(), 1, 0),
        Expectation::prefix_unchanged(prefix.clone(), 1, 2),
    ];
    for expectation in holds {
        let mut state = State::default();
        state.apply_one(put(&here, b"x"));
        let outcome = state.apply_one(put(&row_key(2), b"y").expecting(expectation.clone()));
        assert!(is_applied(&outcome), "{expectation:?}");
        assert!(state.get(&row_key(2)).is_some());
    }
    for expectation in misses {
        let mut state = State::default();
        state.apply_one(put(&here, b"x"));
        let before = state.dump();
        let outcome = state.apply_one(put(&row_key(2), b"y").expecting(expectation.clone()));
        assert_eq!(outcome, stale(&expectation.key), "{expectation:?}");
        assert_eq!(state.dump(), before);
    }
}

#[test]
fn expectations_see_what_the_same_entry_wrote_before() {
    let mut state = State::default();
    let outcomes = state.apply(
        1,
        vec![
            put(&row_key(1), b"first").expecting(Expectation::absent(row_key(1))),
            put(&row_key(1), b"second").expecting(Expectation::absent(row_key(1))),
            put(&row_key(1), b"third").expecting(Expectation::version(row_key(1), at(1, 0))),
            delete(&row_key(1)).expecting(Expectation::exists(row_key(1))),
            put(&row_key(1), b"again").expecting(Expectation::prefix_empty(Kind::Row.prefix())),
        ],
    );
    assert!(is_applied(&outcomes[0]));
    assert_eq!(
        outcomes[1],
        stale(&row_key(1)),
        "each Envelope of an entry fails alone"
    );
    assert!(outcomes[2..].iter().all(is_applied), "{outcomes:?}");
    assert!(state.get(&row_key(1)).unwrap().ends_with(b"again"));
}

#[test]
fn a_refused_command_takes_back_those_before_it_and_their_messages() {
    let mut state = State::default();
    state.apply_one(register(b"first", 7));
    state.apply_one(put(&row_key(1), b"old"));
    let before = state.dump();

    let routed = Change {
        key: row_key(2).into(),
        after: Some(types::row::encode(1, []).into()),
        event: Some(event(RowOp::Insert)),
    };
    let range = DeleteRange {
        start: row_key(0).into(),
        end: row_key(100).into(),
    };
    let write = Write {
        delete_ranges: vec![range],
        changes: vec![routed],
    };
    let mut refused = envelope(vec![CommandKind::Write(write).into()]).once("key", "request");
    refused.commands.extend(register(b"second", 7).commands);
    let outcomes = state.apply(1, vec![refused, put(&row_key(3), b"after")]);

    assert!(
        matches!(
            &outcomes[0],
            Outcome::Rejected(Rejection::Refused { command: 1, .. })
        ),
        "{outcomes:?}"
    );
    assert!(
        is_applied(&outcomes[1]),
        "the next Envelope is none the worse"
    );
    state.apply_one(delete(&row_key(3)));
    assert_eq!(
        state.dump(),
        before,
        "no row, no message, no offset, no idempotency record"
    );
}

fn event(op: RowOp) -> RowEvent {
    RowEvent {
        table_id: 1,
        op: op.into(),
        user: "ann".into(),
        message_key: "1".into(),
        before: None,
        targets: vec![RouteTarget {
            topic_id: 5,
            partition: 0,
            payload: PayloadMode::Full.into(),
        }],
    }
}

#[test]
fn a_row_and_its_messages_come_together_with_receipts() {
    let mut state = State::default();
    let routed = |number: u64| Change {
        key: row_key(number).into(),
        after: Some(types::row::encode(1, []).into()),
        event: Some(event(RowOp::Insert)),
    };
    let write = |numbers: &[u64]| {
        let changes = numbers.iter().map(|number| routed(*number)).collect();
        envelope(vec![
            CommandKind::Write(Write {
                delete_ranges: vec![],
                changes,
            })
            .into(),
        ])
    };
    let outcomes = state.apply(1, vec![write(&[1, 2]), write(&[3])]);
    let receipts: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Applied(Applied { results, .. }) => match &results[..] {
                [CommandResult::Written(ranges)] => ranges.clone(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        })
        .map(|ranges| {
            ranges
                .iter()
                .map(|r| (r.first_offset, r.count))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(receipts, [vec![(0, 2)], vec![(2, 1)]]);
    let messages = state
        .dump()
        .into_iter()
        .filter(|(key, _)| Kind::of(key) == Some(Kind::Message));
    assert_eq!(messages.count(), 3);
}

#[test]
fn ranges_are_deleted_before_the_changes() {
    let mut state = State::default();
    state.apply_one(put(&row_key(1), b"old"));
    state.apply_one(put(&row_key(2), b"old"));
    let range = DeleteRange {
        start: row_key(0).into(),
        end: row_key(10).into(),
    };
    let new = Change {
        key: row_key(2).into(),
        after: Some("new".into()),
        event: None,
    };
    let write = Write {
        delete_ranges: vec![range],
        changes: vec![new],
    };
    state.apply_one(envelope(vec![CommandKind::Write(write).into()]));
    assert_eq!(state.get(&row_key(1)), None);
    assert!(state.get(&row_key(2)).unwrap().ends_with(b"new"));
}

#[test]
fn a_request_with_a_key_happens_once() {
    let mut state = State::default();
    let request = put(&row_key(1), b"x").once("key", "request");
    assert!(is_applied(&state.apply_one(request.clone())));
    let before = state.dump();

    let Outcome::Replayed(replayed) = state.apply_one(request.clone()) else {
        panic!()
    };
    assert_eq!(
        (replayed.index, &replayed.answer[..]),
        (1, &b"the answer"[..])
    );
    let other = put(&row_key(2), b"x").once("key", "another request");
    assert_eq!(
        state.apply_one(other),
        Outcome::Rejected(Rejection::KeyReused)
    );
    assert_eq!(state.dump(), before);

    let mut bob = request;
    bob.actor = "bob".into();
    assert!(
        is_applied(&state.apply_one(bob)),
        "another actor's key is another key"
    );
}

#[test]
fn the_second_of_two_equal_requests_in_one_entry_is_a_replay() {
    let mut state = State::default();
    let request = put(&row_key(1), b"x").once("key", "request");
    let outcomes = state.apply(1, vec![request.clone(), request]);
    assert!(is_applied(&outcomes[0]));
    assert!(matches!(outcomes[1], Outcome::Replayed(_)), "{outcomes:?}");
}

#[test]
fn a_rejection_is_not_remembered() {
    let mut state = State::default();
    let request = put(&row_key(1), b"x").once("key", "request");
    let stale = request.clone().expecting(Expectation::exists(row_key(2)));
    assert!(matches!(
        state.apply_one(stale),
        Outcome::Rejected(Rejection::Stale { .. })
    ));
    assert!(is_applied(&state.apply_one(request)));
}

#[test]
fn keys_expire_and_are_swept() {
    let mut state = State::default();
    let keyed = |name: &str| put(&row_key(1), b"x").once(name, "request");
    for name in ["a", "b", "c", "d", "e", "f"] {
        state.apply(1, vec![keyed(name)]);
    }
    let found = |state: &State, name: &str, now: i64| {
        let read = state.engine.snapshot();
        idempotency::lookup(read.as_ref(), "ann", name, 0, now)
            .unwrap()
            .is_some()
    };
    let stored = 1000;
    let expiry = stored + DAY as i64 * 1000;
    assert!(found(&state, "a", expiry - 1) && !found(&state, "a", expiry));

    // An expired key is as good as new, and its new record outlives the sweep of its old age.
    assert!(is_applied(&state.apply(DAY + 1, vec![keyed("a")])[0]));
    state.apply(DAY + 2, vec![keyed("g")]);
    assert!(found(&state, "a", expiry + 1));
    let kinds = |kind| {
        state
            .dump()
            .into_iter()
            .filter(|(key, _)| Kind::of(key) == Some(kind))
            .count()
    };
    assert_eq!(
        (kinds(Kind::Idempotency), kinds(Kind::IdempotencyAge)),
        (2, 2),
        "a and g"
    );
}

#[test]
fn a_sweep_begins_where_the_last_one_ended() {
    let mut state = State::default();
    let keyed = |name: &str| put(&row_key(1), b"x").once(name, "request");
    let ages = |state: &State| -> Vec<Vec<u8>> {
        let all = state.dump().into_iter().map(|(key, _)| key);
        all.filter(|key| Kind::of(key) == Some(Kind::IdempotencyAge))
            .collect()
    };
    for number in 0..3 * IDEMPOTENCY_SWEEP_MAX as u64 {
        state.apply(number + 1, vec![keyed(&number.to_string())]);
    }
    let before = ages(&state);
    state.apply(DAY + 1_000, vec![keyed("new")]);
    let swept = state.get(&meta::idempotency_swept()).unwrap();
    let left = &before[IDEMPOTENCY_SWEEP_MAX..];
    assert!(before[IDEMPOTENCY_SWEEP_MAX - 1] < swept && swept <= left[0]);
    assert!(ages(&state).starts_with(left), "the oldest went");

    // Nothing below is looked at again, and nothing above is left out.
    let mut below = before[0].clone();
    below.truncate(below.len() - 1);
    let engine_write = [storage::Op::Put {
        key: below.clone(),
        value: b"no age of a key".to_vec(),
    }];
    state
        .engine
        .write(&engine_write, Durability::Flushed)
        .unwrap();
    for number in 0..2 {
        state.apply(DAY + 2_000, vec![keyed(&format!("newer {number}"))]);
    }
    assert_eq!(ages(&state).len(), 1 + 3, "the stray one and the new ones");
    // A key that is older than what was swept is swept all the same.
    state.apply(1, vec![keyed("late")]);
    state.apply(DAY + 3_000, vec![keyed("newest")]);
    assert_eq!(ages(&state).len(), 1 + 4);
}

#[test]
fn node_numbers_are_never_given_out_twice() {
    let members = BTreeSet::from([3]);
    let mut state = State {
        members,
        ..State::default()
    };
    assert_eq!(
        registered(&state.apply_one(register(b"boot", 3))),
        Some(3),
        "the first node"
    );
    assert_eq!(registered(&state.apply_one(register(b"a", 0))), Some(4));
    assert_eq!(
        registered(&state.apply_one(register(b"a", 0))),
        Some(4),
        "its answer was lost"
    );
    assert_eq!(registered(&state.apply_one(register(b"b", 9))), Some(9));
    assert_eq!(registered(&state.apply_one(register(b"c", 9))), None);
    assert_eq!(registered(&state.apply_one(register(b"c", 0))), Some(10));
    assert_eq!(
        registered(&state.apply_one(register(b"d", 5))),
        Some(5),
        "never used"
    );
    state.members = BTreeSet::from([3, 20]);
    assert_eq!(
        registered(&state.apply_one(register(b"e", 20))),
        None,
        "a member's number"
    );
    assert_eq!(registered(&state.apply_one(register(b"e", 0))), Some(21));
    assert_eq!(registered(&state.apply_one(register(b"f", u64::MAX))), None);
    assert_eq!(
        registered(&state.apply_one(register(b"f", NODE_ID_MAX))),
        Some(NODE_ID_MAX)
    );
    assert_eq!(
        registered(&state.apply_one(register(b"g", 0))),
        None,
        "none is left after the highest"
    );
    assert_eq!(registered(&state.apply_one(register(b"g", 30))), Some(30));
}

#[test]
fn the_highest_node_number_is_given_once_and_nothing_above_it() {
    let mut state = State::default();
    assert_eq!(registered(&state.apply_one(register(b"boot", 1))), Some(1));
    for beyond in [NODE_ID_MAX + 1, u64::MAX] {
        assert_eq!(registered(&state.apply_one(register(b"a", beyond))), None);
    }
    let highest = state.apply_one(register(b"b", NODE_ID_MAX));
    assert_eq!(registered(&highest), Some(NODE_ID_MAX));
    assert_eq!(registered(&state.apply_one(register(b"c", 0))), None);
    assert_eq!(registered(&state.apply_one(register(b"c", 2))), Some(2));
    // Such a member may be there from before the bound was.
    state.members = BTreeSet::from([u64::MAX]);
    assert_eq!(registered(&state.apply_one(register(b"d", 0))), None);
}

#[test]
fn audit_lines_stand_in_the_order_of_the_log() {
    let mut state = State::default();
    let audit = |line: &str| {
        CommandKind::Audit(Audit {
            record: line.to_owned().into(),
        })
        .into()
    };
    let lines: Vec<Command> = vec![audit("one"), change(&row_key(1), Some(b"x")), audit("two")];
    state.apply(1, vec![envelope(lines)]);
    assert_eq!(state.get(&catalog::audit(1, 0)).unwrap(), b"one");
    assert_eq!(state.version(&row_key(1)), Some(at(1, 1)));
    assert_eq!(state.get(&catalog::audit(1, 2)).unwrap(), b"two");
}

#[test]
fn comparing_digests_changes_nothing() {
    let mut state = State::default();
    state.apply_one(put(&row_key(1), b"v"));
    let before = state.dump();
    let compare = CompareDigest {
        index: 1,
        digest: 2,
    };
    let compare = CommandKind::CompareDigest(compare).into();
    let outcome = state.apply_one(envelope(vec![compare]));
    assert!(is_applied(&outcome));
    assert_eq!(state.dump(), before);
}

#[test]
fn what_this_build_does_not_know_ends_the_node() {
    let mut state = State::default();
    let newer = Entry {
        apply_version: APPLY_VERSION + 1,
        ..entry(1, vec![put(b"k", b"v")])
    };
    assert!(matches!(
        state.try_apply(&newer),
        Err(ApplyFailure::NewerVersion { .. })
    ));
    let command = entry(1, vec![envelope(vec![Command { kind: None }])]);
    assert!(matches!(
        state.try_apply(&command),
        Err(ApplyFailure::Unknown { .. })
    ));
    let mut expectation = Expectation::absent(row_key(1));
    expectation.kind = 99;
    let expectation = entry(1, vec![put(&row_key(2), b"v").expecting(expectation)]);
    assert!(matches!(
        state.try_apply(&expectation),
        Err(ApplyFailure::Unknown { .. })
    ));
    assert_eq!(state.dump(), []);
}

/// An Envelope over few keys, so that Envelopes meet.
fn any_envelope() -> impl Strategy<Value = Envelope> {
    let key = (0..6_u64).prop_map(row_key);
    let expectation = prop_oneof![
        key.clone().prop_map(Expectation::absent),
        key.clone().prop_map(Expectation::exists),
        (key.clone(), 1..30_u64, 0..4_u32)
            .prop_map(|(key, index, ordinal)| Expectation::version(key, at(index, ordinal))),
        key.clone().prop_map(Expectation::prefix_empty),
    ];
    let command = prop_oneof![
        6 => (key.clone(), any::<u8>()).prop_map(|(key, value)| change(&key, Some(&[value]))),
        2 => key.clone().prop_map(|key| change(&key, None)),
        3 => (key, any::<u8>()).prop_map(|(key, value)| {
            let after = types::row::encode(u32::from(value), []).into();
            let event = Some(event(RowOp::Insert));
            let changes = vec![Change { key: key.into(), after: Some(after), event }];
            CommandKind::Write(Write { delete_ranges: vec![], changes }).into()
        }),
        1 => (0..6_u64, 0..6_u64).prop_map(|(start, end)| {
            let range = DeleteRange { start: row_key(start).into(), end: row_key(end).into() };
            CommandKind::Write(Write { delete_ranges: vec![range], changes: vec![] }).into()
        }),
        2 => (0..4_u8, 0..3_u64).prop_map(|(nonce, requested_id)| {
            let nonce = Bytes::copy_from_slice(&[nonce]);
            CommandKind::RegisterNode(RegisterNode { nonce, requested_id }).into()
        }),
    ];
    let idempotency = prop::option::weighted(0.3, (0..4_u8, 0..2_u8));
    (
        prop::collection::vec(expectation, 0..2),
        prop::collection::vec(command, 0..4),
        idempotency,
    )
        .prop_map(|(expectations, commands, idempotency)| {
            let mut envelope = envelope(commands);
            envelope.expectations = expectations;
            match idempotency {
                Some((key, request)) => envelope.once(&key.to_string(), &request.to_string()),
                None => envelope,
            }
        })
}

/// Applies a log in runs of the given lengths, the last one as long as need be.
fn apply_in_runs(log: &[Entry], runs: &[usize]) -> (Vec<Vec<Outcome>>, Vec<storage::Pair>, u64) {
    let engine = Arc::new(MemoryEngine::new());
    let (mut outcomes, mut rest, mut index, mut digest) = (Vec::new(), log, 0, 0);
    let mut lengths = runs.iter().copied();
    while !rest.is_empty() {
        let (run, after) = rest.split_at(lengths.next().unwrap_or(rest.len()).min(rest.len()));
        let mut batch = Batch::with_digest(engine.snapshot(), digest);
        for entry in run {
            index += 1;
            outcomes.push(apply_entry(&mut batch, index, entry, &BTreeSet::new()).unwrap());
        }
        digest = batch.digest();
        engine
            .write(&batch.into_ops(), Durability::Flushed)
            .unwrap();
        rest = after;
    }
    (outcomes, dump(engine.snapshot().as_ref()), digest)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn however_a_log_is_cut_into_runs_the_state_is_the_same(
        envelopes in prop::collection::vec(prop::collection::vec(any_envelope(), 1..5), 1..25),
        days in prop::collection::vec(0..2_u64, 25),
        runs in prop::collection::vec(1..6_usize, 0..25),
    ) {
        let mut time = 1;
        let log: Vec<Entry> = envelopes
            .into_iter()
            .zip(days)
            .map(|(envelopes, days)| {
                time += days * DAY / 2;
                entry(time, envelopes)
            })
            .collect();
        let one_by_one = apply_in_runs(&log, &vec![1; log.len()]);
        prop_assert_eq!(&apply_in_runs(&log, &runs), &one_by_one);
        prop_assert_eq!(&apply_in_runs(&log, &[]), &one_by_one);
    }

    #[test]
    fn a_rejected_envelope_leaves_no_trace(
        before in prop::collection::vec(any_envelope(), 0..10),
        envelope in any_envelope(),
    ) {
        let mut state = State::default();
        state.apply(1, before);
        let old = state.dump();
        if !is_applied(&state.apply(2, vec![envelope]).remove(0)) {
            prop_assert_eq!(state.dump(), old);
        }
    }
}
