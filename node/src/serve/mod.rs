//! `duet serve`: a node from its start to its end.

mod begin;
mod facts;
mod found;
mod stop;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use raft::rpc::RpcService;
use raft::{Certificates, Member, Options, Raft, Removed, Stopped};
use sql::{Catalog, Inject, Planner, QueryEngine};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::accept;
use crate::auth::passwords::{Hasher, PasswordWork};
use crate::config::Config;
use crate::data_dir::{DataDir, DataDirError, Identity, Origin};
use crate::fatal::{self, FatalReporter};
use crate::forward::{self, Forwarded, Forwarder};
use crate::http::{self, Edge, Front, HttpListener};
use crate::inject::{ClusterFacts, Ids};
use crate::metrics::{Metrics, Scrape, Sources};
use crate::readiness::Readiness;
use crate::service::access::Access;
use crate::service::auth::AuthService;
use crate::service::cluster::ClusterService;
use crate::service::consensus::Consensus;
use crate::service::digest::DigestService;
use crate::service::dispatch::{Dispatcher, Services};
use crate::service::sql::SqlService;
use crate::service::topics::TopicService;
use crate::tls::reload::Listeners;
use crate::tls::{self, Acceptor};

/// Threads for consensus, replication and RPC; the log writer and apply have threads of their own.
const RAFT_THREADS: usize = 2;

/// Stack of the threads that plan and run statements. Planning recurses with an expression's depth,
/// which the parser bounds; the memory is touched only as far as it is used.
const SERVE_STACK_BYTES: usize = 256 * 1024 * 1024;

/// Why a node could not start or had to stop: one line for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServeError(String);

impl ServeError {
    fn new(message: impl Into<String>) -> ServeError {
        ServeError(message.into())
    }
}

impl From<DataDirError> for ServeError {
    fn from(error: DataDirError) -> ServeError {
        ServeError(error.to_string())
    }
}

/// Runs a node until it is told to stop, or has to.
pub fn run(config: Config) -> ExitCode {
    match start_runtimes(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // To whoever reads the log, which may be a program, and to whoever started the node.
            tracing::error!("{error}");
            eprintln!("duet: {error}");
            end_at_once()
        }
    }
}

/// Ends the process without a word to what still runs in it. Threads of a database whose disk
/// failed may be at work yet; an orderly exit would take away what they hold, and they would end
/// the process with a signal instead.
fn end_at_once() -> ! {
    signal_hook::low_level::exit(1)
}

