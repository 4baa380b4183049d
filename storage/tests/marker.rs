//! The marker of the log: what it holds comes back, also after a torn write.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::path::PathBuf;

use storage::Error;
use storage::marker::{Durable, Marker};
use tempfile::TempDir;

/// Where the slots start.
const SLOTS: [usize; 2] = [0, 4096];

fn path() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("marker");
    (dir, path)
}

fn at(index: u64, term: u64) -> Durable {
    Durable {
        index,
        term,
        vote_term: 4,
    }
}

fn held(path: &std::path::Path) -> Option<Durable> {
    Marker::open(path).unwrap().1
}

#[test]
fn what_was_recorded_comes_back() {
    let (_dir, path) = path();
    let (mut marker, nothing) = Marker::open(&path).unwrap();
    assert_eq!(nothing, None);
    assert_eq!(held(&path), None);
    for index in 1..10 {
        marker.record(at(index, index / 3)).unwrap();
        assert_eq!(held(&path), Some(at(index, index / 3)));
    }
    // Same index, new term: the entry was replaced.
    marker.record(at(9, 7)).unwrap();
    assert_eq!(held(&path), Some(at(9, 7)));
    drop(marker);
    let (mut marker, _) = Marker::open(&path).unwrap();
    marker.record(at(10, 7)).unwrap();
    assert_eq!(held(&path), Some(at(10, 7)));
}

#[test]
fn only_lower_goes_back() {
    let (_dir, path) = path();
    let (mut marker, _) = Marker::open(&path).unwrap();
    marker.lower(5, 1).unwrap();
    assert_eq!(held(&path), None, "there was nothing to lower");
    marker.record(at(8, 1)).unwrap();
    marker.lower(9, 1).unwrap();
    assert_eq!(held(&path), Some(at(8, 1)), "never raises");
    marker.lower(3, 1).unwrap();
    assert_eq!(held(&path), Some(at(3, 1)));
    marker.record(at(4, 2)).unwrap();
    assert_eq!(held(&path), Some(at(4, 2)));
}

#[test]
#[should_panic(expected = "is below the marker's")]
fn a_log_that_got_shorter_unannounced_is_a_defect() {
    let (_dir, path) = path();
    let (mut marker, _) = Marker::open(&path).unwrap();
    marker.record(at(8, 1)).unwrap();
    marker.record(at(7, 2)).unwrap();
}

/// Cut off after every byte, the last write is not there and the one before it is.
#[test]
fn a_torn_write_leaves_the_one_before() {
    let (_dir, path) = path();
    let (mut marker, _) = Marker::open(&path).unwrap();
    let mut before = fs::read(&path).unwrap();
    for index in 1..=3 {
        let older = held(&path);
        marker.record(at(index * 1_000_003, 1)).unwrap();
        let newer = held(&path);
        let after = fs::read(&path).unwrap();
        let slot = if before[..SLOTS[1]] == after[..SLOTS[1]] {
            SLOTS[1]
        } else {
            SLOTS[0]
        };
        for torn in 0..=40 {
            let mut bytes = before.clone();
            bytes[slot..slot + torn].copy_from_slice(&after[slot..slot + torn]);
            let expected = if bytes == after { newer } else { older };
            fs::write(&path, &bytes).unwrap();
            assert_eq!(held(&path), expected, "{torn} bytes of write {index}");
        }
        before = after;
    }
}

#[test]
fn a_file_that_is_no_marker_is_refused() {
    let (_dir, path) = path();
    let (mut marker, _) = Marker::open(&path).unwrap();
    marker.record(at(1, 1)).unwrap();
    marker.record(at(2, 1)).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| SLOTS.into_iter().for_each(|at| bytes[at + 15] ^= 1),
        |bytes| bytes.truncate(4096),
        Vec::clear,
        |bytes| bytes.push(0),
    ];
    for damage in damages {
        let mut bad = bytes.clone();
        damage(&mut bad);
        fs::write(&path, &bad).unwrap();
        let refused = Marker::open(&path);
        let Err(Error::Corrupt { what }) = refused else {
            panic!("{refused:?}")
        };
        assert!(what.contains("marker is damaged"), "{what}");
    }
    bytes[SLOTS[1] + 15] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(held(&path), Some(at(2, 1)), "one good slot is enough");
}

/// The bytes are on disks.
#[test]
fn the_file_is_frozen() {
    let (_dir, path) = path();
    let (mut marker, _) = Marker::open(&path).unwrap();
    marker
        .record(Durable {
            index: 0x0102,
            term: 3,
            vote_term: 5,
        })
        .unwrap();
    let bytes = fs::read(&path).unwrap();
    let mut expected = vec![0; 8192];
    let record = b"DMK2\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x05";
    expected[SLOTS[1]..SLOTS[1] + 36].copy_from_slice(record);
    let crc = 0x072e_da86_u32;
    expected[SLOTS[1] + 36..SLOTS[1] + 40].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(bytes, expected);
}

#[test]
#[should_panic(expected = "is below the marker's")]
fn a_vote_that_went_back_is_a_defect() {
    let (_dir, path) = path();
    let (mut marker, _) = Marker::open(&path).unwrap();
    marker.record(at(8, 1)).unwrap();
    marker
        .record(Durable {
            vote_term: 3,
            ..at(8, 1)
        })
        .unwrap();
}
