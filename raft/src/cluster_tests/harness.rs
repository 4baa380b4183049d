//! Nodes in one process, each on a runtime of its own that can be killed, talking over loopback.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use storage::keys::catalog;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::server::TcpIncoming;
use types::command::{
    APPLY_VERSION, Change, CommandKind, Envelope, Expectation, RegisterNode, Write,
};
use types::ids::{NodeId, Version};
use types::outcome::Outcome;

use crate::join::{JoinOptions, Joined, join};
use crate::rpc::{self, Invitation, RpcService};
use crate::type_config::Member;
use crate::{Disk, Options, ProposeError, Proposed, Raft, Secret};

pub(super) const CLUSTER: &str = "test-cluster";
pub(super) const SECRET: &str = "a secret of the tests";
/// Longer than anything here takes, however busy the machine is.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Threads of a node's runtime.
const WORKERS: usize = 2;

/// A node that waits to be invited into a cluster.
pub(super) struct Waiting {
    pub address: SocketAddr,
    runtime: Runtime,
    service: RpcService,
    invitations: watch::Receiver<Option<Invitation>>,
}

impl Waiting {
    /// Joins as it is invited to.
    pub(super) async fn accept(mut self) -> Node {
        let invited = self.invitations.wait_for(Option::is_some);
        let invitation = patient(invited).await.unwrap().clone().unwrap();
        let options = JoinOptions {
            seeds: invitation.members,
            secret: secret(),
            nonce: rand::random(),
            requested_id: invitation.requested_id,
            member: member(self.address),
            runtime: self.runtime.handle().clone(),
        };
        let joined = join(options, PATIENCE).await.unwrap();
        Node::join_with(joined, self.service, self.address, self.runtime).await
    }
}

/// One node.
pub(super) struct Node {
    pub raft: Raft,
    pub address: SocketAddr,
    pub dir: TempDir,
    /// What it believes of its disk.
    pub disk: watch::Sender<Disk>,
    runtime: OwnRuntime,
}

/// A node that does nothing until this is dropped.
pub(super) struct Frozen {
    _go_on: Vec<std::sync::mpsc::Sender<()>>,
}

/// A runtime that may be dropped from within another one.
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    /// Ends all that runs on it, and waits until that is dropped.
    fn end(mut self) {
        if let Some(runtime) = self.0.take() {
            let end = move || runtime.shutdown_timeout(PATIENCE);
            std::thread::spawn(end).join().unwrap();
        }
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // The storage must be closed before the process ends, or its library aborts the exit.
            // A runtime may not wait for itself, so a thread of its own waits.
            let wait = move || runtime.shutdown_timeout(std::time::Duration::from_secs(3));
            drop(std::thread::spawn(wait).join());
        }
    }
}

pub(super) fn secret() -> Secret {
    Secret::new(SECRET)
}

pub(super) fn member(address: SocketAddr) -> Member {
    Member {
        rpc: address.to_string(),
        http: format!("http://{address}/"),
        version: "test".into(),
        voter_wanted: true,
        apply_version: APPLY_VERSION,
    }
}

pub(super) fn options(id: NodeId, address: SocketAddr, dir: &Path, runtime: &Runtime) -> Options {
    let handle = runtime.handle().clone();
    Options::new(id, CLUSTER, dir, member(address), secret(), handle)
}

fn new_runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .unwrap()
}

/// Serves `service` on a free port, or the given one.
async fn serve(runtime: &Runtime, service: RpcService, port: u16) -> SocketAddr {
    let listen = async move {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let server = rpc::server()
            .add_service(service)
            .serve_with_incoming(incoming);
        tokio::spawn(server);
        address
    };
    runtime.spawn(listen).await.unwrap()
}

impl Node {
    async fn start_in(id: NodeId, dir: TempDir, port: u16, runtime: Runtime) -> Node {
        Node::start_as(id, dir, port, runtime, APPLY_VERSION).await
    }

