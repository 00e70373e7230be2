//! The programs that are measured with, found where they are installed. Nothing is installed from here.

use std::env;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use crate::error::Error;
use crate::load::Generator;
use crate::peer::Peer;
use crate::plan::{Plan, Workload};

/// Beside PATH: system programs are often not on a user's.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/sbin"];

/// Where everything is.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    /// The backends, and a peer.
    pub(crate) nginx: PathBuf,
    pub(crate) haproxy: Option<PathBuf>,
    pub(crate) slipring: Option<PathBuf>,
    /// The generator of HTTP/1.1 load.
    pub(crate) generator: Option<(Generator, PathBuf)>,
    pub(crate) h2load: Option<PathBuf>,
}

/// What a program says that it is.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Version {
    program: &'static str,
    version: String,
}

impl Tools {
    /// Finds what the plan needs, or says all that is missing.
    pub(crate) fn find(plan: &Plan, slipring: Option<&Path>) -> Result<Self, Error> {
        let mut missing = Vec::new();
        let mut need = |name: &str, needed: bool| {
            let found = find(name).filter(|_| needed);
            if needed && found.is_none() {
                missing.push(format!("{name} (a system package)"));
            }
            found
        };
        let http2 = plan
            .cases
            .iter()
            .any(|case| matches!(case.workload, Workload::Http2 { .. } | Workload::Grpc { .. }));
        let nginx = need("nginx", true);
        let haproxy = need("haproxy", plan.peers.contains(&Peer::Haproxy));
        let h2load = need("h2load", http2);
        let generator = Generator::ALL.iter().find_map(|&kind| Some((kind, find(kind.program())?)));
        if !http2 && generator.is_none() {
            missing.push("wrk or oha (system packages)".to_owned());
        }
        // Programs run in folders of their own.
        let slipring = slipring.and_then(|path| path.canonicalize().ok()).filter(|path| is_executable(path));
        if plan.peers.contains(&Peer::Slipring) && slipring.is_none() {
            missing.push("slipring (--slipring PATH, a release build)".to_owned());
        }
        let nginx = nginx.unwrap_or_default();
        if missing.is_empty() {
            Ok(Self { nginx, haproxy, slipring, generator, h2load })
        } else {
            Err(Error::Missing(missing))
        }
    }

    /// Where a peer's program is.
    pub(crate) fn program(&self, peer: Peer) -> PathBuf {
        let path = match peer {
            // Its replicas.
            Peer::Nginx | Peer::Direct => Some(&self.nginx),
            Peer::Haproxy => self.haproxy.as_ref(),
            Peer::Slipring => self.slipring.as_ref(),
        };
        path.expect("what the plan needs was found").clone()
    }

    pub(crate) fn versions(&self) -> Vec<Version> {
        let generator = self.generator.as_ref();
        let programs = [
            ("nginx", Some(&self.nginx), "-v"),
            ("haproxy", self.haproxy.as_ref(), "-v"),
            ("slipring", self.slipring.as_ref(), "--version"),
            ("h2load", self.h2load.as_ref(), "--version"),
            ("wrk", generator.filter(|(kind, _)| *kind == Generator::Wrk).map(|(_, path)| path), "-v"),
            ("oha", generator.filter(|(kind, _)| *kind == Generator::Oha).map(|(_, path)| path), "--version"),
        ];
        let version = |(program, path, flag): (&'static str, Option<&PathBuf>, &str)| {
            Some(Version { program, version: first_line(path?, flag) })
        };
        programs.into_iter().filter_map(version).collect()
    }
}

/// The first line of what it says on either output: nginx and wrk tell their version as if it were an error.
fn first_line(program: &Path, flag: &str) -> String {
    let Ok(output) = Command::new(program).arg(flag).output() else { return "unknown".to_owned() };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().next().unwrap_or("unknown").trim().to_owned()
}

fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(SYSTEM_FOLDERS.map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Cli;
    use clap::Parser as _;

    #[test]
    fn a_shell_is_found_and_nonsense_is_not() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program-anywhere"), None);
    }

    #[test]
    fn a_missing_executable_of_ours_is_said() {
        let cli = Cli::parse_from(["bench-proxy", "--peers", "slipring"]);
        let plan = Plan::new(&cli.flags).unwrap();
        let Err(Error::Missing(missing)) = Tools::find(&plan, Some(Path::new("no/such/file"))) else {
            panic!("it was found");
        };
        assert!(missing.iter().any(|what| what.starts_with("slipring")), "{missing:?}");
    }
}
