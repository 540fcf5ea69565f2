"""What the benchmarks of loading and training share: two cores, caches of their own, quiet runs."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import datasets
import torch
from _timing import cores

CORES = 2
WORKERS = 2  # processes that decode, on every side


@contextlib.contextmanager
def two_cores(scratch: Path) -> Iterator[None]:
    """Pin to two cores with as many threads, keep caches in a folder, and tell runs to be quiet.

    Libraries that run here say what they do on the standard output, which is kept for figures.
    """
    before = torch.get_num_threads()
    home = {"CYTOIMAGENET_HOME": str(scratch / "home")}
    with (
        cores(None),
        cores(CORES),
        mock.patch.dict(os.environ, home),
        mock.patch.object(datasets.config, "HF_DATASETS_CACHE", scratch / "cache"),
        contextlib.redirect_stdout(sys.stderr),
    ):
        datasets.disable_progress_bars()
        torch.set_num_threads(CORES)
        try:
            yield
        finally:
            torch.set_num_threads(before)
