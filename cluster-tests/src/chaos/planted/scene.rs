//! The cluster of a case.

use crate::chaos::Workload;
use crate::chaos::history::History;
use crate::chaos::workloads::Running;
use crate::load::{Load, Table};
use crate::{Cluster, User};

const NODES: u8 = 3;
const DISK_MIB: u32 = 1_024;
/// Writers of rows.
const WRITERS: u32 = 6;
/// As in other runs: W6 follows a topic of it.
const NAMESPACE: &str = "chaos_rows";
const BUG: &str = "DUET_PLANTED";

/// With or without a bug.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    bug: Option<&'static str>,
}

impl Scene {
    /// With a bug in every node.
    pub fn with(bug: &'static str) -> Scene {
        Scene { bug: Some(bug) }
    }

    /// Without any.
    pub fn clean() -> Scene {
        Scene { bug: None }
    }

    /// Three nodes with disks and a network of their own.
    pub(super) async fn lab(self) -> Cluster {
        self.lab_with(&[]).await
    }

    /// The same, with more environment variables.
    pub(super) async fn lab_with(self, more: &[(&str, &str)]) -> Cluster {
        Cluster::start_in_lab(NODES, DISK_MIB, &self.variables(more)).await
    }

    /// Three nodes on this machine's own.
    pub(super) async fn plain(self, more: &[(&str, &str)]) -> Cluster {
        Cluster::start_with(NODES.into(), &self.variables(more)).await
    }

    fn variables<'a>(self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let bug = self.bug.map(|bug| (BUG, bug));
        more.iter().copied().chain(bug).collect()
    }
}

/// Makes the table of W1 and starts its writers.
pub(super) async fn write(cluster: &Cluster, root: &User) -> (Table, Load) {
    let table = Table::create(root, NAMESPACE).await;
    let mut load = Load::start(&cluster.client(), &table, WRITERS);
    load.progress(50).await;
    (table, load)
}

/// Starts a workload, by its code.
pub(super) async fn start(code: &str, cluster: &Cluster, root: &User) -> Box<dyn Running> {
    let found = Workload::named(&[code.to_owned()]);
    let found = found.and_then(|found| found.first().copied());
    let found = found.expect("a scene names workloads that there are");
    let history = History::create(&cluster.directory().join("history.jsonl"));
    let history = history.expect("a temporary directory can be written");
    found.start(cluster, root, &history).await
}
