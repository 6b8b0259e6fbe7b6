//! The `licensing-server` binary.

use std::process::ExitCode;

use clap::Parser;
use licensing_server::{cli::Cli, run};

fn main() -> ExitCode {
    headroom_shared::tls::install_provider();
    let cli = Cli::parse();
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run::run(cli)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
