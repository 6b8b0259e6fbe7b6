//! The `conferencing-node` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    conferencing_node::cli::main()
}
