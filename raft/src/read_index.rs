//! Read indexes: which entry a read that begins now must have applied to see every write that was
//! answered before.
//!
//! The leader's committed index, once a quorum has confirmed, after the question came in, that it
//! still leads (Raft §6.4; never a lease). Questions that wait share one round: a round starts only
//! when the one before it has ended, and answers just those that were there when it started. On a
//! follower the round is a question to the leader, so that one RPC serves all its readers.

use std::time::Duration;

use openraft::ReadPolicy;
use tokio::sync::{mpsc, oneshot, watch};
use types::ids::LogIndex;
use types::planted::{self, Bug};

use crate::error::{ReadIndexError, Stopped};
use crate::handle::Core;
use crate::leadership::Leadership;
use crate::metrics;
use crate::network::peers::{Lane, Peers};
use crate::rpc::messages::{ReadIndexRequest, ReadIndexResponse};
use crate::rpc::path;
use crate::status;

/// Questions that may wait for a round; more wait for a place.
const WAITING_MAX: usize = 16_384;
/// How long the leader may take for a round that a follower asked for.
const ROUND_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause after a round that found no leader, unless the leadership changes before.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// No leader confirmed itself in this round.
#[derive(Clone, Debug)]
pub(crate) struct NoLeader;

type Question = oneshot::Sender<Result<LogIndex, NoLeader>>;

/// Asks for read indexes.
#[derive(Clone)]
pub(crate) struct ReadIndex {
    questions: mpsc::Sender<Question>,
    leadership: watch::Receiver<Leadership>,
}

impl ReadIndex {
    /// Starts the task. It ends when the last handle is dropped.
    pub(crate) fn start(
        core: Core,
        peers: Peers,
        leadership: watch::Receiver<Leadership>,
    ) -> ReadIndex {
        let (questions, queue) = mpsc::channel(WAITING_MAX);
        let rounds = Rounds {
            core,
            peers,
            leadership: leadership.clone(),
        };
        tokio::spawn(rounds.run(queue));
        ReadIndex {
            questions,
            leadership,
        }
    }

    /// A read index; waits for a leader, at most `timeout`.
    pub(crate) async fn get(&self, timeout: Duration) -> Result<LogIndex, ReadIndexError> {
        // Has a round told that there is no leader, or none with a quorum?
        let mut told = false;
        let patient = async {
            let mut leadership = self.leadership.clone();
            loop {
                leadership.mark_unchanged();
                match self.round().await? {
                    Ok(index) => return Ok(index),
                    Err(NoLeader) => told = true,
                }
                // Whichever comes first; where the node has ended, the next round says so.
                let pause = tokio::time::timeout(RETRY_PAUSE, leadership.changed());
                if let Ok(Err(_ended)) = pause.await {
                    return Err(Stopped.into());
                }
            }
        };
        match tokio::time::timeout(timeout, patient).await {
            Ok(answer) => answer,
            Err(_) if told || self.leadership.borrow().leader.is_none() => {
                Err(ReadIndexError::Unavailable)
            }
            Err(_) => Err(ReadIndexError::TimedOut),
        }
    }

    /// The answer of the next round.
    pub(crate) async fn round(&self) -> Result<Result<LogIndex, NoLeader>, Stopped> {
        let (question, answer) = oneshot::channel();
        self.questions.send(question).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }
}

struct Rounds {
    core: Core,
    peers: Peers,
    leadership: watch::Receiver<Leadership>,
}

impl Rounds {
    async fn run(self, mut queue: mpsc::Receiver<Question>) {
        let mut waiting = Vec::new();
        while queue.recv_many(&mut waiting, WAITING_MAX).await > 0 {
            let answer = self.round().await;
            for question in waiting.drain(..) {
                // Who does not wait any more needs no answer.
                drop(question.send(answer.clone()));
            }
        }
    }

    async fn round(&self) -> Result<LogIndex, NoLeader> {
        let leadership = self.leadership.borrow().clone();
        if leadership.is_leader {
            // Another leader may have answered writes that this one has not heard of.
            if planted::has(Bug::ReadWithoutQuorum) {
                return Ok(metrics::look(&self.core, status::committed));
            }
            let confirmed = self.core.get_read_linearizer(ReadPolicy::ReadIndex).await;
            return confirmed
                .map(|reading| reading.read_log_id().index())
                .map_err(|error| {
                    tracing::debug!(%error, "this leader could not confirm itself");
                    NoLeader
                });
        }
        let (leader, member) = leadership
            .leader
            .zip(leadership.leader_member)
            .ok_or(NoLeader)?;
        let ask = async {
            let peer = self.peers.peer(leader, &member.rpc, Lane::Requests)?;
            peer.unary(path::READ_INDEX, ReadIndexRequest {}, ROUND_TIMEOUT)
                .await
        };
        match ask.await {
            Ok(ReadIndexResponse { index: 0 }) => Err(NoLeader),
            Ok(ReadIndexResponse { index }) => Ok(index),
            Err(status) => {
                tracing::debug!(leader, %status, "the leader gave no read index");
                Err(NoLeader)
            }
        }
    }
}
