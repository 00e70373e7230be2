//! Claims, leases and offices on PostgreSQL. Each runs in a transaction.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::PgConnection;

use super::run::Failure;
use super::{apply, now};
use crate::clock::{Timestamp, micros};
use crate::plan::Plan;
use crate::task::{Campaign, Claim, Claimed, Tenure};
use crate::{queries, rows};

pub(crate) async fn claim(
    db: &mut PgConnection,
    queue: &str,
    worker: &str,
    lease: Duration,
    most: usize,
) -> Result<Vec<Claimed>, Failure> {
    loop {
        // Tasks that another transaction is about to change are passed over.
        let query = concat!(
            "SELECT id, key, weight, payload, state, attempt, attempts FROM slipring_task
            WHERE queue = $1 AND ready_at IS NOT NULL AND ready_at <= ",
            now!(),
            " ORDER BY weight DESC, key LIMIT $2 FOR UPDATE SKIP LOCKED"
        );
        let query = sqlx::query_as(query).bind(queue).bind(rows::count(most));
        let candidates: Vec<rows::Candidate> = query.fetch_all(&mut *db).await?;
        let exhausted: Vec<_> = candidates.iter().filter(|row| row.is_exhausted()).collect();
        if exhausted.is_empty() {
            return take(db, queue, worker, lease, candidates).await;
        }
        for row in exhausted {
            give_up(db, queue, &row.key).await?;
        }
    }
}

async fn give_up(db: &mut PgConnection, queue: &str, key: &str) -> Result<(), Failure> {
    let Some((now, id, task)) = apply::task(db, queue, key).await? else { return Ok(()) };
    let Some(plan) = Plan::exhausted(id, &task) else { return Ok(()) };
    apply::write_tasks(db, &plan, now).await
}

/// The tasks are locked.
async fn take(
    db: &mut PgConnection,
    queue: &str,
    worker: &str,
    lease: Duration,
    fit: Vec<rows::Candidate>,
) -> Result<Vec<Claimed>, Failure> {
    if fit.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<_> = fit.iter().map(|row| row.id).collect();
    let query = concat!(
        "WITH clock AS MATERIALIZED (SELECT ",
        now!(),
        " AS now), gone AS (DELETE FROM slipring_lease WHERE task = ANY($1)),
        taken AS (UPDATE slipring_task SET state = 1, attempt = attempt + 1, ready_at = clock.now + $3
            FROM clock WHERE id = ANY($1))
        INSERT INTO slipring_lease (epoch, task, worker, since, until)
        SELECT nextval('slipring_drawn'), a.id, $2, clock.now, clock.now + $3
        FROM clock, unnest($1::bigint[]) WITH ORDINALITY AS a (id, place) ORDER BY a.place
        RETURNING task, epoch, until"
    );
    let query = sqlx::query_as(query).bind(&ids).bind(worker).bind(micros(lease));
    let leases: Vec<(i64, i64, i64)> = query.fetch_all(db).await?;
    let leases: HashMap<_, _> =
        leases.into_iter().map(|(task, epoch, until)| (task, (epoch, until))).collect();
    let claimed = fit.into_iter().filter_map(|row| {
        let (epoch, until) = leases.get(&row.id)?;
        Some(row.claimed(queue, *epoch, Timestamp(*until)))
    });
    Ok(claimed.collect::<Result<_, _>>()?)
}

pub(crate) async fn speculate(
    db: &mut PgConnection,
    queue: &str,
    key: &str,
    worker: &str,
    lease: Duration,
) -> Result<Option<Claimed>, Failure> {
    let Some((now, id, task)) = apply::task(db, queue, key).await? else { return Ok(None) };
    if !task.may_speculate(worker) {
        return Ok(None);
    }
    let until = now.plus(lease);
    let query = "WITH lease AS (INSERT INTO slipring_lease (epoch, task, worker, since, until)
            VALUES (nextval('slipring_drawn'), $1, $2, $3, $4) RETURNING epoch)
        UPDATE slipring_task SET ready_at = greatest(ready_at, $4) FROM lease WHERE id = $1
        RETURNING lease.epoch, weight, payload";
    let query = sqlx::query_as(query).bind(id).bind(worker).bind(now.0).bind(until.0);
    let found = query.fetch_one(db).await?;
    Ok(Some(rows::second(queue, key, &task, found, until)?))
}

