//! `slipring image`: this executable as a container image.

use std::path::PathBuf;
use std::process::ExitCode;

use slipring_balancer::fleet::runtime::docker::build_own_image;

use crate::report::complain;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The engine's socket.
    #[arg(long, env = "SLIPRING_DOCKER_SOCKET", default_value = "/var/run/docker.sock")]
    socket: PathBuf,
}

pub(crate) fn run(arguments: Arguments) -> ExitCode {
    let built = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(build_own_image(arguments.socket)),
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    match built {
        Ok(image) => {
            println!("{image}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}
