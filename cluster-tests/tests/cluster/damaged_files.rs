//! Files that are not what was written: the node names them and stops, nobody ever reads a wrong
//! byte, the cluster goes on, and a new node takes the place of the damaged one.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use client::api::cluster::DigestQuery;
use cluster_tests::damage::{Damage, Part};
use cluster_tests::load::{Load, Table};
use cluster_tests::{Cluster, User, wait};
use reqwest::Method;
use serde_json::{Value, json};

use crate::history::assert_history;

const WRITERS: u32 = 4;
/// Writes answered before anything is damaged: some in tables, some in a snapshot, some in the WAL.
const BEFORE: u64 = 200;
/// Writes answered while a node is down.
const MEANWHILE: u64 = 20;
/// How long a snapshot may take, and a node that has read what is damaged until it has ended.
const SOON: Duration = Duration::from_secs(20);
/// Smaller than any block that RocksDB reads at once.
const LESS_THAN_A_BLOCK: u64 = 512;

/// What must not be taken for what was written. All of these are read at every start.
const NOTICED_AT_THE_START: [(Part, Damage); 22] = [
    (Part::LogWal, Damage::Flip(300)),
    (Part::LogWal, Damage::Cut(600)),
    (Part::LogWal, Damage::Cut(0)),
    (Part::LogWal, Damage::Remove),
    (Part::LogTable, Damage::Flip(100)),
    (Part::LogTable, Damage::Cut(900)),
    (Part::LogTable, Damage::Remove),
    (Part::LogManifest, Damage::Flip(300)),
    (Part::LogManifest, Damage::Remove),
    (Part::LogCurrent, Damage::Cut(0)),
    (Part::LogCurrent, Damage::Remove),
    (Part::LogMarker, Damage::Cut(500)),
    (Part::StateTable, Damage::Cut(900)),
    (Part::StateTable, Damage::Remove),
    (Part::StateManifest, Damage::Flip(300)),
    (Part::StateCurrent, Damage::Remove),
    (Part::StatePointer, Damage::Flip(0)),
    (Part::StatePointer, Damage::Remove),
    (Part::SnapshotManifest, Damage::Flip(300)),
    (Part::SnapshotManifest, Damage::Remove),
    (Part::Identity, Damage::Flip(500)),
    (Part::Identity, Damage::Remove),
];

/// A load on a new cluster, with something in every kind of file of the node `which`.
async fn cluster_with_files(which: usize) -> (Cluster, User, Table, Load) {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    let mut load = Load::start(&cluster.client(), &table, WRITERS);
    load.progress(BEFORE).await;
    fill_files(&mut cluster, &mut load, which).await;
    (cluster, root, table, load)
}

/// Something in every kind of file: an ended node has flushed its state, one that starts puts its
/// WAL into a table, and a snapshot is made when it is asked for.
async fn fill_files(cluster: &mut Cluster, load: &mut Load, which: usize) {
    let url = cluster.urls()[which].clone();
    let asked = cluster.duet(&["cluster", "snapshot", "--url", &url]).await;
    assert!(asked.status.success(), "{asked:?}");
    let data = cluster.nodes()[which].data_dir();
    wait::until("a snapshot is made", SOON, async || {
        Part::SnapshotManifest.find(&data)
    })
    .await;
    cluster.nodes_mut()[which].terminate().await;
    cluster.restart(&[which]).await;
    cluster.wait_for_voters(3).await;
    load.progress(BEFORE).await;
}

/// A copy in which names of one file are names of one file.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.unwrap().success());
}

#[tokio::test]
async fn what_is_damaged_is_named_at_the_start_and_the_cluster_goes_on() {
    let which = 2;
    let (mut cluster, root, table, mut load) = cluster_with_files(which).await;
    let id = cluster.ids().await[which];
    cluster.nodes_mut()[which].kill9();
    let (data, kept) = {
        let node = &cluster.nodes()[which];
        (node.data_dir(), cluster.directory().join("kept"))
    };
    copy(&data, &kept);
    for (part, damage) in NOTICED_AT_THE_START {
        std::fs::remove_dir_all(&data).unwrap();
        copy(&kept, &data);
        let file = part.find(&data).unwrap_or_else(|| panic!("no {part:?}"));
        damage.inflict(&file).unwrap();
        let refused = starts(&mut cluster, which, id, part, &file).await;
        assert!(
            !refused.is_empty(),
            "{part:?} after {damage:?} was not noticed"
        );
        load.progress(MEANWHILE).await;
    }
    // The last of it stays.
    cluster.replace(which, id).await;
    load.progress(MEANWHILE).await;
    let ops = load.finish().await;
    assert_history(&cluster, &root, &table, ops).await;
}

