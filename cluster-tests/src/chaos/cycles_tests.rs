//! Histories as they must not be, and as they may.

use super::*;

fn append(key: u64, element: u64) -> Step {
    Step::Append { key, element }
}

fn read(key: u64, seen: &[u64]) -> Step {
    Step::Read {
        key,
        seen: seen.to_vec(),
    }
}

/// Answered transactions, all at the same time, so that only what they saw orders them.
fn txn(steps: Vec<Step>) -> Txn {
    Txn {
        steps,
        outcome: Outcome::Ok,
        index: None,
        linearizable: true,
        invoke_ns: 0,
        return_ns: 1_000,
    }
}

fn lists(all: &[(u64, &[u64])]) -> Lists {
    all.iter()
        .map(|(key, list)| (*key, list.to_vec()))
        .collect()
}

#[track_caller]
fn objects(txns: &[Txn], finals: &Lists, says: &str) {
    let found = violations(txns, finals);
    assert!(
        found.iter().any(|text| text.contains(says)),
        "{says}: {found:?}"
    );
}

#[test]
fn good_histories_pass() {
    let mut txns = vec![
        txn(vec![append(1, 10), append(2, 20)]),
        txn(vec![read(1, &[10]), read(2, &[20])]),
        txn(vec![append(1, 11)]),
        txn(vec![read(1, &[]), read(2, &[])]),
        txn(vec![read(1, &[10]), append(1, 12), read(1, &[10, 12])]),
    ];
    txns[2].outcome = Outcome::Unknown;
    let finals = lists(&[(1, &[10, 12]), (2, &[20])]);
    assert_eq!(violations(&txns, &finals), [""; 0]);
    let finals = lists(&[(1, &[10, 12, 11]), (2, &[20])]);
    assert_eq!(violations(&txns, &finals), [""; 0]);
}

#[test]
fn two_reads_past_each_other_are_what_snapshot_isolation_allows() {
    let txns = [
        txn(vec![read(1, &[]), append(2, 20)]),
        txn(vec![read(2, &[]), append(1, 10)]),
    ];
    let finals = lists(&[(1, &[10]), (2, &[20])]);
    assert_eq!(violations(&txns, &finals), [""; 0]);
}

#[test]
fn lost_doubled_refused_and_half_appends_are_seen() {
    let one = [txn(vec![append(1, 10)])];
    objects(&one, &lists(&[(1, &[])]), "0 of 1 appends");
    objects(&one, &lists(&[(1, &[10, 10])]), "twice");
    objects(&one, &lists(&[(1, &[10, 11])]), "of nobody");
    let mut refused = one.clone();
    refused[0].outcome = Outcome::Fail;
    objects(&refused, &lists(&[(1, &[10])]), "1 of 1 appends");
    let mut half = [txn(vec![append(1, 10), append(2, 20)])];
    half[0].outcome = Outcome::Unknown;
    objects(&half, &lists(&[(1, &[10])]), "1 of 2 appends");
}

#[test]
fn reads_of_what_was_refused_is_unfinished_or_is_not_there_are_seen() {
    let mut aborted = [txn(vec![append(1, 10)]), txn(vec![read(1, &[10])])];
    aborted[0].outcome = Outcome::Fail;
    objects(&aborted, &lists(&[(1, &[])]), "G1a");
    let middle = [
        txn(vec![append(1, 10), append(1, 11)]),
        txn(vec![read(1, &[10])]),
    ];
    objects(&middle, &lists(&[(1, &[10, 11])]), "G1b");
    let other = [
        txn(vec![append(1, 10)]),
        txn(vec![append(1, 11)]),
        txn(vec![read(1, &[11])]),
    ];
    objects(&other, &lists(&[(1, &[10, 11])]), "no beginning");
}

#[test]
fn circles_are_seen() {
    let writes = [
        txn(vec![append(1, 10), append(2, 20)]),
        txn(vec![append(1, 11), append(2, 21)]),
    ];
    objects(&writes, &lists(&[(1, &[10, 11]), (2, &[21, 20])]), "G0");
    let reads = [
        txn(vec![append(1, 10), read(2, &[20])]),
        txn(vec![append(2, 20), read(1, &[10])]),
    ];
    objects(&reads, &lists(&[(1, &[10]), (2, &[20])]), "G1c");
    // A reader sees half of a transaction.
    let skew = [
        txn(vec![append(1, 10), append(2, 20)]),
        txn(vec![read(1, &[10]), read(2, &[])]),
    ];
    objects(&skew, &lists(&[(1, &[10]), (2, &[20])]), "G-single");
    // A lost update: both read the same and both appended.
    let lost = [
        txn(vec![read(1, &[]), append(1, 10)]),
        txn(vec![read(1, &[]), append(1, 11)]),
    ];
    objects(&lost, &lists(&[(1, &[10, 11])]), "G-single");
}

#[test]
fn disorder_in_the_log_and_in_time_is_seen() {
    let mut txns = [txn(vec![append(1, 10)]), txn(vec![append(1, 11)])];
    (txns[0].index, txns[1].index) = (Some(5), Some(4));
    objects(&txns, &lists(&[(1, &[10, 11])]), "comes after 5");
    (txns[1].invoke_ns, txns[1].return_ns) = (2_000, 3_000);
    objects(&txns, &lists(&[(1, &[11, 10])]), "before this began");
    let mut stale = [txn(vec![append(1, 10)]), txn(vec![read(1, &[])])];
    stale[1].invoke_ns = 2_000;
    objects(&stale, &lists(&[(1, &[10])]), "was answered before");
    stale[1].linearizable = false;
    assert_eq!(violations(&stale, &lists(&[(1, &[10])])), [""; 0]);
}
