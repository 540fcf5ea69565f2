"""Smaller versions of crops by area averaging (configs `small` and `tiny`)."""

import numpy as np
import numpy.typing as npt
from PIL import Image


def shrink(pixels: npt.NDArray[np.uint8], longest: int) -> npt.NDArray[np.uint8]:
    """Average a crop down so that its longest side is `longest`; smaller crops stay as they are.

    Args:
        pixels: (height, width) uint8.
        longest: pixels.

    Returns:
        (h, w) uint8, same aspect ratio to the nearest pixel. Pillow's box filter computes in
        integers, so the result is the same everywhere.
    """
    height, width = pixels.shape
    side = max(height, width)
    if side <= longest:
        return pixels
    size = (max(1, round(width * longest / side)), max(1, round(height * longest / side)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
