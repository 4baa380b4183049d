//! The handle the rest of the node holds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::RaftMetrics;
use openraft::errors::{Fatal as CoreFatal, InitializeError as CoreInitializeError, RaftError};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use types::command::Envelope;
use types::ids::{LogIndex, NodeId};
use types::limits::APPLY_LAG_MAX_ENTRIES;
use types::outcome::Outcome;

use crate::batcher::Batcher;
use crate::clock::{Clock, Stamps};
use crate::compaction;
use crate::disk;
use crate::error::{Fatal, InitializeError, ProposeError, ReadIndexError, StartError, Stopped};
use crate::guard::{Findings, Guard, Own};
use crate::leadership::{self, Leadership};
use crate::log_store::{LogHandle, LogStore};
use crate::membership::Changes;
use crate::metrics;
use crate::network::Network;
use crate::network::peers::Peers;
use crate::observe::Events;
use crate::options::{Engines, Options, Retention, Secret};
use crate::read_index::{NoLeader, ReadIndex};
use crate::rpc::RpcService;
use crate::rpc::auth::Identity;
use crate::rpc::messages::{StatusRequest, StatusResponse};
use crate::snapshot::{SnapshotError, make_dir};
use crate::state_machine::{ApplyCounters, RequestId, StateHandle, StateMachine, StateStore};
use crate::status::{self, Status};
use crate::type_config::{Member, TypeConfig};

/// openraft, with this crate's state machine.
pub(crate) type Core = openraft::Raft<TypeConfig, StateMachine>;

/// How often a snapshot that somebody waits for is asked for again.
const SNAPSHOT_ASK_INTERVAL: Duration = Duration::from_secs(1);

/// A node's part in the cluster. Cheap to clone; all clones are the same node.
#[derive(Clone)]
pub struct Raft {
    inner: Arc<Inner>,
}

