//! Packs what waits into few log entries.
//!
//! - At most [`ENTRIES_IN_FLIGHT_MAX`] entries are in flight; what arrives meanwhile goes into the
//!   next one together. When nothing is in flight an Envelope goes at once, alone: nobody lingers.
//! - An entry holds Envelopes of one leadership only, at most [`ENTRY_ENVELOPES_MAX`] and about
//!   [`ENTRY_MAX_BYTES`], and is proposed under that leadership or not at all.
//! - An entry is stamped when it is closed, so stamps are in the order of the log.
//! - The queue is bounded by count and bytes, and closed while apply is too far behind.
//! - An entry says the lowest version of apply that it needs; an Envelope that needs a higher one
//!   than some member has is not taken on, since that member would stop at it.
//!
//! What an error says: openraft's `ForwardToLeader` comes before anything was appended. Everything
//! else after the proposal left this task leaves open what became of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use types::command::{Entry, Envelope};
use types::ids::NodeId;
use types::limits::{
    BATCHER_QUEUE_MAX, BATCHER_QUEUE_MAX_BYTES, ENTRIES_IN_FLIGHT_MAX, ENTRY_ENVELOPES_MAX,
    ENTRY_MAX_BYTES,
};

use crate::clock::{Clock, Stamps};
use crate::error::{ProposeError, Stopped};
use crate::handle::{Core, Proposed};
use crate::leadership::Leadership;
use crate::metrics;
use crate::type_config::{LeaderId, Proposal, TypeConfig};

type Answer = Result<Proposed, ProposeError>;

/// An Envelope that waits, with who waits for it.
struct Waiting {
    envelope: Envelope,
    bytes: usize,
    answer: oneshot::Sender<Answer>,
}

/// The batcher's queue.
#[derive(Clone)]
pub(crate) struct Batcher {
    core: Core,
    queue: mpsc::Sender<Waiting>,
    /// Encoded bytes of what waits in the queue.
    queued_bytes: Arc<AtomicUsize>,
    /// One permit for each entry that may be in flight. Who holds all of them holds the gate shut.
    in_flight: Arc<Semaphore>,
}

/// While this is held nothing is in flight and nothing is proposed.
pub(crate) struct Shut {
    _permits: OwnedSemaphorePermit,
}

struct Task {
    node_id: NodeId,
    core: Core,
    clock: Arc<Clock>,
    leadership: watch::Receiver<Leadership>,
    queue: mpsc::Receiver<Waiting>,
    queued_bytes: Arc<AtomicUsize>,
    in_flight: Arc<Semaphore>,
}

impl Batcher {
    /// Starts the task. It ends when the last handle is dropped.
    pub(crate) fn start(
        node_id: NodeId,
        core: Core,
        clock: Arc<Clock>,
        leadership: watch::Receiver<Leadership>,
    ) -> Batcher {
        let (sender, queue) = mpsc::channel(BATCHER_QUEUE_MAX);
        let batcher = Batcher {
            core: core.clone(),
            queue: sender,
            queued_bytes: Arc::default(),
            in_flight: Arc::new(Semaphore::new(ENTRIES_IN_FLIGHT_MAX)),
        };
        let queued_bytes = batcher.queued_bytes.clone();
        let in_flight = batcher.in_flight.clone();
        let task = Task {
            node_id,
            core,
            clock,
            leadership,
            queue,
            queued_bytes,
            in_flight,
        };
        tokio::spawn(task.run());
        batcher
    }

    /// Queues an Envelope and waits for what becomes of it.
    pub(crate) async fn propose(&self, envelope: Envelope) -> Answer {
        self.all_can_apply(envelope.apply_version())?;
        let bytes = envelope.encoded_len();
        let before = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        // One Envelope may always wait, however large it is.
        let sent = if before > 0 && before + bytes > BATCHER_QUEUE_MAX_BYTES {
            Err(ProposeError::Overloaded)
        } else {
            let waiting = Waiting {
                envelope,
                bytes,
                answer,
            };
            self.queue.try_send(waiting).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => ProposeError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => Stopped.into(),
            })
        };
        if let Err(error) = sent {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(error);
        }
        // Who drops the other end without an answer may have proposed before.
        answered.await.unwrap_or(Err(ProposeError::Unknown))
    }

    /// Has every member a build that knows this version of apply?
    fn all_can_apply(&self, needs: u32) -> Result<(), ProposeError> {
        // Every build has the first one: most Envelopes ask nobody.
        if needs <= 1 {
            return Ok(());
        }
        let members_have = metrics::look(&self.core, |metrics| {
            let members = metrics.membership_config.membership().nodes();
            members.map(|(_, member)| member.apply_version).min()
        });
        match members_have {
            Some(have) if have < needs => Err(ProposeError::NotAllCanApply { needs, have }),
            _ => Ok(()),
        }
    }

    /// Envelopes that wait, those aside that the task has taken already.
    pub(crate) fn queued(&self) -> u64 {
        (self.queue.max_capacity() - self.queue.capacity()) as u64
    }

    /// Bytes of what waits.
    pub(crate) fn queued_bytes(&self) -> u64 {
        self.queued_bytes.load(Ordering::Relaxed) as u64
    }

    /// Entries that are proposed and not yet answered; all, while the gate is shut.
    pub(crate) fn entries_in_flight(&self) -> u64 {
        ENTRIES_IN_FLIGHT_MAX.saturating_sub(self.in_flight.available_permits()) as u64
    }

    /// Waits until nothing is in flight, and keeps it so. What is queued stays queued.
    pub(crate) async fn shut(&self) -> Shut {
        let all = ENTRIES_IN_FLIGHT_MAX as u32;
        let permits = self.in_flight.clone().acquire_many_owned(all).await;
        Shut {
            _permits: permits.expect("the semaphore is never closed"),
        }
    }
}

