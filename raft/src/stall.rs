//! A leader whose disk stands still.
//!
//! Its heartbeats go on, so nobody elects another; but it applies nothing that its own log does not
//! hold, so it answers no write. Others could.

use std::collections::BTreeMap;

use types::ids::NodeId;
use types::limits::LOG_STALL_MAX_MS;

use crate::rpc::messages::StatusResponse;

/// How much sooner than the leader's the log of its successor must move: of two slow disks neither
/// is worth an election.
const SOONER: u64 = 4;

/// Who is to lead in place of `leader`, from what each member says of itself; none while the
/// leader's log is written, or where nobody's is.
pub(crate) fn successor(
    leader: NodeId,
    voters: impl Iterator<Item = NodeId>,
    answers: &BTreeMap<NodeId, StatusResponse>,
) -> Option<NodeId> {
    let stalled = answers.get(&leader)?.log_write_ms >= LOG_STALL_MAX_MS;
    let moves = |answer: &StatusResponse| {
        answer.log_write_ms < LOG_STALL_MAX_MS / SOONER && !answer.draining && !answer.disk_full
    };
    voters
        .filter(|voter| stalled && *voter != leader)
        .find(|voter| answers.get(voter).is_some_and(moves))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(log_write_ms: u64) -> StatusResponse {
        StatusResponse {
            log_write_ms,
            ..StatusResponse::default()
        }
    }

    fn successor_of(first: u64, others: [StatusResponse; 2]) -> Option<NodeId> {
        let [second, third] = others;
        let answers = BTreeMap::from([(1, answer(first)), (2, second), (3, third)]);
        successor(1, 1..=4, &answers)
    }

    #[test]
    fn a_voter_whose_disk_moves_leads_in_place_of_one_whose_disk_does_not() {
        let fine = || answer(3);
        let still = || answer(LOG_STALL_MAX_MS);
        assert_eq!(successor_of(20, [fine(), fine()]), None);
        assert_eq!(successor_of(LOG_STALL_MAX_MS, [fine(), fine()]), Some(2));
        assert_eq!(successor_of(LOG_STALL_MAX_MS, [still(), fine()]), Some(3));
        assert_eq!(successor_of(LOG_STALL_MAX_MS, [still(), still()]), None);
        let draining = StatusResponse {
            draining: true,
            ..fine()
        };
        let full = StatusResponse {
            disk_full: true,
            ..fine()
        };
        assert_eq!(successor_of(LOG_STALL_MAX_MS, [draining, full]), None);
    }
}
