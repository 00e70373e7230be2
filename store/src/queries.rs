//! What both databases are asked in the same words. What is said otherwise stays with each: clocks, locks, sets.

use crate::range::Range;

/// A record: [`crate::rows::record`].
pub(crate) const RECORD: &str = "SELECT value, version FROM slipring_record WHERE key = $1";

/// Records between two keys, at most so many: [`crate::rows::records`].
pub(crate) fn records(range: &Range) -> &'static str {
    match range.reverse {
        false => {
            "SELECT key, value, version FROM slipring_record WHERE key >= $1 AND key < $2
            ORDER BY key LIMIT $3"
        }
        true => {
            "SELECT key, value, version FROM slipring_record WHERE key >= $1 AND key < $2
            ORDER BY key DESC LIMIT $3"
        }
    }
}

/// Of a queue: [`crate::rows::counts`].
pub(crate) const COUNTS: &str = "SELECT state, count(*) FROM slipring_task WHERE queue = $1 GROUP BY state";

/// Of a queue, behind a key, at most so many: [`crate::rows::finished`].
pub(crate) const FINISHED: &str =
    "SELECT key, outcome, state, ended_by, ended_worker, attempt, ended_at FROM slipring_task
    WHERE queue = $1 AND ready_at IS NULL AND key > $2 ORDER BY key LIMIT $3";

/// Of a queue, at most so many: [`crate::rows::running`].
pub(crate) const RUNNING: &str = "SELECT t.key, l.epoch, l.worker, l.since, l.until, t.weight
    FROM slipring_task t JOIN slipring_lease l ON l.task = t.id
    WHERE t.queue = $1 AND t.state = 1 ORDER BY t.key, l.epoch LIMIT $2";

/// Of an office: [`crate::rows::tenure`].
pub(crate) const TENURE: &str = "SELECT who, epoch, until FROM slipring_office WHERE name = $1";

/// Every task with every lease, and leases without a task: `queue, key, has an outcome, ready_at`, then [`crate::rows::TaskRow`] and
/// the lease's epoch and end.
pub(crate) const AUDIT: &str =
    "SELECT t.queue, t.key, t.outcome IS NOT NULL, t.ready_at, t.id, t.state, t.attempt,
    t.attempts, t.ended_by, l.epoch, l.until
    FROM slipring_task t LEFT JOIN slipring_lease l ON l.task = t.id ORDER BY t.id, l.epoch";

/// The largest number that the counter gave and that is still in use.
pub(crate) const NEWEST: &str = "SELECT max(number) FROM (SELECT max(epoch) AS number FROM slipring_lease
    UNION ALL SELECT max(ended_by) FROM slipring_task UNION ALL SELECT max(version) FROM slipring_record
    UNION ALL SELECT max(epoch) FROM slipring_office) AS numbers";
