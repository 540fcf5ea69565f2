"""Sixteen statistics of an image's intensities: what lighting alone explains (design 10).

A classifier on these numbers sees no shape but the mean gradient. Whatever a network scores has to
be read beside it.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf.imaging._counting import Plane, as_float, distribution

_PERCENTS = (1, 5, 25, 50, 75, 95, 99)
_BINS = 256  # of the histogram that entropy is taken of
_LARGEST = 1e38  # differences still fit float32
NAMES = (
    "mean",
    "std",
    "min",
    "max",
    *(f"p{percent}" for percent in _PERCENTS),
    "skewness",
    "kurtosis",
    "entropy",
    "saturated",
    "gradient",
)


def statistics16(image: Plane) -> npt.NDArray[np.float32]:
    """Describe the intensities of one channel.

    Values count as they are, so equal values give equal statistics whatever the dtype:

    - mean, std (of the population), min, max, and the 1, 5, 25, 50, 75, 95 and 99 % percentiles
      (linear, as NumPy's), in units of the image;
    - skewness and excess kurtosis (0 for a normal distribution; of moments, uncorrected);
    - entropy in bits, 0..8, of 256 equal bins from min to max;
    - saturated: share of the pixels that have the image's largest value, 0..1;
    - gradient: root mean square of the differences between neighbors in rows and in columns.

    An image of one value has skewness, kurtosis, entropy and gradient 0 and saturated 1.

    Args:
        image: (height, width), any real dtype.

    Returns:
        (16,) float32 in the order of `NAMES`.

    Raises:
        ValueError: another shape, no pixels, or values that aren't finite or exceed 1e38.
    """
    if image.ndim != 2 or image.size == 0:
        raise ValueError(f"Statistics are of one channel (height, width), got {image.shape}.")
    pixels = as_float(image)
    if not np.isfinite(pixels).all():
        raise ValueError("The image holds values that aren't finite numbers.")
    if np.abs(pixels).max() > _LARGEST:
        raise ValueError(
            f"The image's values are too large: above {_LARGEST:.3g} or below minus it."
        )
    counted = distribution(image)
    values, shares = as_float(counted.values), counted.counts / image.size
    mean = float(shares @ values)
    off = values - mean
    variance = float(shares @ off**2)
    is_flat = len(values) == 1 or variance == 0.0
    spread = np.zeros_like(off) if is_flat else off / np.sqrt(variance)
    found = np.array(
        [
            mean,
            np.sqrt(variance),
            values[0],
            values[-1],
            *(counted.percentile(percent, as_float) for percent in _PERCENTS),
            shares @ spread**3,
            0.0 if is_flat else shares @ spread**4 - 3,
            _entropy(values, shares),
            shares[-1],
            _gradient(pixels),
        ]
    )
    return found.astype(np.float32)


def _entropy(values: npt.NDArray[Any], shares: npt.NDArray[Any]) -> float:
    span = values[-1] - values[0]
    if span == 0:
        return 0.0
    places = np.minimum((values - values[0]) * _BINS / span, _BINS - 1).astype(np.int64)
    parts = np.bincount(places, weights=shares)
    parts = parts[parts > 0]
    return float(-(parts * np.log2(parts)).sum())


def _gradient(pixels: npt.NDArray[np.float64]) -> float:
    steps = [np.diff(pixels, axis=axis).reshape(-1) for axis in (0, 1)]
    count = sum(one.size for one in steps)
    return float(np.sqrt(sum(float(one @ one) for one in steps) / max(count, 1)))
