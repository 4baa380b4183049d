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
        marker.record(index, index / 3).unwrap();
        assert_eq!(
            held(&path),
            Some(Durable {
                index,
                term: index / 3
            })
        );
    }
    // Same index, new term: the entry was replaced.
    marker.record(9, 7).unwrap();
    assert_eq!(held(&path), Some(Durable { index: 9, term: 7 }));
    drop(marker);
    let (mut marker, _) = Marker::open(&path).unwrap();
    marker.record(10, 7).unwrap();
    assert_eq!(held(&path), Some(Durable { index: 10, term: 7 }));
}

#[test]
fn only_lower_goes_back() {
    let (_dir, path) = path();
    let (mut marker, _) = Marker::open(&path).unwrap();
    marker.lower(5, 1).unwrap();
    assert_eq!(held(&path), None, "there was nothing to lower");
    marker.record(8, 1).unwrap();
    marker.lower(9, 1).unwrap();
    assert_eq!(
        held(&path),
        Some(Durable { index: 8, term: 1 }),
        "never raises"
    );
    marker.lower(3, 1).unwrap();
    assert_eq!(held(&path), Some(Durable { index: 3, term: 1 }));
    marker.record(4, 2).unwrap();
    assert_eq!(held(&path), Some(Durable { index: 4, term: 2 }));
}

#[test]
#[should_panic(expected = "is below the marker's")]
fn a_log_that_got_shorter_unannounced_is_a_defect() {
    let (_dir, path) = path();
    let (mut marker, _) = Marker::open(&path).unwrap();
    marker.record(8, 1).unwrap();
    marker.record(7, 2).unwrap();
}

/// Cut off after every byte, the last write is not there and the one before it is.
#[test]
fn a_torn_write_leaves_the_one_before() {
    let (_dir, path) = path();
    let (mut marker, _) = Marker::open(&path).unwrap();
    let mut before = fs::read(&path).unwrap();
    for index in 1..=3 {
        let older = held(&path);
        marker.record(index * 1_000_003, 1).unwrap();
        let newer = held(&path);
        let after = fs::read(&path).unwrap();
        let slot = if before[..SLOTS[1]] == after[..SLOTS[1]] {
            SLOTS[1]
        } else {
            SLOTS[0]
        };
        for torn in 0..=32 {
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
    marker.record(1, 1).unwrap();
    marker.record(2, 1).unwrap();
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
    assert_eq!(
        held(&path),
        Some(Durable { index: 2, term: 1 }),
        "one good slot is enough"
    );
}

/// The bytes are on disks.
#[test]
fn the_file_is_frozen() {
    let (_dir, path) = path();
    let (mut marker, _) = Marker::open(&path).unwrap();
    marker.record(0x0102, 3).unwrap();
    let bytes = fs::read(&path).unwrap();
    let mut expected = vec![0; 8192];
    let record = b"DMK1\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\0\x03";
    expected[SLOTS[1]..SLOTS[1] + 28].copy_from_slice(record);
    let crc = 0x75b9_4edc_u32;
    expected[SLOTS[1] + 28..SLOTS[1] + 32].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(bytes, expected);
}