struct Inner {
    node_id: NodeId,
    cluster_id: String,
    own: Arc<Own>,
    findings: Arc<Findings>,
    secret: Secret,
    retention: Retention,
    core: Core,
    store: Arc<StateStore>,
    machine: StateHandle,
    log: LogHandle,
    clock: Arc<Clock>,
    peers: Peers,
    batcher: Batcher,
    reads: ReadIndex,
    changes: Arc<Changes>,
    events: Arc<Events>,
    applied: watch::Receiver<LogIndex>,
    leadership: watch::Receiver<Leadership>,
    /// The last entry in the log when the node started; none: there was none.
    recover_to: Option<LogIndex>,
    /// The cluster has removed this node.
    removed: watch::Sender<bool>,
    /// Wakes who asks whether this node still is a member.
    ask_now: Notify,
    /// Tasks that hold parts of this node for as long as the core runs.
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Inner {
    fn take_tasks(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposed {
    /// The entry it was in.
    pub index: LogIndex,
    /// What apply says of it.
    pub outcome: Outcome,
}

/// The state of this node as of one entry.
#[derive(Clone)]
pub struct StateView {
    /// The last entry in it.
    pub applied: LogIndex,
    /// The state.
    pub state: Arc<dyn storage::Snapshot>,
}

impl Raft {
    /// Opens log and state, and takes part from then on, on [`Options::runtime`].
    pub async fn start(options: Options) -> Result<Raft, StartError> {
        let runtime = options.runtime.clone();
        let started = runtime.spawn(Raft::start_here(options)).await;
        started.unwrap_or_else(|error| Err(Fatal::Core(error.to_string()).into()))
    }

    async fn start_here(options: Options) -> Result<Raft, StartError> {
        let config = options.config()?;
        let Options {
            node_id,
            cluster_id,
            data_dir,
            member,
            secret,
            timing,
            retention,
            disk,
            certificates,
            ..
        } = options;
        let engines = options.engines;
        let (log_store, store) =
            tokio::task::spawn_blocking(move || open_storage(&data_dir, engines))
                .await
                .map_err(|error| Fatal::Core(error.to_string()))??;
        let log = log_store.handle();
        let machine = StateMachine::start(store.clone(), log.durable_end())
            .map_err(|error| Fatal::Core(error.to_string()))?;
        let machine_handle = machine.handle();
        let recover_to = log.last().map(|log_id| log_id.index);

        let identity = Identity {
            cluster_id: cluster_id.clone(),
            node_id,
            secret: secret.clone(),
        };
        let peers = Peers::new(identity, options.runtime.clone());
        let events = Arc::new(Events::default());
        let network = Network::new(node_id, peers.clone(), events.clone());
        let core = Core::new(node_id, Arc::new(config), network, log_store, machine)
            .await
            .map_err(|fatal| fatal_of(&fatal))?;

        let clock = Arc::new(Clock::new(options.clock));
        let (leadership, following) = leadership::follow(
            &core,
            peers.clone(),
            store.clone(),
            clock.clone(),
            recover_to,
            events.clone(),
        );
        let batcher = Batcher::start(node_id, core.clone(), clock.clone(), leadership.clone());
        let reads = ReadIndex::start(core.clone(), peers.clone(), leadership.clone());
        let silence_max = 2 * timing.election_max;
        let changes = Changes::new(core.clone(), batcher.clone(), peers.clone(), silence_max);
        let changes = Arc::new(changes);
        let own = Arc::new(Own {
            core: core.clone(),
            store: store.clone(),
            member,
            disk: disk.clone(),
            log: log.clone(),
            certificates,
            clock: clock.clone(),
            changes: changes.clone(),
        });
        let findings = Arc::new(Findings::default());
        let guard = Guard::new(&own, &peers, &batcher, &findings);
        let log_care = compaction::look_after_log(core.clone(), log.clone(), disk, retention);
        let tasks = vec![
            following,
            tokio::spawn(look_after_members(changes.clone())),
            tokio::spawn(log_care),
            tokio::spawn(guard.run(leadership.clone())),
        ];
        let inner = Inner {
            node_id,
            applied: store.applied_index(),
            cluster_id,
            own,
            findings,
            secret,
            retention,
            core,
            store,
            machine: machine_handle,
            log,
            clock,
            peers,
            batcher,
            reads,
            changes,
            events,
            leadership,
            recover_to,
            removed: watch::Sender::new(false),
            ask_now: Notify::new(),
            tasks: Mutex::new(tasks),
        };
        Ok(Raft {
            inner: Arc::new(inner),
        })
    }

    /// This node's number.
    pub fn node_id(&self) -> NodeId {
        self.inner.node_id
    }

    /// The cluster it belongs to.
    pub fn cluster_id(&self) -> &str {
        &self.inner.cluster_id
    }

    /// Makes a new cluster with this node as its only voter. The node has to propose the first
    /// Envelope itself, once it is [ready to plan](Leadership::ready_to_plan).
    pub async fn initialize(&self) -> Result<(), InitializeError> {
        let members = BTreeMap::from([(self.inner.node_id, self.inner.own.member.clone())]);
        self.inner
            .core
            .initialize(members)
            .await
            .map_err(|error| match error {
                RaftError::APIError(CoreInitializeError::NotAllowed(_)) => {
                    InitializeError::AlreadyInitialized
                }
                RaftError::APIError(CoreInitializeError::NotInMembers(_)) | RaftError::Fatal(_) => {
                    Stopped.into()
                }
            })
    }

    /// Waits until this node has applied again what its log held when it started, as far as it was
    /// committed. Before that it shows an older state than it did before it was restarted, so it
    /// serves nothing, not even reads of its own state. Needs a leader; a node that never had a log
    /// waits for its first entry.
    pub async fn recovered(&self) -> Result<(), Stopped> {
        let recover_to = self.inner.recover_to;
        // The end of the log may be replaced by something shorter, so its end now counts too.
        let sure = |metrics: &RaftMetrics<TypeConfig>| {
            let target = recover_to.min(metrics.last_log_index).max(Some(0));
            let committed = metrics.cluster_committed.map(|log_id| log_id.index);
            committed.filter(|_| committed >= target)
        };
        let committed = metrics::wait_for(&self.inner.core, sure).await?;
        self.wait_applied(committed).await
    }

    /// Replicates an Envelope that was planned in `envelope.term`, on the leader, and waits until
    /// it is applied here. Dropping the future does not take the Envelope back.
    pub async fn propose(&self, envelope: Envelope) -> Result<Proposed, ProposeError> {
        let committed = metrics::look(&self.inner.core, status::committed);
        if committed.saturating_sub(self.applied()) > APPLY_LAG_MAX_ENTRIES {
            return Err(ProposeError::Overloaded);
        }
        if self.growth_refused() && disk::grows(&envelope) {
            return Err(ProposeError::DiskFull);
        }
        self.inner.batcher.propose(envelope).await
    }

    /// The entry that a read which begins now must have applied to be linearizable. The leader is
    /// confirmed by a quorum each time, many callers sharing one round. Waits for a leader, at most
    /// `timeout`.
    pub async fn read_index(&self, timeout: Duration) -> Result<LogIndex, ReadIndexError> {
        match self.inner.reads.get(timeout).await {
            Err(ReadIndexError::TimedOut)
                if self.leadership().is_leader && !self.quorum_answers() =>
            {
                Err(ReadIndexError::Unavailable)
            }
            answer => answer,
        }
    }

    /// For another node: the read index, if this node leads.
    pub(crate) async fn read_index_as_leader(&self) -> Result<LogIndex, NoLeader> {
        if !self.inner.leadership.borrow().is_leader {
            return Err(NoLeader);
        }
        self.inner.reads.round().await.unwrap_or(Err(NoLeader))
    }

    /// Waits until this node has applied `index`.
    pub async fn wait_applied(&self, index: LogIndex) -> Result<(), Stopped> {
        let mut applied = self.inner.applied.clone();
        let mut removed = self.inner.removed.subscribe();
        let reached = applied.wait_for(|applied| *applied >= index);
        tokio::select! {
            biased;
            reached = reached => reached.map(drop).map_err(|_| Stopped),
            () = self.ended() => Err(Stopped),
            // Nobody sends it entries any more.
            _removed = removed.wait_for(|removed| *removed) => Err(Stopped),
        }
    }

    /// Waits until the core has ended. Woken by changes of the leadership only, so that many can
    /// wait: [`Raft::fatal`] is woken by every entry.
    pub(crate) async fn ended(&self) {
        let mut leadership = self.inner.leadership.clone();
        while leadership.changed().await.is_ok() {}
    }

    /// The last entry this node has applied.
    pub fn applied(&self) -> LogIndex {
        *self.inner.applied.borrow()
    }

    /// [`Raft::applied`], whenever it changes.
    pub fn applied_watch(&self) -> watch::Receiver<LogIndex> {
        self.inner.applied.clone()
    }

    /// Was this request applied in an entry above `after`? On a leader that is
    /// [ready to plan](Leadership::ready_to_plan), "no" is final for whatever was proposed in an
    /// earlier term. None if this node cannot tell.
    pub fn was_applied(&self, request: &RequestId, after: LogIndex) -> Option<bool> {
        self.inner.store.recent().contains(request, after)
    }

    /// This node's state as of now.
    pub fn snapshot(&self) -> StateView {
        let (applied, state) = self.inner.store.snapshot();
        #[cfg(feature = "planted")]
        let state = crate::planted::with_uncommitted(&self.inner.log, applied, state);
        StateView { applied, state }
    }

    /// Who leads.
    pub fn leadership(&self) -> Leadership {
        self.inner.leadership.borrow().clone()
    }

    /// [`Raft::leadership`], whenever it changes.
    pub fn leadership_watch(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// The clocks that entries are stamped with. Never behind what was applied here; on a node that
    /// does not lead, the lease clock stands there.
    pub fn now(&self) -> Stamps {
        self.inner
            .clock
            .now(leadership::applied_stamps(&self.inner.store))
    }

    /// How long ago the wall clock of this machine jumped, if it did. Retention waits after a jump.
    pub fn since_wall_jump(&self) -> Option<Duration> {
        self.inner.clock.since_wall_jump()
    }

    /// The cluster and its members, each of them asked, on any node. Takes at most about a second.
    pub async fn status(&self) -> Status {
        let Inner {
            core,
            peers,
            cluster_id,
            clock,
            ..
        } = &*self.inner;
        let own = self.own_status(StatusRequest::default());
        let wall = || clock.wall();
        status::collect(core, peers, cluster_id, own, wall).await
    }

    /// For another node: how this one is doing.
    pub(crate) fn own_status(&self, request: StatusRequest) -> StatusResponse {
        self.inner.own.status(request)
    }

    /// What the cluster is told of this node when it starts.
    pub(crate) fn own_member(&self) -> Member {
        self.inner.own.member.clone()
    }

    /// The cluster has removed this node: what waits for entries waits in vain.
    pub(crate) fn set_removed(&self) {
        self.inner.removed.send_replace(true);
    }

    /// Wakes [`Raft::stay_member`].
    pub(crate) fn ask_if_member_now(&self) {
        self.inner.ask_now.notify_one();
    }

    /// Waits for [`Raft::ask_if_member_now`].
    pub(crate) async fn told_to_ask(&self) {
        self.inner.ask_now.notified().await;
    }

    /// Has a quorum answered this leader lately? False on a node that does not lead.
    pub fn quorum_answers(&self) -> bool {
        self.inner.changes.quorum_answers()
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.inner.secret
    }

    /// Takes a snapshot of this node now, and lets its log go below it. Returns the last entry in
    /// it when it is done.
    pub async fn take_snapshot(&self) -> Result<LogIndex, Stopped> {
        let wanted = self.applied();
        loop {
            self.trigger_snapshot().await?;
            let reached = |metrics: &RaftMetrics<TypeConfig>| {
                metrics
                    .snapshot
                    .map(|log_id| log_id.index)
                    .filter(|index| *index >= wanted)
            };
            // Asked while one is being made, which may have begun before `wanted`, the core does
            // nothing.
            let made = metrics::wait_for(&self.inner.core, reached);
            if let Ok(made) = tokio::time::timeout(SNAPSHOT_ASK_INTERVAL, made).await {
                return made;
            }
        }
    }

    /// Asks for a snapshot of this node. Returns at once. Nothing happens if one is being made.
    pub async fn trigger_snapshot(&self) -> Result<(), Stopped> {
        self.inner
            .core
            .trigger()
            .snapshot()
            .await
            .map_err(|_| Stopped)
    }

    /// Waits until the core has ended, and says why. Unless it was [`Raft::shutdown`], the process
    /// must exit with an error.
    pub async fn fatal(&self) -> Fatal {
        let ended = |metrics: &RaftMetrics<TypeConfig>| metrics.running_state.clone().err();
        match metrics::wait_for(&self.inner.core, ended).await {
            Ok(fatal) => with_reason(fatal_of(&fatal), self.inner.log.failure()),
            Err(Stopped) => Fatal::Core("its metrics closed".into()),
        }
    }

    /// Hands the leadership on where possible, and ends this node's part. All handles fail after
    /// that; when the last one is dropped, log and state are closed. A handle that is only dropped
    /// ends nothing.
    pub async fn shutdown(&self) {
        if self.leadership().is_leader
            && let Some(successor) = self.inner.changes.successor().await
            && let Err(error) = self.transfer_leader(successor).await
        {
            tracing::warn!(successor, %error, "the leadership was not handed on");
        }
        if let Err(error) = self.inner.core.shutdown().await {
            tracing::error!(%error, "the consensus core did not end well");
        }
        for task in self.inner.take_tasks() {
            task.abort();
            // Aborted or ended, nothing of the node is held by it any more.
            drop(task.await);
        }
        // So that the next start has nothing to apply again.
        let store = self.inner.store.clone();
        match tokio::task::spawn_blocking(move || store.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the state could not be flushed"),
            Err(error) => tracing::error!(%error, "the flush of the state did not end"),
        }
    }

    /// What other nodes call; to be mounted on the node's RPC listener. A node whose listener opens
    /// before it belongs to a cluster makes [`RpcService::new`] and attaches this later.
    pub fn rpc_service(&self) -> RpcService {
        let service = RpcService::new(self.inner.secret.clone());
        service.attach(self);
        service
    }

    /// Connections to other nodes that this node has proved itself on, for services of the node's
    /// own.
    pub fn peers(&self) -> &Peers {
        &self.inner.peers
    }

    /// What the log has written, for metrics.
    pub fn log(&self) -> &LogHandle {
        &self.inner.log
    }

    /// What apply has done, for metrics.
    pub fn apply_counters(&self) -> ApplyCounters {
        self.inner.machine.counters()
    }

    pub(crate) fn changes(&self) -> &Changes {
        &self.inner.changes
    }

    pub(crate) fn core(&self) -> &Core {
        &self.inner.core
    }

    pub(crate) fn retention(&self) -> Retention {
        self.inner.retention
    }

    pub(crate) fn own(&self) -> &Own {
        &self.inner.own
    }

    pub(crate) fn findings(&self) -> &Findings {
        &self.inner.findings
    }

    pub(crate) fn events(&self) -> &Events {
        &self.inner.events
    }

    pub(crate) fn batcher(&self) -> &Batcher {
        &self.inner.batcher
    }

    pub(crate) fn store(&self) -> &Arc<StateStore> {
        &self.inner.store
    }
}

/// Opens log and state, and looks whether they belong together. Blocks on the disk.
pub(crate) fn open_storage(
    data_dir: &Path,
    engines: Engines,
) -> Result<(LogStore, Arc<StateStore>), StartError> {
    let refused = |error| match error {
        SnapshotError::Storage(error) => StartError::Storage(error),
        other => StartError::Core(Fatal::Storage(other.to_string())),
    };
    make_dir(data_dir).map_err(refused)?;
    let (log_engine, open_state) = engines.open(data_dir)?;
    // Not every finding is about one file; the operator is told at least where it was made.
    let (log_dir, state_dir) = (data_dir.join("log"), data_dir.join("state"));
    let refused_in_state = |error| match refused(error) {
        StartError::Storage(error) => StartError::Storage(error.within(&state_dir)),
        other => other,
    };
    let log = LogStore::open(log_engine, &data_dir.join("log.marker"))
        .map_err(|error| error.within(&log_dir))?;
    let store = StateStore::open(data_dir, open_state).map_err(refused_in_state)?;
    store
        .check_reaches(&log.handle())
        .map_err(refused_in_state)?;
    Ok((log, Arc::new(store)))
}

fn fatal_of(fatal: &CoreFatal<TypeConfig>) -> Fatal {
    match fatal {
        CoreFatal::Stopped => Fatal::Stopped,
        CoreFatal::StorageError(error) => Fatal::Storage(error.to_string()),
        CoreFatal::Panicked => Fatal::Core("it panicked".into()),
    }
}

/// Who meets a failed log first ends the core, and may know no more than that it has stopped: the
/// log knows why.
fn with_reason(fatal: Fatal, log_failed: Option<&str>) -> Fatal {
    match (fatal, log_failed) {
        (Fatal::Storage(met), Some(why)) if !met.contains(why) => {
            Fatal::Storage(format!("{why}; {met}"))
        }
        (fatal, _) => fatal,
    }
}

async fn look_after_members(changes: Arc<Changes>) {
    // Ends with the core; there is nothing to say that the core does not say.
    let Err(Stopped) = changes.look_after().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_log_says_why_whoever_met_it_first() {
        let met = |what: &str| Fatal::Storage(what.into());
        let why = Some("write failed: no such disk");
        let told = with_reason(met("the log has stopped before entry 7 was durable"), why);
        assert!(told.to_string().contains("no such disk"), "{told}");
        let itself = met("the log store has failed: write failed: no such disk");
        assert_eq!(with_reason(itself.clone(), why), itself);
        assert_eq!(with_reason(Fatal::Stopped, why), Fatal::Stopped);
        assert_eq!(with_reason(met("a block"), None), met("a block"));
    }
}
