//! Options of `duet serve`: flag over environment over file over default.

pub mod sample;
mod tls;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;
use types::limits;

use self::tls::{HttpFiles, RpcFiles};
use crate::tls::HttpTls;

/// Flags and their environment variables. Every field is optional so that the file can fill it.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeArgs {
    /// TOML file with any of these options, spelt like the flags with underscores
    #[arg(long, env = "DUET_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Number of this node; left out, the cluster gives it one never used before
    #[arg(long, env = "DUET_NODE_ID", value_name = "N")]
    pub node_id: Option<u64>,
    /// Directory of everything this node keeps [default: ./duet-data]
    #[arg(long, env = "DUET_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address to serve HTTP on [default: 127.0.0.1:8080]
    #[arg(long, env = "DUET_HTTP", value_name = "HOST:PORT")]
    pub http: Option<String>,
    /// Address to serve other nodes on [default: 127.0.0.1:9188]
    #[arg(long, env = "DUET_RPC", value_name = "HOST:PORT")]
    pub rpc: Option<String>,
    /// URL under which clients reach this node [default: http://<http>]
    #[arg(long, env = "DUET_ADVERTISE_HTTP", value_name = "URL")]
    pub advertise_http: Option<String>,
    /// Address under which other nodes reach this node [default: <rpc>]
    #[arg(long, env = "DUET_ADVERTISE_RPC", value_name = "HOST:PORT")]
    pub advertise_rpc: Option<String>,
    /// Certificate (PEM, with those between it and its authority) to serve HTTP over TLS with
    #[arg(long, env = "DUET_HTTP_TLS_CERT", value_name = "FILE")]
    pub http_tls_cert: Option<PathBuf>,
    /// Private key (PEM) of --http-tls-cert
    #[arg(long, env = "DUET_HTTP_TLS_KEY", value_name = "FILE")]
    pub http_tls_key: Option<PathBuf>,
    /// Certificate (PEM) that this node shows the other nodes, as client and as server
    #[arg(long, env = "DUET_RPC_TLS_CERT", value_name = "FILE")]
    pub rpc_tls_cert: Option<PathBuf>,
    /// Private key (PEM) of --rpc-tls-cert
    #[arg(long, env = "DUET_RPC_TLS_KEY", value_name = "FILE")]
    pub rpc_tls_key: Option<PathBuf>,
    /// Authorities (PEM) of the other nodes' certificates; nobody else may speak on the RPC port
    #[arg(long, env = "DUET_RPC_TLS_CA", value_name = "FILE")]
    pub rpc_tls_ca: Option<PathBuf>,
    /// Be the first node of a new cluster
    #[arg(long, env = "DUET_BOOTSTRAP", num_args = 0..=1, default_missing_value = "true")]
    pub bootstrap: Option<bool>,
    /// RPC addresses of members of the cluster to join
    #[arg(
        long,
        env = "DUET_JOIN",
        value_name = "HOST:PORT",
        value_delimiter = ','
    )]
    pub join: Option<Vec<String>>,
    /// Stay a learner: hold the data, do not vote
    #[arg(long, env = "DUET_LEARNER", num_args = 0..=1, default_missing_value = "true")]
    pub learner: Option<bool>,
    /// Password of the user `root`, read when the cluster is bootstrapped
    #[arg(long, env = "DUET_ROOT_PASSWORD", hide_env_values = true, hide = true)]
    pub root_password: Option<String>,
    /// Secret that nodes of one cluster share
    #[arg(long, env = "DUET_CLUSTER_SECRET", hide_env_values = true, hide = true)]
    pub cluster_secret: Option<String>,
    /// Longest wait of a consume, in seconds [default: 5]
    #[arg(long, env = "DUET_LONG_POLL_MAX_SECONDS", value_name = "N")]
    pub long_poll_max_seconds: Option<u64>,
    /// Free bytes of the data's file system below which writes that grow are refused [default: by
    /// its size, see the documentation]
    #[arg(long, env = "DUET_DISK_RESERVE_BYTES", value_name = "N")]
    pub disk_reserve_bytes: Option<u64>,
    /// Bytes of log since the last snapshot after which a new one is taken [default: 268435456]
    #[arg(long, env = "DUET_SNAPSHOT_LOG_BYTES", value_name = "N")]
    pub snapshot_log_bytes: Option<u64>,
    /// Log entries kept below a snapshot for nodes a little behind [default: 10000]
    #[arg(long, env = "DUET_LOG_KEEP_ENTRIES", value_name = "N")]
    pub log_keep_entries: Option<u64>,
    /// Bytes of log beyond which fewer entries are kept below a snapshot [default: 268435456]
    #[arg(long, env = "DUET_LOG_KEEP_BYTES", value_name = "N")]
    pub log_keep_bytes: Option<u64>,
    /// How log lines look: human or json [default: human on a terminal, else json]
    #[arg(long, env = "DUET_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Which log lines appear, e.g. info or raft=debug [default: info,openraft=warn]
    #[arg(long, env = "DUET_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Print a configuration file with every option, and end
    #[arg(long, hide = true)]
    pub print_config: bool,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Human,
    /// A JSON object a line.
    Json,
}

