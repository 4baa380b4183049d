//! Keeps what `system.cluster` shows.

use std::sync::Arc;
use std::time::Duration;

use raft::{Raft, Role, Status};
use sql::query::ClusterRow;

use crate::inject::ClusterFacts;

/// How often members are asked how they are.
const EVERY: Duration = Duration::from_secs(1);

/// Asks the members, every second and whenever the leader changes.
pub async fn keep(raft: Raft, facts: Arc<ClusterFacts>) {
    let mut leadership = raft.leadership_watch();
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .map(|name| name.trim().to_owned());
    loop {
        facts.set(rows(&raft.status().await, hostname.as_ref()));
        if let Ok(Err(_)) = tokio::time::timeout(EVERY, leadership.changed()).await {
            return;
        }
    }
}

fn rows(status: &Status, hostname: Option<&String>) -> Vec<ClusterRow> {
    let row = |m: &raft::MemberStatus| {
        let there = m.role != Role::Unreachable;
        let is_self = m.node_id == status.node_id;
        ClusterRow {
            node_id: m.node_id,
            role: m.role.as_str().to_owned(),
            status: if there { "active" } else { "unreachable" }.to_owned(),
            rpc_addr: m.rpc.clone(),
            api_addr: m.http.clone(),
            is_self,
            is_leader: Some(m.node_id) == status.leader,
            current_term: there.then_some(status.term),
            last_applied_log: there.then_some(m.applied),
            snapshot_index: there.then_some(m.snapshot_index),
            replication_lag: there.then_some(m.lag),
            hostname: hostname.filter(|_| is_self).cloned(),
            version: there.then(|| m.version.clone()),
        }
    };
    status.members.iter().map(row).collect()
}
