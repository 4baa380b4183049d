//! Order-preserving encodings: comparing encoded bytes compares the values.
//!
//! Byte strings are escaped and terminated: 0x00 becomes 0x00 0xff, and the end is 0x00 0x01, so a
//! string sorts before every string it is a prefix of. Signed integers flip their sign bit; floats
//! flip all bits when negative and the sign bit otherwise, with -0 and every NaN made one.
//! Every value starts with a tag, NULL's being the smallest (NULLS FIRST).

use types::value::Value;

/// The bytes are not an encoding of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key bytes are damaged or of an unknown form")]
pub struct MalformedKey;

mod tag {
    pub const NULL: u8 = 0x01;
    pub const FALSE: u8 = 0x02;
    pub const TRUE: u8 = 0x03;
    pub const SMALL_INT: u8 = 0x04;
    pub const INT: u8 = 0x05;
    pub const BIG_INT: u8 = 0x06;
    pub const FLOAT: u8 = 0x07;
    pub const DOUBLE: u8 = 0x08;
    pub const DECIMAL: u8 = 0x09;
    pub const TEXT: u8 = 0x0a;
    pub const TIMESTAMP: u8 = 0x0b;
    pub const DATE_TIME: u8 = 0x0c;
    pub const DATE: u8 = 0x0d;
    pub const TIME: u8 = 0x0e;
    pub const UUID: u8 = 0x0f;
    pub const JSON: u8 = 0x10;
    pub const BYTES: u8 = 0x11;
    pub const FILE: u8 = 0x12;
}

const ESCAPE: u8 = 0x00;
const ESCAPED_ZERO: u8 = 0xff;
const END: u8 = 0x01;

/// Appends a byte string.
pub fn put_bytes(key: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        key.push(byte);
        if byte == ESCAPE {
            key.push(ESCAPED_ZERO);
        }
    }
    key.extend_from_slice(&[ESCAPE, END]);
}

/// Takes a byte string from the front of `rest`.
pub fn take_bytes(rest: &mut &[u8]) -> Result<Vec<u8>, MalformedKey> {
    let mut bytes = Vec::new();
    loop {
        match take_fixed::<1>(rest)? {
            [ESCAPE] => match take_fixed::<1>(rest)? {
                [END] => return Ok(bytes),
                [ESCAPED_ZERO] => bytes.push(ESCAPE),
                _ => return Err(MalformedKey),
            },
            [byte] => bytes.push(byte),
        }
    }
}

/// Takes a name from the front of `rest`.
pub fn take_name(rest: &mut &[u8]) -> Result<String, MalformedKey> {
    String::from_utf8(take_bytes(rest)?).map_err(|_| MalformedKey)
}

/// Takes a big-endian u32 from the front of `rest`.
pub fn take_u32(rest: &mut &[u8]) -> Result<u32, MalformedKey> {
    take_fixed(rest).map(u32::from_be_bytes)
}

/// Takes a big-endian u64 from the front of `rest`.
pub fn take_u64(rest: &mut &[u8]) -> Result<u64, MalformedKey> {
    take_fixed(rest).map(u64::from_be_bytes)
}

/// Takes `N` bytes from the front of `rest`.
pub fn take_fixed<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], MalformedKey> {
    let (head, after) = rest.split_first_chunk::<N>().ok_or(MalformedKey)?;
    *rest = after;
    Ok(*head)
}

/// Appends a value. Values of one column have one type, so tags need not order types among each
/// other; they do so all the same.
pub fn put_value(key: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => key.push(tag::NULL),
        Value::Boolean(false) => key.push(tag::FALSE),
        Value::Boolean(true) => key.push(tag::TRUE),
        Value::SmallInt(v) => put_tagged(key, tag::SMALL_INT, &(v ^ i16::MIN).to_be_bytes()),
        Value::Int(v) => put_tagged(key, tag::INT, &(v ^ i32::MIN).to_be_bytes()),
        Value::BigInt(v) => put_tagged(key, tag::BIG_INT, &(v ^ i64::MIN).to_be_bytes()),
        Value::Float(v) => put_tagged(key, tag::FLOAT, &order_f32(*v).to_be_bytes()),
        Value::Double(v) => put_tagged(key, tag::DOUBLE, &order_f64(*v).to_be_bytes()),
        Value::Decimal { unscaled, scale } => {
            // One column has one scale, so the unscaled numbers order the values.
            put_tagged(key, tag::DECIMAL, &[*scale]);
            key.extend_from_slice(&(unscaled ^ i128::MIN).to_be_bytes());
        }
        Value::Text(v) => put_tagged_bytes(key, tag::TEXT, v.as_bytes()),
        Value::Timestamp(v) => put_tagged(key, tag::TIMESTAMP, &(v ^ i64::MIN).to_be_bytes()),
        Value::DateTime(v) => put_tagged(key, tag::DATE_TIME, &(v ^ i64::MIN).to_be_bytes()),
        Value::Date(v) => put_tagged(key, tag::DATE, &(v ^ i32::MIN).to_be_bytes()),
        Value::Time(v) => put_tagged(key, tag::TIME, &(v ^ i64::MIN).to_be_bytes()),
        Value::Uuid(v) => put_tagged(key, tag::UUID, v),
        Value::Json(v) => put_tagged_bytes(key, tag::JSON, v.as_bytes()),
        Value::Bytes(v) => put_tagged_bytes(key, tag::BYTES, v),
        Value::File(v) => put_tagged_bytes(key, tag::FILE, v.as_bytes()),
    }
}

