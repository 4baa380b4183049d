//! The bytes of every kind of key. They are on disks: a change here is a new disk version.

use std::collections::BTreeSet;

use storage::keys::encoding::{put_value, take_value};
use storage::keys::{Kind, catalog, log, meta, rows, topics};
use types::value::Value;

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[rustfmt::skip]
fn state_keys() -> Vec<(Vec<u8>, &'static str)> {
    vec![
        (meta::disk_version(), "0001016469736b5f76657273696f6e0001"),
        (meta::applied(), "0001016170706c6965640001"),
        (meta::cluster(), "000101636c75737465720001"),
        (meta::idempotency_swept(), "0001016964656d706f74656e63795f73776570740001"),
        (catalog::counter("table"), "0001027461626c650001"),
        (catalog::namespace("demo"), "00010364656d6f0001"),
        (catalog::namespace("d\0"), "0001036400ff0001"),
        (catalog::table(0x01020304), "00010401020304"),
        (catalog::table_name(7, "t"), "00010500000007740001"),
        (catalog::table_version(5, 6), "0001060000000500000006"),
        (catalog::topic(9), "00010700000009"),
        (catalog::topic_name(7, "e"), "00010800000007650001"),
        (catalog::user("ann"), "000109616e6e0001"),
        (catalog::node(3), "00010a0000000000000003"),
        (catalog::node_nonce(&[0, 255, 1]), "00010b00ffff010001"),
        (catalog::index_name(7, "i"), "00010c00000007690001"),
        (catalog::audit(0x0102, 3), "00010d000000000000010200000003"),
        (rows::row(2, None, [&text("k")]), "00011400000002000a6b0001"),
        (rows::row(2, Some("ann"), [&Value::Int(-1), &text("")]), "0001140000000201616e6e0001057fffffff0a0001"),
        (rows::index_entry(2, 3, false, None, [&Value::BigInt(1)], b"pk"), "000115000000020000000300068000000000000001706b"),
        (rows::index_entry(2, 3, true, Some("ann"), [&Value::BigInt(1)], b"pk"), "000116000000020000000301616e6e0001068000000000000001"),
        (rows::index_entry(2, 3, true, None, [&Value::Null], b"pk"), "00011600000002000000030001706b"),
        (topics::message(4, 5, 6), "00011e00000004000000050000000000000006"),
        (topics::tail(4, 5), "00011f0000000400000005"),
        (topics::group(4, "g"), "00012800000004670001"),
        (topics::cursor(4, "g", 5), "0001290000000467000100000005"),
        (topics::segment(4, "g", 5, 6), "00012a00000004670001000000050000000000000006"),
        (topics::lease(4, "g", "l1"), "00012b000000046700016c310001"),
        (topics::deadline(4, "g", 5, 0x0708, 6), "00012c000000046700010000000500000000000007080000000000000006"),
        (topics::lease_end(4, "g", 0x0708, "l1"), "00012d0000000467000100000000000007086c310001"),
        (topics::idempotency("ann", "k", 1), "000132616e6e00016b000100000001"),
        (topics::idempotency_age(0x0a0b, "ann", "k", 1), "0001330000000000000a0b616e6e00016b000100000001"),
    ]
}

#[test]
fn keys_of_the_state_are_frozen() {
    let keys = state_keys();
    for (key, frozen) in &keys {
        assert_eq!(hex(key), *frozen);
    }
    let kinds: BTreeSet<Kind> = keys.iter().filter_map(|(key, _)| Kind::of(key)).collect();
    assert_eq!(
        kinds,
        BTreeSet::from(Kind::ALL),
        "a key of every kind stands above"
    );
}

#[test]
fn keys_of_the_log_are_frozen() {
    let keys = [
        (log::entry(0x0102), "0001010000000000000102"),
        (log::vote(), "000102"),
        (log::committed(), "000103"),
        (log::purged(), "000104"),
    ];
    for (key, frozen) in keys {
        assert_eq!(hex(&key), frozen);
    }
    assert_eq!(log::split_entry(&log::entry(0x0102)), Ok(0x0102));
}

