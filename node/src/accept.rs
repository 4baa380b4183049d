//! Taking connections, of any listener, while the process may be short of files.
//!
//! Without files left, `accept` fails at once, again and again: whoever asks again must pause. And
//! whatever else needs a file fails too, which for storage is the end of the process; so clients,
//! who are many, leave some to the node's own.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use types::limits::{ACCEPT_PAUSE_MS, FILES_RESERVED};

/// Pause after the system could not accept a connection.
const PAUSE: Duration = Duration::from_millis(ACCEPT_PAUSE_MS);

/// The next connection of the listener, in which answers are sent at once: however long that takes.
/// `of` says in the log whose listener it is.
pub async fn next(listener: &TcpListener, of: &str) -> (TcpStream, SocketAddr) {
    let (stream, from) = persist(of, PAUSE, || listener.accept()).await;
    answer_at_once(&stream);
    (stream, from)
}

/// An answer is one small write; waiting to fill a segment would only delay it.
pub fn answer_at_once(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was not set on a connection");
    }
}

/// The same for a listener of clients, who leave [`FILES_RESERVED`] files to the node's own. Who
/// connects meanwhile waits.
pub async fn next_client(listener: &TcpListener, of: &str) -> (TcpStream, SocketAddr) {
    let mut waits = false;
    while !has_room(listener) {
        if !waits {
            tracing::warn!(of, "too few files are left: new connections wait");
        }
        waits = true;
        tokio::time::sleep(PAUSE).await;
    }
    next(listener, of).await
}

/// Accepts until that succeeds, with a pause when it cannot.
async fn persist<T, A>(of: &str, pause: Duration, mut accept: impl FnMut() -> A) -> T
where
    A: Future<Output = io::Result<T>>,
{
    loop {
        match accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Mostly that there are no more files: some become free.
                tracing::warn!(of, %error, "a connection was not accepted");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Is it the one connection's, which went away while it waited?
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

/// Would a new connection leave enough files? A new file gets the lowest free number, so that at
/// least so many are open; and the limit is asked for each time, as it may change.
fn has_room(listener: &TcpListener) -> bool {
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return true;
    };
    let copy = listener.as_fd().try_clone_to_owned();
    copy.is_ok_and(|copy| leaves_enough(copy.as_raw_fd(), limit))
}

/// Does a connection with this number, below this limit? Where the limit is low, what is reserved
/// is a quarter of it.
fn leaves_enough(number: i32, limit: u64) -> bool {
    let reserved = FILES_RESERVED.min(limit / 4);
    u64::try_from(number).is_ok_and(|number| number + reserved < limit)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Instant;

    use super::*;

    /// Too many open files.
    const EMFILE: i32 = 24;

    #[tokio::test]
    async fn without_files_it_pauses_and_goes_on_once_there_is_one() {
        let asked = Cell::new(0);
        let accept = || {
            asked.set(asked.get() + 1);
            let error = match asked.get() {
                1 => Some(io::ErrorKind::ConnectionAborted.into()),
                2..=11 => Some(io::Error::from_raw_os_error(EMFILE)),
                _ => None,
            };
            std::future::ready(error.map_or(Ok("accepted"), Err))
        };
        let (started, pause) = (Instant::now(), Duration::from_millis(1));
        assert_eq!(persist("a test", pause, accept).await, "accepted");
        assert_eq!(asked.get(), 12);
        assert!(started.elapsed() >= 10 * pause);
    }

    #[test]
    fn clients_leave_files_to_the_nodes_own() {
        assert!(leaves_enough(100, 1_024));
        assert!(leaves_enough(767, 1_024));
        assert!(!leaves_enough(768, 1_024));
        assert!(!leaves_enough(1_024, 1_024));
        assert!(leaves_enough(262_144 - 257, 262_144));
        assert!(!leaves_enough(262_144 - 256, 262_144));
        assert!(leaves_enough(74, 100));
        assert!(!leaves_enough(75, 100));
    }
}
