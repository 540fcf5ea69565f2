"""What every task promises, tried on its simulation, whose names never came from the task."""

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cytoimagenet_hf import simulation
from cytoimagenet_hf.errors import TaskNotFoundError
from cytoimagenet_hf.evaluation import tasks
from cytoimagenet_hf.evaluation.records import Features
from cytoimagenet_hf.evaluation.scoring import score
from cytoimagenet_hf.imaging.statistics import statistics16

MOST_LINES = 180  # of a task's file
MERGED = {"SPINDLEPOLE": "SPINDLE"}  # what cyclops calls what was painted


@pytest.fixture(params=tasks.names())
def task(request, simulated):
    """The simulation of each task in turn."""
    return simulated(request.param)


def test_every_task_has_a_simulation():
    """A simulation stands beside each task, under the same name."""
    assert set(tasks.names()) <= set(simulation.names())


def test_helpers_are_no_tasks():
    """The registry holds the three benchmarks, whatever else lies in the folder."""
    assert tasks.names() == ["bbbc021", "coos7", "cyclops"]


def test_an_unknown_task_is_answered_with_near_ones():
    """A slip of one digit gets a suggestion."""
    with pytest.raises(ValueError, match=r"Did you mean coos7"):
        tasks.get("coos8")


def test_no_image_is_lost_unsaid(task):
    """What was painted is either in the table or in a count of what was left out."""
    images = task.open()
    channels = len(tasks.get(task.name).channels)
    absent = sum(count for why, count in images.dropped.items() if why.startswith("missing"))
    assert len(task.truth) / channels + absent == len(images) + sum(images.dropped.values())


def test_pixels_and_labels_are_those_of_the_files(task):
    """The planes of each image are files with the same truth, in the order of the channels."""
    images = task.open()
    known = {
        tifffile.imread(task.root / path).tobytes(): (path, painted)
        for path, painted in task.truth.items()
    }
    marks = {"DAPI": "_w1", "Tubulin": "_w2", "Actin": "_w4"}
    for row, label in enumerate(images.labels):
        planes = images.read(row)
        channels = tasks.get(task.name).channels
        assert len(planes) == len(channels)
        for plane, channel in zip(planes, channels, strict=True):
            path, painted = known[plane.tobytes()]
            assert marks.get(channel, channel) in Path(path).name
            assert [MERGED.get(one, one) for one in painted] == [label]


def test_ids_are_sorted_and_made_of_names(task):
    """No id is a number of a row; each begins with what its file's folder is called."""
    images = task.open()
    assert list(images.ids) == sorted(set(images.ids))
    folders = {path.split("/")[0] for path in task.truth}
    assert {name.split("/")[0] for name in images.ids} <= folders


def test_two_readings_agree(task):
    """Opening a folder twice gives the same table."""
    one, other = task.open(), task.open()
    for name in ("ids", "labels", "splits", "keys", "dropped"):
        assert getattr(one, name) == getattr(other, name)


def test_simulated_data_say_so(task, tmp_path):
    """The mark in the folder is all that tells them; without it they'd be taken for real."""
    assert task.open().simulated
    assert not task.copy(tmp_path, "SIMULATED.txt").open().simulated


def test_another_layout_is_refused(task, tmp_path):
    """The error says what was looked for and what was seen first."""
    simulation.simulate_negative(task.name, tmp_path)
    first = min(
        path.relative_to(tmp_path / task.name).as_posix()
        for path in (tmp_path / task.name).rglob("*.*")
        if path.name != "SIMULATED.txt"
    )
    with pytest.raises(TaskNotFoundError, match=r"looked for .*first one seen") as caught:
        tasks.get(task.name).open(tmp_path / task.name)
    assert first in str(caught.value)


@pytest.mark.parametrize("name", tasks.names())
def test_an_empty_folder_and_no_folder_are_refused(name, tmp_path):
    """Both are told apart."""
    with pytest.raises(TaskNotFoundError, match="the folder is empty"):
        tasks.get(name).open(tmp_path)
    with pytest.raises(TaskNotFoundError, match="no folder"):
        tasks.get(name).open(tmp_path / "nowhere")


def test_an_image_without_one_channel_is_left_out(task, tmp_path):
    """One file less: one image less, with the channel's name as the reason."""
    whole = task.open()
    channel = tasks.get(task.name).channels[-1]
    mark = {"Actin": "_w4"}.get(channel, channel)
    lost = next(
        path
        for path, painted in sorted(task.truth.items())
        if mark in Path(path).name and painted and painted[0] in whole.labels
    )
    left = task.copy(tmp_path, lost).open()
    assert len(left) == len(whole) - 1
    assert left.dropped[f"missing channel file ({channel})"] == 1


def test_every_protocol_beats_chance_on_intensities(task):
    """16 statistics a channel tell classes apart better than naming the most frequent one."""
    images = task.open()
    rows = [
        np.concatenate([statistics16(plane.astype(np.float64)) for plane in images.read(row)])
        for row in range(len(images))
    ]
    features = [Features(images.ids, np.array(rows, np.float32), {})]
    shifted = {"test3", "test4"}  # other gains: intensities tell nothing there
    told = tasks.get(task.name)
    for protocol in (*told.protocols, *told.paper):
        outcome = score(images, features, protocol, backend="numpy")
        assert outcome.ids
        most = Counter(outcome.truth).most_common(1)[0][1]
        assert protocol.name in shifted or outcome.correct.sum() > most


@pytest.mark.parametrize("name", tasks.names())
def test_facts_of_a_task_are_filled(name):
    """Name, page, license, citation and layout are there; a published figure has its protocol."""
    told = tasks.get(name)
    assert told.name == name
    assert told.version >= 1
    assert told.page.startswith("https://")
    for text in (told.title, told.license, told.citation, told.layout):
        assert text == text.strip() != ""
    names = [one.name for one in told.protocols]
    assert len(set(names)) == len(names)
    assert set(told.published) <= set(names) == {one.name for one in told.paper}
    for figures in told.published.values():
        assert set(figures) == {"random", "imagenet", "cytoimagenet", "fusion"}


def test_published_figures_are_those_of_table_2(real_tables):
    """Each figure stands in the table that was copied from the paper."""
    lines = (real_tables.parent / "release/paper_table2.csv").read_text("utf-8").splitlines()
    columns = lines[0].split(",")
    seen = 0
    for line in lines[1:]:
        row = dict(zip(columns, line.split(","), strict=True))
        name, _, part = row["task"].partition("_")
        told = tasks.get(name)
        figures = told.published[part or next(iter(told.published))]
        assert figures == {column: float(row[column]) for column in figures}
        seen += 1
    assert seen == sum(len(tasks.get(name).published) for name in tasks.names()) == 6


@pytest.mark.parametrize("name", tasks.names())
def test_a_task_is_short(name):
    """A task fits on three screens; what is longer belongs to the shared helpers."""
    path = Path(tasks.__file__).with_name(f"{name}.py")
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_the_papers_ties_are_broken_by_label_order():
    """Preset `paper` votes as scipy's mode did; `standard` asks the distances first."""
    for told in map(tasks.get, tasks.names()):
        assert {one.ties for one in told.paper} == {"label"}
        assert {one.ties for one in told.protocols} == {"distance"}
    pairs = itertools.product(("coos7", "cyclops"), ("protocols", "paper"))
    assert {one.k for name, side in pairs for one in getattr(tasks.get(name), side)} == {11}
