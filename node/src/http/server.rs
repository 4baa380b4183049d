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
use axum::http::Version;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Sleep;
use types::limits;

use crate::accept;
use crate::tls::{Acceptor, TlsStream};

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

/// How long clients may take, and how many of them may be at what costs most.
#[derive(Clone, Copy)]
struct Patience {
    /// Until a new connection's first request is there.
    first_request: Duration,
    /// Until the next one is, on HTTP/1.1.
    next_request: Duration,
    /// TLS handshakes at once.
    handshakes: usize,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            first_request: Duration::from_millis(limits::FIRST_REQUEST_MAX_MS),
            next_request: Duration::from_millis(limits::NEXT_REQUEST_MAX_MS),
            handshakes: limits::TLS_HANDSHAKES_MAX,
        }
    }
}

/// How far the end of a server has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It takes connections.
    Open,
    /// It takes none any more, and serves those there are.
    Lingering,
    /// It closes those there are once their requests are answered.
    Closing,
}

/// A router that is being served.
///
/// It ends in two steps, because a connection that is closed while its client is about to use it
/// leaves that client in doubt: first no new connections are taken, and the router closes those
/// there are after their next answer; then what is left is closed. HTTP/2 leaves nobody in doubt:
/// it says which requests were taken, so its connections are told at once.
pub struct Serving {
    phase: watch::Sender<Phase>,
    task: JoinHandle<()>,
}

impl Serving {
    /// Starts to serve.
    pub fn start(listener: HttpListener, router: Router) -> Serving {
        Serving::start_patiently(listener, router, Patience::default())
    }

    fn start_patiently(listener: HttpListener, router: Router, patience: Patience) -> Serving {
        let HttpListener { listener, tls } = listener;
        let (phase, _) = watch::channel(Phase::Open);
        let (open, all_ended) = mpsc::channel(1);
        let connections = Connections {
            tls: tls.map(|acceptor| Tls {
                acceptor,
                slots: Arc::new(Semaphore::new(patience.handshakes)),
            }),
            builder: builder(patience),
            router,
            first_request: patience.first_request,
            phase: phase.subscribe(),
            _open: open,
        };
        let task = tokio::spawn(serve(listener, connections, all_ended));
        Serving { phase, task }
    }

    /// Takes no new connections, lets those there are end by themselves for `linger` at most, and
    /// then waits until the requests under way are answered, at most `timeout`.
    pub async fn end(mut self, linger: Duration, timeout: Duration) {
        self.phase.send_replace(Phase::Lingering);
        let mut ended = tokio::time::timeout(linger, &mut self.task).await;
        if ended.is_err() {
            self.phase.send_replace(Phase::Closing);
            ended = tokio::time::timeout(timeout, self.task).await;
        }
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the HTTP server failed"),
            Err(_) => tracing::warn!("some requests did not end in time"),
        }
    }
}

/// Waits until the phase is reached. A server that is gone has reached it.
async fn reached(phase: &mut watch::Receiver<Phase>, met: impl FnMut(&Phase) -> bool) {
    // An error means that nobody can say it any more, which is the same.
    drop(phase.wait_for(met).await);
}

/// Waits for another phase than the one known. A server that is gone closes.
async fn after(phase: &mut watch::Receiver<Phase>, known: Phase) -> Phase {
    let next = phase.wait_for(|phase| *phase != known).await;
    next.map_or(Phase::Closing, |phase| *phase)
}

/// Takes connections as long as it should, and ends with the last of them.
async fn serve(
    listener: TcpListener,
    connections: Connections,
    mut all_ended: mpsc::Receiver<Infallible>,
) {
    let mut phase = connections.phase.clone();
    let take = |(stream, peer), slot| {
        drop(tokio::spawn(connections.clone().serve(stream, peer, slot)));
    };
    loop {
        let accept = async {
            // Who cannot begin to shake hands is not accepted yet.
            let slot = connections.slot().await;
            (accept::next_client(&listener, "HTTP").await, slot)
        };
        let (connection, slot) = tokio::select! {
            accepted = accept => accepted,
            () = reached(&mut phase, |phase| *phase != Phase::Open) => break,
        };
        take(connection, slot);
    }
    // Who connects from now on is refused, not kept waiting.
    for connection in last_in_queue(listener) {
        take(connection, None);
    }
    drop(connections);
    // Nothing is ever sent: the channel ends with the last connection.
    let none: Option<Infallible> = all_ended.recv().await;
    debug_assert!(none.is_none());
}

