//! What is counted while requests are served: atomics in fixed places, so that no request waits for
//! another, nor for whoever reads them.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use types::ErrorCode;
use types::histogram::{DURATIONS_NS, Distribution, Histogram};

use crate::service::call::Operation;

/// Different names that are counted one by one; further ones are counted together as [`OTHER`].
const NAMES_MAX: usize = 64;
/// What is counted under no name of its own.
const OTHER: &str = "other";
/// Statuses that are counted one by one.
const STATUSES: [u16; 13] = [
    200, 400, 401, 403, 404, 405, 409, 413, 416, 429, 500, 503, 504,
];
/// The kind of statements that could not be read as any.
const UNREADABLE: &str = "UNREADABLE";

/// Counters of this process.
#[derive(Default)]
pub struct Metrics {
    requests: ByName<ByStatus>,
    statements: ByName<Statements>,
    delivered: AtomicU64,
}

/// Answered requests of one operation.
#[derive(Default)]
struct ByStatus([OnceLock<Histogram>; STATUSES.len() + 1]);

/// Statements of one kind.
struct Statements {
    done: AtomicU64,
    /// By the code's place in [`ErrorCode::ALL`].
    failed: [AtomicU64; ErrorCode::ALL.len()],
}

impl Default for Statements {
    fn default() -> Statements {
        Statements {
            done: AtomicU64::new(0),
            failed: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Metrics {
    /// Counts a request that was answered.
    pub fn request(&self, operation: Operation, status: u16, took: Duration) {
        let by_status = self.requests.get(operation.as_str());
        let place = STATUSES.iter().position(|known| *known == status);
        let histogram = &by_status.0[place.unwrap_or(STATUSES.len())];
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        histogram
            .get_or_init(|| Histogram::new(DURATIONS_NS))
            .observe(nanos);
    }

    /// Counts a statement that was run on this node.
    pub fn statement_done(&self, kind: &'static str) {
        let done = &self.statements.get(kind).done;
        done.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a statement that was refused on this node; without a kind, a text that is no
    /// statement.
    pub fn statement_failed(&self, kind: Option<&'static str>, code: ErrorCode) {
        let failed = &self.statements.get(kind.unwrap_or(UNREADABLE)).failed;
        let place = ErrorCode::ALL.iter().position(|known| *known == code);
        if let Some(place) = place {
            failed[place].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts messages that this node gives to a client.
    pub fn delivered(&self, messages: usize) {
        self.delivered.fetch_add(messages as u64, Ordering::Relaxed);
    }

    /// Answered requests: operation, status, how long they took.
    pub(super) fn requests(&self) -> impl Iterator<Item = (&'static str, String, Distribution)> {
        self.requests.iter().flat_map(|(operation, by_status)| {
            let places = by_status.0.iter().enumerate();
            places.filter_map(move |(place, histogram)| {
                let status = STATUSES.get(place).map(u16::to_string);
                let status = status.unwrap_or_else(|| OTHER.to_owned());
                Some((operation, status, histogram.get()?.read()))
            })
        })
    }

    /// Statements that ran: kind, how many.
    pub(super) fn statements_done(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = self.statements.iter();
        all.map(|(kind, statements)| (kind, statements.done.load(Ordering::Relaxed)))
    }

    /// Statements that were refused: kind, code, how many.
    pub(super) fn statements_failed(
        &self,
    ) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.statements.iter().flat_map(|(kind, statements)| {
            let codes = ErrorCode::ALL.iter().zip(&statements.failed);
            codes.filter_map(move |(code, count)| {
                let count = count.load(Ordering::Relaxed);
                (count > 0).then_some((kind, code.as_str(), count))
            })
        })
    }

    /// Messages given to clients.
    pub(super) fn delivered_total(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }
}

/// A value for each of a few names, found without a lock.
struct ByName<T>(Box<[(OnceLock<&'static str>, T)]>);

impl<T: Default> Default for ByName<T> {
    fn default() -> Self {
        let slots = (0..=NAMES_MAX).map(|_| (OnceLock::new(), T::default()));
        ByName(slots.collect())
    }
}

impl<T> ByName<T> {
    fn get(&self, name: &'static str) -> &T {
        let (others, named) = self.0.split_last().expect("there is a place at least");
        for (taken_by, value) in named {
            // Two that come at once for a free place: one takes it, the other looks on.
            if *taken_by.get_or_init(|| name) == name {
                return value;
            }
        }
        others.0.get_or_init(|| OTHER);
        &others.1
    }

    fn iter(&self) -> impl Iterator<Item = (&'static str, &T)> {
        self.0
            .iter()
            .filter_map(|(name, value)| Some((*name.get()?, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_operation_and_status() {
        let metrics = Metrics::default();
        for (operation, status, ms) in [
            (Operation::Sql, 200, 3),
            (Operation::Sql, 200, 40_000),
            (Operation::Sql, 503, 1),
            (Operation::Ack, 200, 1),
            (Operation::Ack, 418, 1),
        ] {
            metrics.request(operation, status, Duration::from_millis(ms));
        }
        let seen: Vec<_> = metrics
            .requests()
            .map(|(operation, status, took)| (operation, status, took.count()))
            .collect();
        let expected = [
            ("sql", "200", 2),
            ("sql", "503", 1),
            ("ack", "200", 1),
            ("ack", "other", 1),
        ];
        let expected = expected.map(|(operation, status, count)| (operation, status.into(), count));
        assert_eq!(seen, expected);
    }

    #[test]
    fn statements_are_counted_by_kind_and_errors_by_code() {
        let metrics = Metrics::default();
        metrics.statement_done("INSERT");
        metrics.statement_done("INSERT");
        metrics.statement_failed(Some("INSERT"), ErrorCode::UniqueViolation);
        metrics.statement_failed(None, ErrorCode::InvalidSql);
        let done: Vec<_> = metrics.statements_done().collect();
        assert_eq!(done, [("INSERT", 2), (UNREADABLE, 0)]);
        let failed: Vec<_> = metrics.statements_failed().collect();
        let expected = [
            ("INSERT", "UNIQUE_VIOLATION", 1),
            (UNREADABLE, "INVALID_SQL", 1),
        ];
        assert_eq!(failed, expected);
    }

    #[test]
    fn names_beyond_the_bound_are_counted_together() {
        let names: ByName<AtomicU64> = ByName::default();
        for number in 0..NAMES_MAX + 2 {
            let name: &'static str = Box::leak(number.to_string().into_boxed_str());
            names.get(name).fetch_add(1, Ordering::Relaxed);
        }
        let last = names
            .iter()
            .last()
            .map(|(name, count)| (name, count.load(Ordering::Relaxed)));
        assert_eq!(last, Some((OTHER, 2)));
    }
}
