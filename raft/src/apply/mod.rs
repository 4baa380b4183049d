//! What an entry does to the state. Pure and synchronous: entry and state in, changes and outcomes
//! out, the same on every node. No clock, no randomness, no order but that of the entry.
//!
//! An entry is a list of Envelopes, each applied as if it were alone: its idempotency key is looked
//! up, its expectations are checked against the state so far, its commands run in order. One that
//! is rejected leaves no trace. One file a family of commands:
//!
//! - [`write`]: keys, and the messages row changes cause
//! - [`groups`]: claims, acks and the like; topics cleared and cut
//! - [`nodes`]: numbers for nodes
//! - [`audit`]: lines of the audit log
//! - [`idempotency`]: what happened already is not done again
//!
//! There are two ways to fail, and the types keep them apart: a [`Rejection`] is an answer, the
//! same on every node; an [`ApplyFailure`] is the end of this node.

mod audit;
mod groups;
pub mod idempotency;
mod nodes;
mod write;

use std::collections::BTreeSet;

use bytes::Bytes;
use storage::{Batch, Direction, KeyRange, Read};
use topics::ApplyContext;
use types::command::{
    APPLY_VERSION, Command, CommandKind, Entry, Envelope, Expectation, ExpectationKind,
};
use types::ids::{LeaseTimeMs, LogIndex, NodeId, Version, WallTimeUs};
use types::outcome::{Applied, CommandResult, Outcome, Rejection};

use crate::type_config::UndecodableProposal;

/// Why this node can apply nothing any more. It has to stop, and never skips an entry.
#[derive(Debug, thiserror::Error)]
pub enum ApplyFailure {
    /// The state could not be read, or is not what was written.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The entry is not one of this version's.
    #[error("log entry {index}: {source}")]
    Undecodable {
        /// The entry.
        index: LogIndex,
        /// What is wrong with it.
        source: UndecodableProposal,
    },
    /// The entry was made for a newer build.
    #[error("log entry {index} needs version {needs} of apply; this build has {APPLY_VERSION}")]
    NewerVersion {
        /// The entry.
        index: LogIndex,
        /// What it needs.
        needs: u32,
    },
    /// It is not the one after the last that was applied: something is missing, or comes twice.
    #[error("log entry {index} does not follow entry {last}, the last one applied")]
    OutOfOrder {
        /// The entry.
        index: LogIndex,
        /// The last one applied.
        last: LogIndex,
    },
    /// A command or expectation of a kind this build does not know.
    #[error("log entry {index} holds a {what} of a kind this build does not know")]
    Unknown {
        /// The entry.
        index: LogIndex,
        /// What it is.
        what: &'static str,
    },
    /// This node's state is not what the other nodes made of the same entries.
    #[error(
        "this node's state has diverged: at entry {index} its digest is {own:016x}, and that of a \
         majority is {digest:016x}. Remove this node from the cluster and join with an empty \
         directory"
    )]
    Diverged {
        /// The entry at which they were compared.
        index: LogIndex,
        /// This node's digest.
        own: u64,
        /// The majority's.
        digest: u64,
    },
}

/// The place in the log that is being applied.
#[derive(Clone, Copy, Debug)]
struct Place {
    index: LogIndex,
    lease_time: LeaseTimeMs,
    wall_time: WallTimeUs,
    /// Of the next change or command, counted over the whole entry. Rejected ones count too.
    ordinal: u32,
}

impl Place {
    /// The next change's or command's own place.
    fn step(&mut self) -> ApplyContext {
        let version = Version {
            index: self.index,
            ordinal: self.ordinal,
        };
        self.ordinal += 1;
        ApplyContext {
            version,
            lease_time: self.lease_time,
            wall_time: self.wall_time,
        }
    }
}

/// Applies an entry to `batch`. `members` are the nodes of the membership in force at the entry.
/// One outcome for each Envelope, in order.
pub fn apply_entry(
    batch: &mut Batch,
    index: LogIndex,
    entry: &Entry,
    members: &BTreeSet<NodeId>,
) -> Result<Vec<Outcome>, ApplyFailure> {
    if entry.apply_version > APPLY_VERSION {
        return Err(ApplyFailure::NewerVersion {
            index,
            needs: entry.apply_version,
        });
    }
    let mut place = Place {
        index,
        lease_time: entry.lease_time,
        wall_time: entry.wall_time,
        ordinal: 0,
    };
    let apply = |envelope| apply_envelope(batch, &mut place, envelope, members);
    entry.envelopes.iter().map(apply).collect()
}

