"""How sure an accuracy is, and whether two differ: intervals, paired tests, confusion (design 10).

Cells of one image, well or treatment are alike, so n of them tell less than n independent ones
(protocols.md 3.4). Where clusters are known, whole clusters are resampled. All is joined by id,
and the order of rows never changes a result.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]

LEVEL = 0.95  # of all intervals
DRAWS = 10_000  # of a bootstrap; p is known to 1 / DRAWS
SEED = 0
PAPER_Z = 1.96  # Table 2's rule (protocols.md 3.4)
_ROUNDING = 1e-9  # differences this near are equal
_HELD = 2**22  # numbers of resampled clusters held at a time: 32 MB


@dataclass(frozen=True, slots=True)
class Interval:
    """Where an accuracy may lie; `low` and `high` are None where nothing can be said."""

    low: float | None
    high: float | None
    method: str
    clusters: int = 0  # 0: none known


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much better the first of two is, on the same ids, and how likely by chance."""

    difference: float  # of accuracies, first minus second
    low: float
    high: float
    p: float  # two-sided
    method: str
    n: int
    clusters: int = 0  # 0: none known


def wilson(correct: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Return Wilson's score interval of a share, for n independent trials.

    Raises:
        ValueError: n is not positive, or `correct` isn't in 0..n.
    """
    _check_counts(correct, n)
    z = _quantile(level)
    share, spread = correct / n, z * z / n
    center = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    low = 0.0 if correct == 0 else max(0.0, center - half)
    return low, 1.0 if correct == n else min(1.0, center + half)


def normal_interval(accuracy: float, n: int) -> tuple[float, float]:
    """Return the interval of the paper's Table 2: accuracy +- 1.96 * sqrt(p (1 - p) / n).

    It takes cells for independent and leaves 0..1 near its ends; it is here to reproduce the
    table, and `interval` is what scores use.
    """
    if n < 1 or not 0 <= accuracy <= 1:
        raise ValueError(f"No interval of accuracy {accuracy} and n {n}: 0..1 and n > 0 expected.")
    half = PAPER_Z * math.sqrt(accuracy * (1 - accuracy) / n)
    return accuracy - half, accuracy + half


def interval(
    correct: Sequence[bool] | npt.NDArray[np.bool_],
    clusters: Sequence[str],
    *,
    seed: int = SEED,
    level: float = LEVEL,
) -> Interval:
    """Choose and compute the interval of an accuracy.

    Rows without a cluster ("") stand each for itself. Without clusters of several rows it is
    Wilson's. Resampling says nothing of one cluster (no interval), nor where all rows are right or
    all are wrong: then Wilson's over as many trials as there are clusters, which is wide enough.
    """
    right = np.asarray(correct, np.bool_)
    hits, n = int(right.sum()), len(right)
    known = len(_totals(right, clusters)) if any(clusters) else 0
    if known in (0, n):
        return Interval(*wilson(hits, n, level), "wilson", known)
    if known > 1 and hits in (0, n):
        bounds = wilson(known if hits else 0, known, level)
        return Interval(*bounds, "wilson over clusters", known)
    found = cluster_bootstrap(right, clusters, seed=seed, level=level)
    if found is None:
        return Interval(None, None, "none: one cluster", known)
    return Interval(*found, "cluster bootstrap", known)


def cluster_bootstrap(
    correct: Sequence[bool] | npt.NDArray[np.bool_],
    clusters: Sequence[str],
    *,
    draws: int = DRAWS,
    seed: int = SEED,
    level: float = LEVEL,
) -> tuple[float, float] | None:
    """Return the percentile interval of an accuracy when whole clusters are drawn again.

    Each draw takes as many clusters as there are, with replacement, and pools their rows.

    Args:
        correct: (n,) whether each row was predicted rightly.
        clusters: (n,) the cluster of each row; a row with "" stands for itself.
        draws: of the bootstrap.
        seed: of the generator; equal seeds and clusters give equal intervals, in any order of rows.
        level: share of the draws inside.

    Returns:
        (low, high); None where there is one cluster only, of which no spread is known.

    Raises:
        ValueError: no rows, or another number of clusters than rows.
    """
    totals = _totals(np.asarray(correct, np.bool_), clusters)
    if len(totals) == 1:
        return None
    found = _resample(totals, draws, np.random.default_rng(seed))
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired(
    first: Mapping[str, bool],
    second: Mapping[str, bool],
    clusters: Mapping[str, str] | None = None,
    *,
    draws: int = DRAWS,
    seed: int = SEED,
) -> Comparison:
    """Compare two encoders on the same ids.

    With clusters of several rows: d is the difference of accuracies, d* that of clusters drawn
    again, and p = (1 + #{|d* - d| >= |d|}) / (1 + draws), the bootstrap centered at no difference.
    Few clusters make it too sure, so p is at least 2^(1 - m), the least of a sign test over the m
    clusters in which the two differ. One cluster gives p = 1 and -1..1, as its spread isn't known.
    Otherwise: McNemar's exact test, with the interval of Agresti and Min (2005; half a count added
    to each of the four).

    Args:
        first: id -> whether the prediction was right.
        second: the same ids.
        clusters: id -> cluster; None or "": the id stands for itself.
        draws: of the bootstrap.
        seed: of its generator.

    Raises:
        ValueError: the ids differ, or there are none.
    """
    ids = _common(first, second)
    gains = np.array([int(first[one]) - int(second[one]) for one in ids], np.int64)
    names = [clusters.get(one, "") for one in ids] if clusters else [""] * len(ids)
    totals = _totals(gains, names)
    known = len(totals) if any(names) else 0
    if known in (0, len(ids)):
        return _mcnemar(gains, known)
    difference = float(gains.mean())
    if known == 1:
        return Comparison(difference, -1.0, 1.0, 1.0, "one cluster: no test", len(ids), known)
    found = _resample(totals, draws, np.random.default_rng(seed))
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    beyond = np.abs(found - difference) >= abs(difference) - _ROUNDING
    least = 2.0 ** (1 - max(1, int(np.count_nonzero(totals[:, 0]))))
    p = max((1 + int(beyond.sum())) / (1 + draws), least)
    return Comparison(difference, float(low), float(high), p, "cluster bootstrap", len(ids), known)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p of McNemar's exact test: a fair coin over the ids that differ.

    Args:
        only_first: ids that the first alone predicts rightly.
        only_second: ids that the second alone does.
    """
    n, fewer = only_first + only_second, min(only_first, only_second)
    term = total = 1
    for at in range(1, fewer + 1):  # whole numbers: exact however many there are
        term = term * (n - at + 1) // at
        total += term
    return float(min(1.0, (2 * total) / 2**n))


def holm(pvalues: Sequence[float]) -> list[float]:
    """Adjust p-values of one family for their number (Holm 1979), in the order given.

    Raises:
        ValueError: a value isn't in 0..1.
    """
    for value in pvalues:
        if not 0 <= value <= 1:
            raise ValueError(f"{value} is no p-value.")
    adjusted = [0.0] * len(pvalues)
    highest = 0.0
    for passed, at in enumerate(sorted(range(len(pvalues)), key=lambda at: pvalues[at])):
        highest = max(highest, min(1.0, (len(pvalues) - passed) * pvalues[at]))
        adjusted[at] = highest
    return adjusted


def confusion(truth: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> Counts:
    """Count predictions: row = true label, column = predicted one, both in the order of `labels`.

    Raises:
        ValueError: columns of different lengths, or a value that isn't among `labels`.
    """
    if len(truth) != len(predicted):
        raise ValueError(f"{len(truth)} true labels, but {len(predicted)} predicted ones.")
    at = {label: number for number, label in enumerate(labels)}
    if strange := sorted({*truth, *predicted} - set(at)):
        raise ValueError(f"{len(strange)} labels are unknown, for instance {strange[0]!r}.")
    cells = [at[one] * len(at) + at[other] for one, other in zip(truth, predicted, strict=True)]
    return np.bincount(cells, minlength=len(at) ** 2).reshape(len(at), len(at))


def per_class(truth: Sequence[str], predicted: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Count (true, predicted, right) for each label that occurs on either side, sorted by label.

    Recall is right / true, precision right / predicted.
    """
    right = Counter(one for one, other in zip(truth, predicted, strict=True) if one == other)
    true, given = Counter(truth), Counter(predicted)
    return {one: (true[one], given[one], right[one]) for one in sorted({*true, *given})}


def _mcnemar(gains: Counts, clusters: int) -> Comparison:
    n, won, lost = len(gains), int((gains > 0).sum()), int((gains < 0).sum())
    center = (won - lost) / (n + 2)
    spread = (won + lost + 1) / (n + 2) - center * center
    half = _quantile(LEVEL) * math.sqrt(spread / (n + 2))
    bounds = max(-1.0, center - half), min(1.0, center + half)
    return Comparison((won - lost) / n, *bounds, mcnemar(won, lost), "mcnemar exact", n, clusters)


def _common(first: Mapping[str, bool], second: Mapping[str, bool]) -> list[str]:
    """Return the ids of both sides, sorted, which must be the same."""
    if odd := sorted(first.keys() ^ second.keys()):
        raise ValueError(
            f"Only the same ids can be compared: {len(odd)} are on one side only (first: "
            f"{odd[0]!r}). Score both encoders on the same images."
        )
    if not first:
        raise ValueError("There are no ids to compare.")
    return sorted(first)


def _totals(values: npt.NDArray[np.generic], clusters: Sequence[str]) -> Counts:
    """Return (clusters, 2): sum and number of the rows of each; rows with "" stand alone."""
    if len(values) != len(clusters) or not len(values):
        raise ValueError(f"{len(values)} rows, and clusters of {len(clusters)}: equal, not 0.")
    sums: Counter[str | int] = Counter()
    sizes: Counter[str | int] = Counter()
    for row, (value, name) in enumerate(zip(values.tolist(), clusters, strict=True)):
        sums[name or row] += int(value)
        sizes[name or row] += 1
    return np.array([(sums[one], sizes[one]) for one in sizes], np.int64)


def _resample(
    totals: Counts, draws: int, generator: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Draw clusters with replacement; return the pooled mean of each draw.

    Clusters with equal (sum, size) count as one kind, of which a draw has a multinomial number:
    the same distribution as of single clusters, in far fewer numbers, and whatever their order.
    """
    kinds, counts = np.unique(totals, axis=0, return_counts=True)
    step = max(1, _HELD // len(kinds))
    means = []
    for start in range(0, draws, step):
        size = min(step, draws - start)
        drawn = generator.multinomial(len(totals), counts / len(totals), size=size) @ kinds
        means.append(drawn[:, 0] / drawn[:, 1])
    return np.concatenate(means)


def _quantile(level: float) -> float:
    """Return z of a two-sided normal interval."""
    if not 0 < level < 1:
        raise ValueError(f"A level lies between 0 and 1, not {level}.")
    return NormalDist().inv_cdf((1 + level) / 2)


def _check_counts(correct: int, n: int) -> None:
    if n < 1 or not 0 <= correct <= n:
        raise ValueError(f"{correct} right of {n} is no share.")
