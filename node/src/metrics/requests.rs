//! Requests and statements.

use super::counters::Metrics;
use super::text::{Family, Text, Unit};

const REQUESTS: Family = Family::histogram(
    "duet_http_request_duration_seconds",
    "How long requests of clients took until their answer was ready, by operation and status.",
);
const HTTP_IN_FLIGHT: Family = Family::gauge(
    "duet_http_in_flight_requests",
    "Requests of clients that the node is serving.",
);
const FORWARDED: Family = Family::gauge(
    "duet_forward_in_flight_requests",
    "Requests that the node has passed on to the leader and that are not answered.",
);
const STATEMENTS: Family = Family::counter(
    "duet_sql_statements_total",
    "SQL statements that ran on this node, by kind; writes run on the leader.",
);
const ERRORS: Family = Family::counter(
    "duet_sql_errors_total",
    "SQL statements that were refused on this node, by kind and error code.",
);

/// What is under way.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnderWay {
    /// Requests of clients being served.
    pub requests: usize,
    /// Requests passed on to the leader.
    pub forwarded: usize,
}

/// Writes what concerns requests.
pub fn render(text: &mut Text, metrics: &Metrics, under_way: UnderWay) {
    let mut requests = text.family(&REQUESTS);
    for (operation, status, took) in metrics.requests() {
        let labels = [("operation", operation), ("status", status.as_str())];
        requests.distribution(&labels, &took, Unit::Nanoseconds);
    }
    text.one(&HTTP_IN_FLIGHT, under_way.requests);
    text.one(&FORWARDED, under_way.forwarded);
    let mut statements = text.family(&STATEMENTS);
    for (kind, count) in metrics.statements_done() {
        statements.add(&[("kind", kind)], count);
    }
    let mut errors = text.family(&ERRORS);
    for (kind, code, count) in metrics.statements_failed() {
        errors.add(&[("kind", kind), ("code", code)], count);
    }
}
