//! A door before a node, through which clients go: it can let requests in and keep the answers, or
//! cut the connection once the request has gone through.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Bytes that go through at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// How long a node may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// What a door does to answers, of a hundred each.
#[derive(Debug, Default)]
struct Rule {
    /// The connection ends in place of the answer.
    cut: AtomicU32,
    /// Nothing comes any more in place of the answer, and the connection stays.
    swallow: AtomicU32,
    /// Answers that did not come through.
    lost: AtomicU64,
}

/// A door before one node. It is closed on drop.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    rule: Arc<Rule>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Opens a door before the node at `to`.
    pub async fn before(to: SocketAddr) -> io::Result<Proxy> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let rule = Arc::new(Rule::default());
        let task = tokio::spawn(accept(listener, to, Arc::clone(&rule)));
        Ok(Proxy {
            address,
            rule,
            task,
        })
    }

    /// Where clients go in.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Of a hundred answers, so many end the connection instead, and so many never come.
    pub fn lose(&self, cut: u32, swallow: u32) {
        self.rule.cut.store(cut, Ordering::Relaxed);
        self.rule.swallow.store(swallow, Ordering::Relaxed);
    }

    /// Answers that did not come through so far.
    pub fn lost(&self) -> u64 {
        self.rule.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, rule: Arc<Rule>) {
    // Aborted with the door, and every connection with it.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // A client that is gone before it was let in is nobody's concern.
        if let Ok((client, _)) = listener.accept().await {
            connections.spawn(carry(client, to, Arc::clone(&rule)));
        }
    }
}

/// Carries bytes until one side ends. What ends a connection ends it on the other side too.
async fn carry(client: TcpStream, to: SocketAddr, rule: Arc<Rule>) {
    let connected = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(to)).await;
    let Ok(Ok(node)) = connected else { return };
    // An answer is one packet more often than not: it must not wait for another one.
    if client.set_nodelay(true).is_err() || node.set_nodelay(true).is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_node, to_node) = node.into_split();
    tokio::select! {
        () = requests(from_client, to_node) => {}
        () = answers(from_node, to_client, &rule) => {}
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut buffer = vec![0; BUFFER_BYTES];
    // An end or a failure on either side is the end of the connection.
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, rule: &Rule) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let cut = rule.cut.load(Ordering::Relaxed);
        let swallow = rule.swallow.load(Ordering::Relaxed);
        let chance = rand::random_range(0..100);
        if chance < cut + swallow {
            rule.lost.fetch_add(1, Ordering::Relaxed);
            if chance < cut {
                return;
            }
            // Until the client has had enough of waiting, and ends it.
            std::future::pending::<()>().await;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every byte with the same.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        address
    }

    async fn ask(door: &Proxy) -> io::Result<u8> {
        let mut stream = TcpStream::connect(door.address()).await?;
        stream.write_all(b"x").await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn answers_come_through_or_are_cut_or_never_come() {
        let door = Proxy::before(echo().await).await.unwrap();
        assert_eq!(ask(&door).await.unwrap(), b'x');
        door.lose(100, 0);
        assert!(ask(&door).await.is_err());
        assert_eq!(door.lost(), 1);
        door.lose(0, 100);
        let waited = tokio::time::timeout(Duration::from_millis(200), ask(&door)).await;
        assert!(waited.is_err());
        assert_eq!(door.lost(), 2);
        door.lose(0, 0);
        assert_eq!(ask(&door).await.unwrap(), b'x');
    }
}
