-- Numbers are drawn from one counter: epochs of claims and tenures, versions of records. It never goes back.
CREATE TABLE slipring_counter (drawn INTEGER NOT NULL) STRICT;
INSERT INTO slipring_counter VALUES (0);

-- state: 0 pending, 1 running, 2 done, 3 failed. ready_at: from when on it can be claimed; NULL when it has ended.
-- Times are microseconds since 1970.
CREATE TABLE slipring_task (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    key TEXT NOT NULL,
    weight INTEGER NOT NULL,
    payload BLOB NOT NULL,
    attempt INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    state INTEGER NOT NULL,
    ready_at INTEGER,
    outcome BLOB,
    ended_by INTEGER,
    ended_worker TEXT,
    ended_at INTEGER,
    UNIQUE (queue, key)
) STRICT;
CREATE INDEX slipring_task_open ON slipring_task (queue, weight DESC, key) WHERE ready_at IS NOT NULL;
CREATE INDEX slipring_task_ended ON slipring_task (queue, key) WHERE ready_at IS NULL;
CREATE INDEX slipring_task_state ON slipring_task (queue, state);

-- A task that runs has one or two, others have none.
CREATE TABLE slipring_lease (
    epoch INTEGER PRIMARY KEY,
    task INTEGER NOT NULL REFERENCES slipring_task (id),
    worker TEXT NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER NOT NULL
) STRICT;
CREATE INDEX slipring_lease_task ON slipring_lease (task);

CREATE TABLE slipring_record (
    key TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL,
    version INTEGER NOT NULL
) STRICT;

CREATE TABLE slipring_office (
    name TEXT NOT NULL PRIMARY KEY,
    who TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    until INTEGER NOT NULL
) STRICT;
