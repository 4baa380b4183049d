//! What links are like: one in each direction from each host to each.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Bytes that go through a slow link at once: little, so that connections take turns.
const SLOW_BYTES: usize = 1_448;

/// All links.
#[derive(Debug)]
pub(super) struct Links {
    state: watch::Sender<State>,
    traffic: Vec<Traffic>,
}

#[derive(Debug)]
struct State {
    /// From which host to which nothing goes.
    cut: BTreeSet<(u8, u8)>,
    /// By host.
    bad: Vec<Bad>,
}

/// How a host's links are bad.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bad {
    /// Of a thousand pieces of others' connections to it, how many end theirs.
    pub(super) resets_per_mille: u16,
    /// What it sends goes no faster than this; none: it does.
    pub(super) kbit: Option<u32>,
}

/// What goes on at a host.
#[derive(Debug)]
struct Traffic {
    /// Pieces that a bad link hit.
    hits: AtomicU64,
    /// From when on its slow link takes the next piece.
    free: Mutex<Instant>,
}

impl Links {
    pub(super) fn new(hosts: u8) -> Links {
        let traffic = |_| Traffic {
            hits: AtomicU64::new(0),
            free: Mutex::new(Instant::now()),
        };
        let state = State {
            cut: BTreeSet::new(),
            bad: vec![Bad::default(); hosts.into()],
        };
        Links {
            state: watch::Sender::new(state),
            traffic: (0..hosts).map(traffic).collect(),
        }
    }

    pub(super) fn hosts(&self) -> u8 {
        u8::try_from(self.traffic.len()).expect("it was made for a u8")
    }

    pub(super) fn cut(&self, from: u8, to: u8) {
        self.state.send_modify(|state| {
            state.cut.insert((from, to));
        });
    }

    pub(super) fn heal(&self) {
        self.state.send_modify(|state| state.cut.clear());
    }

    /// Makes the links of a host bad, beside what they are already.
    pub(super) fn spoil(&self, host: u8, how: impl FnOnce(&mut Bad)) {
        self.state
            .send_modify(|state| how(&mut state.bad[usize::from(host)]));
    }

    pub(super) fn mend(&self) {
        self.state
            .send_modify(|state| state.bad.fill(Bad::default()));
        for traffic in &self.traffic {
            traffic.hits.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn hits(&self, host: u8) -> u64 {
        self.traffic[usize::from(host)].hits.load(Ordering::Relaxed)
    }

    fn bad(&self, host: u8) -> Bad {
        self.state.borrow().bad[usize::from(host)]
    }

    fn hit(&self, host: u8) {
        let traffic = &self.traffic[usize::from(host)];
        traffic.hits.fetch_add(1, Ordering::Relaxed);
    }
}

/// One direction between two hosts.
#[derive(Debug)]
pub(super) struct Link {
    links: Arc<Links>,
    from: u8,
    to: u8,
}

impl Link {
    pub(super) fn new(links: Arc<Links>, from: u8, to: u8) -> Link {
        Link { links, from, to }
    }

    pub(super) fn is_cut(&self) -> bool {
        self.links
            .state
            .borrow()
            .cut
            .contains(&(self.from, self.to))
    }

    /// Waits until it is not cut.
    pub(super) async fn mended(&self) {
        let mut state = self.links.state.subscribe();
        let whole = state.wait_for(|state| !state.cut.contains(&(self.from, self.to)));
        // The sender is a part of what this link holds.
        whole.await.expect("the links outlive their connections");
    }

    /// Bytes that may go at once.
    pub(super) fn piece_bytes(&self) -> usize {
        match self.links.bad(self.from).kbit {
            Some(_) => SLOW_BYTES,
            None => usize::MAX,
        }
    }

    /// Waits until so many bytes have had their time on a slow link.
    pub(super) async fn pace(&self, bytes: usize) {
        let Some(kbit) = self.links.bad(self.from).kbit else {
            return;
        };
        let seconds = bytes as f64 * 8.0 / (f64::from(kbit) * 1_000.0);
        let through = {
            let free = &self.links.traffic[usize::from(self.from)].free;
            let mut free = free.lock().unwrap_or_else(PoisonError::into_inner);
            *free = Instant::now().max(*free) + Duration::from_secs_f64(seconds);
            *free
        };
        self.links.hit(self.from);
        // sleep: this is what a slow link is
        tokio::time::sleep_until(through).await;
    }

    /// Does the piece that has just come end its connection? Asked of links that go where the
    /// connection goes.
    pub(super) fn resets(&self) -> bool {
        let per_mille = self.links.bad(self.to).resets_per_mille;
        let struck = rand::random_range(0..1_000) < per_mille;
        if struck {
            self.links.hit(self.to);
        }
        struck
    }
}
