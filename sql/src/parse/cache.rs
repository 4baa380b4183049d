//! Parsed statements by their text: a client that sends the same text again pays for its parsing
//! once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::statement::Statement;

/// The statements of one text, in order.
pub type Parsed = Arc<[Statement]>;

/// Longest text that is kept. Longer ones are mostly bulk loads that never come again.
const TEXT_MAX_BYTES: usize = 4 * 1024;
/// Texts kept. At twice as many, the half that was used least recently goes.
const TEXTS_MAX: usize = 2_000;

/// Parsed texts, bounded; shared by all requests of a node.
#[derive(Debug, Default)]
pub struct StatementCache {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Counts uses; the larger, the more recent.
    clock: u64,
    texts: BTreeMap<Arc<str>, (u64, Parsed)>,
}

impl StatementCache {
    /// An empty cache.
    pub fn new() -> StatementCache {
        StatementCache::default()
    }

    /// The statements of `text`, parsed now or before. Errors are not kept.
    pub fn parse(&self, text: &str) -> types::Result<Parsed> {
        if let Some(parsed) = self.lookup(text) {
            return Ok(parsed);
        }
        let parsed: Parsed = super::parse(text)?.into();
        if text.len() <= TEXT_MAX_BYTES && !parsed.iter().any(holds_password) {
            self.insert(text, Arc::clone(&parsed));
        }
        Ok(parsed)
    }

    fn lookup(&self, text: &str) -> Option<Parsed> {
        // A panic elsewhere leaves a whole map behind: every change is one insert or retain.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.clock += 1;
        let clock = state.clock;
        let (used, parsed) = state.texts.get_mut(text)?;
        *used = clock;
        Some(Arc::clone(parsed))
    }

    fn insert(&self, text: &str, parsed: Parsed) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.texts.len() >= 2 * TEXTS_MAX {
            let mut uses: Vec<u64> = state.texts.values().map(|(used, _)| *used).collect();
            let (_, median, _) = uses.select_nth_unstable(TEXTS_MAX);
            let oldest_kept = *median;
            state.texts.retain(|_, (used, _)| *used >= oldest_kept);
        }
        let clock = state.clock;
        state.texts.insert(text.into(), (clock, parsed));
    }
}

/// Passwords in the clear live no longer than their request.
fn holds_password(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::CreateUser(_) | Statement::AlterUser(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_parsed_once() {
        let cache = StatementCache::new();
        let first = cache.parse("SELECT 1").unwrap();
        let second = cache.parse("SELECT 1").unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        assert!(cache.parse("SELEC 1").is_err());
        assert!(cache.parse("SELEC 1").is_err());
    }

    #[test]
    fn passwords_are_not_kept() {
        let cache = StatementCache::new();
        cache
            .parse("CREATE USER bob WITH PASSWORD 'correct horse'")
            .unwrap();
        assert!(cache.state.lock().unwrap().texts.is_empty());
    }

    #[test]
    fn the_least_recently_used_go_first() {
        let cache = StatementCache::new();
        for i in 0..=2 * TEXTS_MAX {
            cache.parse(&format!("SELECT {i}")).unwrap();
            cache.parse("SELECT 0").unwrap();
        }
        let texts = &cache.state.lock().unwrap().texts;
        assert!(texts.len() <= TEXTS_MAX + 1, "{}", texts.len());
        assert!(texts.contains_key("SELECT 0"));
        assert!(!texts.contains_key("SELECT 1"));
    }
}
