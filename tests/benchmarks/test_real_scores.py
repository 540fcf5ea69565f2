"""Scores of real images: counts that agree with the images, and a control that is looked at."""

import argparse
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cytoimagenet_hf.evaluation import _plots, results

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """The script as a module, whose encoders need no network; no pictures are drawn."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("real_scores", BENCHMARKS / "real_scores.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "real_scores", module)  # for its dataclasses
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ALONE", "intensity")
    monkeypatch.setattr(module, "CONTROL", "intensity+intensity")
    monkeypatch.setattr(module, "ENCODERS", ("intensity", "intensity+intensity"))
    monkeypatch.setattr(_plots, "_figure", lambda width, height: None)
    yield module
    sys.modules.pop("_tables", None)


@pytest.fixture
def scored(script, real_images, tmp_path):
    """What was found on the smallest set, and where its scores lie."""
    found = script.Found()
    flags = argparse.Namespace(to=tmp_path, encoders=[], seeds=1)
    script.score_set("hpa_paired", flags, found)
    return found, tmp_path / "hpa_paired" / "scores"


def test_counts_are_those_of_the_images(script, scored):
    """26 and 17 cells of two genes can be scored; all 5 of the third are of one image."""
    found, _ = scored
    rows = script.facts(found.scores).splitlines()[2:]
    assert rows == [
        "| hpa_paired | leave-group-out | 11 | 43 | 48 | 2 | 4 | label not in its bank: 5 |"
    ]
    table = script.table(found, [script.NORMALIZED]).splitlines()
    assert table[0] == "|  | hpa_paired |"
    assert table[2:4] == ["| n | 43 |", "| largest class | 60.5 |"]  # 26 of 43
    assert [row.split(" | ")[0] for row in table[4:]] == ["| intensity", "| intensity+intensity"]


def test_rows_in_another_order_give_another_score(script, scored):
    """Joined with rows of other cells of its label, an encoder scores otherwise than alone."""
    alone, exchanged = scored[0].mispaired["hpa_paired"]
    own = next(one for one in scored[0].scores if one.mode == script.NORMALIZED)
    assert alone == own.accuracy
    assert len(exchanged) == 5
    assert set(exchanged) - {alone}


def test_an_encoder_joined_with_itself_predicts_the_same(script, scored, monkeypatch):
    """Nothing is told then; where predictions differ, each row is."""
    found, folder = scored
    assert found.failures == []
    monkeypatch.setattr(
        results, "read_predictions",
        lambda _, one: SimpleNamespace(ids=("a",), predicted=(one.encoder,)),
    )  # fmt: skip
    told = list(script.differing(folder, found.scores))
    assert len(told) == 2  # modes
    assert all("intensity+intensity predicts other labels than intensity" in one for one in told)
