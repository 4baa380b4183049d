//! Plays a schedule.

use std::time::{Duration, Instant};

use super::bounds::Bounds;
use super::faults::Seen;
use super::history::History;
use super::pauses::Pauses;
use super::report::Played;
use super::workloads::rows::Rows;
use super::workloads::{Running, Verdict, Workload};
use super::{Plan, Report, Setting, Step};
use crate::cluster::Cluster;
use crate::{User, wait};

const DISK_MIB: u32 = 2_048;
/// A snapshot every few hundred entries, and little log below it: a node that was away for a few
/// seconds needs one.
const LITTLE_LOG: [(&str, &str); 3] = [
    ("DUET_SNAPSHOT_LOG_BYTES", "262144"),
    ("DUET_LOG_KEEP_ENTRIES", "500"),
    ("DUET_LOG_KEEP_BYTES", "262144"),
];
/// Writers of rows.
const WRITERS: u32 = 6;
/// In how long a write must be answered once nothing is broken any more.
const RECOVERY_MAX: Duration = Duration::from_secs(5);
/// How long to wait for one before giving up.
const GIVE_UP: Duration = Duration::from_secs(60);
/// Writes a second, outside of faults, below which a run shows nothing: too little was at stake.
const RATE_MIN: u64 = 20;

/// What clients do in a run: what every run has, and what it may do without.
struct Workloads {
    rows: Rows,
    others: Vec<Box<dyn Running>>,
}

impl Workloads {
    async fn start(
        cluster: &Cluster,
        root: &User,
        chosen: &[Workload],
        history: &History,
    ) -> Workloads {
        let rows = Rows::start(cluster, root, history, WRITERS).await;
        let mut others = Vec::new();
        for workload in chosen {
            others.push(workload.start(cluster, root, history).await);
        }
        Workloads { rows, others }
    }

    /// The rows go last: all nodes are compared once nobody writes any more.
    async fn finish(self, cluster: &Cluster, root: &User) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for workload in self.others {
            verdicts.push(workload.finish(cluster, root).await);
        }
        verdicts.push(self.rows.finish(cluster, root).await);
        verdicts
    }
}

/// Plays the plan on a new cluster in this setting, under these workloads and that of rows, and
/// checks everything afterwards. `tell` hears of each step. Panics, leaving data and logs, if nodes
/// differ or one does not come back.
pub async fn run(
    plan: &Plan,
    setting: Setting,
    workloads: &[Workload],
    history: &History,
    mut tell: impl FnMut(String),
) -> Report {
    let mut cluster = found(plan, setting).await;
    let root = cluster.root().await;
    let bounds = Bounds::of(&cluster);
    let mut workloads = Workloads::start(&cluster, &root, workloads, history).await;
    let pauses = Pauses::of(workloads.rows.load().acks());
    let mut report = Report {
        seed: plan.seed,
        ..Report::default()
    };
    let (first_term, mut calm, mut in_calm) = (term(&cluster).await, Duration::ZERO, 0);
    for (number, step) in plan.steps.iter().enumerate() {
        let name = step.fault.name();
        let length = plan.steps.len();
        tell(format!(
            "{:>3}/{length} {name} for {:?}",
            number + 1,
            step.hold
        ));
        let before = term(&cluster).await;
        let (played, seen) = play(&mut cluster, &mut workloads.rows, &pauses, step).await;
        judge(&mut report, &cluster, step, played, before).await;
        report.played.push(played);
        report.add(seen.counted, seen.violations);
        let answered = workloads.rows.load().acked();
        // sleep: how long nothing is broken is part of the schedule
        tokio::time::sleep(step.calm).await;
        calm += step.calm;
        in_calm += workloads.rows.load().acked() - answered;
    }
    if in_calm < RATE_MIN * calm.as_secs() {
        report.invalid.push(format!(
            "{in_calm} writes were answered in {calm:?} without any fault"
        ));
    }
    report.terms = term(&cluster).await - first_term;
    tell("checking".into());
    for verdict in workloads.finish(&cluster, &root).await {
        report.add(verdict.checked, verdict.violations);
    }
    let (counted, violations) = bounds.check(&cluster).await;
    report.add(counted, violations);
    let complaints = cluster.end(!report.is_good());
    let complaints = complaints.iter().map(|line| format!("in a log: {line}"));
    report.violations.extend(complaints);
    report
}

/// A cluster with what its faults need.
async fn found(plan: &Plan, setting: Setting) -> Cluster {
    let has_network = plan.steps.iter().any(|step| step.fault.needs_network());
    let mut cluster = match (setting.in_lab, has_network) {
        (true, _) => Cluster::describe_in_lab(setting.nodes, DISK_MIB, &LITTLE_LOG),
        (false, true) => Cluster::describe_with_relays(setting.nodes, &LITTLE_LOG),
        (false, false) => Cluster::describe(setting.nodes.into(), &LITTLE_LOG),
    };
    if plan.steps.iter().any(|step| step.fault.needs_clocks()) {
        cluster.give_clocks();
    }
    cluster.found().await;
    if plan.steps.iter().any(|step| step.fault.needs_doors()) {
        cluster.open_doors().await;
    }
    cluster
}

/// Breaks and mends, and waits until a write that began after that is answered.
async fn play(
    cluster: &mut Cluster,
    rows: &mut Rows,
    pauses: &Pauses,
    step: &Step,
) -> (Played, Seen) {
    pauses.take_longest();
    let seen = step.fault.play(cluster, step).await;
    let mended = Instant::now();
    let answered = rows.load().acked();
    let acks = rows.load().acks();
    wait::until("a write after the fault", GIVE_UP, async || {
        (*acks.borrow() > answered).then_some(())
    })
    .await;
    let played = Played {
        fault: step.fault,
        unavailable: pauses.take_longest(),
        recovered: mended.elapsed(),
    };
    (played, seen)
}

/// Did it do what it should, and did the cluster?
async fn judge(report: &mut Report, cluster: &Cluster, step: &Step, played: Played, before: u64) {
    let name = step.fault.name();
    if played.recovered > RECOVERY_MAX {
        let took = played.recovered;
        report.violations.push(format!(
            "liveness: {name}: no write for {took:?} after all was mended"
        ));
    }
    if step.fault.changes_leader()
        && step.hold > Duration::from_secs(3)
        && term(cluster).await == before
    {
        report
            .invalid
            .push(format!("{name}: no other leader was elected"));
    }
}

async fn term(cluster: &Cluster) -> u64 {
    let client = cluster.client();
    wait::until("the cluster says its term", GIVE_UP, async || {
        client.cluster_status().await.ok().map(|status| status.term)
    })
    .await
}
