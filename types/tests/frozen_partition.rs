//! Which partition a message goes to. Messages of one key keep their order only while this stays.
//! The figures were computed from the specification of XXH64, not by the code under test.

use types::partition::partition_of;

#[test]
fn partitions_are_frozen() {
    let long_key = "k".repeat(40);
    let frozen = [
        ("", "", [0, 0, 0, 4, 324]),
        ("", "1", [0, 1, 0, 9, 1001]),
        ("ann", "1", [0, 1, 1, 5, 357]),
        // Not the same as the one above: where the user ends counts.
        ("an", "n1", [0, 0, 1, 12, 252]),
        ("user_123", "01HS7Y6W0R5J4Q1M9A1Q7X2ABC", [0, 0, 0, 6, 614]),
        ("é", long_key.as_str(), [0, 0, 2, 12, 12]),
    ];
    for (user, key, expected) in frozen {
        let found = [1, 2, 3, 16, 1024].map(|partitions| partition_of(user, key, partitions));
        assert_eq!(found, expected, "{user:?} {key:?}");
    }
}
