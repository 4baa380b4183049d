//! Rows as bytes: in the log, in the rows' key space and in messages.
//!
//! ```text
//! row   := schema version (u32, big-endian) field*
//! field := column id (varint) tag (u8) payload
//! ```
//! Every field names its column, so a row survives ADD, DROP and RENAME COLUMN without being
//! rewritten. A column that is not named was added later and reads as its default for old rows;
//! NULL is a field of its own. Fields stand in ascending order of column id.

use crate::ids::ColumnId;
use crate::value::Value;

/// The bytes are not a row this version can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row bytes are damaged or of an unknown form")]
pub struct MalformedRow;

mod tag {
    pub const NULL: u8 = 0;
    pub const FALSE: u8 = 1;
    pub const TRUE: u8 = 2;
    pub const SMALL_INT: u8 = 3;
    pub const INT: u8 = 4;
    pub const BIG_INT: u8 = 5;
    pub const FLOAT: u8 = 6;
    pub const DOUBLE: u8 = 7;
    pub const DECIMAL: u8 = 8;
    pub const TEXT: u8 = 9;
    pub const TIMESTAMP: u8 = 10;
    pub const DATE_TIME: u8 = 11;
    pub const DATE: u8 = 12;
    pub const TIME: u8 = 13;
    pub const UUID: u8 = 14;
    pub const JSON: u8 = 15;
    pub const BYTES: u8 = 16;
    pub const FILE: u8 = 17;
}

/// Encodes a row. `fields` must be in ascending order of column id.
pub fn encode<'a>(
    schema_version: u32,
    fields: impl IntoIterator<Item = (ColumnId, &'a Value)>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(&schema_version.to_be_bytes());
    for (column, value) in fields {
        put_varint(&mut out, u128::from(column));
        put_value(&mut out, value);
    }
    out
}

/// The schema version a row was written under.
pub fn schema_version(row: &[u8]) -> Result<u32, MalformedRow> {
    let head = row.first_chunk::<4>().ok_or(MalformedRow)?;
    Ok(u32::from_be_bytes(*head))
}

/// Decodes a row into its fields, in order of column id.
pub fn decode(row: &[u8]) -> Result<Vec<(ColumnId, Value)>, MalformedRow> {
    let mut rest = row.get(4..).ok_or(MalformedRow)?;
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let column = take_varint(&mut rest)?
            .try_into()
            .map_err(|_| MalformedRow)?;
        fields.push((column, take_value(&mut rest)?));
    }
    Ok(fields)
}

/// Decodes the `wanted` columns only, which must be in ascending order: calls `found` with the
/// position in `wanted` and the value. Not called for columns that the row does not name.
pub fn decode_columns(
    row: &[u8],
    wanted: &[ColumnId],
    mut found: impl FnMut(usize, Value),
) -> Result<(), MalformedRow> {
    let mut rest = row.get(4..).ok_or(MalformedRow)?;
    let mut next = 0;
    while !rest.is_empty() && next < wanted.len() {
        let column: ColumnId = take_varint(&mut rest)?
            .try_into()
            .map_err(|_| MalformedRow)?;
        while wanted.get(next).is_some_and(|id| *id < column) {
            next += 1;
        }
        if wanted.get(next) == Some(&column) {
            found(next, take_value(&mut rest)?);
            next += 1;
        } else {
            skip_value(&mut rest)?;
        }
    }
    Ok(())
}

/// Encodes one field by itself, as `schema::Column::missing` holds it.
pub fn encode_field(column: ColumnId, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, u128::from(column));
    put_value(&mut out, value);
    out
}

