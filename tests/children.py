"""Run work in a child that is forked from a clean process, and learn how the child ended.

Forks, because importing torch anew takes longer than a whole run; not of the tests' own process,
because a fork takes along the locks and thread pools of all tests before it, and then hangs.
"""

import importlib.util
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NamedTuple

import pytest

# Imported once, in the process that all children are forked from.
PRELOADED = [
    "tests.conftest", "torch", "timm", "datasets", "accelerate", "transformers",
    "cytoimagenet_hf.pretraining.train", "cytoimagenet_hf.evaluation.features",
]  # fmt: skip


class Ended(NamedTuple):
    """How a child ended: its exit code (negative: the signal that killed it) and its traceback."""

    code: int
    said: str

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.code == -signal.SIGKILL


def _start(work, environment, cache, pipe):
    import datasets

    os.environ.clear()
    os.environ.update(environment)
    if importlib.util.find_spec("torch"):  # not with the core alone
        importlib.import_module("torch").set_num_threads(1)
    datasets.disable_progress_bars()
    datasets.config.HF_DATASETS_CACHE = cache
    try:
        work()
    except BaseException:
        pipe.send(traceback.format_exc())
        os._exit(1)
    os._exit(0)  # nothing of this process is worth tidying up, and some of it waits for others


def in_child(work: Callable[[], object], timeout: float = 240) -> Ended:
    """Run `work`, any function or closure, in a child; one that takes too long fails the test."""
    import datasets
    import multiprocess  # pickles closures, which the standard library's doesn't

    context = multiprocess.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    ours, theirs = context.Pipe(duplex=False)
    given = (work, dict(os.environ), datasets.config.HF_DATASETS_CACHE, theirs)
    child = context.Process(target=_start, args=given)
    child.start()
    theirs.close()
    child.join(timeout)
    if child.is_alive():
        child.kill()
        child.join()
        pytest.fail(f"the child did not end within {timeout:g} s")
    try:
        said = ours.recv() if ours.poll() else ""
    except EOFError:  # killed before it could say anything
        said = ""
    sys.stderr.write(said)  # shown where the test fails
    return Ended(child.exitcode, said)
