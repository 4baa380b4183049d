//! Ports for nodes.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Below what Linux gives to outgoing connections (from 32768), so that no client's socket takes
/// the port of a node that is down and about to come back.
const PORTS: Range<u16> = 10_000..32_000;
/// Ports that a process takes at once.
const BLOCK: u16 = 100;
const TRIES: usize = 1_000;

/// Ports that no other process of these tests takes: between the choice of a port and the moment in
/// which a node listens on it another test may well choose, and so it does once in a hundred runs.
struct Block {
    left: Range<u16>,
    /// Locked for as long as this process lives.
    _lock: File,
}

static BLOCKS: Mutex<Vec<Block>> = Mutex::new(Vec::new());

/// An address on loopback that nobody listens on now, and that is given to nobody else.
pub fn free() -> SocketAddr {
    let mut blocks = BLOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..TRIES {
        match blocks.last_mut().and_then(|block| block.left.next()) {
            None => blocks.extend(take_block()),
            Some(port) => {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                if TcpListener::bind(address).is_ok() {
                    return address;
                }
            }
        }
    }
    panic!("no free port in {PORTS:?} after {TRIES} tries");
}

/// A block chosen at random, if no other process has it.
fn take_block() -> Option<Block> {
    let number = rand::random_range(0..PORTS.len() / usize::from(BLOCK));
    let path = std::env::temp_dir().join(format!("duet-test-ports-{number}.lock"));
    let lock = File::create(path).expect("a temporary file can be made");
    let first = PORTS.start + u16::try_from(number).expect("there are few blocks") * BLOCK;
    lock.try_lock().ok().map(|()| Block {
        left: first..first + BLOCK,
        _lock: lock,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let ports: BTreeSet<u16> = (0..250).map(|_| free().port()).collect();
        assert_eq!(ports.len(), 250);
    }
}
