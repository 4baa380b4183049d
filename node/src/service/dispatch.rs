//! Where a call is served: here, or at the leader, one hop away.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use types::ids::{LogIndex, NodeId, Term};
use types::limits::STOPPING_POLL_MS;
use types::{Error, ErrorCode};

use super::auth::AuthService;
use super::call::{Call, Caller, Failure, Operation, Reply};
use super::cluster::ClusterService;
use super::consensus::{Consensus, lost, no_leader, stopping};
use super::digest::DigestService;
use super::sql::SqlService;
use super::topics::{GIVE_BACK_TIMEOUT, ReleaseRequest, TopicService};
use crate::forward::{ForwardError, Forwarder, IfOrphaned};
use crate::http::OnUndelivered;

/// How long a call whose answer was lost waits for the term to end that it was lost in: longer than
/// followers need to stand for election after a leader is gone. One that is still in office then
/// lives, and it was the connection to it that broke.
const SAME_TERM_MAX: Duration = Duration::from_secs(3);

/// How a call came to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// From a client.
    First,
    /// From another node, which took this one for the leader. It is never passed on again.
    Second,
}

/// Serves calls, whichever interface they came through.
#[derive(Clone)]
pub struct Dispatcher {
    consensus: Consensus,
    forwarder: Forwarder,
    services: Arc<Services>,
}

/// The services, each with what it needs and no more.
pub struct Services {
    /// Statements.
    pub sql: SqlService,
    /// Messages and groups.
    pub topics: TopicService,
    /// Accounts and tokens.
    pub auth: AuthService,
    /// Members.
    pub cluster: ClusterService,
    /// What nodes are compared by.
    pub digest: DigestService,
}

impl Dispatcher {
    /// Over these services.
    pub fn new(consensus: Consensus, forwarder: Forwarder, services: Arc<Services>) -> Dispatcher {
        Dispatcher {
            consensus,
            forwarder,
            services,
        }
    }

    /// Accounts and tokens, for the edge to authenticate with.
    pub fn auth(&self) -> &AuthService {
        &self.services.auth
    }

    /// Messages and groups, for the edge to stream from.
    pub fn topics(&self) -> &TopicService {
        &self.services.topics
    }

    /// Calls that were passed on and are not answered.
    pub fn forwarded_in_flight(&self) -> usize {
        self.forwarder.in_flight()
    }

    /// Serves a client's call. Always an answer; an error has the operation's shape. What only
    /// waits for something to happen is answered with what there is once `stopping` is over.
    pub async fn serve(&self, call: Call, stopping: impl Future<Output = ()>) -> Reply {
        let began = Instant::now();
        let shape = call.operation.error_shape();
        match self.place(call, stopping).await {
            Ok(reply) => reply,
            Err(error) => Reply::error(&error, shape, began.elapsed().as_secs_f64() * 1_000.0),
        }
    }

    /// Serves a call that another node passed on. [`Failure::NotLeader`] sends it back untouched.
    pub async fn serve_forwarded(&self, call: &Call) -> Result<Reply, Failure> {
        self.run(call, Hop::Second).await
    }

    /// Here if possible; at the leader if that is needed.
    async fn place(&self, call: Call, stopping: impl Future<Output = ()>) -> Result<Reply, Error> {
        if let Operation::Consume = call.operation {
            return self.consume(call, stopping).await;
        }
        if let Operation::Drain = call.operation {
            return self.drain(&call).await;
        }
        self.here_or_at_leader(call).await
    }

    /// Tries here first, which is all that a read needs, and what a leader's own clients need.
    async fn here_or_at_leader(&self, mut call: Call) -> Result<Reply, Error> {
        let leadership = self.consensus.raft().leadership();
        call.term = leadership.is_leader.then_some(leadership.term);
        let tried_at = self.consensus.raft().applied();
        match self.run(&call, Hop::First).await {
            Ok(reply) => Ok(reply),
            Err(Failure::Error(error)) => Err(error),
            Err(failure) => self.at_leader(call, failure, tried_at).await,
        }
    }

