"""Statements: what each claim and each end asks of tasks and their jobs."""

from adit.jobs.models import Job, JobState, Road, Task, TaskState, Turn, Work
from adit.nodes.models import Budget
from adit.nodes.statements import LIMITED, MEMBER
from adit.statement import Columns, Statement

TASK = Columns(Task, *(field.name for field in Task._meta.concrete_fields), alias="t")

DUE = """
    t.{task.state} = {T.PENDING} AND COALESCE(t.{task.not_before} <= %s, TRUE)
    AND (t.{task.work} = {W.KIND} OR NOT EXISTS (
        SELECT 1 FROM {task} o WHERE o.{task.job} = t.{task.job} AND o.{task.work} = {W.KIND}
        AND o.{task.state} IN ({T.PENDING}, {T.IN_PROGRESS}, {T.HELD})))"""
"""Waits for nothing but nodes and workers; what begins or ends a job also waits for the rest of it.

COALESCE, since PostgreSQL would look up both halves of an OR and sort, where the first row is wanted.
"""

IN_TURN = Statement(
    """
    SELECT r.{road.source}, j.{job.destination}, j.{job.urgent}, r.{road.lane},
        j.{job.owner}, j.{job.id}, r.{road.id}, r.{road.waits_for}, {limited},
        (SELECT t.{task.id} FROM {task} t WHERE t.{task.road} = r.{road.id} AND {due}
         ORDER BY t.{task.id} LIMIT 1)
    FROM {job} j JOIN {road} r ON r.{road.job} = j.{job.id}
    LEFT JOIN {turn} u ON u.{turn.owner} = j.{job.owner}
    WHERE j.{job.state} IN ({J.PENDING}, {J.IN_PROGRESS})
    ORDER BY j.{job.urgent} DESC, j.{job.priority} DESC, u.{turn.last_at} ASC NULLS FIRST,
        r.{road.id}""",
    **{
        "job": Job,
        "road": Road,
        "task": Task,
        "turn": Turn,
        "J": JobState,
        "T": TaskState,
        "W": Work,
    },
    budget=Budget,
    member=MEMBER,
    limited=LIMITED,
    due=DUE,
)
"""Roads of jobs that may run, each with its first due task or NULL: urgent before higher priority
before whose turn it is before the oldest."""

FIRST_DUE = Statement(
    """
    WITH j AS (SELECT {job.state} FROM {job} WHERE {job.id} = %s {lock:})
    SELECT j.{job.state}, {columns} FROM {task} t, j
    WHERE j.{job.state} IN ({J.PENDING}, {J.IN_PROGRESS}) AND t.{task.road} = %s AND {due}
    ORDER BY t.{task.id} LIMIT %s {lock:OF t SKIP LOCKED}""",
    **{"job": Job, "task": Task, "J": JobState, "T": TaskState, "W": Work},
    columns=TASK,
    due=DUE,
)
"""Locks the job, then its tasks."""
LOCK_JOB = Statement("SELECT {job.state} FROM {job} WHERE {job.id} = %s {lock:}", job=Job)
BEGIN_TASK = Statement(
    """
    UPDATE {task} SET {task.state} = {T.IN_PROGRESS}, {task.attempt} = {task.attempt} + 1,
        {task.worker} = %s, {task.lease_until} = %s, {task.started_at} = %s,
        {task.ended_at} = NULL, {task.not_before} = NULL, {task.message} = ''
    WHERE {task.id} = %s AND {task.attempt} = %s AND {task.state} = {T.PENDING}""",
    task=Task,
    T=TaskState,
)
END_TASK = Statement(
    """
    UPDATE {task} SET {task.state} = %s, {task.message} = %s, {task.broke_rule} = %s,
        {task.ended_at} = %s, {task.lease_until} = NULL, {task.worker} = ''
    WHERE {task.id} = %s AND {task.attempt} = %s AND {task.worker} = %s
    AND {task.state} = %s""",
    task=Task,
)
LIVES_ON = Statement(
    """SELECT 1 FROM {task} WHERE {task.job} = %s AND {task.work} <> {W.PACK}
    AND {task.state} IN ({T.PENDING}, {T.IN_PROGRESS}) LIMIT 1""",
    task=Task,
    T=TaskState,
    W=Work,
)
"""Then the end of another one leaves its job where it is."""
TAKE_TURN = Statement(
    """INSERT INTO {turn} ({turn.owner}, {turn.last_at}) VALUES (%s, %s)
    ON CONFLICT ({turn.owner}) DO UPDATE SET {turn.last_at} = excluded.{turn.last_at}""",
    turn=Turn,
)
