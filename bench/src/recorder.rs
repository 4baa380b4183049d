//! What one client saw: latencies of what worked, and a count of every other outcome.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use api::ReceivedError;
use hdrhistogram::Histogram;

use crate::connection::Reply;

/// Longest latency that is told apart, in microseconds: twice the server's own deadline.
const LATENCY_MAX_US: u64 = 60_000_000;
/// Decimal digits of a latency that are kept.
const SIGNIFICANT_DIGITS: u8 = 3;

/// A request that did not do what it should, under the name it is counted by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The server's code, or one of those below.
    pub code: Cow<'static, str>,
    /// Can it have happened nevertheless?
    pub maybe_applied: bool,
}

impl Failure {
    /// No connection was made.
    pub const CONNECT: Failure = Failure::own("NO_CONNECTION", false);
    /// The connection broke before the answer.
    pub const BROKEN: Failure = Failure::own("CONNECTION_BROKEN", true);
    /// The step was over before the answer.
    pub const NO_ANSWER: Failure = Failure::own("NO_ANSWER", true);
    /// Status 200 with a body that is not what was asked for.
    pub const WRONG_ANSWER: Failure = Failure::own("WRONG_ANSWER", true);

    const fn own(code: &'static str, maybe_applied: bool) -> Failure {
        Failure {
            code: Cow::Borrowed(code),
            maybe_applied,
        }
    }

    /// What the server said.
    pub fn received(reply: &Reply) -> Failure {
        let status = reply.status.as_u16();
        let error = ReceivedError::read(status, &reply.body);
        let code = if error.code.is_empty() {
            format!("HTTP_{status}")
        } else {
            error.code
        };
        Failure {
            code: Cow::Owned(code),
            maybe_applied: error.maybe_applied,
        }
    }
}

/// The outcomes of one client, or of several after [`Recorder::merge`].
#[derive(Clone, Debug)]
pub struct Recorder {
    latencies_us: Histogram<u32>,
    errors: BTreeMap<String, u64>,
}

impl Default for Recorder {
    fn default() -> Recorder {
        let latencies_us = Histogram::new_with_max(LATENCY_MAX_US, SIGNIFICANT_DIGITS)
            .expect("the bounds are constants that the histogram allows");
        Recorder {
            latencies_us,
            errors: BTreeMap::new(),
        }
    }
}

impl Recorder {
    /// A request that did what it should.
    pub fn success(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_MAX_US);
        // Longer ones count as the longest that is told apart.
        self.latencies_us.saturating_record(us);
    }

    /// A request that did not. Before the clock ran it is kept apart, but not kept quiet.
    pub fn failure(&mut self, failure: &Failure, counted: bool) {
        let code = &failure.code;
        let name = if counted {
            code.clone().into_owned()
        } else {
            format!("{code} (warm-up)")
        };
        *self.errors.entry(name).or_default() += 1;
    }

    /// Adds what another client saw.
    pub fn merge(&mut self, other: &Recorder) {
        self.latencies_us
            .add(&other.latencies_us)
            .expect("all histograms have the same bounds");
        for (code, count) in &other.errors {
            *self.errors.entry(code.clone()).or_default() += count;
        }
    }

    /// Requests that did what they should.
    pub fn successes(&self) -> u64 {
        self.latencies_us.len()
    }

    /// Other outcomes by code.
    pub fn errors(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }

    /// The latencies that reports show; none without a success.
    pub fn latency(&self) -> Option<Latency> {
        let histogram = &self.latencies_us;
        let ms = |us: u64| us as f64 / 1_000.0;
        (!histogram.is_empty()).then(|| Latency {
            p50_ms: ms(histogram.value_at_quantile(0.5)),
            p99_ms: ms(histogram.value_at_quantile(0.99)),
            p999_ms: ms(histogram.value_at_quantile(0.999)),
            max_ms: ms(histogram.max()),
        })
    }
}

/// Quantiles of the latencies of successes, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::StatusCode;

    use super::*;

    fn near(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() <= expected / 1_000.0,
            "{found} is not {expected}"
        );
    }

    #[test]
    fn quantiles_of_one_to_a_thousand_milliseconds_over_two_clients() {
        let mut all = Recorder::default();
        for parity in [0, 1] {
            let mut one = Recorder::default();
            for ms in (1..=1_000).filter(|ms| ms % 2 == parity) {
                one.success(Duration::from_millis(ms));
            }
            all.merge(&one);
        }
        assert_eq!(all.successes(), 1_000);
        let latency = all.latency().unwrap();
        near(latency.p50_ms, 500.0);
        near(latency.p99_ms, 990.0);
        near(latency.p999_ms, 999.0);
        near(latency.max_ms, 1_000.0);
    }

    #[test]
    fn the_longest_latency_is_never_lost() {
        let mut recorder = Recorder::default();
        recorder.success(Duration::from_secs(3_000));
        recorder.success(Duration::ZERO);
        assert_eq!(recorder.successes(), 2);
        assert!(recorder.latency().unwrap().max_ms >= 60_000.0);
        assert_eq!(Recorder::default().latency(), None);
    }

    #[test]
    fn failures_are_counted_by_code_and_never_as_successes() {
        let mut one = Recorder::default();
        one.failure(&Failure::BROKEN, true);
        one.failure(&Failure::BROKEN, false);
        let mut other = Recorder::default();
        other.failure(&Failure::BROKEN, true);
        one.merge(&other);
        assert_eq!(one.successes(), 0);
        let errors: Vec<_> = one
            .errors()
            .iter()
            .map(|(code, &n)| (code.as_str(), n))
            .collect();
        assert_eq!(
            errors,
            [("CONNECTION_BROKEN", 2), ("CONNECTION_BROKEN (warm-up)", 1)]
        );
    }

    #[test]
    fn a_received_failure_has_the_servers_code_or_the_status() {
        let reply = |status: u16, body: &'static str| Reply {
            status: StatusCode::from_u16(status).unwrap(),
            body: Bytes::from_static(body.as_bytes()),
        };
        let overloaded = reply(
            503,
            r#"{"status":"error","results":[],"took":0.1,"error":{"code":"OVERLOADED",
                "message":"m","retryable":true,"maybe_applied":false}}"#,
        );
        let expected = Failure {
            code: "OVERLOADED".into(),
            maybe_applied: false,
        };
        assert_eq!(Failure::received(&overloaded), expected);
        let foreign = Failure::received(&reply(502, "<html>"));
        assert_eq!((&*foreign.code, foreign.maybe_applied), ("HTTP_502", true));
    }
}
