//! The HTTP listener: HTTP/1.1 and h2c.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::serve::{Listener, ListenerExt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use types::limits;

/// A bound listener.
pub struct HttpListener(TcpListener);

/// Binds a listening socket with a long queue: a thousand clients that connect at once must not
/// wait for retransmitted SYNs. Must be called on a runtime.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restarted node takes its port again while old connections linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(limits::LISTEN_BACKLOG).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

impl HttpListener {
    /// Takes the address. The error names no address; the caller does.
    pub fn bind(address: SocketAddr) -> io::Result<HttpListener> {
        bind(address).map(HttpListener)
    }

    /// Where it listens; with port 0 asked for, the port it got.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A router that is being served.
///
/// It ends in two steps, because a connection that is closed while its client is about to use it
/// leaves that client in doubt: first no new connections are taken, and the router closes those
/// there are after their next answer; then what is left is closed.
pub struct Serving {
    close: oneshot::Sender<()>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl Serving {
    /// Starts to serve.
    pub fn start(listener: HttpListener, router: Router) -> Serving {
        let (close, closed) = oneshot::channel::<()>();
        let (stop, stopped) = oneshot::channel::<()>();
        let listener = ClosingListener {
            listener: Some(listener.0),
            closed,
            last: VecDeque::new(),
        };
        let listener = listener.tap_io(|connection| {
            // An answer is one small write; waiting to fill a segment would only delay it.
            if let Err(error) = connection.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY was not set on a connection");
            }
        });
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let task = tokio::spawn(async move {
            axum::serve(listener, service)
                .with_graceful_shutdown(async { drop(stopped.await) })
                .await
        });
        Serving { close, stop, task }
    }

    /// Takes no new connections, lets those there are end by themselves for `linger`, and then
    /// waits until the requests under way are answered, at most `timeout`.
    pub async fn end(self, linger: Duration, timeout: Duration) {
        if self.close.send(()).is_err() {
            tracing::debug!("the HTTP server has ended by itself");
        }
        tokio::time::sleep(linger).await;
        if self.stop.send(()).is_err() {
            tracing::debug!("the HTTP server has ended by itself");
        }
        match tokio::time::timeout(timeout, self.task).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the HTTP listener failed"),
            Ok(Err(error)) => tracing::warn!(%error, "the HTTP server failed"),
            Err(_) => tracing::warn!("some requests did not end in time"),
        }
    }
}

/// A listener that can be closed while its connections go on.
struct ClosingListener {
    /// None once it is closed.
    listener: Option<TcpListener>,
    closed: oneshot::Receiver<()>,
    /// Connections that were made before it closed, and are still to be taken.
    last: VecDeque<(TcpStream, SocketAddr)>,
}

impl Listener for ClosingListener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        if let Some(listener) = &mut self.listener {
            tokio::select! {
                accepted = Listener::accept(listener) => return accepted,
                _closed = &mut self.closed => {}
            }
        }
        if let Some(listener) = self.listener.take() {
            self.last = last_in_queue(listener);
        }
        match self.last.pop_front() {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        let closed = || io::Error::new(io::ErrorKind::NotConnected, "the listener is closed");
        self.listener.as_ref().ok_or_else(closed)?.local_addr()
    }
}

/// Closes a listener, and returns who has connected and was not accepted yet: who has sent a
/// request already must not be cut off.
fn last_in_queue(listener: TcpListener) -> VecDeque<(TcpStream, SocketAddr)> {
    let mut last = VecDeque::new();
    let Ok(listener) = listener.into_std() else {
        return last;
    };
    while last.len() < limits::LISTEN_BACKLOG as usize
        && let Ok((connection, peer)) = listener.accept()
    {
        let taken = connection.set_nonblocking(true);
        if let Ok(connection) = taken.and_then(|()| TcpStream::from_std(connection)) {
            last.push_back((connection, peer));
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(connection: &mut TcpStream) {
        let request = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n";
        connection.write_all(request).await.expect("it is open");
        let mut answer = Vec::new();
        while !answer.ends_with(b"here") {
            let read = connection.read_buf(&mut answer).await;
            assert!(read.is_ok_and(|bytes| bytes > 0), "closed: {answer:?}");
        }
    }

    #[tokio::test]
    async fn new_connections_are_refused_before_those_there_are_are_closed() {
        let listener = HttpListener::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let address = listener.address().expect("it is bound");
        let router = Router::new().route("/", get(|| async { "here" }));
        let serving = Serving::start(listener, router);
        let mut there = TcpStream::connect(address).await.expect("it listens");
        ask(&mut there).await;
        let (linger, timeout) = (Duration::from_secs(2), Duration::from_secs(10));
        let ending = tokio::spawn(serving.end(linger, timeout));
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        ask(&mut there).await;
        ending.await.expect("it ends");
        assert_eq!(
            there.read(&mut [0]).await.ok(),
            Some(0),
            "closed at the end"
        );
    }
}
