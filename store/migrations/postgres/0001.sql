-- Numbers are drawn from one counter: epochs of claims and tenures, versions of records. It never goes back.
CREATE SEQUENCE slipring_drawn AS BIGINT;

-- state: 0 pending, 1 running, 2 done, 3 failed. ready_at: from when on it can be claimed; NULL when it has ended.
-- Times are microseconds since 1970. The order of text is that of its bytes, whatever the database's language is.
CREATE TABLE slipring_task (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    weight BIGINT NOT NULL,
    payload BYTEA NOT NULL,
    attempt BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    state BIGINT NOT NULL,
    ready_at BIGINT,
    outcome BYTEA,
    ended_by BIGINT,
    ended_worker TEXT,
    ended_at BIGINT,
    UNIQUE (queue, key)
);
CREATE INDEX slipring_task_open ON slipring_task (queue, weight DESC, key) WHERE ready_at IS NOT NULL;
CREATE INDEX slipring_task_ended ON slipring_task (queue, key) WHERE ready_at IS NULL;
CREATE INDEX slipring_task_state ON slipring_task (queue, state);

-- A task that runs has one or two, others have none. Whoever writes here has locked the task's row.
CREATE TABLE slipring_lease (
    epoch BIGINT PRIMARY KEY,
    task BIGINT NOT NULL REFERENCES slipring_task (id),
    worker TEXT NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT NOT NULL
);
CREATE INDEX slipring_lease_task ON slipring_lease (task);

CREATE TABLE slipring_record (
    key TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value BYTEA NOT NULL,
    version BIGINT NOT NULL
);

CREATE TABLE slipring_office (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    who TEXT COLLATE "C" NOT NULL,
    epoch BIGINT NOT NULL,
    until BIGINT NOT NULL
);
