"""How good a classifier is: counts in, numbers out; also as an offline `evaluate.Metric`.

`evaluate` is imported only by `metric`, as it takes seconds and the numbers need none of it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]

TOP = (1, 5, 7)  # protocols.md 1 reports top-1 and top-7


def classification(
    predictions: npt.NDArray[Any], references: Labels, classes: int
) -> dict[str, float]:
    """Score ranked predictions.

    Args:
        predictions: (n, k) class numbers, best first; k at least 1.
        references: (n,) true classes.
        classes: how many there are.

    Returns:
        `accuracy` (top-1), `accuracy_top5`, `accuracy_top7` (where k allows), `balanced_accuracy`
        (mean recall of the classes that occur), `macro_f1` (over the same), `classes_never_hit`.
    """
    predictions, references = np.atleast_2d(predictions), np.asarray(references)
    if len(predictions) != len(references) or len(references) == 0:
        raise ValueError(f"{len(predictions)} predictions for {len(references)} references")
    hits = predictions == references[:, None]
    scores = {"accuracy": float(hits[:, 0].mean())}
    for top in TOP[1:]:
        if predictions.shape[1] >= min(top, classes):
            scores[f"accuracy_top{top}"] = float(hits[:, :top].any(axis=1).mean())
    table = per_class(predictions[:, 0], references, classes)
    present = table[:, 0] > 0
    counts, given, right = (table[present, at] for at in range(3))
    scores["balanced_accuracy"] = float((right / counts).mean())
    scores["macro_f1"] = float((2 * right / (counts + given)).mean())
    scores["classes_never_hit"] = float((right == 0).sum())
    return scores


def per_class(predicted: Labels, references: Labels, classes: int) -> Labels:
    """Count (true, predicted, right) for each class.

    Returns:
        (classes, 3) counts.
    """
    right = references[predicted == references]
    parts = [np.bincount(one, minlength=classes) for one in (references, predicted, right)]
    return np.stack(parts, axis=1)


def metric() -> Any:  # noqa: ANN401 - evaluate.Metric, imported lazily
    """Return an `evaluate.Metric` over `classification`, for `evaluate.combine` and the like."""
    import datasets
    import evaluate

    class Classification(evaluate.Metric):  # type: ignore[misc]
        """Scores of ranked predictions."""

        def _info(self) -> Any:  # noqa: ANN401 - what evaluate demands
            return evaluate.MetricInfo(
                description="top-k accuracy, balanced accuracy, macro F1, classes never hit",
                citation="",
                inputs_description="predictions: ranked class numbers; references: class numbers",
                features=datasets.Features(
                    {
                        "predictions": datasets.List(datasets.Value("int64")),
                        "references": datasets.Value("int64"),
                    }
                ),
            )

        def _compute(
            self, predictions: Sequence[Sequence[int]], references: Sequence[int], classes: int
        ) -> dict[str, float]:
            return classification(np.asarray(predictions), np.asarray(references), classes)

    return Classification(keep_in_memory=True)  # leaves no files in the cache
