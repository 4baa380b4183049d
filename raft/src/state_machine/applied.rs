//! What has been applied, as it stands in the state itself: written in the same batch as the
//! effects, so that it can never say more than what is there.

use std::collections::BTreeSet;

use prost::Message;
use storage::keys::meta;
use storage::{Error, Read};
use types::ids::{LeaseTimeMs, LogIndex, NodeId, WallTimeUs};

use crate::codec::{LogIdRecord, StoredMembershipRecord};
use crate::type_config::{LogId, StoredMembership};

/// Where a state stands in the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AppliedState {
    /// The last entry applied.
    pub last: Option<LogId>,
    /// The membership at that entry.
    pub membership: StoredMembership,
    /// The lease clock of the last entry that had one, in ms. A new leader's clock starts above.
    pub lease_time: LeaseTimeMs,
    /// The wall clock of the last entry that had one, in µs since 1970.
    pub wall_time: WallTimeUs,
    /// A hash chain over every change that was applied so far. Nodes that stand at the same entry
    /// and have another digest hold another state.
    pub digest: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(message, optional, tag = "1")]
    last: Option<LogIdRecord>,
    #[prost(message, optional, tag = "2")]
    membership: Option<StoredMembershipRecord>,
    #[prost(uint64, tag = "3")]
    lease_time: LeaseTimeMs,
    #[prost(int64, tag = "4")]
    wall_time: WallTimeUs,
    #[prost(fixed64, tag = "5")]
    digest: u64,
}

impl AppliedState {
    /// Reads it from a state.
    pub fn load(read: &dyn Read) -> storage::Result<AppliedState> {
        let Some(bytes) = read.get(&meta::applied())? else {
            return Ok(AppliedState::default());
        };
        let corrupt = |error: String| Error::Corrupt {
            what: format!("the applied record: {error}"),
        };
        let record =
            Record::decode(bytes.as_slice()).map_err(|error| corrupt(error.to_string()))?;
        let membership = match &record.membership {
            Some(stored) => stored
                .to_stored()
                .map_err(|error| corrupt(error.to_string()))?,
            None => StoredMembership::default(),
        };
        Ok(AppliedState {
            last: record.last.as_ref().map(LogId::from),
            membership,
            lease_time: record.lease_time,
            wall_time: record.wall_time,
            digest: record.digest,
        })
    }

    /// As it is written into a state, under [`meta::applied`].
    pub fn encode(&self) -> Vec<u8> {
        Record {
            last: self.last.as_ref().map(LogIdRecord::from),
            membership: Some(StoredMembershipRecord::of(&self.membership)),
            lease_time: self.lease_time,
            wall_time: self.wall_time,
            digest: self.digest,
        }
        .encode_to_vec()
    }

    /// Index of the last entry applied; 0 where there is none, which is no difference to a reader:
    /// entry 0 is the membership a cluster begins with.
    pub fn index(&self) -> LogIndex {
        self.last.map_or(0, |id| id.index)
    }

    /// The nodes of the membership, voters and others.
    pub fn members(&self) -> BTreeSet<NodeId> {
        self.membership
            .membership()
            .nodes()
            .map(|(id, _)| *id)
            .collect()
    }
}
