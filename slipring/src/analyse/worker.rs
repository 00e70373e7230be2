//! `slipring analyse worker`.

use std::net::SocketAddr;
use std::process::ExitCode;

use slipring_analyser::run::{Event, Serving, Tell, serve};
use slipring_server::die_with_parent;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::edge::Edge;
use super::{Sharing, cores, runtime, store};
use crate::report::complain;
use crate::signals::Signals;
use crate::text::counted;

#[derive(clap::Args, Clone, Debug)]
pub(super) struct Arguments {
    /// Where the tasks are: sqlite:PATH or postgres://…, as the coordinator was told.
    #[arg(long, value_name = "URL", env = "SLIPRING_ANALYSE_STORE", hide_env_values = true)]
    store: String,
    /// Threads that read [default: all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// End when the analysis that there is has ended, instead of waiting for the next one.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    sharing: Sharing,
    /// Say what is read.
    #[arg(short, long)]
    verbose: bool,
    /// Where to answer heartbeats, and tell how the analysis goes; port 0 takes a free one, which is printed.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// End with this parent process, however it ends.
    #[arg(long, hide = true)]
    parent: Option<u32>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    if let Some(parent) = arguments.parent
        && let Err(error) = die_with_parent(parent)
    {
        complain(&error);
        return ExitCode::FAILURE;
    }
    if arguments.store == "memory:" {
        eprintln!(
            "slipring: memory: is one process's own: name the sqlite:PATH or postgres://… that the coordinator uses"
        );
        return ExitCode::from(2);
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    let code = runtime.block_on(async {
        let signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => {
                complain(&error);
                return ExitCode::FAILURE;
            }
        };
        // Before the store answers: whoever waits for it lives.
        let edge = match arguments.listen {
            Some(address) => match listen(address).await {
                Ok(edge) => Some(edge),
                Err(code) => return code,
            },
            None => None,
        };
        let store = match store(&arguments.store, arguments.sharing.patience).await {
            Ok(store) => store,
            Err(code) => return code,
        };
        let (is_verbose, is_listening) = (arguments.verbose, arguments.listen.is_some());
        let tell = Tell::new(move |event| match event {
            Event::Waiting { .. } | Event::Back { .. } => eprintln!("{event}"),
            _ if is_verbose && is_listening => eprintln!("{event}"),
            _ if is_verbose => println!("{event}"),
            _ => {}
        });
        let serving = Serving {
            workers: arguments.workers.map_or_else(cores, usize::from),
            lease: arguments.sharing.lease,
            patience: arguments.sharing.patience,
            once: arguments.once,
        };
        let looking = edge.clone().map(|edge| AbortOnDropHandle::new(tokio::spawn(edge.look(store.clone()))));
        match edge {
            // Whoever read the address may read no more.
            Some(_) => tracing::info!("ready"),
            None => println!("ready"),
        }
        signals
            .run_until("the worker", async |mut stop| {
                let (end, ended) = watch::channel(false);
                let serving = serve(store, serving, tell, ended);
                tokio::pin!(serving);
                let served = tokio::select! {
                    served = &mut serving => served,
                    () = stop.asked() => {
                        end.send_replace(true);
                        serving.await
                    }
                };
                match served {
                    Ok(served) => {
                        let said = format!("took part in {}", counted(served as u64, "time"));
                        match &looking {
                            Some(_) => tracing::info!("{said}"),
                            None => println!("{said}"),
                        }
                        ExitCode::SUCCESS
                    }
                    Err(error) => {
                        complain(&error);
                        ExitCode::FAILURE
                    }
                }
            })
            .await
    });
    runtime.shutdown_background();
    code
}

/// Answers what a replica is asked, from here on to the end of this process.
async fn listen(address: SocketAddr) -> Result<Edge, ExitCode> {
    let bound = TcpListener::bind(address).await;
    let (listener, address) = match bound.and_then(|listener| Ok((listener.local_addr()?, listener))) {
        Ok((address, listener)) => (listener, address),
        Err(error) => {
            eprintln!(
                "slipring: the worker cannot listen on {address}: {error}: end who listens there, or change the port"
            );
            return Err(ExitCode::FAILURE);
        }
    };
    let edge = Edge::new();
    tokio::spawn(super::edge::serve(listener, edge.replica()));
    println!("listening on http://{address}");
    Ok(edge)
}
