//! Bodies of the routes under `/v1/api/topics`.

use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where a group without a position, or a read without a group, begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StartPosition {
    /// Only what comes after now.
    #[default]
    Latest,
    /// Everything that retention kept.
    Earliest,
    /// From that offset on.
    Offset(u64),
    /// From the first message at or after that time, in RFC 3339.
    Timestamp(String),
}

impl Serialize for StartPosition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = match self {
            StartPosition::Latest => return serializer.serialize_str("Latest"),
            StartPosition::Earliest => return serializer.serialize_str("Earliest"),
            StartPosition::Offset(_) | StartPosition::Timestamp(_) => {
                serializer.serialize_map(Some(1))?
            }
        };
        match self {
            StartPosition::Offset(offset) => map.serialize_entry("Offset", offset)?,
            StartPosition::Timestamp(time) => map.serialize_entry("Timestamp", time)?,
            StartPosition::Latest | StartPosition::Earliest => {}
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for StartPosition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<StartPosition, D::Error> {
        deserializer.deserialize_any(StartVisitor)
    }
}

/// Accepts the words in any case, as existing clients write them in several.
struct StartVisitor;

impl<'de> Visitor<'de> for StartVisitor {
    type Value = StartPosition;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#""Latest", "Earliest", {"Offset": n} or {"Timestamp": "RFC 3339"}"#)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<StartPosition, E> {
        if text.eq_ignore_ascii_case("latest") {
            Ok(StartPosition::Latest)
        } else if text.eq_ignore_ascii_case("earliest") {
            Ok(StartPosition::Earliest)
        } else {
            Err(E::invalid_value(serde::de::Unexpected::Str(text), &self))
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StartPosition, A::Error> {
        let Some(key) = map.next_key::<String>()? else {
            return Err(A::Error::invalid_length(0, &self));
        };
        let start = match key.to_ascii_lowercase().as_str() {
            "offset" => StartPosition::Offset(map.next_value()?),
            "timestamp" => StartPosition::Timestamp(map.next_value()?),
            _ => return Err(A::Error::unknown_field(&key, &["Offset", "Timestamp"])),
        };
        match map.next_key::<String>()? {
            None => Ok(start),
            Some(_) => Err(A::Error::invalid_length(2, &self)),
        }
    }
}

/// `POST /v1/api/topics/consume`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumeRequest {
    /// The topic's name.
    pub topic_id: String,
    /// Left out: a read that remembers nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
    /// Counts only while the group has no position; left out: latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartPosition>,
    /// Most messages to return.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Left out: any partition with work (group), 0 (no group).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_id: Option<u32>,
    /// How long to wait for a message, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// Names one consumer of the group, so that an ack of another one leaves its messages alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer_id: Option<String>,
    /// How long the returned messages are this consumer's, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_seconds: Option<u64>,
    /// Payload bytes after which no more messages are added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
}

/// Messages of one partition, in offset order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumeResponse {
    /// The messages.
    #[serde(default)]
    pub messages: Vec<Message>,
    /// Where a read without a group goes on.
    #[serde(default)]
    pub next_offset: u64,
    /// More could be had at once.
    #[serde(default)]
    pub has_more: bool,
    /// With a group: the lease that holds these messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_id: Option<String>,
    /// With a group: when the lease ends, in milliseconds since 1970 as far as clocks agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_expires_ms: Option<u64>,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The topic's name.
    pub topic_id: String,
    /// The partition.
    pub partition_id: u32,
    /// Position in the partition.
    pub offset: u64,
    /// The payload in standard base64 with padding.
    pub payload: String,
    /// The primary key's value as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// When the change was committed, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Who owns the row; left out for a table without owners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What happened to the row.
    pub op: Op,
    /// With a group: how often this message was given out, this time included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<u32>,
    /// Log index of the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
}

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Op {
    /// It came.
    Insert,
    /// It changed.
    Update,
    /// It went.
    Delete,
}

/// `POST /v1/api/topics/ack`: `upto_offset`, or `lease_id` with or without `offsets`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckRequest {
    /// The topic's name.
    pub topic_id: String,
    /// The group.
    pub group_id: String,
    /// Left out: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_id: Option<u32>,
    /// Everything delivered up to and including this offset is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upto_offset: Option<u64>,
    /// Who acks: what a live lease of another consumer holds is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer_id: Option<String>,
    /// Just what this lease holds is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_id: Option<String>,
    /// Of the lease, just these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offsets: Option<Vec<u64>>,
}

/// The answer to an ack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckResponse {
    /// Always true.
    pub success: bool,
    /// Repeats the request's `upto_offset`; for a lease, its highest offset that was acked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_offset: Option<u64>,
}

/// `POST /v1/api/topics/nack`: give leased messages back before the lease ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NackRequest {
    /// The topic's name.
    pub topic_id: String,
    /// The group.
    pub group_id: String,
    /// Left out: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_id: Option<u32>,
    /// The lease that holds them.
    pub lease_id: String,
    /// Which of them; left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offsets: Option<Vec<u64>>,
    /// How long before they may be given out again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
}

/// The answer to a nack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NackResponse {
    /// Always true.
    pub success: bool,
}

/// `POST /v1/api/topics/extend`: keep leased messages longer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtendRequest {
    /// The topic's name.
    pub topic_id: String,
    /// The group.
    pub group_id: String,
    /// Left out: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_id: Option<u32>,
    /// The lease.
    pub lease_id: String,
    /// From now on.
    pub lease_seconds: u64,
}

/// The answer to an extension.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtendResponse {
    /// Always true.
    pub success: bool,
    /// When the lease ends now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_expires_ms: Option<u64>,
}

/// `POST /v1/api/topics/latest-offsets`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatestOffsetsRequest {
    /// Which partitions.
    pub partitions: Vec<TopicPartition>,
}

/// One partition of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic_id: String,
    /// Left out: 0.
    #[serde(default)]
    pub partition_id: u32,
}

/// Where partitions end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatestOffsetsResponse {
    /// In the request's order.
    pub offsets: Vec<PartitionEnd>,
}

/// Where one partition ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionEnd {
    /// The topic's name.
    pub topic_id: String,
    /// The partition.
    pub partition_id: u32,
    /// Offset that the next message will get.
    pub next_offset: u64,
    /// Offset of the last message; null while there was none.
    pub last_offset: Option<u64>,
}

#[cfg(test)]
#[path = "topics_tests.rs"]
mod tests;
