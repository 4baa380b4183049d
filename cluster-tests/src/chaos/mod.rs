//! A seeded mix of faults under load, and whether every promise held.
//!
//! [`plan`] makes a schedule of a seed; [`faults`] break and mend the cluster, a file each;
//! [`workloads`] go on whatever happens and remember what they were told, a file each with the
//! check of what they claim ([`pairs`],
//! [`cycles`] and [`wgl`] are checks of their own); [`history`] is what every client was told, in a
//! file; [`runner`] plays it, waits until all has settled, reads everything
//! from every node and lets the checks object; [`bounds`] is what nodes may take of their machine
//! in the end; [`report`] is what comes of it.
//!
//! The same seed gives the same schedule. What happens in it still differs from run to run: two
//! clocks are never the same twice.

pub mod bounds;
pub mod cycles;
pub mod faults;
pub mod history;
pub mod pairs;
pub mod pauses;
pub mod plan;
pub mod planted;
pub mod report;
pub mod runner;
pub mod wgl;
pub mod workloads;

use std::pin::Pin;

pub use faults::Fault;
pub use plan::{Plan, Step};
pub use report::Report;
pub use workloads::Workload;

/// What a run takes place in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// How many nodes there are.
    pub nodes: u8,
    /// Does each have a disk and a network of its own ([`crate::lab`])? Without, only processes and
    /// connections can be broken, which needs no rights.
    pub in_lab: bool,
}

/// What a fault or a workload does, of whatever kind it is.
type Task<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;
