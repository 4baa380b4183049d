//! A node that lacks a million entries comes forward, and those who write meanwhile hardly notice.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use client::api::SqlRequest;
use client::{Client, RequestOptions};
use cluster_tests::cluster::Ask;
use cluster_tests::load::Table;
use cluster_tests::{Cluster, Metrics, User};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::history::assert_history;
use crate::steady::{self, APPLIED, Felt, INSTALLED, shows, watch};

/// Entries of the log that the node lacks.
const BEHIND: u64 = 1_000_000;
/// Writers that make them: one entry holds what waits while two are on their way.
const FILLERS: u64 = 3;
/// Statements in one of their requests, each an entry.
const STATEMENTS: usize = 500;
/// How long making them may take.
const FILL_MAX: Duration = Duration::from_secs(1_800);
/// How long the node may take: with a snapshot, and with all of the entries.
const BY_SNAPSHOT_MAX: Duration = Duration::from_secs(60);
const BY_LOG_MAX: Duration = Duration::from_secs(600);

const LAST: &str = "duet_raft_last_log_index";

/// Rows that count how often they were changed.
struct Counters {
    client: Client,
    stop: Arc<AtomicBool>,
    fillers: JoinSet<RangeInclusive<u64>>,
}

/// How often that was, at least and at most.
struct Counted {
    client: Client,
    changes: RangeInclusive<u64>,
}

impl Counters {
    /// Changes them through the node `leader` as fast as it goes.
    async fn start(cluster: &Cluster, leader: usize) -> Counters {
        let client = cluster.client().pinned_to(leader);
        let sql = "CREATE TABLE shop.counters (id INT PRIMARY KEY, n BIGINT NOT NULL)";
        client.sql(sql).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let mut fillers = JoinSet::new();
        for id in 0..FILLERS {
            let sql = format!("INSERT INTO shop.counters VALUES ({id}, 0)");
            client.sql(sql).await.unwrap();
            fillers.spawn(fill(client.clone(), id, Arc::clone(&stop)));
        }
        Counters {
            client,
            stop,
            fillers,
        }
    }

    async fn stop(self) -> Counted {
        self.stop.store(true, Ordering::Relaxed);
        let told = self.fillers.join_all().await;
        let least: u64 = told.iter().map(|told| *told.start()).sum();
        let most: u64 = told.iter().map(|told| *told.end()).sum();
        Counted {
            client: self.client,
            changes: least..=most,
        }
    }
}

impl Counted {
    /// Asserts that every node has the rows as they were answered.
    async fn check(self, cluster: &Cluster, root: &User) {
        let sql = "UPDATE shop.counters SET n = n + 1 WHERE id = 0";
        let answer = self.client.sql(sql).await.unwrap();
        let index = answer.results[0].receipt.as_ref().unwrap().index;
        let rows = Ask::Rows("SELECT n FROM shop.counters ORDER BY id".into());
        let rows = cluster.same_everywhere(root, index, &rows).await;
        let changes: u64 = rows.as_array().unwrap().iter().map(number).sum();
        assert!(
            self.changes.contains(&(changes - 1)),
            "{changes}: {:?}",
            self.changes
        );
    }
}

/// The number in a row of one column.
fn number(row: &Value) -> u64 {
    let cell = &row[0];
    let number = cell.as_u64().or_else(|| cell.as_str()?.parse().ok());
    number.unwrap_or_else(|| panic!("no number: {row}"))
}

/// Changes the row `id` until it is to stop; how often that was, at least and at most.
async fn fill(client: Client, id: u64, stop: Arc<AtomicBool>) -> RangeInclusive<u64> {
    let statement = format!("UPDATE shop.counters SET n = n + 1 WHERE id = {id};");
    let request = SqlRequest::new(statement.repeat(STATEMENTS));
    let (mut sure, mut unknown) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        match client.execute(&request, &RequestOptions::default()).await {
            Ok(answer) => sure += answer.results.len() as u64,
            Err(_) => unknown += STATEMENTS as u64,
        }
    }
    sure..=sure + unknown
}

/// A node is stopped, a million entries are written, and it comes back under load. How many
/// snapshots it took up.
async fn a_million_entries_behind(env: &[(&str, &str)], limit: Duration) -> (f64, Felt) {
    let mut cluster = Cluster::start_with(3, env).await;
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    let leader = cluster.leader().await;
    let (away, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let load = steady::load(&cluster, &table, &[leader, other]).await;
    println!("with all nodes:      {}", watch(&load).await);
    let ended = cluster.nodes_mut()[away].terminate().await;
    assert!(ended.success(), "{ended}");
    let had = cluster.metrics(leader).await.get(LAST);
    let (began, goal) = (Instant::now(), had + BEHIND as f64);
    let counters = Counters::start(&cluster, leader).await;
    let what = "a million entries are written";
    shows(&cluster, leader, what, FILL_MAX, |metrics| {
        metrics.get(LAST) >= goal
    })
    .await;
    let counted = counters.stop().await;
    println!(
        "that took {:?}, {:?} writes",
        began.elapsed(),
        counted.changes
    );
    let before = watch(&load).await;
    println!("with one stopped:    {before}");
    let since = Instant::now();
    cluster.nodes_mut()[away].spawn(&[]);
    let aim = cluster.metrics(leader).await.get(LAST);
    let aims = |metrics: &Metrics| metrics.find(APPLIED).is_some_and(|applied| applied >= aim);
    let there = shows(&cluster, away, "it has caught up", limit, aims).await;
    let took = since.elapsed();
    let felt = Felt {
        before,
        meanwhile: load.times_since(since),
    };
    println!("as it comes forward: {}", felt.meanwhile);
    let installed = there.get(INSTALLED);
    println!("it took {took:?}, with {installed} snapshots");
    cluster.nodes_mut()[away].ready().await;
    let ops = load.finish().await;
    assert_history(&cluster, &root, &table, ops).await;
    counted.check(&cluster, &root).await;
    (installed, felt)
}

#[tokio::test]
#[ignore = "slow: a million entries are written"]
async fn a_node_a_million_entries_behind_gets_a_snapshot() {
    // Small entries: a million of them are less than the log that makes a snapshot by default.
    let little = [("DUET_SNAPSHOT_LOG_BYTES", "33554432")];
    let (installed, felt) = a_million_entries_behind(&little, BY_SNAPSHOT_MAX).await;
    assert!(installed >= 1.0, "the log does not go back so far");
    felt.assert_hardly();
}

#[tokio::test]
#[ignore = "slow: a million entries are written"]
async fn a_node_a_million_entries_behind_gets_them_one_by_one_where_the_log_is_kept() {
    let keep = [
        ("DUET_LOG_KEEP_ENTRIES", "3000000"),
        ("DUET_LOG_KEEP_BYTES", "8000000000"),
    ];
    let (installed, felt) = a_million_entries_behind(&keep, BY_LOG_MAX).await;
    assert_eq!(installed, 0.0, "the log goes back so far");
    felt.assert_hardly();
}
