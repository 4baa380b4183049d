//! Links that are bad without being cut: they lose packets, reset connections, or are slow.
//!
//! What goes between a host and this process, which plays the clients, is not touched by loss and
//! resets. `nft` loses and resets, `tc` makes slow; both are needed for these faults alone.

use super::namespaces::{BRIDGE_HOST, RPC_PORT};
use super::{Namespaces, installed, run, try_run};

/// Why there can be no bad links on this machine; none: there can be.
pub fn missing() -> Option<String> {
    let tool = ["nft", "tc"].into_iter().find(|tool| !installed(tool))?;
    Some(format!("`{tool}` is not installed"))
}

impl Namespaces {
    /// Of what other hosts send to this one, `percent` of the packets are lost.
    pub fn lose(&self, host: u8, percent: u8) {
        let rule = format!("numgen random mod 100 < {percent} counter drop");
        self.rule(host, &rule);
    }

    /// [`super::Network::reset`].
    pub(super) fn reset_packets(&self, host: u8, per_mille: u16) {
        let rule = format!(
            "tcp dport {RPC_PORT} numgen random mod 1000 < {per_mille} \
             counter reject with tcp reset"
        );
        self.rule(host, &rule);
    }

    /// [`super::Network::slow`].
    pub(super) fn shape(&self, host: u8, kbit: u32) {
        let rate = format!("{kbit}kbit");
        let (namespace, link) = (self.namespace(host), self.inside(host));
        let args = ["-n", &namespace, "qdisc", "replace", "dev", &link, "root"];
        let shape = ["tbf", "rate", &rate, "burst", "1600", "latency", "1s"];
        run("tc", &[&args[..], &shape[..]].concat());
    }

    /// [`super::Network::hits`], in packets.
    pub(super) fn counted(&self, host: u8) -> u64 {
        let rules = self.nft(host, &["list", "ruleset"]);
        let (namespace, link) = (self.namespace(host), self.inside(host));
        let args = ["-s", "-n", &namespace, "qdisc", "show", "dev", &link];
        let shape = String::from_utf8_lossy(&try_run("tc", &args).stdout).into_owned();
        after(&rules, "counter packets ") + after(&shape, "overlimits ")
    }

    /// The links of this host are good again.
    pub(super) fn lift(&self, host: u8) {
        let (namespace, link) = (self.namespace(host), self.inside(host));
        // Both fail where nothing was bad.
        self.nft(host, &["delete", "table", "inet", "duet"]);
        try_run(
            "tc",
            &["-n", &namespace, "qdisc", "del", "dev", &link, "root"],
        );
    }

    fn rule(&self, host: u8, rule: &str) {
        let own = self.address(host);
        let client = self.address(BRIDGE_HOST);
        let script = format!(
            "add table inet duet; \
             add chain inet duet in {{ type filter hook input priority 0; }}; \
             add rule inet duet in ip saddr != {{ {own}, {client}, 127.0.0.1 }} {rule}"
        );
        let namespace = format!("--net={}", self.namespace_file(host));
        run("nsenter", &[&namespace, "nft", &script]);
    }

    fn nft(&self, host: u8, args: &[&str]) -> String {
        let namespace = format!("--net={}", self.namespace_file(host));
        let output = try_run("nsenter", &[&[&namespace, "nft"], args].concat());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// The number behind the first `label`; 0 if it is not there.
fn after(text: &str, label: &str) -> u64 {
    let rest = text.split_once(label).map_or("", |(_, rest)| rest);
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
    digits.unwrap_or_default().parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read() {
        assert_eq!(
            after("x counter packets 17 bytes 3", "counter packets "),
            17
        );
        assert_eq!(after("overlimits 0 requeues 5", "overlimits "), 0);
        assert_eq!(after("", "overlimits "), 0);
    }
}
