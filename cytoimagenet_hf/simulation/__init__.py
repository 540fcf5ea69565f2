"""Fake raw data in the true layout of sources and benchmark tasks: for tests, demo, `simulate`.

One module a source or task, named like it: the file name is the registry, and helpers start with
`_`. File names come from real file lists, never from the code that reads them, so that one checks
the other. Each module has `MOST` (fields in the real layout that it knows names for),
`simulate(root, *, fields, seed)` and `simulate_negative(root)`.
"""

import difflib
import importlib
import pkgutil
from pathlib import Path
from typing import Protocol, cast

from cytoimagenet_hf.simulation._writing import mark

Truth = dict[str, tuple[str, ...]]  # path of each image -> treatment or phenotypes painted into it


class Simulation(Protocol):
    """What a module of this package offers."""

    MOST: int

    def simulate(self, root: Path, *, fields: int, seed: int) -> Truth:
        """Write `fields` fields under `root`; return the truth about each image file."""
        ...

    def simulate_negative(self, root: Path) -> None:
        """Write files that look similar and of which none belongs to the data set."""
        ...


def names() -> list[str]:
    """Names of all simulations, read from file names; nothing is imported."""
    return sorted(
        module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")
    )


def get(name: str) -> Simulation:
    """Import one simulation.

    Raises:
        ValueError: there is no such simulation; near names are given.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=3, cutoff=0.5) or names()
        raise ValueError(f"Unknown simulation {name!r}. Did you mean {', '.join(near)}?")
    return cast(Simulation, importlib.import_module(f"{__name__}.{name}"))


def simulate(name: str, to: Path, *, fields: int = 24, seed: int = 0) -> Truth:
    """Write simulated raw data of one source or task to `to/<name>`, so that `to` is a data root.

    Same name, fields and seed: same bytes (with the same library versions).

    Returns:
        For each image file, relative to `to/<name>` and with `/`, what was painted into it: the
        values of compound and phenotype. Files that it doesn't list are tables and decoys.

    Raises:
        ValueError: no such simulation, too few or many fields, or the folder holds other files.
    """
    simulation = get(name)
    if not 1 <= fields <= simulation.MOST:
        raise ValueError(f"{name}: fields={fields} must be within 1..{simulation.MOST}.")
    root = to / name
    mark(root, f"simulation {name}, {fields} fields, seed {seed}")
    return simulation.simulate(root, fields=fields, seed=seed)


def simulate_negative(name: str, to: Path) -> None:
    """Write another layout to `to/<name>`, in which source or task must find nothing."""
    simulation = get(name)
    mark(to / name, f"simulation {name}, another layout")
    simulation.simulate_negative(to / name)