/// The same options in a file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileConfig {
    node_id: Option<u64>,
    data_dir: Option<PathBuf>,
    http: Option<String>,
    rpc: Option<String>,
    advertise_http: Option<String>,
    advertise_rpc: Option<String>,
    http_tls_cert: Option<PathBuf>,
    http_tls_key: Option<PathBuf>,
    rpc_tls_cert: Option<PathBuf>,
    rpc_tls_key: Option<PathBuf>,
    rpc_tls_ca: Option<PathBuf>,
    bootstrap: Option<bool>,
    join: Option<Vec<String>>,
    learner: Option<bool>,
    root_password: Option<String>,
    cluster_secret: Option<String>,
    long_poll_max_seconds: Option<u64>,
    disk_reserve_bytes: Option<u64>,
    snapshot_log_bytes: Option<u64>,
    log_keep_entries: Option<u64>,
    log_keep_bytes: Option<u64>,
    log_format: Option<LogFormat>,
    log: Option<String>,
}

/// All options, resolved and checked.
#[derive(Clone)]
pub struct Config {
    /// The number asked for.
    pub node_id: Option<u64>,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// HTTP listener.
    pub http: SocketAddr,
    /// RPC listener.
    pub rpc: SocketAddr,
    /// URL for clients; none: made from the listener once its port is known.
    pub advertise_http: Option<String>,
    /// Address for nodes; none: the listener's, once its port is known.
    pub advertise_rpc: Option<String>,
    /// Certificate and key of HTTP over TLS; none: HTTP without it.
    pub http_tls: Option<HttpTls>,
    /// Where those are.
    pub http_files: Option<HttpFiles>,
    /// This node's part in mutual TLS between the nodes; none: connections without it.
    pub rpc_tls: Option<raft::SharedTls>,
    /// Where that is.
    pub rpc_files: Option<RpcFiles>,
    /// How to begin on an empty directory.
    pub begin: Begin,
    /// Stay a learner.
    pub learner: bool,
    /// For `root`, at bootstrap.
    pub root_password: Option<String>,
    /// Shared by the nodes of a cluster.
    pub cluster_secret: String,
    /// Longest wait of a consume, in ms.
    pub long_poll_max_ms: u64,
    /// Free bytes below which the node counts as full; none: by the size of the file system.
    pub disk_reserve_bytes: Option<u64>,
    /// When snapshots are taken, and how much of the log is kept.
    pub retention: raft::Retention,
    /// Form of log lines; none: by terminal.
    pub log_format: Option<LogFormat>,
    /// Filter of log lines.
    pub log: String,
}

/// How a node with an empty data directory begins. Ignored by one that belongs to a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Found a cluster, unless one of these nodes already belongs to one.
    Bootstrap {
        /// RPC addresses to hear from first.
        unless_clustered: Vec<String>,
    },
    /// Join the cluster of any of these nodes.
    Join(Vec<String>),
    /// Neither was asked for, and it would not be safe to choose.
    Refuse,
}

impl Begin {
    /// RPC addresses of other nodes that were named.
    pub fn nodes(&self) -> &[String] {
        match self {
            Begin::Bootstrap {
                unless_clustered: nodes,
            }
            | Begin::Join(nodes) => nodes,
            Begin::Refuse => &[],
        }
    }
}

/// A configuration that cannot be used; the text is one line that names the option.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct ConfigError(String);

