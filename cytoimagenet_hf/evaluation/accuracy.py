"""Accuracy of nearest neighbors as an `evaluate` module: embeddings and labels in, a score out.

    from cytoimagenet_hf.evaluation.accuracy import KnnAccuracy
    KnnAccuracy().compute(predictions=embeddings, references=labels, k=11, metric="euclidean")

`evaluate.load("…/evaluation/accuracy.py")` works, too; neither needs the network. Importing this
module imports `evaluate`, which takes seconds, so nothing else here does. Imports of several
packages never share a line, as `evaluate` reads them line by line.
"""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from cytoimagenet_hf.evaluation.records import Features, Images, Planes, Protocol
from cytoimagenet_hf.evaluation.scoring import score
from cytoimagenet_hf.evaluation.statistics import interval

_DESCRIPTION = (
    "How often the nearest neighbors of an embedding, itself left out, tell its label. Exact, with "
    "an interval that heeds groups of rows that belong together."
)
_INPUTS = """
    predictions: embeddings, one list of numbers a row, all of one length (float32).
    references: labels, text or whole numbers (sorted as text where votes tie to the end).
    k: neighbors that vote (default 1).
    metric: cosine (default) or euclidean.
    groups: a group for each row; neighbors of a row's own group don't vote, and groups are
        resampled together for the interval.
    standardize: shift and scale each feature to mean 0 and deviation 1 first (default True).
Returns accuracy, n (rows that could be scored), unscorable, low and high (95 %; None where one
group alone says nothing of the spread).
"""


class KnnAccuracy(evaluate.Metric):  # type: ignore[misc]
    """Leave-one-out accuracy of k nearest neighbors, as benchmark tasks are scored."""

    def _info(self) -> Any:  # noqa: ANN401 - what evaluate demands
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=[  # the first that fits
                datasets.Features(
                    {
                        "predictions": datasets.List(datasets.Value("float32")),
                        "references": datasets.Value(kind),
                    }
                )
                for kind in ("string", "int64")
            ],
        )

    def _compute(
        self,
        predictions: Sequence[Sequence[float]],
        references: Sequence[str],
        *,
        k: int = 1,
        metric: str = "cosine",
        groups: Sequence[str] | None = None,
        standardize: bool = True,
    ) -> dict[str, float | int | None]:
        lengths = {len(row) for row in predictions}
        if len(lengths) > 1:
            raise ValueError(f"Embeddings have lengths {min(lengths)} to {max(lengths)}.")
        images = _rows([str(label) for label in references], groups)
        protocol = Protocol(
            name="knn accuracy",
            k=k,
            metric="euclidean" if metric == "euclidean" else _cosine(metric),
            exclude=("group",) if groups is not None else (),
            cluster="group" if groups is not None else "",
            standardize="all" if standardize else "none",
        )
        values = np.array(list(predictions), np.float32)
        outcome = score(images, [Features(images.ids, values, {})], protocol)
        found = interval(outcome.correct, outcome.clusters) if outcome.ids else None
        return {
            "accuracy": float(outcome.correct.mean()) if found else None,
            "n": len(outcome.ids),
            "unscorable": len(outcome.unscorable),
            "low": found.low if found else None,
            "high": found.high if found else None,
        }


def _cosine(metric: str) -> Any:  # noqa: ANN401 - a literal
    if metric != "cosine":
        raise ValueError(f"Unknown metric {metric!r}. There are cosine and euclidean.")
    return metric


def _rows(labels: Sequence[str], groups: Sequence[str] | None) -> Images:
    """Make a table of rows that have no names: their numbers are, padded so that they sort."""
    count = len(labels)
    if groups is not None and len(groups) != count:
        raise ValueError(f"{len(groups)} groups for {count} rows.")
    keys = {"group": tuple(map(str, groups))} if groups is not None else {}
    digits = len(str(count))
    ids = tuple(f"{row:0{digits}}" for row in range(count))
    return Images(ids, tuple(labels), ("",) * count, keys, _no_pixels)


def _no_pixels(row: int) -> Planes:
    raise ValueError(f"Row {row} is an embedding; there is no image of it.")
