//! Is there an order of these calls, each somewhere between its beginning and its end, in which one
//! register gives all these answers? (Wing and Gong's search with Lowe's memory.)

use std::collections::HashSet;

/// Calls that one history may have: a bit each in the search's memory.
pub const CALLS_MAX: usize = 128;
/// States after which the search gives up. A register's history of [`CALLS_MAX`] calls by ten
/// clients needs a few thousand.
const STATES_MAX: usize = 2_000_000;

/// What was asked of the register, and what it said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It was read, and had this value.
    Read(i64),
    /// It got this value.
    Write(i64),
    /// It had the first value and got the second.
    Swap(i64, i64),
    /// It was to have this value, and had another.
    Differs(i64),
}

/// One call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// What it did.
    pub action: Action,
    /// When it began.
    pub invoke_ns: u64,
    /// When it ended; none: nobody knows whether it happened, and it may still happen.
    pub return_ns: Option<u64>,
}

/// What the search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is such an order.
    Order,
    /// There is none.
    None,
    /// There were too many calls or too many orders to try.
    Nothing,
}

/// Looks for an order of the calls on a register that holds `first`.
pub fn order(first: i64, calls: &[Call]) -> Found {
    if calls.len() > CALLS_MAX {
        return Found::Nothing;
    }
    let certain = calls
        .iter()
        .enumerate()
        .filter(|(_, call)| call.return_ns.is_some())
        .fold(0_u128, |bits, (at, _)| bits | bit(at));
    let mut open = vec![(0_u128, first)];
    let mut seen: HashSet<(u128, i64)> = open.iter().copied().collect();
    while let Some((done, value)) = open.pop() {
        if done & certain == certain {
            return Found::Order;
        }
        if seen.len() > STATES_MAX {
            return Found::Nothing;
        }
        // Whatever ended before a call began comes before it.
        let first_end = calls
            .iter()
            .enumerate()
            .filter(|(at, _)| done & bit(*at) == 0)
            .filter_map(|(_, call)| call.return_ns)
            .min()
            .unwrap_or(u64::MAX);
        for (at, call) in calls.iter().enumerate() {
            if done & bit(at) != 0 || call.invoke_ns > first_end {
                continue;
            }
            if let Some(value) = after(call.action, value) {
                let next = (done | bit(at), value);
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
    }
    Found::None
}

fn bit(at: usize) -> u128 {
    1 << at
}

/// The register's value after the call; none if it would have answered otherwise.
fn after(action: Action, value: i64) -> Option<i64> {
    match action {
        Action::Read(seen) => (seen == value).then_some(value),
        Action::Write(new) => Some(new),
        Action::Swap(old, new) => (old == value).then_some(new),
        Action::Differs(old) => (old != value).then_some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::Action::{Differs, Read, Swap, Write};
    use super::*;

    fn call(action: Action, invoke_ns: u64, return_ns: u64) -> Call {
        Call {
            action,
            invoke_ns,
            return_ns: Some(return_ns),
        }
    }

    fn unknown(action: Action, invoke_ns: u64) -> Call {
        Call {
            action,
            invoke_ns,
            return_ns: None,
        }
    }

    #[test]
    fn good_histories_have_an_order() {
        for calls in [
            vec![],
            vec![call(Write(1), 0, 1), call(Read(1), 2, 3)],
            // Both orders of what overlaps are right.
            vec![call(Write(1), 0, 9), call(Read(0), 1, 2)],
            vec![call(Write(1), 0, 9), call(Read(1), 1, 2)],
            vec![
                call(Write(1), 0, 9),
                call(Read(0), 1, 2),
                call(Read(1), 3, 4),
            ],
            vec![
                call(Swap(0, 5), 0, 3),
                call(Differs(0), 1, 4),
                call(Read(5), 5, 6),
            ],
            // What nobody knows of may have happened, or not, or late.
            vec![unknown(Write(7), 0), call(Read(0), 1, 2)],
            vec![unknown(Write(7), 0), call(Read(7), 1, 2)],
            vec![
                unknown(Write(7), 0),
                call(Write(1), 1, 2),
                call(Read(1), 3, 4),
                call(Read(7), 5, 6),
            ],
        ] {
            assert_eq!(order(0, &calls), Found::Order, "{calls:?}");
        }
    }

    #[test]
    fn bad_histories_have_none() {
        for calls in [
            // A stale read, a value from nowhere, one that went back.
            vec![call(Write(1), 0, 1), call(Read(0), 2, 3)],
            vec![call(Read(3), 0, 1)],
            vec![
                call(Write(1), 0, 9),
                call(Read(1), 1, 2),
                call(Read(0), 3, 4),
            ],
            // Two swaps of the same value, a lost swap, one refused without reason.
            vec![call(Swap(0, 1), 0, 5), call(Swap(0, 2), 0, 5)],
            vec![call(Swap(0, 1), 0, 1), call(Read(0), 2, 3)],
            vec![call(Differs(0), 0, 1)],
            // What nobody knows of does not happen before it began, nor twice.
            vec![call(Read(7), 0, 1), unknown(Write(7), 2)],
            vec![
                unknown(Swap(0, 7), 0),
                call(Read(7), 1, 2),
                call(Write(0), 3, 4),
                call(Read(7), 5, 6),
            ],
        ] {
            assert_eq!(order(0, &calls), Found::None, "{calls:?}");
        }
    }

    #[test]
    fn many_calls_at_once_are_decided_and_too_many_are_not() {
        let many: Vec<Call> = (0..10_u32)
            .flat_map(|round| {
                let at = u64::from(round) * 10;
                (0..10).map(move |client| match client {
                    0 => call(Write(i64::from(round)), at, at + 9),
                    _ => call(Read(i64::from(round)), at, at + 9),
                })
            })
            .collect();
        assert_eq!(order(0, &many), Found::Order);
        let mut bad = many.clone();
        bad[99].action = Read(3);
        assert_eq!(order(0, &bad), Found::None);
        let too_many = vec![call(Read(0), 0, 1); CALLS_MAX + 1];
        assert_eq!(order(0, &too_many), Found::Nothing);
    }
}
