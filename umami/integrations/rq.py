"""RQ: a job's sends know the visitor who caused it, and a worker delivers them before its process ends."""

from collections.abc import Collection
from typing import Any, ClassVar, cast

import rq
import rq.job

import umami

from ._tasks import KEY, Tasks

__all__ = ["FlushMixin", "Job", "Worker"]


class Job(rq.job.Job):
    """A job that carries the visitor in its `meta`.

    What it sends, and the jobs that it queues, belong to the visitor of the code that queued it. The
    visitor's address and User-Agent pass through Redis.

    Attributes:
        umami_events: The outcomes that are sent as events, for classes that inherit from this one: `success`,
            `failure`, `retry`. Their names are `task success` and so on, and their data name the function.

    Example:
        ```python
        queue = rq.Queue(connection=redis, job_class=umami.integrations.rq.Job)
        # rq worker --job-class umami.integrations.rq.Job --worker-class umami.integrations.rq.Worker
        ```
    """

    umami_events: ClassVar[Collection[str]] = ()
    _umami_tasks: ClassVar[Tasks] = Tasks(())

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._umami_tasks = Tasks(cls.umami_events)

    @classmethod
    def create(cls, *args: Any, **options: Any) -> "Job":
        """Create a job, with the visitor of the code that creates it."""
        job: Any = super().create(*args, **options)
        visitor = umami.current_visitor()
        if visitor:
            job.meta = {**job.meta, KEY: visitor}
        return cast("Job", job)

    def perform(self) -> Any:
        """Run the job, in the visitor's block."""
        tasks, name = self._umami_tasks, self.func_name or ""
        with tasks.visitor(self.meta.get(KEY)):
            try:
                result = super().perform()
            except Exception as error:
                if self.retries_left:
                    tasks.send_outcome(name, "retry")
                else:
                    tasks.send_outcome(name, "failure", error)
                raise
            tasks.send_outcome(name, "retry" if isinstance(result, rq.Retry) else "success")
            return result


class FlushMixin:
    """Delivers a job's events before the process that runs it ends. For a worker class of your own.

    RQ runs each job in a process that ends without Python's exit handlers. The events of all clients are
    delivered first, within their setting `shutdown_timeout`.

    Example:
        ```python
        class Worker(umami.integrations.rq.FlushMixin, rq.SpawnWorker): ...
        ```
    """

    is_horse: bool

    def perform_job(self, *args: Any, **options: Any) -> bool:
        """Run a job, and deliver its events if this process ends after it."""
        try:
            return bool(super().perform_job(*args, **options))  # type: ignore[misc]
        finally:
            if self.is_horse:
                umami.before_exit()


class Worker(FlushMixin, rq.Worker):
    """RQ's worker, which delivers a job's events before the process that runs it ends.

    Example:
        ```python
        Worker([queue], connection=redis, job_class=umami.integrations.rq.Job).work()
        ```
    """
