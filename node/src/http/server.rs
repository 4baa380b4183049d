//! The HTTP listener: HTTP/1.1 and HTTP/2, with TLS where it is configured, else in clear.
//!
//! A connection costs its client nothing, so it is not kept for one that does not ask for anything:
//! the first request has to be there in time, TLS handshake and all, and on HTTP/1.1 each next one.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Sleep;
use types::limits;

use crate::tls::Acceptor;

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

/// How long clients may take.
#[derive(Clone, Copy)]
struct Patience {
    /// Until a new connection's first request is there.
    first_request: Duration,
    /// Until the next one is, on HTTP/1.1.
    next_request: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            first_request: Duration::from_millis(limits::FIRST_REQUEST_MAX_MS),
            next_request: Duration::from_millis(limits::NEXT_REQUEST_MAX_MS),
        }
    }
}

/// Serves `router` until `stop` resolves and the requests under way are answered.
pub async fn serve(
    listener: HttpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    serve_patiently(listener, router, stop, Patience::default()).await;
}

async fn serve_patiently(
    listener: HttpListener,
    router: Router,
    stop: impl Future<Output = ()>,
    patience: Patience,
) {
    let HttpListener { listener, tls } = listener;
    let (close, closing) = watch::channel(false);
    let (open, mut all_ended) = mpsc::channel(1);
    let connections = Connections {
        tls,
        builder: builder(patience),
        router,
        first_request: patience.first_request,
        closing,
        _open: open,
    };
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer)) => drop(tokio::spawn(connections.clone().serve(stream, peer))),
            Err(error) => not_accepted(&error).await,
        }
    }
    // Who connects from now on is refused, not kept waiting.
    drop(listener);
    drop(connections);
    close.send_replace(true);
    // Nothing is ever sent: the channel ends with the last connection.
    let none: Option<Infallible> = all_ended.recv().await;
    debug_assert!(none.is_none());
}

fn builder(patience: Patience) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.next_request);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_millis(limits::HTTP2_PING_INTERVAL_MS))
        .keep_alive_timeout(Duration::from_millis(limits::HTTP2_PING_MAX_MS));
    builder
}

/// Some errors are the one connection's, which went away while it waited. Others mean that this
/// process has no file handles left; a connection that ends gives one back.
async fn not_accepted(error: &io::Error) {
    const AGAIN_AFTER: Duration = Duration::from_millis(500);
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    ) {
        return;
    }
    tracing::warn!(%error, "cannot accept an HTTP connection");
    tokio::time::sleep(AGAIN_AFTER).await;
}

/// What all connections share.
#[derive(Clone)]
struct Connections {
    /// None: what is said goes in clear.
    tls: Option<Acceptor>,
    builder: auto::Builder<TokioExecutor>,
    router: Router,
    first_request: Duration,
    /// True: no further requests.
    closing: watch::Receiver<bool>,
    /// Held by each of them.
    _open: mpsc::Sender<Infallible>,
}

