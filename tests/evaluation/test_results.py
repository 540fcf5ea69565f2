"""Scores survive the disk, refuse what was tampered with, and are known by what they depend on."""

import dataclasses
import json

import numpy as np
import pytest

from cytoimagenet_hf import hashing
from cytoimagenet_hf.errors import NotScorableError
from cytoimagenet_hf.evaluation import results, statistics
from cytoimagenet_hf.evaluation.records import Features, Images
from tests.evaluation.scores import a_score, a_table, a_task, an_outcome, some_features


def written(folder, *arguments, **options):
    """A score on disk: (score, outcome, path of the JSON)."""
    score, outcome = a_score(*arguments, **options)
    return score, outcome, results.write_score(folder, score, outcome)


def setting(task=None, **changes):
    task = task or a_task()
    fields = {"task": task, "protocol": task.protocols[0], "preset": "standard",
              "encoder": "imagenet", "mode": "concat-norm"}  # fmt: skip
    return results.Setting(**fields | changes)


def test_numbers_of_a_score_by_hand():
    """Of 12 images in 4 wells 9 are right: 0.75, resampled by well, by class 4 and 5 of 6."""
    score, outcome = a_score(wrong=(0, 1, 4))
    assert (score.n, score.correct, score.accuracy) == (12, 9, 0.75)
    assert score.classes == {"g1": (6, 5, 4), "s": (6, 7, 5)}
    assert (score.interval, score.clusters) == ("cluster bootstrap", 4)
    expected = statistics.cluster_bootstrap(outcome.correct, outcome.clusters)
    assert (score.low, score.high) == expected
    assert (score.bank_size, score.dim) == (12, 4)
    assert score.dropped == {"no label": 2}


def test_score_and_predictions_read_back_equal(tmp_path):
    """What is read is what was written."""
    score, outcome, path = written(tmp_path, "cytoimagenet+imagenet", (2, 3), seed=3)
    assert results.read_score(path) == score
    assert results.read_predictions(tmp_path, score) == outcome
    assert results.read_scores(tmp_path) == [score]


def test_json_says_all_that_the_number_depends_on(tmp_path):
    """Protocol, interval, unscorable reasons, provenance and versions stand in the file."""
    images = a_table()
    outcome = an_outcome(images, (0,), unscorable={"i0003": "too few neighbors"})
    score = results.summarize(setting(), images, [some_features(images)], outcome, seconds=2.0)
    found = json.loads(results.write_score(tmp_path, score, outcome).read_text())
    assert found["accuracy"] == 10 / 11
    assert found["unscorable"] == {"too few neighbors": 1}
    assert (found["protocol"]["k"], found["protocol"]["metric"]) == (1, "cosine")
    assert found["parts"][0]["revision"] == "weights of imagenet"
    assert found["ids"] == hashing.fingerprint([one for one in images.ids if one != "i0003"])
    assert {"numpy", "python", "cytoimagenet_hf"} <= set(found["versions"])
    assert results.read_predictions(tmp_path, score).unscorable == outcome.unscorable


