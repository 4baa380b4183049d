//! The server's side of TLS: for HTTP by a certificate, between nodes by one on each side.
//!
//! [`Acceptor`] makes a TLS stream of a connection; [`connections`] does that for all of the RPC
//! listener, several at a time, so that whoever is slow or silent holds up nobody else. The HTTP
//! server shakes hands in the task of each connection. [`reload`] replaces certificates while the
//! node runs.

mod expiry;
pub mod reload;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use types::limits::{TLS_HANDSHAKE_MAX_MS, TLS_HANDSHAKES_MAX};

use crate::accept;

/// A connection with TLS.
pub type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

/// Certificate and key of HTTP over TLS, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpTls {
    /// The certificate, and behind it those between it and its authority.
    pub certificate: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
}

/// What is wrong with a certificate, a key or an authority; says with which.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct TlsError(String);

/// Makes TLS streams of connections. Cheap to clone.
#[derive(Clone)]
pub struct Acceptor {
    /// What hands are shaken with; it may be replaced.
    kept: Arc<Mutex<Kept>>,
    /// What it is for, in log lines.
    what: &'static str,
    /// When a failure was last logged.
    said: Arc<Mutex<Option<Instant>>>,
}

/// What an [`Acceptor`] shakes hands with.
#[derive(Clone)]
struct Kept {
    acceptor: TlsAcceptor,
    /// Until when its certificates are good, in seconds since 1970.
    not_after_s: Option<i64>,
}

impl Acceptor {
    /// For HTTP/2 and HTTP/1.1, from anybody.
    pub fn http(tls: &HttpTls) -> Result<Acceptor, TlsError> {
        let what = "--http-tls-cert";
        let (chain, key) = (
            certificates(what, &tls.certificate)?,
            private_key("--http-tls-key", &tls.key)?,
        );
        let not_after_s = expiry::not_after_s(&chain);
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError(format!("TLS: {e}")))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|e| TlsError(format!("{what}: {e}")))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Acceptor::new(config, not_after_s, "HTTP"))
    }

    /// For the other nodes: whoever has no certificate by one of the authorities is turned away.
    pub fn rpc(tls: &raft::Tls) -> Result<Acceptor, TlsError> {
        let what = "--rpc-tls-cert";
        let (chain, key) = (
            certificates(what, &tls.certificate)?,
            private_key("--rpc-tls-key", &tls.key)?,
        );
        let not_after_s = expiry::not_after_s(&chain);
        let mut roots = RootCertStore::empty();
        for authority in certificates("--rpc-tls-ca", &tls.authorities)? {
            roots
                .add(authority)
                .map_err(|e| TlsError(format!("--rpc-tls-ca: {e}")))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|e| TlsError(format!("--rpc-tls-ca: {e}")))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError(format!("TLS: {e}")))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|e| TlsError(format!("{what}: {e}")))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Acceptor::new(config, not_after_s, "RPC"))
    }

    fn new(config: ServerConfig, not_after_s: Option<i64>, what: &'static str) -> Acceptor {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Acceptor {
            kept: Arc::new(Mutex::new(Kept {
                acceptor,
                not_after_s,
            })),
            what,
            said: Arc::default(),
        }
    }

    /// Until when its certificates are good, in seconds since 1970; none where one does not say.
    pub fn not_after_s(&self) -> Option<i64> {
        self.kept.lock().not_after_s
    }

    /// Shakes hands as `new` does from now on, and so do all clones. Returns until when its
    /// certificates are good. Those that are not good any more change nothing.
    ///
    /// # Errors
    /// That they are not.
    pub fn replace(&self, new: Acceptor) -> Result<Option<i64>, TlsError> {
        let new = new.kept.lock().clone();
        let not_after_s = new.not_after_s;
        if not_after_s.is_some_and(|until| until < chrono::Utc::now().timestamp()) {
            return Err(TlsError("the certificate is not valid any more".into()));
        }
        *self.kept.lock() = new;
        Ok(not_after_s)
    }

    /// Logs that a caller was turned away. Anybody can cause that as often as he likes, so it is no
    /// warning, and not said more often than once in [`SAY_AGAIN_AFTER`].
    pub fn say(&self, from: SocketAddr, error: &io::Error) {
        let mut said = self.said.lock();
        if said.is_some_and(|at| at.elapsed() < SAY_AGAIN_AFTER) {
            return;
        }
        *said = Some(Instant::now());
        tracing::info!(what = self.what, %from, %error, "no TLS with a caller");
    }

    /// Shakes hands, within [`TLS_HANDSHAKE_MAX_MS`].
    ///
    /// # Errors
    /// What the other side did wrong, or that it did nothing in time.
    pub async fn accept(&self, connection: TcpStream) -> io::Result<TlsStream> {
        let limit = Duration::from_millis(TLS_HANDSHAKE_MAX_MS);
        let acceptor = self.kept.lock().acceptor.clone();
        match tokio::time::timeout(limit, acceptor.accept(connection)).await {
            Ok(accepted) => accepted,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the TLS handshake was not finished in time",
            )),
        }
    }
}

