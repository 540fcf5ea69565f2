"""Exact nearest neighbors and their vote (protocols.md 3, 6.3, 6.4, 6.10).

Exact means: what a brute force over all pairs in float64 gives, ordered by (distance, order of id).
Candidates come from a fast product (candidates.py), are measured again in float64 (distances.py),
and are taken only where the product's error bound proves that no other row can be nearer.
Otherwise all rows that the bound can't rule out are measured.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf.evaluation import candidates
from cytoimagenet_hf.evaluation.candidates import Backend
from cytoimagenet_hf.evaluation.distances import (
    Array,
    Float,
    Metric,
    Rows,
    Vectors,
    between,
    vectors,
)
from cytoimagenet_hf.evaluation.exclusions import Exclusions, exclusions

__all__ = ["Backend", "Exclusions", "Metric", "Neighbors", "exclusions", "search", "vote"]

SPARE = 8  # candidates more than neighbors: 5 fail the bound for 4 % of 5,120 random columns
MANY = 256  # rows that are measured without looking for equal ones among them
SCORES = 2**24  # scores held at a time: 64 MB
MOST_QUERIES = 1024  # in a block; more gain nothing


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The nearest bank rows of each query, nearest first."""

    rows: Rows  # (q, k); -1 where none is left
    distances: Float  # (q, k); infinity where none is left


