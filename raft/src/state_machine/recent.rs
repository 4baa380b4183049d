//! Which requests were applied lately, so that a node which lost the old leader's answer learns
//! whether its request happened.
//!
//! Only a leader of a later term that is ready to plan can say no: everything the old leader
//! proposed and that can ever be committed is in its log, and it has applied it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use types::ids::LogIndex;
use types::limits::RECENT_REQUESTS_MAX;

/// Names a request: the 16 bytes of its ULID.
pub type RequestId = [u8; 16];

/// The requests of the last entries. In memory: it knows nothing from before the process started.
pub struct RecentRequests(Mutex<Recent>);

struct Recent {
    /// Every request applied above this index is here.
    after: LogIndex,
    requests: VecDeque<(LogIndex, RequestId)>,
}

impl RecentRequests {
    /// Knows nothing up to `applied`.
    pub fn new(applied: LogIndex) -> RecentRequests {
        let requests = VecDeque::new();
        RecentRequests(Mutex::new(Recent {
            after: applied,
            requests,
        }))
    }

    /// Remembers requests of entries above all others, in order.
    pub fn add(&self, applied: impl IntoIterator<Item = (LogIndex, RequestId)>) {
        self.with(|recent| {
            recent.requests.extend(applied);
            while recent.requests.len() > RECENT_REQUESTS_MAX
                && let Some((index, _)) = recent.requests.pop_front()
            {
                recent.after = index;
            }
        });
    }

    /// Forgets everything: the state was replaced by one that ends at `applied`.
    pub fn reset(&self, applied: LogIndex) {
        self.with(|recent| {
            recent.after = applied;
            recent.requests.clear();
        });
    }

    /// Was the request applied in an entry above `after`? None if not all of those are known.
    pub fn contains(&self, request: &RequestId, after: LogIndex) -> Option<bool> {
        self.with(|recent| {
            let known = after >= recent.after;
            known.then(|| {
                recent
                    .requests
                    .iter()
                    .any(|(_, applied)| applied == request)
            })
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Recent) -> T) -> T {
        // A panic elsewhere leaves at worst an id too few behind a floor that is not raised yet;
        // the thread that adds them is the one that applies, and ends with it.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_applied_is_known_and_what_was_not_too() {
        let recent = RecentRequests::new(5);
        recent.add([(6, [1; 16]), (7, [2; 16])]);
        assert_eq!(recent.contains(&[1; 16], 5), Some(true));
        assert_eq!(recent.contains(&[3; 16], 6), Some(false));
        assert_eq!(recent.contains(&[3; 16], 4), None, "entry 5 is not known");
    }

    #[test]
    fn what_is_forgotten_is_not_denied() {
        let recent = RecentRequests::new(0);
        let many = u64::try_from(RECENT_REQUESTS_MAX).expect("fits") + 1;
        recent.add((1..=many).map(|index| (index, [0; 16])));
        assert_eq!(recent.contains(&[9; 16], 0), None);
        assert_eq!(recent.contains(&[9; 16], 1), Some(false));
        recent.reset(many + 10);
        assert_eq!(recent.contains(&[9; 16], many), None);
    }
}
