//! The schedule of a run.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::Fault;

/// How long a fault lasts, in ms.
const HOLD_MS: std::ops::Range<u64> = 500..8_000;
/// How long the cluster is left alone after a fault, in ms.
const CALM_MS: std::ops::Range<u64> = 1_000..4_000;

/// One fault of the schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is broken.
    pub fault: Fault,
    /// How long it stays broken.
    pub hold: Duration,
    /// How long nothing is broken afterwards.
    pub calm: Duration,
    /// Chooses among the nodes a fault may hit; see [`Step::pick`].
    pub choice: u32,
}

impl Step {
    /// One of `count` nodes.
    pub fn pick(&self, count: usize) -> usize {
        self.choice as usize % count
    }
}

/// A schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What it was made of.
    pub seed: u64,
    /// The faults, in order.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Faults of these kinds for about as long as `length`. Each kind comes once before any comes
    /// twice, as far as the time reaches.
    pub fn new(seed: u64, length: Duration, faults: &[Fault]) -> Plan {
        Plan::drawn(seed, faults, |planned, _| planned < length)
    }

    /// Each of the faults once.
    pub fn once(seed: u64, faults: &[Fault]) -> Plan {
        Plan::drawn(seed, faults, |_, steps| steps < faults.len())
    }

    /// Faults as long as `more` says so, of the time and the steps planned so far.
    fn drawn(seed: u64, faults: &[Fault], more: impl Fn(Duration, usize) -> bool) -> Plan {
        let mut random = StdRng::seed_from_u64(seed);
        let mut steps = Vec::new();
        let mut planned = Duration::ZERO;
        let mut bag: Vec<Fault> = Vec::new();
        while more(planned, steps.len()) && !faults.is_empty() {
            if bag.is_empty() {
                bag = faults.to_vec();
            }
            let fault = *bag.choose(&mut random).expect("the bag was just filled");
            bag.retain(|other| *other != fault);
            let step = Step {
                fault,
                hold: Duration::from_millis(random.random_range(HOLD_MS)),
                calm: Duration::from_millis(random.random_range(CALM_MS)),
                choice: random.random(),
            };
            planned += step.hold + step.calm + fault.mending();
            steps.push(step);
        }
        Plan { seed, steps }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(1_800);

    #[test]
    fn a_seed_gives_its_schedule_and_no_other() {
        let plan = Plan::new(7, LENGTH, &Fault::all());
        assert_eq!(plan, Plan::new(7, LENGTH, &Fault::all()));
        assert_ne!(plan.steps, Plan::new(8, LENGTH, &Fault::all()).steps);
    }

    #[test]
    fn each_fault_once_is_each_fault_once() {
        let plan = Plan::once(3, &Fault::all());
        let mut faults: Vec<Fault> = plan.steps.iter().map(|step| step.fault).collect();
        faults.sort_unstable();
        let mut all = Fault::all();
        all.sort_unstable();
        assert_eq!(faults, all);
    }

    #[test]
    fn no_fault_comes_twice_before_all_came_once() {
        let plan = Plan::new(1, LENGTH, &Fault::all());
        let first: std::collections::BTreeSet<Fault> = plan
            .steps
            .iter()
            .take(Fault::all().len())
            .map(|step| step.fault)
            .collect();
        assert_eq!(first.len(), Fault::all().len());
    }
}
