"""Durable work: ids of analyses come in, each is worked on by one replica at a time until it has ended, whoever dies meanwhile.

DBOS Transact, and all of it that the service knows: a workflow an analysis, a step a segment, kept in its own SQLite file or in a schema of
the PostgreSQL that has the rows. `jobs.py` asks. What a step returned is never asked for again, so a step that was interrupted is the most
that is ever lost. Every method may wait for the database, so none is for the event loop.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, Final

from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer, WorkflowStatus, error
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import SQLAlchemyError

from service.connection import jobs_engine
from service.problems import ServiceError

NAME: Final = "undercurrent"
QUEUE: Final = "analyses"
STEP: Final = "segment"
VERSION: Final = "1"
"""Work that was begun under another one is not taken up: to be raised when the steps of a workflow change their order or their meaning."""
ASKING: Final = 5
"""Connections for questions from outside of work."""
POLL_S: Final = 0.2
"""How soon somebody who is free sees that there is work."""
LISTENER_S: Final = 0.05
"""How soon the listener for messages between workflows, of which there are none, sees that it is to end; by default a second."""
ENDING_S: Final = 30.0
"""How long work may take to notice that it is to stop: a frame, or the decoder's silence."""
ENDED: Final = frozenset({"SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"})

FAILURES: Final = (SQLAlchemyError, error.DBOSException)
"""What the methods raise: the database is away, or what was asked about has gone meanwhile."""

Outcome = dict[str, Any]
"""Of a step: JSON, and little of it."""
Step = Callable[[Callable[[], Outcome]], Outcome]


class WorkflowsInUse(ServiceError):
    """DBOS is one for each process."""

    slug = "workflows-in-use"
    title = "This process runs another service already"
    status = 500


class Left(BaseException):
    """Raised by work that stops in the middle: nothing of it is recorded, and whoever takes it up goes on after its last step.

    Not an Exception, since DBOS records those as the end of the workflow.
    """


