//! When everything has settled: all nodes hold the same rows and messages, and these are what the
//! writers were told.

use std::time::Duration;

use serde_json::json;

use crate::check::{Fate, Op, Topic, violations};
use crate::cluster::Ask;
use crate::digests::assert_same_state;
use crate::http::objects;
use crate::load::{Table, first_write};
use crate::{Cluster, User};

/// In how long a write must succeed once a quorum is back.
const BACK_MAX: Duration = Duration::from_secs(30);

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Writes that were made.
    pub writes: u64,
    /// Those whose outcome nobody was told.
    pub unknown: u64,
    /// Rows that are there.
    pub rows: u64,
    /// Messages that are there.
    pub messages: u64,
    /// What is wrong.
    pub violations: Vec<String>,
}

/// Reads all rows and messages from every node, panics if two differ, and compares them with what
/// the writers were told.
pub async fn history(cluster: &Cluster, root: &User, table: &Table, mut ops: Vec<Op>) -> History {
    let index = first_write(&cluster.client(), table, "the-end", BACK_MAX).await;
    ops.push(Op {
        ids: vec!["the-end".into()],
        fate: Fate::Present,
    });
    assert_same_state(cluster).await;
    let namespace = &table.namespace;
    let sql = format!("SELECT id, writer, seq, note FROM {namespace}.events ORDER BY id");
    let rows = cluster.same_everywhere(root, index, &Ask::Rows(sql)).await;
    let names = ["id", "writer", "seq", "note"].map(|name| json!({"name": name}));
    let rows = objects(&json!({"schema": names, "rows": rows}));
    let mut topics: Vec<Topic> = Vec::new();
    let mut messages = 0;
    for (topic, partitions) in table.topics() {
        let mut all = Vec::new();
        for partition in 0..partitions {
            let topic = topic.clone();
            let ask = Ask::Messages { topic, partition };
            let same = cluster.same_everywhere(root, index, &ask).await;
            let same = same.as_array().expect("messages are an array").clone();
            messages += same.len() as u64;
            all.push(same);
        }
        topics.push(all);
    }
    let unknown = ops.iter().filter(|op| op.fate == Fate::AllOrNothing);
    History {
        writes: ops.len() as u64,
        unknown: unknown.count() as u64,
        rows: rows.len() as u64,
        messages,
        violations: violations(&ops, &rows, &topics),
    }
}