#[cfg(test)]
impl ConfigError {
    /// With this text.
    pub fn of(text: &str) -> ConfigError {
        bad(text)
    }
}

fn bad(text: impl Into<String>) -> ConfigError {
    ConfigError(text.into())
}

impl Config {
    /// Resolves flags (which already include the environment), the file they name, and defaults.
    pub fn resolve(args: ServeArgs) -> Result<Config, ConfigError> {
        let file = match &args.config {
            Some(path) => read_file(path)?,
            None => FileConfig::default(),
        };
        let retention = retention(&args, &file)?;
        let http = address("http", args.http.or(file.http), "127.0.0.1:8080")?;
        let rpc = address("rpc", args.rpc.or(file.rpc), "127.0.0.1:9188")?;
        let node_id = args.node_id.or(file.node_id);
        if node_id.is_some_and(|id| id == 0 || id > limits::NODE_ID_MAX) {
            let most = limits::NODE_ID_MAX;
            return Err(bad(format!("--node-id must be 1 or higher, up to {most}")));
        }
        let http_files = HttpFiles::given(
            args.http_tls_cert.or(file.http_tls_cert),
            args.http_tls_key.or(file.http_tls_key),
        )?;
        let http_tls = http_files.as_ref().map(HttpFiles::read).transpose()?;
        let rpc_files = RpcFiles::given(
            args.rpc_tls_cert.or(file.rpc_tls_cert),
            args.rpc_tls_key.or(file.rpc_tls_key),
            args.rpc_tls_ca.or(file.rpc_tls_ca),
        )?;
        let rpc_tls = rpc_files.as_ref().map(RpcFiles::read).transpose()?;
        let rpc_tls = rpc_tls.map(raft::SharedTls::new);
        let advertise_http = args.advertise_http.or(file.advertise_http);
        if http_tls.is_some() && advertise_http.as_ref().is_some_and(|url| !is_https(url)) {
            return Err(bad(
                "--advertise-http must begin with https:// where --http-tls-cert is given",
            ));
        }
        let advertise_rpc = args.advertise_rpc.or(file.advertise_rpc);
        let learner = args.learner.or(file.learner).unwrap_or(false);
        let clustered =
            node_id.is_some() || advertise_http.is_some() || advertise_rpc.is_some() || learner;
        let bootstrap = args.bootstrap.or(file.bootstrap).unwrap_or(false);
        let join = args.join.or(file.join).unwrap_or_default();
        let local = http.ip().is_loopback() && rpc.ip().is_loopback();
        let begin = match (bootstrap, join.is_empty()) {
            (true, _) => Begin::Bootstrap {
                unless_clustered: join,
            },
            (false, false) => Begin::Join(join),
            (false, true) if local && !clustered => Begin::Bootstrap {
                unless_clustered: vec![],
            },
            (false, true) => Begin::Refuse,
        };
        // A variable that is set to nothing is not set.
        let given = |secret: Option<String>| secret.filter(|secret| !secret.is_empty());
        let root_password = given(args.root_password).or(given(file.root_password));
        let cluster_secret = given(args.cluster_secret).or(given(file.cluster_secret));
        let long_poll_seconds = args
            .long_poll_max_seconds
            .or(file.long_poll_max_seconds)
            .unwrap_or(5);
        if long_poll_seconds.saturating_mul(1000) > limits::DEADLINE_MAX_MS {
            let most = limits::DEADLINE_MAX_MS / 1000;
            return Err(bad(format!(
                "--long-poll-max-seconds must be at most {most}"
            )));
        }
        let config = Config {
            node_id,
            data_dir: args
                .data_dir
                .or(file.data_dir)
                .unwrap_or_else(|| "./duet-data".into()),
            http,
            rpc,
            advertise_http,
            advertise_rpc,
            http_tls,
            http_files,
            rpc_tls,
            rpc_files,
            begin,
            learner,
            root_password,
            cluster_secret: cluster_secret.unwrap_or_default(),
            long_poll_max_ms: long_poll_seconds * 1000,
            disk_reserve_bytes: args.disk_reserve_bytes.or(file.disk_reserve_bytes),
            retention,
            log_format: args.log_format.or(file.log_format),
            log: args
                .log
                .or(file.log)
                .unwrap_or_else(|| "info,openraft=warn".into()),
        };
        config.check()?;
        Ok(config)
    }