#[test]
#[rustfmt::skip]
fn values_in_keys_are_frozen() {
    let values = [
        (Value::Null, "01"),
        (Value::Boolean(false), "02"),
        (Value::Boolean(true), "03"),
        (Value::SmallInt(-2), "047ffe"),
        (Value::Int(i32::MIN), "0500000000"),
        (Value::BigInt(258), "068000000000000102"),
        (Value::Float(1.5), "07bfc00000"),
        (Value::Float(-1.5), "07403fffff"),
        (Value::Float(-0.0), "0780000000"),
        (Value::Float(f32::NAN), "07ffc00000"),
        (Value::Double(1.5), "08bff8000000000000"),
        (Value::Double(f64::NEG_INFINITY), "08000fffffffffffff"),
        (Value::Double(-f64::NAN), "08fff8000000000000"),
        (Value::Decimal { unscaled: -1, scale: 2 }, "09027fffffffffffffffffffffffffffffff"),
        (text("a\0\u{1}é"), "0a6100ff01c3a90001"),
        (Value::Timestamp(-1), "0b7fffffffffffffff"),
        (Value::DateTime(1), "0c8000000000000001"),
        (Value::Date(-719_162), "0d7ff506c6"),
        (Value::Time(86_399_999_999), "0e800000141dd75fff"),
        (Value::Uuid([0xab; 16]), "0fabababababababababababababababab"),
        (Value::Json("{}".to_owned()), "107b7d0001"),
        (Value::Bytes(vec![0, 1, 0xff]), "1100ff01ff0001"),
        (Value::File("{}".to_owned()), "127b7d0001"),
    ];
    for (value, frozen) in values {
        let mut key = Vec::new();
        put_value(&mut key, &value);
        assert_eq!(hex(&key), frozen, "{value:?}");
        let mut rest = key.as_slice();
        let mut again = Vec::new();
        put_value(&mut again, &take_value(&mut rest).unwrap());
        assert_eq!(hex(&again), frozen, "{value:?} comes back");
    }
}

#[test]
fn a_key_tells_its_kind() {
    for kind in Kind::ALL {
        assert_eq!(Kind::of(&kind.prefix()), Some(kind));
    }
    for bytes in [
        &[][..],
        &[0],
        &[0, 1],
        &[0, 1, 0],
        &[0, 1, 255],
        &[0, 2, 1],
        &[1, 0, 1],
    ] {
        assert_eq!(Kind::of(bytes), None, "{bytes:?}");
    }
}

#[test]
fn parts_of_keys_come_back() {
    let segment_key = topics::deadline(4, "g", 5, 0x0708, 6);
    assert_eq!(topics::split_deadline(&segment_key), Ok((0x0708, 6)));
    let cursor = topics::cursor(4, "g\0", 5);
    assert_eq!(topics::split_cursor(&cursor), Ok((4, "g\0".to_owned(), 5)));
    let age = topics::idempotency_age(0x0a0b, "ann", "k", 1);
    let answer = topics::idempotency("ann", "k", 1);
    assert_eq!(topics::split_idempotency_age(&age), Ok((0x0a0b, answer)));
}

/// A group or owner whose name begins with another's keeps out of the other's prefix.
#[test]
fn prefixes_hold_only_their_own() {
    let prefix = topics::group_prefix(Kind::Cursor, 4, "g");
    assert!(topics::cursor(4, "g", 0).starts_with(&prefix));
    assert!(!topics::cursor(4, "gg", 0).starts_with(&prefix));
    let owner = rows::owner_prefix(2, Some("ann"));
    assert!(rows::row(2, Some("ann"), [&text("k")]).starts_with(&owner));
    assert!(!rows::row(2, Some("anna"), [&text("k")]).starts_with(&owner));
    assert!(!rows::row(2, None, [&text("k")]).starts_with(&owner));
}
