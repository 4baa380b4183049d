//! Keys of facts about the state database as a whole.

use super::Kind;
use super::encoding::put_bytes;

/// Disk version of the state database (u32, big-endian).
pub fn disk_version() -> Vec<u8> {
    named("disk_version")
}

/// What has been applied: last log id, membership and clocks; written with every batch.
pub fn applied() -> Vec<u8> {
    named("applied")
}

/// [`types::schema::ClusterRecord`] as JSON, behind a version.
pub fn cluster() -> Vec<u8> {
    named("cluster")
}

/// The key of [`super::Kind::IdempotencyAge`] below which there is none: expired ones are looked
/// for from there on, and not among those that were removed and not yet compacted away.
pub fn idempotency_swept() -> Vec<u8> {
    named("idempotency_swept")
}

fn named(name: &str) -> Vec<u8> {
    let mut key = Kind::Meta.prefix();
    put_bytes(&mut key, name.as_bytes());
    key
}
