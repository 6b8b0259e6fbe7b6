//! Where things lie in a deployment's state folder.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The file that marks a folder as a deployment's.
pub const MARKER: &str = "deployment.json";

/// The most bytes the path of a Unix socket may have (`sun_path` less its final zero).
const SOCKET_LIMIT: usize = 107;

/// A deployment's state folder.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below `root`, which is made absolute.
    ///
    /// # Errors
    /// When the path cannot be made absolute or is too long for the sockets below it.
    pub fn new(root: &Path) -> Result<Self> {
        let root =
            std::path::absolute(root).map_err(Error::io(format!("state folder {}", root.display())))?;
        let layout = Self { root };
        let path = layout.service("management").join("management-node.sock");
        let length = path.as_os_str().len();
        if length > SOCKET_LIMIT {
            return Err(Error::PathTooLong { path, length, limit: SOCKET_LIMIT });
        }
        Ok(layout)
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The record of the deployment; its presence makes the folder ours.
    #[must_use]
    pub fn marker(&self) -> PathBuf {
        self.root.join(MARKER)
    }

    /// The socket of the supervisor.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.root.join("control.sock")
    }

    /// The state folder of a service: `licensing`, `management` or a node's name.
    #[must_use]
    pub fn service(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where a service says how it is reached.
    #[must_use]
    pub fn endpoints(&self, name: &str) -> PathBuf {
        self.service(name).join("endpoints.json")
    }

    /// The log of a service.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(format!("{name}.log"))
    }

    /// The bundle a node runs with.
    #[must_use]
    pub fn bundle(&self, node: &str) -> PathBuf {
        self.root.join(format!("{node}.bundle.toml"))
    }

    /// The license that was issued for the deployment.
    #[must_use]
    pub fn license(&self) -> PathBuf {
        self.root.join("license.txt")
    }

    /// The socket of a conferencing node's local interface.
    #[must_use]
    pub fn agent_socket(&self, node: &str) -> PathBuf {
        self.service(node).join("conferencing-node.sock")
    }

    /// The administration socket of the management node.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.service("management").join("management-node.sock")
    }
}
