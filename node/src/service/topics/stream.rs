//! A partition's messages one after the other, for as long as their reader stays: what a node has
//! applied, in offset order, without a group.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::topics::Message;
use tokio::sync::{OwnedSemaphorePermit, watch};
use topics::fetch;
use topics::render::Renderer;
use types::ids::{LogIndex, Offset, PartitionId, TopicId};
use types::limits::{DEADLINE_DEFAULT_MS, STREAM_PAUSE_MS, STREAM_READ_MAX, STREAM_READ_MAX_BYTES};
use types::{Error, ErrorCode, Result};

use super::TopicService;
use super::read::ReadRequest;
use super::wire::Start;
use crate::service::call::Call;
use crate::service::consensus::stopping;

/// What a stream shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRequest {
    /// `namespace.name`.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// Where it begins.
    pub start: Start,
}

/// An open stream; one of a bounded number.
pub struct MessageStream {
    service: TopicService,
    /// Who reads, asked again whether it may whenever there is something to read.
    call: Call,
    /// For messages and errors.
    name: String,
    topic: TopicId,
    partition: PartitionId,
    next: Offset,
    opened_at: LogIndex,
    /// Read and not handed out yet.
    ready: VecDeque<Message>,
    applied: watch::Receiver<LogIndex>,
    _place: OwnedSemaphorePermit,
}

impl TopicService {
    /// Opens a stream. FORBIDDEN, NOT_FOUND and OFFSET_OUT_OF_RANGE as a read without a group;
    /// OVERLOADED beyond the streams that a node keeps open.
    pub async fn open_stream(&self, call: Call, request: StreamRequest) -> Result<MessageStream> {
        self.admit(&call).await?;
        let place = Arc::clone(&self.streams).try_acquire_owned();
        let place = place.map_err(|_| {
            Error::new(
                ErrorCode::Overloaded,
                "this node keeps as many streams open as it can",
            )
        })?;
        let applied = self.consensus.applied_watch();
        if call.min_index > 0 {
            self.consensus
                .view_at(call.min_index, call.deadline)
                .await?;
        }
        let first = ReadRequest {
            topic: request.topic,
            partition: request.partition,
            start: request.start,
            limit: STREAM_READ_MAX,
            max_bytes: STREAM_READ_MAX_BYTES,
            wait_until: Instant::now(),
            local: call.consistency == api::headers::Consistency::Local,
        };
        let reading = self.read(&first, call.deadline).await?;
        Ok(MessageStream {
            service: self.clone(),
            name: reading.topic.qualified_name(),
            topic: reading.topic.id,
            partition: request.partition,
            next: reading.next_offset,
            opened_at: reading.view.index,
            ready: self.render(&reading)?.into(),
            call,
            applied,
            _place: place,
        })
    }
}

impl MessageStream {
    /// The log index of what it showed first.
    pub fn opened_at(&self) -> LogIndex {
        self.opened_at
    }

    /// The next message, as soon as there is one. NOT_FOUND if the topic is dropped,
    /// OFFSET_OUT_OF_RANGE if retention was faster than the reader, FORBIDDEN or
    /// INVALID_CREDENTIALS if the reader may read no longer.
    pub async fn next(&mut self) -> Result<Message> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                self.service.metrics.delivered(1);
                return Ok(message);
            }
            self.applied.borrow_and_update();
            self.read()?;
            if self.ready.is_empty() {
                self.applied.changed().await.map_err(|_| stopping())?;
                tokio::time::sleep(Duration::from_millis(STREAM_PAUSE_MS)).await;
            } else {
                // The deadline of the request that opened the stream has long passed.
                let patience = Duration::from_millis(DEADLINE_DEFAULT_MS);
                self.call.deadline = Instant::now() + patience;
                self.service.admit(&self.call).await?;
            }
        }
    }

    fn read(&mut self) -> Result<()> {
        let (service, topic, partition) = (&self.service, self.topic, self.partition);
        let view = service.consensus.local_view();
        service.topic_by_id(&view, topic, &self.name)?;
        let stored = |result| service.consensus.stored(result);
        let tail = stored(fetch::tail(&*view.state, topic, partition))?;
        fetch::check_start(tail, self.next)?;
        if self.next == tail.next {
            return Ok(());
        }
        let messages = service.consensus.stored(fetch::fetch(
            &*view.state,
            topic,
            partition,
            self.next,
            STREAM_READ_MAX,
            STREAM_READ_MAX_BYTES,
        ))?;
        let mut renderer = Renderer::new(&*view.state);
        for fetched in &messages {
            let message = service.rendered(&mut renderer, &self.name, partition, fetched)?;
            self.ready.push_back(message);
            self.next = fetched.offset + 1;
        }
        Ok(())
    }
}
