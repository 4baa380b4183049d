//! The two clocks that the leader stamps entries with. The only place of this crate that reads one.
//!
//! `lease_time` = the last one in the log + elapsed monotonic time of this leadership. A leadership
//! starts counting where its predecessor's log ended, so time never runs back and a jump of the
//! wall clock does not touch it; while there is no leader it stands still. A leader that was cut
//! off counts on for a while: what it counted and the log does not have was never told to anybody,
//! and is forgotten.
//!
//! `wall_time` = the machine's wall clock, but never less than the last one in the log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use types::ids::{LeaseTimeMs, Term, WallTimeUs};

/// How far the wall clock may differ from what was expected before it counts as a jump: from the
/// time that passed between two looks; at the start of a leadership, from the log's wall clock.
pub const WALL_JUMP_MAX: Duration = Duration::from_secs(5);

/// What tells the time; tests bring their own.
pub trait TimeSource: Send + Sync + 'static {
    /// Time since some fixed moment. Never runs back.
    fn monotonic(&self) -> Duration;

    /// The time of day, in µs since 1970. May jump.
    fn wall(&self) -> WallTimeUs;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemTimeSource {
    origin: Instant,
}

impl Default for SystemTimeSource {
    fn default() -> SystemTimeSource {
        SystemTimeSource {
            origin: Instant::now(),
        }
    }
}

impl TimeSource for SystemTimeSource {
    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    fn wall(&self) -> WallTimeUs {
        // A clock before 1970 reads as 1970; the log's own time keeps it from running back.
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        WallTimeUs::try_from(since.as_micros()).unwrap_or(WallTimeUs::MAX)
    }
}

/// What an entry is stamped with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    /// The lease clock.
    pub lease_time: LeaseTimeMs,
    /// The wall clock.
    pub wall_time: WallTimeUs,
}

impl Stamps {
    /// The later of each.
    fn max(self, other: Stamps) -> Stamps {
        Stamps {
            lease_time: self.lease_time.max(other.lease_time),
            wall_time: self.wall_time.max(other.wall_time),
        }
    }
}

/// The clocks of this node's leadership.
pub struct Clock {
    source: Box<dyn TimeSource>,
    state: Mutex<State>,
}

struct State {
    /// The leadership that is running, with where and when it started counting.
    leadership: Option<Leadership>,
    /// The term of the last one.
    term: Option<Term>,
    /// The largest stamps that are known to be in the log.
    log: Stamps,
    /// The largest of these and of those given out in the last leadership.
    last: Stamps,
    /// Wall clock and monotonic time at the last look, to notice jumps.
    seen: (Duration, WallTimeUs),
    /// Monotonic time of the last jump.
    jumped_at: Option<Duration>,
    /// The last wall clock heard of in the log while it was written, and when that was.
    heard: Option<(Duration, WallTimeUs)>,
}

struct Leadership {
    term: Term,
    lease_base: LeaseTimeMs,
    started: Duration,
}

impl Clock {
    /// Clocks that have seen no log yet.
    pub fn new(source: Box<dyn TimeSource>) -> Clock {
        let seen = (source.monotonic(), source.wall());
        Clock {
            source,
            state: Mutex::new(State {
                leadership: None,
                term: None,
                log: Stamps::default(),
                last: Stamps::default(),
                seen,
                jumped_at: None,
                heard: None,
            }),
        }
    }

    /// An entry with this wall clock was applied here, soon after its leader had made it. Not to be
    /// called for entries from before this process started.
    pub fn heard(&self, wall_time: WallTimeUs) {
        let now = self.source.monotonic();
        let mut state = self.state();
        if state.heard.is_none_or(|(_, known)| known < wall_time) {
            state.heard = Some((now, wall_time));
        }
    }

    /// This node leads from now on in `term`, and `last` are the largest stamps in the log below
    /// its first entry. Calling it again for the same term changes nothing.
    ///
    /// Where this machine's wall clock is not where the log's must be by now, that counts as a
    /// jump: one of the two leaders' clocks is wrong.
    pub fn lead(&self, term: Term, last: Stamps) {
        let (now, wall) = (self.source.monotonic(), self.source.wall());
        let mut state = self.state();
        if state
            .leadership
            .as_ref()
            .is_some_and(|leadership| leadership.term == term)
        {
            return;
        }
        state.observe_log(last);
        // The same one again: what it gave out may still get into the log.
        if state.term != Some(term) {
            state.term = Some(term);
            state.last = state.log;
        }
        state.compare_with_log(now, wall);
        let lease_base = state.last.lease_time;
        state.leadership = Some(Leadership {
            term,
            lease_base,
            started: now,
        });
    }

    /// This node does not lead any more.
    pub fn follow(&self) {
        self.state().leadership = None;
    }

