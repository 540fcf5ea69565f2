"""Standardizing, fusing, averaging and sphering features."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cytoimagenet_hf.errors import FeaturesError
from cytoimagenet_hf.evaluation.transforms import aggregate, fuse, sphere, standardize, unit

TABLES = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=20),
    elements=st.floats(-1000, 1000, width=32),
)


def test_one_three_becomes_minus_one_one():
    """Mean 2, deviation 1."""
    assert standardize(np.array([[1.0], [3.0]])).tolist() == [[-1], [1]]


def test_rows_outside_of_the_fit_are_scaled_alike():
    """Fitted on 1 and 3, 5 lies three deviations above the mean."""
    values = np.array([[5.0], [1.0], [3.0]])
    assert standardize(values, np.array([1, 2])).tolist() == [[3], [-1], [1]]


def test_scikit_learn_agrees():
    """StandardScaler fitted on some rows, applied to all."""
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    values = np.random.default_rng(0).normal(7, 3, (50, 12))
    scaler = preprocessing.StandardScaler().fit(values[:20])
    ours = standardize(values, slice(0, 20))
    np.testing.assert_allclose(ours, scaler.transform(values), rtol=1e-12, atol=1e-14)


def test_a_constant_feature_is_zero_everywhere():
    """0.1 in float32 thirty times: a computed deviation would be rounding, not zero."""
    values = np.full((31, 2), 0.1, np.float32)
    values[30] = 5
    scaled = standardize(values, slice(0, 30))
    assert not scaled.any()


@given(values=TABLES)
def test_features_fused_with_themselves_are_equal_halves(values):
    """A column's result depends on no other column, to the bit."""
    twice = standardize(fuse([values, values]))
    alone = standardize(values)
    assert np.array_equal(twice, fuse([alone, alone]))
    groups = [str(row % 3) for row in range(len(values))]
    means = aggregate(alone, groups)[0]
    assert np.array_equal(aggregate(twice, groups)[0], fuse([means, means]))


def test_a_row_that_is_no_number_is_named():
    """StandardScaler would pass NaN on (protocols.md 6.5)."""
    with pytest.raises(FeaturesError, match="row 1"):
        standardize(np.array([[1.0], [np.nan]]))


def test_nothing_to_fit_on_is_an_error():
    """An empty fit has no mean."""
    with pytest.raises(ValueError, match="no rows to take"):
        standardize(np.ones((2, 1)), np.array([], int))


def test_parts_of_other_lengths_are_not_fused():
    """Rows are joined by id before; here they must be as many."""
    with pytest.raises(ValueError, match=r"\[2, 3\] rows"):
        fuse([np.ones((2, 1)), np.ones((3, 1))])


def test_groups_are_plain_means_sorted_by_name():
    """b: 1 and 3; a: 5."""
    means, names = aggregate(np.array([[1.0], [5.0], [3.0]]), ["b", "a", "b"])
    assert names == ("a", "b")
    assert means.tolist() == [[5], [2]]


def test_a_group_for_each_row():
    """Three rows need three names."""
    with pytest.raises(ValueError, match="1 group names for 3 rows"):
        aggregate(np.ones((3, 1)), ["a"])


def test_unit_rows_have_length_one():
    """(3, 4) becomes (0.6, 0.8), at any scale; zero stays zero."""
    rows = unit(np.array([[3, 4], [3e-90, 4e-90], [0, 0]]))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.6, 0.8], [0, 0]], rtol=1e-15)


def test_sphered_controls_are_white():
    """Mean 0 and covariance 1, where epsilon is small against each variance."""
    rng = np.random.default_rng(0)
    controls = rng.normal(4, 1, (500, 3)) @ np.array([[5, 1, 0], [0, 2, 1], [0, 0, 0.5]])
    white = sphere(controls, controls, 1e-9)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.cov(white.T), np.eye(3), atol=1e-6)


def test_sphering_is_the_inverse_root_of_covariance_plus_epsilon():
    """As by the eigenvectors of the covariance, with fewer controls than features."""
    rng = np.random.default_rng(1)
    controls, values = rng.normal(size=(5, 8)), rng.normal(size=(20, 8))
    spread, axes = np.linalg.eigh(np.cov(controls.T))
    root = axes @ np.diag((np.maximum(spread, 0) + 0.5) ** -0.5) @ axes.T
    np.testing.assert_allclose(
        sphere(values, controls, 0.5), (values - controls.mean(axis=0)) @ root, atol=1e-12
    )


@pytest.mark.parametrize(("rows", "epsilon"), [(1, 1.0), (5, 0.0)])
def test_sphering_needs_controls_and_an_epsilon(rows, epsilon):
    """One control has no covariance; without epsilon, directions without variance explode."""
    with pytest.raises(ValueError, match="Sphering needs"):
        sphere(np.ones((2, 2)), np.ones((rows, 2)), epsilon)
