"""Sixteen numbers of an image, against NumPy, SciPy and the head."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytoimagenet_hf.imaging.statistics import NAMES, statistics16


def named(image):
    return dict(zip(NAMES, statistics16(image).tolist(), strict=True))


def test_there_are_sixteen_in_float32():
    """The names and the values are as many as the name of the function says."""
    found = statistics16(np.arange(12, dtype=np.uint8).reshape(3, 4))
    assert found.shape == (16,) == (len(set(NAMES)),)
    assert found.dtype == np.float32


def test_checkerboard_in_the_head():
    """Half 0, half 10: mean 5, std 5, one bit, kurtosis 1 - 3, and each step is 10."""
    found = named(np.array([[0, 10], [10, 0]], np.uint8))
    assert (found["mean"], found["std"], found["min"], found["max"]) == (5, 5, 0, 10)
    assert (found["p25"], found["p50"], found["p75"]) == (0, 5, 10)
    assert (found["skewness"], found["kurtosis"], found["entropy"]) == (0, -2, 1)
    assert (found["saturated"], found["gradient"]) == (0.5, 10)


def test_gradient_sees_where_pixels_lie():
    """The same values sorted have a smaller gradient, and nothing else changes."""
    mixed = np.array([[0, 10, 0, 10], [10, 0, 10, 0]], np.uint8)
    apart = np.array([[0, 0, 10, 10], [0, 0, 10, 10]], np.uint8)
    assert named(mixed)["gradient"] == 10
    assert named(apart)["gradient"] == pytest.approx(np.sqrt(2 * 100 / 10))
    assert named(mixed) | {"gradient": 0} == named(apart) | {"gradient": 0}


@pytest.mark.parametrize("value", [0, 7])
@pytest.mark.parametrize("shape", [(1, 1), (3, 4)])
def test_image_of_one_value(value, shape):
    """Nothing varies: four of the numbers are 0, and each pixel is the largest."""
    found = named(np.full(shape, value, np.uint16))
    levels = {key for key in NAMES if key[0] == "p"} | {"mean", "min", "max"}
    expected = dict.fromkeys(NAMES, 0.0) | dict.fromkeys(levels, value) | {"saturated": 1.0}
    assert found == expected


@settings(deadline=None)  # SciPy is imported in the first example
@given(
    seed=st.integers(0, 1000),
    height=st.integers(1, 30),
    width=st.integers(2, 30),
    dtype=st.sampled_from(["uint8", "uint16", "int32", "float32", "float64"]),
)
def test_equals_numpy_and_scipy(seed, height, width, dtype):
    """Moments, percentiles and entropy are those of the libraries, computed one by one."""
    stats = pytest.importorskip("scipy.stats")
    drawn = np.random.default_rng(seed).gamma(2, 20, (height, width))
    image = drawn.clip(0, 255).astype(dtype)
    flat = image.astype(np.float64).ravel()
    if np.ptp(flat) == 0:
        return
    span = Fraction(flat.max() - flat.min())
    bins = Counter(min(255, Fraction(one) * 256 // span) for one in flat - flat.min())
    oracle = [
        flat.mean(), flat.std(), flat.min(), flat.max(),
        *np.percentile(flat, [1, 5, 25, 50, 75, 95, 99]),
        stats.skew(flat), stats.kurtosis(flat), stats.entropy(list(bins.values()), base=2),
        np.mean(flat == flat.max()),
    ]  # fmt: skip
    assert statistics16(image)[:15] == pytest.approx(oracle, rel=1e-4, abs=1e-4)


def test_dtype_makes_no_difference():
    """The same values as bytes, 16 bits and floats give the same numbers to the last bit."""
    image = np.random.default_rng(0).integers(0, 256, (20, 30))
    found = [statistics16(image.astype(kind)) for kind in ("uint8", "uint16", "int64", "float32")]
    assert all((one == found[0]).all() for one in found)


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (np.zeros((2, 2, 3)), "one channel"),
        (np.zeros(4), "one channel"),
        (np.zeros((0, 4)), "one channel"),
        (np.array([[0.0, np.nan]]), "finite"),
        (np.array([[0.0, np.inf]]), "finite"),
        (np.array([[0.0, 1e39]]), "too large"),
    ],
)
def test_what_is_no_image_is_refused(image, match):
    """Color, lines, nothing, NaN, infinity and what float32 can't hold are errors."""
    with pytest.raises(ValueError, match=match):
        statistics16(image)
