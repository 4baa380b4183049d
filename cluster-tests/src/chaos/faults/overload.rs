//! F19 and W8: more is asked than can be done, in rows of nearly the largest size. What is too much
//! is refused as such; memory and file handles stay within bounds; small requests are answered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::api::SqlRequest;
use client::{Client, Error, RequestOptions};
use serde_json::json;
use tokio::task::JoinSet;

use super::{Kind, Seen};
use crate::chaos::Step;
use crate::lab::process;
use crate::{Cluster, wait};

/// The kinds.
pub(super) const KINDS: &[Kind] = &[Kind {
    name: "F19-overload",
    changes_leader: false,
    mending: Duration::from_secs(5),
    play: |cluster, step| Box::pin(overload(cluster, step)),
}];

/// Writers at once: with the rows they write, several times what a queue takes.
const WRITERS: usize = 96;
/// A row of nearly the largest size.
const ROW_BYTES: usize = 1_000_000;
/// Deadline of a large write.
const WRITE_MAX: Duration = Duration::from_secs(5);
/// In how long a small request must be answered, with success or an honest refusal.
const PROBE_MAX: Duration = Duration::from_secs(10);
/// Pause between two small requests.
const PROBE_PAUSE: Duration = Duration::from_millis(100);
/// Memory of a node: its queues, memtables and caches, and what is under way.
const MEMORY_MAX_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// Open files of a node: connections of the clients, of the other nodes, and its own.
const FILES_MAX: usize = 2_000;
/// How long preparations may take.
const SETUP_MAX: Duration = Duration::from_secs(60);
/// What a write that is too much may be told.
const HONEST: [&str; 5] = [
    "OVERLOADED",
    "RATE_LIMIT_EXCEEDED",
    "DEADLINE_EXCEEDED",
    "CLUSTER_UNAVAILABLE",
    "DISK_FULL",
];

/// What everybody counts.
#[derive(Debug, Default)]
pub(super) struct Counts {
    written: AtomicU64,
    refused: Mutex<BTreeMap<String, u64>>,
    violations: Mutex<Vec<String>>,
}

impl Counts {
    fn refused(&self, error: &Error) {
        let code = match error.received() {
            Some(said) => said.code.clone(),
            None => "no answer".into(),
        };
        let is_honest = error.received().is_none() || HONEST.contains(&code.as_str());
        if !is_honest {
            self.violation(format!("overload: a large write is told {error}"));
        }
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused.entry(code).or_default() += 1;
    }

    fn violation(&self, text: String) {
        let mut violations = self
            .violations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        violations.push(text);
    }

    /// What was counted, and what is wrong; nothing of it is told twice.
    pub(super) fn seen(&self) -> Seen {
        let mut violations = self
            .violations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = refused.values().sum::<u64>();
        let written = self.written.load(Ordering::Relaxed);
        assert!(written + refused > 0, "no large write had any outcome");
        Seen {
            counted: vec![
                ("large rows written", written),
                ("large rows not written", refused),
            ],
            violations: std::mem::take(&mut *violations),
        }
    }
}

/// Makes the tables.
pub(super) async fn prepare(cluster: &Cluster) {
    let client = cluster.client();
    for sql in [
        "CREATE NAMESPACE IF NOT EXISTS chaos_overload",
        "CREATE TABLE IF NOT EXISTS chaos_overload.large (id BIGINT PRIMARY KEY, body TEXT)",
        "CREATE TABLE IF NOT EXISTS chaos_overload.small (id BIGINT PRIMARY KEY, n BIGINT)",
        "INSERT INTO chaos_overload.small VALUES (1, 0) ON CONFLICT DO NOTHING",
    ] {
        wait::until(sql, SETUP_MAX, async || client.sql(sql).await.ok()).await;
    }
}

/// The text of a large row.
pub(super) fn body() -> Arc<str> {
    "x".repeat(ROW_BYTES).into()
}

