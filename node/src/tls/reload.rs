//! Certificates that are replaced while the node runs.
//!
//! The files are looked at every few seconds, and at SIGHUP. What is new in them is used for
//! connections that begin from then on, on both ends of those between nodes; those there are go on.
//! What cannot be used is said, and the certificate that was used before goes on being used.
//!
//! A certificate and its key are two files, and nobody replaces both in the same moment. So without
//! a signal they are used once two looks in a row have found the same.

use std::io;
use std::time::Duration;

use raft::{Certificate, Certificates};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use types::limits::TLS_FILES_LOOK_INTERVAL_MS;

use super::{Acceptor, TlsError};
use crate::config::{Config, ConfigError};

/// What the two listeners shake hands with, and how that is replaced.
pub struct Listeners {
    /// Makes TLS streams of connections to the HTTP listener; none: it has no TLS.
    pub http: Option<Acceptor>,
    /// The same of the RPC listener.
    pub rpc: Option<Acceptor>,
    /// What they show, whenever it changes.
    pub certificates: watch::Receiver<Certificates>,
    /// Keeps them as the files are, while it is polled.
    pub reload: Reload,
}

/// The task.
pub struct Reload {
    kept: Vec<Box<dyn Keep + Send>>,
    shown: watch::Sender<Certificates>,
}

impl Listeners {
    /// As configured. The files were read when the configuration was.
    pub fn new(config: &Config) -> Result<Listeners, TlsError> {
        let mut kept: Vec<Box<dyn Keep + Send>> = Vec::new();
        let http = config.http_tls.as_ref().map(Acceptor::http).transpose()?;
        if let (Some(acceptor), Some(files), Some(tls)) =
            (&http, &config.http_files, &config.http_tls)
        {
            let (acceptor, files) = (acceptor.clone(), files.clone());
            kept.push(Box::new(Kept {
                listener: "http",
                not_after_s: acceptor.not_after_s(),
                in_force: tls.clone(),
                seen: None,
                replaced: 0,
                refused: false,
                read: Box::new(move || files.read()),
                replace: Box::new(move |tls| acceptor.replace(Acceptor::http(tls)?)),
                slot: |shown| &mut shown.http,
            }));
        }
        let rpc_tls = config.rpc_tls.as_ref().map(raft::SharedTls::current);
        let rpc = rpc_tls.as_deref().map(Acceptor::rpc).transpose()?;
        if let (Some(acceptor), Some(files), Some(shared)) =
            (&rpc, &config.rpc_files, &config.rpc_tls)
        {
            let (acceptor, files, shared) = (acceptor.clone(), files.clone(), shared.clone());
            kept.push(Box::new(Kept {
                listener: "rpc",
                not_after_s: acceptor.not_after_s(),
                in_force: raft::Tls::clone(&shared.current()),
                seen: None,
                replaced: 0,
                refused: false,
                read: Box::new(move || files.read()),
                replace: Box::new(move |tls: &raft::Tls| {
                    let not_after_s = acceptor.replace(Acceptor::rpc(tls)?)?;
                    shared.replace(tls.clone());
                    Ok(not_after_s)
                }),
                slot: |shown| &mut shown.rpc,
            }));
        }
        let (shown, certificates) = watch::channel(Certificates::default());
        let reload = Reload { kept, shown };
        reload.show();
        Ok(Listeners {
            http,
            rpc,
            certificates,
            reload,
        })
    }
}

impl Reload {
    /// Looks at the files until it is dropped. Without files SIGHUP changes nothing, and ends
    /// nothing either.
    ///
    /// # Errors
    /// The system's, where signals cannot be waited for.
    pub fn start(self) -> io::Result<()> {
        let hangup = signal(SignalKind::hangup())?;
        tokio::spawn(self.run(hangup));
        Ok(())
    }

    async fn run(mut self, mut hangup: Signal) {
        let mut every = tokio::time::interval(Duration::from_millis(TLS_FILES_LOOK_INTERVAL_MS));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let told = tokio::select! {
                told = hangup.recv() => {
                    if told.is_none() {
                        return;
                    }
                    tracing::info!("SIGHUP: reading the files of the certificates");
                    true
                }
                _ = every.tick() => false,
            };
            let looking = tokio::task::spawn_blocking(move || {
                self.look(told);
                self
            });
            // It panics or ends with the process.
            let Ok(looked) = looking.await else { return };
            self = looked;
        }
    }

    /// Blocks on the disk.
    fn look(&mut self, told: bool) {
        for kept in &mut self.kept {
            kept.look(told);
        }
        self.show();
    }

    fn show(&self) {
        self.shown.send_modify(|shown| {
            for kept in &self.kept {
                kept.show(shown);
            }
        });
    }
}

/// What is kept as its files are.
trait Keep {
    fn look(&mut self, told: bool);
    fn show(&self, shown: &mut Certificates);
}

