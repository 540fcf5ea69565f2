"""Scores are those of scikit-learn, and work through evaluate without a network."""

import numpy as np
import pytest
import sklearn.metrics as reference

from cytoimagenet_hf.pretraining.metrics import classification, metric, per_class

CLASSES = 9


def made(rows=300):
    """Logits that are often right; class 8 never occurs."""
    random = np.random.default_rng(0)
    truth = random.integers(0, CLASSES - 1, rows)
    logits = random.normal(size=(rows, CLASSES))
    logits[np.arange(rows), truth] += 1.2
    return logits, truth, np.argsort(-logits, axis=1)[:, :7]


def test_equal_to_scikit_learn():
    """Accuracy, top-5, top-7, balanced accuracy and F1 are the library's."""
    logits, truth, ranked = made()
    scores = classification(ranked, truth, CLASSES)
    top = {
        f"accuracy_top{k}": reference.top_k_accuracy_score(
            truth, logits, k=k, labels=range(CLASSES)
        )
        for k in (5, 7)
    }
    occurs = np.unique(truth)
    expected = top | {
        "accuracy": reference.accuracy_score(truth, ranked[:, 0]),
        "balanced_accuracy": reference.recall_score(
            truth, ranked[:, 0], labels=occurs, average="macro"
        ),
        "macro_f1": reference.f1_score(truth, ranked[:, 0], labels=occurs, average="macro"),
        "classes_never_hit": 0,
    }
    assert scores == pytest.approx(expected)


def test_counts_are_those_of_the_confusion_matrix():
    """Of each class: how many there are, how many were called so, and how many rightly."""
    _, truth, ranked = made()
    matrix = reference.confusion_matrix(truth, ranked[:, 0], labels=range(CLASSES))
    expected = np.stack([matrix.sum(1), matrix.sum(0), matrix.diagonal()], axis=1)
    assert (per_class(ranked[:, 0], truth, CLASSES) == expected).all()


def test_by_hand():
    """Four rows, two classes: one of class 0 right, class 1 never hit."""
    scores = classification(np.array([[0, 1], [0, 1], [0, 1], [0, 1]]), np.array([0, 0, 0, 1]), 2)
    assert scores["accuracy"] == 0.75
    assert scores["accuracy_top7"] == 1.0
    assert scores["balanced_accuracy"] == 0.5
    assert scores["classes_never_hit"] == 1


def test_other_lengths_and_nothing_are_refused():
    """Scores of nothing are no numbers."""
    with pytest.raises(ValueError, match="0 predictions for 1"):
        classification(np.zeros((0, 1), int), np.zeros(1, int), 2)
    with pytest.raises(ValueError, match="for 0"):
        classification(np.zeros((0, 1), int), np.zeros(0, int), 2)


@pytest.mark.slow
def test_as_a_metric_of_evaluate():
    """The metric gives the same numbers, in batches and offline."""
    _, truth, ranked = made(20)
    measure = metric()
    measure.add_batch(predictions=ranked[:10].tolist(), references=truth[:10].tolist())
    measure.add_batch(predictions=ranked[10:].tolist(), references=truth[10:].tolist())
    assert measure.compute(classes=CLASSES) == classification(ranked, truth, CLASSES)
