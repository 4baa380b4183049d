//! Why a call of the handle did not do what was asked, one enum for each kind of call.

use types::ids::{LogIndex, NodeId};

/// The node's part in the cluster has ended, by [`crate::Raft::shutdown`] or by [`Fatal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node has stopped")]
pub struct Stopped;

/// Why the core ended. The process must exit with an error unless it asked for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// [`crate::Raft::shutdown`] was called.
    #[error("stopped as asked")]
    Stopped,
    /// The log or the state could not be read or written.
    #[error("storage failed: {0}")]
    Storage(String),
    /// A defect.
    #[error("the consensus core ended: {0}")]
    Core(String),
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log or the state could not be opened.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The options contradict each other or a bound.
    #[error("invalid option: {0}")]
    Options(String),
    /// What was recovered from the disk cannot be continued from.
    #[error(transparent)]
    Core(#[from] Fatal),
}

/// Why a new cluster was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitializeError {
    /// The node has a log already: it belongs to a cluster.
    #[error("this node belongs to a cluster already")]
    AlreadyInitialized,
    /// The node has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why an Envelope has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// The leadership it was planned in is over, or was never this node's. It was certainly not
    /// appended.
    #[error("not the leader; the leader is {leader:?}")]
    NotLeader {
        /// Who leads now, where known. May be this node, in another term.
        leader: Option<NodeId>,
    },
    /// The batcher's queue is full, or apply is too far behind. It was certainly not appended.
    #[error("too much work is waiting")]
    Overloaded,
    /// It would grow the state, and too many voters are short of room on their disks. It was
    /// certainly not appended.
    #[error("the cluster's disks are too full for what grows")]
    DiskFull,
    /// It has a command that the build of some member does not know. It was certainly not appended.
    #[error("it needs version {needs} of apply, and a member has only {have}")]
    NotAllCanApply {
        /// What the Envelope needs.
        needs: u32,
        /// The lowest that a member has.
        have: u32,
    },
    /// It was appended, or may have been, and what became of it is not known: it may still happen.
    #[error("the leadership changed before the outcome was known")]
    Unknown,
    /// The node has ended; the Envelope was not appended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why there is no read index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadIndexError {
    /// There was no leader, or none that a quorum answers, as far as could be told.
    #[error("no leader answered in time")]
    Unavailable,
    /// There is a leader, and it has not answered yet.
    #[error("the leader did not answer in time")]
    TimedOut,
    /// The node has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why the membership or the leadership was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Only the leader changes the membership.
    #[error("not the leader; the leader is {leader:?}")]
    NotLeader {
        /// Who leads now, where known.
        leader: Option<NodeId>,
    },
    /// No node of that number is a member.
    #[error("node {0} is not a member")]
    UnknownNode(NodeId),
    /// The number belongs, or once belonged, to another node.
    #[error("node number {0} is taken: numbers are never used again")]
    NumberTaken(NodeId),
    /// The step would leave the cluster without a quorum, or makes no sense now; says why.
    #[error("refused: {0}")]
    Refused(String),
    /// Another change is under way and did not finish in time.
    #[error("another change of the membership is under way")]
    InProgress,
    /// A learner that is this many entries behind cannot become a voter.
    #[error("node {node_id} is {lag} entries behind")]
    Lagging {
        /// The learner.
        node_id: NodeId,
        /// Entries it does not have yet.
        lag: LogIndex,
    },
    /// The step did not finish in time; it may still happen.
    #[error("not finished in time; it may still happen")]
    Unknown,
    /// There is too much work to take on this one.
    #[error("too much work is waiting")]
    Overloaded,
    /// The node has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}
