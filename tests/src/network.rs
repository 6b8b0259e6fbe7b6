//! A network of its own for a deployment: a namespace for the management node and one for each conferencing
//! node, with a cable from each to the management node that breaks as real ones do.
//!
//! No address is ever part of this machine's own network, so runs beside each other cannot meet.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use headroom_deploy::fleet::Place;

use crate::programs::system;

/// Where `ip netns` keeps the namespaces it names.
const NAMESPACES: &str = "/run/netns";
/// What their names begin with; the process and a number follow.
const OURS: &str = "headroom-test-";

/// Which packets do not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Those of the node.
    ToPool,
    /// Those of the management node.
    ToNode,
    /// None arrives.
    Both,
}

/// What becomes of packets that do not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nobody hears of them.
    Dropped,
    /// A firewall answers that the connection is none.
    Reset,
    /// A firewall answers that nobody listens.
    Unreachable,
}

/// The namespaces; dropping it removes them, also when a test fails.
#[derive(Debug)]
pub struct Network {
    prefix: String,
    nodes: Vec<String>,
}

impl Network {
    /// A network of the management node and these conferencing nodes.
    ///
    /// # Panics
    /// When it cannot be made: a program is missing, or this process may not.
    #[must_use]
    pub fn new(nodes: &[&str]) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        for program in ["ip", "iptables", "nsenter"] {
            system(program);
        }
        assert!(rustix::process::geteuid().is_root(), "network namespaces can be made by root only");
        sweep();
        let prefix = format!("{OURS}{}-{}-", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let network = Self { prefix, nodes: nodes.iter().map(|node| (*node).to_owned()).collect() };
        let pool = network.namespace("management");
        for name in std::iter::once("management").chain(nodes.iter().copied()) {
            let namespace = network.namespace(name);
            ip(&["netns", "add", &namespace]);
            ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        }
        for (number, node) in nodes.iter().enumerate() {
            let (far, here) = (network.namespace(node), plug(number));
            ip(&["link", "add", &here, "netns", &pool, "type", "veth", "peer", "name", CABLE, "netns", &far]);
            for (namespace, end, last) in [(&pool, here.as_str(), 1), (&far, CABLE, 2)] {
                ip(&["-n", namespace, "address", "add", &format!("10.77.{number}.{last}/24"), "dev", end]);
                ip(&["-n", namespace, "link", "set", end, "up"]);
            }
        }
        network
    }

    /// Where the services run.
    #[must_use]
    pub fn places(&self) -> BTreeMap<String, Place> {
        let place = |name: &str, management: IpAddr| {
            let namespace = Path::new(NAMESPACES).join(self.namespace(name));
            (name.to_owned(), Place { namespace, management })
        };
        let nodes = self.nodes.iter().zip(0_u8..);
        nodes
            .map(|(node, number)| place(node, IpAddr::from([10, 77, number, 1])))
            .chain([place("management", IpAddr::from([0, 0, 0, 0]))])
            .collect()
    }

    /// Has packets between a node and the management node not arrive.
    ///
    /// # Panics
    /// When it cannot be done.
    pub fn cut(&self, node: &str, way: Way, fate: Fate) {
        let target: &[&str] = match fate {
            Fate::Dropped => &["-j", "DROP"],
            Fate::Reset => &["-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"],
            Fate::Unreachable => &["-j", "REJECT", "--reject-with", "icmp-port-unreachable"],
        };
        // At the end where they would arrive: so the sender does not know, as when a network loses them.
        let mut ends = Vec::new();
        if way != Way::ToNode {
            ends.push(("management", plug(self.number(node))));
        }
        if way != Way::ToPool {
            ends.push((node, CABLE.to_owned()));
        }
        for (name, end) in ends {
            self.iptables(name, &[&["-A", "INPUT", "-i", &end], target].concat());
        }
    }

    /// Has everything arrive again.
    ///
    /// # Panics
    /// When it cannot be done.
    pub fn heal(&self) {
        for name in std::iter::once("management").chain(self.nodes.iter().map(String::as_str)) {
            self.iptables(name, &["-F", "INPUT"]);
        }
    }

    /// Pulls a node's cable, or plugs it in again.
    ///
    /// # Panics
    /// When it cannot be done.
    pub fn plugged(&self, node: &str, is: bool) {
        let end = plug(self.number(node));
        let pool = self.namespace("management");
        ip(&["-n", &pool, "link", "set", &end, if is { "up" } else { "down" }]);
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn number(&self, node: &str) -> usize {
        let number = self.nodes.iter().position(|name| name == node);
        number.unwrap_or_else(|| panic!("{node} is not in this network"))
    }

    fn iptables(&self, name: &str, words: &[&str]) {
        let namespace = self.namespace(name);
        // Others may hold its lock for a moment.
        ip(&[&["netns", "exec", &namespace, "iptables", "-w", "30"], words].concat());
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in std::iter::once("management").chain(self.nodes.iter().map(String::as_str)) {
            remove(&self.namespace(name));
        }
    }
}

/// A node's end of its cable.
const CABLE: &str = "cable";

/// The management node's end of a node's cable.
fn plug(number: usize) -> String {
    format!("plug{number}")
}

/// The processes in it keep what they use of it until they end.
fn remove(namespace: &str) {
    // Another run may have swept it away.
    let _ = Command::new(system("ip")).args(["netns", "delete", namespace]).output();
}

/// Removes what killed runs left behind.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(NAMESPACES) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let pid =
            name.strip_prefix(OURS).and_then(|rest| rest.split_once('-')).map(|(pid, _)| pid.to_owned());
        if pid.is_some_and(|pid| !PathBuf::from("/proc").join(pid).exists()) {
            remove(&name);
        }
    }
}

fn ip(words: &[&str]) {
    let output = Command::new(system("ip")).args(words).output().expect("ip runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {said}", words.join(" "));
}
