//! How long nothing was answered: the time between two answered writes of any writer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Watches a count of answered writes.
#[derive(Debug)]
pub struct Pauses {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Seen {
    last: Instant,
    longest: Duration,
}

impl Pauses {
    /// Begins to watch.
    pub fn of(mut answered: watch::Receiver<u64>) -> Pauses {
        let seen = Arc::new(Mutex::new(Seen {
            last: Instant::now(),
            longest: Duration::ZERO,
        }));
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while answered.changed().await.is_ok() {
                let mut seen = shared.lock().unwrap_or_else(PoisonError::into_inner);
                seen.longest = seen.longest.max(seen.last.elapsed());
                seen.last = Instant::now();
            }
        });
        Pauses { seen, task }
    }

    /// The longest pause since this was asked last, one that goes on included.
    pub fn take_longest(&self) -> Duration {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = seen.longest.max(seen.last.elapsed());
        seen.longest = Duration::ZERO;
        longest
    }
}

impl Drop for Pauses {
    fn drop(&mut self) {
        self.task.abort();
    }
}
