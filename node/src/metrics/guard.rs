//! What the node watches itself for: a disk that fills, and a state that differs.

use raft::Raft;

use super::text::{Family, Text};

const DISK_FULL: Family = Family::gauge(
    "duet_disk_full",
    "1 while less than the reserve is free on the data directory's file system.",
);
const GROWTH_REFUSED: Family = Family::gauge(
    "duet_growth_refused",
    "1 while the node leads and refuses writes that grow, because too few voters have room.",
);
const DIFFERING: Family = Family::gauge(
    "duet_digest_differing_members",
    "Members whose state differs from the leader's at the entry compared last; only on the leader.",
);
const COMPARED: Family = Family::gauge(
    "duet_digest_compared_index",
    "The entry at which the leader compared the members' states last; 0: none yet.",
);

/// Writes what concerns the disk's reserve and the replicas' sameness.
pub fn render(text: &mut Text, raft: &Raft) {
    let (differing, compared) = raft.differing_members();
    text.one(&DISK_FULL, u64::from(raft.disk().full));
    text.one(&GROWTH_REFUSED, u64::from(raft.growth_refused()));
    text.one(&DIFFERING, differing);
    text.one(&COMPARED, compared);
}