    async fn start_as(
        id: NodeId,
        dir: TempDir,
        port: u16,
        runtime: Runtime,
        apply_version: u32,
    ) -> Node {
        let service = RpcService::new(secret());
        let address = serve(&runtime, service.clone(), port).await;
        let (disk, measured) = watch::channel(Disk::UNKNOWN);
        let mut options = options(id, address, dir.path(), &runtime);
        options.disk = measured;
        options.member.apply_version = apply_version;
        let raft = Raft::start(options).await.unwrap();
        service.attach(&raft);
        Node {
            raft,
            address,
            dir,
            disk,
            runtime: OwnRuntime(Some(runtime)),
        }
    }

    /// The first node of a new cluster, leading.
    pub(super) async fn first() -> Node {
        let node = Node::start_in(1, tempfile::tempdir().unwrap(), 0, new_runtime()).await;
        node.raft.initialize().await.unwrap();
        node.wait_ready().await;
        // As a founder does: nobody may join before it has its own number.
        let register = RegisterNode {
            nonce: vec![0xf0; 16].into(),
            requested_id: 1,
        };
        let envelope = Envelope {
            term: node.raft.leadership().term,
            commands: vec![CommandKind::RegisterNode(register).into()],
            ..Envelope::default()
        };
        node.raft.propose(envelope).await.unwrap();
        node
    }

    /// A node that joins the cluster of `seed`, and is a voter when this returns.
    pub(super) async fn joined(seed: &Node) -> Node {
        let runtime = new_runtime();
        let service = RpcService::new(secret());
        let address = serve(&runtime, service.clone(), 0).await;
        let nonce: [u8; 16] = rand::random();
        let joined = ask_to_join(seed, address, nonce, &runtime).await.unwrap();
        let node = Node::join_with(joined, service, address, runtime).await;
        node.wait_voter().await;
        node
    }

    /// A node that waits to be invited.
    pub(super) async fn waiting() -> Waiting {
        let runtime = new_runtime();
        let service = RpcService::new(secret());
        let address = serve(&runtime, service.clone(), 0).await;
        let invitations = service.wait_to_join(&address.to_string());
        Waiting {
            address,
            runtime,
            service,
            invitations,
        }
    }

    async fn join_with(
        joined: Joined,
        service: RpcService,
        address: SocketAddr,
        runtime: Runtime,
    ) -> Node {
        assert_eq!(joined.cluster_id, CLUSTER);
        let dir = tempfile::tempdir().unwrap();
        let (disk, measured) = watch::channel(Disk::UNKNOWN);
        let mut options = options(joined.node_id, address, dir.path(), &runtime);
        options.disk = measured;
        let raft = Raft::start(options).await.unwrap();
        service.attach(&raft);
        Node {
            raft,
            address,
            dir,
            disk,
            runtime: OwnRuntime(Some(runtime)),
        }
    }

    /// The same node again, on the same disk, at another address.
    pub(super) async fn restarted_elsewhere(id: NodeId, dir: TempDir) -> Node {
        Node::start_in(id, dir, 0, new_runtime()).await
    }

    /// Announces the node and goes on asking whether it is a member.
    pub(super) fn stays_member(&self, seeds: Vec<String>) -> JoinHandle<()> {
        let raft = self.raft.clone();
        tokio::spawn(async move {
            let ended = raft.stay_member(&seeds).await;
            tracing::debug!(?ended, "not a member any more");
        })
    }

    /// The same node again, on the same disk and address.
    pub(super) async fn restarted(id: NodeId, address: SocketAddr, dir: TempDir) -> Node {
        Node::start_in(id, dir, address.port(), new_runtime()).await
    }

    /// The same, with a build that has this version of apply.
    pub(super) async fn restarted_as(
        (id, address, dir): (NodeId, SocketAddr, TempDir),
        apply_version: u32,
    ) -> Node {
        Node::start_as(id, dir, address.port(), new_runtime(), apply_version).await
    }

    /// Ends the node as a crash would: nothing is said to anybody. Log and state are closed when
    /// this returns.
    pub(super) fn kill(self) -> (NodeId, SocketAddr, TempDir) {
        let Node {
            raft,
            address,
            dir,
            runtime,
            ..
        } = self;
        let id = raft.node_id();
        drop(raft);
        runtime.end();
        (id, address, dir)
    }

    /// Ends the node as an operator would.
    pub(super) async fn stop(self) -> (NodeId, SocketAddr, TempDir) {
        self.raft.shutdown().await;
        self.kill()
    }

