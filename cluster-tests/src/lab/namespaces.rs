//! A network of one's own: a namespace for each node, on one bridge.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rand::seq::SliceRandom;

use super::{Network, run, try_run};

/// The place of this process on the bridge, among the hosts.
pub(super) const BRIDGE_HOST: u8 = 253;
/// 10.77.0.0/16 is cut into a subnet for each network; the names carry the same number.
const TAGS: std::ops::Range<u16> = 1..250;
/// Where hosts are reached by each other.
pub(crate) const RPC_PORT: u16 = 9188;

/// Hosts on a bridge, with this process beside them. Everything is removed on drop.
#[derive(Debug)]
pub struct Namespaces {
    /// Names everything that is made; different for each network on a machine.
    tag: u16,
    hosts: u8,
}

impl Namespaces {
    /// Makes `hosts` namespaces, each with an address on a bridge that this process reaches.
    pub fn new(hosts: u8) -> Namespaces {
        let mut tags: Vec<u16> = TAGS.collect();
        tags.shuffle(&mut rand::rng());
        let tag = claim(&tags).expect("not all networks are taken, and bridges can be made");
        let network = Namespaces { tag, hosts };
        let bridge = network.bridge();
        let own = format!("10.77.{tag}.254/24");
        run("ip", &["addr", "add", &own, "dev", &bridge]);
        run("ip", &["link", "set", &bridge, "up"]);
        for host in 0..hosts {
            network.add(host, &bridge);
        }
        network
    }

    fn add(&self, host: u8, bridge: &str) {
        let (namespace, link) = (self.namespace(host), self.link(host));
        let inside = self.inside(host);
        run("ip", &["netns", "add", &namespace]);
        run(
            "ip",
            &[
                "link", "add", &link, "type", "veth", "peer", "name", &inside,
            ],
        );
        run("ip", &["link", "set", &inside, "netns", &namespace]);
        run("ip", &["link", "set", &link, "master", bridge, "up"]);
        let address = format!("{}/24", self.address(host));
        for args in [
            vec!["addr", "add", &address, "dev", &inside],
            vec!["link", "set", &inside, "up"],
            vec!["link", "set", "lo", "up"],
        ] {
            run("ip", &[vec!["-n", &namespace], args].concat());
        }
    }

    /// The host's address; this process reaches it.
    pub fn address(&self, host: u8) -> IpAddr {
        let [_, tag] = self.tag.to_be_bytes();
        Ipv4Addr::new(10, 77, tag, host + 1).into()
    }

    /// A socket of the host.
    pub fn socket(&self, host: u8, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(host), port)
    }

    /// The file that names the host's namespace, for `nsenter --net=`.
    pub fn namespace_file(&self, host: u8) -> String {
        format!("/run/netns/{}", self.namespace(host))
    }

    fn bridge(&self) -> String {
        bridge(self.tag)
    }

    pub(super) fn namespace(&self, host: u8) -> String {
        format!("duet{}-{host}", self.tag)
    }

    /// The host's own end of its link.
    pub(super) fn inside(&self, host: u8) -> String {
        format!("p{}", self.link(host))
    }

    fn link(&self, host: u8) -> String {
        format!("duet{}v{host}", self.tag)
    }
}

impl Network for Namespaces {
    fn hosts(&self) -> u8 {
        self.hosts
    }

    fn deafen(&self, from: u8, to: u8) {
        let target = format!("{}/32", self.address(to));
        let namespace = self.namespace(from);
        run(
            "ip",
            &["-n", &namespace, "route", "replace", "blackhole", &target],
        );
    }

    fn heal(&self) {
        for host in 0..self.hosts {
            let namespace = self.namespace(host);
            let flush = ["-n", &namespace, "route", "flush", "type", "blackhole"];
            // Fails where there was none.
            try_run("ip", &flush);
        }
    }

    fn reset(&self, host: u8, per_mille: u16) {
        self.reset_packets(host, per_mille);
    }

    fn slow(&self, host: u8, kbit: u32) {
        self.shape(host, kbit);
    }

    fn hits(&self, host: u8) -> u64 {
        self.counted(host)
    }

    fn mend_links(&self) {
        for host in 0..self.hosts {
            self.lift(host);
        }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for host in 0..self.hosts {
            // Both ends at once. The namespace would take them with it, but lives on without its
            // name, for minutes, while the kernel waits for what its connections did not deliver.
            try_run("ip", &["link", "delete", &self.link(host)]);
            try_run("ip", &["netns", "delete", &self.namespace(host)]);
        }
        // Last: with the bridge the number is free again.
        try_run("ip", &["link", "delete", &self.bridge()]);
    }
}

fn bridge(tag: u16) -> String {
    format!("duetb{tag}")
}

/// The first number that no network on this machine has: whoever makes the bridge has it.
fn claim(tags: &[u16]) -> Option<u16> {
    let free = |tag: &&u16| {
        let made = try_run("ip", &["link", "add", &bridge(**tag), "type", "bridge"]);
        made.status.success()
    };
    tags.iter().find(free).copied()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::lab;

    #[test]
    fn a_network_never_takes_the_number_of_another() {
        if !lab::available() {
            return;
        }
        let first = Namespaces::new(1);
        assert_eq!(claim(&[first.tag]), None);
        let second = Namespaces::new(1);
        assert_ne!(first.tag, second.tag);
    }

    #[test]
    fn nothing_is_left_of_a_network_though_its_namespace_is_in_use() {
        if !lab::available() {
            return;
        }
        let network = Namespaces::new(1);
        let (tag, link) = (network.tag, network.link(0));
        let inside = format!("--net={}", network.namespace_file(0));
        // It says something once it is inside, and stays until its input ends.
        let mut user = Command::new("nsenter")
            .args([&inside, "sh", "-c", "echo inside; cat"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("the lab has nsenter");
        let mut said = [0; 6];
        let mut output = user.stdout.take().expect("it is piped");
        std::io::Read::read_exact(&mut output, &mut said).expect("it says that it is inside");
        drop(network);
        let left = [bridge(tag), link].map(|name| {
            let shown = try_run("ip", &["link", "show", &name]);
            shown.status.success()
        });
        drop(user.stdin.take());
        user.wait().expect("it ends with its input");
        assert_eq!(left, [false, false]);
    }
}
