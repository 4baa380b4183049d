//! The bytes of rows. They are in logs, tables and messages: a change here is a new disk version.

use proptest::prelude::*;
use types::ids::ColumnId;
use types::row::{MalformedRow, decode, decode_columns, encode, schema_version};
use types::value::Value;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
#[rustfmt::skip]
fn values_in_rows_are_frozen() {
    let values = [
        (Value::Null, "00".to_owned()),
        (Value::Boolean(false), "01".to_owned()),
        (Value::Boolean(true), "02".to_owned()),
        (Value::SmallInt(-1), "0301".to_owned()),
        (Value::SmallInt(i16::MIN), "03ffff03".to_owned()),
        (Value::Int(64), "048001".to_owned()),
        (Value::Int(i32::MAX), "04feffffff0f".to_owned()),
        (Value::BigInt(i64::MIN), "05ffffffffffffffffff01".to_owned()),
        (Value::BigInt(i64::MAX), "05feffffffffffffffff01".to_owned()),
        (Value::Float(-1.5), "06bfc00000".to_owned()),
        (Value::Double(-0.0), "078000000000000000".to_owned()),
        (Value::Decimal { unscaled: -12_345, scale: 2 }, "0802f1c001".to_owned()),
        (Value::Decimal { unscaled: i128::MIN, scale: 38 }, "0826ffffffffffffffffffffffffffffffffffff03".to_owned()),
        (Value::Text("aé\0".to_owned()), "090461c3a900".to_owned()),
        (Value::Text("x".repeat(128)), format!("098001{}", "78".repeat(128))),
        (Value::Timestamp(-1), "0a01".to_owned()),
        (Value::DateTime(1_776_513_600_123_456), "0b80c997e1d9eea706".to_owned()),
        (Value::Date(-719_162), "0cf3e457".to_owned()),
        (Value::Time(86_399_999_999), "0dfeffbadd8305".to_owned()),
        (Value::Uuid([0xab; 16]), "0eabababababababababababababababab".to_owned()),
        (Value::Json("{\"a\":1}".to_owned()), "0f077b2261223a317d".to_owned()),
        (Value::Bytes(vec![0, 1, 0xff]), "10030001ff".to_owned()),
        (Value::File("{}".to_owned()), "11027b7d".to_owned()),
    ];
    for (value, frozen) in values {
        let row = encode(1, [(1, &value)]);
        assert_eq!(hex(&row), format!("0000000101{frozen}"), "{value:?}");
        assert_eq!(decode(&row).unwrap(), [(1, value)]);
    }
}

#[test]
fn the_frame_of_a_row_is_frozen() {
    let (text, null) = (Value::Text("hi".to_owned()), Value::Null);
    let row = encode(0x0102_0304, [(1, &text), (200, &null)]);
    assert_eq!(
        hex(&row),
        "01020304".to_owned() + "01" + "09026869" + "c801" + "00"
    );
    assert_eq!(schema_version(&row), Ok(0x0102_0304));
    assert_eq!(decode(&row).unwrap(), [(1, text), (200, null)]);
    let empty = encode(7, []);
    assert_eq!(hex(&empty), "00000007");
    assert_eq!(decode(&empty).unwrap(), []);
}

