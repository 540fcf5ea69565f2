"""The task that CONTRIBUTING.md shows works as it stands there."""

import re
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytoimagenet_hf.errors import TaskNotFoundError
from cytoimagenet_hf.evaluation import tasks
from cytoimagenet_hf.evaluation.records import Features
from cytoimagenet_hf.evaluation.scoring import score

PAGE = Path(__file__).resolve().parents[3] / "CONTRIBUTING.md"
MOST_LINES = 40


def code() -> str:
    """The block of the page that begins with the made-up task's first line."""
    blocks = re.findall(r"^ *```python\n(.*?)^ *```$", PAGE.read_text("utf-8"), re.M | re.S)
    (found,) = [block for block in map(textwrap.dedent, blocks) if block.startswith('"""Spores')]
    return found


@pytest.fixture
def spores(tmp_path, monkeypatch):
    """Put the code into one file of the folder of tasks, and get it by its name."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "spores.py").write_text(code(), encoding="utf-8")
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path / "tasks")])
    yield tasks.get("spores")
    sys.modules.pop("cytoimagenet_hf.evaluation.tasks.spores", None)


@pytest.fixture
def folder(tmp_path):
    """Bright and dark spores of three patients, two each, and one that lacks a file."""
    for kind, level in (("bright", 200), ("dark", 20)):
        for patient in "pqr":
            for number in range(2):
                for channel in ("light", "wall"):
                    path = tmp_path / "raw" / kind / f"{patient}_{number}_{channel}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    shade = level + number + (40 if channel == "wall" else 0)
                    Image.fromarray(np.full((8, 9), shade, np.uint8)).save(path)
    (tmp_path / "raw" / "dark" / "r_1_wall.png").unlink()
    return tmp_path / "raw"


def test_the_code_is_short():
    """One file, under 40 lines."""
    assert len(code().splitlines()) < MOST_LINES


def test_a_file_is_all_that_a_task_needs(spores, folder):
    """It is found by its name, opened, read, and scored by its protocol."""
    assert "spores" in tasks.names()
    images = spores.open(folder)
    assert images.ids[0] == "bright/p/0"
    assert (len(images), images.dropped) == (11, {"missing channel file (wall)": 1})
    assert images.read(0)[:, 0, 0].tolist() == [240, 200]  # wall, then light
    values = np.array([images.read(row).mean(axis=(1, 2)) for row in range(len(images))])
    features = [Features(images.ids, values.astype(np.float32), {})]
    outcome = score(images, features, spores.protocols[0], backend="numpy")
    assert outcome.correct.all()
    assert (len(outcome.ids), outcome.bank_size, set(outcome.clusters)) == (11, 11, set("pqr"))


def test_another_folder_is_refused(spores, tmp_path):
    """The layout that the task tells is shown."""
    with pytest.raises(TaskNotFoundError, match="looked for <kind>/<patient>_<number>_wall"):
        spores.open(tmp_path / "tasks")
