//! Waiting for something in another process.

use std::time::{Duration, Instant};

/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks until there is an answer; panics, naming what was waited for, when it takes too long.
///
/// What is waited for happens in another process that offers no event for it, so it can only be
/// asked; nothing but the duration depends on the pause.
pub async fn until<T>(what: &str, limit: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(
            started.elapsed() < limit,
            "waited {limit:?} in vain: {what}"
        );
        // sleep: between two questions, see above
        tokio::time::sleep(PAUSE).await;
    }
}
