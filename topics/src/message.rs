//! A message as it is stored.
//!
//! ```text
//! message := form (u8, 1) renderer (u8) op (u8) payload mode (u8)
//!            log index (u64) ordinal (u32) wall time (i64, µs) table id (u32)
//!            user (length, bytes) message key (length, bytes)
//!            before (image) after (image)
//!            chain (u64)
//!            crc32 (u32) over the key in the state and all of the above
//! image   := 0, or length + 1 and the row as in `types::row`
//! length  := varint (LEB128); fixed numbers are big-endian
//! ```
//! The images are what the payload mode needs: after the change; for DELETE before it; both for the
//! diff of an UPDATE. The checksum covers the key, so bytes that turn up at another offset are
//! found as well. It is checked whenever a message is decoded.
//!
//! The chain is a hash over the chain of the message before and all of this one up to there: nodes
//! that have the same value at an offset have the same messages from the first one to this.

use prost::encoding::{decode_varint, encode_varint};
use storage::{Error, chain};
use types::ids::{TableId, Version, WallTimeUs};
use types::schema::{PayloadMode, RowOp};

/// The form this build writes.
const FORM: u8 = 1;
/// Bytes before the user.
const FIXED_LEN: usize = 4 + Version::LEN + 8 + 4;
const CHAIN_LEN: usize = 8;
const CRC_LEN: usize = 4;

/// A message's parts, borrowed from its stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Which renderer makes its payload.
    pub renderer: u8,
    /// What happened to the row.
    pub op: RowOp,
    /// What the payload shows of it.
    pub payload: PayloadMode,
    /// Where in the log it was made.
    pub version: Version,
    /// When, by the entry's wall clock; never less than an earlier message of the partition.
    pub wall_time: WallTimeUs,
    /// The row's table.
    pub table_id: TableId,
    /// The row's owner; empty for SHARED tables.
    pub user: &'a str,
    /// The primary key's value as text.
    pub key: &'a str,
    /// The row before the change, where the payload needs it.
    pub before: Option<&'a [u8]>,
    /// The row after the change, where the payload needs it.
    pub after: Option<&'a [u8]>,
    /// The partition's chain up to and including this message.
    pub chain: u64,
}

impl Message<'_> {
    /// The bytes to store under `storage_key`.
    pub fn encode(&self, storage_key: &[u8]) -> Vec<u8> {
        seal(storage_key, self.body(), self.chain)
    }

    /// The same of a message that comes after one whose chain is `before`; sets its own.
    pub fn encode_after(&mut self, storage_key: &[u8], before: u64) -> Vec<u8> {
        let body = self.body();
        self.chain = chain::link(before, &[&body]);
        seal(storage_key, body, self.chain)
    }

    fn body(&self) -> Vec<u8> {
        let image_len = |image: Option<&[u8]>| image.map_or(1, |image| image.len() + 5);
        let mut out = Vec::with_capacity(
            FIXED_LEN
                + CHAIN_LEN
                + CRC_LEN
                + self.user.len()
                + self.key.len()
                + 10
                + image_len(self.before)
                + image_len(self.after),
        );
        out.extend_from_slice(&[FORM, self.renderer, self.op as u8, self.payload as u8]);
        out.extend_from_slice(&self.version.to_bytes());
        out.extend_from_slice(&self.wall_time.to_be_bytes());
        out.extend_from_slice(&self.table_id.to_be_bytes());
        put_slice(&mut out, self.user.as_bytes());
        put_slice(&mut out, self.key.as_bytes());
        put_image(&mut out, self.before);
        put_image(&mut out, self.after);
        out
    }

    /// When it was made, in ms since 1970.
    pub fn timestamp_ms(&self) -> i64 {
        self.wall_time.div_euclid(1_000)
    }
}

/// Checks and decodes what is stored under `storage_key`.
///
/// # Errors
/// [`Error::Corrupt`] if the bytes are not what was written there, [`Error::Foreign`] if a newer
/// version wrote them.
pub fn decode<'a>(storage_key: &[u8], stored: &'a [u8]) -> storage::Result<Message<'a>> {
    let (body, crc) = stored
        .split_last_chunk::<CRC_LEN>()
        .ok_or_else(|| corrupt(storage_key))?;
    if checksum(storage_key, body) != u32::from_be_bytes(*crc) {
        return Err(corrupt(storage_key));
    }
    if body.first() != Some(&FORM) {
        return Err(Error::Foreign {
            what: format!("message {storage_key:02x?} is of a form that a newer version wrote"),
        });
    }
    parse(&body[1..]).ok_or_else(|| corrupt(storage_key))
}

/// The parts after the form; `None` if they don't add up.
fn parse(mut rest: &[u8]) -> Option<Message<'_>> {
    let [renderer, op, payload] = take(&mut rest)?;
    let (version, mut rest) = Version::split(rest)?;
    let rest = &mut rest;
    let message = Message {
        renderer,
        op: RowOp::try_from(i32::from(op)).ok()?,
        payload: PayloadMode::try_from(i32::from(payload)).ok()?,
        version,
        wall_time: i64::from_be_bytes(take(rest)?),
        table_id: u32::from_be_bytes(take(rest)?),
        user: take_str(rest)?,
        key: take_str(rest)?,
        before: take_image(rest)?,
        after: take_image(rest)?,
        chain: u64::from_be_bytes(take(rest)?),
    };
    rest.is_empty().then_some(message)
}

fn seal(storage_key: &[u8], mut body: Vec<u8>, chain: u64) -> Vec<u8> {
    body.extend_from_slice(&chain.to_be_bytes());
    let crc = checksum(storage_key, &body);
    body.extend_from_slice(&crc.to_be_bytes());
    body
}

fn checksum(storage_key: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(storage_key);
    hasher.update(body);
    hasher.finalize()
}

fn corrupt(storage_key: &[u8]) -> Error {
    Error::Corrupt {
        what: format!("message {storage_key:02x?} is not what was written there"),
    }
}

fn put_slice(out: &mut Vec<u8>, bytes: &[u8]) {
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn put_image(out: &mut Vec<u8>, image: Option<&[u8]>) {
    match image {
        None => out.push(0),
        Some(image) => {
            encode_varint(image.len() as u64 + 1, out);
            out.extend_from_slice(image);
        }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*head)
}

fn take_len<'a>(rest: &mut &'a [u8], len: u64) -> Option<&'a [u8]> {
    let (head, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = after;
    Some(head)
}

fn take_str<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let len = decode_varint(rest).ok()?;
    std::str::from_utf8(take_len(rest, len)?).ok()
}

/// The outer `None` is damage, the inner one an image that is not there.
fn take_image<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match decode_varint(rest).ok()? {
        0 => Some(None),
        len_plus_one => take_len(rest, len_plus_one - 1).map(Some),
    }
}