/// Decodes one field by itself.
pub fn decode_field(field: &[u8]) -> Result<(ColumnId, Value), MalformedRow> {
    let mut rest = field;
    let column = take_varint(&mut rest)?
        .try_into()
        .map_err(|_| MalformedRow)?;
    let value = take_value(&mut rest)?;
    if rest.is_empty() {
        Ok((column, value))
    } else {
        Err(MalformedRow)
    }
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(tag::NULL),
        Value::Boolean(false) => out.push(tag::FALSE),
        Value::Boolean(true) => out.push(tag::TRUE),
        Value::SmallInt(v) => put_int(out, tag::SMALL_INT, i128::from(*v)),
        Value::Int(v) => put_int(out, tag::INT, i128::from(*v)),
        Value::BigInt(v) => put_int(out, tag::BIG_INT, i128::from(*v)),
        Value::Float(v) => put_fixed(out, tag::FLOAT, &v.to_be_bytes()),
        Value::Double(v) => put_fixed(out, tag::DOUBLE, &v.to_be_bytes()),
        Value::Decimal { unscaled, scale } => {
            out.push(tag::DECIMAL);
            out.push(*scale);
            put_varint(out, zigzag(*unscaled));
        }
        Value::Text(v) => put_bytes(out, tag::TEXT, v.as_bytes()),
        Value::Timestamp(v) => put_int(out, tag::TIMESTAMP, i128::from(*v)),
        Value::DateTime(v) => put_int(out, tag::DATE_TIME, i128::from(*v)),
        Value::Date(v) => put_int(out, tag::DATE, i128::from(*v)),
        Value::Time(v) => put_int(out, tag::TIME, i128::from(*v)),
        Value::Uuid(v) => put_fixed(out, tag::UUID, v),
        Value::Json(v) => put_bytes(out, tag::JSON, v.as_bytes()),
        Value::Bytes(v) => put_bytes(out, tag::BYTES, v),
        Value::File(v) => put_bytes(out, tag::FILE, v.as_bytes()),
    }
}

fn take_value(rest: &mut &[u8]) -> Result<Value, MalformedRow> {
    let (&kind, after) = rest.split_first().ok_or(MalformedRow)?;
    *rest = after;
    Ok(match kind {
        tag::NULL => Value::Null,
        tag::FALSE => Value::Boolean(false),
        tag::TRUE => Value::Boolean(true),
        tag::SMALL_INT => Value::SmallInt(take_int(rest)?),
        tag::INT => Value::Int(take_int(rest)?),
        tag::BIG_INT => Value::BigInt(take_int(rest)?),
        tag::FLOAT => Value::Float(f32::from_be_bytes(take_fixed(rest)?)),
        tag::DOUBLE => Value::Double(f64::from_be_bytes(take_fixed(rest)?)),
        tag::DECIMAL => {
            let [scale] = take_fixed(rest)?;
            Value::Decimal {
                unscaled: unzigzag(take_varint(rest)?),
                scale,
            }
        }
        tag::TEXT => Value::Text(take_text(rest)?),
        tag::TIMESTAMP => Value::Timestamp(take_int(rest)?),
        tag::DATE_TIME => Value::DateTime(take_int(rest)?),
        tag::DATE => Value::Date(take_int(rest)?),
        tag::TIME => Value::Time(take_int(rest)?),
        tag::UUID => Value::Uuid(take_fixed(rest)?),
        tag::JSON => Value::Json(take_text(rest)?),
        tag::BYTES => Value::Bytes(take_slice(rest)?.to_vec()),
        tag::FILE => Value::File(take_text(rest)?),
        _ => return Err(MalformedRow),
    })
}

fn skip_value(rest: &mut &[u8]) -> Result<(), MalformedRow> {
    let [kind] = take_fixed(rest)?;
    match kind {
        tag::NULL | tag::FALSE | tag::TRUE => {}
        tag::SMALL_INT
        | tag::INT
        | tag::BIG_INT
        | tag::TIMESTAMP
        | tag::DATE_TIME
        | tag::DATE
        | tag::TIME => {
            take_varint(rest)?;
        }
        tag::FLOAT => {
            take_fixed::<4>(rest)?;
        }
        tag::DOUBLE => {
            take_fixed::<8>(rest)?;
        }
        tag::DECIMAL => {
            take_fixed::<1>(rest)?;
            take_varint(rest)?;
        }
        tag::UUID => {
            take_fixed::<16>(rest)?;
        }
        tag::TEXT | tag::JSON | tag::BYTES | tag::FILE => {
            take_slice(rest)?;
        }
        _ => return Err(MalformedRow),
    }
    Ok(())
}

