//! How a node takes part, and how openraft is set up for it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use openraft::{SnapshotPolicy, StepDownPolicy};
use storage::Engine;
use storage::rocks::RocksEngine;
use tokio::sync::watch;
use types::ids::NodeId;
use types::limits;

use crate::clock::{SystemTimeSource, TimeSource};
use crate::disk::Disk;
use crate::error::StartError;
use crate::state_machine::OpenEngine;
use crate::tls::{Certificates, SharedTls, Tls};
use crate::type_config::Member;

/// What [`crate::Raft::start`] needs to know.
pub struct Options {
    /// This node's number; never given to another node.
    pub node_id: NodeId,
    /// The cluster it belongs to; every RPC carries it.
    pub cluster_id: String,
    /// Where the log, the state and the snapshots are, each in a directory of its own.
    pub data_dir: PathBuf,
    /// The addresses other nodes and clients reach it under, and what it runs.
    pub member: Member,
    /// What nodes prove to each other; see [`crate::rpc::auth`].
    pub secret: Secret,
    /// Heartbeats and elections.
    pub timing: Timing,
    /// When snapshots are taken, and how much of the log is kept.
    pub retention: Retention,
    /// What the log and the state are kept in.
    pub engines: Engines,
    /// The clocks entries are stamped with.
    pub clock: Box<dyn TimeSource>,
    /// The room on the disk, as it is measured from time to time.
    pub disk: watch::Receiver<Disk>,
    /// The certificates the node shows, as they are replaced from time to time.
    pub certificates: watch::Receiver<Certificates>,
    /// The runtime that consensus, replication and the batcher run on, and nothing else.
    pub runtime: tokio::runtime::Handle,
}

impl Options {
    /// Options with the machine's clocks, the usual timing and log, a disk nobody measures, and no
    /// certificates.
    pub fn new(
        node_id: NodeId,
        cluster_id: impl Into<String>,
        data_dir: impl Into<PathBuf>,
        member: Member,
        secret: Secret,
        runtime: tokio::runtime::Handle,
    ) -> Options {
        Options {
            node_id,
            cluster_id: cluster_id.into(),
            data_dir: data_dir.into(),
            member,
            secret,
            timing: Timing::default(),
            retention: Retention::default(),
            engines: Engines::Disk,
            clock: Box::new(SystemTimeSource::default()),
            disk: watch::channel(Disk::UNKNOWN).1,
            certificates: watch::channel(Certificates::default()).1,
            runtime,
        }
    }

    /// The set-up of openraft for them.
    pub(crate) fn config(&self) -> Result<openraft::Config, StartError> {
        if self.node_id == 0 || self.cluster_id.is_empty() {
            return Err(StartError::Options(
                "a node needs its number and its cluster".into(),
            ));
        }
        config(&self.cluster_id, self.timing, self.retention)
    }
}

/// What the log and the state are kept in.
pub enum Engines {
    /// Two RocksDB databases under [`Options::data_dir`].
    Disk,
    /// Others; markers and snapshots are under [`Options::data_dir`] all the same.
    Custom {
        /// Holds the log.
        log: Arc<dyn storage::Engine>,
        /// Opens the state in a directory.
        state: OpenEngine,
    },
}

impl Engines {
    /// Opens the log's engine; the state's is opened by the state itself.
    pub(crate) fn open(self, data_dir: &Path) -> storage::Result<(Arc<dyn Engine>, OpenEngine)> {
        match self {
            Engines::Custom { log, state } => Ok((log, state)),
            Engines::Disk => {
                let log = RocksEngine::open_log(&data_dir.join("log"))?;
                let state = |dir: &Path| -> storage::Result<Arc<dyn Engine>> {
                    Ok(Arc::new(RocksEngine::open_state(dir)?))
                };
                Ok((Arc::new(log), Arc::new(state)))
            }
        }
    }
}

/// What the nodes of a cluster know each other by: the secret they share and, with mutual TLS,
/// their certificates. The secret is empty where none is configured: then nodes prove nothing by
/// it, but cluster and node numbers are checked all the same.
#[derive(Clone, Default)]
pub struct Secret {
    shared: String,
    tls: Option<SharedTls>,
}

impl Secret {
    /// A secret as it was configured.
    pub fn new(secret: impl Into<String>) -> Secret {
        Secret {
            shared: secret.into(),
            tls: None,
        }
    }

    /// The same with mutual TLS, if there is to be any.
    #[must_use]
    pub fn with_tls(self, tls: Option<SharedTls>) -> Secret {
        Secret { tls, ..self }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.shared.as_bytes()
    }

