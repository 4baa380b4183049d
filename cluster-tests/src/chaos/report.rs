//! What came of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::Fault;

/// One fault as it was played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Played {
    /// The kind.
    pub fault: Fault,
    /// The longest time without any answered write, from the fault's beginning until writes went
    /// on after it was mended.
    pub unavailable: Duration,
    /// From the moment in which all was mended until a write was answered.
    pub recovered: Duration,
}

/// A whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The seed of its schedule.
    pub seed: u64,
    /// The faults, in order.
    pub played: Vec<Played>,
    /// What was counted and checked: by name, how much.
    pub checked: BTreeMap<&'static str, u64>,
    /// Changes of the term.
    pub terms: u64,
    /// Why the run shows nothing; nothing if it does show something.
    pub invalid: Vec<String>,
    /// What is wrong; nothing if every promise held.
    pub violations: Vec<String>,
}

impl Report {
    /// Did every promise hold in a run that shows something?
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && self.invalid.is_empty()
    }

    /// Adds what a fault or a workload counted, and what it objects to.
    pub fn add(&mut self, counted: Vec<(&'static str, u64)>, violations: Vec<String>) {
        for (name, count) in counted {
            *self.checked.entry(name).or_default() += count;
        }
        self.violations.extend(violations);
    }

    /// As one line for programs.
    pub fn json(&self) -> Value {
        let faults = self.played.iter().map(|played| {
            json!({
                "fault": played.fault.name(),
                "unavailable_ms": millis(played.unavailable),
                "recovered_ms": millis(played.recovered),
            })
        });
        json!({
            "seed": self.seed, "faults": faults.collect::<Vec<_>>(), "checked": self.checked,
            "terms": self.terms, "invalid": self.invalid, "violations": self.violations,
        })
    }

    /// Number, median and worst unavailability by fault.
    fn by_fault(&self) -> BTreeMap<Fault, Vec<Duration>> {
        let mut by_fault: BTreeMap<Fault, Vec<Duration>> = BTreeMap::new();
        for played in &self.played {
            let times = by_fault.entry(played.fault).or_default();
            times.push(played.unavailable);
        }
        for times in by_fault.values_mut() {
            times.sort_unstable();
        }
        by_fault
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {} terms", self.seed, self.terms)?;
        writeln!(
            f,
            "{:22} {:>5} {:>10} {:>10}",
            "fault", "times", "median", "worst"
        )?;
        for (fault, times) in self.by_fault() {
            let median = times.get(times.len() / 2).copied().unwrap_or_default();
            let worst = times.last().copied().unwrap_or_default();
            let (name, count) = (fault.name(), times.len());
            let (median, worst) = (millis(median), millis(worst));
            writeln!(f, "{name:22} {count:>5} {median:>7} ms {worst:>7} ms")?;
        }
        for (name, count) in &self.checked {
            writeln!(f, "{count:>9} {name}")?;
        }
        for reason in &self.invalid {
            writeln!(f, "INVALID: {reason}")?;
        }
        for violation in &self.violations {
            writeln!(f, "VIOLATION: {violation}")?;
        }
        write!(f, "{} violations", self.violations.len())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_by_fault_and_is_good_only_without_objections() {
        let played = |ms| Played {
            fault: Fault::of("F1-kill-all"),
            unavailable: Duration::from_millis(ms),
            recovered: Duration::ZERO,
        };
        let mut report = Report {
            played: vec![played(30), played(10), played(20)],
            ..Report::default()
        };
        assert!(report.is_good());
        let text = report.to_string();
        assert!(text.contains("3      20 ms      30 ms"), "{text}");
        report.violations.push("lost".into());
        assert!(!report.is_good());
        assert_eq!(report.json()["violations"][0], "lost");
    }
}
