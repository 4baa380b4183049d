//! The core's account of itself, looked at.

use openraft::RaftMetrics;
use openraft::async_runtime::WatchReceiver;

use crate::error::Stopped;
use crate::handle::Core;
use crate::type_config::TypeConfig;

/// Looks at the metrics as they are now. What is looked at is locked meanwhile, so `look` must not
/// wait for anything.
pub(crate) fn look<T>(core: &Core, look: impl FnOnce(&RaftMetrics<TypeConfig>) -> T) -> T {
    look(&core.metrics().borrow_watched())
}

/// Waits until `met` gives something.
pub(crate) async fn wait_for<T>(
    core: &Core,
    met: impl Fn(&RaftMetrics<TypeConfig>) -> Option<T>,
) -> Result<T, Stopped> {
    let mut metrics = core.metrics();
    loop {
        if let Some(seen) = met(&metrics.borrow_and_update()) {
            return Ok(seen);
        }
        metrics.changed().await.map_err(|_| Stopped)?;
    }
}
