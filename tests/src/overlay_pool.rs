//! An overlay of a test's own: its file, on a loopback address that no other test has, and a small data set.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Days of both teams, so that each of the three workers holds some.
const DAYS: [u32; 7] = [20_200_810, 20_200_814, 20_200_815, 20_200_821, 20_200_822, 20_200_823, 20_200_824];
/// Rows of each day.
const ROWS: u32 = 60;

/// See the module.
#[derive(Debug)]
pub struct Overlay {
    folder: TempDir,
    /// What its file says.
    pub file: Value,
}

impl Overlay {
    /// The six processes of the contract.
    ///
    /// # Panics
    /// When a file cannot be written or no port is free.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same, and what `change` makes of the file.
    pub fn with(change: impl FnOnce(&mut Value)) -> Self {
        let mut file: Value =
            serde_json::from_str(include_str!("../../overlay/topologies/baseline.json")).expect("it is JSON");
        let host = own_loopback();
        change(&mut file);
        // All are bound before one is let go: no two are alike. What else listens here listens elsewhere: nobody takes
        // them before, and between, the processes' lives.
        let mut bound = Vec::new();
        for process in file["processes"].as_object_mut().expect("an object").values_mut() {
            if process["host"] == "127.0.0.1" {
                let listener = TcpListener::bind((host, 0)).expect("a port is free");
                process["port"] = listener.local_addr().expect("it is bound").port().into();
                process["host"] = host.to_string().into();
                bound.push(listener);
            }
        }
        let folder = TempDir::new().expect("a temporary folder can be made");
        let overlay = Self { folder, file };
        overlay.write();
        for day in DAYS {
            let folder = overlay.data().join(day.to_string());
            std::fs::create_dir_all(&folder).expect("the folder is ours");
            std::fs::write(folder.join(format!("{day}-00.csv")), rows(day)).expect("the folder is ours");
        }
        overlay
    }

    /// Writes the file as it is now.
    pub fn write(&self) {
        std::fs::write(self.topology(), self.file.to_string()).expect("the folder is ours");
    }

    /// Where the file is.
    pub fn topology(&self) -> PathBuf {
        self.folder.path().join("overlay.json")
    }

    /// Where the data is.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A pool of this name in a balancer's file, with the keys that every test wants.
    pub fn pool(&self, name: &str) -> String {
        let shown = |path: &Path| format!("{:?}", path.display().to_string());
        format!(
            "[pool.{name}]\nroutes = [\"/overlay/*\", \"/OverlayNode/*\"]\noverlay.topology = {}\noverlay.dataset_root = {}\n\
             overlay.arguments = [\"--threads\", \"1\", \"--cache\", {}]\n",
            shown(&self.topology()),
            shown(&self.data()),
            shown(&self.folder.path().join("cache"))
        )
    }

    /// How many rows of a parameter have a value of at least `least`.
    pub fn matched(&self, parameter: &str, least: u32) -> usize {
        let all = DAYS.iter().flat_map(|day| (0..ROWS).map(move |row| measured(*day, row)));
        all.filter(|(what, value)| *what == parameter && *value >= least).count()
    }

    /// One more leader, beside A.
    pub fn second_leader(file: &mut Value, id: &str) {
        file["processes"][id] = file["processes"]["A"].clone();
        file["processes"][id]["id"] = id.into();
        file["leaders"] = json!(2);
    }
}

impl Default for Overlay {
    fn default() -> Self {
        Self::new()
    }
}

/// One of the 16 million addresses of this machine that nobody else has chosen.
pub(crate) fn own_loopback() -> Ipv4Addr {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high.max(1), low, COUNT.fetch_add(1, Ordering::Relaxed))
}

fn measured(day: u32, row: u32) -> (&'static str, u32) {
    (["PM2.5", "OZONE"][(row % 2) as usize], (row * 7 + day) % 50)
}

fn rows(day: u32) -> String {
    let mut text = String::new();
    let [year, month, date] = [day / 10_000, day / 100 % 100, day % 100].map(|number| format!("{number:02}"));
    for row in 0..ROWS {
        let (parameter, value) = measured(day, row);
        writeln!(
            text,
            "\"{}.5\",\"-100.5\",\"{year}-{month}-{date}T00:00\",\"{parameter}\",\"{value}.0\",\"UG/M3\",\"{value}.0\",\"-999\",\"2\",\
             \"Site {row}\",\"Agency, of Air\",\"0{row}\",\"840{row}\"",
            row % 50
        )
        .expect("a string takes it");
    }
    text
}
