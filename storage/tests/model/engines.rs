//! What every engine promises, checked on each: in memory, and RocksDB in both its roles.

use std::path::Path;

use crate::common::{
    Model, any_direction, any_key, any_range, any_value, delete_range, key, scan, scan_model,
};
use proptest::prelude::*;
use storage::keys::{Kind, catalog, meta, topics};
use storage::memory::MemoryEngine;
use storage::rocks::RocksEngine;
use storage::{Direction, Durability, Engine, Error, KeyRange, Op, Result};
use tempfile::TempDir;

type Open = fn(&Path) -> Result<Box<dyn Engine>>;

/// An engine under test, in a directory of its own.
struct Fixture {
    name: &'static str,
    engine: Box<dyn Engine>,
    open_checkpoint: Open,
    dir: TempDir,
}

fn fixtures() -> [Fixture; 3] {
    let log: Open = |dir| Ok(Box::new(RocksEngine::open_log(dir)?));
    let state: Open = |dir| Ok(Box::new(RocksEngine::open_state(dir)?));
    let memory: Open = |dir| Ok(Box::new(MemoryEngine::open_checkpoint(dir)?));
    let fresh: Open = |_| Ok(Box::new(MemoryEngine::new()));
    [
        ("memory", fresh, memory),
        ("log", log, log),
        ("state", state, state),
    ]
    .map(|(name, open, open_checkpoint)| {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(&dir.path().join("db")).unwrap();
        Fixture {
            name,
            engine,
            open_checkpoint,
            dir,
        }
    })
}

fn put(key: Vec<u8>, value: &[u8]) -> Op {
    Op::Put {
        key,
        value: value.to_vec(),
    }
}

fn delete(key: Vec<u8>) -> Op {
    Op::Delete { key }
}

fn write(engine: &dyn Engine, ops: &[Op]) {
    engine.write(ops, Durability::Flushed).unwrap();
}

/// The range of all keys that [`key`] makes.
fn all() -> KeyRange {
    KeyRange::prefix(&key(b""))
}

fn keys_of(engine: &dyn Engine) -> Vec<Vec<u8>> {
    scan(&*engine.snapshot(), &all(), Direction::Forward)
        .into_iter()
        .map(|pair| pair.0)
        .collect()
}

#[test]
fn ops_of_one_write_apply_in_order() {
    for Fixture { name, engine, .. } in fixtures() {
        write(
            &*engine,
            &[
                put(key(b"a"), b"0"),
                put(key(b"b"), b"0"),
                put(key(b"c"), b"0"),
            ],
        );
        let range = KeyRange::new(key(b"a"), key(b"c"));
        let ops = [
            put(key(b"a"), b"1"),
            Op::DeleteRange { range },
            put(key(b"b"), b"2"),
            delete(key(b"c")),
            put(key(b"c"), b"3"),
            put(key(b"d"), b"4"),
            delete(key(b"d")),
        ];
        write(&*engine, &ops);
        assert_eq!(engine.get(&key(b"a")).unwrap(), None, "{name}");
        assert_eq!(engine.get(&key(b"b")).unwrap().unwrap(), b"2", "{name}");
        assert_eq!(engine.get(&key(b"c")).unwrap().unwrap(), b"3", "{name}");
        assert_eq!(engine.get(&key(b"d")).unwrap(), None, "{name}");
        assert_eq!(keys_of(&*engine), [key(b"b"), key(b"c")], "{name}");
    }
}

