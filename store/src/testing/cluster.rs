//! A throw-away PostgreSQL: in a temporary folder, on a socket in it, without TCP, as an ordinary user.
//!
//! The server runs under a shell that waits for the end of its input, which is a pipe from this process: when the process
//! ends, however it does, the pipe closes, and the shell stops the server and removes the folder.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{Connection as _, PgConnection};

/// Whom the server runs as when the tests run as root, which it refuses: nobody, everywhere but on a few old systems.
const NOBODY: u32 = 65534;

/// Reads one line, stops the server at once, and does with the folder as the line says.
const KEEPER: &str = r#"
"$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c max_connections=200 -c fsync="$3" &
server=$!
read -r word
kill -QUIT $server 2>/dev/null
wait $server
[ "$word" = keep ] || rm -rf "$2"
"#;

/// Whether `SLIPRING_REQUIRE` makes `postgres` compulsory.
pub fn required() -> bool {
    std::env::var("SLIPRING_REQUIRE").is_ok_and(|list| list.split(',').any(|item| item.trim() == "postgres"))
}

/// Why there is no PostgreSQL to test with.
#[derive(Debug, thiserror::Error)]
#[error("no initdb in PATH or /usr/lib/postgresql/*/bin: install PostgreSQL 15 or newer")]
pub struct Missing;

/// See the module.
#[derive(Debug)]
pub struct Cluster {
    programs: PathBuf,
    folder: PathBuf,
    fsync: bool,
    keeper: Option<Child>,
    databases: AtomicU32,
}

/// The folder of the newest version's programs.
fn programs() -> Option<PathBuf> {
    let has = |folder: &Path| folder.join("initdb").is_file() && folder.join("postgres").is_file();
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(folder) = std::env::split_paths(&path).find(|folder| has(folder)) {
        return Some(folder);
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let folders = versions.filter_map(|entry| {
        let entry = entry.ok()?;
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((version, entry.path().join("bin")))
    });
    folders.filter(|(_, folder)| has(folder)).max().map(|(_, folder)| folder)
}

/// A command as an ordinary user who owns the folder.
fn command(program: &Path, folder: &Path) -> io::Result<Command> {
    let mut command = Command::new(program);
    command.current_dir(folder).env("LC_ALL", "C").env_remove("PGDATA");
    if std::fs::metadata(folder)?.uid() == NOBODY {
        command.uid(NOBODY).gid(NOBODY);
    }
    Ok(command)
}

impl Cluster {
    /// Makes one and starts it. `fsync`: whether a commit waits for the disk, which only a test of the machine's
    /// death and a benchmark need.
    ///
    /// # Errors
    /// [`Missing`]: there are no programs for it; skip the test, or fail if it is [`required`].
    ///
    /// # Panics
    /// When the programs are there and do not work.
    pub fn start(fsync: bool) -> Result<Self, Missing> {
        let programs = programs().ok_or(Missing)?;
        let folder = tempfile::Builder::new().prefix("slipring-pg-").tempdir().expect("a temporary folder");
        let folder = folder.keep();
        if std::fs::metadata(&folder).expect("it was just made").uid() == 0 {
            chown(&folder, Some(NOBODY), Some(NOBODY)).expect("root gives it away");
        }
        let mut cluster = Self { programs, folder, fsync, keeper: None, databases: AtomicU32::new(0) };
        cluster.make();
        cluster.resume();
        Ok(cluster)
    }

    fn make(&self) {
        let mut initdb = command(&self.programs.join("initdb"), &self.folder).expect("its folder is there");
        initdb.args(["-D", "data", "-U", "slipring", "-A", "trust", "-E", "UTF8", "--no-sync"]);
        let made = initdb.output().expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    }

    /// Starts it again after [`Self::crash`], and waits until it takes connections.
    ///
    /// # Panics
    /// When it runs, or does not start.
    pub fn resume(&mut self) {
        assert!(self.keeper.is_none(), "it runs already");
        let mut keeper = command(Path::new("/bin/sh"), &self.folder).expect("its folder is there");
        keeper.args(["-c", KEEPER, "keeper"]).arg(&self.programs).arg(&self.folder);
        keeper.arg(if self.fsync { "on" } else { "off" });
        keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        // What interrupts the tests shall not interrupt the cleaning up.
        keeper.process_group(0);
        let mut keeper = keeper.spawn().expect("a shell");
        let mut log = BufReader::new(keeper.stderr.take().expect("it is piped")).lines();
        let mut said = Vec::new();
        loop {
            match log.next() {
                Some(Ok(line)) if line.contains("ready to accept connections") => break,
                Some(Ok(line)) => said.push(line),
                _ => panic!("PostgreSQL does not start:\n{}", said.join("\n")),
            }
        }
        // It is blocked once nobody reads its log.
        std::thread::spawn(move || log.for_each(drop));
        self.keeper = Some(keeper);
    }

    /// Stops it in the middle of whatever it does, without a checkpoint: it recovers from its log when it starts again.
    ///
    /// # Panics
    /// When it does not run.
    pub fn crash(&mut self) {
        self.end("keep").expect("it runs");
    }

    fn end(&mut self, word: &str) -> io::Result<()> {
        let mut keeper = self.keeper.take().ok_or(io::ErrorKind::NotFound)?;
        let mut input = keeper.stdin.take().ok_or(io::ErrorKind::NotFound)?;
        let told = writeln!(input, "{word}");
        drop(input);
        keeper.wait()?;
        told
    }

    /// Where a database is, or will be.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://slipring@localhost/{database}?host={}", self.folder.display())
    }

    /// Makes an empty database, and says where it is.
    ///
    /// # Panics
    /// When the server does not.
    pub async fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut db =
            PgConnection::connect(&self.url("postgres")).await.expect("the server takes connections");
        // The name is ours.
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE template0"));
        sqlx::raw_sql(create).execute(&mut db).await.expect("the server makes databases");
        db.close().await.expect("the server says goodbye");
        self.url(&name)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.end("remove").is_err() {
            // It was stopped, or has never run. What cannot be removed is in the folder for temporary things.
            drop(std::fs::remove_dir_all(&self.folder));
        }
    }
}