    /// Does this node count time for `term`?
    pub fn leads(&self, term: Term) -> bool {
        self.state()
            .leadership
            .as_ref()
            .is_some_and(|leadership| leadership.term == term)
    }

    /// The time of day on this machine, in µs since 1970. May jump: for comparing clocks only.
    pub fn wall(&self) -> WallTimeUs {
        self.source.wall()
    }

    /// The stamps of now, not before `applied`, the last ones applied here. On a node that does not
    /// lead the lease clock stands at the last one applied.
    pub fn now(&self, applied: Stamps) -> Stamps {
        let (monotonic, wall) = (self.source.monotonic(), self.source.wall());
        let mut state = self.state();
        state.notice_jump(monotonic, wall);
        state.observe_log(applied);
        if let Some(leadership) = &state.leadership {
            let elapsed = monotonic.saturating_sub(leadership.started).as_millis();
            let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX);
            let lease_time = leadership.lease_base.saturating_add(elapsed);
            let now = Stamps {
                lease_time,
                wall_time: wall,
            };
            state.last = state.last.max(now);
            state.last
        } else {
            Stamps {
                wall_time: wall.max(state.log.wall_time),
                ..state.log
            }
        }
    }

    /// How long ago the wall clock jumped by more than [`WALL_JUMP_MAX`], if it did since the
    /// start; or a leadership of this node began with a clock so far from the log's.
    pub fn since_wall_jump(&self) -> Option<Duration> {
        let (monotonic, wall) = (self.source.monotonic(), self.source.wall());
        let mut state = self.state();
        state.notice_jump(monotonic, wall);
        state.jumped_at.map(|at| monotonic.saturating_sub(at))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing in here can panic half way, so a poisoned lock still guards a sound state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn observe_log(&mut self, stamps: Stamps) {
        self.log = self.log.max(stamps);
        self.last = self.last.max(stamps);
    }

    /// How long the log was idle is known only where its last entry was seen as it came. Otherwise
    /// the log's clock may be any time behind, but still not ahead.
    fn compare_with_log(&mut self, monotonic: Duration, wall: WallTimeUs) {
        // A new cluster's log tells no time yet.
        if self.last.wall_time == 0 {
            return;
        }
        let off = match self.heard {
            Some((at, heard)) if heard == self.last.wall_time => {
                wall.abs_diff(after(heard, monotonic.saturating_sub(at)))
            }
            _ => u64::try_from(self.last.wall_time.saturating_sub(wall)).unwrap_or(0),
        };
        let off = Duration::from_micros(off);
        if off > WALL_JUMP_MAX {
            let off_ms = off.as_millis();
            tracing::warn!(
                off_ms,
                "this machine's wall clock is not where the log's is"
            );
            self.jumped_at = Some(monotonic);
        }
    }

    fn notice_jump(&mut self, monotonic: Duration, wall: WallTimeUs) {
        let (seen_monotonic, seen_wall) = self.seen;
        let expected = after(seen_wall, monotonic.saturating_sub(seen_monotonic));
        let off = Duration::from_micros(wall.abs_diff(expected));
        if off > WALL_JUMP_MAX {
            tracing::warn!(jump_ms = off.as_millis(), "the wall clock jumped");
            self.jumped_at = Some(monotonic);
        }
        self.seen = (monotonic, wall);
    }
}

