"""What is done to features before they are compared: standardize, fuse, average, sphere.

All in float64, and column by column in the order of rows: a column's result depends on no other
column, so that features fused with themselves stay equal to the bit.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf.evaluation.distances import Array, Float, check_finite


def standardize(values: Array, fit_rows: npt.NDArray[Any] | slice = slice(None)) -> Float:
    """Shift and scale features to mean 0 and deviation 1 over some rows (protocols.md 2).

    Args:
        values: (n, d), finite.
        fit_rows: rows that mean and (population) deviation come from: numbers, mask or slice.

    Returns:
        (n, d) float64; a feature that is constant over `fit_rows` becomes 0 in all rows.

    Raises:
        FeaturesError: a row holds NaN or infinity; says which.
        ValueError: no rows to fit on.
    """
    check_finite(values)
    scaled = np.array(values, np.float64, order="C")
    fitted = scaled[fit_rows]
    if not len(fitted):
        raise ValueError("There are no rows to take mean and deviation from.")
    constant = fitted.max(axis=0) == fitted.min(axis=0)  # a computed deviation may be 1e-17
    mean = _column_means(fitted)
    deviation = np.sqrt(_column_means(np.square(fitted - mean)))
    constant |= deviation == 0
    scaled -= mean
    scaled /= np.where(constant, 1.0, deviation)
    scaled[:, constant] = 0
    return scaled


def fuse(parts: Sequence[Float]) -> Float:
    """Join features of the same rows side by side: (n, d1), (n, d2) ... -> (n, d1 + d2 + ...).

    Raises:
        ValueError: there are none, or their numbers of rows differ.
    """
    if len({len(part) for part in parts}) != 1:
        raise ValueError(f"Can't fuse features of {[len(part) for part in parts]} rows.")
    return np.concatenate(parts, axis=1)


def aggregate(values: Array, groups: Sequence[str]) -> tuple[Float, tuple[str, ...]]:
    """Average the rows of each group.

    Args:
        values: (n, d).
        groups: (n,) names.

    Returns:
        (groups, d) float64 plain means, and the names of the groups, sorted.
    """
    if len(values) != len(groups):
        raise ValueError(f"{len(groups)} group names for {len(values)} rows.")
    names, codes = np.unique(np.asarray(groups, dtype=object), return_inverse=True)
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(names)))
    means = np.empty((len(names), values.shape[1]))
    for at, rows in enumerate(np.split(order, ends[:-1]) if len(names) else []):
        means[at] = _column_means(np.array(values[rows], np.float64, order="C"))
    return means, tuple(names)


def unit(values: Array) -> Float:
    """Scale rows to length 1, in float64; zero rows stay zero."""
    largest = check_finite(values)
    scaled = values / np.where(largest > 0, largest, 1.0)[:, None]
    lengths = np.sqrt(np.square(scaled).sum(axis=1))
    result: Float = scaled / np.where(lengths > 0, lengths, 1.0)[:, None]
    return result


def sphere(values: Array, reference: Array, epsilon: float) -> Float:
    """Whiten features by the covariance of reference rows (ZCA).

    Directions in which controls vary count less afterwards.

    Args:
        values: (n, d), finite.
        reference: (m, d), m at least 2: negative controls, say.
        epsilon: added to each variance; more than 0, as variances vanish where m <= d.

    Returns:
        (n, d) float64: the reference's mean is 0, and its covariance C becomes C / (C + epsilon).
    """
    if epsilon <= 0 or len(reference) < 2:
        raise ValueError(
            f"Sphering needs epsilon above 0 and at least 2 reference rows, got epsilon {epsilon} "
            f"and {len(reference)} rows."
        )
    check_finite(values)
    check_finite(reference)
    known = np.array(reference, np.float64, order="C")
    mean = _column_means(known)
    _, spread, axes = np.linalg.svd((known - mean) / np.sqrt(len(known) - 1), full_matrices=False)
    moved = values - mean
    rest = 1 / np.sqrt(epsilon)  # where the reference doesn't vary
    along = (moved @ axes.T) * (1 / np.sqrt(spread**2 + epsilon) - rest)
    result: Float = along @ axes + moved * rest
    return result


def _column_means(values: Float) -> Float:
    """Return means of columns, adding rows one after another, whatever the number of columns."""
    if values.shape[1] == 1:  # NumPy would add in another order
        return _column_means(np.repeat(values, 2, axis=1))[:1]
    means: Float = values.sum(axis=0) / len(values)
    return means
