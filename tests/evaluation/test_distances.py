"""Distances whose bits depend on two rows alone."""

import numpy as np
import pytest

from cytoimagenet_hf.errors import FeaturesError
from cytoimagenet_hf.evaluation.distances import between, check_finite, mean_of_parts, vectors


def measured(queries, bank, metric, parts=1):
    """Measure all pairs."""
    rows = np.broadcast_to(np.arange(len(bank)), (len(queries), len(bank)))
    return between(vectors(queries, metric, parts), vectors(bank, metric, parts), rows, metric)


def test_three_four_five():
    """(0, 0) to (3, 4) is 5; (1, 0) and (1, 1) enclose 45 degrees."""
    assert measured(np.zeros((1, 2)), np.array([[3.0, 4.0]]), "euclidean").tolist() == [[5]]
    far = measured(np.array([[1, 0]]), np.array([[1, 1]]), "cosine")
    np.testing.assert_allclose(far, [[1 - np.sqrt(0.5)]], rtol=1e-15)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [1, 7, 130, 2561])
def test_bits_do_not_depend_on_where_rows_stand(metric, dtype, width):
    """Each pair measured by itself equals the pair measured among all, in C and Fortran order."""
    values = np.random.default_rng(width).normal(1, 1, (60, width)).astype(dtype)
    among = measured(values[:20], np.asfortranarray(values), metric)
    for at in range(0, 20, 7):
        alone = [measured(values[at : at + 1], one[None], metric).item() for one in values]
        assert among[at].tolist() == alone


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_scipy_agrees(metric):
    """SciPy's cdist gives the same to 13 digits."""
    library = pytest.importorskip("scipy.spatial.distance")
    values = np.random.default_rng(0).normal(size=(30, 50))
    far = library.cdist(values[:10], values[10:], metric)
    np.testing.assert_allclose(measured(values[:10], values[10:], metric), far, rtol=1e-13)


def test_equal_directions_give_equal_bits():
    """(1, 2, 3), its triple and its seventh multiple are at distance 0 from each other."""
    values = np.array([[1, 2, 3], [3, 6, 9], [7, 14, 21]])
    assert not measured(values, values, "cosine").any()


def test_lengths_near_the_ends_of_the_range_do_no_harm():
    """Cosine distances of 1e-90 and 1e90 times a vector are those of the vector; 1e-101 is zero."""
    query, row = np.array([[1.0, 2.0]]), np.array([[2.0, 1.0]])
    scaled = np.concatenate([row * 1e90, row * 1e-90, row * 1e-101])
    np.testing.assert_allclose(measured(query, scaled, "cosine"), [[0.2, 0.2, 1]], rtol=1e-12)


def test_parts_are_averaged():
    """Squares 9 and 16 in two parts average to 12.5; three columns are no two equal parts."""
    assert mean_of_parts(np.array([[9.0, 16.0]]), 2).tolist() == [12.5]
    assert mean_of_parts(np.array([[9.0, 8.0, 8.0]]), 2).tolist() == [12.5]


def test_more_candidates_than_fit_in_a_block(monkeypatch):
    """One query against more rows than a block holds is measured piece by piece."""
    values = np.random.default_rng(0).normal(size=(50, 8))
    whole = measured(values[:3], values, "euclidean")
    monkeypatch.setattr("cytoimagenet_hf.evaluation.distances.BLOCK", 20)
    assert np.array_equal(measured(values[:3], values, "euclidean"), whole)


def test_bad_rows_are_named_and_counted():
    """Of seven, five are named."""
    values = np.ones((9, 1))
    values[:7] = [[np.nan], [np.inf], [-np.inf], [1e101], [np.nan], [np.nan], [np.nan]]
    with pytest.raises(FeaturesError, match=r"7 of 9 .*: a, b, c, d, e \.\.\. Leave"):
        check_finite(values, "abcdefghi")


def test_tables_only():
    """A vector is no table, and rows need a column."""
    for values in (np.ones(3), np.ones((3, 0))):
        with pytest.raises(ValueError, match="rows, dimensions"):
            vectors(values, "cosine")
