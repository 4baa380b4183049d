//! Hash chains and hashes over this node's own state, so that nodes can be compared. Never passed
//! on to another node.

use std::sync::Arc;

use api::cluster::{DigestQuery, DigestResponse};
use sql::Catalog;
use storage::keys::Kind;
use storage::{Direction, KeyRange, Read, chain};
use tokio::sync::Semaphore;
use types::ids::LogIndex;
use types::limits::DIGEST_MARK_ENTRIES;
use types::schema::Role;
use types::{Error, ErrorCode, Result};

use super::access::Access;
use super::call::{Call, Reply};
use super::consensus::{Consensus, View, too_late};

/// Serves `GET /v1/api/cluster/digest`.
pub struct DigestService {
    consensus: Consensus,
    access: Access,
    catalog: Catalog,
    /// One scan of the whole state at a time.
    scanning: Arc<Semaphore>,
}

/// A value, what it stands for, and the log index it was read at.
struct Value {
    index: LogIndex,
    offset: Option<u64>,
    digest: u64,
}

impl DigestService {
    /// Over this node's state.
    pub fn new(consensus: Consensus, access: Access, catalog: Catalog) -> DigestService {
        DigestService {
            consensus,
            access,
            catalog,
            scanning: Arc::new(Semaphore::new(1)),
        }
    }

    /// What the query asks for.
    pub async fn digest(&self, call: &Call) -> Result<Reply> {
        let to = "see digests";
        self.access
            .require(call.caller()?, Role::Dba, to, call.deadline)
            .await?;
        let query: DigestQuery = call.json()?;
        let wanted = call.min_index.max(query.index.unwrap_or(0));
        let view = self.consensus.view_at(wanted, call.deadline).await?;
        let value = match (&query.topic, query.index) {
            (Some(topic), None) if !query.scan => {
                match self.of_partition(&view, topic, &query) {
                    Ok(value) => value,
                    // A node that is behind must not say no to what exists.
                    Err(_) => {
                        let view = self.consensus.linearizable_view(call.deadline).await?;
                        self.of_partition(&view, topic, &query)?
                    }
                }
            }
            (None, _) if query.partition.is_some() || query.offset.is_some() => {
                return Err(bad_input("partition and offset need a topic"));
            }
            (None, None) if query.scan => self.scan(view, call).await?,
            (None, Some(index)) if !query.scan => self.at(index)?,
            (None, None) => {
                let (index, digest) = self.consensus.raft().digest();
                Value {
                    index,
                    offset: None,
                    digest,
                }
            }
            _ => return Err(bad_input("give a topic, an index or scan, not two of them")),
        };
        let body = DigestResponse {
            node_id: self.consensus.raft().node_id(),
            index: value.index,
            offset: value.offset,
            digest: format!("{:016x}", value.digest),
        };
        Reply::json(&body, value.index)
    }

    fn at(&self, index: LogIndex) -> Result<Value> {
        match self.consensus.raft().digest_at(index) {
            Some(digest) => Ok(Value {
                index,
                offset: None,
                digest,
            }),
            None => Err(Error::new(
                ErrorCode::NotFound,
                format!(
                    "this node does not know its digest at entry {index}: it remembers those of \
                     the last one and of multiples of {DIGEST_MARK_ENTRIES} that it applied lately"
                ),
            )),
        }
    }

    fn of_partition(&self, view: &View, topic: &str, query: &DigestQuery) -> Result<Value> {
        let state = &*view.state;
        let found = self
            .consensus
            .stored(self.catalog.topic_qualified(state, topic))?;
        let not_found = |message| Error::new(ErrorCode::NotFound, message);
        let found = found.ok_or_else(|| not_found(format!("there is no topic {topic:?}")))?;
        let partition = query.partition.unwrap_or(0);
        if partition >= found.record.partitions {
            let message = format!("topic {topic} has no partition {partition}");
            return Err(not_found(message));
        }
        let asked = topics::chain::ask(state, found.record.id, partition, query.offset);
        let link = self.consensus.stored(asked)??;
        Ok(Value {
            index: view.index,
            offset: link.offset,
            digest: link.value,
        })
    }

