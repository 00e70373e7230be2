//! Replicas as child processes, each in a process group of its own.
//!
//! The demonstration replica is this very executable, started again (`slipring server`); it binds port 0 and says
//! on its standard output where. A user's program cannot be asked that, so a free port is found for it and passed
//! as `PORT`; `slipring exec` ties it to the balancer's life before it becomes that program. A member whose work is given
//! (an overlay's process) is this executable, too, and has its port from whoever gave it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::super::state::{Handle, Instance, Running};
use super::container::default_gateways;
use super::spawner::Spawner;
use super::{Exit, Exits, Found, Runtime, RuntimeError};
use crate::config::FixedMember;

/// This executable, also after its file was replaced.
const OWN_EXECUTABLE: &str = "/proc/self/exe";
/// What a replica prints before its address.
pub const LISTENING: &str = "listening on http://";
/// The longest first line that is read.
const LONGEST_LINE: u64 = 256;
/// How long a killed process may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Process {
    instance: Instance,
    running: Running,
    pid: Pid,
    gone: watch::Receiver<bool>,
}

/// See the module.
#[derive(Debug)]
pub struct ProcessRuntime {
    command: Vec<String>,
    /// What this executable is started with where there is no command, and a variable that it finds.
    role: (Vec<String>, Option<(String, String)>),
    /// What this executable is started with as a certain member.
    given: HashMap<String, Vec<String>>,
    start_timeout: Duration,
    spawner: Spawner,
    children: Arc<DashMap<u64, Process>>,
    exits: Exits,
}

impl ProcessRuntime {
    /// Runs `command` (empty: the demonstration replica). Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the spawning thread cannot be started.
    pub fn new(command: Vec<String>, start_timeout: Duration, exits: Exits) -> Result<Self, RuntimeError> {
        let spawner = Spawner::new()
            .map_err(|source| RuntimeError::Exec { program: "the spawning thread".into(), source })?;
        let (given, children) = (HashMap::new(), Arc::default());
        let role = (["server", "--listen", "127.0.0.1:0"].map(str::to_owned).into(), None);
        Ok(Self { command, role, given, start_timeout, spawner, children, exits })
    }

    /// The same, where replicas are this executable in another role; what must not be read from its arguments is in the
    /// variable.
    #[must_use]
    pub fn with_role(self, arguments: Vec<String>, (name, value): (&str, &str)) -> Self {
        Self { role: (arguments, Some((name.to_owned(), value.to_owned()))), command: Vec::new(), ..self }
    }

    /// The same, where all members are these, and their work is given.
    #[must_use]
    pub fn with_members(self, members: &[FixedMember]) -> Self {
        let given = members.iter().map(|member| (member.name.clone(), member.process.clone())).collect();
        Self { given, command: Vec::new(), ..self }
    }

    fn command(&self, instance: &Instance) -> Result<(Command, Option<SocketAddr>), RuntimeError> {
        let mut command = Command::new(OWN_EXECUTABLE);
        let parent = std::process::id().to_string();
        command.arg0("slipring").env("SERVER_ID", instance.id.number().to_string());
        command.process_group(0).kill_on_drop(true).stdin(Stdio::null()).env_remove("SLIPRING_ADMIN_TOKEN");
        if let Some(arguments) = self.given.get(&instance.name) {
            command.args(arguments).args(["--parent", &parent]).stdout(Stdio::piped());
            return Ok((command, None));
        }
        if self.command.is_empty() {
            let (arguments, variable) = &self.role;
            command.args(arguments).args(["--parent", &parent]).stdout(Stdio::piped());
            command.envs(variable.clone());
            return Ok((command, None));
        }
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .map_err(|source| RuntimeError::Exec { program: self.command[0].clone(), source })?;
        command.args(["exec", "--parent", &parent, "--"]).args(&self.command);
        // The balancer's own output is read by tools; what a user's program says belongs to the messages.
        let messages = std::io::stderr().as_fd().try_clone_to_owned();
        command.stdout(messages.map_or_else(|_| Stdio::null(), Stdio::from));
        command.env("PORT", address.port().to_string());
        Ok((command, Some(address)))
    }

    /// Owns the child until its end, which it reports.
    fn watch(&self, instance: &Instance, mut child: Child, running: Running, pid: Pid) {
        let (gone_sender, gone) = watch::channel(false);
        let process = Process { instance: instance.clone(), running, pid, gone };
        self.children.insert(instance.incarnation, process);
        let (children, exits, instance) = (self.children.clone(), self.exits.clone(), instance.clone());
        tokio::spawn(async move {
            let why = match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            };
            // What a user's program started and left behind is in its group, whose id lives as long as it does.
            if kill_process_group(pid, Signal::KILL).is_ok() {
                tracing::info!(name = instance.name, "its process group was ended with it");
            }
            children.remove(&instance.incarnation);
            gone_sender.send_replace(true);
            if exits.send(Exit { instance, why }).await.is_err() {
                tracing::debug!("a replica ended after the fleet");
            }
        });
    }
}

