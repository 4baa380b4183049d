//! One connection through a relay, in both directions.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::link::Link;

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// How long a node may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long one side may believe in a connection that the other side has forgotten, if it says
/// nothing on it.
const BELIEVE_MAX: Duration = Duration::from_secs(10);

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// One side has closed it.
    Closed,
    /// It breaks.
    Reset,
    /// This side ended while what it said of that was cut off. The other side hears of it when it
    /// next says something.
    Forgotten(Side),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Node,
}

/// Carries what a node sends over `client` to the node that listens at `to`, by the link `there`,
/// and the answers by the link `back`. Returns when the connection has ended.
pub(super) async fn carry(mut client: TcpStream, to: SocketAddr, there: &Link, back: &Link) {
    // A connection begins with bytes in both directions.
    while there.is_cut() || back.is_cut() {
        there.mended().await;
        back.mended().await;
    }
    let connected = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(to)).await;
    let Ok(Ok(mut node)) = connected else {
        reset(&client);
        return;
    };
    // A request is one packet more often than not: it must not wait for another one.
    if client.set_nodelay(true).is_err() || node.set_nodelay(true).is_err() {
        return;
    }
    let end = {
        let (from_client, to_client) = client.split();
        let (from_node, to_node) = node.split();
        let requests = Stream {
            from: from_client,
            to: to_node,
            sender: Side::Client,
            link: there,
            other: back,
        };
        let answers = Stream {
            from: from_node,
            to: to_client,
            sender: Side::Node,
            link: back,
            other: there,
        };
        tokio::select! {
            end = requests.flow() => end,
            end = answers.flow() => end,
        }
    };
    match end {
        End::Closed => return,
        End::Reset => {}
        End::Forgotten(Side::Client) => speaks(&node).await,
        End::Forgotten(Side::Node) => speaks(&client).await,
    }
    reset(&client);
    reset(&node);
}

/// What one side sends.
struct Stream<'a> {
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    sender: Side,
    link: &'a Link,
    /// The link in the other direction.
    other: &'a Link,
}

impl Stream<'_> {
    /// Passes on what comes, for as long as the connection is there.
    async fn flow(mut self) -> End {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let read = self.from.read(&mut buffer).await;
            if self.link.is_cut() {
                self.link.mended().await;
                if self.has_ended().await {
                    return End::Forgotten(self.sender);
                }
            }
            let count = match read {
                Ok(0) => return End::Closed,
                Ok(count) => count,
                Err(_) => return End::Reset,
            };
            for piece in buffer[..count].chunks(self.link.piece_bytes()) {
                self.link.pace(piece.len()).await;
                self.link.mended().await;
                if self.sender == Side::Client && self.link.resets() {
                    return End::Reset;
                }
                if self.to.write_all(piece).await.is_err() {
                    // The receiver is gone, which it says by the other link.
                    self.other.mended().await;
                    return End::Reset;
                }
            }
        }
    }

    /// Has the sender ended the connection, whatever is still to be read of it?
    async fn has_ended(&self) -> bool {
        let ready = self.from.ready(Interest::READABLE);
        match tokio::time::timeout(Duration::ZERO, ready).await {
            Ok(Ok(ready)) => ready.is_read_closed(),
            Ok(Err(_)) => true,
            // There is nothing to be read, not even an end.
            Err(_) => false,
        }
    }
}

/// Waits until something comes from this side, though not for ever.
async fn speaks(side: &TcpStream) {
    let said = tokio::time::timeout(BELIEVE_MAX, side.readable()).await;
    // It says nothing, or has ended too: the connection ends in any case.
    drop(said);
}

/// What is closed next breaks instead.
fn reset(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        eprintln!("a connection is closed, not reset: {error}");
    }
}
