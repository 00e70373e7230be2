//! HTTP beside gRPC on the same port: heartbeats, metrics, and questions. `openapi.json` describes it; tests compare.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Extensions, HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tonic::service::Routes;

use super::client_edge::{arrow, client_of, holder_of, named};
use super::{Asked, LONGEST_NAME, Node, Refusal, echo_edge, survey_edge, watch_edge, words};
use crate::query::{Query, Uid};
use crate::record;
use crate::results::Answer;
use crate::topology::Role;
use crate::wire::Coverage;

/// Records that are written at once.
const AT_ONCE: usize = 1000;
/// All of this in OpenAPI 3.1.
const DESCRIPTION: &str = include_str!("../../openapi.json");

/// HTTP, and gRPC behind it.
pub(super) fn router(node: &Arc<Node>, services: Routes) -> Router {
    let whole = survey_edge::Whole::of(node);
    let watched = watch_edge::Watched::of(whole.clone());
    Router::new()
        .route("/heartbeat", get(heartbeat))
        .route("/metrics", get(metrics))
        .route("/overlay/metrics", get(move |node| survey_edge::metrics(node, whole)))
        .route("/overlay/watch", get(move |node| watch_edge::watch(node, watched)))
        .route("/overlay/echo", get(echo_edge::echo))
        .route("/overlay/malformed", get(malformed))
        .route("/overlay/openapi.json", get(openapi))
        .route("/overlay/query", post(query))
        .route("/overlay/query/{uid}", axum::routing::delete(release))
        .route("/overlay/query/{uid}/{chunk}", get(chunk))
        .with_state(node.clone())
        .merge(services.into_axum_router())
        .fallback(nowhere)
}

/// Live once the partitions are loaded: until then questions wait. Of the workers below it says nothing: they have a
/// heartbeat of their own.
async fn heartbeat(State(node): State<Arc<Node>>) -> Response {
    match node.asker.holdings.now() {
        // Who cannot read one day answers for the others: to be started again would help nobody.
        Some(held) => {
            match held.iter().filter_map(|(date, held)| Some((date, held.as_ref().err()?))).next() {
                None => (StatusCode::OK, "").into_response(),
                Some((date, why)) => {
                    let unreadable = held.values().filter(|held| held.is_err()).count();
                    let words = format!(
                        "{unreadable} of {} partitions cannot be read, {date} because: {why}; it is tried again\n",
                        held.len()
                    );
                    (StatusCode::OK, words).into_response()
                }
            }
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "its partitions are still being loaded\n").into_response(),
    }
}

/// The lines of this process's files that are no rows, and the partitions that it cannot read; and who knows of others.
async fn malformed(State(node): State<Arc<Node>>) -> Response {
    let held = node.asker.holdings.now().unwrap_or_default();
    let files = held.values().filter_map(|held| held.as_ref().ok()).flat_map(|partition| {
        partition.bad_files.iter().map(|(file, lines)| {
            let told = partition.told.iter().filter(|bad| bad.file == *file);
            let told: Vec<_> = told.map(|bad| json!({"line": bad.line, "why": bad.why})).collect();
            json!({"date": partition.date.to_string(), "file": file, "lines": lines, "first": told})
        })
    });
    let unreadable = held.iter().filter_map(|(date, held)| Some((date, held.as_ref().err()?)));
    let unreadable: Vec<_> =
        unreadable.map(|(date, why)| json!({"date": date.to_string(), "why": why})).collect();
    let others = node.topology.processes.values().filter(|process| process.role == Role::Worker);
    let others = others.filter(|process| process.id != node.process.id).map(|process| {
        let at = format!("http://{}/overlay/malformed", process.authority());
        json!({"process": process.id.as_str(), "at": at})
    });
    let workers: Vec<_> = others.collect();
    Json(json!({"files": files.collect::<Vec<_>>(), "unreadable": unreadable, "workers": workers}))
        .into_response()
}

async fn metrics(State(node): State<Arc<Node>>) -> Response {
    let text = node.metrics.text(&node);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// What is on no path: gRPC says so in trailers, under a status that would be 200 for everybody else.
async fn nowhere(headers: HeaderMap) -> Response {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    if kind.starts_with(b"application/grpc") {
        return tonic::Status::unimplemented("there is no such service").into_http();
    }
    (StatusCode::NOT_FOUND, Json(json!({"status": "no such path: see /overlay/openapi.json"})))
        .into_response()
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DESCRIPTION).into_response()
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Cursor,
    Ndjson,
    Csv,
    Arrow,
}

