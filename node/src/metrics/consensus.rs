//! Consensus: this node's part in the cluster, and how fast its log and its apply are.

use raft::Observed;

use super::text::{Family, Text, Unit};

const READY: Family = Family::gauge("duet_ready", "1 if the node can serve, as GET /ready says.");
const BUILD_INFO: Family = Family::gauge(
    "duet_build_info",
    "Always 1; the labels say what runs as which node.",
);
const TERM: Family = Family::gauge("duet_raft_term", "The leadership period the node is in.");
const IS_LEADER: Family = Family::gauge("duet_raft_is_leader", "1 if the node leads.");
const LEADER_ID: Family = Family::gauge(
    "duet_raft_leader_id",
    "Number of the node that leads, as this node sees it; 0: none.",
);
const VOTERS: Family = Family::gauge("duet_raft_voters", "Members that vote.");
const LEARNERS: Family = Family::gauge("duet_raft_learners", "Members that do not vote.");
const CHANGING: Family = Family::gauge(
    "duet_raft_membership_changing",
    "1 while the voters before a change of the membership and those after it both have to agree.",
);
const LAST_LOG: Family = Family::gauge(
    "duet_raft_last_log_index",
    "The last entry in the node's log.",
);
const COMMIT: Family = Family::gauge(
    "duet_raft_commit_index",
    "The last entry that the node knows to be committed.",
);
const APPLIED: Family = Family::gauge(
    "duet_raft_applied_index",
    "The last entry that the node has applied.",
);
const SNAPSHOT: Family = Family::gauge(
    "duet_raft_snapshot_index",
    "The last entry that the node's newest snapshot covers; 0: it has none.",
);
const PURGED: Family = Family::gauge(
    "duet_raft_purged_index",
    "The last entry that the node's log has dropped; 0: none.",
);
const PEER_LAG: Family = Family::gauge(
    "duet_raft_peer_lag_entries",
    "Entries that another member does not have yet, by its number; only on the leader.",
);
const LOG_BYTES: Family = Family::gauge(
    "duet_raft_log_bytes",
    "Bytes of the entries in the node's log, up to 64 KiB too many.",
);
const LOG_WRITTEN: Family = Family::counter(
    "duet_raft_log_written_bytes_total",
    "Bytes of entries written to the node's log.",
);
const FSYNC_SECONDS: Family = Family::histogram(
    "duet_raft_log_fsync_duration_seconds",
    "How long a write of the log took, its fsync included.",
);
const FSYNC_ENTRIES: Family = Family::histogram(
    "duet_raft_log_fsync_entries",
    "Entries that shared one write and fsync of the log; 0: a vote or a purge.",
);
const APPLY_SECONDS: Family = Family::histogram(
    "duet_raft_apply_duration_seconds",
    "How long applying a run of entries took, its write included.",
);
const APPLY_ENTRIES: Family = Family::histogram(
    "duet_raft_apply_entries",
    "Entries that were applied in one run.",
);
const LEADER_CHANGES: Family = Family::counter(
    "duet_raft_leader_changes_total",
    "How often the node saw another leader, or the same one in a new term.",
);
const ELECTIONS_WON: Family = Family::counter(
    "duet_raft_elections_won_total",
    "How often the node became the leader.",
);
const SNAPSHOTS_BUILT: Family = Family::counter(
    "duet_raft_snapshots_built_total",
    "Snapshots that the node made of its own state.",
);
const SNAPSHOTS_SENT: Family = Family::counter(
    "duet_raft_snapshots_sent_total",
    "Snapshots that the node sent to others and that were installed there.",
);
const SNAPSHOTS_NOT_SENT: Family = Family::counter(
    "duet_raft_snapshot_send_failures_total",
    "Snapshots that the node could not send to the end.",
);
const SNAPSHOTS_INSTALLED: Family = Family::counter(
    "duet_raft_snapshots_installed_total",
    "Snapshots of other nodes that became the node's state.",
);
const QUEUE: Family = Family::gauge(
    "duet_raft_batcher_queue_envelopes",
    "Writes that wait to be packed into a log entry.",
);
const QUEUE_BYTES: Family = Family::gauge(
    "duet_raft_batcher_queue_bytes",
    "Bytes of the writes that wait to be packed into a log entry.",
);
const IN_FLIGHT: Family = Family::gauge(
    "duet_raft_entries_in_flight",
    "Log entries that the node has proposed and that are not applied yet.",
);

/// What the node is.
pub struct About<'a> {
    /// Can it serve?
    pub ready: bool,
    /// Its cluster.
    pub cluster_id: &'a str,
    /// Its build.
    pub version: &'a str,
}

/// Writes that the node cannot serve; there is nothing else to say before it has started.
pub fn render_not_ready(text: &mut Text) {
    text.one(&READY, 0);
}

/// Writes what concerns consensus.
pub fn render(text: &mut Text, about: &About<'_>, seen: &Observed) {
    text.one(&READY, u64::from(about.ready));
    let node_id = seen.node_id.to_string();
    let labels = [
        ("version", about.version),
        ("cluster_id", about.cluster_id),
        ("node_id", node_id.as_str()),
    ];
    text.family(&BUILD_INFO).add(&labels, 1);
    text.one(&TERM, seen.term);
    text.one(&IS_LEADER, u64::from(seen.is_leader));
    text.one(&LEADER_ID, seen.leader.unwrap_or(0));
    text.one(&VOTERS, seen.voters);
    text.one(&LEARNERS, seen.learners);
    text.one(&CHANGING, u64::from(seen.membership_changing));
    text.one(&LAST_LOG, seen.last_log_index);
    text.one(&COMMIT, seen.committed);
    text.one(&APPLIED, seen.applied);
    text.one(&SNAPSHOT, seen.snapshot_index);
    text.one(&PURGED, seen.purged_index);
    let mut lags = text.family(&PEER_LAG);
    for (peer, lag) in &seen.peer_lag {
        lags.add(&[("peer", &peer.to_string())], lag);
    }
    text.one(&LOG_BYTES, seen.log_bytes);
    text.one(&LOG_WRITTEN, seen.log.bytes);
    for (family, distribution, unit) in [
        (&FSYNC_SECONDS, &seen.log.write_times, Unit::Nanoseconds),
        (&FSYNC_ENTRIES, &seen.log.write_entries, Unit::Count),
        (&APPLY_SECONDS, &seen.apply.run_times, Unit::Nanoseconds),
        (&APPLY_ENTRIES, &seen.apply.run_entries, Unit::Count),
    ] {
        text.family(family).distribution(&[], distribution, unit);
    }
    text.one(&LEADER_CHANGES, seen.leader_changes);
    text.one(&ELECTIONS_WON, seen.elections_won);
    text.one(&SNAPSHOTS_BUILT, seen.apply.snapshots_built);
    text.one(&SNAPSHOTS_SENT, seen.snapshots_sent);
    text.one(&SNAPSHOTS_NOT_SENT, seen.snapshots_not_sent);
    text.one(&SNAPSHOTS_INSTALLED, seen.apply.snapshots_installed);
    text.one(&QUEUE, seen.batcher_queue);
    text.one(&QUEUE_BYTES, seen.batcher_queue_bytes);
    text.one(&IN_FLIGHT, seen.entries_in_flight);
}