async fn overload(cluster: &mut Cluster, step: &Step) -> Seen {
    prepare(cluster).await;
    let client = cluster.client();
    let counts = Arc::new(Counts::default());
    let until = Instant::now() + step.hold;
    let mut crowd = JoinSet::new();
    let body = body();
    for writer in 0..WRITERS {
        let client = client.pinned_to(writer);
        crowd.spawn(write(
            client,
            writer,
            Arc::clone(&body),
            move || Instant::now() < until,
            Arc::clone(&counts),
        ));
    }
    for node in 0..cluster.nodes().len() {
        let client = client.pinned_to(node);
        crowd.spawn(probe(client, until, Arc::clone(&counts)));
    }
    let processes: Vec<u32> = cluster.nodes().iter().map(crate::node::Node::pid).collect();
    let (mut memory, mut files) = (0, 0);
    while crowd.try_join_next().is_some() || !crowd.is_empty() {
        for process in &processes {
            memory = memory.max(process::memory_bytes(*process));
            files = files.max(process::open_files(*process));
        }
        // sleep: how often memory is looked at
        tokio::time::sleep(PROBE_PAUSE).await;
    }
    seen(&counts, memory, files)
}

fn seen(counts: &Counts, memory: u64, files: usize) -> Seen {
    let mut seen = counts.seen();
    if memory > MEMORY_MAX_BYTES {
        let what = format!("overload: a node took {memory} bytes of memory");
        seen.violations.push(what);
    }
    if files > FILES_MAX {
        let what = format!("overload: a node had {files} files open");
        seen.violations.push(what);
    }
    seen.counted.extend([
        ("MiB of memory at most, summed over overloads", memory >> 20),
        ("open files at most, summed over overloads", files as u64),
    ]);
    seen
}

/// Writes a large row again and again, for as long as it is to go on.
pub(super) async fn write(
    client: Client,
    writer: usize,
    body: Arc<str>,
    go_on: impl Fn() -> bool,
    counts: Arc<Counts>,
) {
    let sql = "INSERT INTO chaos_overload.large VALUES ($1, $2) \
               ON CONFLICT (id) DO UPDATE SET body = EXCLUDED.body";
    let request = SqlRequest::with_params(sql, vec![json!(writer), json!(&*body)]);
    while go_on() {
        let options = RequestOptions::default().timeout(WRITE_MAX);
        match client.execute(&request, &options).await {
            Ok(_) => drop(counts.written.fetch_add(1, Ordering::Relaxed)),
            Err(error) => counts.refused(&error),
        }
    }
}

/// Small requests on one node: each has an answer in time.
async fn probe(client: Client, until: Instant, counts: Arc<Counts>) {
    let options = RequestOptions::default().timeout(PROBE_MAX);
    let write = SqlRequest::new("UPDATE chaos_overload.small SET n = n + 1 WHERE id = 1");
    let read = SqlRequest::new("SELECT n FROM chaos_overload.small WHERE id = 1");
    while Instant::now() < until {
        for request in [&read, &write] {
            let told = client.execute(request, &options).await;
            let unanswered = match &told {
                Ok(answer) => answer.results.is_empty(),
                Err(error) => error.received().is_none(),
            };
            if unanswered {
                let outcome = told.map_or_else(|error| error.to_string(), |_| String::new());
                counts.violation(format!("overload: {}: {outcome}", request.sql));
            }
        }
        // sleep: the rate of small requests
        tokio::time::sleep(PROBE_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_much_memory_and_too_many_files_are_seen() {
        let counts = Counts::default();
        counts.written.store(1, Ordering::Relaxed);
        assert_eq!(
            seen(&counts, MEMORY_MAX_BYTES, FILES_MAX).violations,
            [""; 0]
        );
        let seen = seen(&counts, MEMORY_MAX_BYTES + 1, FILES_MAX + 1);
        assert_eq!(seen.violations.len(), 2);
    }

    #[test]
    fn dishonest_refusals_are_seen() {
        let counts = Counts::default();
        counts.refused(&Error::Unreachable { tried: Vec::new() });
        assert_eq!(seen(&counts, 0, 0).violations, [""; 0]);
        counts.violation("overload: a probe".into());
        assert_eq!(seen(&counts, 0, 0).violations.len(), 1);
    }
}
