"""Nearest-neighbor accuracy through `evaluate`, without a network, equal to scikit-learn's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow  # importing evaluate takes seconds

accuracy = None


@pytest.fixture(autouse=True)
def module():
    """Import the module, which imports evaluate, only when a test runs."""
    pytest.importorskip("torch")
    pytest.importorskip("evaluate")
    global accuracy
    from cytoimagenet_hf.evaluation import accuracy


def metric():
    """Return one that leaves no files in the cache."""
    return accuracy.KnnAccuracy(keep_in_memory=True)


def cells(rows=90):
    """Embeddings of three overlapping classes."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, rows)
    values = random.normal(size=(rows, 5))
    values[np.arange(rows), labels] += 1.5
    return values.astype(np.float32), [f"class {one}" for one in labels]


def test_equal_to_scikit_learn():
    """11 neighbors, leave one out, as cross-validation of the library's classifier gives."""
    model = pytest.importorskip("sklearn.model_selection")
    from sklearn.neighbors import KNeighborsClassifier

    values, labels = cells()
    expected = model.cross_val_score(
        KNeighborsClassifier(1), values, labels, cv=model.LeaveOneOut()
    ).mean()
    found = metric().compute(
        predictions=values, references=labels, k=1, metric="euclidean", standardize=False
    )
    assert found["accuracy"] == pytest.approx(expected)
    assert (found["n"], found["unscorable"]) == (90, 0)
    assert found["low"] < found["accuracy"] < found["high"]


LOADED = """
import json, evaluate
from tests.evaluation.test_accuracy import cells
values, labels = cells()
loaded = evaluate.load({path!r})
for rows in (slice(0, 40), slice(40, 90)):
    loaded.add_batch(predictions=values[rows].tolist(), references=labels[rows])
print(json.dumps(loaded.compute(k=5)))
"""


def test_loads_as_a_file_and_in_batches(tmp_path):
    """`evaluate.load(path)` copies the file and finds all that it imports; batches add up."""
    values, labels = cells()
    whole = metric().compute(predictions=values, references=labels, k=5)
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(path=accuracy.__file__)],
        cwd=Path(__file__).resolve().parents[2],
        env=os.environ | {"HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == whole


def test_own_group_never_votes():
    """A copy in the row's own group would be right; the other group decides, and is wrong."""
    values = [[1.0, 0.0], [1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]
    labels, groups = ["a", "a", "b", "b"], ["x", "x", "y", "z"]
    knn = metric()
    free = knn.compute(predictions=values, references=labels, standardize=False)
    assert free["accuracy"] == 0.75
    found = knn.compute(predictions=values, references=labels, groups=groups, standardize=False)
    assert (found["accuracy"], found["n"], found["unscorable"]) == (0.5, 2, 2)


def test_whole_numbers_are_labels_too():
    """Labels 0 and 1 score as "0" and "1" do."""
    values, labels = cells()
    numbers = [int(one[-1]) for one in labels]
    knn = metric()
    expected = knn.compute(predictions=values, references=[str(one) for one in numbers])
    assert knn.compute(predictions=values, references=numbers) == expected


def test_bad_arguments_are_told():
    """Another metric, other lengths and other numbers of groups are errors."""
    knn = metric()
    two = {"predictions": [[1.0, 2.0], [2.0, 1.0]], "references": ["a", "b"]}
    with pytest.raises(ValueError, match="cosine and euclidean"):
        knn.compute(**two, metric="manhattan")
    with pytest.raises(ValueError, match="1 groups for 2 rows"):
        knn.compute(**two, groups=["a"])
    with pytest.raises(ValueError, match="lengths 1 to 2"):
        knn.compute(predictions=[[1.0], [1.0, 2.0]], references=["a", "b"])