fn apply_envelope(
    batch: &mut Batch,
    place: &mut Place,
    envelope: &Envelope,
    members: &BTreeSet<NodeId>,
) -> Result<Outcome, ApplyFailure> {
    if let Some(idempotency) = &envelope.idempotency {
        let wall_time = place.wall_time;
        if let Some(known) = idempotency::recall(batch, &envelope.actor, idempotency, wall_time)? {
            return Ok(known);
        }
    }
    if let Some(key) = first_miss(batch, place.index, &envelope.expectations)? {
        return Ok(Outcome::Rejected(Rejection::Stale { key }));
    }
    // A savepoint costs a copy of each key; most Envelopes cannot be refused any more.
    let savepoint = envelope
        .commands
        .iter()
        .any(may_refuse)
        .then(|| batch.savepoint());
    let mut results = Vec::with_capacity(envelope.commands.len());
    for (number, command) in envelope.commands.iter().enumerate() {
        match run(batch, place, command, members)? {
            Ok(result) => results.push(result),
            Err(error) => {
                if let Some(savepoint) = savepoint {
                    batch.rollback(savepoint);
                }
                return Ok(Outcome::Rejected(Rejection::Refused {
                    command: number,
                    error,
                }));
            }
        }
    }
    if let Some(savepoint) = savepoint {
        batch.release(savepoint);
    }
    if let Some(idempotency) = &envelope.idempotency {
        idempotency::remember(batch, *place, &envelope.actor, idempotency, &results)?;
    }
    Ok(Outcome::Applied(Applied {
        index: place.index,
        results,
    }))
}

/// The key of the first expectation that does not hold.
fn first_miss(
    read: &dyn Read,
    index: LogIndex,
    expectations: &[Expectation],
) -> Result<Option<Bytes>, ApplyFailure> {
    for expectation in expectations {
        let kind = ExpectationKind::try_from(expectation.kind).map_err(|_unknown| {
            ApplyFailure::Unknown {
                index,
                what: "expectation",
            }
        })?;
        let key = &expectation.key;
        let holds = match kind {
            ExpectationKind::Version => {
                let expected = Version {
                    index: expectation.version_index,
                    ordinal: expectation.version_ordinal,
                };
                let stored = read.get(key)?;
                stored.is_some_and(|value| starts_with_version(&value, expected))
            }
            ExpectationKind::Absent => read.get(key)?.is_none(),
            ExpectationKind::Exists => read.get(key)?.is_some(),
            ExpectationKind::PrefixEmpty => read
                .scan(&KeyRange::prefix(key), Direction::Forward)
                .next()
                .transpose()?
                .is_none(),
            ExpectationKind::PrefixUnchanged => is_unchanged(read, expectation)?,
        };
        if !holds {
            return Ok(Some(key.clone()));
        }
    }
    Ok(None)
}

/// Are there as many keys under the prefix as expected, and none with a newer value?
fn is_unchanged(read: &dyn Read, expectation: &Expectation) -> Result<bool, ApplyFailure> {
    let mut count = 0;
    for pair in read.scan(&KeyRange::prefix(&expectation.key), Direction::Forward) {
        let (_, value) = pair?;
        let is_newer = Version::split(&value)
            .is_none_or(|(version, _)| version.index > expectation.version_index);
        count += 1;
        if is_newer || count > expectation.count {
            return Ok(false);
        }
    }
    Ok(count == expectation.count)
}

fn starts_with_version(value: &[u8], expected: Version) -> bool {
    Version::split(value).is_some_and(|(version, _)| version == expected)
}

/// Can a command of this kind be refused, so that those before it have to be undone? Must hold for
/// every kind whose arm in [`run`] can give an `Err`; one more costs time only.
fn may_refuse(command: &Command) -> bool {
    !matches!(
        command.kind,
        Some(CommandKind::Write(_) | CommandKind::Audit(_) | CommandKind::CompareDigest(_))
    )
}

fn run(
    batch: &mut Batch,
    place: &mut Place,
    command: &Command,
    members: &BTreeSet<NodeId>,
) -> Result<types::Result<CommandResult>, ApplyFailure> {
    use CommandKind::*;
    let Some(kind) = &command.kind else {
        return Err(ApplyFailure::Unknown {
            index: place.index,
            what: "command",
        });
    };
    Ok(match kind {
        Write(write) => Ok(write::run(batch, place, write)?),
        Audit(audit) => Ok(audit::run(batch, place.step(), audit)),
        RegisterNode(register) => nodes::register(batch, register, members)?,
        Claim(claim) => groups::claim(batch, place.step(), claim)?,
        Ack(ack) => groups::ack(batch, place.step(), ack)?,
        Nack(nack) => groups::nack(batch, place.step(), nack)?,
        Extend(extend) => groups::extend(batch, place.step(), extend)?,
        Release(release) => groups::release(batch, place.step(), release)?,
        Reset(reset) => groups::reset(batch, place.step(), reset)?,
        ClearTopic(clear) => Ok(groups::clear(batch, clear)?),
        Retain(retain) => Ok(groups::retain(batch, retain)?),
        // Whether this node goes on is the state machine's question; the state stays as it is.
        CompareDigest(_) => Ok(CommandResult::Done),
    })
}
