//! Hash chains: each value is a hash of the one before and of what was added, so two chains that
//! end in the same value were, but for chance, made of the same things in the same order.
//!
//! The hash is xxHash64 with the value before as its seed. It finds defects and damage; it does not
//! stop somebody who wants to deceive.

use xxhash_rust::xxh64::Xxh64;

/// The value after `parts` were added to a chain that stood at `before`. An empty chain stands at
/// 0. Where the parts are divided makes no difference: what needs to be told apart carries its
/// length.
pub fn link(before: u64, parts: &[&[u8]]) -> u64 {
    let mut hash = Xxh64::new(before);
    for part in parts {
        hash.update(part);
    }
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::link;

    #[test]
    fn a_chain_tells_order_and_content_apart_and_not_how_it_was_cut() {
        let chain = |items: &[&[u8]]| items.iter().fold(0, |before, item| link(before, &[item]));
        assert_eq!(chain(&[b"a", b"b"]), chain(&[b"a", b"b"]));
        assert_ne!(chain(&[b"a", b"b"]), chain(&[b"b", b"a"]));
        assert_ne!(chain(&[b"a", b"b"]), chain(&[b"ab"]));
        assert_eq!(link(7, &[b"a", b"b"]), link(7, &[b"ab"]));
    }

    #[test]
    fn the_values_are_frozen() {
        // They are in messages on disks, and old and new builds compare them.
        assert_eq!(link(0, &[b""]), 0xef46_db37_51d8_e999);
        assert_eq!(link(0, &[b"duet"]), link(0, &[b"du", b"et"]));
    }
}