/// The marker beside the log is a little older than the log, so that not every missing end is
/// noticed by the node itself. The leader notices, and is not the one to suffer.
#[tokio::test]
async fn who_lost_the_last_of_its_log_gets_it_again_from_a_leader_that_goes_on() {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    let mut load = Load::start(&cluster.client(), &table, WRITERS);
    let mut lost = false;
    while !lost {
        load.progress(BEFORE).await;
        let leader = cluster.leader().await;
        let which = (leader + 1) % 3;
        let (id, term) = (cluster.ids().await[which], term(&cluster, leader).await);
        cluster.nodes_mut()[which].kill9();
        let file = Part::LogWal.find(&cluster.nodes()[which].data_dir());
        Damage::Cut(999).inflict(&file.unwrap()).unwrap();
        let node = &mut cluster.nodes_mut()[which];
        node.expect_errors("cannot start: ");
        node.spawn(&[]);
        lost = node.ready_or_ended().await.is_none();
        if !lost {
            // The marker was new enough this time.
            cluster.nodes_mut()[which].kill9();
            cluster.replace(which, id).await;
            continue;
        }
        cluster.wait_for_voters(3).await;
        load.progress(BEFORE).await;
        assert_eq!(self::term(&cluster, leader).await, term, "another leads");
    }
    let ops = load.finish().await;
    assert_history(&cluster, &root, &table, ops).await;
}

async fn term(cluster: &Cluster, node: usize) -> u64 {
    let client = cluster.client().pinned_to(node);
    client.cluster_status().await.unwrap().term
}

/// Starts a node of whose files one is damaged, and gives what it says if it refuses. That must
/// name the file and the command that helps.
async fn starts(cluster: &mut Cluster, which: usize, id: u64, part: Part, file: &Path) -> String {
    let node = &mut cluster.nodes_mut()[which];
    // The reason, as it is logged; what matters of it is asserted.
    node.expect_errors("cannot start: ");
    node.expect_errors("identity.json is damaged");
    node.spawn(&[]);
    let Some(status) = node.ready_or_ended().await else {
        return String::new();
    };
    node.kill9();
    let said = node.last_words();
    let command = match part {
        Part::Identity => "`duet cluster replace NUMBER`".to_owned(),
        _ => format!("`duet cluster replace {id}`"),
    };
    // What is missing or says nothing of itself is named with its directory.
    let place = file.parent().unwrap().to_str().unwrap();
    assert_eq!(status.code(), Some(1), "{}: {said}", file.display());
    assert!(said.contains(place), "{}: {said}", file.display());
    assert!(said.contains(&command), "{}: {said}", file.display());
    said
}

#[tokio::test]
#[ignore = "slow: every kind of file, damaged in every way, on a node that is replaced where it has to"]
async fn whatever_happens_to_a_file_it_is_mended_or_named() {
    const WHICH: usize = 1;
    let (mut cluster, root, table, mut load) = cluster_with_files(WHICH).await;
    let mut fates = BTreeMap::new();
    for part in Part::ALL {
        for damage in [
            Damage::Flip(0),
            Damage::Flip(500),
            Damage::Flip(1000),
            Damage::Cut(0),
            Damage::Cut(600),
            Damage::Remove,
        ] {
            let id = cluster.ids().await[WHICH];
            cluster.nodes_mut()[WHICH].kill9();
            let data = cluster.nodes()[WHICH].data_dir();
            let file = part.find(&data).unwrap_or_else(|| panic!("no {part:?}"));
            damage.inflict(&file).unwrap();
            let mut fate = "refused";
            if starts(&mut cluster, WHICH, id, part, &file)
                .await
                .is_empty()
            {
                fate = match stops_when_all_is_read(&mut cluster, &root, WHICH).await {
                    true => "noticed",
                    false => "mended",
                };
            }
            *fates.entry(fate).or_insert(0) += 1;
            println!("{part:?} after {damage:?}: {fate}");
            load.progress(MEANWHILE).await;
            if fate != "mended" {
                cluster.replace(WHICH, id).await;
                fill_files(&mut cluster, &mut load, WHICH).await;
            }
        }
    }
    println!("{fates:?}");
    assert!(fates["refused"] > 20 && fates["mended"] > 0, "{fates:?}");
    let ops = load.finish().await;
    assert_history(&cluster, &root, &table, ops).await;
}

