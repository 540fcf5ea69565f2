"""Tests of where work is done: the same results in one process and several, and dying workers."""

import os
import time

import pytest

from cytoimagenet_hf.curation.engine import run_jobs
from cytoimagenet_hf.errors import BuildError, ImageRefusedError


def double(job: int) -> tuple[int, int]:
    """Double a number; the process tells who it is."""
    return 2 * job, os.getpid()


def fail(job: int) -> int:
    """Refuse a job as an image is refused."""
    raise ImageRefusedError("too large", f"job {job}")


def die(job: int) -> int:
    """End the process as a crashing decoder does."""
    if job == 1:
        os._exit(3)
    time.sleep(0.01)
    return job


def test_no_workers_work_in_this_process() -> None:
    """Without workers results come in order, one after another, and lazily."""
    results = run_jobs(double, [1, 2, 3], workers=0)
    assert next(results) == (2, os.getpid())
    assert [value for value, _ in results] == [4, 6]


def test_two_workers_give_the_same_set() -> None:
    """Results may come in another order, from other processes."""
    jobs = list(range(20))
    results = list(run_jobs(double, jobs, workers=2))
    assert sorted(value for value, _ in results) == [2 * job for job in jobs]
    assert os.getpid() not in {process for _, process in results}


def test_no_jobs_give_no_results() -> None:
    """Nothing is started for nothing."""
    assert list(run_jobs(double, [], workers=0)) == []


def test_a_dying_worker_is_an_error_of_the_build() -> None:
    """The run ends with a message that says what is kept and what to do."""
    with pytest.raises(BuildError, match=r"worker process died.*kept.*--workers"):
        list(run_jobs(die, [0, 1, 2, 3], workers=2))


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_of_jobs_cross_the_process(workers) -> None:
    """What a job raises reaches the caller whole."""
    with pytest.raises(ImageRefusedError, match="job") as caught:
        list(run_jobs(fail, [5, 6], workers=workers))
    assert caught.value.reason == "too large"
