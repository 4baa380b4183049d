//! `GET /metrics`: what is counted, and what the node looks like at the moment, for Prometheus.
//!
//! Files: [`counters`] is what requests count; [`text`] the form of the answer; the others each
//! write a part of it, from what they are given.

mod certificates;
mod consensus;
mod counters;
mod disk;
mod guard;
mod messages;
mod process;
mod requests;
mod text;

#[cfg(test)]
mod deploy_tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sql::Catalog;
use tokio::sync::{Mutex, Semaphore};
use types::limits::{METRICS_KEEP_MS, REQUESTS_IN_FLIGHT_MAX};
use types::{Error, ErrorCode};

use self::requests::UnderWay;
use self::text::Text;
use crate::readiness::Readiness;
use crate::service::consensus::Consensus;
use crate::service::dispatch::Dispatcher;

pub use self::counters::Metrics;
pub use self::text::CONTENT_TYPE;

/// What metrics are made of. Cheap to clone.
#[derive(Clone)]
pub struct Scrape {
    sources: Arc<Sources>,
    /// The last text and when it was made. Held while the next one is.
    last: Arc<Mutex<Option<Made>>>,
}

/// A text, and when it was made.
type Made = (Instant, Arc<str>);

/// Where metrics come from.
pub struct Sources {
    /// What requests count.
    pub metrics: Arc<Metrics>,
    /// Can the node serve?
    pub readiness: Readiness,
    /// Log and state.
    pub consensus: Consensus,
    /// Names of topics.
    pub catalog: Catalog,
    /// What is passed on.
    pub dispatcher: Dispatcher,
    /// A permit for each request that may be served at once.
    pub requests: Arc<Semaphore>,
}

impl Scrape {
    /// Of these.
    pub fn new(sources: Sources) -> Scrape {
        Scrape {
            sources: Arc::new(sources),
            last: Arc::default(),
        }
    }

    /// The text. Whoever asks within [`METRICS_KEEP_MS`] of another gets the same: anybody may ask,
    /// and it costs reads of the disk.
    ///
    /// # Errors
    /// INTERNAL_ERROR where the state cannot be read, which ends the node.
    pub async fn render(&self) -> Result<Arc<str>, Error> {
        let mut last = self.last.lock().await;
        if let Some((made, text)) = &*last
            && made.elapsed() < Duration::from_millis(METRICS_KEEP_MS)
        {
            return Ok(Arc::clone(text));
        }
        let sources = Arc::clone(&self.sources);
        let text = tokio::task::spawn_blocking(move || sources.text()).await;
        let text: Arc<str> = text
            .map_err(|e| Error::new(ErrorCode::InternalError, format!("no metrics: {e}")))??
            .into();
        *last = Some((Instant::now(), Arc::clone(&text)));
        Ok(text)
    }
}

/// The text of a node that has no place in a cluster yet, or has not opened what it had: it cannot
/// serve, and what clients ask of it meanwhile is counted.
pub fn before_start(metrics: &Metrics, requests: &Semaphore) -> String {
    let mut text = Text::default();
    consensus::render_not_ready(&mut text);
    let under_way = UnderWay {
        requests: in_flight(requests),
        forwarded: 0,
    };
    requests::render(&mut text, metrics, under_way);
    process::render(&mut text);
    text.finish()
}

fn in_flight(requests: &Semaphore) -> usize {
    REQUESTS_IN_FLIGHT_MAX.saturating_sub(requests.available_permits())
}

impl Sources {
    /// Blocks on the disk.
    fn text(&self) -> Result<String, Error> {
        let raft = self.consensus.raft();
        let mut text = Text::default();
        let about = consensus::About {
            ready: self.readiness.missing().is_none(),
            cluster_id: raft.cluster_id(),
            version: env!("CARGO_PKG_VERSION"),
        };
        consensus::render(&mut text, &about, &raft.observe());
        guard::render(&mut text, raft);
        certificates::render(&mut text, &raft.certificates());
        match raft.observe_storage() {
            Ok(seen) => disk::render(&mut text, &seen),
            Err(error) => tracing::warn!(%error, "an engine does not say how it is"),
        }
        let under_way = UnderWay {
            requests: in_flight(&self.requests),
            forwarded: self.dispatcher.forwarded_in_flight(),
        };
        requests::render(&mut text, &self.metrics, under_way);
        // Before that the state may be older than what was shown before a restart, and a counter
        // that falls would be taken for one that began anew.
        if self.readiness.is_recovered() {
            let state = self.consensus.local_view().state;
            let seen = messages::observe(&self.catalog, &*state);
            let seen = self.consensus.stored(seen)?;
            messages::render(&mut text, &seen, self.metrics.delivered_total());
        }
        process::render(&mut text);
        Ok(text.finish())
    }
}