fn format_of(headers: &HeaderMap) -> Format {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = accepted
        .flat_map(|value| value.split(','))
        .map(|kind| kind.split(';').next().unwrap_or_default().trim());
    kinds
        .find_map(|kind| match kind {
            "application/x-ndjson" => Some(Format::Ndjson),
            "text/csv" => Some(Format::Csv),
            "application/vnd.apache.arrow.stream" => Some(Format::Arrow),
            "application/json" | "*/*" => Some(Format::Cursor),
            _ => None,
        })
        .unwrap_or(Format::Cursor)
}

async fn query(
    State(node): State<Arc<Node>>,
    extensions: Extensions,
    headers: HeaderMap,
    text: String,
) -> Response {
    let query_id = headers.get("x-request-id").and_then(|value| value.to_str().ok()).unwrap_or_default();
    // Somebody before it may have made it longer, and knows nothing of names here.
    let query_id = &query_id[..query_id.floor_char_boundary(LONGEST_NAME)];
    let mut asked = Asked {
        query: Query::default(),
        hops: Vec::new(),
        client: client_of(&headers, &extensions),
        query_id: named(query_id.to_owned()),
        within: None,
    };
    let format = format_of(&headers);
    let outcome = match Query::from_json(&text) {
        Ok(query) => {
            asked.query = query;
            node.answer(&asked, format != Format::Cursor).await
        }
        Err(error) => {
            let refusal = Refusal::Invalid(error);
            node.note(&asked, &Err(refusal.clone()), Duration::ZERO);
            Err(refusal)
        }
    };
    let (answer, leaving) = match outcome {
        Ok(answered) => answered,
        Err(refusal) => return refused(&refusal),
    };
    let Some(leaving) = leaving else {
        node.results.hand_out(&answer.uid, &holder_of(&headers, &extensions)).await;
        let said = words::response(&node.process.id, &asked, &Ok(answer.clone()));
        return Json(json!({
            "uid": said.uid,
            "status": said.status,
            "chunks": said.total_chunks,
            "matched": said.matched,
            "returned": said.total_records,
            "truncated": said.truncated,
            "coverage": covered(&answer.coverage),
            "next": format!("/overlay/query/{}/0", said.uid),
        }))
        .into_response();
    };
    let mut response = match format {
        Format::Arrow => {
            typed("application/vnd.apache.arrow.stream", Body::from_stream(leaving.pieces(arrow)))
        }
        Format::Csv => {
            let pieces = leaving.pieces(|answer| {
                lines(answer, record::CSV_HEADER, |records, row, out| records.csv(row, out))
            });
            typed("text/csv; header=present", Body::from_stream(pieces))
        }
        Format::Ndjson | Format::Cursor => {
            let pieces = leaving.pieces(|answer| {
                lines(answer, "", |records, row, out| {
                    records.json(row, out);
                    out.push('\n');
                })
            });
            typed("application/x-ndjson", Body::from_stream(pieces))
        }
    };
    let fields = response.headers_mut();
    for (name, count) in [
        ("x-slipring-matched", answer.matched),
        ("x-slipring-returned", answer.returned),
        ("x-slipring-missing", answer.coverage.missing.len() as u64),
    ] {
        fields.insert(name, count.into());
    }
    response
}

