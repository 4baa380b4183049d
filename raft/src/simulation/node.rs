//! A node of a simulation: all of it real but its disk and its network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use storage::memory::MemoryEngine;
use storage::{Direction, Durability, Engine, KeyRange, Op};
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use types::command::APPLY_VERSION;
use types::ids::NodeId;

use super::wire::Net;
use crate::join::{JoinOptions, join};
use crate::rpc::{self, RpcService};
use crate::state_machine::OpenEngine;
use crate::type_config::Member;
use crate::{Engines, Options, Raft, Secret, Timing};

const CLUSTER: &str = "simulated";
/// Longer than anything here takes, however busy the machine is.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Elections and heartbeats ten times as fast as usual.
const TIMING: Timing = Timing {
    heartbeat: Duration::from_millis(15),
    election_min: Duration::from_millis(60),
    election_max: Duration::from_millis(100),
};

type States = Arc<Mutex<BTreeMap<PathBuf, Arc<MemoryEngine>>>>;

/// What a node keeps when its power fails: what was synced or flushed. Its small files are real.
pub(super) struct Disk {
    log: Arc<MemoryEngine>,
    states: States,
    dir: TempDir,
}

/// A node that runs.
pub(super) struct Node {
    pub id: NodeId,
    pub raft: Raft,
    disk: Disk,
    server: JoinHandle<()>,
}

impl Disk {
    pub(super) fn new() -> Disk {
        Disk {
            log: Arc::default(),
            states: States::default(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn engines(&self) -> Vec<Arc<MemoryEngine>> {
        let states = self.states.lock().unwrap();
        let states = states.values().cloned();
        states.chain([Arc::clone(&self.log)]).collect()
    }

    /// The power fails: no write reaches the disk any more.
    fn cut_power(&self) {
        self.engines().iter().for_each(|engine| engine.break_disk());
    }

    /// As it is found when the power is back. Other engines: whatever still holds the old ones
    /// cannot reach these.
    fn found(self) -> Disk {
        self.engines().iter().for_each(|engine| engine.crash());
        let mut states = self.states.lock().unwrap();
        let copies = states
            .iter()
            .map(|(dir, engine)| (dir.clone(), copy(engine)));
        let copies = copies.collect();
        drop(std::mem::take(&mut *states));
        drop(states);
        Disk {
            log: copy(&self.log),
            states: Arc::new(Mutex::new(copies)),
            dir: self.dir,
        }
    }

    fn open_state(&self) -> OpenEngine {
        let states = Arc::clone(&self.states);
        Arc::new(move |dir| open_state(&states, dir))
    }
}

fn copy(engine: &MemoryEngine) -> Arc<MemoryEngine> {
    let all = KeyRange {
        start: Vec::new(),
        end: None,
    };
    let state = engine.snapshot();
    let pairs = state
        .scan(&all, Direction::Forward)
        .map(|pair| pair.unwrap());
    let puts: Vec<Op> = pairs.map(|(key, value)| Op::Put { key, value }).collect();
    let copy = MemoryEngine::new();
    copy.write(&puts, Durability::Synced).unwrap();
    Arc::new(copy)
}

/// A directory that holds a checkpoint gives it to a new engine; one that is open already, or was,
/// is opened again.
fn open_state(states: &States, dir: &Path) -> storage::Result<Arc<dyn Engine>> {
    let has_files = dir.is_dir() && std::fs::read_dir(dir).unwrap().next().is_some();
    let mut states = states.lock().unwrap();
    if has_files {
        let engine = Arc::new(MemoryEngine::open_checkpoint(dir)?);
        if dir.parent().is_some_and(|parent| parent.ends_with("state")) {
            for file in std::fs::read_dir(dir).unwrap() {
                std::fs::remove_file(file.unwrap().path()).unwrap();
            }
            states.insert(dir.to_owned(), Arc::clone(&engine));
        }
        return Ok(engine);
    }
    std::fs::create_dir_all(dir).unwrap();
    let engine = states.entry(dir.to_owned()).or_default();
    Ok(Arc::clone(engine) as Arc<dyn Engine>)
}

fn secret() -> Secret {
    Secret::new("a secret of the simulation")
}

fn member(address: &str) -> Member {
    Member {
        rpc: address.to_owned(),
        http: format!("http://{address}/"),
        version: "test".into(),
        voter_wanted: true,
        apply_version: APPLY_VERSION,
    }
}

fn serve(net: &Net, id: NodeId) -> (RpcService, JoinHandle<()>) {
    let service = RpcService::new(secret());
    let incoming = UnboundedReceiverStream::new(net.listen(id));
    let server = rpc::server()
        .add_service(service.clone())
        .serve_with_incoming(incoming);
    let server = tokio::spawn(async move { server.await.unwrap() });
    (service, server)
}

impl Node {
    /// Starts a node of a cluster that it belongs to, or is to found.
    pub(super) async fn start(net: &Net, id: NodeId, disk: Disk) -> Node {
        let (service, server) = serve(net, id);
        Node::start_on(net, id, disk, service, server).await
    }

    /// Starts a node that joins the cluster of node 1, under the number that comes next.
    pub(super) async fn join(net: &Net, id: NodeId) -> Node {
        let (service, server) = serve(net, id);
        let options = JoinOptions {
            seeds: vec![net.address(1)],
            secret: secret(),
            nonce: [u8::try_from(id).unwrap(); 16],
            requested_id: Some(id),
            member: member(&net.address(id)),
            runtime: Handle::current(),
        };
        let joined = join(options, PATIENCE).await.unwrap();
        assert_eq!(joined.node_id, id);
        Node::start_on(net, id, Disk::new(), service, server).await
    }

    async fn start_on(
        net: &Net,
        id: NodeId,
        disk: Disk,
        service: RpcService,
        server: JoinHandle<()>,
    ) -> Node {
        let member = member(&net.address(id));
        let runtime = Handle::current();
        let mut options = Options::new(id, CLUSTER, disk.dir.path(), member, secret(), runtime);
        options.timing = TIMING;
        options.engines = Engines::Custom {
            log: Arc::clone(&disk.log) as Arc<dyn Engine>,
            state: disk.open_state(),
        };
        let raft = Raft::start(options).await.unwrap();
        service.attach(&raft);
        Node {
            id,
            raft,
            disk,
            server,
        }
    }

    /// What its log holds on its disk, or is about to.
    pub(super) fn log(&self) -> Arc<dyn storage::Snapshot> {
        self.disk.log.snapshot()
    }

    /// The power of some nodes fails in the same moment. What they kept.
    pub(super) async fn power_loss(net: &Net, nodes: Vec<Node>) -> Vec<(NodeId, Disk)> {
        for node in &nodes {
            net.silence(node.id);
            node.disk.cut_power();
        }
        let mut kept = Vec::new();
        for node in nodes {
            let Node {
                id,
                raft,
                disk,
                server,
            } = node;
            server.abort();
            tokio::time::timeout(PATIENCE, raft.shutdown())
                .await
                .expect("a node without a disk ends");
            drop(raft);
            kept.push((id, disk.found()));
        }
        kept
    }
}
