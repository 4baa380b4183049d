//! For how long the write of the log that is under way takes.
//!
//! A disk that stands still fails nothing and answers nothing; this is how one can tell.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Set by the writer, looked at by others.
#[derive(Debug)]
pub(super) struct UnderWay {
    epoch: Instant,
    /// When it began, in ns since the epoch and never 0; 0: none is under way.
    began: AtomicU64,
}

impl Default for UnderWay {
    fn default() -> UnderWay {
        UnderWay {
            epoch: Instant::now(),
            began: AtomicU64::new(0),
        }
    }
}

impl UnderWay {
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Does `write` while it counts as under way.
    pub fn during<T>(&self, write: impl FnOnce() -> T) -> T {
        self.began.store(self.now().max(1), Ordering::Relaxed);
        let done = write();
        self.began.store(0, Ordering::Relaxed);
        done
    }

    /// For how long the one under way takes; zero where there is none.
    pub fn takes(&self) -> Duration {
        match self.began.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            began => Duration::from_nanos(self.now().saturating_sub(began)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_takes_time_only_while_it_is_under_way() {
        let under_way = UnderWay::default();
        assert_eq!(under_way.takes(), Duration::ZERO);
        let meanwhile = under_way.during(|| {
            // sleep: the write that takes this long is what is looked at
            std::thread::sleep(Duration::from_millis(5));
            under_way.takes()
        });
        assert!(meanwhile >= Duration::from_millis(5), "{meanwhile:?}");
        assert_eq!(under_way.takes(), Duration::ZERO);
    }
}
