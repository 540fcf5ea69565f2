"""Percentiles, stretching and merging of planes, without ever making a float image (paper 2.2).

Every statistic of an integer plane follows from its distinct values and their counts, and every
stretched value is a function of the raw value. So a plane stays raw; what is computed is a table
from distinct raw values to 0..255, bit-equal to the same arithmetic done on the whole plane in
float64 (design 5, "canonical arithmetic").
"""

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf.errors import ImageRefusedError
from cytoimagenet_hf.imaging._counting import (
    COUNTED_RANGE,
    PERCENTILES,
    Distribution,
    Floats,
    Plane,
    as_float,
    distribution,
    float_percentiles,
    median,
    percentiles,
)

__all__ = [
    "PERCENTILES",
    "Distribution",
    "Floats",
    "Plane",
    "Stretched",
    "as_float",
    "contrast",
    "distribution",
    "look_up",
    "noise_of",
    "normalize",
    "percentiles",
    "stretch_window",
]

Unsigned = TypeVar("Unsigned", np.uint8, np.uint16)

FULL = 255.0  # top of the gray scale
_MERGED_TOP = 65535  # several stains are summed as uint16
_AT_ONCE = 1 << 22  # pixels held in float64 at a time
_LARGEST = 1e300  # sums of a block and second differences of such values are still finite
_SMALLEST = 1e-300  # noise is never less, so that it divides
SIGNAL_PERCENTILES = (0.5, 99.7)  # percent, of block means
SPOT_BLOCKS = 16  # blocks above the upper percentile, at most: a spot of 16 x 16 pixels
BLOCK = 4  # pixels; side of the blocks whose means carry the signal of `contrast`


@dataclass(frozen=True, slots=True)
class Stretched:
    """A gray plane whose values run from 0 to 255 through `value_of`, kept as raw values.

    `grids` and `noises` serve `contrast`: block means and noise of each stain's raw plane.
    """

    raw: Plane  # (height, width); of RGB the sum of the channels, of stains the merged uint16
    value_of: Callable[[Plane], Floats]  # raw values -> 0..255, non-decreasing
    grids: tuple[npt.NDArray[np.floating], ...]
    noises: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.raw.shape[0], self.raw.shape[1]


def normalize(
    planes: Iterable[tuple[str, Plane]],
    *,
    count: int | None = None,
    percents: tuple[float, float] = PERCENTILES,
) -> Stretched:
    """Stretch one plane, or stretch and merge several stains (paper 2.2; design 5).

    One plane: clip((v-lo)/(hi-lo), 0, 1) * 255 in float64, RGB the same over (R+G+B)/3. C stains:
    each is stretched to 0..floor(65535/C), rounded, and the sum stays within uint16.

    Args:
        planes: (stain, pixels) one after another; equal heights and widths. Only one of them is
            held at a time, so give a generator where memory counts.
        count: how many there are; default: the length of `planes`.
        percents: lower and upper, in percent; values outside are clipped.

    Returns:
        The plane; nothing is rounded to 8 bits yet.

    Raises:
        ImageRefusedError: planes of different shapes; a plane is not finite, constant or binary.
    """
    if count is None:
        planes = list(planes)
        count = len(planes)
    if count > 1:
        return _merge(planes, count, percents)
    stain, pixels = next(iter(planes))
    raw, divisor = _gray(pixels)
    low, high, noise, _ = _measure(stain, raw, divisor, percents)
    value_of = functools.partial(_stretch, low=low, high=high, divisor=divisor)
    return Stretched(raw, value_of, (_block_means(raw),), (noise,))


