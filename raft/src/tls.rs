//! A node's part in mutual TLS, and what is known of the certificates it shows.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use types::ids::WallTimeUs;

/// A node's part in mutual TLS. All in PEM, as read from the files.
///
/// This crate makes the connections to other nodes with it. The listener is the node's own, which
/// has to demand a certificate of the same authority from whoever connects.
#[derive(Clone, PartialEq, Eq)]
pub struct Tls {
    /// This node's certificate, and behind it those between it and the authority. It must be good
    /// for both ends of a connection, and name the host of the address that others reach it under.
    pub certificate: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
    /// The authorities whose certificates the other nodes show; more than one while they change.
    pub authorities: Vec<u8>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(…)")
    }
}

/// [`Tls`] that may be replaced while the node runs. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct SharedTls(Arc<RwLock<Arc<Tls>>>);

impl SharedTls {
    /// With this to begin with.
    pub fn new(tls: Tls) -> SharedTls {
        SharedTls(Arc::new(RwLock::new(Arc::new(tls))))
    }

    /// What new connections are made with.
    pub fn current(&self) -> Arc<Tls> {
        // It is replaced as a whole, so a panic leaves it sound.
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Calls that begin from now on go over connections made with `tls`. Those under way end on
    /// the connections they are on.
    pub fn replace(&self, tls: Tls) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tls);
    }
}

/// What is known of a certificate that this node shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Until when it and those behind it are good, in seconds since 1970; none: it does not say.
    pub not_after_s: Option<i64>,
    /// How often it was replaced since the node started.
    pub replaced: u64,
    /// Its files hold something newer that cannot be used.
    pub refused: bool,
}

/// The certificates this node shows, where it has any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Certificates {
    /// To clients.
    pub http: Option<Certificate>,
    /// To other nodes.
    pub rpc: Option<Certificate>,
}

impl Certificates {
    fn all(&self) -> impl Iterator<Item = Certificate> {
        [self.http, self.rpc].into_iter().flatten()
    }

    /// For how long the first of them that ends is still good, in seconds; less than 0: it is not
    /// any more. None where there is none.
    pub fn expire_in_s(&self, now: WallTimeUs) -> Option<i64> {
        let first = self.all().filter_map(|it| it.not_after_s).min()?;
        Some(first.saturating_sub(now.div_euclid(1_000_000)))
    }

    /// Does one of them have newer files that cannot be used?
    pub fn refused(&self) -> bool {
        self.all().any(|certificate| certificate.refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_ends_counts_and_none_ends_where_none_is_shown() {
        let until = |s| {
            Some(Certificate {
                not_after_s: Some(s),
                replaced: 0,
                refused: s == 9,
            })
        };
        let none = Certificates::default();
        assert_eq!((none.expire_in_s(0), none.refused()), (None, false));
        let (http, rpc) = (until(12), until(9));
        let both = Certificates { http, rpc };
        assert_eq!(both.expire_in_s(5_999_999), Some(4));
        assert_eq!(both.expire_in_s(10_000_000), Some(-1));
        assert!(both.refused());
        let rpc = None;
        assert!(!Certificates { http, rpc }.refused());
    }
}
