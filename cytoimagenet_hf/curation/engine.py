"""Where chunks are rendered: in this process, or in several beside it."""

import concurrent.futures
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from cytoimagenet_hf.errors import BuildError

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_jobs(
    work: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int
) -> Iterator[Result]:
    """Do all jobs and yield their results as they are done, in any order.

    Args:
        work: a function of a module, as processes are spawned.
        jobs: must survive pickling.
        workers: processes; 1 works in this one.

    Raises:
        BuildError: a worker process died.
    """
    if workers == 1 or len(jobs) < 2:
        yield from map(work, jobs)
        return
    # Not forked: forking a process in which Arrow has started threads can hang it.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        min(workers, len(jobs)), mp_context=context
    ) as pool:
        futures = [pool.submit(work, job) for job in jobs]
        try:
            for done in concurrent.futures.as_completed(futures):
                yield done.result()
        except concurrent.futures.process.BrokenProcessPool:
            raise BuildError(
                "A worker process died (out of memory, or a decoder crashed). What was rendered "
                "is kept: run the same command again, with --workers 1 to see which file it is."
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)
