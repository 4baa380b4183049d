//! What lies between nodes, however it is made: it can be cut, and it can be bad.

use std::fmt::Debug;

/// Links between hosts, one in each direction from each to each.
///
/// In the lab these are network namespaces ([`super::Namespaces`]), without it relays
/// ([`super::Relays`]). Who breaks them need not know which.
pub trait Network: Debug {
    /// How many hosts there are.
    fn hosts(&self) -> u8;

    /// What `from` sends does not reach `to` any more; the other direction still works. Connections
    /// are not closed: they fall silent.
    fn deafen(&self, from: u8, to: u8);

    /// Every host reaches every host again.
    fn heal(&self);

    /// The connections of other hosts to this one end all the time: of a thousand pieces that come
    /// by them, `per_mille` end theirs.
    fn reset(&self, host: u8, per_mille: u16);

    /// What this host sends goes no faster than so many kbit a second.
    fn slow(&self, host: u8, kbit: u32);

    /// Pieces so far that a bad link of this host has hit since it became bad.
    fn hits(&self, host: u8) -> u64;

    /// All links are good again.
    fn mend_links(&self);

    /// Nothing goes between two hosts any more, in either direction.
    fn cut(&self, one: u8, other: u8) {
        self.deafen(one, other);
        self.deafen(other, one);
    }

    /// Cuts a host off from all other hosts. This process, which plays the clients, still reaches
    /// it.
    fn isolate(&self, host: u8) {
        for other in (0..self.hosts()).filter(|other| *other != host) {
            self.cut(host, other);
        }
    }
}
