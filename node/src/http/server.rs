//! The HTTP listener: HTTP/1.1 and h2c.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::serve::ListenerExt;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
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

/// Serves `router` until `stop` resolves and the requests under way are answered.
pub async fn serve(
    listener: HttpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = listener.0.tap_io(|connection| {
        // An answer is one small write; waiting to fill a segment would only delay it.
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was not set on a connection");
        }
    });
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service)
        .with_graceful_shutdown(stop)
        .await
}
