//! Messages and consumer groups.
//!
//! A consume without a group reads this node's state. One with a group claims at the leader, which
//! holds the waiting clients' demands (`claim.rs`), and reads the granted messages here
//! (`consume.rs`). What did not reach its client is given back (`release.rs`). Acks, nacks and
//! extensions are proposed at the leader (`acks.rs`), and so is what retention removes
//! (`retention.rs`).

mod acks;
mod claim;
mod consume;
mod query;
mod read;
mod release;
mod retention;
mod stream;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sql::Catalog;
use storage::Read;
use tokio::sync::Semaphore;
use types::ids::TopicId;
use types::limits::{NAME_MAX_BYTES, STREAMS_OPEN_MAX};
use types::schema::{Role, Topic};
use types::{Error, ErrorCode, Result};

use self::claim::GroupQueues;
use super::access::Access;
use super::call::Call;
use super::consensus::{Consensus, View};
use crate::metrics::Metrics;

pub use self::claim::Claimed;
pub use self::query::{Asked, messages_query, stream_query};
pub use self::read::ReadRequest;
pub use self::release::{GIVE_BACK_TIMEOUT, Held};
pub use self::stream::{MessageStream, StreamRequest};
pub use self::wire::{ClaimRequest, ReleaseRequest, Start};

/// Serves what is under `/v1/api/topics`. Cheap to clone.
#[derive(Clone)]
pub struct TopicService {
    consensus: Consensus,
    access: Access,
    catalog: Catalog,
    queues: GroupQueues,
    streams: Arc<Semaphore>,
    long_poll_max: Duration,
    metrics: Arc<Metrics>,
}

impl TopicService {
    /// Topics from `catalog`; no consume waits longer than `long_poll_max`.
    pub fn new(
        consensus: Consensus,
        access: Access,
        catalog: Catalog,
        long_poll_max: Duration,
        metrics: Arc<Metrics>,
    ) -> TopicService {
        TopicService {
            consensus,
            access,
            catalog,
            queues: GroupQueues::default(),
            streams: Arc::new(Semaphore::new(STREAMS_OPEN_MAX)),
            long_poll_max,
            metrics,
        }
    }

    /// The caller may work with topics, or FORBIDDEN.
    async fn admit(&self, call: &Call) -> Result<()> {
        let to = "consume from topics";
        self.access
            .require(call.caller()?, Role::Service, to, call.deadline)
            .await
            .map(drop)
    }

    /// The topic, as this node or, if it has none of that name, the cluster knows it. NOT_FOUND.
    async fn topic(&self, name: &str, deadline: Instant) -> Result<Arc<Topic>> {
        if let Some(topic) = self.find(&*self.consensus.local_view().state, name)? {
            return Ok(topic);
        }
        let view = self.consensus.linearizable_view(deadline).await?;
        self.find(&*view.state, name)?.ok_or_else(|| no_topic(name))
    }

    fn find(&self, state: &dyn Read, name: &str) -> Result<Option<Arc<Topic>>> {
        let found = self
            .consensus
            .stored(self.catalog.topic_qualified(state, name))?;
        Ok(found.map(|topic| topic.record))
    }

    /// The topic in this very view. NOT_FOUND.
    fn topic_in(&self, view: &View, name: &str) -> Result<Arc<Topic>> {
        self.find(&*view.state, name)?.ok_or_else(|| no_topic(name))
    }

    /// The same by its number, which no other topic ever gets; `name` is for the error.
    fn topic_by_id(&self, view: &View, id: TopicId, name: &str) -> Result<Arc<Topic>> {
        let found = self
            .consensus
            .stored(self.catalog.topic_by_id(&*view.state, id))?;
        found
            .map(|topic| topic.record)
            .ok_or_else(|| no_topic(name))
    }
}

fn no_topic(name: &str) -> Error {
    Error::new(ErrorCode::NotFound, format!("there is no topic {name:?}"))
}

/// NOT_FOUND if the topic has no such partition.
fn check_partition(topic: &Topic, partition: u32) -> Result<()> {
    if partition < topic.partitions {
        return Ok(());
    }
    let (name, count) = (topic.qualified_name(), topic.partitions);
    Err(Error::new(
        ErrorCode::NotFound,
        format!(
            "topic {name} has partitions 0 to {}, not {partition}",
            count - 1
        ),
    ))
}

/// INVALID_INPUT if a name is empty or too long.
fn check_name(what: &str, name: &str) -> Result<()> {
    if (1..=NAME_MAX_BYTES).contains(&name.len()) {
        return Ok(());
    }
    Err(bad_input(format!(
        "{what} must have 1 to {NAME_MAX_BYTES} bytes"
    )))
}

fn bad_input(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidInput, message)
}
