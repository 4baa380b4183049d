//! Which partition of a topic a message goes to.

use xxhash_rust::xxh64::Xxh64;

use crate::ids::PartitionId;

/// The partition for a row of `user` (empty for SHARED tables) with this message key.
///
/// XXH64 (seed 0) over the user, one byte 0xff, which UTF-8 never has, and the key; modulo the
/// partition count. Frozen: messages of one key keep their order only as long as this stays.
pub fn partition_of(user: &str, message_key: &str, partitions: u32) -> PartitionId {
    let mut hash = Xxh64::new(0);
    hash.update(user.as_bytes());
    hash.update(&[0xff]);
    hash.update(message_key.as_bytes());
    let partition = hash.digest() % u64::from(partitions.max(1));
    PartitionId::try_from(partition).unwrap_or(0)
}
