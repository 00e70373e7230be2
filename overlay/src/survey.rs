//! What processes say of themselves, for whoever looks at a whole overlay: all are asked at once, each with a deadline.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::peers::endpoint;
use crate::wire::overlay_node_client::OverlayNodeClient;
use crate::wire::{MetricsRequest, MetricsResponse};

/// Processes to be looked at. Connections are made when they are needed, kept, and made again when they break.
#[derive(Clone, Debug)]
pub struct Survey(Vec<Option<OverlayNodeClient<Channel>>>);

impl Survey {
    /// Of those that listen there, `host:port` each; no connection is made yet.
    pub fn of(authorities: impl IntoIterator<Item = String>) -> Self {
        let client =
            |authority: String| Some(OverlayNodeClient::new(endpoint(&authority).ok()?.connect_lazy()));
        Self(authorities.into_iter().map(client).collect())
    }

    /// What each of them says, in their order, or why it does not.
    ///
    /// A future of this that is dropped asks nobody any more.
    pub async fn look(&self, within: Duration) -> Vec<Result<MetricsResponse, String>> {
        join_all(self.0.iter().map(|client| ask(client.clone(), within))).await
    }
}

async fn ask(
    client: Option<OverlayNodeClient<Channel>>,
    within: Duration,
) -> Result<MetricsResponse, String> {
    let Some(mut client) = client else { return Err("its address cannot be one".into()) };
    let mut request = Request::new(MetricsRequest {});
    request.set_timeout(within);
    match timeout(within, client.get_metrics(request)).await {
        Ok(Ok(said)) => Ok(said.into_inner()),
        Ok(Err(status)) if status.code() == Code::Unavailable => Err("it cannot be reached".into()),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err(format!("it did not answer within {within:?}")),
    }
}
