//! What the tests of this crate share.

use std::collections::BTreeMap;

use proptest::prelude::*;
use storage::{Direction, KeyRange, Read};

/// A plain ordered map: what engines and batches are compared with.
pub type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// The kind that all keys of [`any_key`] have, so that the state's database takes them.
const KIND: [u8; 3] = [0, 1, storage::keys::Kind::Row as u8];

/// A key; few enough that operations meet.
pub fn any_key() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(
        prop_oneof![Just(0_u8), Just(1), Just(0x7f), Just(0xff)],
        0..3,
    )
    .prop_map(|rest| key(&rest))
}

/// A key of one kind.
pub fn key(rest: &[u8]) -> Vec<u8> {
    [&KIND, rest].concat()
}

pub fn any_value() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..4)
}

/// A range; also one that ends where it starts, or before.
pub fn any_range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        8 => (any_key(), any_key()).prop_map(|(start, end)| KeyRange::new(start, end)),
        1 => any_key().prop_map(|start| KeyRange { start, end: KeyRange::prefix(&KIND).end }),
        1 => Just(KeyRange::prefix(&KIND)),
    ]
}

pub fn any_direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Forward), Just(Direction::Reverse)]
}

pub fn scan_model(
    model: &Model,
    range: &KeyRange,
    direction: Direction,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let inside = model.iter().filter(|(key, _)| range.contains(key));
    let mut pairs: Vec<_> = inside
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if direction == Direction::Reverse {
        pairs.reverse();
    }
    pairs
}

pub fn scan(read: &dyn Read, range: &KeyRange, direction: Direction) -> Vec<(Vec<u8>, Vec<u8>)> {
    read.scan(range, direction).map(Result::unwrap).collect()
}

pub fn delete_range(model: &mut Model, range: &KeyRange) {
    model.retain(|key, _| !range.contains(key));
}
