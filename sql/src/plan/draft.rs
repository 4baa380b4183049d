//! A plan in the making.

use bytes::Bytes;
use prost::Message;
use serde::Serialize;
use storage::keys::catalog as keys;
use storage::{KeyRange, Read};
use types::command::{Audit, Change, Command, CommandKind, DeleteRange, Expectation, Write};
use types::limits::ENVELOPE_MAX_BYTES;
use types::schema::AuditRecord;
use types::{Error, ErrorCode};

use super::Plan;
use crate::answer::Answer;
use crate::catalog::{Found, pinned, versioned};
use crate::failure::Result;
use crate::session::Session;

/// Bytes that an Envelope has beside its expectations and commands: request id, actor, answer
/// under an idempotency key.
const ENVELOPE_OVERHEAD_BYTES: usize = 128 * 1024;

/// Expectations and commands as they are gathered.
#[derive(Default)]
pub(super) struct Draft {
    expectations: Vec<Expectation>,
    write: Write,
    commands: Vec<Command>,
}

impl Draft {
    /// The record must still be the one that was found.
    pub fn pin<T>(&mut self, found: &Found<T>) {
        self.expect(found.pinned());
    }

    pub fn expect(&mut self, expectation: impl IntoIterator<Item = Expectation>) {
        self.expectations.extend(expectation);
    }

    /// Puts a key that must not exist.
    pub fn put_new(&mut self, key: Vec<u8>, value: Vec<u8>) {
        let key = Bytes::from(key);
        self.expectations.push(Expectation::absent(key.clone()));
        self.change(key, Some(value));
    }

    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.change(key, Some(value));
    }

    pub fn delete(&mut self, key: Vec<u8>) {
        self.change(key, None);
    }

    fn change(&mut self, key: impl Into<Bytes>, after: Option<Vec<u8>>) {
        let after = after.map(Bytes::from);
        self.push(Change {
            key: key.into(),
            after,
            event: None,
        });
    }

    pub fn push(&mut self, change: Change) {
        self.write.changes.push(change);
    }

    /// Everything under the prefix goes, before the changes.
    pub fn delete_prefix(&mut self, prefix: &[u8]) {
        let range = KeyRange::prefix(prefix);
        // A prefix of a kind always has an end: kinds are far below the last byte.
        let end = range.end.unwrap_or_default();
        let range = DeleteRange {
            start: range.start.into(),
            end: end.into(),
        };
        self.write.delete_ranges.push(range);
    }

    /// The next number of a counter, given out by this plan.
    pub fn next_id(&mut self, read: &dyn Read, counter: &str) -> Result<u32> {
        let key = keys::counter(counter);
        let last = match read.get(&key)? {
            None => {
                self.expectations.push(Expectation::absent(key.clone()));
                0
            }
            Some(stored) => {
                let (version, last) = versioned(&key, &stored)?;
                self.expect(pinned(&key, version));
                let last = last
                    .first_chunk::<8>()
                    .ok_or_else(|| storage::Error::Corrupt {
                        what: format!("counter {counter} holds no number"),
                    })?;
                u64::from_be_bytes(*last)
            }
        };
        let next = u32::try_from(last + 1).map_err(|_| {
            Error::new(
                ErrorCode::InternalError,
                format!("there are no more {counter} ids"),
            )
        })?;
        self.put(key, u64::from(next).to_be_bytes().to_vec());
        Ok(next)
    }

    pub fn command(&mut self, command: CommandKind) {
        self.commands.push(command.into());
    }

    /// A line for the audit log.
    pub fn audit(&mut self, session: &Session<'_>, entry: AuditEntry<'_>) {
        let record = AuditRecord {
            timestamp: session.now,
            actor_user_id: session.user.to_owned(),
            action: entry.action.to_owned(),
            target: entry.target.to_owned(),
            details: entry.details.to_owned(),
            ip_address: session.ip.map(str::to_owned),
            subject_user_id: entry.subject.map(str::to_owned),
        };
        self.command(CommandKind::Audit(Audit {
            record: json(&record).into(),
        }));
    }

    /// The finished plan: the writes first, then the other commands in order.
    ///
    /// # Errors
    /// `VALUE_TOO_LARGE` if it does not fit an Envelope.
    pub fn into_plan(self, answer: Answer) -> types::Result<Plan> {
        let mut commands = self.commands;
        if !self.write.changes.is_empty() || !self.write.delete_ranges.is_empty() {
            commands.insert(0, CommandKind::Write(self.write).into());
        }
        let plan = Plan {
            expectations: self.expectations,
            commands,
            answer,
            writes: true,
        };
        check_size(&plan.expectations, &plan.commands)?;
        Ok(plan)
    }
}

/// `VALUE_TOO_LARGE` if they do not fit an Envelope together.
fn check_size(expectations: &[Expectation], commands: &[Command]) -> types::Result<()> {
    let bytes = expectations.iter().map(Message::encoded_len).sum::<usize>()
        + commands.iter().map(Message::encoded_len).sum::<usize>();
    within_envelope(bytes)
}

/// `VALUE_TOO_LARGE` if a statement of so many bytes does not fit an Envelope.
pub(super) fn within_envelope(bytes: usize) -> types::Result<()> {
    if bytes + ENVELOPE_OVERHEAD_BYTES <= ENVELOPE_MAX_BYTES {
        return Ok(());
    }
    let message = format!(
        "the statement's changes are larger than a transaction may be ({ENVELOPE_MAX_BYTES} \
         bytes); divide it"
    );
    Err(Error::new(ErrorCode::ValueTooLarge, message))
}

/// What a line of the audit log says beside who and when.
pub(super) struct AuditEntry<'a> {
    pub action: &'a str,
    pub target: &'a str,
    pub details: &'a str,
    /// As whom, or on whom.
    pub subject: Option<&'a str>,
}

/// A catalog record as it is stored.
pub(super) fn json<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).expect("catalog records have string keys only, so they serialize")
}
