"""A fast matrix product whose rounding can't hide a neighbor: candidates with a proven bound.

With the bank's middle as origin, half of |q|^2 - |q - b|^2 is q.b - |b|^2/2: one product over the
dimensions and two more columns. Those also add the most that rounding can have taken away (n
products summed in any order err by at most n u / (1 - n u) of the sum of their magnitudes), so that
each score is an upper bound: a row that isn't among the best is at least as far as they tell.
"""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cytoimagenet_hf.evaluation.distances import Array, Float, Metric, Rows, Vectors, blocks

Backend = Literal["torch", "faiss", "numpy"]
Top = Callable[[Array, int, list[Rows]], tuple[Rows, Float]]
"""(b, columns) queries, how many, excluded rows -> (b, m) rows, and bounds on all others' scores"""

SMALL = 1e8  # numbers multiplied, below which importing torch costs more than NumPy's product
_LEAST = -60  # exponent of lengths below which the product needs not tell rows apart
_SAMPLE = 1000  # rows that tell where the middle is
_MOST = 0.02  # largest error, in parts, for which the bound's constants were derived


@dataclass(frozen=True, slots=True)
class Bank:
    """Rows of a bank as columns of the bounding product."""

    columns: Array  # (n, d + 2), float32 or float64
    middle: Float
    factor: float  # power of two, by which all is multiplied: the longest row becomes about 1
    metric: Metric

    def reach(self, distances: Float, square: Float, parts: int) -> Float:
        """Return distances as squares in the space of the product, and a little more.

        The little is what sums in float64, underflow in float32, and (for cosine) rounding of unit
        vectors can have changed, many times over.
        """
        goal = 2 * distances if self.metric == "cosine" else distances**2 * parts
        goal = goal * self.factor**2
        sums = (self.columns.shape[1] + 16) * 2.0**-51 * (square + goal)
        units = 1e-13 * self.factor**2 if self.metric == "cosine" else 0
        reach: Float = goal + sums + units + 1e-30
        return reach


@dataclass(frozen=True, slots=True)
class Block:
    """Some queries as rows of the bounding product."""

    columns: Array  # (b, d + 2)
    square: Float  # (b,) squared lengths
    factor: Float  # (b,) powers of two that the columns were multiplied by

    def nearest(self, score: Float) -> Float:
        """Return the least squared distance that rows of at most this score can have."""
        return self.square - 2 * score / self.factor

    def score(self, square: Float) -> Float:
        """Return the score that all rows within a squared distance have at least."""
        return (self.square - square) * self.factor / 2


def bank_columns(bank: Vectors, metric: Metric, single: bool) -> Bank:
    """Prepare a bank, in float32 where `single` and so many columns can be bounded."""
    middle = _middle(bank, metric)
    width = len(middle)
    kind = np.float32 if single and (width + 16) * 2.0**-24 < _MOST else np.float64
    columns = np.empty((len(bank), width + 2), kind)
    factor = _factor(1.0 if metric == "cosine" else bank.largest)  # float32 can't overflow
    lengths = _fill(columns, Bank(columns, middle, factor, metric), bank, 0)
    again = _factor(float(lengths.max()))
    if not 2.0**-10 < again < 2.0**10:  # a common offset was much larger than what differs
        columns[:, :width] *= kind(again)
        lengths *= again
        factor *= again
    error = 1.1 * (width + 16) * (2.0**-24 if kind is np.float32 else 2.0**-53)
    # Of product, casts and sums, in parts of |q| |b|; what underflows in short rows is less than
    # the constant, for a million columns.
    columns[:, width] = error * (lengths + 2.0**-36)
    columns[:, width + 1] = (error - 1) * lengths**2 / 2
    return Bank(columns, middle, factor, metric)


def _nearing(lengths: Float) -> Float:
    """Return powers of two that bring lengths below 1, where they aren't."""
    factor: Float = np.ldexp(1.0, -np.maximum(np.frexp(lengths)[1], 0))
    return factor


