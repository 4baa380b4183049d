//! Ports for nodes.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Below what Linux gives to outgoing connections (from 32768), so that no client's socket takes
/// the port of a node that is down and about to come back.
const PORTS: std::ops::Range<u16> = 10_000..32_000;
const TRIES: usize = 100;

/// An address on loopback that nobody listens on now. Chosen at random, because several tests
/// choose at the same time.
pub fn free() -> SocketAddr {
    for _ in 0..TRIES {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, rand::random_range(PORTS)));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port in {PORTS:?} after {TRIES} tries");
}