#[test]
fn a_write_is_visible_when_it_returns_and_not_in_older_snapshots() {
    for Fixture {
        name, engine, dir, ..
    } in fixtures()
    {
        write(
            &*engine,
            &[
                put(key(b"a"), b"old"),
                put(key(b"b"), b"old"),
                put(key(b"c"), b"old"),
            ],
        );
        let before = engine.snapshot();
        let shown = scan(&*before, &all(), Direction::Forward);

        write(&*engine, &[put(key(b"a"), b"new"), delete(key(b"b"))]);
        let range = KeyRange::new(key(b"c"), key(b"d"));
        write(
            &*engine,
            &[Op::DeleteRange { range }, put(key(b"d"), b"new")],
        );
        let after = engine.snapshot();
        engine.flush().unwrap();
        engine.checkpoint(&dir.path().join("copy")).unwrap();

        assert_eq!(scan(&*before, &all(), Direction::Forward), shown, "{name}");
        assert_eq!(before.get(&key(b"b")).unwrap().unwrap(), b"old", "{name}");
        assert_eq!(before.get(&key(b"d")).unwrap(), None, "{name}");
        assert_eq!(after.get(&key(b"a")).unwrap().unwrap(), b"new", "{name}");
        assert_eq!(after.get(&key(b"b")).unwrap(), None, "{name}");
        assert_eq!(after.get(&key(b"c")).unwrap(), None, "{name}");
        assert_eq!(keys_of(&*engine), [key(b"a"), key(b"d")], "{name}");
    }
}

#[test]
fn a_snapshot_outlives_its_engine() {
    for Fixture {
        name, engine, dir, ..
    } in fixtures()
    {
        write(&*engine, &[put(key(b"a"), b"1"), put(key(b"b"), b"2")]);
        let snapshot = engine.snapshot();
        drop(engine);
        assert_eq!(snapshot.get(&key(b"a")).unwrap().unwrap(), b"1", "{name}");
        assert_eq!(
            scan(&*snapshot, &all(), Direction::Reverse).len(),
            2,
            "{name}"
        );
        drop((snapshot, dir));
    }
}

#[test]
fn a_write_that_fails_changes_nothing_and_is_the_last() {
    for Fixture {
        name, engine, dir, ..
    } in fixtures()
    {
        write(&*engine, &[put(key(b"a"), b"1")]);
        let endless = Op::DeleteRange {
            range: KeyRange {
                start: key(b"x"),
                end: None,
            },
        };
        let failed = engine.write(&[put(key(b"a"), b"2"), endless], Durability::Flushed);
        assert!(matches!(failed, Err(Error::Io { .. })), "{name}");
        assert_eq!(engine.get(&key(b"a")).unwrap().unwrap(), b"1", "{name}");

        let next = engine.write(&[put(key(b"b"), b"1")], Durability::Flushed);
        assert!(matches!(next, Err(Error::Io { .. })), "{name}");
        assert!(engine.flush().is_err(), "{name}");
        assert!(
            engine.checkpoint(&dir.path().join("copy")).is_err(),
            "{name}"
        );
        assert_eq!(keys_of(&*engine), [key(b"a")], "{name}: reads go on");
    }
}

#[test]
fn a_checkpoint_is_an_engine_of_its_own() {
    for Fixture {
        name,
        engine,
        open_checkpoint,
        dir,
    } in fixtures()
    {
        let ops: Vec<Op> = (0..2_000_u16)
            .map(|i| put(key(&i.to_be_bytes()), b"v"))
            .collect();
        write(&*engine, &ops);
        let shown = scan(&*engine.snapshot(), &all(), Direction::Forward);
        let copy = dir.path().join("copy");
        engine.checkpoint(&copy).unwrap();
        write(&*engine, &[put(key(b"later"), b"1")]);

        let opened = open_checkpoint(&copy).unwrap();
        assert_eq!(
            scan(&*opened.snapshot(), &all(), Direction::Forward),
            shown,
            "{name}"
        );
        write(&*opened, &[put(key(b"other"), b"1")]);
        assert_eq!(engine.get(&key(b"other")).unwrap(), None, "{name}");
        assert_eq!(engine.get(&key(b"later")).unwrap().unwrap(), b"1", "{name}");
        assert!(
            engine.checkpoint(&copy).is_err(),
            "{name}: the directory is taken"
        );
    }
}

#[test]
fn an_empty_engine_has_a_checkpoint() {
    for Fixture {
        name,
        engine,
        open_checkpoint,
        dir,
    } in fixtures()
    {
        let copy = dir.path().join("copy");
        engine.checkpoint(&copy).unwrap();
        assert!(
            keys_of(&*open_checkpoint(&copy).unwrap()).is_empty(),
            "{name}"
        );
    }
}