/// Takes a value from the front of `rest`.
pub fn take_value(rest: &mut &[u8]) -> Result<Value, MalformedKey> {
    let [kind] = take_fixed(rest)?;
    Ok(match kind {
        tag::NULL => Value::Null,
        tag::FALSE => Value::Boolean(false),
        tag::TRUE => Value::Boolean(true),
        tag::SMALL_INT => Value::SmallInt(i16::from_be_bytes(take_fixed(rest)?) ^ i16::MIN),
        tag::INT => Value::Int(i32::from_be_bytes(take_fixed(rest)?) ^ i32::MIN),
        tag::BIG_INT => Value::BigInt(take_i64(rest)?),
        tag::FLOAT => Value::Float(unorder_f32(u32::from_be_bytes(take_fixed(rest)?))),
        tag::DOUBLE => Value::Double(unorder_f64(u64::from_be_bytes(take_fixed(rest)?))),
        tag::DECIMAL => {
            let [scale] = take_fixed(rest)?;
            let unscaled = i128::from_be_bytes(take_fixed(rest)?) ^ i128::MIN;
            Value::Decimal { unscaled, scale }
        }
        tag::TEXT => Value::Text(take_name(rest)?),
        tag::TIMESTAMP => Value::Timestamp(take_i64(rest)?),
        tag::DATE_TIME => Value::DateTime(take_i64(rest)?),
        tag::DATE => Value::Date(i32::from_be_bytes(take_fixed(rest)?) ^ i32::MIN),
        tag::TIME => Value::Time(take_i64(rest)?),
        tag::UUID => Value::Uuid(take_fixed(rest)?),
        tag::JSON => Value::Json(take_name(rest)?),
        tag::BYTES => Value::Bytes(take_bytes(rest)?),
        tag::FILE => Value::File(take_name(rest)?),
        _ => return Err(MalformedKey),
    })
}

fn put_tagged(key: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    key.push(tag);
    key.extend_from_slice(bytes);
}

fn put_tagged_bytes(key: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    key.push(tag);
    put_bytes(key, bytes);
}

fn take_i64(rest: &mut &[u8]) -> Result<i64, MalformedKey> {
    Ok(i64::from_be_bytes(take_fixed(rest)?) ^ i64::MIN)
}

/// The one NaN in keys; `f32::NAN` does not promise its bits.
const NAN_F32: f32 = f32::from_bits(0x7fc0_0000);
/// As [`NAN_F32`].
const NAN_F64: f64 = f64::from_bits(0x7ff8_0000_0000_0000);

fn order_f32(value: f32) -> u32 {
    let value = if value.is_nan() { NAN_F32 } else { value + 0.0 };
    let bits = value.to_bits();
    if bits >> 31 == 1 {
        !bits
    } else {
        bits | 1 << 31
    }
}

fn unorder_f32(bits: u32) -> f32 {
    f32::from_bits(if bits >> 31 == 1 {
        bits & !(1 << 31)
    } else {
        !bits
    })
}

fn order_f64(value: f64) -> u64 {
    let value = if value.is_nan() { NAN_F64 } else { value + 0.0 };
    let bits = value.to_bits();
    if bits >> 63 == 1 {
        !bits
    } else {
        bits | 1 << 63
    }
}

fn unorder_f64(bits: u64) -> f64 {
    f64::from_bits(if bits >> 63 == 1 {
        bits & !(1 << 63)
    } else {
        !bits
    })
}
