//! Passwords: argon2id in PHC string form, with the crate's defaults (19 MiB, 2 passes, RFC 9106).
//!
//! Hashing takes tens of milliseconds of a core on purpose, and anybody may ask for it by trying to
//! log in. So a node does few at once, and few wait: [`PasswordWork`].

use std::sync::Arc;
use std::time::Instant;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use types::limits::{
    PASSWORD_MAX_BYTES, PASSWORD_MIN_BYTES, PASSWORDS_AT_ONCE, PASSWORDS_WAITING_MAX,
};
use types::{Error, ErrorCode, Result};

/// The hash of a password that a user chose. INVALID_INPUT if its length is out of bounds.
pub fn hash_checked(password: &str) -> Result<String> {
    if !(PASSWORD_MIN_BYTES..=PASSWORD_MAX_BYTES).contains(&password.len()) {
        return Err(Error::new(
            ErrorCode::InvalidInput,
            format!("a password must have {PASSWORD_MIN_BYTES} to {PASSWORD_MAX_BYTES} bytes"),
        ));
    }
    hash(password)
}

/// The hash of a password that an operator gave, whatever its length.
pub fn hash(password: &str) -> Result<String> {
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|e| {
            Error::new(
                ErrorCode::InternalError,
                format!("password hashing failed: {e}"),
            )
        })
}

/// Is it the password behind the hash? An empty hash (no password set) matches nothing.
pub fn verify(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| {
        Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok()
    })
}

/// Does the work of hashing and checking, [`PASSWORDS_AT_ONCE`]. Cheap to clone; clones share their
/// places.
#[derive(Clone)]
pub struct PasswordWork {
    /// For those at work and those who wait.
    places: Arc<Semaphore>,
    working: Arc<Semaphore>,
}

const OPEN: &str = "the semaphore is never closed";

impl Default for PasswordWork {
    fn default() -> PasswordWork {
        PasswordWork {
            places: Arc::new(Semaphore::new(PASSWORDS_AT_ONCE + PASSWORDS_WAITING_MAX)),
            working: Arc::new(Semaphore::new(PASSWORDS_AT_ONCE)),
        }
    }
}

impl PasswordWork {
    /// Does `work` when it is its turn. RATE_LIMIT_EXCEEDED if too many wait already,
    /// DEADLINE_EXCEEDED if it is not done by then.
    pub async fn run<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let place = self.place()?;
        let working = Arc::clone(&self.working);
        let done = async {
            let turn = working.acquire_owned().await.expect(OPEN);
            // Both are held until the work is done: a caller who leaves makes no room for another.
            let work = tokio::task::spawn_blocking(move || {
                let _held = (place, turn);
                work()
            });
            work.await.map_err(|e| {
                let message = format!("a password could not be worked on: {e}");
                Error::new(ErrorCode::InternalError, message)
            })
        };
        match tokio::time::timeout_at(deadline.into(), done).await {
            Ok(done) => done,
            Err(_) => Err(Error::new(
                ErrorCode::DeadlineExceeded,
                "too many passwords waited to be checked",
            )),
        }
    }

    /// The same, for a worker of a runtime that cannot await here. The runtime goes on without it.
    fn run_here<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        let _place = self.place()?;
        Ok(tokio::task::block_in_place(|| {
            let turn = self.working.acquire();
            let _turn = Handle::current().block_on(turn).expect(OPEN);
            work()
        }))
    }

    fn place(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            Error::new(
                ErrorCode::RateLimitExceeded,
                "too many passwords wait to be checked or hashed",
            )
        })
    }
}

/// The hasher as the planner of CREATE USER wants it.
pub struct Hasher(pub PasswordWork);

impl sql::PasswordHasher for Hasher {
    fn hash(&self, password: &str) -> Result<String> {
        self.0.run_here(|| hash_checked(password))?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    fn code<T>(result: Result<T>) -> Option<ErrorCode> {
        result.err().map(|error| error.code)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn few_passwords_are_worked_on_and_few_wait() {
        let work = PasswordWork::default();
        let late = Instant::now() + Duration::from_secs(60);
        let mut tasks = tokio::task::JoinSet::new();
        let mut go_on = Vec::new();
        for _ in 0..PASSWORDS_AT_ONCE + PASSWORDS_WAITING_MAX {
            let (sender, receiver) = mpsc::channel::<()>();
            go_on.push(sender);
            let work = work.clone();
            tasks.spawn(async move { work.run(late, move || receiver.recv().is_err()).await });
        }
        while work.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let one_more = work.run(late, || ()).await;
        assert_eq!(code(one_more), Some(ErrorCode::RateLimitExceeded));
        let hasher = Hasher(work.clone());
        let statement =
            tokio::spawn(
                async move { code(sql::PasswordHasher::hash(&hasher, "correct horse 9")) },
            );
        assert_eq!(
            statement.await.expect("runs"),
            Some(ErrorCode::RateLimitExceeded)
        );

        drop(go_on);
        while let Some(done) = tasks.join_next().await {
            assert_eq!(done.expect("runs"), Ok(true));
        }
        assert_eq!(work.run(late, || 7).await, Ok(7));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_waits_for_a_turn_waits_until_the_deadline() {
        let work = PasswordWork::default();
        let turns = u32::try_from(PASSWORDS_AT_ONCE).expect("fits");
        let all = work.working.acquire_many(turns).await.expect(OPEN);
        let soon = Instant::now() + Duration::from_millis(10);
        let waited = work.run(soon, || ()).await;
        assert_eq!(code(waited), Some(ErrorCode::DeadlineExceeded));
        drop(all);
        let hasher = Hasher(work);
        let hashed =
            tokio::spawn(async move { sql::PasswordHasher::hash(&hasher, "correct horse 9") });
        assert!(hashed.await.expect("runs").is_ok());
    }

    #[test]
    fn a_hash_fits_its_password_only() {
        let hash = hash_checked("correct horse 9").expect("hashes");
        assert!(hash.starts_with("$argon2id$"));
        assert!(verify("correct horse 9", &hash));
        assert!(!verify("correct horse 8", &hash));
        assert!(!verify("", ""));
    }

    #[test]
    fn a_short_password_is_refused() {
        let error = hash_checked("1234567").expect_err("refused");
        assert_eq!(error.code, ErrorCode::InvalidInput);
    }
}
