"""A small PNG writer for 8-bit gray crops: several times faster than general ones, same size.

Microscopy noise holds no repeated strings, so matching them only burns time: each row is filtered
to differences with its left neighbor ("sub") and deflated with the run-length strategy. Nearly
empty crops are the exception and are deflated with the default strategy, which is cheap there.
"""

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

_deflate: Any
try:
    from zlib_ng import zlib_ng as _deflate  # several times faster at the same strategy

    ENGINE = "zlib-ng"
except ImportError:  # no wheel for this platform
    _deflate, ENGINE = zlib, "zlib"

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SUB = 1  # filter type: difference to the left neighbor
_TINY = 0.05  # share of the raw size under which runs are long and matching pays


def encode(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Encode a crop as an 8-bit gray PNG.

    Args:
        pixels: (height, width) uint8, at least one pixel.

    Returns:
        The bytes of the file. They depend on the deflate library; the pixels never do.

    Raises:
        ValueError: another shape or dtype.
    """
    if pixels.ndim != 2 or pixels.dtype != np.uint8 or pixels.size == 0:
        raise ValueError(f"need (height, width) uint8, got {pixels.shape} {pixels.dtype}")
    height, width = pixels.shape
    rows = np.empty((height, width + 1), np.uint8)
    rows[:, 0] = _SUB
    rows[:, 1] = pixels[:, 0]
    np.subtract(pixels[:, 1:], pixels[:, :-1], out=rows[:, 2:])
    raw = rows.tobytes()
    body = _compress(raw, zlib.Z_RLE, level=1)
    if len(body) < _TINY * len(raw):
        body = min(body, _compress(raw, zlib.Z_DEFAULT_STRATEGY, level=6), key=len)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _compress(raw: bytes, strategy: int, *, level: int) -> bytes:
    state = _deflate.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS, 9, strategy)
    return bytes(state.compress(raw) + state.flush())


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