pub(crate) async fn renew(
    db: &mut PgConnection,
    claims: &[Claim],
    lease: Duration,
) -> Result<Vec<usize>, Failure> {
    let queues: Vec<_> = claims.iter().map(|claim| claim.queue.as_str()).collect();
    let keys: Vec<_> = claims.iter().map(|claim| claim.key.as_str()).collect();
    let epochs: Vec<_> = claims.iter().map(|claim| rows::signed(claim.epoch)).collect();
    let lock = "SELECT t.id FROM unnest($1::text[], $2::text[]) AS a (queue, key)
        JOIN slipring_task t ON t.queue = a.queue AND t.key = a.key ORDER BY t.id FOR UPDATE OF t";
    sqlx::query(lock).bind(&queues).bind(&keys).execute(&mut *db).await?;
    let query = concat!(
        "WITH clock AS MATERIALIZED (SELECT ",
        now!(),
        " AS now) UPDATE slipring_lease l SET until = clock.now + $4
        FROM clock, unnest($1::text[], $2::text[], $3::bigint[]) AS a (queue, key, epoch)
        JOIN slipring_task t ON t.queue = a.queue AND t.key = a.key
        WHERE l.epoch = a.epoch AND l.task = t.id RETURNING l.task, l.epoch, a.queue, a.key"
    );
    let query = sqlx::query_as(query).bind(queues).bind(keys).bind(epochs).bind(micros(lease));
    let held: Vec<(i64, i64, String, String)> = query.fetch_all(&mut *db).await?;
    let tasks: Vec<_> = held.iter().map(|row| row.0).collect();
    let query = "UPDATE slipring_task t SET ready_at =
        (SELECT max(l.until) FROM slipring_lease l WHERE l.task = t.id) WHERE t.id = ANY($1)";
    sqlx::query(query).bind(tasks).execute(db).await?;
    let mut kept = HashMap::new();
    for (_, epoch, queue, key) in held {
        kept.insert(rows::unsigned(epoch)?, (queue, key));
    }
    let is_lost = |claim: &Claim| {
        !kept.get(&claim.epoch).is_some_and(|(queue, key)| *queue == claim.queue && *key == claim.key)
    };
    let lost = (0..).zip(claims).filter(|(_, claim)| is_lost(claim)).map(|(number, _)| number);
    Ok(lost.collect())
}

pub(crate) async fn tenure(db: &mut PgConnection, office: &str) -> Result<Option<Tenure>, sqlx::Error> {
    let found: Option<rows::TenureRow> =
        sqlx::query_as(queries::TENURE).bind(office).fetch_optional(db).await?;
    found.map(rows::tenure).transpose()
}

pub(crate) async fn campaign(
    db: &mut PgConnection,
    office: &str,
    who: &str,
    lease: Duration,
) -> Result<Campaign, Failure> {
    let query = concat!(
        "INSERT INTO slipring_office AS o (name, who, epoch, until)
        SELECT $1, $2, nextval('slipring_drawn'), ",
        now!(),
        " + $3 ON CONFLICT (name) DO UPDATE SET who = excluded.who, until = ",
        now!(),
        " + $3, epoch = CASE WHEN o.until > ",
        now!(),
        " THEN o.epoch ELSE nextval('slipring_drawn') END
        WHERE o.until <= ",
        now!(),
        " OR o.who = excluded.who RETURNING epoch, until"
    );
    let query = sqlx::query_as(query).bind(office).bind(who).bind(micros(lease));
    let held: Option<(i64, i64)> = query.fetch_optional(&mut *db).await?;
    if let Some((epoch, until)) = held {
        return Ok(Campaign::Held { epoch: rows::unsigned(epoch)?, until: Timestamp(until) });
    }
    // Who resigned in the meantime has left it free.
    tenure(db, office).await?.map(Campaign::Taken).ok_or(Failure::Again)
}

pub(crate) async fn resign(db: &mut PgConnection, office: &str, epoch: u64) -> Result<bool, Failure> {
    let query = "DELETE FROM slipring_office WHERE name = $1 AND epoch = $2";
    let gone = sqlx::query(query).bind(office).bind(rows::signed(epoch)).execute(db).await?;
    Ok(gone.rows_affected() > 0)
}