def search(  # noqa: PLR0913 - a search has these; all but the arrays by name
    queries: Array,
    bank: Array,
    *,
    k: int,
    metric: Metric,
    excluded: Exclusions | None = None,
    order: npt.NDArray[np.integer] | None = None,
    parts: int = 1,
    backend: Backend | None = None,
    chunk: int | None = None,
) -> Neighbors:
    """Find the k nearest bank rows of each query, exactly.

    Args:
        queries: (q, d), finite.
        bank: (n, d), finite; n may be less than k, even 0.
        k: at least 1.
        metric: "euclidean", or "cosine" (1 - cos; a zero vector has distance 1 to everything).
        excluded: bank rows that are no neighbors of a query (see `exclusions`); a query's own row
            is one only where its id says so.
        order: (n,) distinct ranks of the bank's ids, for equal distances; default: as they stand.
        parts: how many vectors of equal weight a row joins. Squared distances and lengths are
            averaged over them, so that a vector joined with itself keeps its distances to the bit.
        backend: of the candidates: "torch", "faiss" or "numpy"; default: what is installed. All
            give the same neighbors.
        chunk: queries a block; memory is chunk x (n + d) numbers, and one copy of the bank.

    Raises:
        FeaturesError: a row of either side isn't finite.
        ValueError: arguments that don't fit together.
    """
    k = int(k)
    ranks = np.arange(len(bank)) if order is None else np.asarray(order)
    _check((queries, bank), k, metric, excluded, ranks)
    known = vectors(bank, metric, parts)
    asked = vectors(queries, metric, parts)
    rows = np.full((len(asked), k), -1, np.int64)
    distances = np.full((len(asked), k), np.inf)
    if not len(known) or not len(asked):
        return Neighbors(rows, distances)
    backend = candidates.choose(backend, float(len(asked)) * known.values.size)
    columns = candidates.bank_columns(known, metric, single=backend != "numpy")
    step = chunk or max(1, min(MOST_QUERIES, SCORES // len(known)))
    index = _Index(known, columns, ranks, k)
    with candidates.searching(backend, columns) as top:
        for start in range(0, len(asked), step):
            block = slice(start, min(start + step, len(asked)))
            those = [excluded.rows(at) for at in range(block.start, block.stop)] if excluded else []
            rows[block], distances[block] = index.search(asked, block, those, top)
    return Neighbors(rows, distances)


class _Index:
    """A bank that is searched block by block."""

    def __init__(self, bank: Vectors, columns: candidates.Bank, ranks: Rows, k: int) -> None:
        self.bank, self.columns, self.ranks, self.k = bank, columns, ranks, k
        self.count = min(len(bank), k + SPARE)
        self._same: Rows | None = None

    def search(
        self, queries: Vectors, block: slice, excluded: list[Rows], top: candidates.Top
    ) -> tuple[Rows, Float]:
        """Return (b, k) rows and distances of a block of queries."""
        own = queries.part(block)
        product = candidates.query_columns(own, self.columns)
        found, others = top(product.columns, self.count, excluded)
        distances = between(own, self.bank, np.maximum(found, 0), self.columns.metric)
        distances[found < 0] = np.inf
        rows, distances = self._first(found, distances)
        if self.count == len(self.bank):
            return rows, distances
        reach = self.columns.reach(distances[:, -1], product.square, self.bank.parts)
        proven = np.isneginf(others) | (reach < product.nearest(others))
        unproven = np.flatnonzero(~proven)
        if len(unproven):
            scores = product.columns[unproven] @ self.columns.columns.T
            least = product.score(reach)[unproven]
            for at, near in zip(unproven, scores >= least[:, None], strict=True):
                if excluded:
                    near[excluded[at]] = False
                rows[at], distances[at] = self._measure(own, int(at), np.flatnonzero(near))
        return rows, distances

    def _measure(self, queries: Vectors, at: int, near: Rows) -> tuple[Rows, Float]:
        """Return the first of many rows for one query; equal rows are measured once."""
        if self.columns.metric == "cosine" and queries.square[at] == 0:
            return self._first(near[None], np.ones((1, len(near))))
        query = queries.part(slice(at, at + 1))
        firsts = self._firsts()[near] if len(near) > MANY else near
        unique, back = np.unique(firsts, return_inverse=True)
        distances = between(query, self.bank, unique[None], self.columns.metric)
        return self._first(near[None], distances[:, back])

    def _firsts(self) -> Rows:
        """Return for each bank row the first row that holds the same numbers."""
        if self._same is None:
            seen: dict[bytes, int] = {}
            keys = (hashlib.blake2b(row.tobytes(), digest_size=16) for row in self.bank.values)
            same = [seen.setdefault(key.digest(), at) for at, key in enumerate(keys)]
            self._same = np.array(same, np.int64)
        return self._same

    def _first(self, rows: Rows, distances: Float) -> tuple[Rows, Float]:
        """Order candidates by (distance, rank) and keep k; what is missing is -1 and infinity."""
        at = np.lexsort((self.ranks[rows], distances), axis=-1)[:, : self.k]
        missing = ((0, 0), (0, self.k - at.shape[1]))
        return (
            np.pad(np.take_along_axis(rows, at, axis=1), missing, constant_values=-1),
            np.pad(np.take_along_axis(distances, at, axis=1), missing, constant_values=np.inf),
        )


def _check(
    arrays: tuple[Array, Array], k: int, metric: Metric, excluded: Exclusions | None, ranks: Rows
) -> None:
    """Refuse arguments that don't fit together."""
    queries, bank = (np.shape(array) for array in arrays)
    if len(queries) != 2 or len(bank) != 2 or queries[1] != bank[1]:
        raise ValueError(f"Queries {queries} and bank {bank} must be tables of equal width.")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}.")
    if metric not in ("cosine", "euclidean"):
        raise ValueError(f"Unknown metric {metric!r}. There are cosine and euclidean.")
    if excluded is not None and len(excluded) != queries[0]:
        raise ValueError(f"Exclusions of {len(excluded)} queries, but there are {queries[0]}.")
    if ranks.shape != bank[:1] or len(np.unique(ranks)) != len(ranks):
        raise ValueError("order must give each bank row a rank of its own.")


def vote(
    neighbors: Neighbors,
    bank_labels: Rows,
    *,
    ties: Literal["distance", "label"] = "distance",
    weighted: bool = False,
) -> Rows:
    """Predict a label for each query from its neighbors (protocols.md 6.10).

    The label with the most votes wins; among equals that of the smaller summed distance (`ties` =
    "distance"), then the smaller number. The paper leaves out the distance (`ties` = "label").

    Args:
        neighbors: as `search` gives them.
        bank_labels: (n,) label numbers, 0 or more, in label order.
        ties: what decides between labels of as many votes.
        weighted: a vote counts 1 / distance; where a neighbor is at distance 0, only such ones
            vote, and count 1 each.

    Returns:
        (q,) labels; -1 where a query has no neighbor.
    """
    labels = np.asarray(bank_labels, np.int64)
    there = neighbors.rows >= 0
    if not there.any():
        return np.full(len(there), -1, np.int64)
    labels = np.where(there, labels[neighbors.rows], -1)
    distances = np.where(there, neighbors.distances, 0.0)
    votes = _weights(distances, there) if weighted else there.astype(np.float64)
    best = _sums(labels, votes)
    leads = there & (best == np.where(there, best, -1.0).max(axis=1, keepdims=True))
    if ties == "distance":
        sums = np.where(leads, _sums(labels, distances), np.inf)
        leads &= sums == sums.min(axis=1, keepdims=True)
    chosen = np.where(leads, labels, np.iinfo(np.int64).max).min(axis=1)
    return np.where(there.any(axis=1), chosen, -1)


def _weights(distances: Float, there: npt.NDArray[np.bool_]) -> Float:
    zero = there & (distances == 0)
    inverse = 1 / np.where(there & ~zero, distances, np.inf)
    weights: Float = np.where(zero.any(axis=1, keepdims=True), zero, inverse)
    return weights


def _sums(labels: Rows, values: Float) -> Float:
    """Sum values over neighbors of a neighbor's label, one after another.

    NumPy's other sums depend on where the terms stand, so that equal ones would differ.
    """
    sums = np.empty(values.shape)
    for at in range(labels.shape[1]):
        own = np.where(labels == labels[:, at : at + 1], values, 0.0)
        sums[:, at] = np.cumsum(own, axis=1)[:, -1]
    return sums
