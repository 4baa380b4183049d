//! Retention: the leader looks for messages that are too old or too many and proposes that they go.
//!
//! Age is judged by the log's wall clock against the messages' own stamps. After a jump of the
//! clock nothing is judged for a while: what goes cannot come back.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sql::{Catalog, Found};
use storage::Snapshot;
use topics::retention::{self, Bounds};
use types::command::{Command, CommandKind, Envelope, Retain};
use types::ids::{PartitionId, Term, TopicId, WallTimeUs};
use types::limits::{RETENTION_INTERVAL_MS, RETENTION_PAUSE_MS, RETENTION_SCAN_MAX};
use types::schema::Topic;

use super::TopicService;
use crate::service::call::Failure;
use crate::service::consensus::View;

/// How long a round's proposals may take; what is lost is due again in the next round.
const PROPOSING: Duration = Duration::from_secs(10);

/// The last partition that was looked at, none: begin with the first.
type Progress = Option<(TopicId, PartitionId)>;

impl TopicService {
    /// Removes what retention says for as long as the node runs. Only the leader does anything.
    pub async fn keep_retention(self) {
        let mut leadership = self.consensus.leadership_watch();
        let mut progress = None;
        loop {
            let pause = Duration::from_millis(RETENTION_INTERVAL_MS);
            if let Ok(Err(_)) = tokio::time::timeout(pause, leadership.changed()).await {
                return;
            }
            // As long as there is more than a round may look at, rounds follow each other at once.
            while leadership.borrow().is_leader {
                match self.retention_round(&mut progress).await {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(())) => break,
                    Err(failure) => {
                        tracing::debug!(?failure, "retention did not remove what it could");
                        break;
                    }
                }
            }
        }
    }

    /// One bounded look, and what comes of it. Break: all partitions were seen.
    async fn retention_round(&self, progress: &mut Progress) -> Result<ControlFlow<()>, Failure> {
        let raft = self.consensus.raft();
        if pauses(raft.since_wall_jump()) {
            return Ok(ControlFlow::Break(()));
        }
        let deadline = Instant::now() + PROPOSING;
        let (View { state, .. }, term) = self.consensus.planning_view(deadline).await?;
        let (catalog, now, after) = (self.catalog.clone(), raft.now().wall_time, *progress);
        let look = move || look(&catalog, &state, now, after);
        let looked = tokio::task::spawn_blocking(look).await;
        let looked = looked.map_err(|_| crate::service::consensus::stopping())?;
        let Look {
            due,
            seen_all,
            last,
        } = self.consensus.stored(looked)?;
        for (topic, cuts) in due {
            self.cut(&topic, cuts, term, deadline).await?;
        }
        *progress = last.filter(|_| !seen_all);
        Ok(match seen_all {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    }

    /// Only under the settings that were read: they may have been relaxed meanwhile.
    async fn cut(
        &self,
        topic: &Found<Topic>,
        cuts: Vec<Retain>,
        term: Term,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let cuts = cuts.into_iter().map(CommandKind::Retain);
        let envelope = Envelope {
            term,
            expectations: topic.pinned().into_iter().collect(),
            commands: cuts.map(Command::from).collect(),
            ..Envelope::default()
        };
        self.consensus.propose(envelope, deadline).await?;
        Ok(())
    }
}

/// Does retention wait for somebody to set the clock right?
fn pauses(since_jump: Option<Duration>) -> bool {
    since_jump.is_some_and(|since| since < Duration::from_millis(RETENTION_PAUSE_MS))
}

/// What a look found.
struct Look {
    /// What has to go, by topic.
    due: Vec<(Found<Topic>, Vec<Retain>)>,
    /// Were all partitions looked at in full?
    seen_all: bool,
    /// Where it stopped.
    last: Progress,
}

/// Looks at the partitions after `after`, [`RETENTION_SCAN_MAX`] messages and partitions at most.
fn look(
    catalog: &Catalog,
    state: &Arc<dyn Snapshot>,
    now: WallTimeUs,
    after: Progress,
) -> storage::Result<Look> {
    let mut found = Look {
        due: Vec::new(),
        seen_all: false,
        last: after,
    };
    let mut scan_left = RETENTION_SCAN_MAX;
    for topic in catalog.all_topics(&**state)? {
        let Some(bounds) = bounds(&topic.record, now) else {
            continue;
        };
        let mut cuts = Vec::new();
        for partition in 0..topic.record.partitions {
            let place = Some((topic.record.id, partition));
            if place <= after {
                continue;
            }
            if scan_left > 0 {
                scan_left -= 1;
                let id = topic.record.id;
                let due = retention::due(&**state, id, partition, bounds, &mut scan_left)?;
                cuts.extend(due);
            }
            if scan_left == 0 {
                break;
            }
            found.last = place;
        }
        if !cuts.is_empty() {
            found.due.push((topic, cuts));
        }
        if scan_left == 0 {
            return Ok(found);
        }
    }
    found.seen_all = true;
    Ok(found)
}

/// None: everything is kept.
fn bounds(topic: &Topic, now: WallTimeUs) -> Option<Bounds> {
    let age_us =
        |seconds: u64| i64::try_from(seconds.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
    let bounds = Bounds {
        oldest: topic
            .retention_seconds
            .map(|seconds| now.saturating_sub(age_us(seconds))),
        max_bytes: topic.retention_max_bytes,
    };
    (bounds != Bounds::default()).then_some(bounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_jump_of_the_clock_nothing_goes_for_a_while() {
        assert!(!pauses(None));
        assert!(pauses(Some(Duration::ZERO)));
        assert!(pauses(Some(Duration::from_millis(RETENTION_PAUSE_MS - 1))));
        assert!(!pauses(Some(Duration::from_millis(RETENTION_PAUSE_MS))));
    }

    #[test]
    fn a_topic_without_bounds_keeps_everything_and_no_age_runs_over() {
        let mut topic = Topic {
            id: 1,
            namespace_id: 1,
            namespace: "demo".into(),
            name: "events".into(),
            partitions: 1,
            retention_seconds: None,
            retention_max_bytes: None,
            sources: Vec::new(),
            created_at: 0,
            updated_at: 0,
        };
        assert_eq!(bounds(&topic, 5), None);
        topic.retention_seconds = Some(3);
        let oldest = |topic: &Topic, now| bounds(topic, now).and_then(|bounds| bounds.oldest);
        assert_eq!(oldest(&topic, 10_000_000), Some(7_000_000));
        topic.retention_seconds = Some(u64::MAX);
        assert!(oldest(&topic, 10_000_000).is_some_and(|oldest| oldest < 0));
        topic.retention_seconds = None;
        topic.retention_max_bytes = Some(7);
        let bytes = bounds(&topic, 5).and_then(|bounds| bounds.max_bytes);
        assert_eq!((bytes, oldest(&topic, 5)), (Some(7), None));
    }
}