    /// A node drains itself; the call goes to the one that is meant.
    async fn drain(&self, call: &Call) -> Result<Reply, Error> {
        let cluster = &self.services.cluster;
        let outcome = match cluster.drains_elsewhere(call).await? {
            None => self.run(call, Hop::First).await,
            Some((node_id, rpc)) => self.forward(node_id, &rpc, call).await,
        };
        outcome.map_err(|failure| match failure {
            Failure::Error(error) | Failure::Lost(error) => error,
            Failure::NotLeader => Error::new(
                ErrorCode::ClusterUnavailable,
                "the node that is to drain cannot be reached",
            ),
        })
    }

    /// A consume with a group claims at the leader and reads here.
    async fn consume(
        &self,
        call: Call,
        stopping: impl Future<Output = ()>,
    ) -> Result<Reply, Error> {
        let topics = &self.services.topics;
        let (call, request) = topics.asked(call).await?;
        match topics.claim_wanted(&request)? {
            None => {
                let read = |call: Call| {
                    let request = request.clone();
                    async move { topics.consume_alone(&call, request).await }
                };
                wait_or_stop(&call, stopping, read).await
            }
            Some(claim) => {
                let claim = Call {
                    operation: Operation::Claim,
                    body: claim,
                    ..call.clone()
                };
                let claimed = wait_or_stop(&claim, stopping, |claim| self.here_or_at_leader(claim));
                let granted = claimed.await?;
                if granted.status != 200 {
                    return Ok(granted);
                }
                let release = self.release_for(&call);
                topics.deliver(&call, &request, granted, release).await
            }
        }
    }

    /// Passes the call to the leader, whoever that is by then, until the deadline. `failure` is how
    /// the last try ended, and `tried_at` what this node had applied when it began.
    ///
    /// Each try is bound to one term. If an answer is lost, the call goes on only to the leader of
    /// a later term, which can tell whether it happened. Until one has, `lost_after` is set, and
    /// every error that leaves says that it may have. Where the leader stays, nobody can tell, and
    /// the client is not kept waiting for it.
    async fn at_leader(
        &self,
        mut call: Call,
        mut failure: Failure,
        mut tried_at: LogIndex,
    ) -> Result<Reply, Error> {
        let mut leadership = self.consensus.leadership_watch();
        let (mut lost_in, mut lost_at) = (None, Instant::now());
        loop {
            let now = leadership.borrow_and_update().clone();
            match &failure {
                Failure::Error(error) => return Err(error.clone()),
                Failure::NotLeader => {}
                Failure::Lost(error) => {
                    call.lost_after = Some(call.lost_after.unwrap_or(tried_at));
                    let term = call.term.filter(|_| !call.is_repeatable());
                    if term > lost_in {
                        (lost_in, lost_at) = (term, Instant::now());
                    }
                    if lost_in == Some(now.term) && lost_at.elapsed() >= SAME_TERM_MAX {
                        return Err(error.clone());
                    }
                }
            }
            let later = lost_in.is_none_or(|term| now.term > term);
            let leader = now.leader.zip(now.leader_member);
            if let Some((leader, member)) = leader.filter(|_| later) {
                call.term = Some(now.term);
                tried_at = self.consensus.raft().applied();
                let outcome = if now.is_leader {
                    self.run(&call, Hop::First).await
                } else {
                    tokio::select! {
                        outcome = self.forward(leader, &member.rpc, &call) => outcome,
                        // A leader that was paused or cut off may never answer; its successor can.
                        () = self.superseded(now.term) => Err(Failure::Lost(lost())),
                    }
                };
                match outcome {
                    Ok(reply) => return Ok(reply),
                    Err(ended) => failure = ended,
                }
                if let Failure::Error(_) = failure {
                    continue;
                }
            }
            let changed = wait_for_change(&mut leadership, call.deadline).await;
            if !changed.map_err(|error| call.not_served(error))? {
                // Whoever waited this long is told the truth about what was lost.
                return Err(match failure {
                    Failure::Lost(error) => error,
                    _ if call.lost_after.is_some() => lost(),
                    _ => no_leader(),
                });
            }
        }
    }