type Read<T> = Box<dyn Fn() -> Result<T, ConfigError> + Send>;
type Replace<T> = Box<dyn Fn(&T) -> Result<Option<i64>, TlsError> + Send>;

/// The files of one listener.
struct Kept<T> {
    /// Which, in log lines.
    listener: &'static str,
    in_force: T,
    not_after_s: Option<i64>,
    /// What the last look found, where that is not in force.
    seen: Option<Result<T, ConfigError>>,
    /// How often it was replaced.
    replaced: u64,
    /// It cannot be used, which has been said.
    refused: bool,
    read: Read<T>,
    /// Uses it from now on, and says until when it is good.
    replace: Replace<T>,
    slot: fn(&mut Certificates) -> &mut Option<Certificate>,
}

impl<T: PartialEq> Keep for Kept<T> {
    fn look(&mut self, told: bool) {
        let found = (self.read)();
        if found.as_ref().is_ok_and(|found| *found == self.in_force) {
            (self.seen, self.refused) = (None, false);
            return;
        }
        let settled = self.seen.as_ref() == Some(&found);
        self.refused &= settled;
        if !told && (!settled || self.refused) {
            self.seen = Some(found);
            return;
        }
        let listener = self.listener;
        let used = match &found {
            Ok(tls) => (self.replace)(tls).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match (used, found) {
            (Ok(not_after_s), Ok(tls)) => {
                tracing::info!(listener, not_after_s, "the certificate was replaced");
                (self.in_force, self.not_after_s) = (tls, not_after_s);
                (self.seen, self.refused) = (None, false);
                self.replaced += 1;
            }
            (Err(error), found) => {
                tracing::warn!(
                    listener,
                    error,
                    "new files of a certificate cannot be used; the old one goes on being used"
                );
                (self.seen, self.refused) = (Some(found), true);
            }
            (Ok(_), Err(_)) => {}
        }
    }

    fn show(&self, shown: &mut Certificates) {
        *(self.slot)(shown) = Some(Certificate {
            not_after_s: self.not_after_s,
            replaced: self.replaced,
            refused: self.refused,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    /// Files that hold a number: an odd one cannot be used.
    struct Bench {
        file: Arc<Mutex<Option<i64>>>,
        used: Arc<Mutex<Vec<i64>>>,
        kept: Kept<i64>,
    }

    impl Bench {
        fn new() -> Bench {
            let file = Arc::new(Mutex::new(Some(0)));
            let used = Arc::new(Mutex::new(Vec::new()));
            let (on_disk, uses) = (Arc::clone(&file), Arc::clone(&used));
            let missing = || crate::config::ConfigError::of("it is gone");
            let kept = Kept {
                listener: "test",
                in_force: 0,
                not_after_s: None,
                seen: None,
                replaced: 0,
                refused: false,
                read: Box::new(move || on_disk.lock().ok_or_else(missing)),
                replace: Box::new(move |number: &i64| {
                    if number % 2 != 0 {
                        return Err(TlsError("it is odd".into()));
                    }
                    uses.lock().push(*number);
                    Ok(Some(*number))
                }),
                slot: |shown| &mut shown.http,
            };
            Bench { file, used, kept }
        }

        /// What one look at this comes to: what is in force, and whether newer is refused.
        fn look(&mut self, found: Option<i64>, told: bool) -> (i64, bool) {
            *self.file.lock() = found;
            self.kept.look(told);
            let mut shown = Certificates::default();
            self.kept.show(&mut shown);
            let refused = shown.http.is_some_and(|certificate| certificate.refused);
            (self.kept.in_force, refused)
        }
    }

    #[test]
    fn what_two_looks_found_is_used_and_what_is_told_of_at_once() {
        let mut bench = Bench::new();
        assert_eq!(bench.look(Some(0), false), (0, false), "nothing is new");
        assert_eq!(
            bench.look(Some(2), false),
            (0, false),
            "it may be half there"
        );
        assert_eq!(bench.look(Some(4), false), (0, false), "and was");
        assert_eq!(bench.look(Some(4), false), (4, false));
        assert_eq!(bench.look(Some(4), true), (4, false), "nothing is new");
        assert_eq!(bench.look(Some(6), true), (6, false));
        assert_eq!(*bench.used.lock(), [4, 6], "each once");
    }

    #[test]
    fn what_cannot_be_used_is_told_and_the_old_one_stays() {
        let mut bench = Bench::new();
        assert_eq!(
            bench.look(Some(1), false),
            (0, false),
            "it may be half there"
        );
        for _again in 0..2 {
            assert_eq!(bench.look(Some(1), false), (0, true));
        }
        assert_eq!(bench.look(None, false), (0, false), "something new");
        assert_eq!(bench.look(None, false), (0, true), "gone");
        assert_eq!(bench.look(Some(3), true), (0, true), "told of");
        assert_eq!(bench.look(Some(0), false), (0, false), "put back");
        assert_eq!(bench.look(Some(3), true), (0, true));
        assert_eq!(bench.look(Some(8), true), (8, false), "mended");
    }
}
