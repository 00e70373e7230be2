//! A transaction on SQLite: read what it is about, decide, write.

use std::collections::HashMap;

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::{doing, ids, texts};
use crate::change::{Change, Effect, Outcome};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::plan::{self, Facts, Plan};
use crate::rows;
use crate::rules;

/// Rows of one statement; each takes five of its 32,766 variables.
const MOST_ROWS: usize = 500;

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
    Ok(all_tasks(db, queue, &[key]).await?.remove(&0))
}

/// Those of these that there are, by their place among the keys.
async fn all_tasks(
    db: &mut SqliteConnection,
    queue: &str,
    keys: &[&str],
) -> Result<HashMap<usize, (i64, rules::Task)>, Error> {
    const DOING: &str = "reading tasks";
    type Joined =
        (i64, i64, i64, i64, i64, Option<i64>, Option<i64>, Option<String>, Option<i64>, Option<i64>);
    let query =
        "SELECT a.key, t.id, t.state, t.attempt, t.attempts, t.ended_by, l.epoch, l.worker, l.since, l.until
        FROM json_each($2) a CROSS JOIN slipring_task t ON t.queue = $1 AND t.key = a.value
        LEFT JOIN slipring_lease l ON l.task = t.id";
    let query = sqlx::query_as(query).bind(queue).bind(texts(keys));
    let found: Vec<Joined> = query.fetch_all(db).await.map_err(doing(DOING))?;
    let mut tasks = HashMap::new();
    for (place, id, state, attempt, attempts, ended_by, epoch, worker, since, until) in found {
        let row = rows::task((id, state, attempt, attempts, ended_by)).map_err(doing(DOING))?;
        let (_, task) = tasks.entry(at(place, keys).map_err(doing(DOING))?).or_insert(row);
        if let (Some(epoch), Some(worker), Some(since), Some(until)) = (epoch, worker, since, until) {
            task.leases.push(rows::lease((epoch, worker, since, until)).map_err(doing(DOING))?);
        }
    }
    Ok(tasks)
}

/// A place among keys.
fn at(place: i64, keys: &[&str]) -> Result<usize, sqlx::Error> {
    let place_of = usize::try_from(place).ok().filter(|place| *place < keys.len());
    place_of.ok_or_else(|| rows::broken(format!("place {place}")))
}

/// A number of each key that is there.
async fn numbers<'a>(
    db: &mut SqliteConnection,
    query: &'static str,
    keys: &[&'a str],
    what: &'static str,
) -> Result<HashMap<&'a str, u64>, Error> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let query = sqlx::query_as(query).bind(texts(keys));
    let found: Vec<(i64, i64)> = query.fetch_all(db).await.map_err(doing(what))?;
    let number = |(place, number)| Ok((keys[at(place, keys)?], rows::unsigned(number)?));
    found.into_iter().map(number).collect::<Result<_, _>>().map_err(doing(what))
}

/// One statement for each kind of thing, however many there are: the lock is held meanwhile, and each statement goes to the
/// connection's thread and back.
async fn facts<'a>(db: &mut SqliteConnection, changes: &'a [Change]) -> Result<Facts<'a>, Error> {
    let mut facts = Facts::default();
    let mut queues: HashMap<&str, Vec<&str>> = HashMap::new();
    for (queue, key) in changes.iter().filter_map(plan::task_of) {
        queues.entry(queue).or_default().push(key);
    }
    for (queue, keys) in queues {
        let found = all_tasks(db, queue, &keys).await?;
        facts.tasks.extend(found.into_iter().map(|(place, task)| ((queue, keys[place]), task)));
    }
    let records: Vec<&str> = changes.iter().filter_map(plan::record_of).collect();
    let query =
        "SELECT a.key, r.version FROM json_each($1) a CROSS JOIN slipring_record r ON r.key = a.value";
    facts.records = numbers(db, query, &records, "reading records' versions").await?;
    let offices: Vec<&str> = changes.iter().filter_map(plan::office_of).collect();
    let query = "SELECT a.key, o.epoch FROM json_each($1) a CROSS JOIN slipring_office o ON o.name = a.value";
    facts.offices = numbers(db, query, &offices, "reading offices").await?;
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
        for tasks in tasks.chunks(MOST_ROWS) {
            let mut query = QueryBuilder::<Sqlite>::new(
                "INSERT INTO slipring_task (queue, key, weight, payload, attempt, attempts, state, ready_at) ",
            );
            query.push_values(tasks, |mut row, task| {
                row.push_bind(*queue)
                    .push_bind(&task.key)
                    .push_bind(task.weight)
                    .push_bind(&task.payload[..]);
                row.push("0").push_bind(i64::from(task.attempts)).push("0").push_bind(now.plus(task.delay).0);
            });
            let query = query.push(" ON CONFLICT DO NOTHING").build();
            new += query.execute(&mut *db).await.map_err(doing("adding tasks"))?.rows_affected();
        }
        plan.effects[*change] = Effect::Count(new);
    }
    Ok(Outcome::Committed(plan.effects))
}

async fn records(db: &mut SqliteConnection, plan: &mut Plan<'_>) -> Result<(), Error> {
    if !plan.deletes.is_empty() {
        let query = "DELETE FROM slipring_record WHERE key IN (SELECT value FROM json_each($1))";
        let query = sqlx::query(query).bind(texts(&plan.deletes));
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
    if !plan.forgotten.is_empty() {
        let query = "DELETE FROM slipring_task WHERE id IN (SELECT value FROM json_each($1))";
        let query = sqlx::query(query).bind(ids(&plan.forgotten));
        query.execute(&mut *db).await.map_err(doing(DOING))?;
    }
    Ok(())
}