    /// Waits until another term has a leader.
    async fn superseded(&self, term: Term) {
        let mut leadership = self.consensus.leadership_watch();
        let later = |now: &raft::Leadership| now.term > term && now.leader.is_some();
        let stopped = leadership.wait_for(later).await.is_err();
        if stopped {
            // The node is stopping, and its requests with it.
            pending::<()>().await;
        }
    }

    async fn forward(&self, leader: NodeId, rpc: &str, call: &Call) -> Result<Reply, Failure> {
        let grants = matches!(call.operation, Operation::Claim | Operation::Sql);
        let if_orphaned = grants.then(|| {
            let release = self.release_for(call);
            let act: IfOrphaned = Box::new(move |reply| release.give_back_all(reply.leases));
            act
        });
        match self.forwarder.call(leader, rpc, call, if_orphaned).await {
            Ok(reply) if reply.leases.is_empty() => Ok(reply),
            // From here on this node answers for what the leader granted.
            Ok(reply) => {
                let (release, leases) = (self.release_for(call), reply.leases.clone());
                let undelivered = OnUndelivered::new(move || release.give_back_all(leases));
                Ok(Reply {
                    undelivered: Some(undelivered),
                    ..reply
                })
            }
            // It did not leave this node, or came back untouched.
            Err(ForwardError::NotSent | ForwardError::NotLeader) => Err(Failure::NotLeader),
            Err(ForwardError::Overloaded) => {
                let message = "too many requests wait for the leader";
                let error = Error::new(ErrorCode::Overloaded, message);
                Err(Failure::Error(call.not_served(error)))
            }
            Err(ForwardError::Late) => Err(Failure::Error(
                Error::new(
                    ErrorCode::DeadlineExceeded,
                    "the leader did not answer in time",
                )
                .maybe_applied(),
            )),
            Err(ForwardError::Lost) => Err(Failure::Lost(lost())),
        }
    }

    fn release_for(&self, call: &Call) -> Release {
        Release {
            dispatcher: self.clone(),
            caller: call.caller.clone(),
            runtime: Handle::current(),
        }
    }

    /// Serves the call on this node, if it may be served: a call that was tried before must not
    /// have happened, or do no harm twice. What an error says of the second kind is true of this
    /// try only.
    async fn run(&self, call: &Call, hop: Hop) -> Result<Reply, Failure> {
        if call.lost_after.is_some() && call.is_repeatable() {
            let served = self.run_once(call, hop).await;
            return served.map_err(Failure::maybe_applied);
        }
        self.consensus.must_not_have_happened(call).await?;
        self.run_once(call, hop).await
    }

    async fn run_once(&self, call: &Call, hop: Hop) -> Result<Reply, Failure> {
        use Operation::*;
        let Services {
            sql,
            topics,
            auth,
            cluster,
            digest,
        } = &*self.services;
        match call.operation {
            Sql => sql.execute(call, hop).await,
            Consume | Stream => Err(Failure::new(
                ErrorCode::InternalError,
                "this is never passed on",
            )),
            Claim => topics.claim(call).await,
            Release => topics.release(call).await,
            Ack => topics.ack(call).await,
            Nack => topics.nack(call).await,
            Extend => topics.extend(call).await,
            LatestOffsets => Ok(topics.latest_offsets(call).await?),
            Login => Ok(auth.login(call).await?),
            Refresh => Ok(auth.refresh(call).await?),
            Logout => Ok(auth.logout()?),
            Me => Ok(auth.me(call).await?),
            AuthStatus => Ok(auth.status(call).await?),
            Setup => auth.setup(call).await,
            ClusterStatus => Ok(cluster.status(call).await?),
            ClusterHealth => Ok(cluster.health().await?),
            AddMember => cluster.add_member(call).await,
            Promote => cluster.promote(call).await,
            RemoveMember => cluster.remove(call).await,
            TransferLeader => cluster.transfer_leader(call).await,
            Snapshot => Ok(cluster.snapshot(call).await?),
            Digest => Ok(digest.digest(call).await?),
            Drain => cluster.drain(call).await,
        }
    }
}

