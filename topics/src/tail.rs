//! Both ends of a partition, and how much lies between.

use storage::keys;
use storage::{Batch, Read};
use types::ids::{Offset, PartitionId, TopicId};

/// Where a partition begins and ends. Offsets below `earliest` are gone, `next` is the offset of
/// the message to come; both only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// The first offset that is kept: the retention floor.
    pub earliest: Offset,
    /// The offset after the last message.
    pub next: Offset,
    /// Bytes of the messages between the two, as they are stored.
    pub bytes: u64,
    /// The chain at the last message there ever was; 0 before the first.
    pub chain: u64,
    /// The chain at the last message below `earliest`; 0 if there was none.
    pub floor_chain: u64,
}

impl Tail {
    /// How many messages are there.
    pub fn len(&self) -> u64 {
        self.next - self.earliest
    }

    /// Is no message there?
    pub fn is_empty(&self) -> bool {
        self.next == self.earliest
    }

    /// Reads a partition's ends; one that never had a message is empty at 0.
    pub(crate) fn load(
        read: &dyn Read,
        topic: TopicId,
        partition: PartitionId,
    ) -> storage::Result<Tail> {
        match read.get(&keys::topics::tail(topic, partition))? {
            None => Ok(Tail::default()),
            Some(stored) => Tail::decode(&stored),
        }
    }

    pub(crate) fn store(self, batch: &mut Batch, topic: TopicId, partition: PartitionId) {
        let fields = [
            self.earliest,
            self.next,
            self.bytes,
            self.chain,
            self.floor_chain,
        ];
        let stored = fields.map(u64::to_be_bytes).concat();
        batch.put(keys::topics::tail(topic, partition), stored);
    }

    pub(crate) fn decode(stored: &[u8]) -> storage::Result<Tail> {
        let (fields, rest) = stored.as_chunks::<8>();
        let fields: Vec<u64> = fields
            .iter()
            .map(|field| u64::from_be_bytes(*field))
            .collect();
        match *fields {
            [earliest, next, bytes, chain, floor_chain] if earliest <= next && rest.is_empty() => {
                Ok(Tail {
                    earliest,
                    next,
                    bytes,
                    chain,
                    floor_chain,
                })
            }
            _ => Err(storage::Error::Corrupt {
                what: format!(
                    "partition tail {stored:02x?} is not two ascending offsets, a size and chains"
                ),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_that_runs_backwards_or_is_cut_short_is_corrupt() {
        let bytes = [2, 5, 256, 9, 8].map(u64::to_be_bytes).concat();
        let tail = Tail {
            earliest: 2,
            next: 5,
            bytes: 256,
            chain: 9,
            floor_chain: 8,
        };
        assert_eq!(Tail::decode(&bytes).unwrap(), tail);
        let backwards = [5, 2, 256, 9, 8].map(u64::to_be_bytes).concat();
        let longer = [&bytes[..], &[0]].concat();
        for damaged in [&backwards[..], &bytes[..39], &bytes[..24], &longer] {
            assert!(matches!(
                Tail::decode(damaged),
                Err(storage::Error::Corrupt { .. })
            ));
        }
    }
}
