"""Benchmark tasks, one module each: the file name is the registry, helpers start with `_`."""

import difflib
import importlib
import pkgutil

from cytoimagenet_hf.evaluation.records import Task


def names() -> list[str]:
    """Names of all tasks, read from file names; nothing is imported."""
    return sorted(
        module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")
    )


def get(name: str) -> Task:
    """Import one task.

    Raises:
        ValueError: there is no such task; near names are given.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=3, cutoff=0.5) or names()
        raise ValueError(f"Unknown task {name!r}. Did you mean {', '.join(near)}?")
    task: Task = importlib.import_module(f"{__name__}.{name}").TASK
    return task