/// The connections of a listener, once they have shaken hands; until the returned end is dropped.
/// At most [`TLS_HANDSHAKES_MAX`] do that at once; others wait to be accepted.
pub fn connections(
    listener: TcpListener,
    acceptor: Acceptor,
) -> mpsc::Receiver<(TlsStream, SocketAddr)> {
    let (ready, connections) = mpsc::channel(1);
    tokio::spawn(async move {
        let slots = Arc::new(Semaphore::new(TLS_HANDSHAKES_MAX));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            let (connection, from) = tokio::select! {
                accepted = accept::next(&listener, acceptor.what) => accepted,
                () = ready.closed() => return,
            };
            let (acceptor, ready) = (acceptor.clone(), ready.clone());
            tokio::spawn(shake_hands(acceptor, connection, from, ready, slot));
        }
    });
    connections
}

/// Between two log lines about callers that were turned away.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(10);

async fn shake_hands(
    acceptor: Acceptor,
    connection: TcpStream,
    from: SocketAddr,
    ready: mpsc::Sender<(TlsStream, SocketAddr)>,
    _slot: OwnedSemaphorePermit,
) {
    match acceptor.accept(connection).await {
        // Without a receiver the server is stopping.
        Ok(stream) => drop(ready.send((stream, from)).await),
        Err(error) => acceptor.say(from, &error),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates(option: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(TlsError(format!("{option}: the file holds no certificate"))),
        Err(e) => Err(TlsError(format!("{option}: the file is no PEM: {e}"))),
    }
}

fn private_key(option: &str, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|e| TlsError(format!("{option}: the file holds no private key: {e}")))
}

#[cfg(test)]
pub mod tests {
    use rustls::ClientConfig;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsConnector;

    use super::*;

    /// A certificate for `localhost` with its key, and a client that trusts it and has none of its
    /// own.
    pub fn certificate() -> (HttpTls, TlsConnector) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = HttpTls {
            certificate: made.cert.pem().into(),
            key: made.signing_key.serialize_pem().into(),
        };
        (tls, TlsConnector::from(Arc::new(config)))
    }

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn whoever_is_silent_holds_up_nobody() {
        let (tls, client) = certificate();
        let acceptor = Acceptor::http(&tls).unwrap();
        let (listener, address) = listener().await;
        let mut ready = connections(listener, acceptor);
        let _silent = TcpStream::connect(address).await.unwrap();
        let connection = TcpStream::connect(address).await.unwrap();
        let own = connection.local_addr().unwrap();
        let connect = client.connect("localhost".try_into().unwrap(), connection);
        let (connected, accepted) = tokio::join!(connect, ready.recv());
        let (mut sent, mut received) = (connected.unwrap(), [0; 2]);
        let (mut stream, from) = accepted.unwrap();
        assert_eq!(from, own);
        sent.write_all(b"hi").await.unwrap();
        sent.flush().await.unwrap();
        stream.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"hi");
    }

    #[tokio::test]
    async fn between_nodes_nobody_comes_in_without_a_certificate() {
        let (HttpTls { certificate, key }, client) = certificate();
        let authorities = certificate.clone();
        let tls = raft::Tls {
            certificate,
            key,
            authorities,
        };
        let (listener, address) = listener().await;
        let mut ready = connections(listener, Acceptor::rpc(&tls).unwrap());
        let connection = TcpStream::connect(address).await.unwrap();
        let connected = client.connect("localhost".try_into().unwrap(), connection);
        // The client is done before the server has seen that there is no certificate.
        let mut stream = connected.await.unwrap();
        let refused = stream.read_u8().await.expect_err("the server must refuse");
        assert!(refused.to_string().contains("fatal alert"), "{refused}");
        assert!(ready.try_recv().is_err());
    }

    #[test]
    fn files_that_hold_something_else_are_named() {
        let tls = HttpTls {
            certificate: b"nothing".to_vec(),
            key: b"nothing".to_vec(),
        };
        let error = Acceptor::http(&tls)
            .err()
            .expect("must be refused")
            .to_string();
        assert!(error.contains("--http-tls-cert"), "{error}");
    }
}
