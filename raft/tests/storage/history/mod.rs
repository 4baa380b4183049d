//! Random logs against a plain model, and against themselves: what a log means is what the model
//! says; and it means the same however it is cut into runs, on either engine, wherever a process
//! ends and the rest is applied again, and with a snapshot in the place of its beginning.
//!
//! `PROPTEST_CASES` sets how many logs are tried instead of the few of every day.

mod groups;
mod model;
mod plan;
mod replica;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use raft::apply::apply_entry;
use raft::state_machine::AppliedState;
use raft::type_config::{LogEntry, Member, Membership, Payload, StoredMembership};
use storage::keys::meta;
use storage::memory::MemoryEngine;
use storage::{Batch, Durability, Engine, Pair};
use types::command::Entry;
use types::outcome::{CommandResult, Outcome, Rejection};

use self::model::Model;
use self::plan::EntryPlan;
use self::replica::{Act, Replica};
use crate::support::{dump, entry, log_id, proposal};

/// Most entries of a log.
const ENTRIES: usize = 40;

/// A log, and what its state is after each number of entries.
struct History {
    log: Vec<LogEntry>,
    states: Vec<Vec<Pair>>,
    outcomes: Vec<Outcome>,
}

/// Makes a log of a plan: each entry is planned on the state before it, applied in a batch of its
/// own, and compared with the model.
fn history(plans: &[EntryPlan]) -> History {
    let engine = Arc::new(MemoryEngine::new());
    let (mut model, mut applied) = (Model::default(), AppliedState::default());
    let mut history = History {
        log: Vec::new(),
        states: vec![Vec::new()],
        outcomes: Vec::new(),
    };
    for (index, plan) in (0_u64..).zip(plans) {
        let before = engine.snapshot();
        let mut batch = Batch::with_digest(engine.snapshot(), applied.digest);
        let made = match plan {
            EntryPlan::Blank => Payload::Blank,
            EntryPlan::Membership(nodes) => {
                let membership = membership(*nodes);
                let stored = StoredMembership::new(Some(log_id(1, index)), membership.clone());
                applied.membership = stored;
                model.members = applied.members();
                Payload::Membership(membership)
            }
            EntryPlan::Envelopes { later_ms, plans } => {
                let envelopes = plans.iter().map(|plan| plan::make(plan, &model, &*before));
                let made: Entry = entry(model.now_ms + later_ms + 1, envelopes.collect());
                let outcomes = apply_entry(&mut batch, index, &made, &model.members).unwrap();
                model.apply(index, &made, &outcomes);
                history.outcomes.extend(outcomes);
                (applied.lease_time, applied.wall_time) = (made.lease_time, made.wall_time);
                proposal(1, index, made).payload
            }
        };
        let log_id = log_id(1, index);
        applied.last = Some(log_id);
        applied.digest = batch.digest();
        batch.put(meta::applied(), applied.encode());
        engine
            .write(&batch.into_ops(), Durability::Flushed)
            .unwrap();
        let state = engine.snapshot();
        model.check(&*state);
        history.states.push(dump(&*state));
        let payload = made;
        history.log.push(LogEntry { log_id, payload });
    }
    history
}

fn membership(nodes: u8) -> Membership {
    let ids = (0..8_u64)
        .filter(|bit| nodes >> bit & 1 == 1)
        .map(|bit| bit + 1);
    let ids: BTreeSet<u64> = ids.collect();
    let members = ids.iter().map(|id| (*id, Member::default()));
    let members: BTreeMap<_, _> = members.collect();
    Membership::new(vec![ids], members).unwrap()
}

/// Takes a state through some acts and to the end of the log. Whatever it has applied then and in
/// between, it holds what one batch an entry made, the record of what was applied included.
fn replay(history: &History, acts: &[Act], on_files: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut replica = Replica::new(on_files);
        let last = [
            Act::Restart,
            Act::Apply(usize::MAX / 2),
            Act::Flush,
            Act::Restart,
        ];
        for act in acts.iter().chain(&last) {
            replica.act(act, &history.log).await;
            let expected = &history.states[replica.applied()];
            assert!(
                replica.dump() == *expected,
                "after {act:?} at {}",
                replica.applied()
            );
        }
        assert_eq!(replica.applied(), history.log.len());
    });
}

/// So many, or as many as the environment asks for.
fn cases(usual: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        cases: asked.and_then(|asked| asked.parse().ok()).unwrap_or(usual),
        failure_persistence: None,
        ..Default::default()
    }
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    prop::collection::vec(replica::act(), 1..20)
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn a_log_means_what_the_model_says(plans in plan::log(ENTRIES)) {
        history(&plans);
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn a_log_makes_one_state_in_memory(plans in plan::log(ENTRIES), acts in acts()) {
        replay(&history(&plans), &acts, false);
    }
}

proptest! {
    #![proptest_config(cases(6))]

    #[test]
    fn a_log_makes_the_same_state_in_files(plans in plan::log(ENTRIES), acts in acts()) {
        replay(&history(&plans), &acts, true);
    }
}

/// What an outcome is an example of.
fn kinds(outcome: &Outcome) -> Vec<&'static str> {
    let result = |result: &CommandResult| match result {
        CommandResult::Written(ranges) if ranges.is_empty() => "rows",
        CommandResult::Written(_) => "messages",
        CommandResult::NothingToClaim => "nothing to claim",
        CommandResult::Granted(grant) if grant.ranges.iter().any(|r| r.deliveries > 1) => {
            "delivered again"
        }
        CommandResult::Granted(_) => "granted",
        CommandResult::Acknowledged { .. } => "acknowledged",
        CommandResult::Extended { .. } => "extended",
        CommandResult::NodeRegistered(_) => "a node",
        CommandResult::Done => "done",
    };
    match outcome {
        Outcome::Applied(applied) => applied.results.iter().map(result).collect(),
        Outcome::Replayed(replayed) if replayed.messages.is_empty() => vec!["replayed"],
        Outcome::Replayed(_) => vec!["replayed with messages"],
        Outcome::Rejected(Rejection::Stale { .. }) => vec!["stale"],
        Outcome::Rejected(Rejection::KeyReused) => vec!["key reused"],
        Outcome::Rejected(Rejection::Refused { command: 0, .. }) => vec!["refused"],
        Outcome::Rejected(Rejection::Refused { .. }) => vec!["refused after others"],
    }
}

#[test]
fn logs_are_of_many_kinds() {
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeMap::new();
    for _ in 0..60 {
        let plans = plan::log(ENTRIES).new_tree(&mut runner).unwrap().current();
        for kind in history(&plans).outcomes.iter().flat_map(kinds) {
            *seen.entry(kind).or_insert(0) += 1;
        }
    }
    assert_eq!(seen.len(), 14, "{seen:?}");
    assert!(seen.values().all(|count| *count >= 5), "{seen:?}");
}