def _middle(bank: Vectors, metric: Metric) -> Float:
    """Return about the mean row: the nearer to all rows the origin, the less rounding."""
    every = slice(None, None, 1 + len(bank) // _SAMPLE)
    sample = bank.part(every)
    sums = [
        _embed(sample, block, metric, 0).sum(axis=0)
        for block in blocks(len(sample), bank.values.shape[1])
    ]
    middle: Float = np.sum(sums, axis=0) / len(sample)
    return middle


def _factor(length: float) -> float:
    """Return a power of two that brings a length to about 1, within limits."""
    return float(np.ldexp(1.0, -max(int(np.frexp(length)[1]), _LEAST)))


def query_columns(queries: Vectors, bank: Bank) -> Block:
    """Prepare a block of queries."""
    columns = np.empty((len(queries), bank.columns.shape[1]), bank.columns.dtype)
    lengths = _fill(columns, bank, queries, 1)
    factor = _nearing(lengths)
    columns[:, -2] = lengths * factor
    columns[:, -1] = factor
    return Block(columns, lengths**2, factor)


def _fill(columns: Array, bank: Bank, rows: Vectors, axis: int) -> Float:
    """Write all columns but the last two, and return the rows' lengths.

    Queries (axis 1) that are so far away that float32 might overflow are brought near by powers of
    two; the bank's longest row is about 1 already.
    """
    lengths = np.empty(len(rows))
    for block in blocks(len(rows), len(bank.middle)):
        values = _embed(rows, block, bank.metric, axis)
        values -= bank.middle
        values *= bank.factor
        own = np.sqrt(np.einsum("ij,ij->i", values, values))
        if axis and (own >= 1).any():
            values *= _nearing(own)[:, None]
        columns[block, :-2] = values
        lengths[block] = own
    return lengths


def _embed(rows: Vectors, block: slice, metric: Metric, axis: int) -> Float:
    """Return rows in float64; for cosine on the unit sphere, where |a - b|^2 = 2 (1 - cos).

    There, zero vectors of bank (axis 0) and queries (1) take a further axis each, so that they are
    at cosine distance 1 to all others and to each other.
    """
    values = rows.scaled(block)
    if metric != "cosine":
        return values
    square = rows.square[block]
    zero = square == 0
    values /= np.sqrt(np.where(zero, 1.0, square * rows.parts))[:, None]
    values[zero] = 0
    more = np.zeros((len(values), 2))
    more[zero, axis] = 1
    return np.hstack([values, more])


def choose(backend: Backend | None, numbers: float) -> Backend:
    """Return the backend asked for, or else the first that is installed and worth loading.

    Args:
        backend: "torch" (CPU), "faiss" (GPU where there is one), "numpy" (float64), or None.
        numbers: queries x bank x dimensions.

    Raises:
        ValueError: no such backend, or it isn't installed.
    """
    if backend is None:
        if numbers <= SMALL:
            return "numpy"
        return (
            "torch"
            if importlib.util.find_spec("torch")
            else "faiss"
            if importlib.util.find_spec("faiss")
            else "numpy"
        )
    if backend not in ("torch", "faiss", "numpy"):
        raise ValueError(f"Unknown backend {backend!r}. There are torch, faiss and numpy.")
    if importlib.util.find_spec(backend) is None:
        extra = {"torch": "train", "faiss": "cpu"}.get(backend, "")
        raise ValueError(
            f"The backend {backend!r} isn't installed: pip install 'cytoimagenet-hf[{extra}]', "
            f"or take another (numpy is always there)."
        )
    return backend


@contextlib.contextmanager
def searching(backend: Backend, bank: Bank) -> Iterator[Top]:
    """Give the function that finds the rows of best scores."""
    if backend == "torch":
        with _torch(bank) as top:
            yield top
    else:
        yield _faiss(bank) if backend == "faiss" else _numpy(bank)


def _numpy(bank: Bank) -> Top:
    def top(queries: Array, count: int, excluded: list[Rows]) -> tuple[Rows, Float]:
        scores = queries @ bank.columns.T
        _exclude(scores, excluded)
        if count == scores.shape[1]:
            rows = np.broadcast_to(np.arange(count), scores.shape)
            return _kept(rows, scores)
        rows = np.argpartition(scores, -count, axis=1)[:, -count:]
        return _kept(rows, np.take_along_axis(scores, rows, axis=1))

    return top


@contextlib.contextmanager
def _torch(bank: Bank) -> Iterator[Top]:
    """Multiply by torch, in true float32 whatever its user has allowed."""
    import torch

    before = torch.get_float32_matmul_precision()
    columns = torch.from_numpy(bank.columns).T
    memory: list[Any] = []

    def top(queries: Array, count: int, excluded: list[Rows]) -> tuple[Rows, Float]:
        if not memory or len(memory[0]) < len(queries):
            memory[:] = [torch.empty(len(queries), columns.shape[1], dtype=columns.dtype)]
        scores = torch.mm(torch.from_numpy(queries), columns, out=memory[0][: len(queries)])
        _exclude(scores.numpy(), excluded)
        best, rows = torch.topk(scores, count, dim=1, sorted=False)
        return _kept(rows.numpy(), best.numpy())

    try:
        torch.set_float32_matmul_precision("highest")
        yield top
    finally:
        torch.set_float32_matmul_precision(before)


def _faiss(bank: Bank) -> Top:
    """Multiply by faiss, which can't exclude: ask for as many more, and take those out."""
    faiss = importlib.import_module("faiss")  # it has no types
    if bank.columns.dtype != np.float32:
        return _numpy(bank)
    index = faiss.IndexFlatIP(bank.columns.shape[1])
    graphics = getattr(faiss, "get_num_gpus", lambda: 0)()
    if graphics:
        index = faiss.index_cpu_to_all_gpus(index)
    index.add(bank.columns)
    otherwise = _numpy(bank)

    def top(queries: Array, count: int, excluded: list[Rows]) -> tuple[Rows, Float]:
        asked = min(len(bank.columns), count + max(map(len, excluded), default=0))
        if graphics and asked > _GPU_MOST:
            return otherwise(queries, count, excluded)
        scores, rows = index.search(queries, asked)
        least = scores[:, -1].astype(np.float64)  # faiss sorts
        for at, those in enumerate(excluded):
            scores[at, np.isin(rows[at], those)] = -np.inf
        rows, _ = _kept(rows, scores)
        return rows, least

    return top


_GPU_MOST = 2048  # neighbors that faiss finds on a GPU


def _exclude(scores: Array, excluded: list[Rows]) -> None:
    for row, those in zip(scores, excluded, strict=False):
        row[those] = -np.inf


def _kept(rows: Rows, scores: Array) -> tuple[Rows, Float]:
    """Return candidates, -1 for excluded ones, and the best score that another row can have."""
    gone = np.isneginf(scores)
    return np.where(gone, -1, rows), scores.min(axis=1).astype(np.float64)
