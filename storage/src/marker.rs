//! A small file that remembers how far the log was durable, beside the log itself.
//!
//! RocksDB cannot notice that the end of its last WAL is missing: cut at a record's border, or
//! deleted, it opens as a shorter log. A node that votes with a log it once had is how committed
//! entries get lost. So a lower bound of the durable log index is kept here; a log that ends before
//! it has lost its end. The same of the vote, which is in the same WAL: a node that forgot its vote
//! might give another in the same term.
//!
//! ```text
//! file := slot (4096 bytes) slot (4096 bytes)
//! slot := magic (4 bytes) sequence (u64) index (u64) term (u64) term of the vote (u64)
//!         crc32 of all before it (u32) zeros
//! ```
//! Numbers are big-endian. Writes alternate between the slots, so a torn one leaves the other; the
//! higher sequence counts. A slot never written is all zeros.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use types::ids::{LogIndex, Term};

use crate::error::{Error, Result};
use crate::files::write_whole;

const MAGIC: &[u8; 4] = b"DMK2";
/// Where the second slot starts: no disk writes in larger pieces that may tear as one.
const SLOT_BYTES: usize = 4096;
/// Bytes of a slot that mean something.
const RECORD_BYTES: usize = 40;

/// What of the log was durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durable {
    /// An entry's index.
    pub index: LogIndex,
    /// The term it was proposed in.
    pub term: Term,
    /// The term of the last vote; 0: there was none.
    pub vote_term: Term,
}

/// The open file.
///
/// What it holds is at most what the log holds on its disk: the log is synced before
/// [`record`](Marker::record) and shortened after [`lower`](Marker::lower).
#[derive(Debug)]
pub struct Marker {
    path: PathBuf,
    file: File,
    held: Option<Durable>,
    sequence: u64,
    /// An earlier write failed. What is on the disk is unknown, and a second fsync would not say.
    failed: bool,
}

impl Marker {
    /// Opens the file, or makes it if there is none; with what it holds.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the file is not what was written, save for one torn slot.
    pub fn open(path: &Path) -> Result<(Marker, Option<Durable>)> {
        if !fs::exists(path).map_err(|e| Error::io("open", path, &e))? {
            write_whole(path, &[0; 2 * SLOT_BYTES])?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|e| Error::io("open", path, &e))?;
        let bytes = fs::read(path).map_err(|e| Error::io("read", path, &e))?;
        let (sequence, held) = parse(&bytes).ok_or_else(|| Error::Corrupt {
            what: format!("{} is damaged or not a log marker", path.display()),
        })?;
        let marker = Marker {
            path: path.to_owned(),
            file,
            held,
            sequence,
            failed: false,
        };
        Ok((marker, held))
    }

    /// Raises the bound: the log is durable up to and including `durable.index`, and so is the
    /// vote. Durable on return.
    ///
    /// # Panics
    /// If the index or the vote is below the bound: the log gets shorter only after
    /// [`lower`](Marker::lower), and votes never go back.
    pub fn record(&mut self, durable: Durable) -> Result<()> {
        let held = self.held.unwrap_or_default();
        assert!(
            durable.index >= held.index && durable.vote_term >= held.vote_term,
            "{durable:?} is below the marker's {held:?}"
        );
        self.set(durable)
    }

    /// Lowers the bound to `index`, where it is higher: entries after it are going to be removed.
    /// Durable on return; only then may the log be shortened.
    pub fn lower(&mut self, index: LogIndex, term: Term) -> Result<()> {
        match self.held {
            Some(held) if held.index > index => self.set(Durable {
                index,
                term,
                ..held
            }),
            _ => Ok(()),
        }
    }

    fn set(&mut self, durable: Durable) -> Result<()> {
        if self.failed {
            let message = format!("{}: an earlier write failed", self.path.display());
            return Err(Error::Io {
                operation: "write",
                message,
            });
        }
        if self.held == Some(durable) {
            return Ok(());
        }
        // Stays set if what follows returns early.
        self.failed = true;
        let sequence = self.sequence + 1;
        let offset = if sequence.is_multiple_of(2) {
            0
        } else {
            SLOT_BYTES as u64
        };
        self.file
            .write_all_at(&slot(sequence, durable), offset)
            .map_err(|e| Error::io("write", &self.path, &e))?;
        self.file
            .sync_data()
            .map_err(|e| Error::io("sync", &self.path, &e))?;
        self.sequence = sequence;
        self.held = Some(durable);
        self.failed = false;
        Ok(())
    }
}

fn slot(sequence: u64, durable: Durable) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4..12].copy_from_slice(&sequence.to_be_bytes());
    bytes[12..20].copy_from_slice(&durable.index.to_be_bytes());
    bytes[20..28].copy_from_slice(&durable.term.to_be_bytes());
    bytes[28..36].copy_from_slice(&durable.vote_term.to_be_bytes());
    let crc = crc32fast::hash(&bytes[..36]);
    bytes[36..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// The last sequence and what it recorded; none if the bytes are not a marker.
fn parse(bytes: &[u8]) -> Option<(u64, Option<Durable>)> {
    if bytes.len() != 2 * SLOT_BYTES {
        return None;
    }
    let (first, second) = bytes.split_at(SLOT_BYTES);
    if bytes.iter().all(|byte| *byte == 0) {
        return Some((0, None));
    }
    let newest = [first, second]
        .into_iter()
        .filter_map(parse_slot)
        .max_by_key(|(seq, _)| *seq);
    match newest {
        Some((sequence, durable)) => Some((sequence, Some(durable))),
        // The very first write, torn: the other slot was never used, so nothing was promised.
        None if first.iter().all(|byte| *byte == 0) => Some((0, None)),
        None => None,
    }
}

fn parse_slot(slot: &[u8]) -> Option<(u64, Durable)> {
    let (record, _) = slot.split_first_chunk::<RECORD_BYTES>()?;
    let number = |at: usize| {
        record[at..]
            .first_chunk::<8>()
            .map(|b| u64::from_be_bytes(*b))
    };
    let durable = Durable {
        index: number(12)?,
        term: number(20)?,
        vote_term: number(28)?,
    };
    let sequence = number(4)?;
    (*record == self::slot(sequence, durable)).then_some((sequence, durable))
}
