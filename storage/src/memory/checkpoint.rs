//! The file of an in-memory engine's checkpoint.
//!
//! ```text
//! file := magic (8 bytes) count (u64) pair* crc32 of all before it (u32)
//! pair := key length (u32) key value length (u32) value
//! ```
//! Numbers are big-endian; pairs are in ascending order of key.

use std::fs;
use std::path::Path;

use super::map::Map;
use crate::engine::{Direction, KeyRange};
use crate::error::{Error, Result};
use crate::files::{sync_parent, write_whole};

const FILE: &str = "PAIRS";
const MAGIC: &[u8; 8] = b"DUETMEM1";

/// Writes all of `map` into the new directory `dir`.
pub(super) fn write(map: &Map, dir: &Path) -> Result<()> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&(map.len() as u64).to_be_bytes());
    let all = KeyRange {
        start: Vec::new(),
        end: None,
    };
    for (key, value) in map.range(&all, Direction::Forward) {
        for part in [key, value] {
            let len = u32::try_from(part.len()).map_err(|_| Error::Io {
                operation: "checkpoint",
                message: format!("a key or value of {} bytes is too large", part.len()),
            })?;
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(part);
        }
    }
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());

    fs::create_dir(dir).map_err(|e| Error::io("create", dir, &e))?;
    write_whole(&dir.join(FILE), &bytes)?;
    sync_parent(dir)
}

/// Reads what [`write`] wrote.
pub(super) fn read(dir: &Path) -> Result<Map> {
    let path = dir.join(FILE);
    let bytes = fs::read(&path).map_err(|e| Error::io("read", &path, &e))?;
    parse(&bytes).ok_or_else(|| Error::Corrupt {
        what: format!("{} is damaged or not a checkpoint", path.display()),
    })
}

fn parse(bytes: &[u8]) -> Option<Map> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(body) != u32::from_be_bytes(*crc) {
        return None;
    }
    let mut rest = body.strip_prefix(MAGIC)?;
    let (count, after) = rest.split_first_chunk::<8>()?;
    rest = after;
    let mut map = Map::default();
    for _ in 0..u64::from_be_bytes(*count) {
        let key = take(&mut rest)?;
        let value = take(&mut rest)?;
        map.insert(key, value);
    }
    rest.is_empty().then_some(map)
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, after) = rest.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
    let (part, after) = after.split_at_checked(len)?;
    *rest = after;
    Some(part)
}
