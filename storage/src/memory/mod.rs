//! The engine for tests and simulation: in memory, and honest about it. What was not synced or
//! flushed is gone after [`MemoryEngine::crash`], as on a machine that lost its power.

mod checkpoint;
mod map;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::map::Map;
use crate::engine::{Direction, Durability, Engine, KeyRange, Op, Read, Scan, Snapshot};
use crate::error::{Error, Result};

/// An engine without a disk.
#[derive(Debug, Default)]
pub struct MemoryEngine {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What reads see.
    current: Map,
    /// What a crash leaves.
    durable: Map,
    /// Does every write fail?
    broken: bool,
}

impl MemoryEngine {
    /// An empty engine.
    pub fn new() -> MemoryEngine {
        MemoryEngine::default()
    }

    /// Opens a copy that [`Engine::checkpoint`] wrote; it is durable as a whole.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Corrupt`] if it is not what was written.
    pub fn open_checkpoint(dir: &Path) -> Result<MemoryEngine> {
        let map = checkpoint::read(dir)?;
        let state = State {
            current: map.clone(),
            durable: map,
            broken: false,
        };
        Ok(MemoryEngine {
            state: Mutex::new(state),
        })
    }

    /// Loses its power and comes back: the writes since the last synced one or the last flush are
    /// gone, and a broken disk is whole again. Snapshots taken before keep what they show.
    pub fn crash(&self) {
        let mut state = self.lock();
        state.current = state.durable.clone();
        state.broken = false;
    }

    /// Breaks the disk: every write, flush and checkpoint fails from now on, until a
    /// [`crash`](MemoryEngine::crash). Reads go on.
    pub fn break_disk(&self) {
        self.lock().broken = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in a write leaves the maps as they were: a write works on a copy.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check(&self, operation: &'static str) -> Result<()> {
        if self.broken {
            return Err(Error::Io {
                operation,
                message: "the disk is broken".to_owned(),
            });
        }
        Ok(())
    }
}

impl Engine for MemoryEngine {
    fn write(&self, ops: &[Op], durability: Durability) -> Result<()> {
        let mut state = self.lock();
        state.check("write")?;
        let mut next = state.current.clone();
        if let Err(e) = ops.iter().try_for_each(|op| apply(&mut next, op)) {
            state.broken = true;
            return Err(e);
        }
        state.current = next;
        if durability == Durability::Synced {
            state.durable = state.current.clone();
        }
        Ok(())
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        Arc::new(self.lock().current.clone())
    }

    fn flush(&self) -> Result<()> {
        let mut state = self.lock();
        state.check("flush")?;
        state.durable = state.current.clone();
        Ok(())
    }

    fn checkpoint(&self, dir: &Path) -> Result<()> {
        self.flush()?;
        let map = self.lock().durable.clone();
        checkpoint::write(&map, dir)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.lock().current.get(key).map(<[u8]>::to_vec))
    }
}

fn apply(map: &mut Map, op: &Op) -> Result<()> {
    match op {
        Op::Put { key, value } => map.insert(key, value),
        Op::Delete { key } => map.remove(key),
        Op::DeleteRange { range } if range.is_empty() => {}
        Op::DeleteRange {
            range: KeyRange { end: None, .. },
        } => {
            return Err(Error::range_without_end());
        }
        Op::DeleteRange { range } => map.remove_range(range),
    }
    Ok(())
}

impl Read for Map {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(Map::get(self, key).map(<[u8]>::to_vec))
    }

    fn scan<'a>(&'a self, range: &KeyRange, direction: Direction) -> Scan<'a> {
        let pairs = self.range(range, direction);
        Box::new(pairs.map(|(key, value)| Ok((key.to_vec(), value.to_vec()))))
    }
}
