//! What is not as it should be in a cluster, in words, with what to do about it.

use client::api::cluster::{ClusterStatus, Member, MemberRole};

use crate::cli::output::in_units;

/// How far behind a member may be before it is worth a word, in log entries: about where it needs
/// a snapshot instead of the log.
const LAG_MAX: u64 = 10_000;
/// How far two clocks may be apart, in ms. Timestamps and retention follow the leader's clock; a
/// step of 5 s between two leaders pauses retention.
const CLOCKS_APART_MAX_MS: i64 = 2_000;

/// How much of its reserve a disk may have free and count as nearly full: time to make room before
/// growth is refused.
const NEARLY_FULL_RESERVES: u64 = 2;
/// How long a certificate should be good for, in s: enough time to get another one.
const CERTIFICATE_LEFT_MIN_S: i64 = 14 * 86_400;
const DAY_S: f64 = 86_400.0;
/// What to do about a disk.
const MAKE_ROOM: &str = "delete rows, set retention or clear topics, or give it a larger disk \
                         (docs/operations.md, \"A disk is getting full\")";

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub todo: String,
}

fn finding(what: impl Into<String>, todo: impl Into<String>) -> Finding {
    Finding {
        what: what.into(),
        todo: todo.into(),
    }
}

/// How many votes there are and how many are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Votes {
    /// Members whose vote counts.
    pub voters: usize,
    /// Of them, those that answer.
    pub answer: usize,
    /// How many must agree on every write.
    pub quorum: usize,
}

impl Votes {
    /// Of a cluster.
    pub fn of(status: &ClusterStatus) -> Votes {
        let voters = status.members.iter().filter(|member| member.voter);
        let (answer, silent): (Vec<_>, Vec<_>) = voters.partition(|member| answers(member));
        let voters = answer.len() + silent.len();
        Votes {
            voters,
            answer: answer.len(),
            quorum: voters / 2 + 1,
        }
    }

    /// How many more may be lost; none: too many are.
    pub fn spare(self) -> Option<usize> {
        self.answer.checked_sub(self.quorum)
    }
}

/// Everything that is not as it should be, the worst first.
pub fn findings(status: &ClusterStatus) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(quorum(status));
    found.extend(silent(status));
    found.extend(growth(status));
    found.extend(status.members.iter().filter_map(disk));
    found.extend(even(status));
    found.extend(status.members.iter().flat_map(lagging_or_draining));
    found.extend(status.members.iter().flat_map(certificates));
    found.extend(versions(status));
    found.extend(clocks(status));
    found
}

fn answers(member: &Member) -> bool {
    member.role != MemberRole::Unreachable
}

fn quorum(status: &ClusterStatus) -> Option<Finding> {
    let votes = Votes::of(status);
    let Votes {
        voters,
        answer,
        quorum,
    } = votes;
    match votes.spare() {
        None => Some(finding(
            format!(
                "{answer} of {voters} voters answer and {quorum} are needed: no write succeeds"
            ),
            "start the nodes that do not answer",
        )),
        Some(_) if status.leader_id.is_none() => Some(finding(
            "there is no leader: writes wait until one is elected",
            "look again in a few seconds; if it stays so, look into the nodes' logs",
        )),
        Some(0) if voters > answer => Some(finding(
            "one more lost node stops writes",
            "bring back or replace the nodes that do not answer",
        )),
        Some(_) => None,
    }
}

fn silent(status: &ClusterStatus) -> Vec<Finding> {
    let silent = status.members.iter().filter(|member| !answers(member));
    let one = |member: &Member| {
        let id = member.node_id;
        let mut others = status.members.iter();
        let successor = others.find(|other| other.node_id != id && other.rpc == member.rpc);
        match successor {
            Some(other) => finding(
                format!(
                    "node {id} does not answer; at its address {} is node {} now",
                    member.rpc, other.node_id
                ),
                format!("duet cluster replace {id} {}", other.node_id),
            ),
            None => finding(
                format!("node {id} ({}) does not answer", member.rpc),
                format!(
                    "start it again; if its data is lost, start a new node with --join and run \
                     `duet cluster replace {id}`"
                ),
            ),
        }
    };
    silent.map(one).collect()
}

