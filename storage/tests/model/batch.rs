//! [`Batch`] against a plain map, step by step.

use std::sync::Arc;

use crate::common::{
    Model, any_direction, any_key, any_range, any_value, delete_range, key, scan, scan_model,
};
use proptest::prelude::*;
use storage::batch::Savepoint;
use storage::memory::MemoryEngine;
use storage::{Batch, Direction, Durability, Engine, KeyRange, Op, Read, Scan, Snapshot};

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    DeleteRange(KeyRange),
    Savepoint,
    /// Back to one of the open savepoints.
    Rollback(prop::sample::Index),
    /// Keeps what was done since one of the open savepoints.
    Release(prop::sample::Index),
    Scan(KeyRange, Direction),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any_key(), any_value()).prop_map(|(k, v)| Step::Put(k, v)),
        3 => any_key().prop_map(Step::Delete),
        3 => any_range().prop_map(Step::DeleteRange),
        3 => Just(Step::Savepoint),
        2 => any::<prop::sample::Index>().prop_map(Step::Rollback),
        1 => any::<prop::sample::Index>().prop_map(Step::Release),
        4 => (any_range(), any_direction()).prop_map(|(r, d)| Step::Scan(r, d)),
    ]
}

fn engine_with(model: &Model) -> MemoryEngine {
    let engine = MemoryEngine::new();
    let puts = model.iter().map(|(k, v)| Op::Put {
        key: k.clone(),
        value: v.clone(),
    });
    engine
        .write(&puts.collect::<Vec<_>>(), Durability::Flushed)
        .unwrap();
    engine
}

/// The batch, its model, and for each open savepoint the model and size it goes back to.
struct Run {
    batch: Batch,
    model: Model,
    savepoints: Vec<(Savepoint, Model, usize)>,
}

impl Run {
    fn step(&mut self, step: Step) {
        match step {
            Step::Put(key, value) => {
                self.model.insert(key.clone(), value.clone());
                self.batch.put(key, value);
            }
            Step::Delete(key) => {
                self.model.remove(&key);
                self.batch.delete(key);
            }
            Step::DeleteRange(range) => {
                delete_range(&mut self.model, &range);
                self.batch.delete_range(range);
            }
            Step::Savepoint => {
                let size = self.batch.size_bytes();
                let savepoint = self.batch.savepoint();
                self.savepoints.push((savepoint, self.model.clone(), size));
            }
            Step::Rollback(at) if !self.savepoints.is_empty() => {
                let at = at.index(self.savepoints.len());
                let (savepoint, model, size) = self.savepoints.drain(at..).next().unwrap();
                self.batch.rollback(savepoint);
                self.model = model;
                assert_eq!(self.batch.size_bytes(), size);
            }
            Step::Release(at) if !self.savepoints.is_empty() => {
                let at = at.index(self.savepoints.len());
                let (savepoint, ..) = self.savepoints.drain(at..).next().unwrap();
                self.batch.release(savepoint);
            }
            Step::Rollback(_) | Step::Release(_) => {}
            Step::Scan(range, direction) => assert_eq!(
                scan(&self.batch, &range, direction),
                scan_model(&self.model, &range, direction),
            ),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_batch_shows_and_writes_what_a_map_would(
        base in proptest::collection::btree_map(any_key(), any_value(), 0..12),
        steps in proptest::collection::vec(any_step(), 0..40),
        probes in proptest::collection::vec(any_key(), 4),
    ) {
        let engine = engine_with(&base);
        let mut run =
            Run { batch: Batch::new(engine.snapshot()), model: base, savepoints: Vec::new() };
        for step in steps {
            run.step(step);
            for probe in &probes {
                let value = run.batch.get(probe).unwrap();
                prop_assert_eq!(value.as_ref(), run.model.get(probe));
            }
        }

        let size = run.batch.size_bytes();
        let is_empty = run.batch.is_empty();
        let ops = run.batch.into_ops();
        prop_assert_eq!(ops.iter().map(op_bytes).sum::<usize>(), size);
        prop_assert_eq!(ops.is_empty(), is_empty);

        engine.write(&ops, Durability::Flushed).unwrap();
        let all = KeyRange::prefix(&[]);
        prop_assert_eq!(
            scan(&*engine.snapshot(), &all, Direction::Forward),
            scan_model(&run.model, &all, Direction::Forward)
        );
    }
}

fn op_bytes(op: &Op) -> usize {
    match op {
        Op::Put { key, value } => key.len() + value.len(),
        Op::Delete { key } => key.len(),
        Op::DeleteRange { range } => range.start.len() + range.end.as_ref().map_or(0, Vec::len),
    }
}

#[test]
fn ops_are_ranges_first_then_the_last_change_of_each_key() {
    let mut batch = Batch::new(MemoryEngine::new().snapshot());
    batch.put(key(b"a"), b"1".to_vec());
    batch.put(key(b"b"), b"1".to_vec());
    batch.delete_range(KeyRange::new(key(b"a"), key(b"b")));
    batch.put(key(b"a"), b"2".to_vec());
    batch.delete(key(b"b"));
    let put = Op::Put {
        key: key(b"a"),
        value: b"2".to_vec(),
    };
    assert_eq!(
        batch.into_ops(),
        [
            Op::DeleteRange {
                range: KeyRange::new(key(b"a"), key(b"b"))
            },
            put,
            Op::Delete { key: key(b"b") },
        ]
    );
}

#[test]
fn ranges_that_touch_stay_apart_since_they_may_be_of_two_key_kinds() {
    let mut batch = Batch::new(MemoryEngine::new().snapshot());
    let (a, b) = (KeyRange::prefix(&[0, 1, 20]), KeyRange::prefix(&[0, 1, 21]));
    batch.delete_range(b.clone());
    batch.delete_range(a.clone());
    let ops = batch.into_ops();
    assert_eq!(
        ops,
        [Op::DeleteRange { range: a }, Op::DeleteRange { range: b }]
    );
}

#[test]
#[should_panic(expected = "the savepoint has ended already")]
fn a_savepoint_ends_with_an_older_one() {
    let mut batch = Batch::new(MemoryEngine::new().snapshot());
    let older = batch.savepoint();
    let newer = batch.savepoint();
    batch.rollback(older);
    batch.rollback(newer);
}

/// A snapshot whose scans break after the first pair.
struct Broken;

impl Read for Broken {
    fn get(&self, _: &[u8]) -> storage::Result<Option<Vec<u8>>> {
        Err(broken())
    }

    fn scan<'a>(&'a self, _: &KeyRange, _: Direction) -> Scan<'a> {
        Box::new([Ok((key(b"b"), Vec::new())), Err(broken())].into_iter())
    }
}

fn broken() -> storage::Error {
    storage::Error::Corrupt {
        what: "test".to_owned(),
    }
}

#[test]
fn an_error_of_the_snapshot_reaches_the_reader_and_ends_the_scan() {
    let base: Arc<dyn Snapshot> = Arc::new(Broken);
    let mut batch = Batch::new(base);
    batch.put(key(b"a"), Vec::new());
    batch.put(key(b"z"), Vec::new());
    assert!(batch.get(&key(b"c")).is_err());
    assert!(batch.get(&key(b"a")).unwrap().is_some());
    let all = KeyRange::prefix(&[]);
    let items: Vec<_> = batch
        .scan(&all, Direction::Forward)
        .map(|i| i.map(|p| p.0))
        .collect();
    assert_eq!(items.len(), 3);
    assert_eq!(items[0].as_ref().unwrap(), &key(b"a"));
    assert_eq!(items[1].as_ref().unwrap(), &key(b"b"));
    assert!(items[2].is_err());
}
