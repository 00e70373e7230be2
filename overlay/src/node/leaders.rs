//! The other leaders: each may have handed out a result that a client gives back to another one, because a balancer
//! chooses who is told. What is given back is asked for once, of all of them, and forgotten everywhere.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;
use tonic::transport::Channel;

use super::Node;
use crate::peer_wire::give_back_request::Step;
use crate::peer_wire::peer_client::PeerClient;
use crate::peer_wire::{GiveBackRequest, GiveBackResponse};
use crate::peers::endpoint;
use crate::query::Uid;
use crate::results::Holder;
use crate::topology::{Process, Role, Topology};

/// How long another leader may take.
const WITHIN: Duration = Duration::from_secs(1);

/// See the module. Connections are made when they are needed.
#[derive(Debug)]
pub(super) struct Leaders(Vec<PeerClient<Channel>>);

impl Leaders {
    /// None, of a process that is no leader.
    pub(super) fn of(topology: &Topology, own: &Process) -> Result<Self, tonic::transport::Error> {
        let is_other = |process: &&Process| process.role == Role::Leader && process.id != own.id;
        let others = topology.processes.values().filter(is_other).filter(|_| own.role == Role::Leader);
        let client = |process: &Process| Ok(PeerClient::new(endpoint(&process.authority())?.connect_lazy()));
        others.map(client).collect::<Result<_, _>>().map(Self)
    }

    /// What each of them says; one that does not answer has nothing.
    async fn all(&self, uid: &Uid, client: &str, step: Step) -> Vec<GiveBackResponse> {
        join_all(self.0.iter().map(|leader| one(leader, uid, client, step))).await
    }
}

async fn one(leader: &PeerClient<Channel>, uid: &Uid, client: &str, step: Step) -> GiveBackResponse {
    let (uid, client) = (uid.as_str().to_owned(), client.to_owned());
    let mut leader = leader.clone();
    match timeout(WITHIN, leader.give_back(GiveBackRequest { uid, client, step: step.into() })).await {
        Ok(Ok(said)) => said.into_inner(),
        Ok(Err(status)) => {
            tracing::debug!(%status, "another leader does not say what it has handed out");
            GiveBackResponse::default()
        }
        Err(_) => GiveBackResponse::default(),
    }
}

impl Node {
    /// A client gives back what leaders handed out to it; whether one had. With the last one it is forgotten by all.
    pub(super) async fn release(&self, uid: &Uid, holder: &Holder) -> bool {
        let client = holder.key.as_str();
        let mut said = vec![self.given_back(uid, client, Step::Take).await];
        if holder.is_named {
            // It has it once, however many leaders have told it.
            said.extend(self.leaders.all(uid, client, Step::Take).await);
        } else if !said[0].taken {
            // One after another: one of them takes it back, and no second one.
            for leader in &self.leaders.0 {
                let taken = said.iter().any(|said| said.taken);
                said.push(one(leader, uid, client, if taken { Step::Look } else { Step::Take }).await);
            }
        } else {
            said.extend(self.leaders.all(uid, client, Step::Look).await);
        }
        let taken = said.iter().any(|said| said.taken);
        if said.iter().any(|said| said.left > 0) || !(taken || said.iter().any(|said| said.kept)) {
            return taken;
        }
        self.results.forget(uid).await;
        self.leaders.all(uid, client, Step::Forget).await;
        true
    }

    /// Whether another leader has handed it out to somebody who has not given it back.
    pub(super) async fn is_out_elsewhere(&self, uid: &Uid) -> bool {
        self.leaders.all(uid, "", Step::Look).await.iter().any(|said| said.left > 0)
    }

    /// What another leader asks for, or this one of itself.
    pub(super) async fn given_back(&self, uid: &Uid, client: &str, step: Step) -> GiveBackResponse {
        let taken = step == Step::Take && self.results.give_back(uid, client).await;
        if step == Step::Forget {
            self.results.forget(uid).await;
        }
        let left = self.results.handed_out(uid).await;
        GiveBackResponse { taken, left, kept: self.results.get(uid.as_str()).await.is_some() }
    }
}
