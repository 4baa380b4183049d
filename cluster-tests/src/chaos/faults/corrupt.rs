//! F10: a file of a stopped node is not what was written any more.

use std::process::ExitStatus;
use std::time::Duration;

use client::api::cluster::DigestQuery;

use super::{Kind, Seen, hold};
use crate::chaos::Step;
use crate::damage::{Damage, Part};
use crate::{Cluster, wait};

/// The kinds.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "F10-flipped-bit",
        changes_leader: false,
        mending: Duration::from_secs(8),
        play: |cluster, step| Box::pin(damage(cluster, step, &FLIPPED)),
    },
    Kind {
        name: "F10-cut-file",
        changes_leader: false,
        mending: Duration::from_secs(8),
        play: |cluster, step| Box::pin(damage(cluster, step, &CUT)),
    },
];

/// What is flipped: in the middle and at the end of what is written last, and in what is older.
const FLIPPED: [(Part, Damage); 8] = [
    (Part::LogWal, Damage::Flip(500)),
    (Part::LogWal, Damage::Flip(1000)),
    (Part::LogTable, Damage::Flip(300)),
    (Part::StateTable, Damage::Flip(300)),
    (Part::StateTable, Damage::Flip(1000)),
    (Part::SnapshotTable, Damage::Flip(500)),
    (Part::SnapshotManifest, Damage::Flip(500)),
    (Part::LogMarker, Damage::Flip(0)),
];

/// What is cut.
const CUT: [(Part, Damage); 7] = [
    (Part::LogWal, Damage::Cut(500)),
    (Part::LogWal, Damage::Cut(999)),
    (Part::LogTable, Damage::Cut(500)),
    (Part::StateTable, Damage::Cut(500)),
    (Part::StateManifest, Damage::Cut(500)),
    (Part::SnapshotManifest, Damage::Cut(500)),
    (Part::LogMarker, Damage::Cut(500)),
];

/// How long a snapshot may take, and reading all that a node has.
const SOON: Duration = Duration::from_secs(30);

/// Kills a node, damages a file of its, and starts it. If it refuses, or stops when all of it is
/// read, a new one takes its place.
async fn damage(cluster: &mut Cluster, step: &Step, what: &[(Part, Damage)]) -> Seen {
    let which = step.pick(cluster.nodes().len());
    // The next bits of the choice: those below chose the node.
    let (part, damage) = what[step.choice as usize / cluster.nodes().len() % what.len()];
    let id = cluster.ids().await[which];
    fill_files(cluster, which).await;
    let node = &mut cluster.nodes_mut()[which];
    node.kill9();
    let data = node.data_dir();
    let file = part.find(&data).unwrap_or_else(|| panic!("no {part:?}"));
    damage.inflict(&file).expect("a file can be damaged");
    hold(step).await;
    let node = &mut cluster.nodes_mut()[which];
    node.expect_errors("cannot start: ");
    node.spawn(&[]);
    let (fate, ended) = match node.ready_or_ended().await {
        Some(status) => ("damaged files: the node refused", Some(status)),
        None => match reads_all(cluster, which).await {
            Some(status) => ("damaged files: the node stopped", Some(status)),
            None => ("damaged files: mended", None),
        },
    };
    if let Some(status) = ended {
        let node = &mut cluster.nodes_mut()[which];
        let said = node.last_words();
        node.kill9();
        let place = file.parent().expect("a file is in a directory");
        // A table that a snapshot shares with the state is named by either name.
        let named = said.contains(".sst") || said.contains(&*place.to_string_lossy());
        assert!(
            status.code() == Some(1) && named && said.contains("duet cluster replace"),
            "{part:?} after {damage:?}: {status}: {said}"
        );
        cluster.replace(which, id).await;
    }
    Seen {
        counted: vec![(fate, 1)],
        violations: Vec::new(),
    }
}

/// Something in every kind of file: a snapshot is made when it is asked for, an ended node has
/// flushed its state, and one that starts puts its WAL into a table.
async fn fill_files(cluster: &mut Cluster, which: usize) {
    let client = cluster.client().pinned_to(which);
    let data = cluster.nodes()[which].data_dir();
    wait::until("a snapshot is made", SOON, async || {
        if let Some(snapshot) = Part::SnapshotManifest.find(&data) {
            return Some(snapshot);
        }
        // Refused where one is being made.
        drop(client.snapshot().await);
        None
    })
    .await;
    cluster.nodes_mut()[which].terminate().await;
    cluster.restart(&[which]).await;
    cluster.wait_for_voters(cluster.nodes().len()).await;
}

/// Makes a node read all that it has; how it ended, if it had to.
async fn reads_all(cluster: &mut Cluster, which: usize) -> Option<ExitStatus> {
    let client = cluster.client().pinned_to(which);
    let node = &mut cluster.nodes_mut()[which];
    node.expect_errors("block checksum mismatch");
    let query = DigestQuery {
        scan: true,
        ..DigestQuery::default()
    };
    let read = wait::until("all of a node is read", SOON, async || {
        match client.digest(&query).await {
            Ok(_) => Some(true),
            Err(_) => (!node.is_running()).then_some(false),
        }
    })
    .await;
    match read {
        true => None,
        false => Some(node.ends(SOON).await),
    }
}
