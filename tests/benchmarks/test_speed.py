"""Each speed benchmark runs on tiny inputs, prints what it promises, and asserts what it claims."""

import contextlib
import importlib.util
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

SPEED = Path(__file__).resolve().parents[2] / "benchmarks" / "speed"
SCRIPTS = sorted(path.stem for path in SPEED.glob("[!_]*.py"))
KEYS = {"name", "value", "unit", "must", "aim", "more_is_better", "seconds", "baseline_seconds"}
KEYS |= {"images", "where", "note", "holds"}
QUICK = ["--quick", "--rounds", "1"]


@pytest.fixture
def load(monkeypatch):
    """Give a function that imports a script by name, as running it from its folder would."""
    monkeypatch.syspath_prepend(str(SPEED))
    before = set(sys.modules)

    def script(name):
        spec = importlib.util.spec_from_file_location(f"speed_{name}", SPEED / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield script
    for name in set(sys.modules) - before:
        if name in ("_timing", "_inputs", "_records", "_torch"):
            del sys.modules[name]


def run(module, monkeypatch, *flags):
    """Run a loaded script; return its status and what it printed."""
    monkeypatch.setattr(sys, "argv", ["script", *QUICK, *flags])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = sys.modules["_timing"].main(module.measure, module.__doc__)
    return status, printed.getvalue()


@pytest.fixture(params=["real", "simulated"])
def inputs(request, monkeypatch, tmp_path):
    """Real images where they are, and none at all."""
    if request.param == "real":
        request.getfixturevalue("real_images")
    else:
        monkeypatch.setenv("CYTOIMAGENET_SHARED", str(tmp_path / "nothing"))
    return request.param


def test_no_script_is_missing():
    """The scripts that the issues name."""
    names = "features knn loading normalizing opening planning png rendering training"
    assert set(names.split()) <= set(SCRIPTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_json_has_every_key(name, load, inputs, monkeypatch):
    """Each figure has a value, must and aim; the status tells whether all of them hold."""
    if name in ("planning", "opening") and inputs == "simulated":
        pytest.skip("makes its own input")
    if name in ("features", "loading", "training"):
        pytest.importorskip("timm")
    if name == "knn":
        pytest.importorskip("torch")
        pytest.importorskip("sklearn")
    status, printed = run(load(name), monkeypatch, "--json")
    content = json.loads(printed)
    assert (content["rounds"], content["quick"]) == (1, True)
    assert content["figures"]
    for figure in content["figures"]:
        assert set(figure) == KEYS
        assert figure["value"] > 0
        better = figure["value"] - figure["must"]
        assert figure["holds"] == ((better if figure["more_is_better"] else -better) >= 0)
    assert status == (0 if all(figure["holds"] for figure in content["figures"]) else 1)
    if name in ("png", "normalizing", "loading", "training"):
        notes = " ".join(figure["note"] for figure in content["figures"])
        assert inputs in notes


@pytest.mark.slow
def test_the_table_shows_every_figure(load, monkeypatch):
    """Without --json people get one line a figure, and where the time goes."""
    _, printed = run(load("png"), monkeypatch)
    assert "PNG writer" in printed
    assert "size against Pillow's" in printed
    assert "deflate" in printed


def test_a_writer_that_loses_pixels_is_caught(load, monkeypatch):
    """png.py asserts the round trip before it times anything."""
    script = load("png")
    encode = script.writer.encode
    monkeypatch.setattr(script.writer, "encode", lambda pixels: encode(pixels ^ 1))
    with pytest.raises(AssertionError, match="other pixels"):
        script.check([np.arange(64, dtype=np.uint8).reshape(8, 8)])


def test_a_percentile_off_by_a_bit_is_caught(load, monkeypatch):
    """normalizing.py compares percentiles to the last bit."""
    script = load("normalizing")
    exact = script.intensity.percentiles
    off = lambda *one: tuple(np.nextafter(value, 1e9) for value in exact(*one))  # noqa: E731
    monkeypatch.setattr(script.intensity, "percentiles", off)
    with pytest.raises(AssertionError):
        run(script, monkeypatch)


def test_a_crop_off_by_a_level_is_caught(load, monkeypatch):
    """rendering.py allows no difference for one channel."""
    script = load("rendering")
    paper = script.paper

    def off(files, boxes):
        return [(crop.astype(int) + 1, *rest) for crop, *rest in paper(files, boxes)]

    monkeypatch.setattr(script, "paper", off)
    with pytest.raises(AssertionError, match="differs by 1 levels"):
        run(script, monkeypatch)


def test_a_plan_that_depends_on_the_order_of_rows_is_caught(load, monkeypatch):
    """planning.py plans shuffled records, too."""
    script = load("planning")
    monkeypatch.setattr(script.labels, "mix", lambda keys: np.arange(len(keys), dtype=np.uint64))
    with pytest.raises(AssertionError, match="order of rows"):
        run(script, monkeypatch)


def test_a_neighbor_in_the_wrong_place_is_caught(load, monkeypatch):
    """knn.py compares neighbors with differences in float64, in order."""
    script = load("knn")
    search = script.search

    def swapped(values, queries):
        found = search(values, queries, backend="numpy")
        return script.knn.Neighbors(found.rows[:, ::-1], found.distances)

    monkeypatch.setattr(script, "search", swapped)
    with pytest.raises(AssertionError, match="query 0 has other neighbors"):
        script.check(script.simulated(50, 4), 10)


def test_a_figure_holds_on_its_better_side(load):
    """More is better for ratios, less for seconds and sizes; exactly `must` still holds."""
    figure = load("_timing").Figure
    assert figure("ratio", 4, "x", must=4, aim=5).holds
    assert not figure("ratio", 3.9, "x", must=4, aim=5).holds
    assert figure("size", 1.05, "x", must=1.05, aim=1, more_is_better=False).holds
    assert not figure("size", 1.06, "x", must=1.05, aim=1, more_is_better=False).holds


def test_ratio_is_the_median_of_rounds(load, monkeypatch):
    """A slow round of one side changes nothing: ratios 2, 2 and 9 give 2."""
    timing = load("_timing")
    clock = iter([2, 1, 2, 1, 9, 1])
    monkeypatch.setattr(timing, "seconds", lambda action: next(clock))
    monkeypatch.setattr(timing, "shares", lambda action, stages: {})
    options = timing.Options(rounds=3, quick=True, big=False)
    figure = timing.compare("x", lambda: 0, lambda: 0, options, must=1, aim=1)
    assert (figure.value, figure.baseline_seconds, figure.seconds) == (2, 2, 1)


def test_shares_add_up_to_one(load):
    """What no stage accounts for is `other`; functions are themselves again afterwards."""
    timing = load("_timing")
    before = json.dumps
    shares = timing.shares(lambda: json.dumps([0] * 1000), {"text": [(json, "dumps")]})
    assert shares["text"] > 0
    assert sum(shares.values()) == pytest.approx(1, abs=0.01)
    assert json.dumps is before


def test_a_loader_that_gives_other_pixels_is_caught(load):
    """loading.py compares label and pixels of every image with Pillow's, in any order."""
    pytest.importorskip("timm")
    script = load("loading")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 300, 300), np.uint8)
    pngs = [script.shards.png.encode(one) for one in pixels]
    config = script.TrainConfig(image_size=script.SIZE)
    rows = [{"bytes": one, "path": None} for one in reversed(pngs)]
    batch = script.decoding.decode_batch(rows, [1, 0], [1, 0], config)
    assert script.seen([(batch.images, batch.labels)]) == script.expected(pngs)
    assert script.seen([(batch.images ^ 1, batch.labels)]) != script.expected(pngs)
    assert script.seen([(batch.images, batch.labels.flip(0))]) != script.expected(pngs)
