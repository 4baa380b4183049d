//! What is counted, in Prometheus' text form.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use parking_lot::Mutex;

use crate::readiness::Readiness;
use crate::service::call::Operation;

/// Upper bounds of the latency histogram's buckets, in seconds.
const BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

/// Counters of this process.
#[derive(Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, u16), Histogram>>,
}

#[derive(Clone, Default)]
struct Histogram {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    seconds: f64,
}

impl Metrics {
    /// Counts a request that was answered.
    pub fn request(&self, operation: Operation, status: u16, took: Duration) {
        let seconds = took.as_secs_f64();
        let mut requests = self.requests.lock();
        let histogram = requests.entry((operation.as_str(), status)).or_default();
        histogram.count += 1;
        histogram.seconds += seconds;
        if let Some(bucket) = BUCKETS.iter().position(|bound| seconds <= *bound) {
            histogram.buckets[bucket] += 1;
        }
    }

    /// All of it as text; that of a node which has not started yet is short.
    pub async fn render(&self, readiness: Option<&Readiness>) -> String {
        let mut out = String::new();
        self.render_requests(&mut out);
        if let Some(readiness) = readiness {
            render_raft(&mut out, readiness);
        }
        out
    }

    fn render_requests(&self, out: &mut String) {
        let requests = self.requests.lock().clone();
        line(out, "# TYPE duet_http_request_duration_seconds histogram");
        for ((operation, status), histogram) in requests {
            let labels = format!("operation=\"{operation}\",status=\"{status}\"");
            let name = "duet_http_request_duration_seconds";
            let mut below = 0;
            for (bound, count) in BUCKETS.iter().zip(histogram.buckets) {
                below += count;
                line(
                    out,
                    &format!("{name}_bucket{{{labels},le=\"{bound}\"}} {below}"),
                );
            }
            line(
                out,
                &format!("{name}_bucket{{{labels},le=\"+Inf\"}} {}", histogram.count),
            );
            line(
                out,
                &format!("{name}_sum{{{labels}}} {}", histogram.seconds),
            );
            line(
                out,
                &format!("{name}_count{{{labels}}} {}", histogram.count),
            );
        }
    }
}

fn render_raft(out: &mut String, readiness: &Readiness) {
    let raft = readiness.raft();
    let leadership = raft.leadership();
    let (differing, compared_at) = raft.differing_members();
    let gauges = [
        ("duet_ready", u64::from(readiness.missing().is_none())),
        ("duet_raft_is_leader", u64::from(leadership.is_leader)),
        ("duet_raft_term", leadership.term),
        ("duet_raft_leader_id", leadership.leader.unwrap_or(0)),
        ("duet_raft_applied_index", raft.applied()),
        ("duet_disk_full", u64::from(raft.disk().full)),
        ("duet_growth_refused", u64::from(raft.growth_refused())),
        ("duet_digest_differing_members", differing),
        ("duet_digest_compared_index", compared_at),
    ];
    let free_bytes = raft.disk().free_bytes;
    let measured = free_bytes.map(|free_bytes| ("duet_disk_free_bytes", free_bytes));
    let gauges = gauges.into_iter().chain(measured);
    for (name, value) in gauges {
        line(out, &format!("# TYPE {name} gauge"));
        line(out, &format!("{name} {value}"));
    }
}

fn line(out: &mut String, text: &str) {
    if writeln!(out, "{text}").is_err() {
        unreachable!("writing to a String cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative() {
        let metrics = Metrics::default();
        for ms in [0, 3, 3, 40_000] {
            metrics.request(Operation::Sql, 200, Duration::from_millis(ms));
        }
        let mut text = String::new();
        metrics.render_requests(&mut text);
        assert!(text.contains("status=\"200\",le=\"0.0005\"} 1\n"), "{text}");
        assert!(text.contains("status=\"200\",le=\"30\"} 3\n"), "{text}");
        assert!(text.contains("status=\"200\",le=\"+Inf\"} 4\n"), "{text}");
        assert!(
            text.contains("_count{operation=\"sql\",status=\"200\"} 4\n"),
            "{text}"
        );
    }
}