    /// Stops the node, as a long pause of its machine would, until the value is dropped.
    pub(super) fn freeze(&self) -> Frozen {
        let (stopped, all_stopped) = std::sync::mpsc::channel();
        let runtime = self.runtime.0.as_ref().unwrap();
        let go_on = (0..WORKERS).map(|_| {
            let (go_on, wait) = std::sync::mpsc::channel::<()>();
            let stopped = stopped.clone();
            runtime.spawn(async move {
                stopped.send(()).unwrap();
                wait.recv().unwrap_err();
            });
            go_on
        });
        let go_on = go_on.collect();
        for _ in 0..WORKERS {
            all_stopped.recv_timeout(PATIENCE).unwrap();
        }
        Frozen { _go_on: go_on }
    }

    pub(super) async fn wait_ready(&self) {
        let mut leadership = self.raft.leadership_watch();
        let ready = leadership.wait_for(|leadership| leadership.ready_to_plan);
        patient(ready).await.unwrap();
    }

    pub(super) async fn wait_voter(&self) {
        let id = self.raft.node_id();
        let voter = crate::metrics::wait_for(self.raft.core(), |metrics| {
            let membership = &metrics.committed_membership_config;
            let joint = membership.membership().get_joint_config().len() > 1;
            (!joint && membership.voter_ids().any(|voter| voter == id)).then_some(())
        });
        patient(voter).await.unwrap();
    }

    pub(super) async fn wait_leader(&self, leader: impl Fn(NodeId) -> bool) -> NodeId {
        let mut leadership = self.raft.leadership_watch();
        let led = leadership.wait_for(|leadership| leadership.leader.is_some_and(&leader));
        let leader = patient(led).await.unwrap().leader;
        leader.unwrap()
    }

    /// The version and value of a counter key in this node's state.
    pub(super) fn read(&self, name: &str) -> Option<(Version, Vec<u8>)> {
        let stored = self
            .raft
            .snapshot()
            .state
            .get(&catalog::counter(name))
            .unwrap()?;
        let (version, value) = Version::split(&stored).unwrap();
        Some((version, value.to_vec()))
    }

    /// Proposes to set a key, in this node's current term.
    pub(super) async fn set(&self, name: &str, value: &str) -> Result<Proposed, ProposeError> {
        let envelope = put(self.raft.leadership().term, name, value, Vec::new());
        patient(self.raft.propose(envelope)).await
    }
}

pub(super) async fn ask_to_join(
    seed: &Node,
    address: SocketAddr,
    nonce: [u8; 16],
    runtime: &Runtime,
) -> Result<Joined, crate::join::JoinError> {
    ask_to_join_as(seed, member(address), nonce, runtime).await
}

pub(super) async fn ask_to_join_as(
    seed: &Node,
    member: Member,
    nonce: [u8; 16],
    runtime: &Runtime,
) -> Result<Joined, crate::join::JoinError> {
    let options = JoinOptions {
        seeds: vec![seed.address.to_string()],
        secret: secret(),
        nonce,
        requested_id: None,
        member,
        runtime: runtime.handle().clone(),
    };
    join(options, PATIENCE).await
}

/// Three voters; the first one leads.
pub(super) async fn three() -> [Node; 3] {
    let first = Node::first().await;
    let second = Node::joined(&first).await;
    let third = Node::joined(&second).await;
    [first, second, third]
}

/// An Envelope that sets one key.
pub(super) fn put(term: u64, name: &str, value: &str, expect: Vec<Expectation>) -> Envelope {
    let change = Change {
        key: catalog::counter(name).into(),
        after: Some(Bytes::copy_from_slice(value.as_bytes())),
        event: None,
    };
    let write = Write {
        changes: vec![change],
        ..Write::default()
    };
    Envelope {
        term,
        expectations: expect,
        commands: vec![CommandKind::Write(write).into()],
        ..Envelope::default()
    }
}

pub(super) fn is_applied(proposed: &Proposed) -> bool {
    matches!(&proposed.outcome, Outcome::Applied(applied) if applied.index == proposed.index)
}

/// Waits, but not for ever.
pub(super) async fn patient<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("this takes too long")
}
