//! How long many things took, in a few numbers.

use std::fmt;
use std::time::Duration;

/// Durations in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times(Vec<Duration>);

impl FromIterator<Duration> for Times {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Times {
        let mut times: Vec<Duration> = times.into_iter().collect();
        times.sort_unstable();
        Times(times)
    }
}

impl Times {
    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The duration that `percent` of them do not exceed; zero if there are none.
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100);
        let at = rank.saturating_sub(1);
        self.0.get(at).copied().unwrap_or_default()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |percent| self.percentile(percent).as_secs_f64() * 1_000.0;
        let (median, late, worst) = (ms(50), ms(99), ms(100));
        let count = self.count();
        write!(
            f,
            "p50 {median:.1} ms, p99 {late:.1} ms, worst {worst:.1} ms of {count}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_seen() {
        let times: Times = (1..=200).rev().map(Duration::from_millis).collect();
        let ms = |percent| times.percentile(percent).as_millis();
        assert_eq!((ms(50), ms(99), ms(100)), (100, 198, 200));
        assert_eq!(Times::default().percentile(99), Duration::ZERO);
        assert_eq!(
            times.to_string(),
            "p50 100.0 ms, p99 198.0 ms, worst 200.0 ms of 200"
        );
    }
}
