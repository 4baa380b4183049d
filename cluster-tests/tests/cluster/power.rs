//! The power fails under load: what was answered was on the disks.
//!
//! A killed process proves nothing of this: the operating system keeps what it wrote. Here the file
//! system under each node ends at once and loses what was not synced.

use cluster_tests::Cluster;
use cluster_tests::lab;
use cluster_tests::load::{Load, Table};

use crate::history::assert_history;

const DISK_MIB: u32 = 512;
const WRITERS: u32 = 8;
/// Writes answered before the power fails.
const BEFORE_LOSS: u64 = 300;

#[tokio::test]
async fn all_nodes_lose_power_at_once_three_times_over() {
    if !lab::available() {
        return;
    }
    let mut cluster = Cluster::start_in_lab(3, DISK_MIB, &[]).await;
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    let mut load = Load::start(&cluster.client(), &table, WRITERS);
    for _ in 0..3 {
        load.progress(BEFORE_LOSS).await;
        cluster.lose_power(&[0, 1, 2]).await;
        cluster.restart(&[0, 1, 2]).await;
    }
    load.progress(BEFORE_LOSS).await;
    let ops = load.finish().await;
    assert_history(&cluster, &root, &table, ops).await;
}

#[tokio::test]
async fn one_node_after_the_other_loses_power() {
    if !lab::available() {
        return;
    }
    let mut cluster = Cluster::start_in_lab(3, DISK_MIB, &[]).await;
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    let mut load = Load::start(&cluster.client(), &table, WRITERS);
    for node in 0..3 {
        load.progress(BEFORE_LOSS).await;
        cluster.lose_power(&[node]).await;
        load.progress(BEFORE_LOSS).await;
        cluster.restart(&[node]).await;
        cluster.wait_for_voters(3).await;
    }
    let ops = load.finish().await;
    assert_history(&cluster, &root, &table, ops).await;
}

/// The lab's own test: it would be worth nothing if the power did not fail.
#[tokio::test]
async fn the_lab_loses_what_was_not_synced_and_nothing_else() {
    if !lab::available() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let disk = lab::Disk::new(&directory.path().join("disk"), 64);
    let synced = disk.path().join("synced");
    let file = std::fs::File::create(&synced).unwrap();
    std::io::Write::write_all(&mut &file, b"kept").unwrap();
    file.sync_all().unwrap();
    std::fs::File::open(disk.path())
        .unwrap()
        .sync_all()
        .unwrap();
    std::fs::write(disk.path().join("unsynced"), b"lost").unwrap();
    drop(file);
    disk.cut_power();
    assert!(std::fs::write(disk.path().join("after"), b"x").is_err());
    disk.power_on().await;
    assert_eq!(std::fs::read(&synced).unwrap(), b"kept");
    let unsynced = std::fs::read(disk.path().join("unsynced")).unwrap_or_default();
    assert_eq!(unsynced, b"");
}
