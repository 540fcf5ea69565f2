"""Smaller versions of crops by area averaging (configs `small` and `tiny`)."""

from typing import Any

import numpy as np
import numpy.typing as npt


def shrink(pixels: npt.NDArray[np.uint8], longest: int) -> npt.NDArray[np.uint8]:
    """Average a crop down so that its longest side is `longest`; smaller crops stay as they are.

    A pixel at the border of two areas is shared between them by overlap. Pillow's box filter
    weighs whole pixels and rounds twice: up to 14 gray levels off at odd ratios, half a level too
    bright at even ones.

    Args:
        pixels: (height, width) uint8.
        longest: pixels.

    Returns:
        (h, w) uint8, same aspect ratio to the nearest pixel, rounded once, half to even. All sums
        are exact integers, so the result is the same everywhere.
    """
    height, width = pixels.shape
    side = max(height, width)
    if side <= longest:
        return pixels
    rows, columns = (max(1, round(one * longest / side)) for one in (height, width))
    down = _sums(pixels, rows, np.int32)  # at most 255 * height
    both = _sums(np.ascontiguousarray(down.T), columns, np.float64).T  # integers under 2^53
    averaged: npt.NDArray[np.uint8] = np.rint(both / (height * width)).astype(np.uint8)
    return averaged


def _sums(pixels: npt.NDArray[Any], parts: int, dtype: type[np.generic]) -> npt.NDArray[Any]:
    """Sum rows over `parts` equal parts of the height, in units of 1/parts of a row."""
    height = len(pixels)
    starts = np.arange(parts) * height
    first = starts // parts
    total = np.zeros((parts, pixels.shape[1]), dtype)
    for step in range(-(-height // parts) + 1):
        left = np.maximum(starts, (first + step) * parts)
        right = np.minimum(starts + height, (first + step + 1) * parts)
        weights = np.maximum(right - left, 0).astype(dtype)
        total += weights[:, None] * pixels[np.minimum(first + step, height - 1)]
    return total