fn after(wall: WallTimeUs, elapsed: Duration) -> WallTimeUs {
    wall.saturating_add(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

    use super::*;

    #[derive(Clone, Default)]
    struct Hands(Arc<(AtomicU64, AtomicI64)>);

    impl Hands {
        fn set(&self, monotonic_ms: u64, wall_us: i64) {
            self.0.0.store(monotonic_ms, Ordering::SeqCst);
            self.0.1.store(wall_us, Ordering::SeqCst);
        }
    }

    impl TimeSource for Hands {
        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.0.0.load(Ordering::SeqCst))
        }

        fn wall(&self) -> WallTimeUs {
            self.0.1.load(Ordering::SeqCst)
        }
    }

    fn stamps(lease_time: u64, wall_time: i64) -> Stamps {
        Stamps {
            lease_time,
            wall_time,
        }
    }

    #[test]
    fn lease_time_goes_on_where_the_log_ended() {
        let hands = Hands::default();
        let clock = Clock::new(Box::new(hands.clone()));
        hands.set(10_000, 10_000_000);
        clock.lead(3, stamps(500, 7));
        assert_eq!(clock.now(stamps(500, 7)), stamps(500, 10_000_000));
        hands.set(10_250, 10_250_000);
        assert_eq!(clock.now(stamps(500, 7)).lease_time, 750);
        // The same leadership does not start again.
        clock.lead(3, stamps(750, 7));
        assert_eq!(clock.now(stamps(750, 7)).lease_time, 750);
    }

    #[test]
    fn lease_time_stands_still_without_leadership_and_never_runs_back() {
        let hands = Hands::default();
        let clock = Clock::new(Box::new(hands.clone()));
        clock.lead(1, stamps(0, 0));
        hands.set(400, 0);
        assert_eq!(clock.now(stamps(0, 0)).lease_time, 400);
        clock.follow();
        hands.set(90_000, 0);
        assert_eq!(clock.now(stamps(400, 0)).lease_time, 400);
        // Another leader's log went further meanwhile.
        assert_eq!(clock.now(stamps(1_000, 0)).lease_time, 1_000);
        clock.lead(5, stamps(900, 0));
        assert_eq!(clock.now(stamps(0, 0)).lease_time, 1_000);
    }

    #[test]
    fn what_a_leader_counted_while_it_was_cut_off_is_forgotten() {
        let hands = Hands::default();
        let clock = Clock::new(Box::new(hands.clone()));
        clock.lead(1, stamps(0, 0));
        hands.set(10_000, 9_000_000);
        assert_eq!(clock.now(stamps(300, 0)), stamps(10_000, 9_000_000));
        clock.follow();
        // Another led meanwhile, whose log went on where it could.
        hands.set(12_000, 2_000_000);
        assert_eq!(clock.now(stamps(800, 1_000_000)), stamps(800, 2_000_000));
        clock.lead(3, stamps(900, 1_100_000));
        assert_eq!(clock.now(stamps(900, 0)), stamps(900, 2_000_000));
        hands.set(12_050, 2_050_000);
        assert_eq!(clock.now(stamps(900, 0)), stamps(950, 2_050_000));
    }

    #[test]
    fn a_leadership_that_is_told_of_twice_does_not_run_back() {
        let hands = Hands::default();
        let clock = Clock::new(Box::new(hands.clone()));
        clock.lead(1, stamps(0, 0));
        hands.set(500, 0);
        assert_eq!(clock.now(stamps(100, 0)).lease_time, 500);
        clock.follow();
        hands.set(600, 0);
        clock.lead(1, stamps(100, 0));
        assert_eq!(clock.now(stamps(100, 0)).lease_time, 500);
    }

    #[test]
    fn wall_time_never_runs_back_and_a_jump_is_noticed() {
        let hands = Hands::default();
        let clock = Clock::new(Box::new(hands.clone()));
        clock.lead(1, stamps(0, 0));
        hands.set(1_000, 1_000_000);
        assert_eq!(clock.now(stamps(0, 0)).wall_time, 1_000_000);
        assert_eq!(clock.since_wall_jump(), None);
        hands.set(1_100, -50_000_000);
        assert_eq!(clock.now(stamps(0, 0)), stamps(1_100, 1_000_000));
        assert_eq!(clock.since_wall_jump(), Some(Duration::ZERO));
        hands.set(3_100, -48_000_000);
        assert_eq!(clock.since_wall_jump(), Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_new_leader_whose_clock_is_not_the_logs_counts_as_a_jump() {
        // What was heard, after how long of silence it leads, and its own clock then; in ms.
        let at = |heard: Option<i64>, silence: u64, wall: i64| {
            let hands = Hands::default();
            hands.set(0, 1_000_000_000);
            let clock = Clock::new(Box::new(hands.clone()));
            if let Some(heard) = heard {
                clock.heard(heard * 1000);
            }
            hands.set(silence, wall * 1000);
            clock.lead(2, stamps(0, heard.unwrap_or(1_000_000) * 1000));
            jumped(&clock)
        };
        assert!(!at(Some(1_000_000), 0, 1_000_400));
        assert!(
            !at(Some(1_000_000), 3_600_000, 4_600_400),
            "idle for an hour"
        );
        assert!(at(Some(1_000_000), 0, 1_006_000), "ahead");
        assert!(at(Some(1_000_000), 0, 994_000), "behind");
        assert!(
            at(Some(1_000_000), 3_600_000, 1_000_000),
            "behind by the idle hour"
        );
        assert!(!at(Some(0), 0, 1_000_000), "a new log tells no time");
        // After a restart nothing is known of how old the log is.
        assert!(!at(None, 0, 90_000_000));
        assert!(!at(None, 0, 999_000));
        assert!(at(None, 0, 994_000));
    }

    fn jumped(clock: &Clock) -> bool {
        clock.state().jumped_at.is_some()
    }

    #[test]
    fn the_machines_clocks_run() {
        let source = SystemTimeSource::default();
        let (before, wall) = (source.monotonic(), source.wall());
        assert!(source.monotonic() >= before);
        assert!(wall > 1_600_000_000_000_000, "{wall}");
    }
}
