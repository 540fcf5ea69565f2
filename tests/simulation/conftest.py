"""Each simulation, written once for all tests of this room."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from cytoimagenet_hf import simulation
from cytoimagenet_hf.simulation import Truth


@dataclass(frozen=True)
class Written:
    """One source's simulated folder, and what was painted into which file of it."""

    root: Path
    truth: Truth

    def images(self, part: str = "") -> list[Path]:
        """The images whose path holds `part`, sorted."""
        return [self.root / path for path in sorted(self.truth) if part in path]


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Give a function that simulates a source at most once per number of fields."""
    done: dict[tuple[str, int], Written] = {}

    def write(name: str, fields: int = 8) -> Written:
        if (name, fields) not in done:
            to = tmp_path_factory.mktemp("simulated")
            done[name, fields] = Written(to / name, simulation.simulate(name, to, fields=fields))
        return done[name, fields]

    return write
