//! Keys of the catalog: namespaces, tables, topics, users, nodes, counters, audit log.

use types::ids::{LogIndex, NamespaceId, NodeId, TableId, TopicId};

use super::Kind;
use super::encoding::put_bytes;

/// Counter of namespace ids.
pub const COUNTER_NAMESPACE: &str = "namespace";
/// Counter of table ids.
pub const COUNTER_TABLE: &str = "table";
/// Counter of topic ids.
pub const COUNTER_TOPIC: &str = "topic";

/// The last number a counter gave out.
pub fn counter(name: &str) -> Vec<u8> {
    named(Kind::Counter, name)
}

/// A namespace by name.
pub fn namespace(name: &str) -> Vec<u8> {
    named(Kind::Namespace, name)
}

/// A table's current definition.
pub fn table(id: TableId) -> Vec<u8> {
    let mut key = Kind::Table.prefix();
    key.extend_from_slice(&id.to_be_bytes());
    key
}

/// A table's id by name.
pub fn table_name(namespace: NamespaceId, name: &str) -> Vec<u8> {
    let mut key = table_name_prefix(namespace);
    put_bytes(&mut key, name.as_bytes());
    key
}

/// All tables of a namespace, by name.
pub fn table_name_prefix(namespace: NamespaceId) -> Vec<u8> {
    let mut key = Kind::TableName.prefix();
    key.extend_from_slice(&namespace.to_be_bytes());
    key
}

/// A table's definition as it was in a schema version.
pub fn table_version(id: TableId, schema_version: u32) -> Vec<u8> {
    let mut key = Kind::TableVersion.prefix();
    key.extend_from_slice(&id.to_be_bytes());
    key.extend_from_slice(&schema_version.to_be_bytes());
    key
}

/// A topic.
pub fn topic(id: TopicId) -> Vec<u8> {
    let mut key = Kind::Topic.prefix();
    key.extend_from_slice(&id.to_be_bytes());
    key
}

/// A topic's id by name.
pub fn topic_name(namespace: NamespaceId, name: &str) -> Vec<u8> {
    let mut key = topic_name_prefix(namespace);
    put_bytes(&mut key, name.as_bytes());
    key
}

/// All topics of a namespace, by name.
pub fn topic_name_prefix(namespace: NamespaceId) -> Vec<u8> {
    let mut key = Kind::TopicName.prefix();
    key.extend_from_slice(&namespace.to_be_bytes());
    key
}

/// A secondary index by name.
pub fn index_name(namespace: NamespaceId, name: &str) -> Vec<u8> {
    let mut key = index_name_prefix(namespace);
    put_bytes(&mut key, name.as_bytes());
    key
}

/// All secondary indexes of a namespace, by name.
pub fn index_name_prefix(namespace: NamespaceId) -> Vec<u8> {
    let mut key = Kind::IndexName.prefix();
    key.extend_from_slice(&namespace.to_be_bytes());
    key
}

/// A user by name.
pub fn user(name: &str) -> Vec<u8> {
    named(Kind::User, name)
}

/// A node number given out.
pub fn node(id: NodeId) -> Vec<u8> {
    let mut key = Kind::Node.prefix();
    key.extend_from_slice(&id.to_be_bytes());
    key
}

/// The node number a nonce got.
pub fn node_nonce(nonce: &[u8]) -> Vec<u8> {
    let mut key = Kind::NodeNonce.prefix();
    put_bytes(&mut key, nonce);
    key
}

/// A line of the audit log.
pub fn audit(index: LogIndex, ordinal: u32) -> Vec<u8> {
    let mut key = Kind::Audit.prefix();
    key.extend_from_slice(&index.to_be_bytes());
    key.extend_from_slice(&ordinal.to_be_bytes());
    key
}

fn named(kind: Kind, name: &str) -> Vec<u8> {
    let mut key = kind.prefix();
    put_bytes(&mut key, name.as_bytes());
    key
}