#[test]
fn damaged_rows_are_refused() {
    let cases: [(&str, &[u8]); 10] = [
        ("no schema version", &[0, 0, 0]),
        ("a column without a value", &[0, 0, 0, 1, 1]),
        ("an unknown tag", &[0, 0, 0, 1, 1, 18]),
        ("text that ends early", &[0, 0, 0, 1, 1, 9, 3, b'a', b'b']),
        ("text that is not UTF-8", &[0, 0, 0, 1, 1, 9, 1, 0xff]),
        (
            "a SMALLINT of 17 bits",
            &[0, 0, 0, 1, 1, 3, 0x80, 0x80, 0x04],
        ),
        ("a number that does not end", &[0, 0, 0, 1, 1, 5, 0x80]),
        ("a FLOAT of three bytes", &[0, 0, 0, 1, 1, 6, 0, 0, 0]),
        (
            "a column id beyond 32 bits",
            &[0, 0, 0, 1, 0x80, 0x80, 0x80, 0x80, 0x10, 0],
        ),
        (
            "a length beyond memory",
            &[0, 0, 0, 1, 1, 9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ),
    ];
    for (what, row) in cases {
        assert_eq!(decode(row), Err(MalformedRow), "{what}");
    }
}

/// Any value; floats by their bits, since a row keeps even a NaN's.
fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        any::<i16>().prop_map(Value::SmallInt),
        any::<i32>().prop_map(Value::Int),
        any::<i64>().prop_map(Value::BigInt),
        any::<u32>().prop_map(|bits| Value::Float(f32::from_bits(bits))),
        any::<u64>().prop_map(|bits| Value::Double(f64::from_bits(bits))),
        (any::<i128>(), any::<u8>())
            .prop_map(|(unscaled, scale)| Value::Decimal { unscaled, scale }),
        any::<String>().prop_map(Value::Text),
        any::<i64>().prop_map(Value::Timestamp),
        any::<i64>().prop_map(Value::DateTime),
        any::<i32>().prop_map(Value::Date),
        any::<i64>().prop_map(Value::Time),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        any::<String>().prop_map(Value::Json),
        any::<Vec<u8>>().prop_map(Value::Bytes),
        any::<String>().prop_map(Value::File),
    ]
}

fn any_row() -> impl Strategy<Value = Vec<(ColumnId, Value)>> {
    proptest::collection::btree_map(prop_oneof![0..300_u32, any::<u32>()], any_value(), 0..12)
        .prop_map(|fields| fields.into_iter().collect())
}

/// Equal bit by bit: a NaN is equal to itself.
fn same(a: &[(ColumnId, Value)], b: &[(ColumnId, Value)]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|((a_id, a), (b_id, b))| {
            a_id == b_id
                && match (a, b) {
                    (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
                    (Value::Double(a), Value::Double(b)) => a.to_bits() == b.to_bits(),
                    _ => a == b,
                }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn rows_come_back(version in any::<u32>(), fields in any_row()) {
        let row = encode(version, fields.iter().map(|(id, value)| (*id, value)));
        prop_assert_eq!(schema_version(&row), Ok(version));
        prop_assert!(same(&decode(&row).unwrap(), &fields));
    }

    #[test]
    fn some_columns_are_what_all_would_give(
        fields in any_row(),
        picks in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
        others in proptest::collection::vec(any::<u32>(), 0..3),
    ) {
        let row = encode(1, fields.iter().map(|(id, value)| (*id, value)));
        let mut wanted = others;
        if !fields.is_empty() {
            wanted.extend(picks.iter().map(|pick| fields[pick.index(fields.len())].0));
        }
        wanted.sort_unstable();
        wanted.dedup();
        let mut found = Vec::new();
        decode_columns(&row, &wanted, |at, value| found.push((wanted[at], value))).unwrap();
        let mut expected = fields;
        expected.retain(|(id, _)| wanted.contains(id));
        prop_assert!(same(&found, &expected));
    }

    /// Neither a panic nor an allocation that the bytes do not justify.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
        if let Ok(fields) = decode(&bytes) {
            let row = encode(
                schema_version(&bytes).unwrap(),
                fields.iter().map(|(id, value)| (*id, value)),
            );
            prop_assert!(same(&decode(&row).unwrap(), &fields));
        }
    }

    /// A row cut short is never taken for another row of as many fields.
    #[test]
    fn a_row_cut_short_loses_fields_or_is_refused(
        fields in any_row(),
        at in any::<prop::sample::Index>(),
    ) {
        let row = encode(1, fields.iter().map(|(id, value)| (*id, value)));
        let cut = &row[..at.index(row.len())];
        if let Ok(found) = decode(cut) {
            prop_assert!(found.len() < fields.len());
            prop_assert!(same(&found, &fields[..found.len()]));
        }
    }
}