    /// Options that are each well formed and cannot stand together.
    fn check(&self) -> Result<(), ConfigError> {
        let (least, most) = (limits::PASSWORD_MIN_BYTES, limits::PASSWORD_MAX_BYTES);
        let fits = |password: &String| (least..=most).contains(&password.len());
        if !self.root_password.as_ref().is_none_or(fits) {
            return Err(bad(format!(
                "DUET_ROOT_PASSWORD must have {least} to {most} bytes"
            )));
        }
        let (http, rpc) = (self.http, self.rpc);
        let open = self.cluster_secret.is_empty() && self.rpc_tls.is_none();
        if open && !rpc.ip().is_loopback() {
            return Err(bad(format!(
                "DUET_CLUSTER_SECRET is missing: with --rpc {rpc} anybody who reaches this port \
                 could join the cluster; give all its nodes the same secret, or certificates \
                 (--rpc-tls-cert, --rpc-tls-key, --rpc-tls-ca)"
            )));
        }
        if self.advertise_rpc.is_none() && rpc.ip().is_unspecified() {
            return Err(no_address("rpc", rpc, "HOST:PORT"));
        }
        // No other machine joins a node whose RPC listener is on loopback, so none is told of it.
        let alone = rpc.ip().is_loopback() && !matches!(self.begin, Begin::Join(_));
        if self.advertise_http.is_none() && http.ip().is_unspecified() && !alone {
            return Err(no_address("http", http, "URL"));
        }
        Ok(())
    }

    /// What this node and the others know each other by.
    pub fn secret(&self) -> raft::Secret {
        raft::Secret::new(self.cluster_secret.clone()).with_tls(self.rpc_tls.clone())
    }
}

/// When snapshots are taken, and how much of the log is kept. Below the least of these every few
/// writes would take a snapshot, or a follower that is a moment late need one.
fn retention(args: &ServeArgs, file: &FileConfig) -> Result<raft::Retention, ConfigError> {
    let usual = raft::Retention::default();
    let snapshot_log_bytes = args.snapshot_log_bytes.or(file.snapshot_log_bytes);
    let keep_entries = args.log_keep_entries.or(file.log_keep_entries);
    let keep_bytes = args.log_keep_bytes.or(file.log_keep_bytes);
    let retention = raft::Retention {
        snapshot_log_bytes: snapshot_log_bytes.unwrap_or(usual.snapshot_log_bytes),
        keep_entries: keep_entries.unwrap_or(usual.keep_entries),
        keep_bytes: keep_bytes.unwrap_or(usual.keep_bytes),
    };
    for (option, given, least) in [
        (
            "snapshot-log-bytes",
            retention.snapshot_log_bytes,
            limits::SNAPSHOT_LOG_BYTES_MIN,
        ),
        (
            "log-keep-entries",
            retention.keep_entries,
            limits::LOG_KEEP_ENTRIES_MIN,
        ),
        (
            "log-keep-bytes",
            retention.keep_bytes,
            limits::LOG_KEEP_BYTES_MIN,
        ),
    ] {
        if given < least {
            return Err(bad(format!(
                "--{option} must be at least {least}, not {given}"
            )));
        }
    }
    Ok(retention)
}

fn is_https(url: &str) -> bool {
    url.to_ascii_lowercase().starts_with("https://")
}

fn read_file(path: &Path) -> Result<FileConfig, ConfigError> {
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|e| bad(format!("cannot read the configuration file {name}: {e}")))?;
    toml::from_str(&text).map_err(|e| {
        let place = e
            .span()
            .map_or(0, |span| text[..span.start].matches('\n').count() + 1);
        bad(format!(
            "configuration file {name}, line {place}: {}",
            e.message()
        ))
    })
}

/// Where to listen. A name is looked up once, now; where it has several addresses the first counts.
fn address(option: &str, given: Option<String>, default: &str) -> Result<SocketAddr, ConfigError> {
    let text = given.unwrap_or_else(|| default.to_owned());
    // Some systems put ::1 first; the other nodes on this machine are told 127.0.0.1.
    let numeric = text.replacen("localhost", "127.0.0.1", 1);
    let found = numeric
        .to_socket_addrs()
        .map_err(|e| bad(format!("--{option} must be HOST:PORT, not {text:?}: {e}")))?
        .next();
    found.ok_or_else(|| bad(format!("--{option}: {text:?} has no address")))
}