def _merge(
    planes: Iterable[tuple[str, Plane]], count: int, percents: tuple[float, float]
) -> Stretched:
    """Sum the stretched stains as uint16; one plane at a time is held besides the sum."""
    share = _MERGED_TOP // count
    merged: npt.NDArray[np.uint16] | None = None
    grids, noises = [], []
    for stain, pixels in planes:
        raw, divisor = _gray(pixels)
        merged = np.zeros(raw.shape, np.uint16) if merged is None else merged
        if raw.shape != merged.shape:
            shapes = f"{stain} is {_size(raw)}, the stains before it {_size(merged)}"
            raise ImageRefusedError("different shapes", shapes)
        low, high, noise, counted = _measure(stain, raw, divisor, percents)
        scaled = functools.partial(_stretch, low=low, high=high, divisor=divisor, top=float(share))
        merged += look_up(raw, scaled, np.uint16, counted=counted)
        grids.append(_block_means(raw))
        noises.append(noise)
        del pixels, raw
    assert merged is not None
    value_of = functools.partial(_of_merged, top=share * count)
    return Stretched(merged, value_of, tuple(grids), tuple(noises))


def _size(plane: Plane) -> str:
    return " x ".join(map(str, plane.shape))


def look_up(
    raw: Plane,
    value_of: Callable[[Plane], Floats],
    dtype: type[Unsigned],
    *,
    counted: Distribution | None = None,
) -> npt.NDArray[Unsigned]:
    """Round `value_of(raw)` half to even into `dtype`, through a table where that is cheaper.

    Args:
        raw: pixels.
        value_of: a function of single values.
        dtype: of the result.
        counted: the distribution of `raw` where it is known; only its values are computed then.
    """
    if raw.dtype.kind in "ui":
        low, high = (
            (int(counted.values[0]), int(counted.values[-1]))
            if counted
            else (int(raw.min()), int(raw.max()))
        )
        if high - low < COUNTED_RANGE:
            values = np.arange(low, high + 1) if counted is None else counted.values.astype("i8")
            start = 0 if low >= 0 and high < 1 << 16 else low
            table = np.zeros(high - start + 1, dtype)
            table[values - start] = np.rint(value_of(values))
            places = raw if start == 0 else np.subtract(raw, start, dtype=np.int64)
            return table.take(places, mode="clip")
    rounded = np.empty(raw.shape, dtype)
    rows = max(1, _AT_ONCE // raw.shape[1])  # float64 copies of a whole large plane don't fit
    for top in range(0, len(raw), rows):
        rounded[top : top + rows] = np.rint(value_of(raw[top : top + rows]))
    return rounded


def stretch_window(
    window: Plane,
    value_of: Callable[[Plane], Floats],
    *,
    low: float,
    high: float,
    counted: Distribution | None = None,
) -> npt.NDArray[np.uint8]:
    """Stretch a window a second time and round once, half to even, to 8 bits.

    Args:
        window: (height, width) raw values of a `Stretched`.
        value_of: that plane's function.
        low: value (0..255) that becomes 0.
        high: value that becomes 255; above `low`.
        counted: distribution of the window where it is known; saves time.
    """

    def again(raw: Plane) -> Floats:
        stretched: Floats = np.clip((value_of(raw) - low) / (high - low), 0, 1) * FULL
        return stretched

    return look_up(window, again, np.uint8, counted=counted)


def contrast(plane: Stretched, box: tuple[int, int, int, int] | None = None) -> float:
    """Tell how far the structure of a window stands above the noise of its plane.

    Signal: the span between the 0.5th and 99.7th percentile of the means of 4 x 4 blocks; in large
    windows the upper one leaves only 16 blocks out, so that one small bright spot counts in any
    window. Noise: what a mean of 16 pixels varies by when there is nothing to see. Pure noise gives
    5 to 7, whatever its strength; of several stains the best one counts (design 5).

    Args:
        plane: the normalized record.
        box: x_min, y_min, x_max, y_max of the window; None for the whole plane.
    """
    best = 0.0
    for grid, noise in zip(plane.grids, plane.noises, strict=True):
        seen = grid
        if box is not None:
            x_min, y_min, x_max, y_max = box
            rows = slice(-(-y_min // BLOCK), max(y_max // BLOCK, -(-y_min // BLOCK) + 1))
            columns = slice(-(-x_min // BLOCK), max(x_max // BLOCK, -(-x_min // BLOCK) + 1))
            seen = grid[rows, columns]
        if seen.size:
            bottom, top = SIGNAL_PERCENTILES
            top = max(top, 100 - 100 * SPOT_BLOCKS / seen.size)
            low, high = float_percentiles(seen, (bottom, top))
            best = max(best, (high - low) / (noise / BLOCK))
    return best


def noise_of(raw: Plane, smallest_step: float) -> float:
    """Estimate the standard deviation of pixel noise from second differences along rows.

    The median makes edges and cells count little. Never below that of rounding to the smallest
    step between values, 1/sqrt(12) of it.

    Args:
        raw: (height, width).
        smallest_step: smallest difference between two values that occur.
    """
    # Integers are ordered several times faster than floats, with the same median.
    rows = raw[:: max(1, raw.shape[0] // 128)].astype("i4" if _is_short(raw) else "f8")
    second = np.abs(rows[:, 2:] - 2 * rows[:, 1:-1] + rows[:, :-2])
    spread = 1.4826 * median(second) / math.sqrt(6) if second.size else 0.0
    return max(spread, smallest_step / math.sqrt(12), _SMALLEST)


def _gray(pixels: Plane) -> tuple[Plane, int]:
    """Give a single plane and what its values must be divided by (RGB: sum and 3)."""
    if pixels.ndim == 2:
        return pixels, 1
    wide = {"u1": "u2", "u2": "u4", "u4": "u8", "f4": "f8"}.get(pixels.dtype.str[1:])
    total = pixels[..., 0].astype(wide or pixels.dtype.kind + "8")
    total += pixels[..., 1]
    total += pixels[..., 2]
    return total, 3


def _measure(
    stain: str, raw: Plane, divisor: int, percents: tuple[float, float]
) -> tuple[float, float, float, Distribution]:
    """Return lower and upper percentile, noise and values of a plane, or refuse it."""
    # The minimum of a plane that holds NaN is NaN, and NaN compares as False.
    if raw.dtype.kind == "f" and not -_LARGEST < float(raw.min()) <= float(raw.max()) < _LARGEST:
        raise ImageRefusedError(
            "not finite", f"stain {stain} holds NaN, infinite values or values beyond {_LARGEST:g}"
        )
    counted = distribution(raw)
    if len(counted.values) == 1:
        raise ImageRefusedError("constant", f"stain {stain} is {counted.values[0]} everywhere")
    if len(counted.values) == 2:
        low_value, high_value = counted.values
        raise ImageRefusedError("binary", f"stain {stain} holds only {low_value} and {high_value}")
    low, high = (
        counted.percentile(percent, lambda values: values.astype(np.float64) / divisor)
        for percent in percents
    )
    if high <= low:
        raise ImageRefusedError(
            "constant", f"stain {stain}: percentiles {percents[0]} and {percents[1]} equal {low:g}"
        )
    step = float(np.diff(counted.values.astype(np.float64)).min())
    return low, high, noise_of(raw, step), counted


def _stretch(raw: Plane, *, low: float, high: float, divisor: int = 1, top: float = FULL) -> Floats:
    values = raw.astype(np.float64)
    if divisor != 1:
        values /= divisor
    stretched: Floats = np.clip((values - low) / (high - low), 0, 1) * top
    return stretched


def _of_merged(raw: Plane, *, top: int) -> Floats:
    return raw.astype(np.float64) / top * FULL


def _block_means(raw: Plane) -> npt.NDArray[np.floating]:
    """Average blocks of 4 x 4 pixels; the rest at the right and lower edge is left out."""
    height, width = raw.shape[0] // BLOCK * BLOCK, raw.shape[1] // BLOCK * BLOCK
    # Sums of 16 short integers are exact in float32. Adding slices beats `mean` over axes 13-fold.
    exact = "f4" if _is_short(raw) else "f8"
    rows = raw[:height:BLOCK, :width].astype(exact)
    for offset in range(1, BLOCK):
        rows += raw[offset:height:BLOCK, :width]
    sums = rows[:, ::BLOCK].copy()
    for offset in range(1, BLOCK):
        sums += rows[:, offset::BLOCK]
    means: npt.NDArray[np.floating] = sums / (BLOCK * BLOCK)
    return means


def _is_short(raw: Plane) -> bool:
    """Tell whether values are integers of at most 16 bit, so that small sums stay exact."""
    return raw.dtype.kind in "ui" and raw.dtype.itemsize <= 2
