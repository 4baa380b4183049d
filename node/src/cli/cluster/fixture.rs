//! Clusters for the tests of this module.

use client::api::cluster::{ClusterStatus, Member, MemberRole};

pub fn cluster(members: Vec<Member>) -> ClusterStatus {
    ClusterStatus {
        cluster_id: "C".into(),
        leader_id: Some(1),
        term: 4,
        members,
    }
}

pub fn voter(node_id: u64) -> Member {
    Member {
        node_id,
        role: match node_id {
            1 => MemberRole::Leader,
            _ => MemberRole::Follower,
        },
        http: format!("http://h{node_id}:1"),
        rpc: format!("h{node_id}:2"),
        last_log_index: Some(9),
        applied_index: Some(9),
        lag: Some(0),
        version: Some("0.1.0".into()),
        disk_free_bytes: Some(1 << 40),
        disk_reserve_bytes: Some(10 << 30),
        disk_full: Some(false),
        voter: true,
        voter_wanted: true,
        draining: false,
        clock_ahead_ms: Some(0),
        certificate_expires_in_seconds: None,
        certificate_refused: Some(false),
    }
}

pub fn learner(node_id: u64) -> Member {
    Member {
        role: MemberRole::Learner,
        voter: false,
        ..voter(node_id)
    }
}

/// A learner that is to stay one.
pub fn copy(node_id: u64) -> Member {
    Member {
        voter_wanted: false,
        ..learner(node_id)
    }
}

/// A voter that does not answer.
pub fn gone(node_id: u64) -> Member {
    Member {
        role: MemberRole::Unreachable,
        last_log_index: None,
        applied_index: None,
        lag: None,
        version: None,
        disk_free_bytes: None,
        disk_reserve_bytes: None,
        disk_full: None,
        clock_ahead_ms: None,
        certificate_refused: None,
        ..voter(node_id)
    }
}
