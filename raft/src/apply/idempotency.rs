//! Answers under idempotency keys, so that a request sent twice happens once.
//!
//! A key's scope is actor, key and ordinal of the statement. What happened is stored with a hash of
//! the request; rejections are not stored, so the same request may be tried again. Keys expire by
//! the log's wall clock, [`IDEMPOTENCY_KEEP_MS`] after they were stored, and every Envelope with a
//! key removes some expired ones: more than it adds, so they never pile up.

use bytes::Bytes;
use prost::Message;
use storage::keys::{Kind, meta, topics as keys};
use storage::{Batch, Direction, Error, KeyRange, Read};
use types::command::Idempotency;
use types::ids::{LogIndex, WallTimeUs};
use types::limits::{IDEMPOTENCY_KEEP_MS, IDEMPOTENCY_SWEEP_MAX};
use types::outcome::{AppendedRange, CommandResult, Outcome, Rejection, Replayed};

use super::Place;

/// What is stored under a key.
#[derive(Clone, PartialEq, Message)]
pub struct Remembered {
    /// SHA-256 of the request.
    #[prost(bytes = "bytes", tag = "1")]
    pub request_hash: Bytes,
    /// The entry it happened in.
    #[prost(uint64, tag = "2")]
    pub index: LogIndex,
    /// The planned answer; empty if it was too large.
    #[prost(bytes = "bytes", tag = "3")]
    pub answer: Bytes,
    /// The messages it caused.
    #[prost(message, repeated, tag = "4")]
    pub messages: Vec<AppendedRange>,
    /// When it happened, by the log's wall clock.
    #[prost(int64, tag = "5")]
    pub wall_time: WallTimeUs,
}

impl Remembered {
    /// What a request with this hash gets.
    pub fn answer_to(&self, request_hash: &[u8]) -> Outcome {
        if self.request_hash != request_hash {
            return Outcome::Rejected(Rejection::KeyReused);
        }
        Outcome::Replayed(Replayed {
            index: self.index,
            answer: self.answer.clone(),
            messages: self.messages.clone(),
        })
    }
}

/// What is stored under a key and not expired at `now`. For planners too, which answer from it what
/// they would otherwise plan again.
pub fn lookup(
    read: &dyn Read,
    actor: &str,
    key: &str,
    ordinal: u32,
    now: WallTimeUs,
) -> storage::Result<Option<Remembered>> {
    let stored = load(read, &keys::idempotency(actor, key, ordinal))?;
    Ok(stored.filter(|stored| !expired(stored.wall_time, now)))
}

/// The outcome of an Envelope whose key is taken; none if it has to be applied.
pub(super) fn recall(
    read: &dyn Read,
    actor: &str,
    idempotency: &Idempotency,
    now: WallTimeUs,
) -> storage::Result<Option<Outcome>> {
    let Idempotency {
        key,
        ordinal,
        request_hash,
        ..
    } = idempotency;
    let stored = lookup(read, actor, key, *ordinal, now)?;
    Ok(stored.map(|stored| stored.answer_to(request_hash)))
}

/// Stores what happened, in the place of an expired record of the same key, and removes some other
/// expired ones.
pub(super) fn remember(
    batch: &mut Batch,
    place: Place,
    actor: &str,
    idempotency: &Idempotency,
    results: &[CommandResult],
) -> storage::Result<()> {
    let Idempotency {
        key,
        ordinal,
        request_hash,
        answer,
    } = idempotency;
    let record_key = keys::idempotency(actor, key, *ordinal);
    if let Some(old) = load(batch, &record_key)? {
        // Or its age would remove the new record.
        batch.delete(keys::idempotency_age(old.wall_time, actor, key, *ordinal));
    }
    let record = Remembered {
        request_hash: request_hash.clone(),
        index: place.index,
        answer: answer.clone(),
        messages: results.iter().flat_map(written).cloned().collect(),
        wall_time: place.wall_time,
    };
    batch.put(record_key, record.encode_to_vec());
    let age_key = keys::idempotency_age(place.wall_time, actor, key, *ordinal);
    let swept = batch.get(&meta::idempotency_swept())?;
    if swept.is_some_and(|swept| age_key < swept) {
        // The log's wall clock does not run back, but nothing here depends on it.
        batch.put(meta::idempotency_swept(), age_key.clone());
    }
    batch.put(age_key, Vec::new());
    sweep(batch, place.wall_time)
}

fn written(result: &CommandResult) -> &[AppendedRange] {
    match result {
        CommandResult::Written(ranges) => ranges,
        CommandResult::NothingToClaim
        | CommandResult::Granted(_)
        | CommandResult::Acknowledged { .. }
        | CommandResult::Extended { .. }
        | CommandResult::NodeRegistered(_)
        | CommandResult::Done => &[],
    }
}

/// Removes the oldest expired records, [`IDEMPOTENCY_SWEEP_MAX`] at most. The next sweep begins
/// where this one ends: what was removed stays in the engine for a while, and every Envelope with a
/// key would read all of it again.
fn sweep(batch: &mut Batch, now: WallTimeUs) -> storage::Result<()> {
    let mut ages = KeyRange::prefix(&Kind::IdempotencyAge.prefix());
    if let Some(swept) = batch.get(&meta::idempotency_swept())? {
        ages.start = swept;
    }
    let oldest: Vec<_> = batch
        .scan(&ages, Direction::Forward)
        .take(IDEMPOTENCY_SWEEP_MAX)
        .collect::<storage::Result<_>>()?;
    let mut swept = None;
    for (age_key, _) in oldest {
        let (at, record_key) =
            keys::split_idempotency_age(&age_key).map_err(|error| Error::Corrupt {
                what: format!("an idempotency key: {error}"),
            })?;
        if !expired(at, now) {
            break;
        }
        batch.delete(age_key.clone());
        batch.delete(record_key);
        swept = Some(age_key);
    }
    if let Some(mut last) = swept {
        // The first key after it.
        last.push(0);
        batch.put(meta::idempotency_swept(), last);
    }
    Ok(())
}

fn load(read: &dyn Read, record_key: &[u8]) -> storage::Result<Option<Remembered>> {
    let Some(bytes) = read.get(record_key)? else {
        return Ok(None);
    };
    Remembered::decode(Bytes::from(bytes))
        .map(Some)
        .map_err(|error| Error::Corrupt {
            what: format!("an idempotency record: {error}"),
        })
}

fn expired(stored: WallTimeUs, now: WallTimeUs) -> bool {
    let keep_us = i64::try_from(IDEMPOTENCY_KEEP_MS * 1000).unwrap_or(i64::MAX);
    now.saturating_sub(stored) >= keep_us
}