/// Reads all that a node has. Did it have to stop?
async fn stops_when_all_is_read(cluster: &mut Cluster, root: &User, which: usize) -> bool {
    let read = Reader::Digest.read(cluster, root, which).await;
    if read.is_some() {
        return false;
    }
    let node = &mut cluster.nodes_mut()[which];
    node.expect_errors("block checksum mismatch");
    let status = node.ends(SOON).await;
    let said = node.last_words();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains(".sst"), "{said}");
    true
}

/// Who asks a node for what it has.
#[derive(Clone, Copy, Debug)]
enum Reader {
    Digest,
    Rows,
    Messages,
}

impl Reader {
    /// What a node says of something that does not change any more; none if it refuses to say.
    /// Needs everything of its kind to be read.
    async fn read(self, cluster: &Cluster, root: &User, which: usize) -> Option<Value> {
        let url = cluster.urls()[which].clone();
        let local = [
            ("Authorization", &*root.bearer()),
            ("Duet-Consistency", "local"),
        ];
        let (path, body) = match self {
            Reader::Digest => {
                let scan = DigestQuery {
                    scan: true,
                    ..DigestQuery::default()
                };
                let client = cluster.client().pinned_to(which);
                // It changes all the time; it is compared when everything has settled.
                return client.digest(&scan).await.ok().map(|_| Value::Null);
            }
            Reader::Rows => {
                let sql =
                    "SELECT id, writer, seq, note FROM shop.events WHERE seq < 10 ORDER BY id";
                ("/v1/api/sql", json!({"sql": sql}))
            }
            Reader::Messages => {
                let ask = json!({
                    "topic_id": "shop.single", "partition_id": 0, "start": {"Offset": 0},
                    "limit": 100,
                });
                ("/v1/api/topics/consume", ask)
            }
        };
        let body = Some(body.to_string().into_bytes());
        let api = cluster.api();
        let reply = api
            .send(Method::POST, &url, path, body, &local)
            .await
            .ok()?;
        if reply.status != 200 {
            reply.refused(500, "INTERNAL_ERROR");
            return None;
        }
        Some(match self {
            Reader::Messages => reply.body["messages"].clone(),
            _ => reply.body["results"][0]["rows"].clone(),
        })
    }
}

#[tokio::test]
async fn a_running_node_stops_when_it_reads_what_is_damaged() {
    let (mut cluster, root, table, mut load) = cluster_with_files(0).await;
    for (which, reader) in [Reader::Digest, Reader::Rows, Reader::Messages]
        .into_iter()
        .enumerate()
    {
        if which > 0 {
            fill_files(&mut cluster, &mut load, which).await;
        }
        let id = cluster.ids().await[which];
        let right = reader.read(&cluster, &root, (which + 1) % 3).await;
        assert!(right.is_some(), "{reader:?}");
        let node = &mut cluster.nodes_mut()[which];
        for file in Part::StateTable.find_all(&node.data_dir()) {
            Damage::FlipEvery(LESS_THAN_A_BLOCK).inflict(&file).unwrap();
        }
        node.expect_errors("block checksum mismatch");
        wait::until("the damage is noticed", SOON, async || {
            // From memory it may still answer, and then rightly.
            let said = reader.read(&cluster, &root, which).await;
            assert!(said.is_none() || said == right, "{reader:?}: {said:?}");
            said.is_none().then_some(())
        })
        .await;
        let node = &mut cluster.nodes_mut()[which];
        let status = node.ends(SOON).await;
        let said = node.last_words();
        assert_eq!(status.code(), Some(1), "{said}");
        let command = format!("`duet cluster replace {id}`");
        for word in ["this node had to stop", ".sst", &command] {
            assert!(said.contains(word), "{reader:?}: {said}");
        }
        load.progress(MEANWHILE).await;
        cluster.replace(which, id).await;
    }
    load.progress(MEANWHILE).await;
    let ops = load.finish().await;
    assert_history(&cluster, &root, &table, ops).await;
}
