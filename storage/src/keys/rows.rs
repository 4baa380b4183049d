//! Keys of rows and of their index entries.

use types::ids::{IndexId, TableId};
use types::value::Value;

use super::Kind;
use super::encoding::{MalformedKey, put_bytes, put_value, take_fixed, take_name, take_u32};

/// A row. `owner` is the user for USER and STREAM tables.
pub fn row<'a>(
    table: TableId,
    owner: Option<&str>,
    primary_key: impl IntoIterator<Item = &'a Value>,
) -> Vec<u8> {
    let mut key = owner_prefix(table, owner);
    for value in primary_key {
        put_value(&mut key, value);
    }
    key
}

/// All rows of a table.
pub fn table_prefix(table: TableId) -> Vec<u8> {
    let mut key = Kind::Row.prefix();
    key.extend_from_slice(&table.to_be_bytes());
    key
}

/// All rows of one owner; all rows of a SHARED table.
pub fn owner_prefix(table: TableId, owner: Option<&str>) -> Vec<u8> {
    let mut key = table_prefix(table);
    put_owner(&mut key, owner);
    key
}

/// The parts of a row's key: table, owner and the encoded primary key.
pub fn split_row(key: &[u8]) -> Result<(TableId, Option<String>, &[u8]), MalformedKey> {
    let mut rest = key
        .strip_prefix(Kind::Row.prefix().as_slice())
        .ok_or(MalformedKey)?;
    let table = take_u32(&mut rest)?;
    let owner = match take_fixed(&mut rest)? {
        [0] => None,
        [1] => Some(take_name(&mut rest)?),
        _ => return Err(MalformedKey),
    };
    Ok((table, owner, rest))
}

/// An entry of an index. For a UNIQUE index whose values are all non-null the entry's key ends with
/// the values, so that a second row with them meets the first; otherwise the encoded primary key
/// follows. The entry's value is the encoded primary key.
pub fn index_entry<'a>(
    table: TableId,
    index: IndexId,
    unique: bool,
    owner: Option<&str>,
    values: impl IntoIterator<Item = &'a Value>,
    encoded_primary_key: &[u8],
) -> Vec<u8> {
    let kind = if unique {
        Kind::UniqueIndex
    } else {
        Kind::Index
    };
    let mut key = index_prefix(kind, table, index);
    put_owner(&mut key, owner);
    let mut any_null = false;
    for value in values {
        any_null |= value.is_null();
        put_value(&mut key, value);
    }
    if !unique || any_null {
        key.extend_from_slice(encoded_primary_key);
    }
    key
}

/// All entries of an index; `kind` is [`Kind::Index`] or [`Kind::UniqueIndex`].
pub fn index_prefix(kind: Kind, table: TableId, index: IndexId) -> Vec<u8> {
    let mut key = index_table_prefix(kind, table);
    key.extend_from_slice(&index.to_be_bytes());
    key
}

/// All index entries of a table; `kind` is [`Kind::Index`] or [`Kind::UniqueIndex`].
pub fn index_table_prefix(kind: Kind, table: TableId) -> Vec<u8> {
    let mut key = kind.prefix();
    key.extend_from_slice(&table.to_be_bytes());
    key
}

fn put_owner(key: &mut Vec<u8>, owner: Option<&str>) {
    match owner {
        None => key.push(0),
        Some(name) => {
            key.push(1);
            put_bytes(key, name.as_bytes());
        }
    }
}
