//! The thread that starts processes, and nothing else.
//!
//! A child asks the kernel to be killed when its parent *thread* ends (PR_SET_PDEATHSIG). tokio's threads come
//! and go; this one lives as long as the runtime that owns it.

use std::io;
use std::sync::mpsc;

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

struct Request {
    command: Command,
    reply: oneshot::Sender<io::Result<Child>>,
}

#[derive(Debug)]
pub(super) struct Spawner {
    requests: mpsc::Sender<Request>,
}

impl Spawner {
    /// # Errors
    /// When no thread can be started.
    pub(super) fn new() -> io::Result<Self> {
        let (requests, queue) = mpsc::channel::<Request>();
        let tokio = Handle::current();
        std::thread::Builder::new().name("spawner".into()).spawn(move || {
            let _context = tokio.enter();
            for Request { mut command, reply } in queue {
                // A caller that gave up drops the child, which `kill_on_drop` ends.
                drop(reply.send(command.spawn()));
            }
        })?;
        Ok(Self { requests })
    }

    /// Starts a process. `None` when the thread is gone.
    pub(super) async fn spawn(&self, command: Command) -> Option<io::Result<Child>> {
        let (reply, started) = oneshot::channel();
        self.requests.send(Request { command, reply }).ok()?;
        started.await.ok()
    }
}