impl Task {
    async fn run(mut self) {
        let mut next = None;
        loop {
            let first = match next.take() {
                Some(first) => first,
                None => match self.queue.recv().await {
                    Some(first) => first,
                    None => return,
                },
            };
            let permit = self.in_flight.clone().acquire_owned().await;
            let permit = permit.expect("the semaphore is never closed");
            let (packed, left) = self.pack(first);
            next = left;
            self.propose(packed, permit).await;
        }
    }

    /// Takes what fits into one entry with `first`. The second value did not fit.
    fn pack(&mut self, first: Waiting) -> (Vec<Waiting>, Option<Waiting>) {
        let (term, mut bytes) = (first.envelope.term, first.bytes);
        let mut packed = vec![first];
        let mut left = None;
        while packed.len() < ENTRY_ENVELOPES_MAX {
            let Ok(waiting) = self.queue.try_recv() else {
                break;
            };
            if waiting.envelope.term != term || bytes + waiting.bytes > ENTRY_MAX_BYTES {
                left = Some(waiting);
                break;
            }
            bytes += waiting.bytes;
            packed.push(waiting);
        }
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        // Who gave up before anything was proposed is spared it.
        packed.retain(|waiting| !waiting.answer.is_closed());
        (packed, left)
    }

    /// Proposes one entry. Its outcomes are given out by a task of its own.
    async fn propose(&self, packed: Vec<Waiting>, permit: OwnedSemaphorePermit) {
        let Some(term) = packed.first().map(|waiting| waiting.envelope.term) else {
            return;
        };
        let (envelopes, answers): (Vec<_>, Vec<_>) = packed
            .into_iter()
            .map(|waiting| (waiting.envelope, waiting.answer))
            .unzip();
        if let Err(error) = self.may_propose(term) {
            refuse_all(answers, &error);
            return;
        }
        let Stamps {
            lease_time,
            wall_time,
        } = self.clock.now(Stamps::default());
        let needed = envelopes.iter().map(Envelope::apply_version);
        let entry = Entry {
            apply_version: needed.max().unwrap_or(1),
            lease_time,
            wall_time,
            envelopes,
        };
        let (responder, outcomes) = ProgressResponder::complete_only();
        let leader = LeaderId {
            term,
            node_id: self.node_id,
        };
        let sent = self
            .core
            .write(Proposal::new(entry))
            .with_leader(leader)
            .responder(responder)
            .await;
        if sent.is_err() {
            // The core ended before it took the proposal.
            refuse_all(answers, &Stopped.into());
            return;
        }
        tokio::spawn(async move {
            answer_all(answers, outcomes.await.ok());
            drop(permit);
        });
    }

    /// Is `term` the leadership that this node has, and whose clock is running?
    fn may_propose(&self, term: u64) -> Result<(), ProposeError> {
        let leadership = self.leadership.borrow();
        let current = leadership.is_leader && leadership.ready_to_plan && leadership.term == term;
        if current && self.clock.leads(term) {
            return Ok(());
        }
        Err(ProposeError::NotLeader {
            leader: leadership.leader,
        })
    }
}

fn refuse_all(answers: Vec<oneshot::Sender<Answer>>, error: &ProposeError) {
    for answer in answers {
        // Who does not wait any more needs no answer.
        drop(answer.send(Err(error.clone())));
    }
}

/// Gives each Envelope the outcome at its position.
fn answer_all(
    answers: Vec<oneshot::Sender<Answer>>,
    result: Option<ClientWriteResult<TypeConfig>>,
) {
    let response = match result {
        Some(Ok(response)) => response,
        Some(Err(ClientWriteError::ForwardToLeader(forward))) => {
            refuse_all(
                answers,
                &ProposeError::NotLeader {
                    leader: forward.leader_id,
                },
            );
            return;
        }
        Some(Err(_)) | None => {
            refuse_all(answers, &ProposeError::Unknown);
            return;
        }
    };
    let (index, outcomes) = (response.log_id.index, response.data.0);
    if outcomes.len() != answers.len() {
        tracing::error!(
            index,
            envelopes = answers.len(),
            outcomes = outcomes.len(),
            "apply gave another number of outcomes than the entry has Envelopes"
        );
        refuse_all(answers, &ProposeError::Unknown);
        return;
    }
    for (answer, outcome) in answers.into_iter().zip(outcomes) {
        drop(answer.send(Ok(Proposed { index, outcome })));
    }
}
