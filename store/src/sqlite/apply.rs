//! A transaction on SQLite: read what it is about, decide, write.

use sqlx::SqliteConnection;

use super::{doing, ids};
use crate::change::{Change, Effect, Outcome};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::plan::{self, Facts, Plan};
use crate::rows;
use crate::rules;

/// Draws so many numbers; the first of them.
pub(crate) async fn draw(db: &mut SqliteConnection, many: usize) -> Result<i64, Error> {
    let many = rows::count(many);
    let query = "UPDATE slipring_counter SET drawn = drawn + $1 RETURNING drawn - $1 + 1";
    sqlx::query_scalar(query).bind(many).fetch_one(db).await.map_err(doing("drawing numbers"))
}

/// A task with its leases.
pub(crate) async fn task(
    db: &mut SqliteConnection,
    queue: &str,
    key: &str,
) -> Result<Option<(i64, rules::Task)>, Error> {
    const DOING: &str = "reading a task";
    type Joined = (i64, i64, i64, i64, Option<i64>, Option<i64>, Option<String>, Option<i64>, Option<i64>);
    let query = "SELECT t.id, t.state, t.attempt, t.attempts, t.ended_by, l.epoch, l.worker, l.since, l.until
        FROM slipring_task t LEFT JOIN slipring_lease l ON l.task = t.id WHERE t.queue = $1 AND t.key = $2";
    let query = sqlx::query_as(query).bind(queue).bind(key);
    let found: Vec<Joined> = query.fetch_all(db).await.map_err(doing(DOING))?;
    let mut task: Option<(i64, rules::Task)> = None;
    for (id, state, attempt, attempts, ended_by, epoch, worker, since, until) in found {
        let row = rows::task((id, state, attempt, attempts, ended_by)).map_err(doing(DOING))?;
        let (_, task) = task.get_or_insert(row);
        if let (Some(epoch), Some(worker), Some(since), Some(until)) = (epoch, worker, since, until) {
            task.leases.push(rows::lease((epoch, worker, since, until)).map_err(doing(DOING))?);
        }
    }
    Ok(task)
}

async fn facts<'a>(db: &mut SqliteConnection, changes: &'a [Change]) -> Result<Facts<'a>, Error> {
    let mut facts = Facts::default();
    for change in changes {
        if let Some((queue, key)) = plan::task_of(change)
            && let Some(task) = task(db, queue, key).await?
        {
            facts.tasks.insert((queue, key), task);
        }
        if let Some(key) = plan::record_of(change) {
            const DOING: &str = "reading a record's version";
            let query = sqlx::query_scalar("SELECT version FROM slipring_record WHERE key = $1").bind(key);
            let found: Option<i64> = query.fetch_optional(&mut *db).await.map_err(doing(DOING))?;
            if let Some(version) = found {
                facts.records.insert(key, rows::unsigned(version).map_err(doing(DOING))?);
            }
        }
        if let Some(name) = plan::office_of(change) {
            const DOING: &str = "reading an office";
            let query = sqlx::query_scalar("SELECT epoch FROM slipring_office WHERE name = $1").bind(name);
            let found: Option<i64> = query.fetch_optional(&mut *db).await.map_err(doing(DOING))?;
            if let Some(epoch) = found {
                facts.offices.insert(name, rows::unsigned(epoch).map_err(doing(DOING))?);
            }
        }
    }
    Ok(facts)
}

/// Writes nothing when it is refused.
pub(crate) async fn transact(
    db: &mut SqliteConnection,
    changes: &[Change],
    now: Timestamp,
) -> Result<Outcome, Error> {
    let facts = facts(db, changes).await?;
    let mut plan = match Plan::of(changes, &facts, now) {
        Ok(plan) => plan,
        Err(refusals) => return Ok(Outcome::Refused(refusals)),
    };
    records(db, &mut plan).await?;
    tasks(db, &plan, now).await?;
    for (change, queue, tasks) in &plan.adds {
        let mut new = 0;
        for task in *tasks {
            let query =
                "INSERT INTO slipring_task (queue, key, weight, payload, attempt, attempts, state, ready_at)
                VALUES ($1, $2, $3, $4, 0, $5, 0, $6) ON CONFLICT DO NOTHING";
            let query = sqlx::query(query).bind(queue).bind(&task.key).bind(task.weight);
            let query = query.bind(&task.payload[..]).bind(i64::from(task.attempts));
            let query = query.bind(now.plus(task.delay).0);
            new += query.execute(&mut *db).await.map_err(doing("adding tasks"))?.rows_affected();
        }
        plan.effects[*change] = Effect::Count(new);
    }
    Ok(Outcome::Committed(plan.effects))
}

async fn records(db: &mut SqliteConnection, plan: &mut Plan<'_>) -> Result<(), Error> {
    for key in &plan.deletes {
        let query = sqlx::query("DELETE FROM slipring_record WHERE key = $1").bind(key);
        query.execute(&mut *db).await.map_err(doing("deleting records"))?;
    }
    if plan.puts.is_empty() {
        return Ok(());
    }
    let first = draw(db, plan.puts.len()).await?;
    for (put, version) in plan.puts.iter().zip(first..) {
        const DOING: &str = "writing records";
        let query = "INSERT INTO slipring_record (key, value, version) VALUES ($1, $2, $3)
            ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version";
        let query = sqlx::query(query).bind(put.key).bind(put.value).bind(version);
        query.execute(&mut *db).await.map_err(doing(DOING))?;
        plan.effects[put.change] = Effect::Version(rows::unsigned(version).map_err(doing(DOING))?);
    }
    Ok(())
}

pub(crate) async fn tasks(db: &mut SqliteConnection, plan: &Plan<'_>, now: Timestamp) -> Result<(), Error> {
    const DOING: &str = "writing tasks";
    let freed = plan.without_leases();
    if !freed.is_empty() {
        let query = "DELETE FROM slipring_lease WHERE task IN (SELECT value FROM json_each($1))";
        sqlx::query(query).bind(ids(&freed)).execute(&mut *db).await.map_err(doing(DOING))?;
    }
    for end in &plan.ends {
        let query = "UPDATE slipring_task SET state = $2, outcome = $3, ended_by = $4, ended_worker = $5, ended_at = $6,
            ready_at = NULL WHERE id = $1";
        let query = sqlx::query(query).bind(end.task).bind(end.state as i64).bind(&end.outcome[..]);
        let query = query.bind(rows::signed(end.epoch)).bind(&end.worker).bind(now.0);
        query.execute(&mut *db).await.map_err(doing(DOING))?;
    }
    for (task, at, attempt) in &plan.waits {
        let query = "UPDATE slipring_task SET state = 0, ready_at = $2, attempt = $3 WHERE id = $1";
        let query = sqlx::query(query).bind(task).bind(at.0).bind(i64::from(*attempt));
        query.execute(&mut *db).await.map_err(doing(DOING))?;
    }
    for (task, epoch, until) in &plan.leaves {
        let query = sqlx::query("DELETE FROM slipring_lease WHERE epoch = $1").bind(rows::signed(*epoch));
        query.execute(&mut *db).await.map_err(doing(DOING))?;
        let query = "UPDATE slipring_task SET ready_at = $2 WHERE id = $1";
        let query = sqlx::query(query).bind(task).bind(until.0);
        query.execute(&mut *db).await.map_err(doing(DOING))?;
    }
    for task in &plan.forgotten {
        let query = sqlx::query("DELETE FROM slipring_task WHERE id = $1").bind(task);
        query.execute(&mut *db).await.map_err(doing(DOING))?;
    }
    Ok(())
}