/// Too many voters without room: what grows is refused, wherever it is asked for.
fn growth(status: &ClusterStatus) -> Option<Finding> {
    let Votes { voters, quorum, .. } = Votes::of(status);
    let full = |member: &&Member| member.voter && member.disk_full == Some(true);
    let full = status.members.iter().filter(full).count();
    (full > 0 && voters - full < quorum).then(|| {
        finding(
            format!(
                "{full} of {voters} voters have no room on their disks: writes that grow are \
                 refused (DISK_FULL)"
            ),
            "make room on them; DELETE, CLEAR TOPIC and retention go on, and so do reads",
        )
    })
}

fn disk(member: &Member) -> Option<Finding> {
    let (id, free) = (member.node_id, member.disk_free_bytes?);
    let reserve = member.disk_reserve_bytes.unwrap_or(0);
    let room = format!(
        "{} free, and its reserve is {}",
        in_units(free),
        in_units(reserve)
    );
    if member.disk_full == Some(true) {
        let what = format!("the disk of node {id} is full: {room}");
        return Some(finding(what, MAKE_ROOM));
    }
    let nearly = free < reserve.saturating_mul(NEARLY_FULL_RESERVES);
    nearly.then(|| {
        finding(
            format!("the disk of node {id} is nearly full: {room}"),
            MAKE_ROOM,
        )
    })
}

fn even(status: &ClusterStatus) -> Option<Finding> {
    let voters = Votes::of(status).voters;
    if voters == 0 || voters % 2 == 1 {
        return None;
    }
    let lost = (voters - 1) / 2;
    Some(finding(
        format!(
            "{voters} voters survive the loss of {lost}, as {} would: an even number gains nothing",
            voters - 1
        ),
        "add a node, or remove one",
    ))
}

fn lagging_or_draining(member: &Member) -> Vec<Finding> {
    let mut found = Vec::new();
    let id = member.node_id;
    if let Some(lag) = member.lag.filter(|lag| *lag > LAG_MAX) {
        found.push(finding(
            format!("node {id} is {lag} entries behind"),
            "if the number does not fall, look at its disk, its network and its log",
        ));
    }
    if member.draining {
        found.push(finding(
            format!("node {id} was told to drain"),
            "restart it when it is to take part again, or remove it",
        ));
    }
    found
}

fn certificates(member: &Member) -> Vec<Finding> {
    let mut found = Vec::new();
    let id = member.node_id;
    if member.certificate_refused == Some(true) {
        found.push(finding(
            format!(
                "node {id} cannot use the new files of its certificate and goes on with the old"
            ),
            "its log says what is wrong with them; mend them, and it takes them up by itself",
        ));
    }
    let left = member.certificate_expires_in_seconds;
    if let Some(left) = left.filter(|left| *left < CERTIFICATE_LEFT_MIN_S) {
        let what = match left {
            ..0 => format!("a certificate of node {id} is not valid any more"),
            _ => format!(
                "a certificate of node {id} ends in {:.1} days",
                left as f64 / DAY_S
            ),
        };
        let todo = "replace its files; the node takes them up by itself (docs/operations.md, \
                    \"Certificates and secrets\")";
        found.push(finding(what, todo));
    }
    found
}

fn versions(status: &ClusterStatus) -> Option<Finding> {
    let mut versions: Vec<&str> = status
        .members
        .iter()
        .filter_map(|member| member.version.as_deref())
        .collect();
    versions.sort_unstable();
    versions.dedup();
    (versions.len() > 1).then(|| {
        finding(
            format!("nodes run different versions: {}", versions.join(", ")),
            "finish the upgrade, one node after the other",
        )
    })
}

