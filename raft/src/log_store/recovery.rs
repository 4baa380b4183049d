//! Opens a log: reads all of it once and refuses what is not as it was written.

use bytes::Bytes;
use storage::keys::log as keys;
use storage::{Direction, Error, Read, Result};
use types::ids::LogIndex;

use super::marker::Promise;
use super::memory::{Growth, LogMemory};
use super::records;
use crate::codec;
use crate::type_config::{LogEntry, LogId};

/// What the log holds, after every entry's checksum and place were found right.
pub(super) fn recover(read: &dyn Read, promise: Option<Promise>) -> Result<LogMemory> {
    let vote = small_value(read, &keys::vote(), "vote", records::decode_vote)?;
    let committed = position(read, &keys::committed(), "committed position")?;
    let purged = position(read, &keys::purged(), "purged position")?;

    let mut growth = Growth::default();
    let mut last = purged;
    let mut at_promise = purged;
    let first = purged.map_or(0, |id| id.index + 1);
    let stored = read.scan(&keys::all_entries(), Direction::Forward);
    for (expected, pair) in (first..).zip(stored) {
        let (key, record) = pair?;
        growth.add(expected, record.len() as u64);
        let entry = checked_entry(&key, &Bytes::from(record), expected)?;
        if promise
            .as_ref()
            .is_some_and(|promise| promise.index == expected)
        {
            at_promise = Some(entry.log_id);
        }
        last = Some(entry.log_id);
    }
    if let Some(promise) = promise {
        check_promise(&promise, last, at_promise)?;
    }
    Ok(LogMemory::new(vote, committed, purged, last, growth))
}

/// Decodes an entry that must be the one with index `expected`.
pub(super) fn checked_entry(key: &[u8], record: &Bytes, expected: LogIndex) -> Result<LogEntry> {
    let corrupt = |what: String| Error::Corrupt {
        what: format!("log entry {expected}: {what}"),
    };
    let index = keys::split_entry(key).map_err(|error| corrupt(error.to_string()))?;
    let entry = codec::decode(record).map_err(|error| corrupt(error.to_string()))?;
    if index != expected || entry.log_id.index != expected {
        return Err(corrupt(format!(
            "found entry {} under {index} instead",
            entry.log_id
        )));
    }
    Ok(entry)
}

/// A log shorter than its marker promises had entries that this node may have acknowledged.
fn check_promise(promise: &Promise, last: Option<LogId>, at_promise: Option<LogId>) -> Result<()> {
    let Promise { index, term } = promise;
    if last.is_none_or(|last| last.index < *index) {
        let ends = last.map_or("is empty".into(), |last| {
            format!("ends at entry {}", last.index)
        });
        return Err(Error::Corrupt {
            what: format!(
                "the log {ends}, but its entry {index} was once durable: its end was lost. This \
                 node must not vote again; remove it from the cluster and join with a new number"
            ),
        });
    }
    match at_promise {
        Some(id) if id.index == *index && id.leader_id.term != *term => Err(Error::Corrupt {
            what: format!("log entry {id} was once durable with term {term}"),
        }),
        _ => Ok(()),
    }
}

fn position(read: &dyn Read, key: &[u8], name: &str) -> Result<Option<LogId>> {
    small_value(read, key, name, records::decode_position)
}

fn small_value<T>(
    read: &dyn Read,
    key: &[u8],
    name: &str,
    decode: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<Option<T>> {
    let Some(bytes) = read.get(key)? else {
        return Ok(None);
    };
    let corrupt = || Error::Corrupt {
        what: format!("the log's {name} is damaged"),
    };
    decode(&bytes).map(Some).ok_or_else(corrupt)
}
