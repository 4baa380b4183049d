//! Digests of the state at entries that all nodes remember alike, so that nodes can be compared
//! while they go on applying.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use types::ids::LogIndex;
use types::limits::{DIGEST_MARK_ENTRIES, DIGEST_MARKS_MAX};

/// An entry, and the digest of the state once it was applied.
pub type Mark = (LogIndex, u64);

/// The last marks: one at each entry whose index is a multiple of [`DIGEST_MARK_ENTRIES`].
#[derive(Debug, Default)]
pub struct Digests {
    marks: Mutex<VecDeque<Mark>>,
}

impl Digests {
    /// Is there a mark at this entry?
    pub(super) fn is_marked(index: LogIndex) -> bool {
        index.is_multiple_of(DIGEST_MARK_ENTRIES)
    }

    /// Adds marks, in order. The oldest go.
    pub(super) fn add(&self, new: impl IntoIterator<Item = Mark>) {
        self.change(|marks| {
            marks.extend(new);
            let beyond = marks.len().saturating_sub(DIGEST_MARKS_MAX);
            marks.drain(..beyond);
        });
    }

    /// Forgets all: another state took the place of this one.
    pub(super) fn reset(&self) {
        self.change(VecDeque::clear);
    }

    /// The digest at an entry, if it is one of the marks.
    pub fn at(&self, index: LogIndex) -> Option<u64> {
        self.change(|marks| {
            let found = marks
                .binary_search_by_key(&index, |(index, _)| *index)
                .ok()?;
            Some(marks[found].1)
        })
    }

    /// The newest mark.
    pub fn newest(&self) -> Option<Mark> {
        self.change(|marks| marks.back().copied())
    }

    fn change<T>(&self, change: impl FnOnce(&mut VecDeque<Mark>) -> T) -> T {
        // Every step leaves it whole.
        change(&mut self.marks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_marks_go_and_a_new_state_has_none() {
        let digests = Digests::default();
        assert_eq!(digests.newest(), None);
        let last = DIGEST_MARKS_MAX as u64 + 2;
        digests.add((0..=last).map(|at| (at * DIGEST_MARK_ENTRIES, at)));
        assert_eq!(digests.newest(), Some((last * DIGEST_MARK_ENTRIES, last)));
        assert_eq!(digests.at(2 * DIGEST_MARK_ENTRIES), None);
        assert_eq!(digests.at(3 * DIGEST_MARK_ENTRIES), Some(3));
        assert_eq!(digests.at(3 * DIGEST_MARK_ENTRIES + 1), None);
        digests.reset();
        assert_eq!(digests.at(last * DIGEST_MARK_ENTRIES), None);
    }
}
