//! Which host a connection comes from: the one whose process holds its other end.
//!
//! The kernel shows to everybody which socket has an address (`/proc/net/tcp`), and to the owner of
//! a process which sockets it holds (`/proc/PID/fd`). That takes no rights where the processes are
//! one's own children, and nothing of what the nodes say to each other is looked at.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::Seat;

/// All TCP sockets of this network namespace.
const SOCKETS: &str = "/proc/net/tcp";
/// How often one looks. The list is not one moment's, and a process that has just been started may
/// not be known yet.
const LOOKS: usize = 50;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Which column of the list says the number of the socket.
const INODE_COLUMN: usize = 9;

/// Why there can be no relays on this machine; none: there can be.
pub fn missing() -> Option<String> {
    let failed = File::open(SOCKETS).err()?;
    Some(format!(
        "without the lab it needs {SOCKETS}, to tell whose a connection is: {failed}"
    ))
}

/// The host from which the connection of `client` to `relay` comes; none if it is no node's, or has
/// ended.
pub(super) async fn of(client: SocketAddr, relay: SocketAddr, seats: &[Seat]) -> Option<u8> {
    for _ in 0..LOOKS {
        let table = fs::read_to_string(SOCKETS).unwrap_or_default();
        if let Some(socket) = socket(&table, client, relay)
            && let Some(seat) = seats.iter().find(|seat| holds(seat.process(), &socket))
        {
            return Some(seat.host);
        }
        // sleep: no event tells that the kernel's list has changed
        tokio::time::sleep(LOOK).await;
    }
    None
}

/// What the files of a process link to for the socket that is at `local` and connected to `remote`.
fn socket(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<String> {
    let (local, remote) = (spelled(local)?, spelled(remote)?);
    let inode = table.lines().find_map(|line| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let ends = (columns.next()?, columns.next()?);
        (ends == (&local, &remote)).then(|| columns.nth(INODE_COLUMN - 3))?
    })?;
    // 0: nobody holds it any more.
    (inode != "0").then(|| format!("socket:[{inode}]"))
}

/// An address as the list spells it: what is in memory, as a number of this machine.
fn spelled(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else {
        return None;
    };
    let ip = u32::from_ne_bytes(address.ip().octets());
    Some(format!("{ip:08X}:{:04X}", address.port()))
}

/// Does the process hold the socket?
fn holds(process: u32, socket: &str) -> bool {
    // One that has ended has no files.
    let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else {
        return false;
    };
    let mut targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    targets.any(|target| target == Path::new(socket))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_socket_is_found_by_both_its_ends_and_in_its_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = listener.local_addr().unwrap();
        let one = TcpStream::connect(relay).unwrap();
        let other = TcpStream::connect(relay).unwrap();
        let table = fs::read_to_string(SOCKETS).unwrap();
        let of = |stream: &TcpStream| socket(&table, stream.local_addr().unwrap(), relay);
        let found = of(&one).unwrap();
        assert_ne!(Some(&found), of(&other).as_ref());
        assert!(holds(std::process::id(), &found));
        let mut stranger = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        assert!(!holds(stranger.id(), &found));
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }

    #[test]
    fn the_list_is_read() {
        let [local, relay] = ["127.0.0.1:51000", "127.0.0.1:10000"].map(|it| it.parse().unwrap());
        let line = |inode: u32| {
            let [from, to] = [local, relay].map(|it| spelled(it).unwrap());
            format!(
                "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when\n   \
                 7: {from} {to} 01 00000000:00000000 02:000 00000000  1000  0 {inode} 2 ff 20 4\n"
            )
        };
        assert_eq!(
            socket(&line(2_119_647), local, relay).as_deref(),
            Some("socket:[2119647]")
        );
        assert_eq!(socket(&line(0), local, relay), None);
        assert_eq!(socket(&line(1), relay, local), None);
    }
}