/// Keys of all column families in one write, each found by its kind again.
#[test]
fn one_write_reaches_every_kind() {
    for Fixture { name, engine, .. } in fixtures() {
        let keys: Vec<Vec<u8>> = Kind::ALL
            .map(|kind| [kind.prefix(), b"key".to_vec()].concat())
            .into();
        write(
            &*engine,
            &keys
                .iter()
                .map(|k| put(k.clone(), b"v"))
                .collect::<Vec<_>>(),
        );
        for (kind, key) in Kind::ALL.into_iter().zip(&keys) {
            assert!(engine.get(key).unwrap().is_some(), "{name} {kind:?}");
            let range = KeyRange::prefix(&kind.prefix());
            for direction in [Direction::Forward, Direction::Reverse] {
                let found = scan(&*engine.snapshot(), &range, direction);
                assert_eq!(found, [(key.clone(), b"v".to_vec())], "{name} {kind:?}");
            }
        }
        let everything = Kind::ALL.map(|kind| Op::DeleteRange {
            range: KeyRange::prefix(&kind.prefix()),
        });
        write(&*engine, &everything);
        for key in &keys {
            assert_eq!(engine.get(key).unwrap(), None, "{name}");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Op>),
    Flush,
    Scan(KeyRange, Direction),
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (any_key(), any_value()).prop_map(|(key, value)| Op::Put { key, value }),
        2 => any_key().prop_map(|key| Op::Delete { key }),
        1 => any_range().prop_map(|range| Op::DeleteRange { range }),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => proptest::collection::vec(any_op(), 0..5).prop_map(Step::Write),
        1 => Just(Step::Flush),
        4 => (any_range(), any_direction()).prop_map(|(r, d)| Step::Scan(r, d)),
    ]
}

fn apply(model: &mut Model, op: &Op) {
    match op {
        Op::Put { key, value } => {
            model.insert(key.clone(), value.clone());
        }
        Op::Delete { key } => {
            model.remove(key);
        }
        Op::DeleteRange { range } => delete_range(model, range),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn an_engine_is_an_ordered_map(steps in proptest::collection::vec(any_step(), 0..60)) {
        for Fixture { name, engine, .. } in fixtures() {
            let mut model = Model::new();
            let mut held = Vec::new();
            for step in &steps {
                match step {
                    Step::Write(ops) => {
                        write(&*engine, ops);
                        ops.iter().for_each(|op| apply(&mut model, op));
                        held.push((engine.snapshot(), model.clone()));
                    }
                    Step::Flush => engine.flush().unwrap(),
                    Step::Scan(range, direction) => prop_assert_eq!(
                        scan(&*engine.snapshot(), range, *direction),
                        scan_model(&model, range, *direction),
                        "{}", name
                    ),
                }
            }
            for (snapshot, model) in held {
                let shown = scan(&*snapshot, &all(), Direction::Forward);
                prop_assert_eq!(shown, model.into_iter().collect::<Vec<_>>(), "{}", name);
            }
        }
    }
}

/// A reader sees each write whole, and never an older one after a newer one.
#[test]
fn a_reader_beside_a_writer_sees_whole_writes_in_order() {
    for Fixture { name, engine, .. } in fixtures() {
        let keys = [meta::applied(), catalog::table(1), topics::message(1, 0, 0)];
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for i in 1..=500_u32 {
                    let ops = keys
                        .each_ref()
                        .map(|key| put(key.clone(), &i.to_be_bytes()));
                    write(&*engine, &ops);
                }
            });
            let mut last = None;
            while !writer.is_finished() {
                let snapshot = engine.snapshot();
                let seen = keys.each_ref().map(|key| snapshot.get(key).unwrap());
                assert!(
                    seen.iter().all(|value| *value == seen[0]),
                    "{name}: half a write"
                );
                assert!(seen[0] >= last, "{name}: time went back");
                [last, ..] = seen;
            }
        });
        assert_eq!(
            engine.get(&keys[0]).unwrap().unwrap(),
            500_u32.to_be_bytes(),
            "{name}"
        );
    }
}
