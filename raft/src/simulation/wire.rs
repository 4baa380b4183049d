//! The network of a simulation: pipes in memory in the place of sockets, under everything else
//! that is real. What goes over a pipe may be held up, delayed or cut off, each direction of each
//! pair of nodes on its own.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tonic::codegen::http::Uri;
use tower::Service;
use types::ids::NodeId;

use super::Random;

/// Bytes that a pipe holds before its writer waits.
const PIPE_BYTES: usize = 64 * 1024;
/// Most bytes that are passed on at once.
const CHUNK_BYTES: usize = 8 * 1024;

/// All networks of the process, by the name in their nodes' addresses.
static NETS: LazyLock<Mutex<BTreeMap<String, Arc<Net>>>> = LazyLock::new(Mutex::default);

/// One direction between two nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Link {
    /// Nothing arrives, and nobody is told.
    pub cut: bool,
    /// Each piece takes up to so long.
    pub delay_max: Duration,
    /// Of a thousand pieces, so many end their connection.
    pub resets: u64,
}

/// The network of one cluster.
pub(crate) struct Net {
    name: String,
    state: Mutex<State>,
}

struct State {
    random: Random,
    ports: BTreeMap<NodeId, mpsc::UnboundedSender<io::Result<DuplexStream>>>,
    links: BTreeMap<(NodeId, NodeId), watch::Sender<Link>>,
    pumps: Vec<(NodeId, NodeId, AbortHandle)>,
}

/// Connects one node to another. What tonic asks for a connection.
#[derive(Clone)]
pub(crate) struct Connector {
    net: Arc<Net>,
    from: NodeId,
    to: NodeId,
}

/// How to reach `address`, if it is one of a simulation's.
pub(crate) fn connector(from: NodeId, address: &str) -> Option<Connector> {
    let (to, name) = address.strip_suffix(":1")?.split_once('.')?;
    let to = to.strip_prefix('n')?.parse().ok()?;
    let net = Arc::clone(lock(&NETS).get(name)?);
    Some(Connector { net, from, to })
}

impl Net {
    pub(super) fn new(name: &str, seed: u64) -> Arc<Net> {
        let state = State {
            random: Random::new(seed),
            ports: BTreeMap::new(),
            links: BTreeMap::new(),
            pumps: Vec::new(),
        };
        let net = Arc::new(Net {
            name: name.to_owned(),
            state: Mutex::new(state),
        });
        lock(&NETS).insert(name.to_owned(), Arc::clone(&net));
        net
    }

    /// Where a node is.
    pub(super) fn address(&self, node: NodeId) -> String {
        format!("n{node}.{}:1", self.name)
    }

    /// What comes in at a node from now on.
    pub(super) fn listen(&self, node: NodeId) -> mpsc::UnboundedReceiver<io::Result<DuplexStream>> {
        let (port, incoming) = mpsc::unbounded_channel();
        self.state().ports.insert(node, port);
        incoming
    }

    /// A node is gone: its connections end, and nobody connects to it.
    pub(super) fn silence(&self, node: NodeId) {
        let mut state = self.state();
        state.ports.remove(&node);
        state.pumps.retain(|(from, to, pump)| {
            let its = *from == node || *to == node;
            if its {
                pump.abort();
            }
            !its && !pump.is_finished()
        });
    }

    /// Makes a direction so from now on.
    pub(super) fn set(&self, from: NodeId, to: NodeId, link: Link) {
        self.state().link(from, to).send_replace(link);
    }

    /// Changes every direction.
    pub(super) fn change_all(&self, change: impl Fn(&mut Link)) {
        for link in self.state().links.values() {
            link.send_modify(&change);
        }
    }

    fn connect(&self, from: NodeId, to: NodeId) -> io::Result<DuplexStream> {
        let mut state = self.state();
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let port = state.ports.get(&to).cloned().ok_or_else(refused)?;
        let (client, near) = tokio::io::duplex(PIPE_BYTES);
        let (far, server) = tokio::io::duplex(PIPE_BYTES);
        port.send(Ok(server)).map_err(|_closed| refused())?;
        let (near_read, near_write) = tokio::io::split(near);
        let (far_read, far_write) = tokio::io::split(far);
        let (there, back) = (
            state.link(from, to).subscribe(),
            state.link(to, from).subscribe(),
        );
        let mut random = || Random::new(state.random.next());
        let (there_random, back_random) = (random(), random());
        // One task for both: where one direction ends, so does the connection.
        let pump = tokio::spawn(async move {
            tokio::select! {
                _ended = pump(near_read, far_write, there, there_random) => {}
                _ended = pump(far_read, near_write, back, back_random) => {}
            }
        });
        state.pumps.push((from, to, pump.abort_handle()));
        Ok(client)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn link(&mut self, from: NodeId, to: NodeId) -> &watch::Sender<Link> {
        self.links.entry((from, to)).or_default()
    }
}

/// Passes on what comes, until the connection ends.
async fn pump(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    mut link: watch::Receiver<Link>,
    mut random: Random,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk).await?;
        let open = link.wait_for(|link| !link.cut).await;
        let Link {
            delay_max, resets, ..
        } = *open.map_err(io::Error::other)?;
        if read == 0 || random.next() % 1000 < resets {
            return Ok(());
        }
        if !delay_max.is_zero() {
            let micros = u64::try_from(delay_max.as_micros()).unwrap();
            let delay = Duration::from_micros(random.next() % micros);
            // sleep: how long the network takes is part of the schedule.
            tokio::time::sleep(delay).await;
        }
        to.write_all(&chunk[..read]).await?;
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<DuplexStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<DuplexStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Connector { net, from, to } = self.clone();
        Box::pin(async move {
            let mut link = net.state().link(from, to).subscribe();
            let open = link.wait_for(|link| !link.cut).await;
            drop(open.map_err(io::Error::other)?);
            net.connect(from, to).map(TokioIo::new)
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
