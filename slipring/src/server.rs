//! `slipring server`: one replica.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use slipring_server::{ServerId, die_with_parent, serve};
use tokio::net::TcpListener;

use crate::report::complain;
use crate::signals::Signals;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where to listen; port 0 takes a free one, which is printed.
    #[arg(long, default_value = "0.0.0.0:5000")]
    listen: SocketAddr,
    /// The number it greets with.
    #[arg(long, env = "SERVER_ID")]
    id: u64,
    /// How long a stop waits for requests in flight, in seconds.
    #[arg(long, default_value_t = 5)]
    drain_seconds: u64,
    /// End with this parent process, however it ends.
    #[arg(long, hide = true)]
    parent: Option<u32>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    if let Some(parent) = arguments.parent
        && let Err(error) = die_with_parent(parent)
    {
        complain(&error);
        return ExitCode::FAILURE;
    }
    if let Err(error) = rustix::thread::set_name(c"slipring") {
        tracing::debug!(%error, "the process keeps the name that it has");
    }
    // One thread: replicas are many and small, and share the machine with their balancer.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    crate::balancer::raise_file_limit();
    runtime.block_on(async {
        match listen(arguments).await {
            Ok((signals, listener)) => {
                let drain = Duration::from_secs(arguments.drain_seconds);
                let id = ServerId::new(arguments.id);
                let who = format!("replica {}", arguments.id);
                signals
                    .run_until(&who, |mut stop| async move {
                        serve(listener, id, stop.asked(), drain).await;
                        ExitCode::SUCCESS
                    })
                    .await
            }
            Err(error) => {
                complain(&error);
                ExitCode::FAILURE
            }
        }
    })
}

async fn listen(arguments: &Arguments) -> std::io::Result<(Signals, TcpListener)> {
    let signals = Signals::new()?;
    let socket = if arguments.listen.is_ipv6() {
        tokio::net::TcpSocket::new_v6()
    } else {
        tokio::net::TcpSocket::new_v4()
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(arguments.listen)?;
    let listener = socket.listen(4096)?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok((signals, listener))
}
