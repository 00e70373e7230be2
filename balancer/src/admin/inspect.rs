//! What is to be seen: metrics, health, the ring, one key's way through it, the replicas, the events.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, RawQuery, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};
use slipring_hashing::{Key, Placement, stats};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::refusal::Refusal;
use super::{Admin, MOST_CALLS, MOST_WATCHERS};
use crate::fleet::events::{Events, FleetEvent};
use crate::fleet::state::{ReplicaView, State as ReplicaState};
use crate::metrics::Administration;
use crate::proxy::forward::Pool;
use crate::proxy::key::KeySource;
use crate::snapshot::{Entry, Snapshot};

pub(super) async fn metrics(State(admin): State<Admin>) -> Result<Response, Refusal> {
    let now = Administration {
        calls: MOST_CALLS - admin.calling.available_permits(),
        watchers: MOST_WATCHERS - admin.watching.available_permits(),
        pages: admin.watchers.taken(),
    };
    let pools = admin.pools.load_full();
    let snapshots: Vec<_> = pools.all().map(|pool| (&pool.config, pool.fleet.snapshot())).collect();
    match admin.metrics.encode(&snapshots, now) {
        Ok((content_type, text)) => Ok(([(CONTENT_TYPE, content_type)], text).into_response()),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be encoded");
            Err(Refusal::Internal("the metrics cannot be encoded"))
        }
    }
}

/// The process runs and answers.
pub(super) async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// A replica is live that takes requests, and the balancer is not on its way out: send requests here. `?all=true` asks
/// for every member of every pool.
pub(super) async fn readyz(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    let pools = admin.pools.load_full();
    let (mut live, mut members, mut can_answer) = (0, 0, false);
    for snapshot in pools.all().map(|pool| pool.fleet.look()) {
        live += snapshot.count(ReplicaState::Live);
        members += snapshot.len();
        can_answer |= snapshot.can_answer();
    }
    let wanted = if query.as_deref() == Some("all=true") { members } else { 1 };
    let stopping = admin.stopping.is_cancelled();
    let ready = can_answer && live >= wanted && !stopping;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready, "live": live, "members": members, "stopping": stopping })))
        .into_response()
}

/// Who takes what, the pool without a name first.
pub(super) async fn pools(State(admin): State<Admin>) -> Json<Value> {
    let pools = admin.pools.load_full();
    let described = |pool: &Arc<Pool>| {
        let snapshot = pool.fleet.look();
        let routes: Vec<_> = match pool.config.is_default() {
            true => pools.config.paths.clone(),
            false => pool.config.routes.iter().map(ToString::to_string).collect(),
        };
        let mut described = json!({
            "name": &*pool.config.name,
            "routes": routes,
            "placement": describe(snapshot.table.placement()),
            "key": pool.config.forward.key.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "static": !pool.config.fleet.upstreams.is_empty(),
            "N": snapshot.len(),
            "live": snapshot.count(ReplicaState::Live),
        });
        if let Some(overlay) = &pool.config.overlay {
            let members = overlay.members.iter();
            let roles: serde_json::Map<_, _> =
                members.map(|member| (member.name.clone(), json!(member.role))).collect();
            described["overlay"] = json!(roles);
        }
        described
    };
    Json(json!({ "pools": pools.all().map(described).collect::<Vec<_>>() }))
}

pub(super) async fn replicas(State(admin): State<Admin>, uri: Uri) -> Result<Json<Value>, Refusal> {
    let snapshot = admin.pool(&uri)?.fleet.snapshot();
    let is_ejected = |view: &ReplicaView| {
        let upstream = snapshot.entry(view.id).and_then(|entry| entry.upstream.as_ref());
        upstream.is_some_and(|upstream| {
            upstream.instance.incarnation == view.incarnation && upstream.health.is_ejected()
        })
    };
    let seen = |view: &ReplicaView| {
        let mut seen = json!(view);
        seen["ejected"] = is_ejected(view).into();
        seen
    };
    Ok(Json(json!({ "replicas": snapshot.views.iter().map(seen).collect::<Vec<_>>() })))
}