/// Gives leases back whose messages did not reach their client: at the leader, whichever node that
/// is.
#[derive(Clone)]
pub struct Release {
    dispatcher: Dispatcher,
    caller: Option<Caller>,
    runtime: Handle,
}

impl Release {
    /// Gives back what a lease holds, in a task of its own. Best effort by nature: if it is false,
    /// the messages come back when the lease ends.
    pub fn give_back(&self, lease: ReleaseRequest) -> JoinHandle<bool> {
        let (dispatcher, caller) = (self.dispatcher.clone(), self.caller.clone());
        self.runtime.spawn(async move {
            let Ok(body) = serde_json::to_vec(&lease) else {
                return false;
            };
            let call = Call {
                caller,
                deadline: Instant::now() + GIVE_BACK_TIMEOUT,
                ..Call::new(Operation::Release, body.into())
            };
            let status = dispatcher.serve(call, pending()).await.status;
            if status != 200 {
                tracing::debug!(status, "a lease was not given back; it will run out");
            }
            status == 200
        })
    }

    fn give_back_all(&self, leases: Vec<ReleaseRequest>) {
        for lease in leases {
            // Nobody waits for it.
            drop(self.give_back(lease));
        }
    }
}

/// Waits for what a long poll waits for. When the node stops it is asked again and waits no more:
/// its answer is as true as ever, and there before connections are closed. What the first one may
/// have been granted meanwhile is given back. A node that takes its time to stop is not asked again
/// and again without a pause.
async fn wait_or_stop<F: Future<Output = Result<Reply, Error>>>(
    call: &Call,
    stopping: impl Future<Output = ()>,
    serve: impl Fn(Call) -> F,
) -> Result<Reply, Error> {
    let least = Instant::now() + Duration::from_millis(STOPPING_POLL_MS);
    let stopping = async {
        stopping.await;
        tokio::time::sleep_until(least.into()).await;
    };
    tokio::select! {
        biased;
        served = serve(call.clone()) => served,
        () = stopping, if call.wait_until.is_some_and(|until| until > least) => {
            let wait_until = Some(Instant::now());
            serve(Call { wait_until, ..call.clone() }).await
        }
    }
}

