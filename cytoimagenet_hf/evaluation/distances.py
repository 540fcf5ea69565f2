"""Distances in float64 whose bits depend on the two rows alone.

Not on their places, on the size of a block, or on whether a row was joined with itself. So ties
are ties however the rows are permuted, and an encoder fused with itself scores as it does alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf.errors import FeaturesError

Metric = Literal["cosine", "euclidean"]
Array = npt.NDArray[Any]  # (n, d) float32 or float64
Float = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

BLOCK = 2**17  # float64 values (1 MB) that are worked on at a time: they stay in the cache
LARGEST = 1e100  # magnitude; squares of more could overflow
SMALLEST = 1e-100  # a vector whose numbers are all below has no direction: it counts as zero


@dataclass(frozen=True, slots=True)
class Vectors:
    """Rows as given, and what brings them to like lengths without rounding (cosine).

    `scale` is a power of two for each row; `square` is the squared length of the scaled row, in
    [0.5, 2), or 0 for a zero row. Both are empty for Euclidean distances.
    """

    values: Array
    scale: Float
    square: Float
    parts: int
    largest: float  # magnitude of any number

    def __len__(self) -> int:
        return len(self.values)

    def part(self, rows: slice) -> "Vectors":
        """Return some of the rows."""
        return Vectors(
            self.values[rows], self.scale[rows], self.square[rows], self.parts, self.largest
        )

    def scaled(self, rows: Rows | slice) -> Float:
        """Return some rows, scaled, as a new float64 array."""
        values = self.values[rows].astype(np.float64)
        if len(self.scale):
            values *= self.scale[rows][..., None]
        return values


def vectors(values: Array, metric: Metric, parts: int = 1, names: Sequence[str] = ()) -> Vectors:
    """Check rows and measure them.

    Args:
        values: (n, d), finite, d at least 1; integers and half precision become float64.
        metric: what they will be compared by.
        parts: how many vectors of equal weight a row joins; squares are averaged over them.
        names: of the rows, for errors; by default they are numbered.

    Raises:
        FeaturesError: a row holds NaN, infinity or more than 1e100; says which rows.
    """
    values = np.asarray(values, order="C")  # sums must run along contiguous numbers
    if values.ndim != 2 or not values.shape[1]:
        raise ValueError(f"Features must be (rows, dimensions), got an array of {values.shape}.")
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    largest = check_finite(values, names)
    most = float(largest.max(initial=0))
    if metric != "cosine":
        return Vectors(values, np.empty(0), np.empty(0), parts, most)
    zero = largest < SMALLEST
    scale = np.ldexp(1.0, -np.frexp(np.where(zero, 1.0, largest))[1])
    square = np.empty(len(values))
    for block in blocks(len(values), values.shape[1]):
        rows = values[block] * scale[block, None]
        square[block] = mean_of_parts(np.square(rows, out=rows), parts)
    square[zero] = 0
    half = np.frexp(square)[1] // 2
    return Vectors(values, np.ldexp(scale, -half), np.ldexp(square, -2 * half), parts, most)


def check_finite(values: Array, names: Sequence[str] = ()) -> Float:
    """Return the largest magnitude of each row of (n, d) values, in float64.

    Raises:
        FeaturesError: a row holds NaN, infinity or more than 1e100; says which rows.
    """
    largest = np.empty(len(values))
    for block in blocks(len(values), values.shape[1]):
        rows = values[block]
        largest[block] = np.maximum(rows.max(axis=1), -rows.min(axis=1))
    wrong = np.flatnonzero(~(largest <= LARGEST))
    if len(wrong):
        first = ", ".join(str(names[row]) if len(names) else f"row {row}" for row in wrong[:5])
        raise FeaturesError(
            f"{len(wrong)} of {len(values)} feature vectors hold NaN, infinity or values beyond "
            f"{LARGEST:g}: {first}{' ...' if len(wrong) > 5 else '.'} Leave those images out (a "
            f"constant channel can't be normalized) or compute their features again."
        )
    return largest


def between(queries: Vectors, bank: Vectors, rows: Rows, metric: Metric) -> Float:
    """Return distances of each query to its own bank rows.

    Args:
        queries: b rows.
        bank: n rows.
        rows: (b, m) numbers of bank rows.
        metric: "euclidean", or "cosine" for 1 - cos; a zero vector has cosine distance 1 to all.

    Returns:
        (b, m) float64.
    """
    count, width = rows.shape[1], queries.values.shape[1]
    squares = np.empty(rows.shape)
    for block in blocks(len(rows), count * width):
        own = queries.scaled(block)
        for part in blocks(count, len(own) * width):  # more than one only for a single query
            steps = bank.scaled(rows[block, part])
            steps -= own[:, None]
            flat = steps.reshape(-1, width)
            sums = mean_of_parts(np.square(flat, out=flat), bank.parts)
            squares[block, part] = sums.reshape(len(own), -1)
    if metric == "euclidean":
        return np.sqrt(squares)
    return _cosine(squares, queries.square[:, None], bank.square[rows])


def _cosine(step: Float, query: Float, bank: Float) -> Float:
    """Return 1 - cos from the squared difference and both squared lengths.

    By 1 - cos^2 = (query * step - rest^2) / (query * bank), with the rest dot - query, so that
    small angles keep their digits, and equal ratios of small integers give equal bits.
    """
    product = query * bank
    zero = product == 0
    product = np.where(zero, 1.0, product)
    dot = (query + bank - step) / 2
    sine = np.maximum(query * step - ((bank - query - step) / 2) ** 2, 0) / product
    off = sine / (1 + np.sqrt(dot**2 / product))  # 1 - |cos|
    result: Float = np.where(zero, 1.0, np.where(dot > 0, off, 2 - off))
    return result


def mean_of_parts(values: Float, parts: int) -> Float:
    """Sum each part of each row of (m, d), and average the sums over the parts.

    Each sum runs along its own contiguous numbers, so its bits are the same wherever they stand;
    two equal parts average to exactly the sum of one. Parts of unequal widths are summed as one.
    """
    if values.shape[1] % parts:
        whole: Float = values.sum(axis=1) / parts
        return whole
    sums: Float = values.reshape(len(values), parts, -1).sum(axis=2).sum(axis=1) / parts
    return sums


def blocks(count: int, width: int) -> list[slice]:
    """Cut `count` rows into slices of about BLOCK values."""
    step = max(1, BLOCK // max(1, width))
    return [slice(start, start + step) for start in range(0, count, step)]