pub(super) fn describe(placement: &Placement) -> Value {
    match placement {
        Placement::Slots { pair, slots, virtual_servers, probing } => json!({
            "name": placement.name(),
            "hash": pair.to_string(),
            "slots": slots,
            "virtual_servers": virtual_servers,
            "probing": format!("{probing:?}").to_lowercase(),
        }),
        _ => json!({ "name": placement.name() }),
    }
}

fn name(snapshot: &Snapshot, id: slipring_hashing::ReplicaId) -> Option<&str> {
    snapshot
        .views
        .iter()
        .find(|view| view.id == id && view.state != ReplicaState::Draining)
        .map(|view| view.name.as_str())
}

/// Slots, shares and their balance.
pub(super) async fn ring(State(admin): State<Admin>, uri: Uri) -> Result<Json<Value>, Refusal> {
    let snapshot = admin.pool(&uri)?.fleet.snapshot();
    let table = &snapshot.table;
    let shares = table.shares();
    let loads: Vec<f64> = shares.iter().map(|(_, share)| *share).collect();
    let replicas: Vec<_> = shares
        .iter()
        .map(|(id, share)| json!({ "id": id.number(), "name": name(&snapshot, *id), "share": share }))
        .collect();
    let occupied: Vec<_> = table.occupied().iter().map(|(slot, id)| json!([slot, id.number()])).collect();
    Ok(Json(json!({
        "placement": describe(table.placement()),
        "slots": table.slots(),
        "replicas": replicas,
        "occupied": occupied,
        "balance": {
            "max_over_mean": stats::max_over_mean(&loads),
            "coefficient_of_variation": stats::coefficient_of_variation(&loads),
        },
    })))
}

#[derive(Deserialize)]
pub(super) struct RouteQuery {
    key: Option<String>,
    #[serde(rename = "as")]
    kind: Option<String>,
}

