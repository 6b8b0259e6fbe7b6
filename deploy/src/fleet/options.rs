//! How a fleet is made.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// A service's place in a network that is not this machine's own.
#[derive(Debug, Clone)]
pub struct Place {
    /// The file of the network namespace it runs in.
    pub namespace: PathBuf,
    /// The management node: where it serves. A conferencing node: where it reaches the management node.
    pub management: IpAddr,
}

/// How a fleet is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder of the programs.
    pub binaries: PathBuf,
    /// The state folder.
    pub state: PathBuf,
    /// Ports of the licensing server and the management node; 0 for any.
    pub ports: (u16, u16),
    /// The conferencing nodes: name and port, 0 for any.
    pub nodes: Vec<(String, u16)>,
    /// Calls to license, as `--feature call=` takes it: `10`, or `10+2` with an overdraft.
    pub capacity: String,
    /// `--session-ttl` of the management node.
    pub session_ttl: Option<String>,
    /// `--grace` of the conferencing nodes.
    pub grace: Option<String>,
    /// `--budget` of the conferencing nodes: how long a media server waits for a decision.
    pub budget: Option<String>,
    /// Services that do not run in this machine's own network: `management`, or a node's name. Such a node
    /// has no use for its link.
    pub places: BTreeMap<String, Place>,
}

impl Options {
    /// Ten calls, nodes `node-a` and `node-b`, the ports everyone knows.
    #[must_use]
    pub fn standard(binaries: PathBuf, state: PathBuf) -> Self {
        Self {
            binaries,
            state,
            ports: (7300, 7400),
            nodes: vec![("node-a".into(), 7500), ("node-b".into(), 7501)],
            capacity: "10".into(),
            session_ttl: None,
            grace: None,
            budget: None,
            places: BTreeMap::new(),
        }
    }

    /// The same on ports that are free.
    #[must_use]
    pub fn on_free_ports(mut self) -> Self {
        self.ports = (0, 0);
        for node in &mut self.nodes {
            node.1 = 0;
        }
        self
    }
}
