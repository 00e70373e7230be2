//! The graph of an overlay, from the configuration that its processes read: their names and their neighbors, and nothing else
//! of it. A link counts both ways, whoever of the two names it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::graph::Sketch;
use super::{AtProcess, Graph, GraphError, WrongProcess};

#[derive(Deserialize)]
struct File {
    processes: BTreeMap<String, Process>,
}

#[derive(Deserialize)]
struct Process {
    id: Option<String>,
    #[serde(default)]
    neighbors: Vec<String>,
}

impl Graph {
    /// Reads an overlay's configuration. Nodes come in the order of their names.
    ///
    /// # Errors
    /// With every mistake in it.
    pub fn parse_overlay(text: &str) -> Result<Self, GraphError> {
        let file: File = serde_json::from_str(text).map_err(GraphError::Overlay)?;
        let mut sketch = Sketch::default();
        let mut mistakes = Vec::new();
        let mut note = |process: &str, wrong| {
            mistakes.push(AtProcess { process: super::words::cut(process), wrong });
        };
        let places: BTreeMap<&str, _> =
            file.processes.keys().map(|name| (name.as_str(), sketch.add(name))).collect();
        for (name, process) in &file.processes {
            if let Some(id) = process.id.as_ref().filter(|id| *id != name) {
                note(name, WrongProcess::OtherId(super::words::cut(id)));
            }
            let from = match &places[name.as_str()] {
                Ok(place) => *place,
                Err(wrong) => {
                    note(name, wrong.clone().into());
                    continue;
                }
            };
            for neighbor in &process.neighbors {
                match places.get(neighbor.as_str()) {
                    None => note(name, WrongProcess::NoNeighbor(super::words::cut(neighbor))),
                    // It is told as a mistake of its own.
                    Some(Err(_)) => {}
                    Some(Ok(to)) => {
                        if let Err(wrong) = sketch.link(from, *to, true) {
                            note(name, wrong.into());
                        }
                    }
                }
            }
        }
        if mistakes.is_empty() { Ok(sketch.finish()) } else { Err(GraphError::Processes(mistakes)) }
    }
}
