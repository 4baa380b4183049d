//! Reading without a group: this node's state, and waiting for more of it.

use std::sync::Arc;
use std::time::Instant;

use topics::fetch::{self, Fetched, Tail};
use types::Result;
use types::ids::TopicId;
use types::schema::Topic;

use super::claim::wait_applied_change;
use super::wire::Start;
use super::{TopicService, check_partition, no_topic};
use crate::service::consensus::View;

/// A read without a group, checked, with all defaults filled in.
pub struct ReadRequest {
    /// `namespace.name`.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Where to begin.
    pub start: Start,
    /// Most messages.
    pub limit: u32,
    /// Bytes after which no more are added.
    pub max_bytes: usize,
    /// Until when to wait for the first.
    pub wait_until: Instant,
    /// Is this node's state as it is good enough, also to say that there is nothing?
    pub local: bool,
}

/// What a read found.
pub struct Reading {
    /// The topic.
    pub topic: Arc<Topic>,
    /// The partition.
    pub partition: u32,
    /// The messages, in offset order.
    pub messages: Vec<Fetched>,
    /// Where the next read goes on.
    pub next_offset: u64,
    /// Is there more already?
    pub has_more: bool,
    /// What they were read from, for rendering them.
    pub view: View,
}

/// What a view shows of a read.
enum Look {
    Found(Reading),
    /// Nothing yet.
    Empty(Reading),
    /// What a view that is fresh enough makes an error.
    Refused(types::Error),
}

/// What a read has found out about where it is.
#[derive(Default)]
struct Place {
    topic: Option<TopicId>,
    from: Option<u64>,
}

impl TopicService {
    /// Reads messages as soon as there are any. That there are none, that the start is out of range
    /// and that there is no such topic is said only of a state as fresh as the request, unless the
    /// request is content with this node's.
    pub async fn read(&self, request: &ReadRequest, deadline: Instant) -> Result<Reading> {
        let wait_until = deadline.min(request.wait_until);
        let mut applied = self.consensus.applied_watch();
        let by_time = matches!(request.start, Start::Latest | Start::Timestamp(_));
        let mut fresh = request.local || by_time;
        let mut view = match by_time && !request.local {
            true => self.consensus.linearizable_view(deadline).await?,
            false => self.consensus.local_view(),
        };
        let mut place = Place::default();
        loop {
            match self.look_at(request, &mut place, view)? {
                Look::Found(reading) => return Ok(reading),
                Look::Refused(error) if fresh => return Err(error),
                Look::Empty(_) if Instant::now() < wait_until => {
                    wait_applied_change(&mut applied, wait_until).await?;
                    applied.borrow_and_update();
                    (view, fresh) = (self.consensus.local_view(), request.local);
                    continue;
                }
                Look::Empty(reading) if fresh => return Ok(reading),
                Look::Empty(_) | Look::Refused(_) => {}
            }
            view = self.consensus.linearizable_view(deadline).await?;
            fresh = true;
        }
    }

    /// The topic is looked up in every view: while a read waits it may be dropped, and made again.
    fn look_at(&self, request: &ReadRequest, place: &mut Place, view: View) -> Result<Look> {
        let partition = request.partition;
        let Some(topic) = self.find(&*view.state, &request.topic)? else {
            return Ok(Look::Refused(no_topic(&request.topic)));
        };
        if let Err(error) = check_partition(&topic, partition) {
            return Ok(Look::Refused(error));
        }
        if place.topic.is_some_and(|known| known != topic.id) {
            // All that a topic holds that was made meanwhile came after the request.
            place.from = (request.start == Start::Latest).then_some(0);
        }
        place.topic = Some(topic.id);
        let tail = self
            .consensus
            .stored(fetch::tail(&*view.state, topic.id, partition))?;
        let from = match place.from {
            Some(from) => from,
            None => self.resolve(request, &topic, &view, tail)?,
        };
        // The earliest message may change while we wait; everything else is fixed once known.
        place.from = Some(from).filter(|_| request.start != Start::Earliest);
        if let Err(error) = fetch::check_start(tail, from) {
            return Ok(Look::Refused(error));
        }
        let reading = self.take(request, topic, from, tail, view)?;
        Ok(match reading.messages.is_empty() {
            true => Look::Empty(reading),
            false => Look::Found(reading),
        })
    }

    fn resolve(
        &self,
        request: &ReadRequest,
        topic: &Topic,
        view: &View,
        tail: Tail,
    ) -> Result<u64> {
        Ok(match request.start {
            Start::Latest => tail.next,
            Start::Earliest => tail.earliest,
            Start::Offset(offset) => offset,
            Start::Timestamp(micros) => self.consensus.stored(fetch::offset_at(
                &*view.state,
                topic.id,
                request.partition,
                micros,
            ))?,
        })
    }

    fn take(
        &self,
        request: &ReadRequest,
        topic: Arc<Topic>,
        from: u64,
        tail: Tail,
        view: View,
    ) -> Result<Reading> {
        let messages = self.consensus.stored(fetch::fetch(
            &*view.state,
            topic.id,
            request.partition,
            from,
            request.limit,
            request.max_bytes,
        ))?;
        let next_offset = messages.last().map_or(from, |m| m.offset + 1);
        let has_more = next_offset < tail.next;
        let partition = request.partition;
        Ok(Reading {
            topic,
            partition,
            messages,
            next_offset,
            has_more,
            view,
        })
    }
}
