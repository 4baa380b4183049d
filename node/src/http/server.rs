//! The HTTP listener: HTTP/1.1 and HTTP/2, with TLS where it is configured, else in clear.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::serve::{Listener, ListenerExt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use types::limits;

use crate::tls::{self, Acceptor, TlsStream};

/// A bound listener.
pub struct HttpListener {
    listener: TcpListener,
    tls: Option<Acceptor>,
}

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
        bind(address).map(|listener| HttpListener {
            listener,
            tls: None,
        })
    }

    /// The same with TLS, if there is to be any.
    #[must_use]
    pub fn with_tls(self, tls: Option<Acceptor>) -> HttpListener {
        HttpListener { tls, ..self }
    }

    /// The beginning of its URLs.
    pub fn scheme(&self) -> &'static str {
        self.tls.as_ref().map_or("http", |_| "https")
    }

    /// Where it listens; with port 0 asked for, the port it got.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Serves `router` until `stop` resolves and the requests under way are answered.
pub async fn serve(
    listener: HttpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let address = listener.address()?;
    let HttpListener { listener, tls } = listener;
    if let Some(tls) = tls {
        let connections = tls::connections(listener, tls);
        let listener = TlsListener {
            address,
            connections,
        };
        // What is tapped knows its peer's address, which a listener of ours could not tell axum.
        return axum::serve(listener.tap_io(|_| ()), service)
            .with_graceful_shutdown(stop)
            .await;
    }
    let listener = listener.tap_io(|connection| {
        // An answer is one small write; waiting to fill a segment would only delay it.
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was not set on a connection");
        }
    });
    axum::serve(listener, service)
        .with_graceful_shutdown(stop)
        .await
}

/// Connections that have shaken hands, as axum takes them.
struct TlsListener {
    address: SocketAddr,
    connections: mpsc::Receiver<(TlsStream, SocketAddr)>,
}

impl Listener for TlsListener {
    type Io = TlsStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TlsStream, SocketAddr) {
        match self.connections.recv().await {
            Some(connection) => connection,
            // Nobody accepts any more, because the runtime is ending.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
