//! A transaction on PostgreSQL: lock what it is about, decide, write; set by set.
//!
//! Locks are taken in one order (offices, tasks by row, records by key). What is read under a lock is read in a statement
//! after the one that took it: in READ COMMITTED that one sees everything that was committed by whoever had the lock.

use sqlx::PgConnection;

use super::now;
use super::run::Failure;
use crate::change::{Change, Effect, Expect, Outcome};
use crate::clock::{Timestamp, micros};
use crate::plan::{self, Facts, Plan};
use crate::rows;
use crate::rules;

/// Locks tasks and reads them with their leases; the time, if there are any.
async fn tasks(
    db: &mut PgConnection,
    queues: &[&str],
    keys: &[&str],
) -> Result<(Timestamp, Vec<(usize, i64, rules::Task)>), Failure> {
    // `place` is from 1 on.
    let query = "SELECT a.place, t.id, t.state, t.attempt, t.attempts, t.ended_by
        FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS a (queue, key, place)
        JOIN slipring_task t ON t.queue = a.queue AND t.key = a.key ORDER BY t.id FOR UPDATE OF t";
    let query = sqlx::query_as(query).bind(queues).bind(keys);
    let locked: Vec<(i64, i64, i64, i64, i64, Option<i64>)> = query.fetch_all(&mut *db).await?;
    let mut tasks = Vec::with_capacity(locked.len());
    for (place, id, state, attempt, attempts, ended_by) in locked {
        let (id, task) = rows::task((id, state, attempt, attempts, ended_by))?;
        let place = usize::try_from(place - 1).map_err(|_| rows::broken(format!("place {place}")))?;
        tasks.push((place, id, task));
    }
    let ids: Vec<_> = tasks.iter().map(|(_, id, _)| *id).collect();
    let query = concat!(
        "SELECT c.now, l.task, l.epoch, l.worker, l.since, l.until FROM (SELECT ",
        now!(),
        " AS now) c LEFT JOIN slipring_lease l ON l.task = ANY($1)"
    );
    type Row = (i64, Option<i64>, Option<i64>, Option<String>, Option<i64>, Option<i64>);
    let leases: Vec<Row> = sqlx::query_as(query).bind(&ids).fetch_all(&mut *db).await?;
    let now = Timestamp(leases.first().map_or(0, |row| row.0));
    for (_, id, epoch, worker, since, until) in leases {
        let (Some(id), Some(epoch), Some(worker), Some(since), Some(until)) =
            (id, epoch, worker, since, until)
        else {
            continue;
        };
        // They are in the order of rows.
        if let Ok(place) = tasks.binary_search_by_key(&id, |(_, id, _)| *id) {
            tasks[place].2.leases.push(rows::lease((epoch, worker, since, until))?);
        }
    }
    Ok((now, tasks))
}

/// Locks a task and reads it with its leases.
pub(crate) async fn task(
    db: &mut PgConnection,
    queue: &str,
    key: &str,
) -> Result<Option<(Timestamp, i64, rules::Task)>, Failure> {
    let (now, mut found) = tasks(db, &[queue], &[key]).await?;
    Ok(found.pop().map(|(_, id, task)| (now, id, task)))
}

