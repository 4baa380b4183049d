//! An ordered map whose copies are cheap: leaves of keys and values under one list, both shared
//! until they are written to.
//!
//! A copy costs one reference count. The first write after a copy copies the list and one leaf:
//! with leaves of up to [`LEAF_MAX`] pairs, some microseconds for a hundred thousand keys.

use std::sync::Arc;

use crate::engine::{Direction, KeyRange};

/// Pairs at which a leaf is split in two.
const LEAF_MAX: usize = 256;

/// A pair; its bytes are shared by all copies.
#[derive(Clone, Debug)]
struct Entry {
    key: Arc<[u8]>,
    value: Arc<[u8]>,
}

/// Pairs in ascending order of key, never none.
type Leaf = Vec<Entry>;

/// A persistent ordered map of bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Map {
    /// In ascending order; each leaf's keys lie before the next one's.
    leaves: Arc<Vec<Arc<Leaf>>>,
}

impl Map {
    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let leaf = self.leaves.get(self.leaf_of(key)?)?;
        let at = leaf
            .binary_search_by(|entry| entry.key.as_ref().cmp(key))
            .ok()?;
        Some(&leaf[at].value)
    }

    pub(super) fn insert(&mut self, key: &[u8], value: &[u8]) {
        let entry = Entry {
            key: key.into(),
            value: value.into(),
        };
        let at_leaf = self.leaf_of(key).unwrap_or(0);
        let leaves = Arc::make_mut(&mut self.leaves);
        let Some(leaf) = leaves.get_mut(at_leaf) else {
            leaves.push(Arc::new(vec![entry]));
            return;
        };
        let leaf = Arc::make_mut(leaf);
        match leaf.binary_search_by(|other| other.key.as_ref().cmp(key)) {
            Ok(at) => leaf[at] = entry,
            Err(at) => leaf.insert(at, entry),
        }
        if leaf.len() >= LEAF_MAX {
            let upper = leaf.split_off(LEAF_MAX / 2);
            leaves.insert(at_leaf + 1, Arc::new(upper));
        }
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        let Some(at_leaf) = self.leaf_of(key) else {
            return;
        };
        let Ok(at) = self.leaves[at_leaf].binary_search_by(|entry| entry.key.as_ref().cmp(key))
        else {
            return;
        };
        let leaves = Arc::make_mut(&mut self.leaves);
        Arc::make_mut(&mut leaves[at_leaf]).remove(at);
        if leaves[at_leaf].is_empty() {
            leaves.remove(at_leaf);
        }
    }

    pub(super) fn remove_range(&mut self, range: &KeyRange) {
        let Some(first) = self.leaf_of(&range.start) else {
            return;
        };
        let after = self.leaves.partition_point(|leaf| {
            range
                .end
                .as_deref()
                .is_none_or(|end| leaf[0].key.as_ref() < end)
        });
        let leaves = Arc::make_mut(&mut self.leaves);
        for leaf in leaves.iter_mut().take(after).skip(first) {
            Arc::make_mut(leaf).retain(|entry| !range.contains(&entry.key));
        }
        leaves.retain(|leaf| !leaf.is_empty());
    }

    /// The pairs of a range, in order.
    pub(super) fn range<'a>(
        &'a self,
        range: &KeyRange,
        direction: Direction,
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut front = self.lower_bound(Some(&range.start));
        let mut back = self.lower_bound(range.end.as_deref());
        std::iter::from_fn(move || {
            if front >= back {
                return None;
            }
            let (leaf, at) = match direction {
                Direction::Forward => {
                    let here = front;
                    front = self.after(here);
                    here
                }
                Direction::Reverse => {
                    back = self.before(back)?;
                    back
                }
            };
            let entry = &self.leaves[leaf][at];
            Some((entry.key.as_ref(), entry.value.as_ref()))
        })
    }

    pub(super) fn len(&self) -> usize {
        self.leaves.iter().map(|leaf| leaf.len()).sum()
    }

    /// The leaf that holds the key if any does; none: the map is empty.
    fn leaf_of(&self, key: &[u8]) -> Option<usize> {
        let above = self
            .leaves
            .partition_point(|leaf| leaf[0].key.as_ref() <= key);
        (!self.leaves.is_empty()).then(|| above.saturating_sub(1))
    }

    /// Leaf and position of the first key that is not below `key`; without a key, of the end.
    fn lower_bound(&self, key: Option<&[u8]>) -> (usize, usize) {
        let end = (self.leaves.len(), 0);
        let Some((key, leaf)) = key.and_then(|key| Some((key, self.leaf_of(key)?))) else {
            return end;
        };
        let at = self.leaves[leaf].partition_point(|entry| entry.key.as_ref() < key);
        if at < self.leaves[leaf].len() {
            (leaf, at)
        } else {
            (leaf + 1, 0)
        }
    }

    fn after(&self, (leaf, at): (usize, usize)) -> (usize, usize) {
        if at + 1 < self.leaves[leaf].len() {
            (leaf, at + 1)
        } else {
            (leaf + 1, 0)
        }
    }

    fn before(&self, (leaf, at): (usize, usize)) -> Option<(usize, usize)> {
        if let Some(at) = at.checked_sub(1) {
            return Some((leaf, at));
        }
        let leaf = leaf.checked_sub(1)?;
        Some((leaf, self.leaves[leaf].len() - 1))
    }
}