/// Closes a listener, and returns who has connected and was not accepted yet: who has sent a
/// request already must not be cut off.
fn last_in_queue(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let mut last = Vec::new();
    let Ok(listener) = listener.into_std() else {
        return last;
    };
    while last.len() < limits::LISTEN_BACKLOG as usize
        && let Ok((connection, peer)) = listener.accept()
    {
        let taken = connection.set_nonblocking(true);
        if let Ok(connection) = taken.and_then(|()| TcpStream::from_std(connection)) {
            accept::answer_at_once(&connection);
            last.push((connection, peer));
        }
    }
    last
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

/// What all connections share.
#[derive(Clone)]
struct Connections {
    /// None: what is said goes in clear.
    tls: Option<Tls>,
    builder: auto::Builder<TokioExecutor>,
    router: Router,
    first_request: Duration,
    phase: watch::Receiver<Phase>,
    /// Held by each of them.
    _open: mpsc::Sender<Infallible>,
}

/// How connections get TLS.
#[derive(Clone)]
struct Tls {
    acceptor: Acceptor,
    /// A permit for each handshake that may go on.
    slots: Arc<Semaphore>,
}

impl Tls {
    /// Waits until another handshake may go on; it does as long as this is kept.
    async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.slots).acquire_owned().await.ok()
    }

    /// Shakes hands, in a slot that was had before or is waited for.
    async fn accept(
        &self,
        stream: TcpStream,
        slot: Option<OwnedSemaphorePermit>,
    ) -> io::Result<TlsStream> {
        let _slot = match slot {
            Some(slot) => Some(slot),
            None => self.slot().await,
        };
        self.acceptor.accept(stream).await
    }
}

