//! Opens a log: reads all of it once and refuses what is not as it was written.

use bytes::Bytes;
use storage::keys::log as keys;
use storage::{Direction, Error, Read, Result};
use types::ids::{LogIndex, Term};

use super::marker::{Promise, PromisedEntry};
use super::memory::{Growth, LogMemory};
use super::records;
use crate::codec;
use crate::type_config::{LogEntry, LogId, Vote};

/// What the log holds, after every entry's checksum and place were found right.
pub(super) fn recover(read: &dyn Read, promise: &Promise) -> Result<LogMemory> {
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
            .entry
            .as_ref()
            .is_some_and(|promised| promised.index == expected)
        {
            at_promise = Some(entry.log_id);
        }
        last = Some(entry.log_id);
    }
    if let Some(promised) = &promise.entry {
        check_promise(promised, last, at_promise)?;
    }
    check_vote(promise.vote_term, vote, last)?;
    let committed = committed.and_then(|committed| within(committed, last));
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
fn check_promise(
    promised: &PromisedEntry,
    last: Option<LogId>,
    at_promise: Option<LogId>,
) -> Result<()> {
    let PromisedEntry { index, term } = promised;
    if last.is_none_or(|last| last.index < *index) {
        let ends = last.map_or("is empty".into(), |last| {
            format!("ends at entry {}", last.index)
        });
        return Err(Error::Corrupt {
            what: format!(
                "the log {ends}, but its entry {index} was once durable: its end was lost. This \
                 node must not vote again"
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

/// A node that forgot its vote might give another one in the same term, and two leaders could be
/// elected in it. No entry is of a later term than the vote: the vote is saved first.
fn check_vote(promised: Term, vote: Option<Vote>, last: Option<LogId>) -> Result<()> {
    let term = vote.map(|vote| vote.leader_id.term);
    let written = last.filter(|_| term.is_some()).map(|id| id.leader_id.term);
    let known = written.unwrap_or(0).max(promised);
    if term.unwrap_or(0) >= known {
        return Ok(());
    }
    let voted = term.map_or("holds no vote".into(), |term| {
        format!("holds a vote of term {term}")
    });
    Err(Error::Corrupt {
        what: format!(
            "the log {voted}, but this node once voted in term {known}: its vote was lost. This \
             node must not vote again"
        ),
    })
}

/// The committed position as far as this log can tell. Builds before the first release could write
/// it ahead of the log, which consensus cannot start from. It is a lower bound, so a lower one is
/// as right; but the log's end is one only where it is of the same leadership: another's may have
/// been replaced.
fn within(committed: LogId, last: Option<LogId>) -> Option<LogId> {
    match last {
        Some(last) if committed.index <= last.index => Some(committed),
        last => {
            tracing::warn!(%committed, ?last, "the committed position is ahead of the log");
            last.filter(|last| last.leader_id == committed.leader_id)
        }
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