    /// A hash over the whole state, in the order of its keys. It tells what is there, where the
    /// chain tells how it came about.
    async fn scan(&self, view: View, call: &Call) -> Result<Value> {
        let permit = Arc::clone(&self.scanning).try_acquire_owned();
        let permit = permit.map_err(|_| {
            let message = "this node is reading its whole state for somebody else";
            Error::new(ErrorCode::Overloaded, message)
        })?;
        let index = view.index;
        let scanning = tokio::task::spawn_blocking(move || {
            // Held until the scan is over, also if nobody waits for it any more.
            let _permit = permit;
            hash_of(&*view.state)
        });
        match tokio::time::timeout_at(call.deadline.into(), scanning).await {
            Ok(Ok(hash)) => Ok(Value {
                index,
                offset: None,
                digest: self.consensus.stored(hash)?,
            }),
            Ok(Err(error)) => Err(Error::new(
                ErrorCode::InternalError,
                format!("the scan did not end: {error}"),
            )),
            Err(_) => Err(too_late("the state was not read in time")),
        }
    }
}

fn hash_of(state: &dyn Read) -> storage::Result<u64> {
    let mut hash = 0;
    for kind in Kind::ALL {
        for pair in state.scan(&KeyRange::prefix(&kind.prefix()), Direction::Forward) {
            let (key, value) = pair?;
            let key_len = (key.len() as u64).to_be_bytes();
            hash = chain::link(hash, &[&key_len, &key, &value]);
        }
    }
    Ok(hash)
}

/// The query of a digest, as a call's body. INVALID_INPUT for what is not a number or not a
/// parameter.
pub fn query(pairs: &[(String, String)]) -> Result<Vec<u8>> {
    let mut query = DigestQuery::default();
    for (name, value) in pairs {
        match name.as_str() {
            "topic" => query.topic = Some(value.clone()),
            "partition" => query.partition = Some(parsed(name, value)?),
            "offset" => query.offset = Some(parsed(name, value)?),
            "index" => query.index = Some(parsed(name, value)?),
            "scan" => query.scan = parsed(name, value)?,
            _ => return Err(bad_input(&format!("there is no query parameter {name:?}"))),
        }
    }
    serde_json::to_vec(&query)
        .map_err(|e| Error::new(ErrorCode::InternalError, format!("query not written: {e}")))
}

fn parsed<T: std::str::FromStr>(name: &str, value: &str) -> Result<T> {
    let wrong = |_| bad_input(&format!("{name} cannot be {value:?}"));
    value.parse().map_err(wrong)
}

fn bad_input(message: &str) -> Error {
    Error::new(ErrorCode::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use storage::memory::MemoryEngine;
    use storage::{Durability, Engine, Op, keys};

    use super::*;

    #[test]
    fn queries_are_read_strictly() {
        let read = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            query(&pairs).map(|body| serde_json::from_slice::<DigestQuery>(&body).expect("JSON"))
        };
        let asked = read(&[("topic", "a.b"), ("partition", "1"), ("offset", "7")]);
        let expected = DigestQuery {
            topic: Some("a.b".into()),
            partition: Some(1),
            offset: Some(7),
            ..DigestQuery::default()
        };
        assert_eq!(asked, Ok(expected));
        assert!(read(&[("scan", "true")]).is_ok_and(|query| query.scan));
        for wrong in [("scan", "yes"), ("offset", "-1"), ("topics", "a")] {
            let refused = read(&[wrong]).map_err(|error| error.code);
            assert_eq!(refused, Err(ErrorCode::InvalidInput), "{wrong:?}");
        }
    }

    #[test]
    fn the_hash_of_a_state_covers_every_key_and_value() {
        let hash = |pairs: &[(Vec<u8>, &[u8])]| {
            let engine = MemoryEngine::new();
            let ops: Vec<_> = pairs
                .iter()
                .map(|(key, value)| Op::Put {
                    key: key.clone(),
                    value: value.to_vec(),
                })
                .collect();
            engine.write(&ops, Durability::Flushed).expect("in memory");
            hash_of(&*engine.snapshot()).expect("in memory")
        };
        let (row, message) = (keys::rows::table_prefix(1), keys::topics::message(1, 0, 0));
        let whole = hash(&[(row.clone(), b"r"), (message.clone(), b"m")]);
        assert_eq!(whole, hash(&[(message.clone(), b"m"), (row.clone(), b"r")]));
        let others = [
            hash(&[(row.clone(), b"r")]),
            hash(&[(row.clone(), b"m"), (message.clone(), b"m")]),
            hash(&[(row, b"r"), (keys::topics::message(1, 0, 1), b"m")]),
            hash(&[]),
        ];
        assert!(!others.contains(&whole));
    }
}
