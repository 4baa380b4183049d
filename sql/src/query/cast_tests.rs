use types::value::{DataType, Value};

use super::cast;

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn decimal(unscaled: i128, scale: u8) -> Value {
    Value::Decimal { unscaled, scale }
}

fn good(value: Value, to: DataType, expected: Value) {
    assert_eq!(cast(value.clone(), to), Ok(expected), "{value:?} as {to:?}");
}

fn bad(value: Value, to: DataType) {
    let error = cast(value.clone(), to).expect_err(&format!("{value:?} as {to:?}"));
    assert_eq!(
        error.code,
        types::ErrorCode::TypeMismatch,
        "{value:?} as {to:?}: {error}"
    );
}

#[test]
fn integers_have_ranges() {
    good(
        Value::BigInt(32_767),
        DataType::SmallInt,
        Value::SmallInt(32_767),
    );
    bad(Value::BigInt(32_768), DataType::SmallInt);
    good(
        Value::BigInt(-2_147_483_648),
        DataType::Int,
        Value::Int(i32::MIN),
    );
    bad(Value::BigInt(2_147_483_648), DataType::Int);
    good(Value::Double(2.5), DataType::Int, Value::Int(3));
    good(Value::Double(-2.5), DataType::Int, Value::Int(-3));
    bad(Value::Double(f64::NAN), DataType::BigInt);
    bad(Value::Double(1e19), DataType::BigInt);
    good(text(" 42 "), DataType::BigInt, Value::BigInt(42));
    bad(text("4x"), DataType::BigInt);
    bad(text(""), DataType::BigInt);
    bad(Value::Boolean(true), DataType::Int);
    bad(Value::Int(1), DataType::Boolean);
}

#[test]
fn decimals_round_half_away_from_zero_and_have_a_precision() {
    let money = DataType::Decimal {
        precision: 5,
        scale: 2,
    };
    good(text("1.005"), money, decimal(101, 2));
    good(text("-1.005"), money, decimal(-101, 2));
    good(text("1.0049"), money, decimal(100, 2));
    good(text("1e2"), money, decimal(10_000, 2));
    good(text("12345e-3"), money, decimal(1_235, 2));
    good(text("0.004"), money, decimal(0, 2));
    good(text("0.005"), money, decimal(1, 2));
    good(text("5e-3"), money, decimal(1, 2));
    good(text("5e-4"), money, decimal(0, 2));
    good(text("0e999999999"), money, decimal(0, 2));
    bad(text("1000"), money);
    bad(text("999.995"), money);
    bad(text("1e999999999"), money);
    bad(text("."), money);
    bad(text("--1"), money);
    bad(text("NaN"), money);
    good(Value::Double(0.1), money, decimal(10, 2));
    bad(Value::Double(f64::INFINITY), money);
    good(Value::BigInt(-7), money, decimal(-700, 2));
    bad(Value::BigInt(1_000), money);
    good(decimal(1_005, 3), money, decimal(101, 2));
    good(decimal(15, 1), DataType::Int, Value::Int(2));
    good(decimal(15, 1), DataType::Double, Value::Double(1.5));
    let widest = DataType::Decimal {
        precision: 38,
        scale: 0,
    };
    let nines = "9".repeat(38);
    good(text(&nines), widest, decimal(10_i128.pow(38) - 1, 0));
    bad(text(&format!("{nines}9")), widest);
    let fraction = DataType::Decimal {
        precision: 38,
        scale: 38,
    };
    good(
        text(&format!("0.{nines}")),
        fraction,
        decimal(10_i128.pow(38) - 1, 38),
    );
    bad(Value::Int(1), fraction);
}

