//! Room on the disk: what grows, and when nothing may.
//!
//! A node whose file system has less than its reserve free is *full*: it goes on, so that what
//! makes room can be done, until the disk is really full, which ends the process. The leader
//! refuses growth while the voters that have room and answer are no quorum, because then those that
//! are full decide whether the cluster lives; and while it is full itself and can hand its
//! leadership to nobody who is not. See `docs/adr/0003-disk-full.md`.

use std::collections::{BTreeMap, BTreeSet};

use storage::keys::Kind;
use types::command::{Change, Command, CommandKind, Envelope, ExpectationKind, Write};
use types::ids::NodeId;

use crate::rpc::messages::StatusResponse;

/// The room a node has on the file system of its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Free bytes; none: not known.
    pub free_bytes: Option<u64>,
    /// The free bytes below which it is full; none: not known.
    pub reserve_bytes: Option<u64>,
    /// Is it below the node's reserve?
    pub full: bool,
}

impl Disk {
    /// Of a node that has not looked. It counts as having room.
    pub const UNKNOWN: Disk = Disk {
        free_bytes: None,
        reserve_bytes: None,
        full: false,
    };
}

impl From<&StatusResponse> for Disk {
    fn from(answer: &StatusResponse) -> Disk {
        Disk {
            free_bytes: answer.disk_free_bytes,
            reserve_bytes: answer.disk_reserve_bytes,
            full: answer.disk_full,
        }
    }
}

/// Does applying this make the state larger, other than by the records of a step that makes room or
/// keeps the cluster going?
///
/// What grows are rows, index entries and the messages that come with them, and whatever gets a
/// name: namespaces, tables, indexes, topics, users. What does not: deletes (also with the messages
/// they cause), range deletes and the catalog records that change with them, claims and acks, and a
/// node's number.
pub(crate) fn grows(envelope: &Envelope) -> bool {
    let kinds = || envelope.commands.iter().filter_map(kind);
    if kinds().any(|kind| matches!(kind, CommandKind::RegisterNode(_))) {
        return false;
    }
    let absent: BTreeSet<&[u8]> = envelope
        .expectations
        .iter()
        .filter(|expectation| expectation.kind == i32::from(ExpectationKind::Absent))
        .map(|expectation| expectation.key.as_ref())
        .collect();
    kinds().any(|kind| match kind {
        CommandKind::Write(write) => write_grows(write, &absent),
        _ => false,
    })
}

fn kind(command: &Command) -> Option<&CommandKind> {
    command.kind.as_ref()
}

fn write_grows(write: &Write, absent: &BTreeSet<&[u8]>) -> bool {
    let puts = write.changes.iter().filter(|change| change.after.is_some());
    puts.into_iter()
        .any(|Change { key, .. }| match Kind::of(key) {
            Some(Kind::Row | Kind::Index | Kind::UniqueIndex) => true,
            Some(
                Kind::Namespace | Kind::TableName | Kind::TopicName | Kind::IndexName | Kind::User,
            ) => absent.contains(key.as_ref()),
            _ => false,
        })
}

/// What the leader knows of the room there is.
pub(crate) struct Room<'a> {
    /// The leader itself.
    pub leader: NodeId,
    /// Every configuration in force, as voters; a joint membership has two.
    pub voters: Vec<BTreeSet<NodeId>>,
    /// Which voters answer, the leader included.
    pub answering: BTreeSet<NodeId>,
    /// What each node said last.
    pub disks: &'a BTreeMap<NodeId, Disk>,
    /// Who was told to drain, and would hand the leadership on at once.
    pub draining: BTreeSet<NodeId>,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Growth goes on.
    Grow,
    /// The leader is full, and these have room.
    HandOver(NodeId),
    /// Growth is refused.
    Refuse,
}

