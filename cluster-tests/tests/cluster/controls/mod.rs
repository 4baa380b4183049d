//! Is the lab's loss of power one? Two other servers whose answer is known go through the same:
//! NATS JetStream, which syncs its files every two minutes unless told otherwise, must lose what it
//! acknowledged; etcd, which syncs before it answers, must lose nothing.
//!
//! Nothing is installed here: where a server is missing (Debian and Ubuntu have them as
//! `nats-server` and `etcd-server`) the test says so and shows nothing.

mod etcd;
mod nats;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cluster_tests::lab::{self, Disk, Namespaces};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const NODES: u8 = 3;
const DISK_MIB: u32 = 512;
/// How long there is load before the power fails.
const LOAD: Duration = Duration::from_secs(8);
/// How long a cluster may take until it answers.
const READY_MAX: Duration = Duration::from_secs(60);

/// A machine of the lab with a server on it.
struct Machine {
    disk: Disk,
    process: Option<Child>,
}

/// Three machines.
struct Machines {
    machines: Vec<Machine>,
    network: Namespaces,
    directory: TempDir,
}

impl Machines {
    fn new() -> Machines {
        let directory = tempfile::tempdir().unwrap();
        let network = Namespaces::new(NODES);
        let disk = |host| Disk::new(&directory.path().join(format!("disk-{host}")), DISK_MIB);
        let machine = |host| Machine {
            disk: disk(host),
            process: None,
        };
        Machines {
            machines: (0..NODES).map(machine).collect(),
            network,
            directory,
        }
    }

    fn address(&self, host: u8, port: u16) -> String {
        self.network.socket(host, port).to_string()
    }

    fn disk(&self, host: u8) -> &Path {
        self.machines[usize::from(host)].disk.path()
    }

    fn start(&mut self, host: u8, program: &str, args: &[String]) {
        let log = self.directory.path().join(format!("log-{host}"));
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        let process = Command::new("nsenter")
            .arg(format!("--net={}", self.network.namespace_file(host)))
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.machines[usize::from(host)].process = Some(process.unwrap());
    }

    /// What was written up to now is on the disks.
    fn sync(&self) {
        for machine in &self.machines {
            machine.disk.sync();
        }
    }

    /// The power of all fails in the same moment, and comes back; their processes do not.
    async fn lose_power(&mut self) {
        for machine in &self.machines {
            let process = machine.process.as_ref().unwrap();
            kill_process(Pid::from_child(process), Signal::STOP).unwrap();
        }
        for machine in &mut self.machines {
            machine.disk.cut_power();
            let mut process = machine.process.take().unwrap();
            process.kill().unwrap();
            process.wait().unwrap();
        }
        for machine in &self.machines {
            machine.disk.power_on().await;
        }
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for machine in &mut self.machines {
            if let Some(process) = &mut machine.process {
                // One that has ended already is what is wanted.
                drop(process.kill());
                drop(process.wait());
            }
        }
    }
}

/// Is there a lab, and this program? Says why not.
fn available(program: &str) -> bool {
    if !lab::available() {
        return false;
    }
    let there = ["/usr/sbin", "/usr/bin", "/usr/local/bin"]
        .iter()
        .any(|dir| Path::new(dir).join(program).is_file());
    if !there {
        println!("nothing was shown: `{program}` is not installed");
    }
    there
}

/// What was acknowledged and is gone.
fn lost(program: &str, acked: &BTreeSet<String>, there: &BTreeSet<String>) -> usize {
    let lost = acked.difference(there).count();
    let acked = acked.len();
    println!(
        "{program}: {acked} writes were acknowledged, {lost} of them were lost with the power"
    );
    assert!(acked > 100, "too little was at stake");
    lost
}

/// Writes `write`'s names one after the other until the load is over; those that were acknowledged.
async fn load(writer: u32, mut write: impl AsyncFnMut(&str) -> bool) -> BTreeSet<String> {
    let (begun, mut acked) = (Instant::now(), BTreeSet::new());
    for number in 0_u64.. {
        if begun.elapsed() > LOAD {
            break;
        }
        let name = format!("w{writer}-{number}");
        if write(&name).await {
            acked.insert(name);
        }
    }
    acked
}