fn clocks(status: &ClusterStatus) -> Option<Finding> {
    let clocks = status.members.iter();
    let clocks = clocks.filter_map(|member| Some((member.clock_ahead_ms?, member.node_id)));
    let (first, last) = (clocks.clone().min()?, clocks.max()?);
    let apart = last.0.saturating_sub(first.0);
    (apart > CLOCKS_APART_MAX_MS).then(|| {
        finding(
            format!(
                "the clock of node {} is {:.1} s ahead of node {}'s",
                last.1,
                apart as f64 / 1_000.0,
                first.1
            ),
            "let NTP set the clocks of all machines",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cluster::fixture::{cluster, gone, learner, voter};

    fn texts(status: &ClusterStatus) -> Vec<String> {
        findings(status)
            .into_iter()
            .map(|found| found.what)
            .collect()
    }

    #[test]
    fn nothing_is_wrong_with_three_that_answer_nor_with_one() {
        let three = cluster(vec![voter(1), voter(2), voter(3)]);
        assert_eq!(texts(&three), [""; 0]);
        assert_eq!(Votes::of(&three).spare(), Some(1));
        assert_eq!(texts(&cluster(vec![voter(1)])), [""; 0]);
    }

    #[test]
    fn a_lost_voter_is_named_with_the_risk_and_the_command() {
        let status = cluster(vec![voter(1), voter(2), gone(3)]);
        let found = findings(&status);
        assert_eq!(found[0].what, "one more lost node stops writes");
        assert!(found[1].what.starts_with("node 3 "), "{found:?}");
        assert!(
            found[1].todo.contains("duet cluster replace 3"),
            "{found:?}"
        );
        let lost = cluster(vec![voter(1), gone(2), gone(3)]);
        assert!(texts(&lost)[0].contains("2 are needed"), "{lost:?}");
    }

    #[test]
    fn a_node_that_came_back_empty_is_recognized_by_its_address() {
        let mut old = gone(2);
        old.rpc = voter(4).rpc;
        let status = cluster(vec![voter(1), old, voter(3), voter(4)]);
        let todo: Vec<String> = findings(&status).into_iter().map(|it| it.todo).collect();
        assert!(
            todo.contains(&"duet cluster replace 2 4".to_owned()),
            "{todo:?}"
        );
    }

    #[test]
    fn even_numbers_lag_versions_clocks_and_drains() {
        let mut slow = learner(5);
        slow.lag = Some(LAG_MAX + 1);
        let mut old = voter(2);
        old.version = Some("0.0.9".into());
        old.clock_ahead_ms = Some(-CLOCKS_APART_MAX_MS - 1);
        let mut drained = voter(3);
        drained.draining = true;
        let status = cluster(vec![voter(1), old, drained, voter(4), slow]);
        let texts = texts(&status);
        for part in [
            "4 voters survive the loss of 1",
            "node 5 is 10001 entries behind",
            "node 3 was told to drain",
            "different versions: 0.0.9, 0.1.0",
            "is 2.0 s ahead of node 2's",
        ] {
            assert!(
                texts.iter().any(|text| text.contains(part)),
                "{part}: {texts:?}"
            );
        }
        assert_eq!(texts.len(), 5, "{texts:?}");
    }

    #[test]
    fn disks_that_are_full_or_nearly_so_are_named_with_what_to_do() {
        let mut full = voter(2);
        (full.disk_full, full.disk_free_bytes) = (Some(true), Some(9 << 30));
        let mut nearly = voter(3);
        nearly.disk_free_bytes = Some((20 << 30) - 1);
        let found = findings(&cluster(vec![voter(1), full.clone(), nearly.clone()]));
        let whats: Vec<&str> = found.iter().map(|found| found.what.as_str()).collect();
        assert_eq!(
            whats,
            [
                "the disk of node 2 is full: 9.0 GiB free, and its reserve is 10.0 GiB",
                "the disk of node 3 is nearly full: 20.0 GiB free, and its reserve is 10.0 GiB",
            ]
        );
        assert!(found.iter().all(|found| found.todo.contains("retention")));
        // Two of three: nothing grows any more, and that comes first.
        nearly.disk_full = Some(true);
        let refused = texts(&cluster(vec![voter(1), full, nearly.clone()]));
        assert!(
            refused[0].contains("2 of 3 voters have no room"),
            "{refused:?}"
        );
        // Without a reserve there is none to come near to.
        (nearly.disk_full, nearly.disk_reserve_bytes) = (Some(false), Some(0));
        assert_eq!(texts(&cluster(vec![voter(1), voter(2), nearly])), [""; 0]);
    }

    #[test]
    fn certificates_that_end_soon_or_cannot_be_replaced() {
        let mut fine = voter(1);
        fine.certificate_expires_in_seconds = Some(CERTIFICATE_LEFT_MIN_S);
        let mut soon = voter(2);
        soon.certificate_expires_in_seconds = Some(129_600);
        let mut over = voter(3);
        over.certificate_expires_in_seconds = Some(-1);
        over.certificate_refused = Some(true);
        let texts = texts(&cluster(vec![fine, soon, over]));
        assert_eq!(
            texts,
            [
                "a certificate of node 2 ends in 1.5 days",
                "node 3 cannot use the new files of its certificate and goes on with the old",
                "a certificate of node 3 is not valid any more",
            ]
        );
    }

    #[test]
    fn without_a_leader() {
        let mut status = cluster(vec![voter(1), voter(2), voter(3)]);
        status.leader_id = None;
        assert!(texts(&status)[0].contains("no leader"));
    }
}
