//! The group state machine against a model that keeps one state an offset.

mod invariants;
mod machine;
mod model;

use std::sync::Arc;

use storage::memory::MemoryEngine;
use storage::{Batch, Durability, Engine, Snapshot};
use types::command::{RouteTarget, RowEvent};
use types::ids::{PartitionId, TopicId, Version};
use types::schema::{PayloadMode, RowOp};

use crate::ApplyContext;

pub const TOPIC: TopicId = 7;
pub const GROUP: &str = "g";

/// A state, and the place in the log of what is applied next.
pub struct World {
    engine: MemoryEngine,
    index: u64,
}

impl World {
    pub fn new() -> World {
        World {
            engine: MemoryEngine::new(),
            index: 0,
        }
    }

    pub fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.engine.snapshot()
    }

    /// Applies one command in an entry of its own. A refused one must have changed nothing.
    pub fn apply<T>(
        &mut self,
        lease_time: u64,
        command: impl FnOnce(&mut Batch, ApplyContext) -> storage::Result<types::Result<T>>,
    ) -> types::Result<T> {
        self.index += 1;
        let at = ApplyContext {
            version: Version {
                index: self.index,
                ordinal: 0,
            },
            lease_time,
            wall_time: i64::try_from(self.index).unwrap() * 1_000,
        };
        let mut batch = Batch::new(self.engine.snapshot());
        let result = command(&mut batch, at).unwrap();
        if let Err(refusal) = &result {
            assert!(batch.is_empty(), "{refusal} changed something");
        }
        self.engine
            .write(&batch.into_ops(), Durability::Flushed)
            .unwrap();
        result
    }

    /// Appends one message.
    pub fn append(&mut self, partition: PartitionId) {
        let event = RowEvent {
            table_id: 1,
            op: RowOp::Insert.into(),
            user: "u".to_owned(),
            message_key: "k".to_owned(),
            before: None,
            targets: vec![RouteTarget {
                topic_id: TOPIC,
                partition,
                payload: PayloadMode::Full.into(),
            }],
        };
        let appended = self.apply(0, |batch, at| {
            crate::append::append(batch, at, &event, Some(b"row"), &mut Vec::new()).map(Ok)
        });
        appended.unwrap();
    }
}
