//! What the planner must not make itself: ids that are new every time, and facts about the cluster.

use std::sync::Arc;

use parking_lot::Mutex;
use rand::RngExt;
use sql::query::{ClusterRow, SystemFacts, TopicOffsetRow};
use sql::{Catalog, Entropy};
use storage::Read;
use types::ids::{NodeId, WallTimeUs};

/// Ids from this node's randomness. One for a process.
pub struct Ids {
    node_id: NodeId,
    ulids: Mutex<ulid::Generator>,
    snowflake: Mutex<(i64, u16)>,
}

/// Milliseconds from 1970 to 2024-01-01, where snowflake ids begin.
const SNOWFLAKE_EPOCH_MS: i64 = 1_704_067_200_000;
/// Bits of a snowflake id that count within a millisecond, and that name the node.
const SNOWFLAKE_COUNT_BITS: u32 = 12;
const SNOWFLAKE_NODE_BITS: u32 = 10;

impl Ids {
    /// Ids of this node.
    pub fn new(node_id: NodeId) -> Ids {
        Ids {
            node_id,
            ulids: Mutex::new(ulid::Generator::new()),
            snowflake: Mutex::new((0, 0)),
        }
    }
}

impl Entropy for Ids {
    fn ulid(&self, now: WallTimeUs) -> String {
        let millis = u64::try_from(now.div_euclid(1_000)).unwrap_or(0);
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(millis);
        let mut generator = self.ulids.lock();
        match generator.generate_from_datetime(time) {
            Ok(id) => id.to_string(),
            // 2^80 ids within one millisecond: begin anew rather than fail.
            Err(_) => ulid::Ulid::from_parts(millis, rand::rng().random()).to_string(),
        }
    }

    fn uuid_v7(&self, now: WallTimeUs) -> [u8; 16] {
        let millis = u64::try_from(now.div_euclid(1_000)).unwrap_or(0);
        let random: [u8; 10] = rand::rng().random();
        uuid::Builder::from_unix_timestamp_millis(millis, &random)
            .into_uuid()
            .into_bytes()
    }

    fn snowflake_id(&self, now: WallTimeUs) -> i64 {
        let mut last = self.snowflake.lock();
        let millis = now.div_euclid(1_000).max(last.0);
        *last = match (millis == last.0, last.1 + 1) {
            (true, count) if count < 1 << SNOWFLAKE_COUNT_BITS => (millis, count),
            // The millisecond is full: borrow the next one.
            (true, _) => (millis + 1, 0),
            (false, _) => (millis, 0),
        };
        let since = (last.0 - SNOWFLAKE_EPOCH_MS).max(0);
        let node = i64::try_from(self.node_id % (1 << SNOWFLAKE_NODE_BITS)).unwrap_or(0);
        (since << (SNOWFLAKE_COUNT_BITS + SNOWFLAKE_NODE_BITS))
            | (node << SNOWFLAKE_COUNT_BITS)
            | i64::from(last.1)
    }
}

/// The cluster as system tables show it: looked at every so often, not at every query.
pub struct ClusterFacts {
    catalog: Catalog,
    rows: Mutex<Arc<Vec<ClusterRow>>>,
}

impl ClusterFacts {
    /// With the names of topics from `catalog`.
    pub fn new(catalog: Catalog) -> ClusterFacts {
        ClusterFacts {
            catalog,
            rows: Mutex::default(),
        }
    }

    /// What queries see from now on.
    pub fn set(&self, rows: Vec<ClusterRow>) {
        *self.rows.lock() = Arc::new(rows);
    }
}

impl SystemFacts for ClusterFacts {
    fn cluster(&self) -> Vec<ClusterRow> {
        self.rows.lock().as_ref().clone()
    }

    fn topic_offsets(&self, read: &dyn Read) -> storage::Result<Vec<TopicOffsetRow>> {
        let mut rows = Vec::new();
        for position in topics::groups::positions(read, None) {
            let position = position?;
            // A topic that is dropped takes its groups along.
            let Some(topic) = self.catalog.topic_by_id(read, position.topic_id)? else {
                continue;
            };
            rows.push(TopicOffsetRow {
                topic_id: topic.record.qualified_name(),
                group_id: position.group,
                partition_id: position.partition,
                last_acked_offset: position.committed.checked_sub(1),
                updated_at: Some(position.updated_at),
            });
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const NOW: WallTimeUs = 1_776_513_600_000_000;

    #[test]
    fn ids_are_new_and_ascend() {
        let ids = Ids::new(3);
        let ulids: Vec<_> = (0..1_000).map(|_| ids.ulid(NOW)).collect();
        assert!(ulids.is_sorted() && ulids.iter().collect::<HashSet<_>>().len() == 1_000);
        let flakes: Vec<_> = (0..10_000).map(|_| ids.snowflake_id(NOW)).collect();
        assert!(
            flakes.is_sorted_by(|a, b| a < b),
            "ids within one millisecond must ascend"
        );
        assert_ne!(ids.uuid_v7(NOW), ids.uuid_v7(NOW));
    }

    #[test]
    fn snowflake_ids_do_not_run_back_with_the_clock() {
        let ids = Ids::new(1);
        let first = ids.snowflake_id(NOW);
        assert!(ids.snowflake_id(NOW - 5_000_000) > first);
    }
}
