"""Features as points of a plane: the two directions in which they vary most."""

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf import hashing
from cytoimagenet_hf.evaluation import transforms
from cytoimagenet_hf.evaluation.distances import Float
from cytoimagenet_hf.evaluation.records import Features

MOST_POINTS = 5000  # more hide each other, and cost time
_SMALL = 512  # rows or columns up to which all components are computed
_SPARE = 20  # components more than wanted
_ROUNDS = 7  # of refinement; scikit-learn takes as many
_SEED = 0


def pca(features: Features) -> tuple[tuple[str, ...], Float, tuple[float, float]]:
    """Project standardized features on their first two principal components.

    Of more than `MOST_POINTS` rows those of the lowest hash of their id are taken, so that the
    choice depends on ids alone.

    Returns:
        Ids of the points, sorted; (n, 2) points; and the share of the variance along each axis.
        The sign of an axis is such that the point farthest out is positive.

    Raises:
        FeaturesError: a row isn't finite.
        ValueError: fewer than two rows.
    """
    if len(features.ids) < 2:
        raise ValueError(f"{len(features.ids)} points have no direction of variance.")
    chosen = np.argsort(hashing.ranks(_SEED, "pca", features.ids), kind="stable")[:MOST_POINTS]
    ids = tuple(sorted(features.ids[row] for row in chosen))
    values = transforms.standardize(features.take(ids))
    total = float(np.square(values).sum())
    if total == 0:
        return ids, np.zeros((len(ids), 2)), (0.0, 0.0)
    left, sizes = _first_two(values)
    points = left * sizes
    far = points[np.abs(points).argmax(axis=0), [0, 1]]
    points *= np.where(far < 0, -1.0, 1.0)
    shares = np.square(sizes) / total
    return ids, points, (float(shares[0]), float(shares[1]))


def _first_two(values: Float) -> tuple[Float, Float]:
    """Return (n, 2) left singular vectors and their singular values, zeros where there are none."""
    if min(values.shape) > _SMALL:
        values = _narrowed(values)
    left, sizes, _ = np.linalg.svd(values, full_matrices=False)
    missing = max(0, 2 - len(sizes))
    left = np.pad(left[:, :2], ((0, 0), (0, missing)))
    return left, np.pad(sizes[:2], (0, missing))


def _narrowed(values: Float) -> Float:
    """Return (n, few) with the same leading left vectors and sizes (Halko et al. 2011)."""
    start = np.random.default_rng(_SEED).normal(size=(values.shape[1], 2 + _SPARE))
    basis: npt.NDArray[np.float64] = np.linalg.qr(values @ start)[0]
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(values @ np.linalg.qr(values.T @ basis)[0])[0]
    left, sizes, _ = np.linalg.svd(basis.T @ values, full_matrices=False)
    narrow: Float = basis @ (left * sizes)
    return narrow