impl Room<'_> {
    fn is_full(&self, node_id: NodeId) -> bool {
        self.disks.get(&node_id).is_some_and(|disk| disk.full)
    }

    /// What to do. A cluster of which nobody is full is never refused growth, whoever does not
    /// answer: that is for the quorum to show.
    pub(crate) fn verdict(&self) -> Verdict {
        let all = || self.voters.iter().flatten().copied();
        if !all().any(|voter| self.is_full(voter)) {
            return Verdict::Grow;
        }
        let has_room = |voter: &NodeId| self.answering.contains(voter) && !self.is_full(*voter);
        let quorum = self.voters.iter().all(|voters| {
            let with_room = voters.iter().filter(|voter| has_room(voter)).count();
            with_room > voters.len() / 2
        });
        if !quorum {
            return Verdict::Refuse;
        }
        if !self.is_full(self.leader) {
            return Verdict::Grow;
        }
        all()
            .find(|voter| has_room(voter) && !self.draining.contains(voter))
            .map_or(Verdict::Refuse, Verdict::HandOver)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use storage::keys::{catalog, rows};
    use types::command::{Ack, Audit, ClearTopic, DeleteRange, Expectation, RegisterNode};

    use super::*;

    fn envelope(kinds: Vec<CommandKind>, expectations: Vec<Expectation>) -> Envelope {
        Envelope {
            commands: kinds.into_iter().map(Command::from).collect(),
            expectations,
            ..Envelope::default()
        }
    }

    fn change(key: Vec<u8>, after: Option<&'static [u8]>) -> CommandKind {
        CommandKind::Write(Write {
            changes: vec![Change {
                key: key.into(),
                after: after.map(Bytes::from_static),
                event: None,
            }],
            ..Write::default()
        })
    }

    #[test]
    fn rows_and_names_grow_and_what_makes_room_does_not() {
        let row = || rows::table_prefix(7);
        let name = || catalog::table_name(1, "t");
        let put = |key| envelope(vec![change(key, Some(b"v"))], vec![]);
        assert!(grows(&put(row())), "an insert or update");
        let delete = change(row(), None);
        assert!(!grows(&envelope(vec![delete.clone()], vec![])), "a delete");
        let mixed = vec![delete, change(row(), Some(b"v"))];
        assert!(grows(&envelope(mixed, vec![])), "a transaction with both");
        let created = vec![Expectation::absent(name())];
        let create = envelope(vec![change(name(), Some(b"v"))], created);
        assert!(grows(&create), "CREATE TABLE");
        // DROP TOPIC and SET RETENTION write records that were there before.
        assert!(!grows(&put(catalog::topic(1))), "ALTER TOPIC SET RETENTION");
        assert!(!grows(&put(catalog::user("u"))), "ALTER USER");
        let dropped = CommandKind::Write(Write {
            delete_ranges: vec![DeleteRange::default()],
            ..Write::default()
        });
        assert!(!grows(&envelope(vec![dropped], vec![])), "DROP TABLE");
        let others = vec![
            CommandKind::Ack(Ack::default()),
            CommandKind::ClearTopic(ClearTopic::default()),
            CommandKind::Audit(Audit::default()),
        ];
        assert!(!grows(&envelope(others, vec![])));
        let founding = vec![
            CommandKind::RegisterNode(RegisterNode::default()),
            change(catalog::user("root"), Some(b"v")),
        ];
        let new = vec![Expectation::absent(catalog::user("root"))];
        assert!(!grows(&envelope(founding, new)), "a cluster is founded");
    }

    fn verdict(voters: &[&[NodeId]], answering: &[NodeId], full: &[NodeId]) -> Verdict {
        let disk = |id: &NodeId| {
            let full = full.contains(id);
            (
                *id,
                Disk {
                    free_bytes: Some(1),
                    full,
                    ..Disk::UNKNOWN
                },
            )
        };
        let all = voters.iter().flat_map(|voters| voters.iter());
        Room {
            leader: 1,
            voters: voters
                .iter()
                .map(|voters| voters.iter().copied().collect())
                .collect(),
            answering: answering.iter().copied().collect(),
            disks: &all.map(disk).collect(),
            draining: BTreeSet::from([5]),
        }
        .verdict()
    }

    #[test]
    fn growth_needs_a_quorum_with_room() {
        let three: &[&[NodeId]] = &[&[1, 2, 3]];
        assert_eq!(verdict(three, &[1, 2, 3], &[]), Verdict::Grow);
        assert_eq!(verdict(three, &[1, 2, 3], &[3]), Verdict::Grow);
        assert_eq!(verdict(three, &[1, 2, 3], &[2, 3]), Verdict::Refuse);
        assert_eq!(verdict(three, &[1, 2, 3], &[1]), Verdict::HandOver(2));
        assert_eq!(verdict(three, &[1, 2, 3], &[1, 2]), Verdict::Refuse);
        let drained: &[&[NodeId]] = &[&[1, 5, 6]];
        assert_eq!(verdict(drained, &[1, 5, 6], &[1]), Verdict::HandOver(6));
        // With one gone, the full one is needed for every write.
        assert_eq!(verdict(three, &[1, 3], &[3]), Verdict::Refuse);
        assert_eq!(verdict(three, &[1, 2], &[3]), Verdict::Grow);
        // Silence alone is not fullness.
        assert_eq!(verdict(three, &[1], &[]), Verdict::Grow);
        assert_eq!(verdict(&[&[1]], &[1], &[1]), Verdict::Refuse);
        // Both halves of a joint membership need it.
        let joint: &[&[NodeId]] = &[&[1, 2, 3], &[3, 4, 5]];
        assert_eq!(verdict(joint, &[1, 2, 3, 4, 5], &[4, 5]), Verdict::Refuse);
        assert_eq!(verdict(joint, &[1, 2, 3, 4, 5], &[2, 5]), Verdict::Grow);
    }
}
