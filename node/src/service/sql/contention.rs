//! A queue per contended key: writers that met on a row take turns instead of thrashing.

use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::sync::{Mutex, MutexGuard};

/// How many queues there are; keys that share one only wait needlessly.
const QUEUES: usize = 256;

/// The queues.
pub struct Contention(Vec<Mutex<()>>);

impl Default for Contention {
    fn default() -> Contention {
        Contention((0..QUEUES).map(|_| Mutex::default()).collect())
    }
}

impl Contention {
    /// Waits for a turn among those who met on `key`. Whoever holds a turn must not wait for a
    /// second one.
    pub async fn turn(&self, key: &[u8]) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let queue = usize::try_from(hasher.finish() % QUEUES as u64).unwrap_or(0);
        self.0[queue].lock().await
    }
}
