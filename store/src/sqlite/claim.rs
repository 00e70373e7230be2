//! Claims, leases and offices on SQLite. All of it runs in the writer's transaction.

use sqlx::SqliteConnection;

use super::apply::{self, draw, task};
use super::{doing, ids};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::plan::Plan;
use crate::rules::{self, Elected};
use crate::task::{Campaign, Claim, Claimed, Tenure};
use crate::{queries, rows};

pub(crate) async fn claim(
    db: &mut SqliteConnection,
    queue: &str,
    worker: &str,
    now: Timestamp,
    until: Timestamp,
    most: usize,
) -> Result<Vec<Claimed>, Error> {
    const DOING: &str = "claiming tasks";
    loop {
        let query = "SELECT id, key, weight, payload, state, attempt, attempts FROM slipring_task
            WHERE queue = $1 AND ready_at <= $2 ORDER BY weight DESC, key LIMIT $3";
        let query = sqlx::query_as(query).bind(queue).bind(now.0).bind(rows::count(most));
        let candidates: Vec<rows::Candidate> = query.fetch_all(&mut *db).await.map_err(doing(DOING))?;
        let exhausted: Vec<_> = candidates.iter().filter(|row| row.is_exhausted()).collect();
        if exhausted.is_empty() {
            return take(db, queue, worker, now, until, candidates).await;
        }
        for row in exhausted {
            give_up(db, queue, &row.key, now).await?;
        }
    }
}

async fn give_up(db: &mut SqliteConnection, queue: &str, key: &str, now: Timestamp) -> Result<(), Error> {
    let Some((id, task)) = task(db, queue, key).await? else { return Ok(()) };
    let Some(plan) = Plan::exhausted(id, &task) else { return Ok(()) };
    apply::tasks(db, &plan, now).await
}

async fn take(
    db: &mut SqliteConnection,
    queue: &str,
    worker: &str,
    now: Timestamp,
    until: Timestamp,
    fit: Vec<rows::Candidate>,
) -> Result<Vec<Claimed>, Error> {
    const DOING: &str = "claiming tasks";
    if fit.is_empty() {
        return Ok(Vec::new());
    }
    let first = draw(db, fit.len()).await?;
    let tasks = ids(&fit.iter().map(|row| row.id).collect::<Vec<_>>());
    if fit.iter().any(rows::Candidate::is_running) {
        let query = "DELETE FROM slipring_lease WHERE task IN (SELECT value FROM json_each($1))";
        sqlx::query(query).bind(&tasks).execute(&mut *db).await.map_err(doing(DOING))?;
    }
    let query = "UPDATE slipring_task SET state = 1, attempt = attempt + 1, ready_at = $2
        WHERE id IN (SELECT value FROM json_each($1))";
    let query = sqlx::query(query).bind(&tasks).bind(until.0);
    query.execute(&mut *db).await.map_err(doing(DOING))?;
    let query = "INSERT INTO slipring_lease (epoch, task, worker, since, until)
        SELECT $2 + key, value, $3, $4, $5 FROM json_each($1)";
    let query = sqlx::query(query).bind(&tasks).bind(first).bind(worker).bind(now.0).bind(until.0);
    query.execute(db).await.map_err(doing(DOING))?;
    let claimed = fit.into_iter().zip(first..).map(|(row, epoch)| row.claimed(queue, epoch, until));
    claimed.collect::<Result<_, _>>().map_err(doing(DOING))
}

pub(crate) async fn speculate(
    db: &mut SqliteConnection,
    queue: &str,
    key: &str,
    worker: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<Option<Claimed>, Error> {
    const DOING: &str = "speculating on a task";
    let Some((id, task)) = task(db, queue, key).await? else { return Ok(None) };
    if !task.may_speculate(worker) {
        return Ok(None);
    }
    let epoch = draw(db, 1).await?;
    let query = "INSERT INTO slipring_lease (epoch, task, worker, since, until) VALUES ($1, $2, $3, $4, $5)";
    let query = sqlx::query(query).bind(epoch).bind(id).bind(worker).bind(now.0).bind(until.0);
    query.execute(&mut *db).await.map_err(doing(DOING))?;
    let query =
        "UPDATE slipring_task SET ready_at = max(ready_at, $2) WHERE id = $1 RETURNING weight, payload";
    let query = sqlx::query_as(query).bind(id).bind(until.0);
    let (weight, payload): (i64, Vec<u8>) = query.fetch_one(db).await.map_err(doing(DOING))?;
    let second = rows::second(queue, key, &task, (epoch, weight, payload), until);
    second.map(Some).map_err(doing(DOING))
}

pub(crate) async fn renew(
    db: &mut SqliteConnection,
    claims: &[Claim],
    until: Timestamp,
) -> Result<Vec<usize>, Error> {
    const DOING: &str = "renewing leases";
    let mut lost = Vec::new();
    for (number, claim) in claims.iter().enumerate() {
        let query = "UPDATE slipring_lease SET until = $2 WHERE epoch = $1
            AND task = (SELECT id FROM slipring_task WHERE queue = $3 AND key = $4) RETURNING task";
        let query = sqlx::query_scalar(query).bind(rows::signed(claim.epoch)).bind(until.0);
        let query = query.bind(&claim.queue).bind(&claim.key);
        let task: Option<i64> = query.fetch_optional(&mut *db).await.map_err(doing(DOING))?;
        let Some(task) = task else {
            lost.push(number);
            continue;
        };
        let query = "UPDATE slipring_task SET ready_at =
            (SELECT max(until) FROM slipring_lease WHERE task = $1) WHERE id = $1";
        sqlx::query(query).bind(task).execute(&mut *db).await.map_err(doing(DOING))?;
    }
    Ok(lost)
}

pub(crate) async fn tenure(db: &mut SqliteConnection, office: &str) -> Result<Option<Tenure>, Error> {
    const DOING: &str = "reading an office";
    let query = sqlx::query_as(queries::TENURE).bind(office);
    let found: Option<rows::TenureRow> = query.fetch_optional(db).await.map_err(doing(DOING))?;
    found.map(rows::tenure).transpose().map_err(doing(DOING))
}

pub(crate) async fn campaign(
    db: &mut SqliteConnection,
    office: &str,
    who: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<Campaign, Error> {
    const DOING: &str = "campaigning";
    let found = tenure(db, office).await?;
    let epoch = match rules::elected(found.as_ref(), who, now) {
        Elected::Other(tenure) => return Ok(Campaign::Taken(tenure.clone())),
        Elected::Same(epoch) => rows::signed(epoch),
        Elected::New => draw(db, 1).await?,
    };
    let query = "INSERT INTO slipring_office (name, who, epoch, until) VALUES ($1, $2, $3, $4)
        ON CONFLICT (name) DO UPDATE SET who = excluded.who, epoch = excluded.epoch, until = excluded.until";
    let query = sqlx::query(query).bind(office).bind(who).bind(epoch).bind(until.0);
    query.execute(db).await.map_err(doing(DOING))?;
    Ok(Campaign::Held { epoch: rows::unsigned(epoch).map_err(doing(DOING))?, until })
}
