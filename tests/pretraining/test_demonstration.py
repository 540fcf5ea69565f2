"""The demo's training: what it makes, on what it goes on, and what it says of the loaded model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cytoimagenet_hf.curation.pipeline import build
from cytoimagenet_hf.pretraining import demonstration, log
from tests.curation import builds


@pytest.fixture(scope="module")
def curated(tmp_path_factory):
    """A built data set of simulated images in three classes or more, and one of other rows."""
    folder = tmp_path_factory.mktemp("curated")
    raw = builds.raw_data(folder / "raw", ("bbbc048", "bbbc038"), fields=24)
    for name, sources in (("one", ("bbbc048", "bbbc038")), ("other", ("bbbc048",))):
        build(builds.config(raw, folder / name, names=sources, workers=0))
    return folder


def run(curated, output, name="one"):
    """The demo's settings, shortened to one epoch of images of 32 pixels."""
    made = demonstration.settings(curated / name, output, workers=0)
    return replace(made, epochs=1, image_size=32, batch_size=16, cpu=True, log_steps=1)


def test_settings_are_the_preset(tmp_path):
    """A random start, as weights may be out of reach, on the small images."""
    made = demonstration.settings(tmp_path / "data", tmp_path / "out", workers=1)
    assert (made.pretrained, made.name, made.workers) == (False, "small", 1)
    assert made.output_dir == str(tmp_path / "out")


def test_loaded_model_is_as_good_as_the_run_said(curated, tmp_path, capsys):
    """The folder's own preprocessing in timm gives the accuracy of validation, to the image."""
    from cytoimagenet_hf.hub.loading import load_dataset

    config = run(curated, tmp_path / "run")
    demonstration.train_anew(config, pytest.fail)
    found = demonstration.score_loaded(config)
    final = json.loads((tmp_path / "run" / "final.json").read_text())
    assert found.accuracy == final["accuracy"]
    assert found.difference == 0.0
    data = load_dataset(config.dataset, "small")
    names, counts = np.unique(data["train"]["label"], return_counts=True)
    often = [int(name) for name in names[counts == counts.max()]]
    held = list(data["validation"]["label"])
    assert found.images == len(held)
    assert found.majority in [held.count(one) / len(held) for one in often]
    assert "TRAINED ON SIMULATED PIXELS" in (tmp_path / "run" / "model" / "README.md").read_text()


def test_same_data_goes_on_and_other_data_begin_anew(curated, tmp_path, capsys):
    """The second run of the same takes no step; rows of another build are never mixed in."""
    output, said = tmp_path / "run", []
    demonstration.train_anew(run(curated, output), said.append)
    demonstration.train_anew(run(curated, output), said.append)
    assert said == []
    assert "resumed from" in capsys.readouterr().out
    demonstration.train_anew(run(curated, output, "other"), said.append)
    assert len(said) == 1
    assert "it is trained anew" in said[0]
    first = log.read_lines(output)[0]
    assert (first["kind"], first["step"]) == ("train", 1)
    settings = json.loads((Path(output) / "train_config.json").read_text())
    assert settings["dataset"] == str(curated / "other")


def test_curves_are_rows_of_bars(tmp_path):
    """A falling loss goes from the highest bar to the lowest; a repeated step counts once."""
    for step, loss in ((1, 3.0), (2, 2.0), (3, 1.0), (3, 1.0)):
        log.write_line(tmp_path, "train", {"epoch": 0, "step": step}, {"loss": loss})
    (line,) = demonstration.curves(tmp_path)
    assert line.split() == ["loss", "█▅▁", "3.00", "→", "1.00"]
