//! Entries of the log, from the disk or from a leader.

use bytes::Bytes;
use raft::codec;
use raft::type_config::{LeaderId, LogEntry, LogId, Member, Membership, Payload, Proposal};
use types::command::Entry;

/// The bytes as they are, and with a checksum that fits them.
pub fn run(data: &[u8]) {
    let raw = Bytes::copy_from_slice(data);
    let mut sealed = data.to_vec();
    sealed.extend_from_slice(&crc32fast::hash(data).to_be_bytes());
    for record in [raw, Bytes::from(sealed)] {
        let Ok(entry) = codec::decode(&record) else {
            continue;
        };
        let written = Bytes::from(codec::encode(&entry));
        match &entry.payload {
            Payload::Membership(_) => assert_eq!(codec::decode(&written).as_ref(), Ok(&entry)),
            Payload::Blank => assert!(record.starts_with(&written[..1])),
            Payload::Normal(proposal) => {
                assert_eq!(written, record);
                drop(proposal.decoded());
            }
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let leader_id = LeaderId {
        term: 3,
        node_id: 2,
    };
    let entry = Entry {
        apply_version: 1,
        lease_time: 5,
        ..Entry::default()
    };
    let nodes = [1, 2, 3].map(|id| (id, Member::default()));
    let nodes = std::collections::BTreeMap::from(nodes);
    let joint = vec![[1, 2].into(), [2, 3].into()];
    let payloads = [
        Payload::Blank,
        Payload::Normal(Proposal::new(entry)),
        Payload::Membership(Membership::new(joint, nodes).unwrap()),
    ];
    let records = payloads.into_iter().map(|payload| {
        let log_id = LogId::new(leader_id, 9);
        codec::encode(&LogEntry { log_id, payload })
    });
    // With and without the checksum, which is put there anew.
    records
        .flat_map(|record| [record[..record.len() - 4].to_vec(), record])
        .collect()
}
