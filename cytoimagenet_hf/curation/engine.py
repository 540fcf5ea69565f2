"""Where work is done: in this process, or in worker processes that may die without harm.

Decoders read files from outside, so a worker can crash, be killed for its memory, or hang. It tells
its parent which item it begins and how much processor time that may take; the kernel ends it when
it takes more. The parent replaces a dead worker and learns which item it died at.
"""

import contextlib
import functools
import math
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from cytoimagenet_hf.errors import BuildError

try:
    import resource
except ImportError:  # Windows has no limits of this kind: a hanging decoder hangs its worker there
    resource = None  # type: ignore[assignment]

Job = TypeVar("Job")
Result = TypeVar("Result")
Guard = Callable[[str, float], None]  # (item that begins, CPU seconds that it may take)

TIMEOUT, CRASHED = "timeout", "decoder crashed"
_UNLIMITED = 1 << 30  # seconds


@dataclass(frozen=True, slots=True)
class Done(Generic[Job, Result]):
    """A finished job."""

    job: Job
    result: Result


@dataclass(frozen=True, slots=True)
class Lost(Generic[Job]):
    """A job whose worker died, and the item that it had begun."""

    job: Job
    item: str
    reason: str  # TIMEOUT or CRASHED


def run_jobs(
    work: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int
) -> Iterator[Result]:
    """Do all jobs and yield their results as they are done, in any order.

    Args:
        work: a function of a module, as processes are spawned.
        jobs: must survive pickling.
        workers: processes; 0 works in this one.

    Raises:
        BuildError: a worker process died.
    """
    if workers == 0:
        yield from map(work, jobs)
        return
    with Pool(functools.partial(_unguarded, work), min(workers, len(jobs))) as pool:
        for outcome in pool.run(deque(jobs)):
            if isinstance(outcome, Lost):
                raise BuildError(
                    "A worker process died (out of memory?). What was finished is kept: run the "
                    "same command again, with fewer --workers."
                )
            yield outcome.result


def _unguarded(work: Callable[[Job], Result], job: Job, _guard: Guard) -> Result:
    return work(job)


class Pool(Generic[Job, Result]):
    """Worker processes; use as a context manager.

    Args:
        work: a function of a module; gets a job and a guard, which it may call before each item.
        workers: processes, at least 1.
    """

    def __init__(self, work: Callable[[Job, Guard], Result], workers: int) -> None:
        # Not forked: forking a process in which Arrow has started threads can hang it.
        self._context = multiprocessing.get_context("spawn")
        self._work, self._count = work, workers
        self._workers: list[_Worker[Job]] = []

    def __enter__(self) -> "Pool[Job, Result]":
        self._workers = [self._start() for _ in range(self._count)]
        return self

    def __exit__(self, *_problem: object) -> None:
        for worker in self._workers:
            worker.stop()

    def run(self, queue: deque[Job]) -> Iterator[Done[Job, Result] | Lost[Job]]:
        """Do the jobs of a queue, to which the caller may add while it iterates.

        Yields:
            Each job's outcome, in any order.

        Raises:
            Exception: whatever a job raised in its worker.
        """
        while queue or any(worker.job is not None for worker in self._workers):
            for worker in self._workers:
                if worker.job is None and queue:
                    worker.give(queue.popleft())
            busy = {worker.pipe: worker for worker in self._workers if worker.job is not None}
            for pipe in wait(list(busy)):
                outcome = self._hear(busy[pipe])
                if outcome is not None:
                    yield outcome

    def _hear(self, worker: "_Worker[Job]") -> Done[Job, Result] | Lost[Job] | None:
        """Take one message of a worker; None when its job goes on."""
        job = worker.job
        assert job is not None
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, OSError):
            lost = Lost(job, worker.item, worker.cause_of_death())
            self._workers[self._workers.index(worker)] = self._start()
            return lost
        if kind == "item":
            worker.item = content
            return None
        worker.job, worker.item = None, ""
        if kind == "error":
            raise content
        return Done(job, content)

    def _start(self) -> "_Worker[Job]":
        return _Worker(self._context, self._work)


class _Worker(Generic[Job]):
    """One process, its pipe, and what it is doing."""

    def __init__(self, context: Any, work: Callable[[Job, Guard], Any]) -> None:  # noqa: ANN401
        self.pipe, theirs = context.Pipe()
        self.job: Job | None = None
        self.item = ""
        self._process = context.Process(target=_serve, args=(work, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def give(self, job: Job) -> None:
        """Hand over a job; a worker that is dead already is heard of when it is listened to."""
        self.job = job
        with contextlib.suppress(OSError):
            self.pipe.send(job)

    def cause_of_death(self) -> str:
        """Wait for the end of a process that closed its pipe, and tell why it ended."""
        self._process.join(10)
        self.stop()
        xcpu = getattr(signal, "SIGXCPU", None)
        return TIMEOUT if xcpu and self._process.exitcode == -xcpu else CRASHED

    def stop(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _serve(work: Callable[[Job, Guard], Any], pipe: Connection) -> None:
    """Work until the parent closes its end of the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def guard(item: str, seconds: float) -> None:
        pipe.send(("item", item))
        _limit(seconds)

    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            message = ("done", work(job, guard))
        except Exception as error:
            message = ("error", error)
        _limit(_UNLIMITED)
        try:
            pipe.send(message)
        except OSError:  # the parent is gone
            return
        except Exception as error:  # what a job raised can't be pickled
            pipe.send(("error", BuildError(f"{type(message[1]).__name__}: {message[1]} ({error})")))


def _end_with_parent() -> None:
    """End this process when its parent does, whatever it is doing.

    One that lived on could write into a folder that the next run holds.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _limit(seconds: float) -> None:
    """Have the kernel end this process when it uses so much more processor time."""
    if resource is None:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = math.ceil(time.process_time() + seconds)
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
