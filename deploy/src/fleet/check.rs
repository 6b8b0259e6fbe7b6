//! What is looked at before anything is started or changed.

use std::path::Path;

use super::Options;
use crate::layout::Layout;
use crate::record::Record;
use crate::{Error, Result, ports};

/// Looks at ports and folder before anything is touched: is there a deployment to resume?
pub(super) fn check(layout: &Layout, options: &Options) -> Result<bool> {
    let record = Record::read(layout)?;
    if let Some(record) = &record {
        let alive = record.alive();
        if !alive.is_empty() {
            let who = alive.iter().map(|p| format!("{} {}", p.name, p.pid)).collect::<Vec<_>>().join(", ");
            return Err(Error::Running { dir: layout.root().to_owned(), who });
        }
    }
    let resumed = match record {
        Some(record) if record.complete => true,
        Some(_) => return Err(Error::HalfMade { dir: layout.root().to_owned() }),
        None if is_empty(layout.root()) => false,
        None => {
            return Err(Error::ForeignState { dir: layout.root().to_owned(), marker: crate::layout::MARKER });
        }
    };
    ports::check_free(options.ports.0, "the licensing server")?;
    ports::check_free(options.ports.1, "the management node")?;
    ports::check_free(super::metrics_port(options.ports.1), "the management node's metrics")?;
    for (name, port) in &options.nodes {
        ports::check_free(*port, &format!("the local interface of {name}"))?;
        ports::check_free(super::metrics_port(*port), &format!("the metrics of {name}"))?;
    }
    Ok(resumed)
}

/// Is the folder missing or empty?
fn is_empty(folder: &Path) -> bool {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
    }
}
