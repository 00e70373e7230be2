//! The admin calls that the tester needs: who is there, more, fewer, and are all of them live.

use std::time::Duration;

use hyper::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use slipring_plots::load::client::{Answer, Client};
use tokio::time::{Instant, sleep};

use crate::error::Error;

/// How long all replicas may take to be live.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The calls on a balancer's main port, and on its admin port if that is known.
#[derive(Debug)]
pub(crate) struct Control {
    main: Client,
    admin: Option<Client>,
}

/// A replica, as `GET /replicas` lists it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Replica {
    pub(crate) name: String,
    /// Counts from 1, like the contract's replica index.
    pub(crate) id: u16,
    pub(crate) state: String,
    pub(crate) pid: Option<i32>,
}

impl Replica {
    pub(crate) fn is_live(&self) -> bool {
        self.state == "live"
    }
}

#[derive(Deserialize)]
struct Replicas {
    replicas: Vec<Replica>,
}

#[derive(Deserialize)]
struct Membership {
    message: MembershipMessage,
}

#[derive(Deserialize)]
struct MembershipMessage {
    replicas: Vec<String>,
}

impl Control {
    pub(crate) fn new(url: &str, admin_url: Option<&str>, token: Option<&str>) -> Result<Control, Error> {
        let client = |url: &str| Client::new(url, token, Duration::from_secs(30));
        Ok(Control { main: client(url)?, admin: admin_url.map(client).transpose()? })
    }

    /// The names of the replicas on the ring, in order of insertion.
    pub(crate) async fn names(&self) -> Result<Vec<String>, Error> {
        membership(&checked("GET /rep", self.main.call(Method::GET, "/rep", None).await)?)
    }

    /// Brings the balancer to `n` replicas: the last ones go, or `Server-…` join; returns their names.
    pub(crate) async fn resize(&self, n: u16) -> Result<Vec<String>, Error> {
        let names = self.names().await?;
        let wanted = usize::from(n);
        if names.len() > wanted {
            self.remove(&names[wanted..]).await
        } else if names.len() < wanted {
            let free = (1..).map(|i| format!("Server-{i}")).filter(|name| !names.contains(name));
            let new: Vec<String> = free.take(wanted - names.len()).collect();
            self.add(&new).await
        } else {
            Ok(names)
        }
    }

    /// Brings the balancer back to exactly these replicas.
    pub(crate) async fn restore(&self, wanted: &[String]) -> Result<(), Error> {
        let names = self.names().await?;
        let missing: Vec<String> = wanted.iter().filter(|name| !names.contains(name)).cloned().collect();
        let surplus: Vec<String> = names.into_iter().filter(|name| !wanted.contains(name)).collect();
        if !missing.is_empty() {
            self.add(&missing).await?;
        }
        if !surplus.is_empty() {
            self.remove(&surplus).await?;
        }
        Ok(())
    }

    async fn add(&self, names: &[String]) -> Result<Vec<String>, Error> {
        let body = json!({ "n": names.len(), "hostnames": names });
        membership(&checked("POST /add", self.main.call(Method::POST, "/add", Some(&body)).await)?)
    }

    async fn remove(&self, names: &[String]) -> Result<Vec<String>, Error> {
        let body = json!({ "n": names.len(), "hostnames": names });
        membership(&checked("DELETE /rm", self.main.call(Method::DELETE, "/rm", Some(&body)).await)?)
    }

    /// The replicas with their identities and states; `None` without an admin port.
    pub(crate) async fn replicas(&self) -> Result<Option<Vec<Replica>>, Error> {
        let Some(admin) = &self.admin else { return Ok(None) };
        let answer = checked("GET /replicas", admin.call(Method::GET, "/replicas", None).await)?;
        Ok(Some(parsed::<Replicas>("GET /replicas", &answer)?.replicas))
    }

    /// Waits until all replicas are live; without an admin port there is nobody to ask.
    pub(crate) async fn ready(&self) -> Result<(), Error> {
        let Some(admin) = &self.admin else { return Ok(()) };
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let last = match admin.call(Method::GET, "/readyz?all=true", None).await {
                Ok(answer) if answer.status.is_success() => return Ok(()),
                Ok(answer) => text(&answer),
                Err(failure) => crate::error::chain(&failure),
            };
            if Instant::now() >= deadline {
                return Err(Error::NotReady { within: READY_WITHIN, last });
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until the balancer says that all replicas are live, `victim` in another process than `pid`.
    /// Asks until it is dropped; a failed question is asked again.
    pub(crate) async fn healed(&self, victim: &str, pid: i32) {
        loop {
            if let Ok(Some(replicas)) = self.replicas().await
                && replicas.iter().all(Replica::is_live)
                && replicas.iter().any(|replica| replica.name == victim && replica.pid != Some(pid))
            {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

fn membership(answer: &Answer) -> Result<Vec<String>, Error> {
    Ok(parsed::<Membership>("the balancer", answer)?.message.replicas)
}

fn checked(
    call: &str,
    answer: Result<Answer, slipring_plots::load::client::Failure>,
) -> Result<Answer, Error> {
    let answer = answer.map_err(|source| Error::Call { call: call.to_owned(), source })?;
    if answer.status.is_success() {
        return Ok(answer);
    }
    Err(Error::Refused { call: call.to_owned(), status: answer.status.as_u16(), body: text(&answer) })
}

fn parsed<T: DeserializeOwned>(call: &str, answer: &Answer) -> Result<T, Error> {
    serde_json::from_slice(&answer.body)
        .map_err(|_| Error::Unexpected { call: call.to_owned(), body: text(answer) })
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).trim().chars().take(400).collect()
}
