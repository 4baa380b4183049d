//! How much processor time processes used, so that a figure shows who was busy.

use std::time::Duration;

/// Ticks a second in `/proc`: fixed by the interface of Linux to programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process to be watched.
#[derive(Clone, Debug)]
pub struct Process {
    /// What results call it.
    pub name: String,
    /// Its process id.
    pub id: u32,
}

impl Process {
    /// This process, the client.
    pub fn own() -> Process {
        Process {
            name: "client".into(),
            id: std::process::id(),
        }
    }
}

/// Processor seconds of each process since it started; none where the system does not say.
#[derive(Clone, Debug)]
pub struct Sample(Vec<Option<f64>>);

impl Sample {
    pub fn take(processes: &[Process]) -> Sample {
        let seconds = |process: &Process| {
            // Without `/proc`, or after the process has ended, there is just no figure.
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id)).ok()?;
            Some(ticks(&stat)? as f64 / TICKS_PER_SECOND)
        };
        Sample(processes.iter().map(seconds).collect())
    }

    /// Cores each process kept busy on average since `earlier`.
    pub fn cores_since(
        &self,
        earlier: &Sample,
        elapsed: Duration,
        processes: &[Process],
    ) -> Vec<(String, f64)> {
        processes
            .iter()
            .zip(self.0.iter().zip(&earlier.0))
            .filter_map(|(process, seconds)| match seconds {
                (Some(now), Some(then)) => {
                    Some((process.name.clone(), (now - then) / elapsed.as_secs_f64()))
                }
                _ => None,
            })
            .collect()
    }
}

/// User and system time in a line of `/proc/PID/stat`, see proc(5). The second field is a name in
/// parentheses that may hold anything, spaces and parentheses too.
fn ticks(stat: &str) -> Option<u64> {
    const USER_AFTER_NAME: usize = 11;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(USER_AFTER_NAME);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let rest = "S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 1 0 9 10 11";
        assert_eq!(ticks(&format!("7 (duet) {rest}")), Some(300));
        assert_eq!(ticks(&format!("7 (a) b) (c) {rest}")), Some(300));
        assert_eq!(ticks("7 (duet) S 1"), None);
    }

    #[test]
    fn cores_are_time_over_time_and_leave_out_the_unknown() {
        let processes = ["a", "b"].map(|name| Process {
            name: name.into(),
            id: 0,
        });
        let earlier = Sample(vec![Some(1.0), Some(2.0)]);
        let later = Sample(vec![Some(4.0), None]);
        let cores = later.cores_since(&earlier, Duration::from_secs(2), &processes);
        assert_eq!(cores, [("a".to_owned(), 1.5)]);
    }
}