impl Runtime for ProcessRuntime {
    fn name(&self) -> &'static str {
        "process"
    }

    async fn prepare(&self) -> Result<(), RuntimeError> {
        self.command.first().map_or(Ok(()), |program| find(program))
    }

    async fn vet(&self, _names: &[String]) -> Result<(), RuntimeError> {
        Ok(()) // names of processes are nobody else's
    }

    async fn spawn(&self, instance: &Instance) -> Result<Running, RuntimeError> {
        let (command, address) = self.command(instance)?;
        let program = || self.command.first().cloned().unwrap_or_else(|| "a replica".to_owned());
        let spawned = self.spawner.spawn(command).await.ok_or(RuntimeError::ShuttingDown)?;
        let mut child = spawned.map_err(|source| RuntimeError::Exec { program: program(), source })?;
        let address = match address {
            Some(address) => address,
            None => match tokio::time::timeout(self.start_timeout, announced(&mut child)).await {
                Ok(Some(address)) => address,
                Ok(None) => {
                    let ended = tokio::time::timeout(KILL_TIMEOUT, child.wait()).await;
                    let status =
                        ended.ok().and_then(Result::ok).map_or("it is still there".into(), |s| s.to_string());
                    return Err(RuntimeError::EndedEarly { name: instance.name.clone(), status });
                }
                Err(_) => {
                    return Err(RuntimeError::Silent {
                        name: instance.name.clone(),
                        within: self.start_timeout,
                    });
                }
            },
        };
        let ended_early =
            || RuntimeError::EndedEarly { name: instance.name.clone(), status: "at once".into() };
        let pid_number = child.id().ok_or_else(ended_early)?;
        let pid = i32::try_from(pid_number).ok().and_then(Pid::from_raw).ok_or_else(ended_early)?;
        let running = Running { address, handle: Handle::Pid(pid_number) };
        self.watch(instance, child, running.clone(), pid);
        Ok(running)
    }

    async fn stop(&self, instance: &Instance, grace: Duration) -> Result<(), RuntimeError> {
        let Some((pid, mut gone)) = self.children.get(&instance.incarnation).map(|p| (p.pid, p.gone.clone()))
        else {
            return Ok(());
        };
        for (signal, patience) in [(Signal::INT, grace), (Signal::KILL, KILL_TIMEOUT)] {
            if patience.is_zero() {
                continue;
            }
            if let Err(error) = kill_process_group(pid, signal) {
                tracing::debug!(%error, ?signal, name = instance.name, "it ended by itself");
            }
            if tokio::time::timeout(patience, gone.wait_for(|gone| *gone)).await.is_ok() {
                return Ok(());
            }
        }
        let pid = pid.as_raw_nonzero().get().unsigned_abs();
        Err(RuntimeError::Unkillable { name: instance.name.clone(), pid })
    }

    async fn own_addresses(&self) -> Vec<IpAddr> {
        default_gateways()
    }

    async fn clean_up(&self) {}

    async fn list(&self) -> Result<Vec<Found>, RuntimeError> {
        let found = |p: &Process| Found { instance: p.instance.clone(), running: Some(p.running.clone()) };
        Ok(self.children.iter().map(|child| found(child.value())).collect())
    }
}

/// Whether there is such a program, looked for as `exec` will: a path as it is, a name along `PATH`.
fn find(program: &str) -> Result<(), RuntimeError> {
    let executable =
        |path: &Path| path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let (there, searched) = if program.contains('/') {
        (executable(Path::new(program)), "")
    } else {
        (std::env::split_paths(&path).any(|folder| executable(&folder.join(program))), " on PATH")
    };
    if there { Ok(()) } else { Err(RuntimeError::NoProgram { program: program.to_owned(), searched }) }
}

/// The address on the child's first line; `None` if it says something else or nothing.
async fn announced(child: &mut Child) -> Option<SocketAddr> {
    let output = child.stdout.take()?;
    let mut line = String::new();
    BufReader::new(output.take(LONGEST_LINE)).read_line(&mut line).await.ok()?;
    line.trim_end().strip_prefix(LISTENING)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_looked_for_as_it_will_be_started() {
        for there in ["sh", "/bin/sh"] {
            assert!(find(there).is_ok(), "{there}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let no_program = file.path().to_str().unwrap();
        for missing in ["no-such-program", "/nonexistent/program", "/bin", no_program, "./sh"] {
            let words = find(missing).unwrap_err().to_string();
            assert!(words.contains("process.command") && words.contains(missing), "{words}");
        }
    }
}
