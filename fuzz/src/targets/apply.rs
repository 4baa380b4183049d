//! Entries that decode, applied one after the other: each has an outcome or ends the node in an
//! orderly way.

use std::sync::Arc;

use prost::Message;
use raft::apply::apply_entry;
use storage::keys::rows;
use storage::memory::MemoryEngine;
use storage::{Batch, Engine, Snapshot};
use types::command::{
    APPLY_VERSION, Ack, Change, Claim, Command, CommandKind, Entry, Envelope, Extend, Nack,
    Position, Release, ResetGroup, Retain, RouteTarget, RowEvent, Write,
};
use types::outcome::Outcome;
use types::schema::{PayloadMode, RowOp};
use types::value::Value;

/// A planner takes the number of a topic's partitions from its definition, where it has a bound.
const PARTITIONS_MAX: u32 = 16;

/// Two entries, so that the second meets what the first left. The same on every node: done twice,
/// it is the same. What is rejected leaves nothing.
pub fn run(data: &[u8]) {
    let (first, second) = data.split_at(data.len() / 2);
    let Ok(all) = Entry::decode(data) else {
        if let (Ok(first), Ok(second)) = (Entry::decode(first), Entry::decode(second)) {
            both(vec![first, second]);
        }
        return;
    };
    both(vec![all.clone(), all]);
}

fn both(mut entries: Vec<Entry>) {
    entries.iter_mut().for_each(bound);
    let once = apply_all(&entries);
    let again = apply_all(&entries);
    assert_eq!(once, again);
}

/// Outcomes and digest; none from where a node would end.
fn apply_all(entries: &[Entry]) -> (Vec<Outcome>, u64) {
    let mut state: Arc<dyn Snapshot> = MemoryEngine::new().snapshot();
    let (mut all, mut digest) = (Vec::new(), 0);
    for (index, entry) in (1..).zip(entries) {
        let mut batch = Batch::with_digest(Arc::clone(&state), digest);
        let members = [1, 2].into();
        match apply_entry(&mut batch, index, entry, &members) {
            Ok(outcomes) => all.extend(outcomes),
            Err(_) => return (all, digest),
        }
        digest = batch.digest();
        state = Arc::new(batch);
    }
    (all, digest)
}

fn bound(entry: &mut Entry) {
    let envelopes = entry.envelopes.iter_mut();
    for command in envelopes.flat_map(|envelope| &mut envelope.commands) {
        let partitions = match &mut command.kind {
            Some(CommandKind::Claim(claim)) => &mut claim.partitions,
            Some(CommandKind::Reset(reset)) => &mut reset.partitions,
            Some(CommandKind::ClearTopic(clear)) => &mut clear.partitions,
            _ => continue,
        };
        *partitions = (*partitions).min(PARTITIONS_MAX);
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let lease_id = format!("{:016x}{:08x}", 1, 1);
    let group = || "g".to_owned();
    let row = Change {
        key: rows::row(1, None, &[Value::Int(1)]).into(),
        after: Some(types::row::encode(1, []).into()),
        event: Some(RowEvent {
            table_id: 1,
            op: RowOp::Insert.into(),
            message_key: "1".into(),
            targets: vec![RouteTarget {
                topic_id: 1,
                partition: 0,
                payload: PayloadMode::Full.into(),
            }],
            ..RowEvent::default()
        }),
    };
    let write = || {
        CommandKind::Write(Write {
            delete_ranges: Vec::new(),
            changes: vec![row.clone()],
        })
    };
    let claim = || {
        CommandKind::Claim(Claim {
            topic_id: 1,
            group: group(),
            partitions: 2,
            start: Some(Position::Earliest(true).into()),
            limit: 5,
            lease_ms: 1000,
            ..Claim::default()
        })
    };
    let ack = Ack {
        topic_id: 1,
        group: group(),
        lease_id: lease_id.clone(),
        ..Ack::default()
    };
    let upto = Ack {
        upto_offset: Some(0),
        ..ack.clone()
    };
    let nack = Nack {
        topic_id: 1,
        group: group(),
        lease_id: lease_id.clone(),
        delay_ms: 5,
        ..Nack::default()
    };
    let extend = Extend {
        topic_id: 1,
        group: group(),
        lease_id: lease_id.clone(),
        lease_ms: 50,
    };
    let release = Release {
        topic_id: 1,
        group: group(),
        lease_id,
        from_offset: 0,
    };
    let reset = ResetGroup {
        topic_id: 1,
        group: group(),
        partitions: 2,
        ..ResetGroup::default()
    };
    let retain = Retain {
        topic_id: 1,
        earliest: 1,
        ..Retain::default()
    };
    let lasts = [
        CommandKind::Ack(ack),
        CommandKind::Ack(upto),
        CommandKind::Nack(nack),
        CommandKind::Extend(extend),
        CommandKind::Release(release),
        CommandKind::Reset(reset),
        CommandKind::Retain(retain),
    ];
    let entry = |kinds: Vec<CommandKind>| Entry {
        apply_version: APPLY_VERSION,
        lease_time: 10,
        wall_time: 10_000,
        envelopes: kinds
            .into_iter()
            .map(|kind| Envelope {
                commands: vec![Command::from(kind)],
                ..Envelope::default()
            })
            .collect(),
    };
    let logs = lasts.map(|last| entry(vec![write(), claim(), last, claim()]).encode_to_vec());
    logs.into()
}
