"""The demo: what it says with and without the extra `train`, and a whole run of it."""

import importlib.util
import re

import pytest

from cytoimagenet_hf import demo
from cytoimagenet_hf.pretraining import launch
from tests.test_cli import run

HAS_TORCH = importlib.util.find_spec("torch") is not None


def test_without_the_extra_nothing_is_trained_and_it_is_named(tmp_path, monkeypatch):
    """From the core alone the demo goes on to the end, and says what to install."""
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: None)
    told = demo.train_and_tell(tmp_path, workers=0, say=pytest.fail)
    assert told.startswith("No model is trained: torch, ")
    assert 'pip install "cytoimagenet-hf[train]"' in told
    assert not list(tmp_path.iterdir())


def test_next_steps_name_a_model_only_where_there_is_one(tmp_path):
    """Its card and curves are worth a look when they are there."""
    assert "curves.png" not in demo.next_steps(tmp_path)
    (tmp_path / "model" / "model").mkdir(parents=True)
    (tmp_path / "model" / "model" / "README.md").touch()
    assert "curves.png" in demo.next_steps(tmp_path)


def test_train_without_the_extra_is_one_line(monkeypatch, capsys):
    """`cytoimagenet train` names what is lacking instead of a module that can't be imported."""
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: None)
    assert run("train", "--dataset", "x", "--no-pretrained") == 1
    said = capsys.readouterr().err
    assert said.startswith("train: torch, ")
    assert "extra `train`" in said
    assert said.count("\n") == 1


@pytest.mark.slow
def test_demo_goes_all_the_way_and_runs_again(tmp_path, capsys, monkeypatch):
    """Simulated data of four sources or more: curated, loaded, trained on, and never remembered."""
    from cytoimagenet_hf.errors import DatasetNotAvailableError
    from cytoimagenet_hf.hub.places import locate

    folder = tmp_path / "demo"
    assert run("demo", "--to", folder, "--fields", "24") == 0
    said = capsys.readouterr().out
    assert said.count("simulated 24 fields of") >= 4
    assert "Next:" in said
    for name in ("gallery.png", "report.html"):
        assert (folder / "cytoimagenet.work" / name).exists()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetNotAvailableError):
        locate("cytoimagenet")
    if not HAS_TORCH:
        assert "No model is trained" in said
        return
    told = next(line for line in said.splitlines() if line.startswith("accuracy on"))
    accuracy, majority = (float(number) for number in re.findall(r"0\.\d\d", told))
    assert accuracy > majority + 0.2
    assert "simulated" in told
    assert (folder / "model" / "model" / "model.safetensors").exists()
    assert said.count("[simulated]") >= 6  # rows of the table of scores
    assert (folder / "scores" / "report.html").exists()
    assert run("demo", "--to", folder, "--fields", "24") == 0
    assert told in capsys.readouterr().out
