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
        let mut stored = Vec::with_capacity(24);
        stored.extend_from_slice(&self.earliest.to_be_bytes());
        stored.extend_from_slice(&self.next.to_be_bytes());
        stored.extend_from_slice(&self.bytes.to_be_bytes());
        batch.put(keys::topics::tail(topic, partition), stored);
    }

    pub(crate) fn decode(stored: &[u8]) -> storage::Result<Tail> {
        let (numbers, rest) = stored.as_chunks::<8>();
        match (numbers, rest) {
            ([earliest, next, bytes], []) if earliest <= next => Ok(Tail {
                earliest: u64::from_be_bytes(*earliest),
                next: u64::from_be_bytes(*next),
                bytes: u64::from_be_bytes(*bytes),
            }),
            _ => Err(storage::Error::Corrupt {
                what: format!(
                    "partition tail {stored:02x?} is not two ascending offsets and a size"
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
        let mut bytes = [0; 24];
        (bytes[7], bytes[15], bytes[22]) = (2, 5, 1);
        assert_eq!(
            Tail::decode(&bytes).unwrap(),
            Tail {
                earliest: 2,
                next: 5,
                bytes: 256,
            }
        );
        let backwards = [&bytes[8..16], &bytes[..8], &bytes[16..]].concat();
        assert!(matches!(
            Tail::decode(&backwards),
            Err(storage::Error::Corrupt { .. })
        ));
        assert!(matches!(
            Tail::decode(&bytes[..23]),
            Err(storage::Error::Corrupt { .. })
        ));
    }
}
