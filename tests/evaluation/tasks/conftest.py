"""Each task's simulation, written once for all tests of this folder."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from cytoimagenet_hf import simulation
from cytoimagenet_hf.evaluation import tasks
from cytoimagenet_hf.evaluation.records import Images
from cytoimagenet_hf.simulation import Truth

FIELDS = {"bbbc021": 45, "coos7": 112, "cyclops": 60}


@dataclass(frozen=True)
class Simulated:
    """One task's simulated folder, and what was painted into which file of it."""

    name: str
    root: Path
    truth: Truth

    def open(self) -> Images:
        """All that the task finds."""
        return tasks.get(self.name).open(self.root)

    def copy(self, to: Path, *without: str) -> "Simulated":
        """A copy of the folder without some files."""
        shutil.copytree(self.root, to, dirs_exist_ok=True)
        for path in without:
            (to / path).unlink()
        return Simulated(self.name, to, self.truth)


@pytest.fixture(scope="session")
def simulated(tmp_path_factory):
    """Give a function that simulates a task at most once."""
    done: dict[str, Simulated] = {}

    def write(name: str) -> Simulated:
        if name not in done:
            to = tmp_path_factory.mktemp("tasks")
            truth = simulation.simulate(name, to, fields=FIELDS[name])
            done[name] = Simulated(name, to / name, truth)
        return done[name]

    return write
