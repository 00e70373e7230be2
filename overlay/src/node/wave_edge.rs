//! gRPC as the overlay's processes speak it in waves. Here alone a message that cannot be one becomes a status.

use std::sync::Arc;
use std::time::Duration;

use slipring_waves::{NodeId, Token, WaveId};
use tonic::{Request, Response, Status};

use super::Node;
use super::waves::Time;
use crate::wave::{Garbled, Heard, Told, TooMany};
use crate::wave_wire::wave_message::Token as WireToken;
use crate::wave_wire::waves_server::Waves;
use crate::wave_wire::{Delivered, Outcome, Purpose, WaveMessage};

#[derive(Debug)]
pub(super) struct Edge(pub(super) Arc<Node>);

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Refused {
    #[error("its wave has no name: NODE-NUMBER is one, of a node that is there")]
    Wave,
    #[error("who sends it is no neighbor of {0}: have all processes the same file?")]
    Stranger(String),
    #[error("a wave for this purpose is not known here")]
    Purpose,
    #[error("it says neither that there is a wave nor what was told")]
    Empty,
    #[error(transparent)]
    Garbled(#[from] Garbled),
    #[error("it carries as many waves as it may")]
    TooMany,
}

impl From<TooMany> for Refused {
    fn from(_: TooMany) -> Self {
        Self::TooMany
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::TooMany => Self::resource_exhausted(refused.to_string()),
            _ => Self::invalid_argument(refused.to_string()),
        }
    }
}

impl Edge {
    fn hear(&self, message: WaveMessage) -> Result<Heard, Refused> {
        let (node, graph) = (&self.0, &self.0.waves.graph);
        if message.purpose() != Purpose::Metrics {
            return Err(Refused::Purpose);
        }
        let wave: WaveId = message.wave.parse().map_err(|_| Refused::Wave)?;
        if !graph.has(wave.initiator) {
            return Err(Refused::Wave);
        }
        let from = graph
            .number(&message.from)
            .filter(|from: &NodeId| graph.neighbors(node.waves.own).contains(from));
        let from = from.ok_or_else(|| Refused::Stranger(node.process.id.to_string()))?;
        let token = match message.token {
            None => return Err(Refused::Empty),
            Some(WireToken::Explore(_)) => Token::Explore,
            Some(WireToken::Report(report)) => Token::Report(Told::read(report, from, graph)?),
        };
        let time = Time::below(Duration::from_millis(message.remaining_ms.into()));
        Ok(node.hear(wave, from, token, time)?)
    }
}

#[tonic::async_trait]
impl Waves for Edge {
    async fn deliver(&self, request: Request<WaveMessage>) -> Result<Response<Delivered>, Status> {
        let counts = &self.0.metrics.waves;
        let heard = self.hear(request.into_inner()).inspect_err(|refused| {
            counts.message(if *refused == Refused::TooMany { "overloaded" } else { "refused" });
            tracing::debug!(%refused, "a wave's message was not taken");
        })?;
        let (outcome, name) = match heard {
            Heard::Joined => (Outcome::Heard, "joined"),
            Heard::Taken => (Outcome::Heard, "heard"),
            Heard::Repeated => (Outcome::Repeated, "repeated"),
            Heard::Over => (Outcome::Over, "over"),
            Heard::Unknown => (Outcome::Unknown, "unknown"),
        };
        counts.message(name);
        Ok(Response::new(Delivered { outcome: outcome.into() }))
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::{Query, State};
    use axum::http::{StatusCode, Uri, header};
    use tonic::Code;

    use super::*;
    use crate::node::echo_edge;
    use crate::wave_wire::Explore;

    /// Nothing that was to be sent is, because nobody waits for anything here: all waves stay under way.
    #[tokio::test]
    async fn neither_neighbors_nor_clients_begin_more_waves_than_it_carries() {
        let node = Node::leader();
        let edge = Edge(node.clone());
        let explore = |number: u32| {
            Request::new(WaveMessage {
                wave: format!("1-{number}"),
                from: "B".into(),
                purpose: Purpose::Metrics.into(),
                remaining_ms: u32::MAX,
                token: Some(WireToken::Explore(Explore {})),
            })
        };
        let mut carried = 0;
        let refused = loop {
            match edge.deliver(explore(carried)).await {
                Ok(taken) => assert_eq!(taken.into_inner().outcome(), Outcome::Heard),
                Err(refused) => break refused,
            }
            carried += 1;
        };
        assert_eq!((carried, refused.code()), (1000, Code::ResourceExhausted), "{refused}");
        assert_eq!(edge.deliver(explore(0)).await.unwrap().into_inner().outcome(), Outcome::Repeated);
        let asked = || Query::try_from_uri(&Uri::from_static("/overlay/echo"));
        let rejected = echo_edge::echo(State(node.clone()), asked()).await;
        assert_eq!(rejected.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(rejected.headers().contains_key(header::RETRY_AFTER));
        let counted = node.metrics.text(&node);
        for line in [
            "slipring_overlay_wave_messages_total{outcome=\"joined\",process=\"A\",role=\"leader\",team=\"green\"} 1000",
            "slipring_overlay_wave_messages_total{outcome=\"overloaded\",process=\"A\",role=\"leader\",team=\"green\"} 1",
            "slipring_overlay_waves{process=\"A\",role=\"leader\",team=\"green\"} 1000",
            "slipring_overlay_waves_total{outcome=\"rejected\",process=\"A\",role=\"leader\",team=\"green\"} 1",
        ] {
            assert!(counted.lines().any(|counted| counted == line), "{line}: {counted}");
        }
    }
}
