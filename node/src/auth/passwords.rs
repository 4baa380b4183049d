//! Passwords: argon2id in PHC string form, with the crate's defaults (19 MiB, 2 passes, RFC 9106).
//!
//! Hashing takes tens of milliseconds on purpose; call it from a thread that may block.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use types::limits::{PASSWORD_MAX_BYTES, PASSWORD_MIN_BYTES};
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

/// The hasher as the planner of CREATE USER wants it.
pub struct Hasher;

impl sql::PasswordHasher for Hasher {
    fn hash(&self, password: &str) -> Result<String> {
        hash_checked(password)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
