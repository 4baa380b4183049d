//! W1: rows and their messages. See [`crate::load`] for what is written and [`crate::check`] for
//! what must be true of it.

use super::Verdict;
use crate::chaos::history::History;
use crate::load::{Load, Table};
use crate::{Cluster, User, settled};

/// The running workload.
#[derive(Debug)]
pub struct Rows {
    table: Table,
    load: Load,
}

impl Rows {
    /// Makes its table and starts writers.
    pub async fn start(cluster: &Cluster, root: &User, history: &History, writers: u32) -> Rows {
        let table = Table::create(root, "chaos_rows").await;
        let load = Load::start_in(history, &cluster.client(), &table, writers);
        Rows { table, load }
    }

    /// The writers.
    pub fn load(&mut self) -> &mut Load {
        &mut self.load
    }

    /// Ends it, and reads everything from every node.
    pub async fn finish(self, cluster: &Cluster, root: &User) -> Verdict {
        let ops = self.load.finish().await;
        let history = settled::history(cluster, root, &self.table, ops).await;
        Verdict {
            checked: vec![
                ("writes", history.writes),
                ("writes of unknown outcome", history.unknown),
                ("rows", history.rows),
                ("messages", history.messages),
            ],
            violations: history.violations,
        }
    }
}