impl Connections {
    /// A place among those that shake hands; none where that is not done.
    async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        match &self.tls {
            Some(tls) => tls.slot().await,
            None => None,
        }
    }

    /// Serves one connection to its end.
    async fn serve(
        mut self,
        stream: TcpStream,
        peer: SocketAddr,
        slot: Option<OwnedSemaphorePermit>,
    ) {
        let patience = tokio::time::sleep(self.first_request);
        tokio::pin!(patience);
        let Some(tls) = self.tls.take() else {
            return self.serve_requests(stream, peer, patience).await;
        };
        let accepted = tokio::select! {
            accepted = tls.accept(stream, slot) => accepted,
            () = patience.as_mut() => return asked_for_nothing(peer),
            // It has asked for nothing that would have to be answered.
            () = reached(&mut self.phase, |phase| *phase == Phase::Closing) => return,
        };
        match accepted {
            Ok(stream) => self.serve_requests(stream, peer, patience).await,
            Err(error) => tls.acceptor.say(peer, &error),
        }
    }

    /// Serves the requests of a connection, the first of which comes before `patience` ends.
    async fn serve_requests<S>(mut self, stream: S, peer: SocketAddr, mut patience: Pin<&mut Sleep>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let asked = Arc::new(AtomicBool::new(false));
        let multiplexed = Arc::new(AtomicBool::new(false));
        let service = {
            let (asked, multiplexed) = (Arc::clone(&asked), Arc::clone(&multiplexed));
            let router = TowerToHyperService::new(self.router);
            service_fn(move |request: hyper::Request<Incoming>| {
                asked.store(true, Ordering::Relaxed);
                multiplexed.store(request.version() == Version::HTTP_2, Ordering::Relaxed);
                let mut request: Request = request.map(Body::new);
                request.extensions_mut().insert(ConnectInfo(peer));
                router.call(request)
            })
        };
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let (mut phase, mut closing) = (Phase::Open, false);
        loop {
            tokio::select! {
                // A request that is there already is taken before the connection is closed.
                biased;
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
                next = after(&mut self.phase, phase), if !closing => {
                    phase = next;
                    closing = phase == Phase::Closing || multiplexed.load(Ordering::Relaxed);
                    if closing {
                        connection.as_mut().graceful_shutdown();
                    }
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

    /// A server of `router`, and its address.
    fn start(router: Router, patience: Patience) -> (SocketAddr, Serving) {
        start_with(None, router, patience)
    }

    fn start_with(
        tls: Option<Acceptor>,
        router: Router,
        patience: Patience,
    ) -> (SocketAddr, Serving) {
        let listener = HttpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds");
        let listener = listener.with_tls(tls);
        let address = listener.address().expect("has an address");
        (
            address,
            Serving::start_patiently(listener, router, patience),
        )
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
            ..Patience::default()
        };
        let (address, _serving) = start(hello(), patience);
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
            ..Patience::default()
        };
        let (address, _serving) = start(hello(), patience);
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
            ..Patience::default()
        };
        let acceptor = Acceptor::http(&tls).expect("a certificate");
        let (address, _serving) = start_with(Some(acceptor), hello(), patience);
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
            ..Patience::default()
        };
        let acceptor = Acceptor::http(&tls).expect("a certificate");
        let (address, serving) = start_with(Some(acceptor), hello(), patience);
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
        serving.end(Duration::ZERO, LONG).await;
        assert_eq!(read_to_end(&mut silent).await, "");
    }

    #[tokio::test]
    async fn as_many_shake_hands_at_once_as_may_and_the_others_wait_their_turn() {
        let (tls, client) = certificate();
        let patience = Patience {
            first_request: LONG,
            handshakes: 2,
            ..Patience::default()
        };
        let acceptor = Acceptor::http(&tls).expect("a certificate");
        let (address, serving) = start_with(Some(acceptor), hello(), patience);
        let silent = async || TcpStream::connect(address).await.expect("connects");
        let (first, second) = (silent().await, silent().await);
        let stream = TcpStream::connect(address).await.expect("connects");
        let name = "localhost".try_into().expect("a name");
        let mut shaking = tokio::spawn(async move { client.connect(name, stream).await });
        // The system has accepted it; the server answers nothing while two are in front of it.
        let waits = tokio::time::timeout(SHORT, &mut shaking).await;
        assert!(waits.is_err(), "{waits:?}");
        drop(first);
        let shaken = shaking.await.expect("no panic");
        assert!(shaken.is_ok(), "its turn came: {:?}", shaken.err());
        drop((second, shaken));
        serving.end(Duration::ZERO, LONG).await;
    }

    /// The preface, no settings, and GET http://x/ as the whole of stream 1 (RFC 9113, 7541).
    fn get_by_http_2() -> Vec<u8> {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
        bytes.extend([0, 0, 6, 1, 5, 0, 0, 0, 1]);
        bytes.extend([0x82, 0x86, 0x84, 0x41, 1, b'x']);
        bytes
    }

    #[tokio::test]
    async fn http_2_is_spoken_without_an_upgrade() {
        let (address, _serving) = start(hello(), Patience::default());
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(&get_by_http_2()).await.expect("writes");
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
        let (address, serving) = start(Router::new().route("/", get(handler)), Patience::default());
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .expect("writes");
        let go_on = was_asked.recv().await.expect("it is asked");
        let mut idle = TcpStream::connect(address).await.expect("connects");
        let ending = tokio::spawn(serving.end(Duration::ZERO, LONG));
        assert_eq!(read_to_end(&mut idle).await, "");
        assert!(!ending.is_finished());
        go_on.send(()).expect("the handler waits");
        assert!(read_to_end(&mut stream).await.ends_with("done"));
        ending.await.expect("the server ends");
    }

    async fn ask(connection: &mut TcpStream) {
        let request = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n";
        connection.write_all(request).await.expect("it is open");
        let mut answer = Vec::new();
        while !answer.ends_with(b"127.0.0.1") {
            let read = connection.read_buf(&mut answer).await;
            assert!(read.is_ok_and(|bytes| bytes > 0), "closed: {answer:?}");
        }
    }

    #[tokio::test]
    async fn new_connections_are_refused_before_those_there_are_are_closed() {
        let (address, serving) = start(hello(), Patience::default());
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

    #[tokio::test]
    async fn a_server_without_connections_does_not_linger() {
        let (_, serving) = start(hello(), Patience::default());
        let ending = serving.end(LONG, LONG);
        let ended = tokio::time::timeout(Duration::from_secs(60), ending).await;
        assert!(ended.is_ok(), "it waits for nobody");
    }

    #[tokio::test]
    async fn http_2_is_told_at_once_and_the_server_ends_with_its_last_answer() {
        let (address, serving) = start(hello(), Patience::default());
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(&get_by_http_2()).await.expect("writes");
        let mut answer = Vec::new();
        let peer = b"127.0.0.1";
        while !answer.windows(peer.len()).any(|part| part == peer) {
            let read = stream.read_buf(&mut answer).await.expect("reads");
            assert!(read > 0, "closed after {answer:?}");
        }
        let ending = tokio::spawn(serving.end(LONG, LONG));
        // GOAWAY, type 7, on stream 0, without an error.
        let goaway = |answer: &[u8]| {
            let mut heads = answer.windows(9);
            heads.any(|head| head[2] >= 8 && head[3] == 7 && head[4..9] == [0; 5])
        };
        while !goaway(&answer) {
            let read = stream.read_buf(&mut answer).await.expect("reads");
            assert!(read > 0, "closed after {answer:?}");
        }
        drop(stream);
        let ended = tokio::time::timeout(Duration::from_secs(60), ending).await;
        assert!(ended.is_ok(), "it ends with its last connection");
    }

    #[tokio::test]
    async fn who_has_connected_when_the_listener_closes_is_answered() {
        let listener = HttpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds");
        let address = listener.address().expect("has an address");
        // In the queue before anybody accepts.
        let mut waits = TcpStream::connect(address).await.expect("it listens");
        let serving = Serving::start_patiently(listener, hello(), Patience::default());
        let ending = tokio::spawn(serving.end(Duration::from_secs(2), LONG));
        ask(&mut waits).await;
        drop(waits);
        ending.await.expect("it ends");
    }
}