/// Which slot a key has, which replica, which next, and why.
///
/// `as` says what the key is: `id`, a request id, which is what is drawn when keys are random (then digits are
/// taken for one); `bytes`, which is what every other source yields.
pub(super) async fn route(
    State(admin): State<Admin>,
    uri: Uri,
    query: Result<Query<RouteQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let pool = admin.pool(&uri)?;
    let sources = &pool.config.forward.key;
    let Ok(Query(RouteQuery { key: Some(text), kind })) = query else { return Err(Refusal::NoKey) };
    let drawn = matches!(sources.first(), None | Some(KeySource::Random));
    let key = match (kind.as_deref(), text.parse::<u32>()) {
        (Some("id"), Ok(number)) => Key::Id(number),
        (None, Ok(number)) if drawn => Key::Id(number),
        (None | Some("bytes"), _) => Key::Bytes(text.as_bytes()),
        (Some("id"), Err(_)) => return Err(Refusal::NoId),
        (Some(_), _) => return Err(Refusal::NoKind),
    };
    let snapshot = pool.fleet.snapshot();
    let slot = snapshot.table.slot_of(key);
    let chosen = snapshot.candidates(slot).next().map(|upstream| upstream.instance.id);
    let standing = |id| snapshot.entry(id).and_then(Standing::of);
    let preference: Vec<_> = snapshot
        .table
        .preference(slot)
        .map(|id| {
            let entry = snapshot.entry(id);
            json!({
                "id": id.number(),
                "name": name(&snapshot, id),
                "state": entry.map(|entry| entry.state.name()),
                "ejected": standing(id) == Some(Standing::Ejected),
                "chosen": Some(id) == chosen,
            })
        })
        .collect();
    let first = snapshot.table.owner(slot);
    let why = why(first.is_some(), first == chosen, first.and_then(standing), chosen.and_then(standing));
    let kind = if matches!(key, Key::Id(_)) { "id" } else { "bytes" };
    let body = json!({
        "key": text,
        "as": kind,
        "slot": slot,
        "replica": chosen.and_then(|id| name(&snapshot, id)),
        "preference": preference,
        "why": why,
        "bounded_load": pool.config.forward.bounded_load.is_some(),
        "key_sources": sources.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    Ok(Json(body).into_response())
}

/// What speaks for or against a replica that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Well,
    /// Live, and left out because requests failed.
    Ejected,
    Suspect,
}

impl Standing {
    fn of(entry: &Entry) -> Option<Self> {
        let upstream = entry.upstream.as_ref()?;
        match entry.state {
            ReplicaState::Live if upstream.health.is_ejected() => Some(Self::Ejected),
            ReplicaState::Live => Some(Self::Well),
            ReplicaState::Suspect => Some(Self::Suspect),
            _ => None,
        }
    }
}

/// Why the chosen one of the slot's replicas answers, whose first stands as `first`.
fn why(any: bool, first_is_chosen: bool, first: Option<Standing>, chosen: Option<Standing>) -> &'static str {
    match (chosen, first) {
        _ if !any => "there are no replicas",
        (None, _) => "no replica is live or suspect: clients get 503",
        (Some(Standing::Well), _) if first_is_chosen => "the slot's first replica is live",
        (Some(Standing::Well), Some(Standing::Ejected)) => {
            "the slot's first replica is left out for a while, because requests to it failed: the first healthy one of \
             its preference answers"
        }
        (Some(Standing::Well), _) => {
            "the slot's first replica is not live: the first live one of its preference answers"
        }
        (Some(Standing::Suspect), _) if first_is_chosen => {
            "no replica is well: the slot's first replica is suspect, which may only be slow, and is asked"
        }
        (Some(Standing::Suspect), _) => {
            "no replica is well: the first suspect one of the slot's preference, which may only be slow, is asked"
        }
        (Some(Standing::Ejected), _) => {
            "no replica is well: the first of the slot's preference that lives is asked, though requests to it failed"
        }
    }
}

/// Everything the fleet remembers, and everything that follows; `Last-Event-ID` leaves out what is known, and `?pool=`
/// what is another pool's.
pub(super) async fn events(
    State(admin): State<Admin>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    // Its name alone: one who watches does not keep a pool that is gone.
    let only = admin.named_pool(&uri)?.map(|pool| pool.config.name.clone());
    let place = admin.watching.clone().try_acquire_owned().map_err(|_| Refusal::Overloaded)?;
    let known = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok()).unwrap_or(0);
    let told = follow(&admin.events, known, only, admin.ended);
    let held = told.map(move |event| {
        let _place = &place; // goes with the stream
        Ok::<_, Infallible>(event)
    });
    Ok(Sse::new(held).keep_alive(KeepAlive::default()).into_response())
}

/// The events after the one that is `known`. One who reads too slowly is told how many were missed; after that it may
/// come again with the last number that it knows. Once they have `ended`, what was told is told to the end.
///
/// With `only` a pool those of others are left out; of what was missed nobody knows whose it was.
fn follow(
    events: &Events,
    known: u64,
    only: Option<Arc<str>>,
    ended: CancellationToken,
) -> impl Stream<Item = Event> + use<> {
    let (mut past, live) = events.subscribe(known);
    let is_wanted = move |event: &Arc<FleetEvent>| only.as_ref().is_none_or(|pool| *pool == event.pool);
    past.retain(&is_wanted);
    let follow = stream::unfold((live, ended, is_wanted), |(mut live, ended, is_wanted)| async {
        loop {
            let told = tokio::select! {
                biased;
                told = live.recv() => told,
                () = ended.cancelled() => return None,
            };
            let event = match told {
                Ok(event) if is_wanted(&event) => line(&event),
                Ok(_) => continue,
                Err(RecvError::Lagged(missed)) => {
                    Event::default().event("lagged").data(json!({ "missed": missed }).to_string())
                }
                Err(RecvError::Closed) => return None,
            };
            return Some((event, (live, ended, is_wanted)));
        }
    });
    stream::iter(past).map(|event| line(&event)).chain(follow)
}

