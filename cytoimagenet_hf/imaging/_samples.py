"""What all file formats share: the header record, limits, and the way from samples to a plane."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf.errors import ImageRefusedError
from cytoimagenet_hf.schema import Limits

Pixels = npt.NDArray[Any]

_BLOCK = 1 << 20  # pixels looked up at a time; NumPy makes 8 bytes of each index
_STRIDE = 61  # a sparse look at every 61st pixel tells most color images from gray ones at once
_WIDER = {"int8": "int16", "float16": "float32"}  # exact, and the later stages know fewer types


@dataclass(frozen=True, slots=True)
class Header:
    """What a file's header says of its first plane; nothing was decoded to know it.

    Attributes:
        channels: 1 or 3; color files whose channels turn out equal are read as one (readers.py).
        dtype: of the plane; palettes of 16 bit whose colors need only 8 are read as uint8.
        pages: planes of series 0.
        series: 1 except in OME-TIFF.
    """

    format: str
    height: int
    width: int
    channels: int
    dtype: str
    pages: int = 1
    series: int = 1


def plane_dtype(stored: str) -> str:
    """Name the type of a plane whose file holds `stored`."""
    return _WIDER.get(stored, stored)


def check_size(height: int, width: int, sample_bytes: int, limits: Limits) -> None:
    """Refuse a plane that is empty or asks for more than `limits`; called before any allocation.

    Args:
        height: rows.
        width: columns.
        sample_bytes: bytes that one decoded pixel takes, all channels together.
        limits: the bounds.
    """
    if height < 1 or width < 1:
        raise ImageRefusedError("unreadable", f"{height} rows of {width} pixels")
    if height * width > limits.pixels:
        raise ImageRefusedError(
            "too large", f"{height} x {width} pixels, more than {limits.pixels} (--max-pixels)"
        )
    if height * width * sample_bytes > limits.decoded_bytes:
        raise ImageRefusedError(
            "too large",
            f"{height} x {width} x {sample_bytes} bytes decoded, more than "
            f"{limits.decoded_bytes} (--max-pixels)",
        )


def to_plane(samples: Pixels) -> Pixels:
    """Drop an opaque alpha and equal color channels; give native byte order, C-contiguous.

    Args:
        samples: (height, width), or (height, width, 1 to 4) where 2 and 4 end with alpha.

    Raises:
        ImageRefusedError: `alpha`, a pixel is not opaque.
    """
    if samples.ndim == 3:
        if samples.shape[2] in (2, 4):
            samples = _without_alpha(samples)
        if samples.shape[2] == 1 or _is_gray(samples):
            samples = samples[..., 0]
    dtype = np.dtype(plane_dtype(samples.dtype.name))  # by name: the native byte order
    return np.ascontiguousarray(samples, dtype=dtype)


def palette_colors(colors: Pixels) -> Pixels:
    """Bring 16-bit colors back to uint8 where 8 bit stand in them, as v * 256 or v * 257."""
    high, low = colors >> 8, colors & 255
    return high.astype(np.uint8) if not low.any() or np.array_equal(low, high) else colors


def resolve_palette(indices: Pixels, colors: Pixels) -> Pixels:
    """Give each pixel its color: (height, width) if all used colors are gray, else (..., 3).

    Args:
        indices: (height, width) unsigned.
        colors: (entries, 3) uint8 or uint16.

    Raises:
        ImageRefusedError: `unreadable`, an index has no color.
    """
    if int(indices.max()) >= len(colors):
        raise ImageRefusedError(
            "unreadable", f"pixel value {int(indices.max())} in a palette of {len(colors)} colors"
        )
    gray = bool((colors == colors[:, :1]).all())
    if not gray:
        used = colors[_used(indices, len(colors))]
        gray = bool((used == used[:, :1]).all())
    table = np.ascontiguousarray(colors[:, 0]) if gray else colors
    if gray and table.dtype == indices.dtype and np.array_equal(table, np.arange(len(table))):
        return indices
    resolved = np.empty(indices.shape + table.shape[1:], dtype=table.dtype)
    for rows in _row_blocks(indices):
        resolved[rows] = table.take(indices[rows], axis=0)
    return resolved


def _without_alpha(samples: Pixels) -> Pixels:
    alpha = samples[..., -1]
    opaque = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "iu" else 1.0
    if not bool((alpha == opaque).all()):
        raise ImageRefusedError("alpha", f"lowest alpha {alpha.min()} of {opaque}")
    return samples[..., :-1]


def _is_gray(samples: Pixels) -> bool:
    """Tell whether R = G = B everywhere, so that (R+G+B)/3 is any one of them."""
    sparse = samples[::_STRIDE, ::_STRIDE]
    return all(
        np.array_equal(some[..., 0], some[..., other])
        for some in (sparse, samples)
        for other in (1, 2)
    )


def _used(indices: Pixels, entries: int) -> npt.NDArray[np.bool_]:
    used = np.zeros(entries, dtype=np.bool_)
    for rows in _row_blocks(indices):
        used |= np.bincount(indices[rows].ravel(), minlength=entries) > 0
    return used


def _row_blocks(plane: Pixels) -> Iterator[slice]:
    step = max(1, _BLOCK // plane.shape[1])
    for start in range(0, plane.shape[0], step):
        yield slice(start, start + step)