fn put_int(out: &mut Vec<u8>, tag: u8, value: i128) {
    out.push(tag);
    put_varint(out, zigzag(value));
}

fn put_fixed(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(bytes);
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_varint(out, bytes.len() as u128);
    out.extend_from_slice(bytes);
}

fn take_int<T: TryFrom<i128>>(rest: &mut &[u8]) -> Result<T, MalformedRow> {
    unzigzag(take_varint(rest)?)
        .try_into()
        .map_err(|_| MalformedRow)
}

fn take_fixed<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], MalformedRow> {
    let (head, after) = rest.split_first_chunk::<N>().ok_or(MalformedRow)?;
    *rest = after;
    Ok(*head)
}

fn take_slice<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], MalformedRow> {
    let len = take_varint(rest)?.try_into().map_err(|_| MalformedRow)?;
    let (head, after) = rest.split_at_checked(len).ok_or(MalformedRow)?;
    *rest = after;
    Ok(head)
}

fn take_text(rest: &mut &[u8]) -> Result<String, MalformedRow> {
    String::from_utf8(take_slice(rest)?.to_vec()).map_err(|_| MalformedRow)
}

/// Small numbers of either sign become small unsigned numbers.
fn zigzag(value: i128) -> u128 {
    ((value << 1) ^ (value >> 127)) as u128
}

fn unzigzag(value: u128) -> i128 {
    ((value >> 1) as i128) ^ -((value & 1) as i128)
}

/// LEB128: seven bits a byte, least significant first.
fn put_varint(out: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(rest: &mut &[u8]) -> Result<u128, MalformedRow> {
    let mut value = 0_u128;
    for shift in (0..128).step_by(7) {
        let [byte] = take_fixed(rest)?;
        let bits = u128::from(byte & 0x7f);
        // The last group has room for two bits only; more would be lost silently.
        if bits << shift >> shift != bits {
            return Err(MalformedRow);
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(MalformedRow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_columns_are_what_decoding_all_would_give() {
        let values = [
            Value::Null,
            Value::Boolean(true),
            Value::Boolean(false),
            Value::SmallInt(-3),
            Value::Int(i32::MIN),
            Value::BigInt(i64::MAX),
            Value::Float(1.5),
            Value::Double(-2.5),
            Value::Decimal {
                unscaled: i128::MIN,
                scale: 4,
            },
            Value::Text("text".to_owned()),
            Value::Timestamp(-1),
            Value::DateTime(1),
            Value::Date(-7),
            Value::Time(5),
            Value::Uuid([7; 16]),
            Value::Json("{}".to_owned()),
            Value::Bytes(vec![0, 255]),
            Value::File("null".to_owned()),
        ];
        let ids = (0..).map(|i| i * 3 + 1);
        let fields: Vec<(ColumnId, &Value)> = ids.zip(&values).collect();
        let row = encode(1, fields.iter().copied());
        for wanted in 0..64 {
            let mut found = Vec::new();
            decode_columns(&row, &[wanted, 64], |at, value| found.push((at, value)))
                .expect("a row just encoded");
            let expected = fields.iter().find(|(id, _)| *id == wanted);
            assert_eq!(
                found,
                Vec::from_iter(expected.map(|(_, v)| (0, (*v).clone())))
            );
        }
        let mut all = Vec::new();
        let ids: Vec<ColumnId> = fields.iter().map(|(id, _)| *id).collect();
        decode_columns(&row, &ids, |at, value| all.push((ids[at], value))).expect("a row");
        assert_eq!(Ok(all), decode(&row));
    }
}