fn line(event: &Arc<FleetEvent>) -> Event {
    Event::default().id(event.sequence.to_string()).event(event.news.name()).data(json!(**event).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::events::News;

    fn publish(events: &Events, names: std::ops::Range<u64>) {
        for n in names {
            events.publish(n, News::Live { replica: format!("S{n}") });
        }
    }

    /// The text of the next `count` events.
    async fn next(stream: impl Stream<Item = Event> + Send + 'static, count: usize) -> String {
        let body = Sse::new(stream.take(count).map(Ok::<_, Infallible>)).into_response().into_body();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn only_what_is_not_known_is_told() {
        let events = Events::starting_at(100);
        publish(&events, 0..5);
        let stream = follow(&events, 102, None, CancellationToken::new());
        publish(&events, 5..7);
        let told = next(stream, 4).await;
        let ids: Vec<_> = told.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
        assert_eq!(ids, ["103", "104", "105", "106"], "{told}");
    }

    #[tokio::test]
    async fn one_who_watches_a_pool_is_told_of_no_other() {
        let events = Events::starting_at(100);
        let (api, other) = (Arc::from("api"), Arc::from("other"));
        let (of_api, of_other) = (events.of_pool(&api), events.of_pool(&other));
        let all = [&of_api, &of_other, &events];
        all.iter().for_each(|events| publish(events, 0..1));
        let stream = follow(&events, 0, Some(api), CancellationToken::new());
        all.iter().rev().for_each(|events| publish(events, 1..2));
        let told = next(stream, 2).await;
        let ids: Vec<_> = told.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
        assert_eq!(ids, ["100", "105"], "one of the past, one of what followed: {told}");
    }

    #[tokio::test]
    async fn one_who_reads_too_slowly_learns_how_many_were_missed() {
        let events = Events::starting_at(1);
        let stream = follow(&events, 0, None, CancellationToken::new());
        publish(&events, 0..3000);
        let told = next(stream, 2).await;
        let first = told.split("\n\n").next().unwrap();
        let missed: Value = serde_json::from_str(first.split_once("data: ").unwrap().1).unwrap();
        assert!(first.contains("event: lagged"), "{first}");
        let missed = missed["missed"].as_u64().unwrap();
        assert!(told.contains(&format!("id: {}\n", missed + 1)), "the next one follows: {missed} {told}");
    }

    #[test]
    fn why_says_how_the_chosen_one_and_the_first_stand() {
        let all = [Standing::Well, Standing::Ejected, Standing::Suspect];
        for (is_first, chosen) in all.into_iter().flat_map(|chosen| [(true, chosen), (false, chosen)]) {
            let first = if is_first { chosen } else { Standing::Ejected };
            let why = why(true, is_first, Some(first), Some(chosen));
            assert_eq!(why.contains("suspect"), chosen == Standing::Suspect, "{why}");
            assert_eq!(why.contains("no replica is well"), chosen != Standing::Well, "{why}");
            assert_eq!(why.contains("left out"), chosen == Standing::Well && !is_first, "{why}");
        }
        assert!(why(true, false, None, Some(Standing::Well)).contains("not live"));
        assert!(why(true, false, None, None).contains("503"));
        assert!(why(false, true, None, None).contains("no replicas"));
    }

    #[tokio::test]
    async fn what_was_told_before_the_end_is_told() {
        let (events, ended) = (Events::starting_at(1), CancellationToken::new());
        let stream = follow(&events, 0, None, ended.clone());
        publish(&events, 0..3);
        ended.cancel();
        assert_eq!(next(stream, usize::MAX).await.matches("event: live").count(), 3);
    }
}