fn start_runtimes(config: Config) -> Result<(), ServeError> {
    let threads = |e: io::Error| ServeError::new(format!("cannot start threads: {e}"));
    // Consensus must not wait behind queries: heartbeats are due every 150 ms.
    let raft = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RAFT_THREADS)
        .thread_name("raft")
        .enable_all()
        .build()
        .map_err(threads)?;
    let serve = tokio::runtime::Builder::new_multi_thread()
        .thread_name("serve")
        .thread_stack_size(SERVE_STACK_BYTES)
        .enable_all()
        .build()
        .map_err(threads)?;
    let outcome = serve.block_on(serve_node(config, &raft));
    serve.shutdown_timeout(Duration::from_secs(1));
    raft.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve_node(config: Config, raft_runtime: &Runtime) -> Result<(), ServeError> {
    let tls = Listeners::new(&config).map_err(|e| ServeError::new(e.to_string()))?;
    let http = HttpListener::bind(config.http).map_err(|e| taken("HTTP", config.http, &e))?;
    let http = http.with_tls(tls.http);
    let rpc = http::bind(config.rpc).map_err(|e| taken("RPC", config.rpc, &e))?;
    let address = http.address().map_err(|e| taken("HTTP", config.http, &e))?;
    let url = format!("{}://{address}", http.scheme());
    let member = own_member(&config, url_of(http.scheme(), address), &rpc)?;
    let dir = DataDir::open(&config.data_dir)?;
    // Whoever watches over this node may ask how it is doing before it can serve.
    let metrics = Arc::new(Metrics::default());
    let front = Front::new(metrics.clone());
    let http = http::Serving::start(http, http::router(front.clone()));
    tls.reload.start().map_err(|e| signals(&e))?;
    // Other nodes may ask who is there before this one belongs to a cluster.
    let rpc_service = RpcService::new(config.secret());
    let forwarded = Forwarded::default();
    let handle = raft_runtime.handle();
    let stop_rpc = serve_rpc(rpc, tls.rpc, rpc_service.clone(), forwarded.clone(), handle);
    let identity = begin::identity(&config, &dir, &member, &rpc_service, handle).await?;

    let raft = start_raft(&config, &dir, &identity, member, tls.certificates, handle).await?;
    let (fatal, mut failures) = FatalReporter::new();
    let consensus = Consensus::new(raft.clone(), fatal);
    let catalog = Catalog::new();
    let facts = Arc::new(ClusterFacts::new(catalog.clone()));
    let dispatcher = services(&config, &consensus, &identity, &catalog, &facts, &metrics);
    forwarded.serve_with(dispatcher.clone(), tokio::runtime::Handle::current());
    rpc_service.attach(&raft);

    let readiness = Readiness::new(raft.clone());
    let scrape = Scrape::new(Sources {
        metrics,
        readiness: readiness.clone(),
        consensus: consensus.clone(),
        catalog,
        dispatcher: dispatcher.clone(),
        requests: front.requests(),
    });
    let topics = dispatcher.topics().clone();
    front.open(Edge {
        dispatcher,
        readiness: readiness.clone(),
        scrape,
        node_id: identity.node_id,
    });
    tokio::spawn(facts::keep(raft.clone(), facts));
    tokio::spawn(topics.keep_retention());
    let founded = tokio::spawn(found_if_founder(
        consensus.clone(),
        identity,
        config.root_password,
    ));
    tokio::spawn(become_ready(consensus.clone(), readiness.clone(), url));

    let seeds = config.begin.nodes().to_vec();
    let ended = tokio::select! {
        removed = stay_member(&raft, &seeds) => removed,
        signal = stop::signalled() => signal.map_err(|e| signals(&e)),
        fatal = raft.fatal() => Err(ServeError::new(fatal::stopped(&fatal, raft.node_id()))),
        Some(fatal) = failures.recv() => {
            Err(ServeError::new(fatal::stopped(&fatal, raft.node_id())))
        }
        error = unfounded(founded) => Err(error),
    };
    match ended {
        Ok(()) => {
            stop::drain(&raft, &readiness, http).await;
            raft.shutdown().await;
            drop(stop_rpc);
            tracing::info!("stopped");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Announces this node, and ends when the cluster has removed it.
async fn stay_member(raft: &Raft, seeds: &[String]) -> Result<(), ServeError> {
    match raft.stay_member(seeds).await {
        Ok(Removed {
            while_running: false,
        }) => Err(ServeError::new(format!(
            "node {} was removed from cluster {} and cannot come back under its number; to use \
             this machine again, empty the data directory and start it with --join",
            raft.node_id(),
            raft.cluster_id()
        ))),
        Ok(Removed {
            while_running: true,
        }) => {
            tracing::warn!("the cluster has removed this node; it ends");
            Ok(())
        }
        // The other branches say why.
        Err(Stopped) => std::future::pending().await,
    }
}

fn signals(error: &io::Error) -> ServeError {
    ServeError::new(format!("signals: {error}"))
}

fn taken(what: &str, address: SocketAddr, error: &io::Error) -> ServeError {
    ServeError::new(format!("cannot listen for {what} on {address}: {error}"))
}

/// What the cluster is told of this node: that clients reach it under `http` unless it was told
/// otherwise. A port of 0 has become a real one by now.
fn own_member(config: &Config, http: String, rpc: &TcpListener) -> Result<Member, ServeError> {
    let rpc = rpc.local_addr().map_err(|e| taken("RPC", config.rpc, &e))?;
    Ok(Member {
        rpc: config
            .advertise_rpc
            .clone()
            .unwrap_or_else(|| rpc.to_string()),
        http: config.advertise_http.clone().unwrap_or(http),
        version: env!("CARGO_PKG_VERSION").into(),
        voter_wanted: !config.learner,
        apply_version: types::command::APPLY_VERSION,
    })
}

/// Under which URL a node is reached that was told of none. One on all addresses, which nobody can
/// join (or the configuration would have been refused), is reached on this machine.
fn url_of(scheme: &str, mut http: SocketAddr) -> String {
    if http.ip().is_unspecified() {
        http.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    format!("{scheme}://{http}")
}

async fn start_raft(
    config: &Config,
    dir: &DataDir,
    identity: &Identity,
    member: Member,
    certificates: watch::Receiver<Certificates>,
    runtime: &tokio::runtime::Handle,
) -> Result<Raft, ServeError> {
    let mut options = Options::new(
        identity.node_id,
        identity.cluster_id.clone(),
        dir.raft(),
        member,
        config.secret(),
        runtime.clone(),
    );
    options.retention = config.retention;
    options.disk = crate::disk::measure(&config.data_dir, config.disk_reserve_bytes);
    options.certificates = certificates;
    Raft::start(options)
        .await
        .map_err(|e| ServeError::new(fatal::not_started(&e, identity.node_id)))
}

/// Puts the services together.
pub fn services(
    config: &Config,
    consensus: &Consensus,
    identity: &Identity,
    catalog: &Catalog,
    facts: &Arc<ClusterFacts>,
    metrics: &Arc<Metrics>,
) -> Dispatcher {
    let access = Access::new(consensus.clone(), catalog.clone());
    let entropy = Arc::new(Ids::new(identity.node_id));
    let engine = QueryEngine::new(
        Arc::clone(facts) as Arc<dyn sql::query::SystemFacts>,
        Arc::clone(&entropy) as Arc<dyn sql::Entropy>,
    );
    let passwords = PasswordWork::default();
    let planner = Planner::new(
        engine,
        Inject {
            entropy,
            passwords: Arc::new(Hasher(passwords.clone())),
        },
    );
    let topics = TopicService::new(
        consensus.clone(),
        access.clone(),
        catalog.clone(),
        Duration::from_millis(config.long_poll_max_ms),
        metrics.clone(),
    );
    let sql = SqlService::new(
        consensus.clone(),
        access.clone(),
        catalog.clone(),
        Arc::new(planner),
        topics.clone(),
        metrics.clone(),
    );
    let auth = AuthService::new(
        consensus.clone(),
        access.clone(),
        catalog.clone(),
        passwords,
    );
    let digest = DigestService::new(consensus.clone(), access.clone(), catalog.clone());
    let cluster = ClusterService::new(consensus.clone(), access);
    let forwarder = Forwarder::new(consensus.raft().peers().clone());
    Dispatcher::new(
        consensus.clone(),
        forwarder,
        Arc::new(Services {
            sql,
            topics,
            auth,
            cluster,
            digest,
        }),
    )
}

/// Serves other nodes, on the runtime of consensus; until the returned end is dropped.
fn serve_rpc(
    listener: TcpListener,
    tls: Option<Acceptor>,
    service: RpcService,
    forwarded: Forwarded,
    runtime: &tokio::runtime::Handle,
) -> oneshot::Sender<()> {
    let forward = forward::service(forwarded, service.guard());
    let (stop, stopped) = oneshot::channel::<()>();
    runtime.spawn(async move {
        let server = raft::rpc::server()
            .add_service(service)
            .add_service(forward);
        let stopped = async { drop(stopped.await) };
        let served = match tls {
            Some(tls) => {
                let incoming = ReceiverStream::new(tls::connections(listener, tls))
                    .map(|(connection, _)| Ok::<_, io::Error>(connection));
                server.serve_with_incoming_shutdown(incoming, stopped).await
            }
            None => {
                // Not the library's own, which spins when no file is left for a connection.
                let incoming = futures::stream::unfold(listener, |listener| async {
                    let (connection, _) = accept::next(&listener, "RPC").await;
                    Some((Ok::<_, io::Error>(connection), listener))
                });
                server.serve_with_incoming_shutdown(incoming, stopped).await
            }
        };
        if let Err(error) = served {
            tracing::error!(%error, "the RPC listener failed");
        }
    });
    stop
}

async fn found_if_founder(
    consensus: Consensus,
    identity: Identity,
    root_password: Option<String>,
) -> Result<(), types::Error> {
    match identity.origin {
        Origin::Founder => found::ensure(&consensus, &identity, root_password).await,
        Origin::Joiner { .. } => Ok(()),
    }
}

/// Resolves only if founding failed.
async fn unfounded(founding: tokio::task::JoinHandle<Result<(), types::Error>>) -> ServeError {
    match founding.await {
        Ok(Ok(())) => std::future::pending().await,
        Ok(Err(error)) => ServeError::new(format!("the cluster was not founded: {error}")),
        Err(error) => ServeError::new(format!("the cluster was not founded: {error}")),
    }
}

/// Waits until this node has applied what is committed now, and says so.
async fn become_ready(consensus: Consensus, readiness: Readiness, url: String) {
    if consensus.raft().recovered().await.is_err() {
        return;
    }
    readiness.set_recovered();
    loop {
        let deadline = Instant::now() + Duration::from_secs(5);
        // The cluster record is the first entry; before it nobody can log in.
        let caught_up = match consensus.linearizable_view(deadline).await {
            // A record that cannot be read ends the node.
            Ok(view) => consensus
                .checked(crate::auth::founding::cluster(&*view.state))
                .is_ok_and(|record| record.is_some()),
            Err(_) => false,
        };
        if caught_up {
            break;
        }
        // A founder's first entry, or a joiner's first contact, changes what is applied.
        let mut applied = consensus.applied_watch();
        drop(tokio::time::timeout(Duration::from_millis(50), applied.changed()).await);
    }
    readiness.set_caught_up();
    tracing::info!(http = %url, "ready to serve");
    stay_ready(&consensus, &readiness).await;
}

/// Looks now and then whether this node still applies what is committed.
async fn stay_ready(consensus: &Consensus, readiness: &Readiness) {
    const EVERY: Duration = Duration::from_secs(1);
    const LAG_MAX: Duration = Duration::from_secs(5);
    loop {
        tokio::time::sleep(EVERY).await;
        let view = consensus.linearizable_view(Instant::now() + LAG_MAX).await;
        readiness.set_keeps_up(view.is_ok());
    }
}