fn no_address(option: &str, listener: SocketAddr, form: &str) -> ConfigError {
    bad(format!(
        "--advertise-{option} {form} is missing: nobody can reach a node at {listener}, the address \
         that --{option} names"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(args: ServeArgs) -> Result<Config, String> {
        Config::resolve(args).map_err(|e| e.to_string())
    }

    #[test]
    fn a_node_alone_on_loopback_bootstraps_itself() {
        let config = resolve(ServeArgs::default()).ok().map(|c| c.begin);
        assert_eq!(
            config,
            Some(Begin::Bootstrap {
                unless_clustered: vec![]
            })
        );
    }

    #[test]
    fn a_node_others_can_reach_does_not() {
        for args in [
            ServeArgs {
                http: Some("10.0.0.1:8080".into()),
                ..Default::default()
            },
            ServeArgs {
                rpc: Some("10.0.0.1:9188".into()),
                cluster_secret: Some("between us".into()),
                ..Default::default()
            },
            ServeArgs {
                node_id: Some(2),
                ..Default::default()
            },
            ServeArgs {
                advertise_rpc: Some("db1:9188".into()),
                ..Default::default()
            },
        ] {
            assert_eq!(resolve(args).ok().map(|c| c.begin), Some(Begin::Refuse));
        }
    }

    /// A node that others can reach.
    fn open(rpc: &str) -> ServeArgs {
        ServeArgs {
            rpc: Some(rpc.into()),
            bootstrap: Some(true),
            cluster_secret: Some("between us".into()),
            ..Default::default()
        }
    }

    #[test]
    fn a_node_others_can_reach_needs_a_secret_or_certificates() {
        assert!(resolve(open("10.0.0.1:9188")).is_ok());
        for secret in [None, Some(String::new())] {
            let args = ServeArgs {
                cluster_secret: secret,
                ..open("10.0.0.1:9188")
            };
            let error = resolve(args).err().expect("refused");
            assert!(error.contains("DUET_CLUSTER_SECRET"), "{error}");
        }
        let dir = tempfile::tempdir().expect("temp dir");
        let file = dir.path().join("a.pem");
        std::fs::write(&file, "PEM").expect("write");
        let certified = ServeArgs {
            cluster_secret: None,
            rpc_tls_cert: Some(file.clone()),
            rpc_tls_key: Some(file.clone()),
            rpc_tls_ca: Some(file),
            ..open("10.0.0.1:9188")
        };
        assert!(resolve(certified).is_ok());
    }

    #[test]
    fn an_empty_password_is_none_and_a_short_one_is_refused() {
        let args = |password: &str| ServeArgs {
            root_password: Some(password.into()),
            ..Default::default()
        };
        let config = resolve(args("")).expect("resolves");
        assert_eq!(config.root_password, None);
        let error = resolve(args("1234567")).err().expect("refused");
        assert!(error.contains("DUET_ROOT_PASSWORD"), "{error}");
        assert!(resolve(args("12345678")).is_ok());
    }

    #[test]
    fn a_node_on_all_addresses_says_under_which_it_is_reached() {
        let error = resolve(open("0.0.0.0:9188")).err().expect("refused");
        assert!(error.contains("--advertise-rpc"), "{error}");
        let rpc = ServeArgs {
            advertise_rpc: Some("db1:9188".into()),
            http: Some("[::]:8080".into()),
            ..open("0.0.0.0:9188")
        };
        let error = resolve(rpc.clone()).err().expect("refused");
        assert!(error.contains("--advertise-http"), "{error}");
        let both = ServeArgs {
            advertise_http: Some("http://db1:8080".into()),
            ..rpc
        };
        assert!(resolve(both).is_ok());
        // In a container that nobody joins, say.
        let alone = ServeArgs {
            http: Some("0.0.0.0:8080".into()),
            bootstrap: Some(true),
            ..Default::default()
        };
        assert!(resolve(alone).is_ok());
    }

    #[test]
    fn a_listener_may_be_named() {
        let args = ServeArgs {
            http: Some("localhost:8080".into()),
            ..Default::default()
        };
        let config = resolve(args).expect("resolves");
        assert_eq!(config.http, SocketAddr::from(([127, 0, 0, 1], 8080)));
        let args = ServeArgs {
            http: Some("no.such.host.invalid:8080".into()),
            ..Default::default()
        };
        let error = resolve(args).err().expect("refused");
        assert!(
            error.contains("--http") && error.contains("no.such.host"),
            "{error}"
        );
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("duet.toml");
        std::fs::write(&path, "http = \"127.0.0.1:1\"\nrpc = \"127.0.0.1:2\"\n").expect("write");
        let args = ServeArgs {
            config: Some(path),
            http: Some("127.0.0.1:3".into()),
            ..Default::default()
        };
        let config = resolve(args).expect("resolves");
        assert_eq!((config.http.port(), config.rpc.port()), (3, 2));
        assert_eq!(config.data_dir, PathBuf::from("./duet-data"));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("duet.toml");
        std::fs::write(&path, "http = \"127.0.0.1:1\"\nhtpp = 3\n").expect("write");
        let error = resolve(ServeArgs {
            config: Some(path),
            ..Default::default()
        })
        .err();
        let error = error.expect("must be refused");
        assert!(
            error.contains("htpp") && error.contains("line 2"),
            "{error}"
        );
    }

    #[test]
    fn bad_values_name_their_option() {
        let args = ServeArgs {
            http: Some("nonsense".into()),
            ..Default::default()
        };
        assert!(resolve(args).err().expect("refused").contains("--http"));
        for node_id in [0, limits::NODE_ID_MAX + 1, u64::MAX] {
            let args = ServeArgs {
                node_id: Some(node_id),
                ..Default::default()
            };
            assert!(resolve(args).err().expect("refused").contains("--node-id"));
        }
    }

    #[test]
    fn snapshots_and_the_log_have_their_least() {
        let config = resolve(ServeArgs::default()).expect("resolves");
        assert_eq!(config.retention, raft::Retention::default());
        let args = |snapshot, entries, bytes| ServeArgs {
            snapshot_log_bytes: Some(snapshot),
            log_keep_entries: Some(entries),
            log_keep_bytes: Some(bytes),
            ..Default::default()
        };
        let least = [
            limits::SNAPSHOT_LOG_BYTES_MIN,
            limits::LOG_KEEP_ENTRIES_MIN,
            limits::LOG_KEEP_BYTES_MIN,
        ];
        let [snapshot_log_bytes, keep_entries, keep_bytes] = least;
        let config = resolve(args(snapshot_log_bytes, keep_entries, keep_bytes));
        let wanted = raft::Retention {
            snapshot_log_bytes,
            keep_entries,
            keep_bytes,
        };
        assert_eq!(config.expect("resolves").retention, wanted);
        let options = [
            "--snapshot-log-bytes",
            "--log-keep-entries",
            "--log-keep-bytes",
        ];
        for (at, option) in options.iter().enumerate() {
            let mut given = least;
            given[at] -= 1;
            let [snapshot, entries, bytes] = given;
            let error = resolve(args(snapshot, entries, bytes))
                .err()
                .expect("refused");
            assert!(error.contains(option), "{error}");
        }
    }

    #[test]
    fn the_files_of_tls_go_together_and_must_be_there() {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = dir.path().join("a.pem");
        std::fs::write(&file, "PEM").expect("write");
        let refused = |args| resolve(args).err().expect("must be refused");
        let http = ServeArgs {
            http_tls_cert: Some(file.clone()),
            ..Default::default()
        };
        assert!(refused(http.clone()).contains("--http-tls-key"));
        let rpc = ServeArgs {
            rpc_tls_cert: Some(file.clone()),
            rpc_tls_key: Some(file.clone()),
            ..Default::default()
        };
        assert!(refused(rpc).contains("--rpc-tls-ca"));
        let missing = ServeArgs {
            http_tls_key: Some(dir.path().join("gone.pem")),
            ..http.clone()
        };
        let text = refused(missing);
        assert!(
            text.contains("--http-tls-key") && text.contains("gone.pem"),
            "{text}"
        );
        let whole = ServeArgs {
            http_tls_key: Some(file),
            ..http
        };
        let config = resolve(whole.clone()).expect("resolves");
        assert!(config.http_tls.is_some() && config.rpc_tls.is_none());
        let plain = ServeArgs {
            advertise_http: Some("http://db1:8080".into()),
            ..whole
        };
        assert!(refused(plain).contains("--advertise-http"));
    }
}
