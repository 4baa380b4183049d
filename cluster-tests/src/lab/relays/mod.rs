//! A network between nodes that needs no rights: a relay before the port that each node serves the
//! others on.
//!
//! A node listens on a port that nobody is told of and advertises its relay's. Which node a
//! connection comes from is seen from the process that holds its other end ([`origin`]), so that
//! each direction between two nodes is a [`link`] of its own, whatever the nodes say to each other,
//! over TLS as well. What ends, stalls or goes on is decided in [`carry`].
//!
//! How this differs from packets that are lost:
//!
//! - The kernel of a node is answered by this process, also where a link is cut. It gets a
//!   connection at once, which then hangs; what it sends is acknowledged until buffers are full. So
//!   TCP's own timeouts never run out, only the program's; and where one direction is cut the other
//!   one works without end, while TCP without acknowledgments would stop.
//! - What waited at a cut link comes as soon as it is mended, not with TCP's next attempt.
//! - A node that does not run is not a refused connection but one that ends at once.
//! - A reset strikes both ends, and once in so many pieces of a stream instead of packets.
//! - A slow link is slow for what goes between nodes, not for clients.
//!
//! Everything runs on a thread of its own: whoever breaks the nodes may block his.

mod carry;
mod link;
mod origin;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use self::link::{Link, Links};
use super::Network;
use crate::ports;

pub use self::origin::missing;

/// Connections that a relay's kernel takes before the relay does.
const BACKLOG: u32 = 1024;
/// Bytes that wait at a relay, which are little: at a slow link they are in the way of what comes
/// next.
const RECEIVE_BYTES: u32 = 64 * 1024;

/// Relays before hosts. They are gone on drop, with every connection.
#[derive(Debug)]
pub struct Relays {
    seats: Vec<Seat>,
    links: Arc<Links>,
    /// The thread that carries, which ends when it is told to or nobody can tell it any more.
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// A host: where the node on it listens, and which process it is.
#[derive(Clone, Debug)]
pub struct Seat {
    host: u8,
    /// Where the other nodes reach it.
    relay: SocketAddr,
    /// Where it listens.
    listens: SocketAddr,
    /// Its process; 0 before the first.
    process: Arc<AtomicU32>,
}

impl Seat {
    /// The host's number.
    pub fn host(&self) -> u8 {
        self.host
    }

    /// Where the other nodes reach it, which it is to advertise.
    pub fn relay(&self) -> SocketAddr {
        self.relay
    }

    /// Where it is to listen.
    pub fn listens(&self) -> SocketAddr {
        self.listens
    }

    /// From now on what this process connects to comes from this host.
    pub fn take(&self, process: u32) {
        self.process.store(process, Ordering::Release);
    }

    fn process(&self) -> u32 {
        self.process.load(Ordering::Acquire)
    }
}

impl Relays {
    /// Relays before `hosts` hosts, whose links are all good.
    pub fn new(hosts: u8) -> Relays {
        let (mut seats, mut sockets) = (Vec::new(), Vec::new());
        for host in 0..hosts {
            let socket = socket().expect("a port on loopback is free");
            let relay = socket.local_addr().expect("a bound socket has an address");
            seats.push(Seat {
                host,
                relay,
                listens: ports::free(),
                process: Arc::default(),
            });
            sockets.push(socket);
        }
        let links = Arc::new(Links::new(hosts));
        let (stop, stopped) = oneshot::channel();
        let (listening, all_listen) = mpsc::channel();
        let (places, known) = (seats.clone(), Arc::clone(&links));
        let thread = std::thread::Builder::new().name("relays".into());
        let thread = thread.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be made");
            runtime.block_on(async {
                let mut relays = JoinSet::new();
                for (socket, seat) in sockets.into_iter().zip(&places) {
                    let listener = socket.listen(BACKLOG).expect("a bound socket can listen");
                    relays.spawn(relay(
                        listener,
                        seat.clone(),
                        places.clone(),
                        Arc::clone(&known),
                    ));
                }
                listening.send(()).expect("it is waited for");
                // An error: nobody can tell any more.
                let _: Result<(), oneshot::error::RecvError> = stopped.await;
            });
        });
        let thread = thread.expect("a thread can be started");
        all_listen.recv().expect("the relays listen");
        Relays {
            seats,
            links,
            running: Some((stop, thread)),
        }
    }

    /// A host.
    pub fn seat(&self, host: u8) -> &Seat {
        &self.seats[usize::from(host)]
    }
}

impl Network for Relays {
    fn hosts(&self) -> u8 {
        self.links.hosts()
    }

    fn deafen(&self, from: u8, to: u8) {
        self.links.cut(from, to);
    }

    fn heal(&self) {
        self.links.heal();
    }

    fn reset(&self, host: u8, per_mille: u16) {
        self.links
            .spoil(host, |bad| bad.resets_per_mille = per_mille);
    }

    fn slow(&self, host: u8, kbit: u32) {
        self.links.spoil(host, |bad| bad.kbit = Some(kbit));
    }

    fn hits(&self, host: u8) -> u64 {
        self.links.hits(host)
    }

    fn mend_links(&self) {
        self.links.mend();
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            if thread.join().is_err() {
                eprintln!("the relays panicked");
            }
        }
    }
}

fn socket() -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Those that are accepted have it too.
    socket.set_recv_buffer_size(RECEIVE_BYTES)?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    Ok(socket)
}

/// Takes connections to one host.
async fn relay(listener: TcpListener, to: Seat, seats: Vec<Seat>, links: Arc<Links>) {
    // Aborted with the relay.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // One that is gone before it was let in is nobody's concern.
        let Ok((client, address)) = listener.accept().await else {
            continue;
        };
        let (to, seats, links) = (to.clone(), seats.clone(), Arc::clone(&links));
        connections.spawn(async move {
            // None: it is no node's, and nobody else has business here; or it has ended.
            if let Some(from) = origin::of(address, to.relay, &seats).await {
                let there = Link::new(Arc::clone(&links), from, to.host);
                let back = Link::new(links, to.host, from);
                carry::carry(client, to.listens, &there, &back).await;
            }
        });
    }
}

#[cfg(test)]
mod tests;
