//! How ends of containers are heard: the engine tells of each, and the container's log of its reason.

use std::collections::HashMap;
use std::time::Duration;

use bollard::Docker;
use bollard::models::EventMessage;
use bollard::query_parameters::{EventsOptionsBuilder, LogsOptionsBuilder};
use futures_util::StreamExt;

use super::super::state::Instance;
use super::docker::{FLEET, labelled};
use super::{Exit, Exits};

/// An end that was wanted, and a kill: a log would say nothing of their reason.
const SILENT_CODES: [&str; 3] = ["0", "137", "143"];
/// How long an end may go untold for the sake of its reason.
const LOGS_TIMEOUT: Duration = Duration::from_millis(500);
/// The most of a container's log that is told, in characters.
const LAST_WORDS: usize = 400;
/// Before the event stream is opened again.
const EVENTS_PAUSE: Duration = Duration::from_secs(1);

/// Reports every end of a container of ours, for as long as the fleet listens. Each in a task of its own: ten that
/// crash together are heard together, however long their logs take.
pub(super) async fn report_ends(docker: Docker, fleet: String, exits: Exits) {
    let mut since: Option<String> = None;
    let filters = HashMap::from([
        ("type", vec!["container".to_owned()]),
        ("event", vec!["die".to_owned()]),
        ("label", vec![format!("{FLEET}={fleet}")]),
    ]);
    while !exits.is_closed() {
        let mut options = EventsOptionsBuilder::new().filters(&filters);
        if let Some(since) = &since {
            options = options.since(since);
        }
        let options = options.build();
        let mut events = std::pin::pin!(docker.events(Some(options)));
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = exits.closed() => return,
            };
            let Some(Ok(event)) = event else { break };
            since = event.time.map(|seconds| seconds.to_string()).or(since);
            if let Some(end) = End::of(event) {
                tokio::spawn(end.report(docker.clone(), exits.clone()));
            }
        }
        tracing::debug!("the engine's events ended; they are opened again");
        tokio::time::sleep(EVENTS_PAUSE).await;
    }
}

struct End {
    instance: Instance,
    container: Option<String>,
    code: String,
}

impl End {
    fn of(event: EventMessage) -> Option<Self> {
        let actor = event.actor?;
        let mut attributes = actor.attributes?;
        let instance = labelled(&attributes)?;
        let code = attributes.remove("exitCode").unwrap_or_else(|| "unknown".to_owned());
        Some(Self { instance, container: actor.id, code })
    }

    async fn report(self, docker: Docker, exits: Exits) {
        let Self { instance, container, code } = self;
        let words = match container {
            Some(container) if !SILENT_CODES.contains(&code.as_str()) => {
                last_words(&docker, &container).await
            }
            _ => String::new(),
        };
        let why = format!("the container ended with exit code {code}{words}");
        if exits.send(Exit { instance, why }).await.is_err() {
            tracing::debug!("nobody listens any more: the fleet has ended");
        }
    }
}

/// What a container printed last, for whoever is told of its end: the container itself is removed.
pub(super) async fn last_words(docker: &Docker, container: &str) -> String {
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail("10").build();
    let mut pieces = docker.logs(container, Some(options));
    let mut words = String::new();
    let reading = async {
        while let Some(Ok(piece)) = pieces.next().await {
            words.push_str(&piece.to_string());
        }
    };
    if tokio::time::timeout(LOGS_TIMEOUT, reading).await.is_err() {
        tracing::debug!(container, "its log was not there in time");
    }
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let start = line.char_indices().rev().nth(LAST_WORDS).map_or(0, |(at, _)| at);
    if line.is_empty() { line } else { format!(", and it said: {}", &line[start..]) }
}
