//! Where a running service is reached, as a file in its state folder, so that port 0 works.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::tls::write_secret;

/// The file's name in the state folder.
pub const FILE: &str = "endpoints.json";

/// Process and addresses of a running service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// The process.
    pub pid: u32,
    /// Addresses by use, for example `grpc` and `socket`.
    pub addresses: BTreeMap<String, String>,
}

/// Why there are no endpoints to read.
#[derive(Debug, thiserror::Error)]
pub enum EndpointsError {
    /// Nothing serves.
    #[error("no service runs with this state folder: {path} does not exist")]
    NotServing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read {path}: {why}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: io::Error,
    },
}

/// Removes the file when the service ends cleanly.
#[derive(Debug)]
pub struct Published {
    path: PathBuf,
    endpoints: Endpoints,
}

impl Endpoints {
    /// This process, with no address yet.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self { pid: std::process::id(), addresses: BTreeMap::new() }
    }

    /// With one more address.
    #[must_use]
    pub fn with(mut self, name: &str, address: impl ToString) -> Self {
        self.addresses.insert(name.to_owned(), address.to_string());
        self
    }

    /// Writes the file in one step; call it once everything is served.
    ///
    /// # Errors
    /// What the system says.
    pub fn publish(self, state: &Path) -> io::Result<Published> {
        let path = state.join(FILE);
        let mut text = serde_json::to_vec_pretty(&self).map_err(io::Error::other)?;
        text.push(b'\n');
        write_secret(&path, &text)?;
        Ok(Published { path, endpoints: self })
    }

    /// Reads the file of a service that runs, or ran and ended by force.
    ///
    /// # Errors
    /// [`EndpointsError`] names the file.
    pub fn read(state: &Path) -> Result<Self, EndpointsError> {
        let path = state.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(EndpointsError::NotServing { path });
            }
            Err(why) => return Err(EndpointsError::Unreadable { path, why }),
        };
        serde_json::from_slice(&text).map_err(|error| EndpointsError::Unreadable { path, why: error.into() })
    }

    /// The address of this use.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.addresses.get(name).map(String::as_str)
    }
}

impl Published {
    /// What was published.
    #[must_use]
    pub const fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        // Only our own: a successor may already have written his.
        let parent = self.path.parent().unwrap_or(Path::new("."));
        if Endpoints::read(parent).is_ok_and(|found| found == self.endpoints) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_there_while_published_and_gone_after() {
        let state = tempfile::tempdir().expect("a folder");
        let endpoints = Endpoints::of_this_process().with("grpc", "127.0.0.1:7400");
        let published = endpoints.clone().publish(state.path()).expect("published");
        let found = Endpoints::read(state.path()).expect("read");
        assert_eq!(found, endpoints);
        assert_eq!(found.get("grpc"), Some("127.0.0.1:7400"));
        drop(published);
        assert!(matches!(Endpoints::read(state.path()), Err(EndpointsError::NotServing { .. })));
    }

    #[test]
    fn a_successors_file_is_left_alone() {
        let state = tempfile::tempdir().expect("a folder");
        let first = Endpoints::of_this_process().publish(state.path()).expect("published");
        let second = Endpoints::of_this_process().with("grpc", "x").publish(state.path()).expect("published");
        drop(first);
        assert_eq!(&Endpoints::read(state.path()).expect("read"), second.endpoints());
    }
}