async fn facts<'a>(db: &mut PgConnection, changes: &'a [Change]) -> Result<(Timestamp, Facts<'a>), Failure> {
    let mut facts = Facts::default();
    let mut now = Timestamp::default();
    let mut offices: Vec<_> = changes.iter().filter_map(plan::office_of).collect();
    offices.sort_unstable();
    offices.dedup();
    if !offices.is_empty() {
        // Who would take it over waits until this is committed.
        let query = "SELECT epoch, a.place FROM unnest($1::text[]) WITH ORDINALITY AS a (name, place)
            JOIN slipring_office o ON o.name = a.name ORDER BY o.name FOR SHARE OF o";
        let found: Vec<(i64, i64)> = sqlx::query_as(query).bind(&offices).fetch_all(&mut *db).await?;
        for (epoch, place) in found {
            let place = usize::try_from(place - 1).map_err(|_| rows::broken(format!("place {place}")))?;
            facts.offices.insert(offices[place], rows::unsigned(epoch)?);
        }
    }
    let (queues, keys): (Vec<_>, Vec<_>) = changes.iter().filter_map(plan::task_of).unzip();
    if !keys.is_empty() {
        let (read_at, found) = tasks(db, &queues, &keys).await?;
        now = read_at;
        for (place, id, task) in found {
            facts.tasks.insert((queues[place], keys[place]), (id, task));
        }
    }
    let records: Vec<_> = changes.iter().filter_map(plan::record_of).collect();
    if !records.is_empty() {
        let query = "SELECT version, a.place FROM unnest($1::text[]) WITH ORDINALITY AS a (key, place)
            JOIN slipring_record r ON r.key = a.key ORDER BY r.key FOR UPDATE OF r";
        let found: Vec<(i64, i64)> = sqlx::query_as(query).bind(&records).fetch_all(&mut *db).await?;
        for (version, place) in found {
            let place = usize::try_from(place - 1).map_err(|_| rows::broken(format!("place {place}")))?;
            facts.records.insert(records[place], rows::unsigned(version)?);
        }
    }
    Ok((now, facts))
}

/// Writes nothing when it is refused.
pub(crate) async fn transact(db: &mut PgConnection, changes: &[Change]) -> Result<Outcome, Failure> {
    let (now, facts) = facts(db, changes).await?;
    let mut plan = match Plan::of(changes, &facts, now) {
        Ok(plan) => plan,
        Err(refusals) => return Ok(Outcome::Refused(refusals)),
    };
    write_tasks(db, &plan, now).await?;
    write_records(db, &mut plan).await?;
    add(db, &mut plan).await?;
    Ok(Outcome::Committed(plan.effects))
}

pub(crate) async fn write_tasks(
    db: &mut PgConnection,
    plan: &Plan<'_>,
    now: Timestamp,
) -> Result<(), Failure> {
    let freed = plan.without_leases();
    if !freed.is_empty() {
        let query = "DELETE FROM slipring_lease WHERE task = ANY($1)";
        sqlx::query(query).bind(&freed).execute(&mut *db).await?;
    }
    if !plan.ends.is_empty() {
        let query = "UPDATE slipring_task t SET state = a.state, outcome = a.outcome, ended_by = a.epoch,
            ended_worker = a.worker, ended_at = $6, ready_at = NULL
            FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bigint[], $5::text[])
                AS a (id, state, outcome, epoch, worker) WHERE t.id = a.id";
        let ends = &plan.ends;
        let query = sqlx::query(query)
            .bind(ends.iter().map(|end| end.task).collect::<Vec<_>>())
            .bind(ends.iter().map(|end| end.state as i64).collect::<Vec<_>>())
            .bind(ends.iter().map(|end| &end.outcome[..]).collect::<Vec<_>>())
            .bind(ends.iter().map(|end| rows::signed(end.epoch)).collect::<Vec<_>>())
            .bind(ends.iter().map(|end| end.worker.as_str()).collect::<Vec<_>>())
            .bind(now.0);
        query.execute(&mut *db).await?;
    }
    if !plan.waits.is_empty() {
        let query = "UPDATE slipring_task t SET state = 0, ready_at = a.at, attempt = a.attempt
            FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS a (id, at, attempt) WHERE t.id = a.id";
        let waits = &plan.waits;
        let query = sqlx::query(query)
            .bind(waits.iter().map(|(task, ..)| *task).collect::<Vec<_>>())
            .bind(waits.iter().map(|(_, at, _)| at.0).collect::<Vec<_>>())
            .bind(waits.iter().map(|(.., attempt)| i64::from(*attempt)).collect::<Vec<_>>());
        query.execute(&mut *db).await?;
    }
    for (task, epoch, until) in &plan.leaves {
        let query = "WITH gone AS (DELETE FROM slipring_lease WHERE epoch = $2)
            UPDATE slipring_task SET ready_at = $3 WHERE id = $1";
        let query = sqlx::query(query).bind(task).bind(rows::signed(*epoch)).bind(until.0);
        query.execute(&mut *db).await?;
    }
    if !plan.forgotten.is_empty() {
        let query = "DELETE FROM slipring_task WHERE id = ANY($1)";
        sqlx::query(query).bind(&plan.forgotten).execute(db).await?;
    }
    Ok(())
}

