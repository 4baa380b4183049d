//! Records of the state and manifests of snapshots, by the first byte.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use raft::apply::idempotency::Remembered;
use raft::snapshot::Manifest;
use raft::state_machine::AppliedState;
use storage::keys::{meta, topics as keys};
use storage::memory::MemoryEngine;
use storage::{Durability, Engine, Op, Read};

pub fn run(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    match kind % 4 {
        0 => applied(bytes),
        1 => manifest(bytes),
        2 => {
            if let Ok(record) = Remembered::decode(bytes) {
                let again = Remembered::decode(&record.encode_to_vec()[..]);
                assert_eq!(again.as_ref(), Ok(&record));
                assert_eq!(
                    record.answer_to(&record.request_hash).clone(),
                    record.answer_to(&record.request_hash)
                );
            }
        }
        _ => group(bytes),
    }
}

fn state_with(pairs: Vec<(Vec<u8>, Vec<u8>)>) -> Arc<dyn storage::Snapshot> {
    let engine = MemoryEngine::new();
    let puts = pairs.into_iter().map(|(key, value)| Op::Put { key, value });
    let puts: Vec<Op> = puts.collect();
    engine.write(&puts, Durability::Flushed).unwrap();
    engine.snapshot()
}

fn applied(bytes: &[u8]) {
    let load = |bytes: &[u8]| {
        let state = state_with(vec![(meta::applied(), bytes.to_vec())]);
        AppliedState::load(&*state)
    };
    if let Ok(applied) = load(bytes) {
        assert_eq!(load(&applied.encode()).unwrap(), applied);
    }
}

/// With a checksum that fits as well.
fn manifest(bytes: &[u8]) {
    let sealed = [bytes, &crc32fast::hash(bytes).to_be_bytes()].concat();
    for bytes in [bytes, &sealed] {
        if let Ok(manifest) = Manifest::decode(bytes) {
            let again = Manifest::decode(&manifest.encode()).unwrap();
            assert_eq!(again.files, manifest.files);
            drop(manifest.meta());
        }
    }
}

/// A partition's end and a group's position, as they are shown.
fn group(bytes: &[u8]) {
    let (tail, cursor) = bytes.split_at(bytes.len().min(40));
    let state = state_with(vec![
        (keys::tail(1, 0), tail.to_vec()),
        (keys::cursor(1, "g", 0), cursor.to_vec()),
    ]);
    let state: &dyn Read = &*state;
    if let Ok(tail) = topics::fetch::tail(state, 1, 0) {
        assert!(tail.earliest <= tail.next);
        if let Ok(Some(position)) = topics::groups::position(state, 1, "g", 0) {
            assert!(position.lag(tail) <= tail.len().max(tail.next));
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let remembered = Remembered {
        request_hash: Bytes::from_static(b"hash"),
        index: 9,
        answer: Bytes::from_static(b"answer"),
        messages: Vec::new(),
        wall_time: 5,
    };
    let tail = [2_u64, 9, 100, 1, 1].map(u64::to_be_bytes).concat();
    let cursor = [0x08, 3, 0x10, 5, 0x18, 2, 0x20, 1, 0x28, 4];
    vec![
        [&[0][..], &AppliedState::default().encode()].concat(),
        [&[1][..], b"manifest"].concat(),
        [&[2][..], &remembered.encode_to_vec()].concat(),
        [&[3][..], &tail, &cursor].concat(),
    ]
}
