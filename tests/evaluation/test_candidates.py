"""The bound that proves candidates: no row is nearer than its score allows."""

import importlib.util

import numpy as np
import pytest

from cytoimagenet_hf.evaluation import candidates
from cytoimagenet_hf.evaluation.distances import between, vectors

BACKENDS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(not importlib.util.find_spec(name), reason=f"{name} is missing"),
    )
    for name in ("numpy", "torch", "faiss")
]


def rows_of(kind, count, width):
    """Make rows that are hard for float32."""
    rng = np.random.default_rng(width)
    values = rng.normal(size=(count, width))
    if kind == "offset":
        return values + 1e4
    if kind == "clusters":
        return values + 1e3 * rng.integers(0, 2, (count, 1))
    if kind == "tiny":  # beside a constant that is a trillion times as large
        return np.hstack([np.ones((count, 1)), 10.0 ** rng.integers(-45, -12, (count, 1)) * values])
    if kind == "lengths":
        return values * 10.0 ** rng.integers(-9, 9, (count, 1))
    return np.where(rng.random((count, 1)) < 0.3, 0, values)  # zeros


@pytest.mark.parametrize("kind", ["offset", "clusters", "tiny", "lengths", "zeros"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("width", [3, 700])
def test_scores_bound_distances(kind, metric, single, width):
    """For all pairs: the least distance that a score allows is no more than the true one."""
    values = rows_of(kind, 120, width)
    bank, queries = vectors(values[40:], metric), vectors(values[:40], metric)
    columns = candidates.bank_columns(bank, metric, single)
    assert columns.columns.dtype == (np.float32 if single else np.float64)
    block = candidates.query_columns(queries, columns)
    scores = (block.columns @ columns.columns.T).astype(np.float64)
    least = np.stack([block.nearest(one) for one in scores.T], axis=1)
    true = between(queries, bank, np.tile(np.arange(80), (40, 1)), metric)
    reach = np.stack([columns.reach(one, block.square, 1) for one in true.T], axis=1)
    assert (least <= reach).all()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_bound_is_tight_enough_to_be_of_use(metric):
    """For 500 random rows of 1,280 columns it costs less than 0.1 % of the squared distances."""
    values = np.random.default_rng(0).normal(size=(500, 1280))
    known = vectors(values, metric)
    columns = candidates.bank_columns(known, metric, True)
    block = candidates.query_columns(known.part(slice(0, 1)), columns)
    least = block.nearest((block.columns @ columns.columns.T)[0].astype(np.float64))[1:]
    true = between(known.part(slice(0, 1)), known, np.arange(1, 500)[None], metric)[0]
    reach = columns.reach(true, block.square, 1)
    assert ((reach - least) / reach).max() < 1e-3


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_others_score_at_most_the_bound(backend):
    """Ten best of 100 rows, three of them excluded: the other 90 score no more than was said."""
    values = np.random.default_rng(0).normal(size=(100, 6))
    columns = candidates.bank_columns(vectors(values, "euclidean"), "euclidean", True)
    block = candidates.query_columns(vectors(values[:2], "euclidean"), columns)
    scores = block.columns @ columns.columns.T
    gone = [np.argsort(-one)[:3] for one in scores]
    with candidates.searching(backend, columns) as top:
        rows, others = top(block.columns, 10, gone)
    for at in range(2):
        kept = rows[at][rows[at] >= 0]
        assert len(kept) >= 10
        assert not set(kept) & set(gone[at])
        rest = np.setdiff1d(np.arange(100), [*kept, *gone[at]])
        assert scores[at, rest].max() <= others[at] + 1e-6


def test_a_query_far_beyond_the_bank_does_not_overflow():
    """At 1e60 from a bank of width 1, float32 would be infinite: scores are scaled, and bound."""
    bank = vectors(np.random.default_rng(0).normal(size=(9, 3)), "euclidean")
    columns = candidates.bank_columns(bank, "euclidean", True)
    query = vectors(np.array([[1e60, 0, 0], [0, 0, 0]]), "euclidean")
    block = candidates.query_columns(query, columns)
    assert np.isfinite(block.columns).all()
    least = block.nearest((block.columns @ columns.columns[0]).astype(np.float64))
    true = between(query, bank, np.zeros((2, 1), int), "euclidean")[:, 0]
    assert (least <= columns.reach(true, block.square, 1)).all()
    np.testing.assert_allclose(least / columns.factor**2, true**2, rtol=1e-4)


@pytest.mark.parametrize("far", [1.9, 2.0, 2.1, 4.0])
def test_all_columns_of_a_query_are_scaled_alike(far):
    """The first is the query times the factor that stands in the last, also at length 1."""
    columns = candidates.bank_columns(
        vectors(np.array([[-1.0], [1.0]]), "euclidean"), "euclidean", True
    )
    block = candidates.query_columns(vectors(np.array([[far]]), "euclidean"), columns)
    assert (columns.middle.item(), columns.factor) == (0, 0.5)
    assert block.columns[0, 0] == np.float32(far * 0.5 * block.factor[0])
    assert block.columns[0].tolist() == [block.columns[0, 1]] * 2 + [block.factor[0]]


def test_rows_too_wide_for_float32_are_multiplied_in_float64():
    """400,000 products could lose 2 % in float32: the bound's constants don't hold there."""
    values = np.zeros((1, 400_000), np.float32)
    columns = candidates.bank_columns(vectors(values, "euclidean"), "euclidean", True)
    assert columns.columns.dtype == np.float64