async fn write_records(db: &mut PgConnection, plan: &mut Plan<'_>) -> Result<(), Failure> {
    if !plan.deletes.is_empty() {
        let query = "DELETE FROM slipring_record WHERE key = ANY($1)";
        sqlx::query(query).bind(&plan.deletes).execute(&mut *db).await?;
    }
    if plan.puts.is_empty() {
        return Ok(());
    }
    plan.puts.sort_unstable_by_key(|put| put.key);
    // What is locked cannot have changed since. What was not there cannot be locked: whoever else made it in the
    // meantime has made it of a version that nobody expects, and the row that is then missing here says so.
    let query = "INSERT INTO slipring_record AS r (key, value, version)
        SELECT a.key, a.value, nextval('slipring_drawn')
        FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS a (key, value, place) ORDER BY a.place
        ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = nextval('slipring_drawn')
        WHERE r.key = ANY($3) RETURNING key, version";
    // Those that may be overwritten: all but those that were expected to be absent.
    let puts = &plan.puts;
    let present = puts.iter().filter(|put| put.expect != Expect::Absent).map(|put| put.key);
    let query = sqlx::query_as(query)
        .bind(puts.iter().map(|put| put.key).collect::<Vec<_>>())
        .bind(puts.iter().map(|put| put.value).collect::<Vec<_>>())
        .bind(present.collect::<Vec<_>>());
    let written: Vec<(String, i64)> = query.fetch_all(db).await?;
    if written.len() != puts.len() {
        return Err(Failure::Again);
    }
    for (key, version) in written {
        let version = rows::unsigned(version)?;
        if let Ok(place) = plan.puts.binary_search_by_key(&key.as_str(), |put| put.key) {
            plan.effects[plan.puts[place].change] = Effect::Version(version);
        }
    }
    Ok(())
}

async fn add(db: &mut PgConnection, plan: &mut Plan<'_>) -> Result<(), Failure> {
    plan.adds.sort_unstable_by_key(|(_, queue, _)| *queue);
    for (change, queue, tasks) in &plan.adds {
        let query = concat!(
            "INSERT INTO slipring_task (queue, key, weight, payload, attempt, attempts, state, ready_at)
            SELECT $1, a.key, a.weight, a.payload, 0, a.attempts, 0, ",
            now!(),
            " + a.delay FROM unnest($2::text[], $3::bigint[], $4::bytea[], $5::bigint[], $6::bigint[])
                AS a (key, weight, payload, attempts, delay)
            ORDER BY a.key COLLATE \"C\" ON CONFLICT (queue, key) DO NOTHING"
        );
        let query = sqlx::query(query)
            .bind(queue)
            .bind(tasks.iter().map(|task| task.key.as_str()).collect::<Vec<_>>())
            .bind(tasks.iter().map(|task| task.weight).collect::<Vec<_>>())
            .bind(tasks.iter().map(|task| &task.payload[..]).collect::<Vec<_>>())
            .bind(tasks.iter().map(|task| i64::from(task.attempts)).collect::<Vec<_>>())
            .bind(tasks.iter().map(|task| micros(task.delay)).collect::<Vec<_>>());
        let new = query.execute(&mut *db).await?.rows_affected();
        plan.effects[*change] = Effect::Count(new);
    }
    Ok(())
}
