//! Do the checks notice? Each case is a bug planted in the server, what is done to a cluster that
//! has it, and the check that must object; without the bug the same must be found clean.
//!
//! The bugs are in `types/src/planted.rs`, and only in a build with the feature `planted`. Scenes,
//! a file a kind: [`power`], [`crashes`], [`reads`], [`retries`], [`groups`], [`snapshots`],
//! [`surgery`], [`votes`]; [`examine`] reads all from each node and lets every check object.

mod crashes;
mod examine;
mod groups;
pub mod points;
mod power;
mod reads;
mod retries;
mod scene;
mod snapshots;
mod surgery;
mod votes;

use std::fmt;
use std::pin::Pin;
use std::time::{Duration, Instant};

pub use scene::Scene;

/// How long a case may go on until its check objects.
const CATCH_MAX: Duration = Duration::from_secs(300);

/// After how many scenes that could not be played to their end none is begun any more.
const PANICS_MAX: u32 = 3;
/// What the objection of such a scene begins with.
const PANIC: &str = "panic";

type Played = Pin<Box<dyn Future<Output = Vec<String>>>>;

/// A planted bug, and how it must be noticed.
#[derive(Clone, Copy)]
pub struct Case {
    /// As `DUET_PLANTED` spells it.
    pub bug: &'static str,
    /// Faults and workloads of the scene.
    pub scene: &'static str,
    /// The checks of which one must object: what their objections begin with.
    pub checks: &'static [&'static str],
    play: fn(Scene) -> Played,
}

/// All cases.
pub const CASES: [Case; 14] = [
    Case {
        bug: "ack-before-sync",
        scene: "F2 power of all, W1",
        checks: &["durability"],
        play: |scene| Box::pin(power::all(scene)),
    },
    Case {
        bug: "callback-before-sync",
        scene: "F2 power of all, W1",
        checks: &["durability"],
        play: |scene| Box::pin(power::all(scene)),
    },
    Case {
        bug: "messages-apart",
        scene: "F16 crash between batches, W1",
        checks: &["pair"],
        play: |scene| Box::pin(crashes::between_runs(scene)),
    },
    Case {
        bug: "applied-apart",
        scene: "F1 kill a follower, W1",
        checks: &["sameness"],
        play: |scene| Box::pin(crashes::kill(scene)),
    },
    Case {
        bug: "hash-order",
        scene: "no fault, W1",
        checks: &["sameness"],
        play: |scene| Box::pin(crashes::none(scene)),
    },
    Case {
        bug: "uncommitted-reads",
        scene: "F4 isolate the leader, W1 and W6",
        checks: &["tail"],
        play: |scene| Box::pin(reads::follow(scene)),
    },
    Case {
        bug: "snapshot-without-positions",
        scene: "F12 snapshot to a follower, W2",
        checks: &["positions"],
        play: |scene| Box::pin(snapshots::positions(scene)),
    },
    Case {
        bug: "snapshot-without-answers",
        scene: "F12 snapshot to the next leader, keys used twice",
        checks: &["once"],
        play: |scene| Box::pin(snapshots::answers(scene)),
    },
    Case {
        bug: "read-without-quorum",
        scene: "F3 pause and F4 isolate the leader, W5",
        checks: &["register"],
        play: |scene| Box::pin(reads::register(scene)),
    },
    Case {
        bug: "lost-lease-accepted",
        scene: "F18 slow members, W2",
        checks: &["groups"],
        play: |scene| Box::pin(groups::slow_members(scene)),
    },
    Case {
        bug: "point-in-time-recovery",
        scene: "F10 a bit of the log flips, W1",
        checks: &["durability"],
        play: |scene| Box::pin(surgery::bit_flip(scene)),
    },
    Case {
        bug: "blind-retry",
        scene: "F17 answers lost with the leader, inserts without a key",
        checks: &["once"],
        play: |scene| Box::pin(retries::lost_answers(scene)),
    },
    Case {
        bug: "vote-not-synced",
        scene: "F16 a leader ends at once, F2 power of its voter",
        checks: &["votes"],
        play: |scene| Box::pin(votes::forgotten(scene)),
    },
    Case {
        bug: "timeout-is-failure",
        scene: "F4 isolate all, inserts with short deadlines",
        checks: &["honesty"],
        play: |scene| Box::pin(retries::timeouts(scene)),
    },
];

/// What came of a case.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The bug.
    pub bug: &'static str,
    /// The objection of a check that must object, and how long it took; none: none of them did.
    pub caught: Option<(String, Duration)>,
    /// Why the case shows nothing or the check is no good: what else there was without a catch, and
    /// what was objected to without the bug.
    pub wrong: Vec<String>,
}

impl Outcome {
    /// Did the right check object to the bug, and none without it?
    pub fn is_good(&self) -> bool {
        self.caught.is_some() && self.wrong.is_empty()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bug = self.bug;
        match &self.caught {
            Some((objection, took)) => {
                let objection: String = objection.chars().take(90).collect();
                write!(f, "{bug:27} {:>4} s  {objection}", took.as_secs())?;
            }
            None => write!(f, "{bug:27} NOT CAUGHT")?,
        }
        for wrong in self.wrong.iter().take(5) {
            let wrong: String = wrong.chars().take(400).collect();
            write!(f, "\n    {wrong}")?;
        }
        Ok(())
    }
}

impl Case {
    /// Plays it, again and again until a check it names objects or time is up; then once without
    /// the bug, unless `control` is false. Must run in a [`tokio::task::LocalSet`].
    pub async fn judge(&self, control: bool, mut tell: impl FnMut(String)) -> Outcome {
        let mut outcome = Outcome {
            bug: self.bug,
            caught: None,
            wrong: Vec::new(),
        };
        let begun = Instant::now();
        let mut panics = 0;
        while outcome.caught.is_none() && panics < PANICS_MAX && begun.elapsed() < CATCH_MAX {
            let objections = self.played(Scene::with(self.bug)).await;
            let named = |text: &&String| self.checks.iter().any(|check| text.starts_with(check));
            outcome.caught = objections
                .iter()
                .find(named)
                .map(|objection| (objection.clone(), begun.elapsed()));
            panics += u32::from(objections.iter().any(|text| text.starts_with(PANIC)));
            let first = objections
                .first()
                .map(|text| text.chars().take(200).collect());
            let first: String = first.unwrap_or_default();
            let (bug, count) = (self.bug, objections.len());
            tell(format!("{bug}: {count} objections {first}"));
            outcome.wrong = objections;
        }
        if outcome.caught.is_some() {
            outcome.wrong.clear();
        }
        if control {
            let objections = self.played(Scene::clean()).await;
            let without = |text: String| format!("without the bug: {text}");
            outcome.wrong.extend(objections.into_iter().map(without));
        }
        outcome
    }

    /// What is objected to; a panic of the scene is an objection of nobody's.
    async fn played(&self, scene: Scene) -> Vec<String> {
        match tokio::task::spawn_local((self.play)(scene)).await {
            Ok(objections) => objections,
            Err(error) => {
                let panic = error.into_panic();
                let said = panic.downcast_ref::<String>().cloned();
                let said = said.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                vec![format!("{PANIC}: {}", said.unwrap_or_default())]
            }
        }
    }
}
