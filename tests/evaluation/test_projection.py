"""Points of a plane are scikit-learn's principal components, chosen and signed by rule."""

import numpy as np
import pytest

from cytoimagenet_hf.evaluation import projection
from cytoimagenet_hf.evaluation.records import Features


def cloud(rows, columns, seed=0):
    """Features that vary in two directions most."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, columns))
    values += random.normal(size=(rows, 2)) * [3, 2] @ random.normal(size=(2, columns))
    return Features(tuple(f"i{at:06}" for at in range(rows)), values.astype(np.float32), {})


@pytest.mark.parametrize(("rows", "columns"), [(60, 5), (30, 200), (900, 700)])
def test_equal_to_scikit_learn(rows, columns):
    """Points and shares of variance are the library's up to signs, in the narrowed form too."""
    decomposition = pytest.importorskip("sklearn.decomposition")
    from sklearn.preprocessing import StandardScaler

    features = cloud(rows, columns)
    ids, points, shares = projection.pca(features)
    assert ids == features.ids
    model = decomposition.PCA(2, svd_solver="full")
    expected = model.fit_transform(StandardScaler().fit_transform(features.values.astype(float)))
    assert np.abs(points) == pytest.approx(np.abs(expected), abs=1e-4 * np.abs(expected).max())
    assert shares == pytest.approx(tuple(model.explained_variance_ratio_), rel=1e-6)


def test_order_of_rows_changes_nothing_but_rounding():
    """Ids come back sorted, and each keeps its point."""
    features = cloud(50, 8)
    turned = Features(features.ids[::-1], features.values[::-1], {})
    one, other = projection.pca(features), projection.pca(turned)
    assert one[0] == other[0]
    assert (one[1] == other[1]).all()


def test_point_farthest_out_is_positive():
    """The sign of an axis doesn't depend on the linear algebra library."""
    _, points, _ = projection.pca(cloud(50, 8))
    assert (points[np.abs(points).argmax(axis=0), [0, 1]] > 0).all()


def test_many_rows_are_thinned_by_id(monkeypatch):
    """Of 300 rows the 100 chosen depend on ids alone."""
    monkeypatch.setattr(projection, "MOST_POINTS", 100)
    one, other = (projection.pca(cloud(300, 4, seed))[0] for seed in (0, 1))
    assert len(one) == 100
    assert one == other
    assert one != cloud(300, 4).ids[:100]


def test_features_that_do_not_vary():
    """Constant features are one point; one column has no second axis."""
    same = Features(("a", "b", "c"), np.ones((3, 4), np.float32), {})
    _, points, shares = projection.pca(same)
    assert not points.any()
    assert shares == (0.0, 0.0)
    line = Features(("a", "b", "c"), np.array([[0.0], [1.0], [2.0]], np.float32), {})
    _, points, shares = projection.pca(line)
    assert shares == pytest.approx((1.0, 0.0))
    assert points[:, 1].tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="1 points"):
        projection.pca(Features(("a",), np.ones((1, 2), np.float32), {}))