/// Waits until who leads changes, or a moment has passed: the leader may come back under the same
/// name, and a connection to it may work again without any change here. False: the deadline came.
async fn wait_for_change(
    leadership: &mut watch::Receiver<raft::Leadership>,
    deadline: Instant,
) -> Result<bool, Error> {
    const AGAIN_AFTER: std::time::Duration = std::time::Duration::from_millis(50);
    let again = Instant::now() + AGAIN_AFTER;
    match tokio::time::timeout_at(again.min(deadline).into(), leadership.changed()).await {
        Ok(Ok(())) => Ok(true),
        Ok(Err(_)) => Err(stopping()),
        Err(_) => Ok(Instant::now() < deadline),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use raft::{Member, Options, Raft, Secret};
    use sql::Catalog;
    use tokio::runtime::Handle;

    use super::*;
    use crate::config::{Config, ServeArgs};
    use crate::data_dir::{Identity, Origin};
    use crate::fatal::FatalReporter;
    use crate::inject::ClusterFacts;

    /// A node alone; it leads once its cluster was founded, and knows no leader before.
    struct Node {
        raft: Raft,
        dispatcher: Dispatcher,
        _directory: tempfile::TempDir,
    }

    impl Node {
        async fn start() -> Node {
            let directory = tempfile::tempdir().expect("a directory");
            let member = Member {
                rpc: "127.0.0.1:1".into(),
                http: "http://127.0.0.1:1".into(),
                version: String::new(),
                voter_wanted: true,
                apply_version: types::command::APPLY_VERSION,
            };
            let (path, secret) = (directory.path(), Secret::default());
            let options = Options::new(1, "test", path, member, secret, Handle::current());
            let raft = Raft::start(options).await.expect("starts");
            let consensus = Consensus::new(raft.clone(), FatalReporter::new().0);
            let config = Config::resolve(ServeArgs::default()).expect("resolves");
            let identity = Identity::new("test".into(), 1, Origin::Founder);
            let catalog = Catalog::new();
            let facts = Arc::new(ClusterFacts::new(catalog.clone()));
            Node {
                dispatcher: crate::serve::services(
                    &config,
                    &consensus,
                    &identity,
                    &catalog,
                    &facts,
                    &Arc::default(),
                ),
                raft,
                _directory: directory,
            }
        }

        async fn lead(&self) {
            self.raft.initialize().await.expect("founds a cluster");
            let mut leadership = self.raft.leadership_watch();
            let ready = leadership.wait_for(|now| now.ready_to_plan).await;
            assert!(ready.is_ok());
        }

        /// How a call ends that was tried and ended so.
        async fn after(&self, call: Call, failure: Failure) -> Error {
            let ended = self.dispatcher.at_leader(call, failure, 0).await;
            ended.expect_err("there is no leader")
        }
    }

    fn call(operation: Operation) -> Call {
        Call {
            deadline: Instant::now() + Duration::from_millis(30),
            ..Call::new(operation, Bytes::from_static(b"{}"))
        }
    }

    fn with_key() -> Call {
        Call {
            idempotency_key: Some("key".into()),
            ..call(Operation::Sql)
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_may_have_happened_is_not_denied_for_want_of_a_leader() {
        let node = Node::start().await;
        let calls = || {
            [
                call(Operation::Ack),
                with_key(),
                call(Operation::Claim),
                call(Operation::TransferLeader),
                call(Operation::RemoveMember),
            ]
        };
        for call in calls() {
            let name = call.operation;
            let untried = node.after(call.clone(), Failure::NotLeader).await;
            assert_eq!(untried, no_leader(), "{name:?}");
            assert_eq!(
                node.after(call, Failure::Lost(lost())).await,
                lost(),
                "{name:?}"
            );
        }
        node.raft.shutdown().await;
        for call in calls() {
            let name = call.operation;
            let untried = node.after(call.clone(), Failure::NotLeader).await;
            assert!(!untried.maybe_applied, "{name:?}: {untried}");
            let tried = node.after(call, Failure::Lost(lost())).await;
            assert!(tried.maybe_applied, "{name:?}: {tried}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_waits_for_the_end_of_a_leadership_that_goes_on() {
        let node = Node::start().await;
        node.lead().await;
        let call = Call {
            deadline: Instant::now() + Duration::from_secs(60),
            term: Some(node.raft.leadership().term),
            ..call(Operation::Ack)
        };
        let began = Instant::now();
        assert_eq!(node.after(call, Failure::Lost(lost())).await, lost());
        let took = began.elapsed();
        assert!(took < 2 * SAME_TERM_MAX, "{took:?}");
        node.raft.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_error_of_a_later_try_says_no_more_than_the_leader_knows() {
        let node = Node::start().await;
        node.lead().await;
        let again = async |call: Call| {
            let call = Call {
                deadline: Instant::now() + Duration::from_secs(60),
                lost_after: Some(0),
                term: Some(node.raft.leadership().term),
                ..call
            };
            match node.dispatcher.serve_forwarded(&call).await {
                Err(Failure::Error(error)) => error,
                other => panic!("{:?} ended as {other:?}", call.operation),
            }
        };
        // The log shows that it did not happen, so the error is all there is to say.
        let found_out = again(call(Operation::Sql)).await;
        assert_eq!(
            (found_out.code, found_out.maybe_applied),
            (ErrorCode::InvalidInput, false)
        );
        // These are tried without looking for the earlier try.
        for call in [
            with_key(),
            call(Operation::TransferLeader),
            call(Operation::RemoveMember),
        ] {
            let name = call.operation;
            let error = again(call).await;
            assert!(error.maybe_applied, "{name:?}: {error}");
        }
        node.raft.shutdown().await;
    }
}