    /// The node's part in mutual TLS as it is now, if there is any.
    pub fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.as_ref().map(SharedTls::current)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.shared.is_empty() {
            "Secret(none)"
        } else {
            "Secret(…)"
        })
    }
}

/// When a leader is missed. A cluster without its leader elects another after about
/// `election_max` + a time between `election_min` and `election_max`: a follower waits for the
/// leader's lease, which is `election_max`, and then for its own timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often a leader says that it is there.
    pub heartbeat: Duration,
    /// Shortest election timeout.
    pub election_min: Duration,
    /// Longest election timeout, and the length of a leader's lease.
    pub election_max: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            heartbeat: Duration::from_millis(150),
            election_min: Duration::from_millis(600),
            election_max: Duration::from_millis(1_000),
        }
    }
}

/// When a snapshot is taken, and how much of the log is kept below it: for followers that are a
/// little behind. One that is further behind gets a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Log bytes since the last snapshot after which a new one is taken.
    pub snapshot_log_bytes: u64,
    /// Entries kept of those that a snapshot has.
    pub keep_entries: u64,
    /// Bytes of the log beyond which fewer entries are kept, of those that a snapshot has.
    pub keep_bytes: u64,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention {
            snapshot_log_bytes: limits::SNAPSHOT_LOG_BYTES,
            keep_entries: limits::LOG_KEEP_ENTRIES,
            keep_bytes: limits::LOG_KEEP_BYTES,
        }
    }
}

/// The set-up of openraft. Every option that it has is named, so that none is a default by chance.
fn config(
    cluster_id: &str,
    timing: Timing,
    retention: Retention,
) -> Result<openraft::Config, StartError> {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    #[expect(
        deprecated,
        reason = "the struct has one deprecated field, and all are named"
    )]
    let config = openraft::Config {
        cluster_name: cluster_id.to_owned(),
        heartbeat_interval: ms(timing.heartbeat),
        // Heartbeats have a connection of their own; leaving some out would save little.
        heartbeat_min_interval: Some(0),
        election_timeout_min: ms(timing.election_min),
        election_timeout_max: ms(timing.election_max),
        // A whole snapshot, installation included; the sender watches that something moves.
        install_snapshot_timeout: ms(SNAPSHOT_TIMEOUT),
        send_snapshot_timeout: 0,
        snapshot_max_chunk_size: limits::SNAPSHOT_CHUNK_BYTES as u64,
        // The bytes of one message are bounded where the log is read.
        max_payload_entries: 512,
        max_append_entries: Some(4_096),
        replication_lag_threshold: retention.keep_entries,
        // A task of ours takes snapshots and purges the log, both by entries, bytes and age.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        purge_batch_size: 256,
        api_channel_size: Some(65_536),
        api_batch_capacity: 4_096,
        api_batch_linger_ms: 0,
        notification_channel_size: Some(65_536),
        // A full channel would block the core, heartbeats included; the batcher stops long before.
        state_machine_channel_size: Some(65_536),
        log_stage_capacity: None,
        broadcast_submitted_on_append: None,
        enable_tick: true,
        enable_heartbeat: true,
        enable_elect: true,
        removed_leader_step_down: StepDownPolicy::After(ms(timing.heartbeat)),
        // A leader that lost its quorum falls silent in turns, so that nodes which hear it but not
        // each other's majority can elect (openraft #2080).
        quorum_loss_probe_interval: Some(2 * ms(timing.election_max)),
        enable_pre_vote: Some(true),
        backoff: "50ms 100ms 200ms ...1s".to_owned(),
        reset_backoff_on_transfer_leader: Some(true),
        // A follower whose disk lost the very end of its log, which the marker need not notice,
        // gets it again. Forbidden, this ends the leader, who may be the only one that has it.
        allow_log_reversion: Some(true),
        // A restarted leader has to be elected again, or it could serve a state that it has not
        // recovered yet.
        enable_leader_restore: Some(false),
    };
    config
        .validate()
        .map_err(|error| StartError::Options(error.to_string()))
}

/// How long sending and installing one snapshot may take.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_timing_is_valid_and_nonsense_is_not() {
        let config = config("c", Timing::default(), Retention::default()).unwrap();
        assert!(config.enable_pre_vote == Some(true));
        // The core asserts that what is to be purged only grows. Where a purge has to wait for a
        // member that is being sent those entries, its own wish would be less than ours.
        assert_eq!(config.max_in_snapshot_log_to_keep, u64::MAX);
        let twisted = Timing {
            election_min: Duration::from_secs(5),
            ..Timing::default()
        };
        assert!(matches!(
            super::config("c", twisted, Retention::default()),
            Err(StartError::Options(_))
        ));
    }

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(…)");
        assert_eq!(format!("{:?}", Secret::default()), "Secret(none)");
    }
}
