//! The bytes of stored messages. What is frozen here is on disks: a change needs a new form.

use proptest::prelude::*;
use storage::Error;
use storage::keys::topics::message as message_key;
use topics::message::{Message, decode};
use types::ids::Version;
use types::schema::{PayloadMode, RowOp};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn update() -> Message<'static> {
    Message {
        renderer: 1,
        op: RowOp::Update,
        payload: PayloadMode::Diff,
        version: Version {
            index: 0x0102,
            ordinal: 3,
        },
        wall_time: 1_776_513_600_123_456,
        table_id: 9,
        user: "user_123",
        key: "01HS",
        before: Some(&[0, 0, 0, 1, 1]),
        after: Some(&[0, 0, 0, 2, 1, 2]),
        chain: 0xc0ff_ee00_0000_0007,
    }
}

#[test]
fn the_bytes_of_a_message() {
    let stored = update().encode(&message_key(1, 0, 5));
    assert_eq!(
        hex(&stored),
        "01010102\
         000000000000010200000003\
         00064fbace12f240\
         00000009\
         08757365725f313233\
         0430314853\
         060000000101\
         07000000020102\
         c0ffee0000000007\
         da7b0bcc"
    );
}

#[test]
fn an_image_that_is_not_there_is_not_an_empty_one() {
    let key = message_key(1, 0, 0);
    for (before, after) in [(None, Some(&[][..])), (Some(&[][..]), None), (None, None)] {
        let message = Message {
            before,
            after,
            ..update()
        };
        assert_eq!(decode(&key, &message.encode(&key)).unwrap(), message);
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let key = message_key(1, 0, 5);
    let stored = update().encode(&key);
    for at in 0..stored.len() * 8 {
        let mut damaged = stored.clone();
        damaged[at / 8] ^= 1 << (at % 8);
        assert!(
            matches!(decode(&key, &damaged), Err(Error::Corrupt { .. })),
            "bit {at}"
        );
    }
    for len in 0..stored.len() {
        assert!(
            matches!(decode(&key, &stored[..len]), Err(Error::Corrupt { .. })),
            "{len}"
        );
    }
}

#[test]
fn a_message_is_good_at_its_own_offset_only() {
    let stored = update().encode(&message_key(1, 0, 5));
    assert!(decode(&message_key(1, 0, 5), &stored).is_ok());
    for elsewhere in [
        message_key(1, 0, 6),
        message_key(1, 1, 5),
        message_key(2, 0, 5),
    ] {
        assert!(matches!(
            decode(&elsewhere, &stored),
            Err(Error::Corrupt { .. })
        ));
    }
}

#[test]
fn a_form_of_the_future_is_not_called_damage() {
    let key = message_key(1, 0, 5);
    let mut stored = update().encode(&key);
    stored.truncate(stored.len() - 4);
    stored[0] = 2;
    let crc = crc32fast::hash(&[key.as_slice(), &stored].concat());
    stored.extend_from_slice(&crc.to_be_bytes());
    assert!(matches!(decode(&key, &stored), Err(Error::Foreign { .. })));
}

#[test]
fn milliseconds_round_down_before_1970_too() {
    let at = |wall_time| {
        Message {
            wall_time,
            ..update()
        }
        .timestamp_ms()
    };
    assert_eq!((at(1_999), at(-1), at(-1_000)), (1, -1, -1));
}

proptest! {
    #[test]
    fn messages_come_back(
        ids in (any::<u64>(), any::<u32>(), any::<i64>(), any::<u32>()),
        op in 0..3_i32,
        payload in 0..3_i32,
        user in ".{0,40}",
        key in ".{0,300}",
        before in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
        after in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
    ) {
        let (index, ordinal, wall_time, table_id) = ids;
        let message = Message {
            renderer: 1,
            op: RowOp::try_from(op).unwrap(),
            payload: PayloadMode::try_from(payload).unwrap(),
            version: Version { index, ordinal },
            wall_time,
            table_id,
            user: &user,
            key: &key,
            before: before.as_deref(),
            after: after.as_deref(),
            chain: index.rotate_left(7),
        };
        let storage_key = message_key(3, 2, index);
        let stored = message.encode(&storage_key);
        prop_assert_eq!(decode(&storage_key, &stored).unwrap(), message);
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let key = message_key(1, 0, 0);
        let mut sealed = bytes.clone();
        let crc = crc32fast::hash(&[key.as_slice(), &bytes].concat());
        sealed.extend_from_slice(&crc.to_be_bytes());
        prop_assert!(decode(&key, &bytes).is_err());
        // With a good checksum whatever is decoded must be what encodes to the same bytes.
        if let Ok(message) = decode(&key, &sealed) {
            prop_assert_eq!(message.encode(&key), sealed);
        }
    }
}