impl Connections {
    /// Serves one connection to its end.
    async fn serve(mut self, stream: TcpStream, peer: SocketAddr) {
        // An answer is one small write; waiting to fill a segment would only delay it.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was not set on a connection");
        }
        let patience = tokio::time::sleep(self.first_request);
        tokio::pin!(patience);
        let Some(tls) = self.tls.take() else {
            return self.serve_requests(stream, peer, patience).await;
        };
        let accepted = tokio::select! {
            accepted = tls.accept(stream) => accepted,
            () = patience.as_mut() => return asked_for_nothing(peer),
            // It has asked for nothing that would have to be answered.
            _ = self.closing.changed() => return,
        };
        match accepted {
            Ok(stream) => self.serve_requests(stream, peer, patience).await,
            Err(error) => tls.say(peer, &error),
        }
    }

    /// Serves the requests of a connection, the first of which comes before `patience` ends.
    async fn serve_requests<S>(mut self, stream: S, peer: SocketAddr, mut patience: Pin<&mut Sleep>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let asked = Arc::new(AtomicBool::new(false));
        let service = {
            let (asked, router) = (Arc::clone(&asked), TowerToHyperService::new(self.router));
            service_fn(move |request: hyper::Request<Incoming>| {
                asked.store(true, Ordering::Relaxed);
                let mut request: Request = request.map(Body::new);
                request.extensions_mut().insert(ConnectInfo(peer));
                router.call(request)
            })
        };
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let mut closing = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%peer, %error, "an HTTP connection broke");
                    }
                    return;
                }
                () = patience.as_mut(), if !patience.is_elapsed() => {
                    if !asked.load(Ordering::Relaxed) {
                        return asked_for_nothing(peer);
                    }
                }
                // An error means that the server is gone, which is the same.
                _ = self.closing.changed(), if !closing => {
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

fn asked_for_nothing(peer: SocketAddr) {
    tracing::debug!(%peer, "a connection asked for nothing; it is closed");
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    use super::*;
    use crate::tls::tests::certificate;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(3_600);

    /// A server of `router`, its address, and what stops it.
    fn start(
        router: Router,
        patience: Patience,
    ) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
        start_with(None, router, patience)
    }

    fn start_with(
        tls: Option<Acceptor>,
        router: Router,
        patience: Patience,
    ) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
        let listener = HttpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds");
        let listener = listener.with_tls(tls);
        let address = listener.address().expect("has an address");
        let (stop, stopped) = oneshot::channel();
        let stop_it = async { drop(stopped.await) };
        let served = tokio::spawn(serve_patiently(listener, router, stop_it, patience));
        (address, stop, served)
    }

    fn hello() -> Router {
        let peer =
            |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() };
        Router::new().route("/", get(peer))
    }

    async fn read_to_end(stream: &mut TcpStream) -> String {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("reads");
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn a_connection_that_asks_for_nothing_is_closed() {
        let patience = Patience {
            first_request: SHORT,
            next_request: LONG,
        };
        let (address, _stop, _served) = start(hello(), patience);
        for bytes in [
            "",
            "P",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n",
        ] {
            let mut stream = TcpStream::connect(address).await.expect("connects");
            stream.write_all(bytes.as_bytes()).await.expect("writes");
            let answer = read_to_end(&mut stream).await;
            assert!(!answer.contains("200 OK"), "{bytes:?}: {answer}");
        }
    }

    #[tokio::test]
    async fn so_is_one_that_never_finishes_its_next_request() {
        let patience = Patience {
            first_request: LONG,
            next_request: SHORT,
        };
        let (address, _stop, _served) = start(hello(), patience);
        let mut stream = TcpStream::connect(address).await.expect("connects");
        let requests = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHo";
        stream.write_all(requests).await.expect("writes");
        let answer = read_to_end(&mut stream).await;
        assert!(
            answer.starts_with("HTTP/1.1 200 OK") && answer.contains("127.0.0.1"),
            "{answer}"
        );
    }

    #[tokio::test]
    async fn with_tls_a_connection_that_asks_for_nothing_is_closed_too() {
        let (tls, client) = certificate();
        let patience = Patience {
            first_request: SHORT,
            next_request: LONG,
        };
        let acceptor = Acceptor::http(&tls).expect("a certificate");
        let (address, _stop, _served) = start_with(Some(acceptor), hello(), patience);
        let mut silent = TcpStream::connect(address).await.expect("connects");
        assert_eq!(read_to_end(&mut silent).await, "");
        let stream = TcpStream::connect(address).await.expect("connects");
        let name = "localhost".try_into().expect("a name");
        // On a slow machine not even the handshake is in time.
        if let Ok(mut shaken) = client.connect(name, stream).await {
            let mut answer = Vec::new();
            // It ends without TLS's own farewell.
            drop(shaken.read_to_end(&mut answer).await);
            assert_eq!(answer, b"");
        }
    }

    #[tokio::test]
    async fn a_handshake_under_way_holds_up_nobody_nor_the_servers_end() {
        let (tls, client) = certificate();
        let patience = Patience {
            first_request: LONG,
            next_request: LONG,
        };
        let acceptor = Acceptor::http(&tls).expect("a certificate");
        let (address, stop, served) = start_with(Some(acceptor), hello(), patience);
        let mut silent = TcpStream::connect(address).await.expect("connects");
        let stream = TcpStream::connect(address).await.expect("connects");
        let name = "localhost".try_into().expect("a name");
        let mut stream = client.connect(name, stream).await.expect("shakes hands");
        let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.expect("writes");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("reads");
        assert!(
            answer.starts_with("HTTP/1.1 200 OK") && answer.contains("127.0.0.1"),
            "{answer}"
        );
        stop.send(()).expect("the server runs");
        served.await.expect("the server ends");
        assert_eq!(read_to_end(&mut silent).await, "");
    }

    #[tokio::test]
    async fn http_2_is_spoken_without_an_upgrade() {
        let (address, _stop, _served) = start(hello(), Patience::default());
        let mut stream = TcpStream::connect(address).await.expect("connects");
        // The preface, no settings, and GET http://x/ as the whole of stream 1 (RFC 9113, 7541).
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
        bytes.extend([0, 0, 6, 1, 5, 0, 0, 0, 1]);
        bytes.extend([0x82, 0x86, 0x84, 0x41, 1, b'x']);
        stream.write_all(&bytes).await.expect("writes");
        let mut answer = Vec::new();
        let peer = b"127.0.0.1";
        while !answer.windows(peer.len()).any(|part| part == peer) {
            let read = stream.read_buf(&mut answer).await.expect("reads");
            assert!(read > 0, "closed after {answer:?}");
        }
    }

    #[tokio::test]
    async fn a_request_under_way_is_answered_when_the_server_stops() {
        let (asked, mut was_asked) = mpsc::channel::<oneshot::Sender<()>>(1);
        let handler = move || {
            let asked = asked.clone();
            async move {
                let (go_on, wait) = oneshot::channel();
                asked.send(go_on).await.expect("the test waits");
                wait.await.expect("the test goes on");
                "done"
            }
        };
        let (address, stop, served) =
            start(Router::new().route("/", get(handler)), Patience::default());
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .expect("writes");
        let go_on = was_asked.recv().await.expect("it is asked");
        let mut idle = TcpStream::connect(address).await.expect("connects");
        stop.send(()).expect("the server runs");
        let mut nothing = Vec::new();
        // It may be reset while it waits to be accepted.
        drop(idle.read_to_end(&mut nothing).await);
        assert!(nothing.is_empty());
        assert!(!served.is_finished());
        go_on.send(()).expect("the handler waits");
        assert!(read_to_end(&mut stream).await.ends_with("done"));
        served.await.expect("the server ends");
    }
}
