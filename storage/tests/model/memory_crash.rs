//! What the in-memory engine keeps and forgets when it crashes.

use crate::common::{Model, any_key, any_value, key, scan};
use proptest::prelude::*;
use storage::memory::MemoryEngine;
use storage::{Direction, Durability, Engine, Error, KeyRange, Op};

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<u8>, Vec<u8>, Durability),
    Flush,
    Crash,
}

fn any_step() -> impl Strategy<Value = Step> {
    let durability = prop_oneof![3 => Just(Durability::Flushed), 1 => Just(Durability::Synced)];
    prop_oneof![
        8 => (any_key(), any_value(), durability).prop_map(|(k, v, d)| Step::Write(k, v, d)),
        1 => Just(Step::Flush),
        2 => Just(Step::Crash),
    ]
}

fn content(engine: &MemoryEngine) -> Model {
    let all = KeyRange::prefix(&[]);
    scan(&*engine.snapshot(), &all, Direction::Forward)
        .into_iter()
        .collect()
}

proptest! {
    #[test]
    fn a_crash_leaves_the_writes_up_to_the_last_durable_one(
        steps in proptest::collection::vec(any_step(), 0..40),
    ) {
        let engine = MemoryEngine::new();
        let (mut current, mut durable) = (Model::new(), Model::new());
        for step in steps {
            match step {
                Step::Write(key, value, durability) => {
                    let op = Op::Put { key: key.clone(), value: value.clone() };
                    engine.write(&[op], durability).unwrap();
                    current.insert(key, value);
                    if durability == Durability::Synced {
                        durable = current.clone();
                    }
                }
                Step::Flush => {
                    engine.flush().unwrap();
                    durable = current.clone();
                }
                Step::Crash => {
                    let before = engine.snapshot();
                    engine.crash();
                    let all = KeyRange::prefix(&[]);
                    let held: Model =
                        scan(&*before, &all, Direction::Forward).into_iter().collect();
                    prop_assert_eq!(held, current, "a snapshot keeps what it shows");
                    current = durable.clone();
                }
            }
            prop_assert_eq!(content(&engine), current.clone());
        }
    }
}

#[test]
fn a_broken_disk_refuses_all_writes_until_the_machine_comes_back() {
    let engine = MemoryEngine::new();
    let put = |name: &[u8]| {
        [Op::Put {
            key: key(name),
            value: Vec::new(),
        }]
    };
    engine.write(&put(b"synced"), Durability::Synced).unwrap();
    engine
        .write(&put(b"unsynced"), Durability::Flushed)
        .unwrap();
    engine.break_disk();
    for durability in [Durability::Synced, Durability::Flushed] {
        let refused = engine.write(&put(b"refused"), durability);
        assert!(matches!(refused, Err(Error::Io { .. })));
    }
    assert!(engine.flush().is_err());
    assert!(
        engine.get(&key(b"unsynced")).unwrap().is_some(),
        "reads go on"
    );
    engine.crash();
    assert_eq!(
        content(&engine).into_keys().collect::<Vec<_>>(),
        [key(b"synced")]
    );
    engine.write(&put(b"again"), Durability::Synced).unwrap();
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy");
    let engine = MemoryEngine::new();
    let ops = [Op::Put {
        key: key(b"a"),
        value: b"value".to_vec(),
    }];
    engine.write(&ops, Durability::Flushed).unwrap();
    engine.checkpoint(&copy).unwrap();

    let file = copy.join("PAIRS");
    let good = std::fs::read(&file).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&file, &bad).unwrap();
        assert!(matches!(
            MemoryEngine::open_checkpoint(&copy),
            Err(Error::Corrupt { .. })
        ));
        std::fs::write(&file, &good[..at]).unwrap();
        assert!(matches!(
            MemoryEngine::open_checkpoint(&copy),
            Err(Error::Corrupt { .. })
        ));
    }
    assert!(matches!(
        MemoryEngine::open_checkpoint(dir.path()),
        Err(Error::Io { .. })
    ));
}

/// A snapshot a write, over many keys, all held: shared, not copied.
#[test]
fn many_snapshots_of_many_keys_are_cheap() {
    let engine = MemoryEngine::new();
    let key_of = |i: u32| key(&i.to_be_bytes());
    let ops: Vec<Op> = (0..100_000)
        .map(|i| Op::Put {
            key: key_of(i),
            value: vec![0; 16],
        })
        .collect();
    engine.write(&ops, Durability::Flushed).unwrap();
    let mut snapshots = Vec::new();
    for i in 0..2_000 {
        snapshots.push(engine.snapshot());
        let ops = [Op::Put {
            key: key_of(i * 49),
            value: vec![1; 16],
        }];
        engine.write(&ops, Durability::Flushed).unwrap();
    }
    for (i, snapshot) in (0..).zip(&snapshots) {
        let written = snapshot.get(&key_of(i * 49)).unwrap().unwrap();
        assert_eq!(written, [0; 16], "not yet in its snapshot");
        if let Some(before) = i.checked_sub(1) {
            assert_eq!(
                snapshot.get(&key_of(before * 49)).unwrap().unwrap(),
                [1; 16]
            );
        }
    }
}