def test_equal_scores_are_equal_bytes(tmp_path):
    """Nothing but seconds and versions may differ from run to run."""
    for name in ("a", "b"):
        written(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 2
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_simulated_images_make_a_simulated_score(tmp_path):
    """The mark comes from the images or from any part's features, and survives the disk."""
    score, _, path = written(tmp_path, images=a_table(simulated=True))
    assert score.simulated
    assert json.loads(path.read_text())["simulated"] is True
    images = a_table()
    parts = [some_features(images), some_features(images, simulated=True)]
    made = results.summarize(setting(), images, parts, an_outcome(images))
    assert made.simulated
    assert not a_score()[0].simulated


def test_reasons_are_counted_without_their_values():
    """Two constant channels of other values are one reason."""
    images = a_table()
    outcome = dataclasses.replace(
        an_outcome(images),
        left_out={
            "x": "no features: constant: channel 0: percentiles 0.1 and 99.9 both are 7",
            "y": "no features: constant: channel 1: percentiles 0.1 and 99.9 both are 9",
            "z": "no label",
        },
    )
    score = results.summarize(setting(), images, [some_features(images)], outcome)
    assert score.left_out == {"no features: constant": 2, "no label": 1}


def test_nothing_scorable_is_an_error_with_reasons():
    """An accuracy of no queries isn't 0 nor 1; the reason is told."""
    images = a_table(2)
    outcome = an_outcome(images, unscorable=dict.fromkeys(images.ids, "label not in its bank"))
    with pytest.raises(NotScorableError, match=r"none of 2 queries.*label not in its bank: 2"):
        results.summarize(setting(), images, [some_features(images)], outcome)


NAMES = [
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "a/b\\c:d*e?f",
    "..",
    "CON",
    "ü" * 300,
    "x" * 5000,
    "\x00\n",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_from_outside_make_safe_files(tmp_path, name):
    """Whatever a task, encoder or mode is called, its files stay in the folder and read back."""
    folder = tmp_path / "scores"
    score, outcome, path = written(folder, name, task=a_task(name), mode=name)
    assert path.parent == folder
    assert set(path.stem) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-+")
    assert len(path.name) <= 120
    assert sorted(one.name for one in tmp_path.iterdir()) == ["scores"]
    assert results.read_score(path) == score
    assert results.read_predictions(folder, score) == outcome


def test_names_that_clean_to_the_same_stay_apart(tmp_path):
    """`a/b` and `a:b` are two encoders and two files."""
    assert written(tmp_path, "a/b")[2] != written(tmp_path, "a:b")[2]
    assert {one.encoder for one in results.read_scores(tmp_path)} == {"a/b", "a:b"}


def test_identity_heeds_everything_that_changes_a_score():
    """Another label, key, id, protocol, version, mode, seed, weights, pixels: another score."""
    images, task = a_table(), a_task()
    parts = [some_features(images)]
    base = results.identity(setting(task), images, parts)

    def changed(table, **fields):
        return dataclasses.replace(table, **fields)

    others = [
        results.identity(setting(a_task(version=2)), images, parts),
        results.identity(setting(a_task(ties="label")), images, parts),
        results.identity(setting(task, mode="merge-norm"), images, parts),
        results.identity(setting(task, seed=1), images, parts),
        results.identity(setting(task, preset="paper"), images, parts),
        results.identity(setting(task), changed(images, labels=images.labels[::-1]), parts),
        results.identity(
            setting(task), changed(images, keys={"well": images.keys["well"][::-1]}), parts
        ),
        results.identity(setting(task), changed(images, splits=("test",) * 12), parts),
        results.identity(setting(task), a_table(11), [some_features(a_table(11))]),
        results.identity(setting(task), images, [some_features(images, revision="other")]),
        results.identity(setting(task), images, [some_features(images, pixels="other")]),
        results.identity(setting(task), images, [*parts, *parts]),
        results.identity(setting(task), a_table(simulated=True), parts),
        results.identity(setting(task), changed(images, dropped={"no label": 3}), parts),
    ]
    assert len({base, *others}) == len(others) + 1


def test_identity_heeds_no_order_of_rows_or_keys():
    """Features in another order of rows are the same features."""
    images = a_table()
    part = some_features(images)
    turned = Features(part.ids[::-1], part.values[::-1], dict(reversed(part.provenance.items())))
    base = results.identity(setting(), images, [part])
    assert results.identity(setting(), images, [turned]) == base


def test_set_valued_keys_have_one_identity():
    """A treatment imaged in several batches has a set; its order is none."""
    images = a_table(2)

    def with_batches(*batches):
        keys = {**images.keys, "batch": tuple(map(frozenset, batches))}
        return Images(images.ids, images.labels, images.splits, keys, images.read)

    parts = [some_features(images)]
    one = results.identity(setting(), with_batches("ab", "c"), parts)
    assert results.identity(setting(), with_batches("ba", "c"), parts) == one
    assert results.identity(setting(), with_batches("a", "c"), parts) != one


def test_found_again_only_with_its_predictions(tmp_path):
    """A score on disk is found by identity; without its Parquet it has to be made again."""
    score, _, path = written(tmp_path)
    assert results.find(tmp_path, score.identity) == score
    assert results.find(tmp_path, "0" * 32) is None
    assert results.find(tmp_path / "absent", score.identity) is None
    path.with_suffix(".parquet").unlink()
    assert results.find(tmp_path, score.identity) is None


def edit(path, **changes):
    """Write other values into a score's JSON."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "format 1"),
        ({"n": -1}, "'n' can't be '-1'"),
        ({"n": 0, "correct": 0}, "accuracy"),
        ({"correct": 13}, "accuracy 0.75 isn't 13 of 12"),
        ({"accuracy": 0.99}, "accuracy 0.99 isn't 9 of 12"),
        ({"low": float("nan")}, "NaN is no number"),
        ({"high": 7}, "leaves 0 to 1"),
        ({"simulated": "no"}, "'simulated'"),
        ({"seed": "0"}, "'seed'"),
        ({"classes": {"g1": [12, 12]}}, "'classes'"),
        ({"classes": {"g1": [12, 12, 8]}}, "sum up"),
        ({"protocol": {"name": "loo"}}, "missing"),
        ({"protocol": {"name": "loo", "k": 0, "metric": "cosine"}}, "k must be at least 1"),
        ({"protocol": {"name": "x", "k": 1, "metric": "cosine", "eval": "1"}}, "eval"),
        ({"surplus": 1}, "'surplus' is missing or unknown"),
        ({"left_out": {"no label": 1.5}}, "'left_out'"),
    ],
)
def test_bad_values_are_errors_that_name_the_file(tmp_path, changes, said):
    """A score that was edited, or is of a newer version, isn't believed."""
    score, _, path = written(tmp_path, "imagenet", (0, 1, 4))
    edit(path, **changes)
    with pytest.raises(ValueError, match=said) as caught:
        results.read_score(path)
    assert str(path) in str(caught.value)
    with pytest.raises(ValueError, match=r"\.json"):
        results.find(tmp_path, score.identity)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"format": 1}', "\ud800"])
def test_files_that_are_no_scores_are_named(tmp_path, text):
    """Cut, nested or foreign JSON is an error, never a crash."""
    path = tmp_path / "some.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=r"some\.json can't be read as a score"):
        results.read_score(path)


def test_predictions_of_another_score_are_refused(tmp_path):
    """A Parquet file that was put in another's place doesn't count."""
    score, outcome, path = written(tmp_path)
    other, _, foreign = written(tmp_path, "random", (1, 2))
    path.with_suffix(".parquet").write_bytes(foreign.with_suffix(".parquet").read_bytes())
    with pytest.raises(ValueError, match="belongs to another score"):
        results.read_predictions(tmp_path, score)
    forged = dataclasses.replace(outcome, predicted=outcome.truth[::-1])
    results.write_outcome(path.with_suffix(".parquet"), forged, score.identity)
    with pytest.raises(ValueError, match="other predictions"):
        results.read_predictions(tmp_path, score)
    assert results.read_predictions(tmp_path, other).predicted != outcome.predicted


@pytest.mark.parametrize("damage", ["cut", "absent", "columns", "flipped"])
def test_damaged_predictions_are_named(tmp_path, damage):
    """A cut, absent, foreign or bit-flipped file is an error with its name."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    score, _, path = written(tmp_path, images=a_table(2000), wrong=range(0, 2000, 3))
    table = path.with_suffix(".parquet")
    whole = table.read_bytes()
    if damage == "cut":
        table.write_bytes(whole[:-20])
    elif damage == "absent":
        table.unlink()
    elif damage == "columns":
        pq.write_table(pa.table({"id": ["a"]}), table)
    else:
        table.write_bytes(whole[:200] + bytes([whole[200] ^ 8]) + whole[201:])
    with pytest.raises(ValueError, match=r"\.parquet can't be read as predictions"):
        results.read_predictions(tmp_path, score)


def test_outcome_order_is_kept_by_id(tmp_path):
    """Right answers of a read file belong to the ids they were written for."""
    score, outcome, _ = written(tmp_path, "imagenet", (5,))
    found = results.read_predictions(tmp_path, score)
    wrong = [name for name, right in zip(found.ids, found.correct, strict=True) if not right]
    assert wrong == ["i0005"]
    assert np.array_equal(found.correct, outcome.correct)
