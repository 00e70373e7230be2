//! `GET /overlay/echo`: what every process of the file says of itself, gathered by one wave that begins here.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::Node;
use super::waves::LONGEST;
use crate::wave::TooMany;

/// How long a wave may take whose client does not say.
const USUAL: Duration = Duration::from_secs(2);
/// Anybody may ask for so little.
const SHORTEST: Duration = Duration::from_millis(10);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Seconds.
    timeout: Option<f64>,
}

impl Asked {
    fn within(&self) -> Result<Duration, String> {
        let seconds = self.timeout.unwrap_or(USUAL.as_secs_f64());
        let range = SHORTEST.as_secs_f64()..=LONGEST.as_secs_f64();
        let wrong = || format!("{seconds} is not from {} to {} seconds", range.start(), range.end());
        range.contains(&seconds).then(|| Duration::from_secs_f64(seconds)).ok_or_else(wrong)
    }
}

pub(super) async fn echo(
    State(node): State<Arc<Node>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let within = asked.map_err(|error| error.body_text()).and_then(|Query(asked)| asked.within());
    let within = match within {
        Ok(within) => within,
        Err(why) => {
            let refusal = Json(json!({"status": format!("invalid_timeout:{why}")}));
            return (StatusCode::BAD_REQUEST, refusal).into_response();
        }
    };
    // A little less, so that what is known by then still arrives.
    match node.echo(within.mul_f64(0.95)).await {
        Ok(answer) => Json(answer).into_response(),
        Err(TooMany) => {
            let refusal = Json(json!({"status": "rejected"}));
            (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")], refusal).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_may_say_how_long_within_bounds() {
        let within = |query: &str| {
            let uri = format!("/overlay/echo{query}").parse().unwrap();
            let asked = Query::<Asked>::try_from_uri(&uri).map_err(|error| error.body_text());
            asked.and_then(|Query(asked)| asked.within())
        };
        assert_eq!(within(""), Ok(USUAL));
        assert_eq!(within("?timeout=0.5"), Ok(Duration::from_millis(500)));
        for edge in [SHORTEST, LONGEST] {
            assert_eq!(within(&format!("?timeout={}", edge.as_secs_f64())), Ok(edge));
        }
        for wrong in ["0", "-1", "nan", "inf", "11", "1s", "", "2&timeout=3", "2&other=1"] {
            assert!(within(&format!("?timeout={wrong}")).is_err(), "{wrong}");
        }
        assert_eq!(within("?timeout=11"), Err("11 is not from 0.01 to 10 seconds".into()));
    }
}