/// A body of this kind.
fn typed(kind: &'static str, body: Body) -> Response {
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

/// Records as lines, written as they are read.
fn lines(
    answer: Arc<Answer>,
    head: &'static str,
    write: impl Fn(&record::Records<'_>, usize, &mut String) + Copy + Send + 'static,
) -> impl Iterator<Item = String> + Send {
    let mut from = Some(0_u64);
    std::iter::from_fn(move || {
        let first = from?;
        let mut text = if first == 0 { head.to_owned() } else { String::new() };
        answer.each(first, AT_ONCE, |records, row| write(records, row, &mut text));
        let next = first + AT_ONCE as u64;
        from = (next < answer.returned).then_some(next);
        Some(text)
    })
}

fn covered(coverage: &Coverage) -> Value {
    let missing =
        coverage.missing.iter().map(|m| json!({"name": m.name, "process": m.process, "why": m.why}));
    let visited = coverage.visited.iter().map(|v| {
        json!({"process": v.process, "elapsed_us": v.elapsed_us, "partitions": v.partitions, "rows_scanned": v.rows_scanned})
    });
    json!({
        "partitions": coverage.partitions,
        "answered": coverage.answered,
        "missing": missing.collect::<Vec<_>>(),
        "rows_scanned": coverage.rows_scanned,
        "visited": visited.collect::<Vec<_>>(),
        "rows_malformed": coverage.rows_malformed,
    })
}

fn refused(refusal: &Refusal) -> Response {
    let status = match refusal {
        Refusal::Invalid(_) => StatusCode::BAD_REQUEST,
        Refusal::Loop => StatusCode::LOOP_DETECTED,
        Refusal::Rejected(_) => StatusCode::TOO_MANY_REQUESTS,
        Refusal::Incomplete(_) => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::Cancelled => StatusCode::CONFLICT,
        Refusal::NotFound => StatusCode::NOT_FOUND,
    };
    let mut body = json!({"status": refusal.status()});
    if let Refusal::Incomplete(coverage) = refusal {
        body["coverage"] = covered(coverage);
    }
    let mut response = (status, Json(body)).into_response();
    if let Refusal::Rejected(rejected) = refusal {
        let seconds = rejected.retry_after.as_secs_f64().ceil().max(1.0) as u64;
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

async fn chunk(
    State(node): State<Arc<Node>>,
    Path((uid, chunk)): Path<(String, String)>,
    extensions: Extensions,
    headers: HeaderMap,
) -> Response {
    let (answer, _admitted) = match node.result(&uid, client_of(&headers, &extensions), None).await {
        Ok(read) => read,
        Err(refusal) => return refused(&refusal),
    };
    let index: Option<u64> = chunk.parse().ok();
    let Some((index, text)) = index.and_then(|index| Some((index, answer.chunk_json(index)?))) else {
        return (StatusCode::NOT_FOUND, Json(json!({"status": "out_of_range"}))).into_response();
    };
    let mut response = typed("application/json", text.into());
    if index + 1 < answer.chunks()
        && let Ok(link) = format!("</overlay/query/{uid}/{}>; rel=\"next\"", index + 1).parse()
    {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

async fn release(
    State(node): State<Arc<Node>>,
    Path(uid): Path<String>,
    extensions: Extensions,
    headers: HeaderMap,
) -> StatusCode {
    match Uid::parse(&uid) {
        Ok((uid, ..)) if node.release(&uid, &holder_of(&headers, &extensions)).await => {
            StatusCode::NO_CONTENT
        }
        _ => StatusCode::NOT_FOUND,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::admission::Rejected;

    #[tokio::test]
    async fn every_refusal_is_described() {
        let described: Value = serde_json::from_str(DESCRIPTION).unwrap();
        let answers = |path: &str, method: &str| &described["paths"][path][method]["responses"];
        let retry_after = Duration::from_millis(1);
        let either =
            || [Refusal::Rejected(Rejected { retry_after }), Refusal::Incomplete(Coverage::default())];
        let asked =
            [Refusal::Invalid(Query::from_json("[]").unwrap_err()), Refusal::Loop, Refusal::Cancelled];
        let asked =
            asked.into_iter().chain(either()).map(|refusal| (answers("/overlay/query", "post"), refusal));
        let read = [Refusal::NotFound].into_iter().chain(either());
        let read = read.map(|refusal| (answers("/overlay/query/{uid}/{chunk}", "get"), refusal));
        for (answers, refusal) in asked.chain(read) {
            let response = refused(&refusal);
            let answer = &answers[response.status().as_str()];
            let schema = answer["content"]["application/json"]["schema"]["$ref"].as_str().unwrap_or_default();
            let name = schema.rsplit('/').next().unwrap_or_default();
            let mut fields: Vec<_> = described["components"]["schemas"][name]["required"]
                .as_array()
                .unwrap_or_else(|| panic!("{refusal:?} is not described"))
                .iter()
                .map(|field| field.as_str().unwrap().to_owned())
                .collect();
            fields.sort();
            let waits = response.headers().contains_key(header::RETRY_AFTER);
            assert_eq!(waits, answer["headers"]["Retry-After"].is_object(), "{refusal:?}");
            let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body.as_object().unwrap().keys().cloned().collect::<Vec<_>>(), fields, "{refusal:?}");
        }
    }
}
