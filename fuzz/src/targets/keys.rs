//! Keys of the databases, taken apart.

use storage::keys::encoding::{put_bytes, put_value, take_bytes, take_name, take_value};
use storage::keys::{Kind, log, rows, topics};
use types::value::Value;

/// The first byte says what of; two byte strings behind a length are compared as keys are.
pub fn run(data: &[u8]) {
    let Some((length, rest)) = data.split_first() else {
        return;
    };
    let (first, second) = rest.split_at(usize::from(*length).min(rest.len()));
    order_is_kept(first, second);
    values_come_back(rest);
    any_key(rest);
}

fn order_is_kept(first: &[u8], second: &[u8]) {
    let key = |bytes| {
        let mut key = Vec::new();
        put_bytes(&mut key, bytes);
        key
    };
    assert_eq!(key(first).cmp(&key(second)), first.cmp(second));
    let both = [key(first), key(second)].concat();
    let mut rest = &both[..];
    assert_eq!(take_bytes(&mut rest).as_deref(), Ok(first));
    assert_eq!(take_bytes(&mut rest).as_deref(), Ok(second));
    assert_eq!(rest, b"");
}

/// What can be read is what is written for it, save where several bytes mean one number.
fn values_come_back(data: &[u8]) {
    let mut rest = data;
    while let Ok(value) = take_value(&mut rest) {
        let mut written = Vec::new();
        put_value(&mut written, &value);
        let mut again = &written[..];
        let read = take_value(&mut again).unwrap();
        assert_eq!(again, b"");
        let one_number = match (&value, &read) {
            (Value::Float(v), Value::Float(r)) => v == r || (v.is_nan() && r.is_nan()),
            (Value::Double(v), Value::Double(r)) => v == r || (v.is_nan() && r.is_nan()),
            _ => value == read && data[..data.len() - rest.len()].ends_with(&written),
        };
        assert!(one_number, "{value:?} became {read:?}");
    }
}

fn any_key(key: &[u8]) {
    let kind = Kind::of(key);
    if let Ok((table, owner, primary)) = rows::split_row(key) {
        assert_eq!(kind, Some(Kind::Row));
        let mut again = rows::owner_prefix(table, owner.as_deref());
        again.extend_from_slice(primary);
        assert_eq!(again, key);
    }
    if let Ok((topic, group, partition)) = topics::split_cursor(key) {
        assert!(key.starts_with(&topics::cursor(topic, &group, partition)));
    }
    if let Ok((at, answer)) = topics::split_idempotency_age(key) {
        assert_eq!(Kind::of(&answer), Some(Kind::Idempotency));
        let mut scope = &answer[Kind::Idempotency.prefix().len()..];
        if let (Ok(actor), Ok(name)) = (take_name(&mut scope), take_name(&mut scope))
            && let Ok(ordinal) = scope.try_into().map(u32::from_be_bytes)
        {
            assert_eq!(answer, topics::idempotency(&actor, &name, ordinal));
            let again = topics::idempotency_age(at, &actor, &name, ordinal);
            assert!(at < 0 || again == key);
        }
    }
    if let Ok(index) = log::split_entry(key) {
        assert_eq!(log::entry(index), key);
    }
    assert_eq!(topics::split_segment(key).is_ok(), key.len() >= 8);
    assert_eq!(topics::split_deadline(key).is_ok(), key.len() >= 16);
    drop(topics::split_lease_end(1, "g", key));
}

pub fn seeds() -> Vec<Vec<u8>> {
    let values = [
        Value::Null,
        Value::Int(-1),
        Value::Double(-0.5),
        Value::Text("a\0b".into()),
        Value::Decimal {
            unscaled: -7,
            scale: 2,
        },
        Value::Bytes(vec![0, 255]),
    ];
    let keys = [
        rows::row(1, Some("ann"), &values),
        rows::row(2, None, &values[1..2]),
        topics::cursor(1, "g", 3),
        topics::segment(1, "g", 3, 9),
        topics::deadline(1, "g", 3, 7, 9),
        topics::lease_end(1, "g", 7, "lease"),
        topics::idempotency_age(5, "ann", "key", 1),
        log::entry(77),
    ];
    let mut seeds: Vec<Vec<u8>> = keys.iter().map(|key| [&[3][..], key].concat()).collect();
    let mut written = vec![1];
    values
        .iter()
        .for_each(|value| put_value(&mut written, value));
    seeds.push(written);
    seeds
}