class Workflows:
    """The work of one replica, and its part in handing over that of others.

    Args:
        url: the database, as SQLAlchemy names it; its tables are made or brought up to date by `open`.
        replica: the name of this process; no two that live may have the same.
        workers: analyses that it works on at once.
        of_one: analyses of one tenant that all replicas work on at once; None: as many as there are workers.
        work: does one of them, in a thread of its own; what it does in `step` is done once. Raises nothing but Left.
    """

    def __init__(self, url: URL, replica: str, workers: int, work: Callable[[str, Step], None], of_one: int | None = None) -> None:
        self._place, self._url = url, url.render_as_string(hide_password=False)
        self._file = url.database if url.get_backend_name() == "sqlite" else None
        self._replica, self._workers, self._work, self._of_one = replica, workers, work, of_one
        self._idle = threading.Condition()
        self._busy = 0
        self._client: DBOSClient | None = None
        self._asking: Engine | None = None
        self._working: Engine | None = None

    def open(self) -> None:
        """Make or migrate the tables, and connect; nothing is worked on until `launch`."""
        # With a handler there, DBOS adds none of its own: its records go where all others go.
        logging.getLogger("dbos").addHandler(logging.NullHandler())
        logging.getLogger("dbos").setLevel(logging.WARNING)
        DBOS.migrate(self._url)
        if self._file is not None:
            # Kept in the file. Nobody who asks waits for who writes, nor the other way round, and a commit is one fsync instead of four.
            with closing(sqlite3.connect(self._file)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
        self._asking = jobs_engine(self._place, ASKING)
        self._client = DBOSClient(
            system_database_url=self._url,
            system_database_engine=self._asking,
            serializer=DBOSPortableJSONSerializer(),
            application_name=NAME,
            retry_connection_errors=False,
        )
        self._client.register_queue(
            QUEUE,
            worker_concurrency=self._workers,
            # There always is one, for what it makes of the queue: one for each tenant, and of those that wait any may be next.
            partition_worker_concurrency=min(self._workers, self._of_one or self._workers),
            partition_concurrency=self._of_one,
            polling_interval_sec=POLL_S,
        )

    def launch(self) -> None:
        """Begin to work.

        Raises:
            WorkflowsInUse: another service of this process works already.
        """
        if not _one_a_process.acquire(blocking=False):
            raise WorkflowsInUse("Work cannot begin.", expected="one service for each process", got="another one that runs")
        connections = self._workers + 4
        self._working = jobs_engine(self._place, connections)
        config: DBOSConfig = {
            "name": NAME,
            "system_database_url": self._url,
            "system_database_engine": self._working,
            "application_version": VERSION,
            "executor_id": self._replica,
            # The default is pickle: whoever can write the database could run code here.
            "serializer": DBOSPortableJSONSerializer(),
            "enable_otlp": False,
            "log_level": "WARNING",
            "sys_db_pool_size": connections,
            "notification_listener_polling_interval_sec": LISTENER_S,
        }

        def work(analysis_id: str) -> None:  # DBOS writes on the function, which no bound method allows
            self._run(analysis_id)

        try:
            DBOS(config=config)
            DBOS.workflow(name=NAME)(work)
            DBOS.launch()
        except BaseException:
            self._end()
            raise

    def leave(self) -> None:
        """End every thread of DBOS, once all work has stopped, as somebody has told it to. What was under way waits to be handed over."""
        with self._idle:
            self._idle.wait_for(lambda: self._busy == 0, timeout=ENDING_S)
        self._end()

    def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            self._client.destroy()
            self._client = None
        if self._asking is not None:
            self._asking.dispose()

    def enqueue(self, analysis_id: str, tenant: str, priority: int) -> None:
        """Have somebody work on it; of two of a tenant that wait, the lower priority goes first, and of two tenants whichever chance
        takes. Nothing happens if that was asked before."""
        self._asked.enqueue(
            {
                "workflow_name": NAME,
                "queue_name": QUEUE,
                "workflow_id": analysis_id,
                "queue_partition_key": tenant,
                "app_version": VERSION,
                "priority": 1 + priority,
            },
            analysis_id,
        )

    def cancel(self, analysis_id: str) -> None:
        """Let nobody begin it, nor go on with it after the step that runs. Nothing happens if it has ended."""
        self._asked.cancel_workflow(analysis_id)

    def begun_by(self, replica: str | None) -> list[str]:
        """What a replica (None: any) has begun and not ended."""
        return [one.workflow_id for one in self._asked.list_workflows(status="PENDING", name=NAME, executor_id=replica, load_input=False)]

    def hand_over(self, analysis_ids: Sequence[str]) -> None:
        """Let whoever is free go on with these. Should somebody still work on one, he cannot record anything of it any more."""
        if analysis_ids:
            self._asked.resume_workflows(list(analysis_ids), queue_name=QUEUE)

    def without(self, analysis_ids: Sequence[str]) -> list[str]:
        """Those of these that nobody works on, or will: never enqueued, or their work has ended."""
        alive: set[str] = set()
        for at in range(0, len(analysis_ids), 200):
            some = list(analysis_ids[at : at + 200])
            found = self._asked.list_workflows(workflow_ids=some, load_input=False, load_output=False)
            alive |= {one.workflow_id for one in found if _has_work(one)}
        return [one for one in analysis_ids if one not in alive]

    def enqueue_again(self, analysis_id: str, tenant: str, priority: int) -> None:
        """Have somebody work on what `without` found; should there be work by now, nothing happens."""
        found = self._asked.list_workflows(workflow_ids=[analysis_id], load_input=False, load_output=False)
        if found and not _has_work(found[0]):
            self._asked.delete_workflows([analysis_id])
        self.enqueue(analysis_id, tenant, priority)

    def forget_ended(self, older_than_s: float, limit: int = 500) -> int:
        """Remove what is known of work that ended so long ago; returns how much that was, at most `limit`."""
        before = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - older_than_s))
        old = self._asked.list_workflows(
            status=sorted(ENDED), name=NAME, completed_before=before, limit=limit, load_input=False, load_output=False
        )
        if old:
            self._asked.delete_workflows([one.workflow_id for one in old])
        return len(old)

    @property
    def _asked(self) -> DBOSClient:
        assert self._client is not None, "Workflows: not open"
        return self._client

    def _run(self, analysis_id: str) -> None:
        with self._idle:
            self._busy += 1
        try:
            self._work(analysis_id, _step)
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def _end(self) -> None:
        DBOS.destroy(destroy_registry=True)
        if self._working is not None:
            self._working.dispose()
        _one_a_process.release()


def _has_work(one: WorkflowStatus) -> bool:
    """Whether somebody works on it or will; nobody looks for what was enqueued before there was a queue for each tenant."""
    return one.status not in ENDED and one.queue_partition_key is not None


_one_a_process: Final = threading.Lock()


def _step(do: Callable[[], Outcome]) -> Outcome:
    try:
        return DBOS.run_step({"name": STEP}, do)
    except (error.DBOSWorkflowCancelledError, error.DBOSWorkflowConflictIDError) as lost:
        # Passed on, it would have this thread wait until somebody else has ended the work.
        raise Left from lost
