//! A fresh node joins over a large state, and those who write meanwhile hardly notice.

use std::ops::Range;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::RequestOptions;
use client::api::SqlRequest;
use cluster_tests::cluster::Ask;
use cluster_tests::load::Table;
use cluster_tests::{Cluster, Metrics, User, wait};
use rand::RngExt;
use serde_json::json;
use tokio::task::JoinSet;

use crate::history::assert_history;
use crate::steady::{self, Felt, INSTALLED, LOOK, shows, watch};

/// Rows, bytes of content in each before it is text, and rows in one statement.
const ROWS: usize = 300_000;
const ROW_BYTES: usize = 6 * 1024;
const ROWS_AT_ONCE: usize = 250;
/// Clients that write them.
const LARGE_WRITERS: usize = 2;
/// What they have on the disk of each node.
const STATE_MIN_BYTES: f64 = 2e9;
/// How long they may take until they are there.
const ON_DISK_MAX: Duration = Duration::from_secs(60);
/// How long the node may take to join.
const JOIN_MAX: Duration = Duration::from_secs(300);
/// Bytes of log that no node exceeds: what a snapshot is taken after, what is kept below it, and
/// what comes while one is made.
const LOG_MAX_BYTES: f64 = 800e6;
/// Memory that no node exceeds.
const MEMORY_MAX_BYTES: f64 = 1.5e9;

const STATE_BYTES: &str = "duet_storage_disk_bytes{area=\"state\"}";

/// Writes rows of content that no compression makes smaller.
async fn enlarge(cluster: &Cluster, root: &User) {
    root.ok("CREATE TABLE shop.large (id INT PRIMARY KEY, content TEXT NOT NULL)")
        .await;
    let mut writers = JoinSet::new();
    for writer in 0..LARGE_WRITERS {
        let client = cluster.client();
        writers.spawn(async move {
            let statements = ROWS / ROWS_AT_ONCE;
            for statement in (writer..statements).step_by(LARGE_WRITERS) {
                let first = statement * ROWS_AT_ONCE;
                let request = large_rows(first..first + ROWS_AT_ONCE);
                let options = RequestOptions::idempotent(format!("large {first}"));
                client.execute(&request, &options).await.unwrap();
            }
        });
    }
    writers.join_all().await;
}

fn large_rows(ids: Range<usize>) -> SqlRequest {
    let places: Vec<String> = (0..ids.len())
        .map(|at| format!("(${}, ${})", 2 * at + 1, 2 * at + 2))
        .collect();
    let sql = format!("INSERT INTO shop.large VALUES {}", places.join(", "));
    let mut random = rand::rng();
    let mut params = Vec::new();
    for id in ids {
        let mut content = vec![0; ROW_BYTES];
        random.fill(&mut content[..]);
        params.push(json!(id));
        params.push(STANDARD.encode(content).into());
    }
    SqlRequest::with_params(sql, params)
}

/// The most that any node has shown.
#[derive(Debug, Default)]
struct Most {
    log_bytes: f64,
    memory_bytes: f64,
}

impl Most {
    fn add(&mut self, metrics: &Metrics) {
        let most = |most: &mut f64, series| *most = most.max(metrics.find(series).unwrap_or(0.0));
        most(&mut self.log_bytes, "duet_raft_log_bytes");
        most(&mut self.memory_bytes, "process_resident_memory_bytes");
    }
}

#[tokio::test]
#[ignore = "slow: a state of 2 GB is written"]
async fn a_fresh_node_joins_over_a_state_of_two_gigabytes() {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    let began = Instant::now();
    enlarge(&cluster, &root).await;
    println!("the state was written in {:?}", began.elapsed());
    for node in 0..3 {
        let large = |metrics: &Metrics| metrics.get(STATE_BYTES) >= STATE_MIN_BYTES;
        let there = shows(
            &cluster,
            node,
            "the state is on the disk",
            ON_DISK_MAX,
            large,
        )
        .await;
        println!(
            "node {node}: {:.2} GB of state",
            there.get(STATE_BYTES) / 1e9
        );
    }
    let leader = cluster.leader().await;
    let load = steady::load(&cluster, &table, &[0, 1, 2]).await;
    let before = watch(&load).await;
    println!("before:    {before}");

    let (since, mut most) = (Instant::now(), Most::default());
    let new = cluster.invite(leader, &[]);
    let (api, urls) = (cluster.api(), cluster.urls());
    let joined = wait::until("the node has joined", JOIN_MAX, async || {
        // sleep: the questions are not to be a load of their own
        tokio::time::sleep(LOOK).await;
        let mut last = None;
        for url in &urls {
            last = Metrics::of(&api, url).await;
            last.iter().for_each(|metrics| most.add(metrics));
        }
        last.filter(|metrics| metrics.get("duet_ready") == 1.0)
    })
    .await;
    cluster.wait_for_voters(urls.len()).await;
    let felt = Felt {
        before,
        meanwhile: load.times_since(since),
    };
    println!("meanwhile: {}", felt.meanwhile);
    let (took, installed) = (since.elapsed(), joined.get(INSTALLED));
    println!("node {new} votes after {took:?}, with {installed} snapshots; {most:?}");
    assert!(installed >= 1.0 && joined.get(STATE_BYTES) >= STATE_MIN_BYTES);
    assert!(most.log_bytes < LOG_MAX_BYTES, "{most:?}");
    assert!(most.memory_bytes < MEMORY_MAX_BYTES, "{most:?}");

    let ops = load.finish().await;
    assert_history(&cluster, &root, &table, ops).await;
    let rows = Ask::Rows("SELECT COUNT(*), SUM(LENGTH(content)) FROM shop.large".into());
    let rows = cluster.same_everywhere(&root, 0, &rows).await;
    println!("rows and characters: {rows}");
    felt.assert_hardly();
}
