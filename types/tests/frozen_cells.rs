//! Values as JSON and as text. Payloads are rendered when a message is read, so what a value looks
//! like may never change.

use types::cell::{JsonStyle, push_json_string, timestamp_text, to_text, write_json};
use types::value::Value;

fn json(value: &Value, style: JsonStyle) -> String {
    let mut out = String::new();
    write_json(value, style, &mut out);
    out
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn decimal(unscaled: i128, scale: u8) -> Value {
    Value::Decimal { unscaled, scale }
}

/// Value, its JSON (the same in both styles), its text.
#[rustfmt::skip]
fn cells() -> Vec<(Value, &'static str, &'static str)> {
    const SECOND: i64 = 1_000_000;
    const T: i64 = 1_776_513_600 * SECOND;
    vec![
        (Value::Null, "null", ""),
        (Value::Boolean(true), "true", "true"),
        (Value::Boolean(false), "false", "false"),
        (Value::SmallInt(-32_768), "-32768", "-32768"),
        (Value::Int(7), "7", "7"),
        (Value::BigInt(-9_223_372_036_854_775_808), "\"-9223372036854775808\"", "-9223372036854775808"),
        (Value::BigInt(0), "\"0\"", "0"),
        (Value::Float(0.1), "0.1", "0.1"),
        (Value::Float(1.0), "1.0", "1"),
        (Value::Float(f32::NAN), "\"NaN\"", "NaN"),
        (Value::Double(0.1), "0.1", "0.1"),
        (Value::Double(-0.0), "-0.0", "-0"),
        (Value::Double(100.0), "100.0", "100"),
        (Value::Double(f64::INFINITY), "\"Infinity\"", "inf"),
        (Value::Double(f64::NEG_INFINITY), "\"-Infinity\"", "-inf"),
        (Value::Double(f64::NAN), "\"NaN\"", "NaN"),
        (decimal(0, 0), "\"0\"", "0"),
        (decimal(12_345, 2), "\"123.45\"", "123.45"),
        (decimal(-5, 3), "\"-0.005\"", "-0.005"),
        (decimal(0, 2), "\"0.00\"", "0.00"),
        (decimal(i128::MIN, 0), "\"-170141183460469231731687303715884105728\"", "-170141183460469231731687303715884105728"),
        (text(""), "\"\"", ""),
        (text("a\"b\\c/\n\u{1}é\u{1f600}"), "\"a\\\"b\\\\c/\\n\\u0001é\u{1f600}\"", "a\"b\\c/\n\u{1}é\u{1f600}"),
        (Value::Timestamp(T), "\"2026-04-18T12:00:00Z\"", "2026-04-18T12:00:00Z"),
        (Value::Timestamp(T + 123_456), "\"2026-04-18T12:00:00.123456Z\"", "2026-04-18T12:00:00.123456Z"),
        (Value::Timestamp(T + 100_000), "\"2026-04-18T12:00:00.100000Z\"", "2026-04-18T12:00:00.100000Z"),
        (Value::DateTime(-1), "\"1969-12-31T23:59:59.999999Z\"", "1969-12-31T23:59:59.999999Z"),
        (Value::Date(0), "\"1970-01-01\"", "1970-01-01"),
        (Value::Date(20_561), "\"2026-04-18\"", "2026-04-18"),
        (Value::Date(-719_162), "\"0001-01-01\"", "0001-01-01"),
        (Value::Time(43_200 * SECOND), "\"12:00:00.000000\"", "12:00:00.000000"),
        (Value::Time(86_399_999_999), "\"23:59:59.999999\"", "23:59:59.999999"),
        (Value::Uuid([0xab; 16]), "\"abababab-abab-abab-abab-abababababab\"", "abababab-abab-abab-abab-abababababab"),
        (Value::Bytes(vec![]), "[]", ""),
        (Value::Bytes(vec![0, 10, 255]), "[0,10,255]", "000aff"),
        (Value::File("{\"id\":\"f1\"}".to_owned()), "{\"id\":\"f1\"}", "{\"id\":\"f1\"}"),
    ]
}

#[test]
fn cells_are_frozen() {
    for (value, frozen, _) in cells() {
        assert_eq!(json(&value, JsonStyle::Cell), frozen, "{value:?}");
        assert_eq!(json(&value, JsonStyle::Payload), frozen, "{value:?}");
    }
}

#[test]
fn texts_are_frozen() {
    for (value, _, frozen) in cells() {
        assert_eq!(to_text(&value), frozen, "{value:?}");
    }
}

#[test]
fn cells_are_json() {
    for (value, ..) in cells() {
        let cell = json(&value, JsonStyle::Cell);
        assert!(
            serde_json::from_str::<serde_json::Value>(&cell).is_ok(),
            "{cell}"
        );
    }
}

#[test]
fn json_is_inlined_in_payloads_only() {
    let value = Value::Json("{\"a\": [1, \"b\"]}".to_owned());
    assert_eq!(json(&value, JsonStyle::Payload), "{\"a\": [1, \"b\"]}");
    assert_eq!(
        json(&value, JsonStyle::Cell),
        "\"{\\\"a\\\": [1, \\\"b\\\"]}\""
    );
    assert_eq!(to_text(&value), "{\"a\": [1, \"b\"]}");
}

/// Beyond what the calendar knows a value still has a form, and no panic.
#[test]
fn the_ends_of_time_have_a_form() {
    assert_eq!(timestamp_text(i64::MAX), "+262142-12-31T23:59:59.999999Z");
    assert_eq!(timestamp_text(i64::MIN), "-262143-01-01T00:00:00Z");
    assert_eq!(to_text(&Value::Date(i32::MAX)), "+262142-12-31");
    assert_eq!(to_text(&Value::Date(i32::MIN)), "-262143-01-01");
    for micros in [i64::MIN, -1, 86_400_000_000, i64::MAX] {
        assert_eq!(to_text(&Value::Time(micros)).len(), "00:00:00.000000".len());
    }
}

#[test]
fn strings_are_escaped() {
    let mut out = "x".to_owned();
    push_json_string(&mut out, "\u{0}\t\u{7f}</script>");
    assert_eq!(out, "x\"\\u0000\\t\u{7f}</script>\"");
}