#[test]
fn times_are_read_as_utc() {
    let micros = 1_776_513_600_000_000;
    for spelling in [
        "2026-04-18T12:00:00Z",
        "2026-04-18 12:00:00",
        "2026-04-18T14:00:00+02:00",
        "2026-04-18T12:00:00.000000Z",
    ] {
        good(
            text(spelling),
            DataType::Timestamp,
            Value::Timestamp(micros),
        );
        good(text(spelling), DataType::DateTime, Value::DateTime(micros));
    }
    good(
        text("2026-04-18"),
        DataType::Timestamp,
        Value::Timestamp(micros - 43_200_000_000),
    );
    good(text("2026-04-18"), DataType::Date, Value::Date(20_561));
    good(
        Value::Timestamp(micros),
        DataType::Date,
        Value::Date(20_561),
    );
    good(Value::Timestamp(-1), DataType::Date, Value::Date(-1));
    good(
        Value::Timestamp(-1),
        DataType::Time,
        Value::Time(86_399_999_999),
    );
    good(
        Value::Date(1),
        DataType::Timestamp,
        Value::Timestamp(86_400_000_000),
    );
    good(
        text("12:00:00.000001"),
        DataType::Time,
        Value::Time(43_200_000_001),
    );
    bad(text("25:00:00"), DataType::Time);
    bad(text("yesterday"), DataType::Timestamp);
    bad(text("2026-02-30"), DataType::Date);
    bad(Value::BigInt(5), DataType::Timestamp);
}

#[test]
fn json_uuid_bytes_and_files_are_checked() {
    good(
        text("{\"a\": [1]}"),
        DataType::Json,
        Value::Json("{\"a\": [1]}".to_owned()),
    );
    bad(text("{\"a\": "), DataType::Json);
    bad(text(&"[".repeat(100_000)), DataType::Json);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    good(text(&deep), DataType::Json, Value::Json(deep.clone()));
    good(
        text("550E8400-E29B-41D4-A716-446655440000"),
        DataType::Uuid,
        Value::Uuid(0x550e8400_e29b_41d4_a716_446655440000_u128.to_be_bytes()),
    );
    bad(text("550e8400"), DataType::Uuid);
    good(text("\\x00fF"), DataType::Bytes, Value::Bytes(vec![0, 255]));
    good(text("ab"), DataType::Bytes, Value::Bytes(b"ab".to_vec()));
    bad(text("\\x0"), DataType::Bytes);
    good(text("{}"), DataType::File, Value::File("{}".to_owned()));
    bad(text("[]"), DataType::File);
}

#[test]
fn floats_that_overflow_are_refused_and_infinities_are_not() {
    bad(Value::Double(1e300), DataType::Float);
    good(
        Value::Double(f64::INFINITY),
        DataType::Float,
        Value::Float(f32::INFINITY),
    );
    bad(text("1e999"), DataType::Double);
    good(
        text("-Infinity"),
        DataType::Double,
        Value::Double(f64::NEG_INFINITY),
    );
    good(text("1.5"), DataType::Float, Value::Float(1.5));
}

#[test]
fn anything_but_bytes_is_text() {
    good(Value::Int(5), DataType::Text, text("5"));
    good(Value::Boolean(true), DataType::Text, text("true"));
    good(Value::Json("{}".to_owned()), DataType::Text, text("{}"));
    bad(Value::Bytes(vec![1]), DataType::Text);
    good(Value::Null, DataType::Uuid, Value::Null);
    let error = cast(text(&"x".repeat(1 << 21)), DataType::Text).expect_err("too large");
    assert_eq!(error.code, types::ErrorCode::ValueTooLarge);
}

#[test]
fn floats_are_spelt_as_in_postgresql() {
    for (value, expected) in [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (-2.5, "-2.5"),
        (0.1, "0.1"),
        (0.0001, "0.0001"),
        (0.000_012, "1.2e-05"),
        (123_456_789.25, "123456789.25"),
        (1e14, "100000000000000"),
        (1e15, "1e+15"),
        (1.5e300, "1.5e+300"),
        (-5e-324, "-5e-324"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "Infinity"),
        (f64::NEG_INFINITY, "-Infinity"),
    ] {
        good(Value::Double(value), DataType::Text, text(expected));
    }
    for (value, expected) in [(0.1_f32, "0.1"), (123_456.0, "123456"), (1e6, "1e+06")] {
        good(Value::Float(value), DataType::Text, text(expected));
    }
}
