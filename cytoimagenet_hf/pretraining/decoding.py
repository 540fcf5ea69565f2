"""From encoded images to gray squares: exactly Pillow's pixels, faster where a file allows it.

Files come from anybody: formats are named, sizes are bounded, and nothing that fails ends a run.
"""

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from cytoimagenet_hf.pretraining.config import TrainConfig
from cytoimagenet_hf.schema import Limits

_Bytes = npt.NDArray[np.uint8]

_inflate: Any
try:
    from zlib_ng import zlib_ng as _inflate
except ImportError:  # no wheel for this platform
    _inflate = zlib

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")  # not EPS: Pillow runs a program for it
# Signature, and a header of the one kind that has a short way: 8-bit gray, not interlaced.
_HEADER = struct.Struct(">8sI4sIIBBBBBI")
_PEEKED = 4  # rows
_SIGNATURE, _KIND = b"\x89PNG\r\n\x1a\n", (8, 0, 0, 0, 0)


class Batch(NamedTuple):
    """Images of one step and process."""

    images: torch.Tensor  # (n, 1, size, size) uint8
    labels: torch.Tensor  # (n,) int64
    rows: torch.Tensor  # (n,) int64, row numbers in the split; -1 when streaming
    bad: tuple[str, ...] = ()  # rows that nobody could decode, and why


def decode_batch(
    images: Sequence[Mapping[str, Any] | None],
    labels: Sequence[int],
    numbers: Sequence[int],
    config: TrainConfig,
) -> Batch:
    """Decode and resize images; those that nobody can decode are left out and named.

    Args:
        images: {bytes, path} as `datasets` stores them; where there are no bytes the path is read.
        labels: of each.
        numbers: of their rows.
        config: of the run.
    """
    pixels, kept, bad = [], [], []
    for at, image in enumerate(images):
        try:
            pixels.append(decode(_encoded(image), config.image_size))
            kept.append(at)
        except Exception as error:  # decoders raise all kinds on damaged bytes; the run lives on
            if _is_of_the_machine(error):
                raise
            path = (image or {}).get("path")
            bad.append(f"row {numbers[at]}{f' ({path})' if path else ''}: {_why(error)}")
    size = config.image_size
    stacked = np.stack(pixels) if pixels else np.zeros((0, size, size), np.uint8)
    return Batch(
        torch.from_numpy(stacked[:, None]),
        torch.tensor([labels[at] for at in kept], dtype=torch.int64),
        torch.tensor([numbers[at] for at in kept], dtype=torch.int64),
        tuple(bad),
    )


def _is_of_the_machine(error: Exception) -> bool:
    """Tell a failing disk or full memory from a bad row: what fails now may be there later.

    Pillow's errors of damaged files are OSErrors without a number; a file that is absent is a row's
    own fault.
    """
    if isinstance(error, MemoryError):
        return True
    is_numbered = isinstance(error, OSError) and error.errno is not None
    return is_numbered and not isinstance(error, FileNotFoundError | IsADirectoryError)


def decode(encoded: bytes, size: int) -> _Bytes:
    """Decode an image to gray and resize it to a square, aspect ratio ignored.

    The resizing is Pillow's antialiased bilinear one: what the exported model's own preprocessing
    does, so that its numbers are those of validation. Color is averaged over channels (paper 2.2).

    Returns:
        (size, size) uint8.
    """
    known = _plain_png(encoded)
    if known is not None:
        gray = Image.fromarray(known)
    else:
        with Image.open(io.BytesIO(encoded), formats=_FORMATS) as image:
            if image.width * image.height > Limits().pixels:
                raise ValueError(f"{image.width} x {image.height} pixels are too many")
            _refuse_more_than_bytes(image)
            gray = image.convert("L") if image.mode in ("1", "L") else _gray(image)
    if gray.size != (size, size):
        gray = gray.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(gray)


def _why(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its own words are an address in memory
        return f"no image of a known format ({', '.join(_FORMATS)})"
    return f"{type(error).__name__}: {error}"


def _encoded(image: Mapping[str, Any] | None) -> bytes:
    """Take the bytes of a row, or read its file (image folders hold paths)."""
    if image is None:
        raise ValueError("no image")
    if image["bytes"] is not None:
        return bytes(image["bytes"])
    from datasets.utils.file_utils import xopen  # also members of archives, and remote files

    with xopen(image["path"], "rb") as stream:
        return bytes(stream.read())


def _refuse_more_than_bytes(image: Any) -> None:  # noqa: ANN401 - a file opened by Pillow
    """Refuse more than 8 bits a channel: Pillow cuts the upper ones of gray, the lower of color."""
    is_deep = image.mode.startswith(("I", "F"))
    if image.format == "PNG":
        is_deep |= str(image.tile[0].args).endswith(";16B")
    elif image.format == "TIFF":
        is_deep |= max(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) > 8
    if is_deep:
        raise ValueError(
            f"not an 8-bit image ({image.format}, more bits a channel): scale its values to "
            f"0..255 first"
        )


def _gray(image: Image.Image) -> Image.Image:
    mean = np.asarray(image.convert("RGB"), np.float32).mean(axis=-1)
    return Image.fromarray(np.rint(mean).astype(np.uint8))


def _plain_png(encoded: bytes) -> _Bytes | None:
    """Decode an 8-bit gray PNG whose rows all have the filter none, left or above; else None.

    With one filter for all rows (imaging/png.py writes them so) undoing it is one cumulative sum.
    For the others nothing that was tried is faster than Pillow.

    Raises:
        ValueError, zlib.error: the file is damaged.
    """
    if len(encoded) < _HEADER.size:
        return None
    signature, length, name, width, height, *kind, _ = _HEADER.unpack_from(encoded)
    if (signature, length, name, tuple(kind)) != (_SIGNATURE, 13, b"IHDR", _KIND):
        return None
    if not 0 < width * height <= Limits().pixels:
        raise ValueError(f"{width} x {height} pixels")
    body = _only_pixels(encoded)
    if body is None:
        return None
    state = _inflate.decompressobj()
    start = state.decompress(body, _PEEKED * (width + 1))
    if not start or start[0] > 2 or set(start[:: width + 1]) != {start[0]}:
        return None  # most of such files are told by their first rows
    size = height * (width + 1)
    raw = start + state.decompress(state.unconsumed_tail, max(size - len(start), 0) + 1)
    if len(raw) != size or not state.eof:
        return None  # Pillow says what is wrong with it, if anything
    rows = np.frombuffer(raw, np.uint8).reshape(height, width + 1)
    first = int(rows[0, 0])
    if (rows[:, 0] != first).any():
        return None
    if first == 0:
        return np.ascontiguousarray(rows[:, 1:])
    return np.cumsum(rows[:, 1:], axis=2 - first, dtype=np.uint8)


def _only_pixels(encoded: bytes) -> bytes | None:
    """Join the pixel chunks of a file that holds nothing else behind its header; else None."""
    parts: list[bytes] = []
    at = _HEADER.size
    if zlib.crc32(encoded[12:29]) != int.from_bytes(encoded[29:33], "big"):
        return None
    while at + 12 <= len(encoded):
        size, name = struct.unpack_from(">I4s", encoded, at)
        end = at + 8 + size
        if zlib.crc32(encoded[at + 4 : end]) != int.from_bytes(encoded[end : end + 4], "big"):
            return None
        if name == b"IEND":
            return b"".join(parts) if end + 4 == len(encoded) else None
        if name != b"IDAT":
            return None
        parts.append(encoded[at + 8 : end])
        at = end + 4
    return None
