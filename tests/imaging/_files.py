"""Image files for the reader's tests, written by libraries that the reader doesn't decode with.

tifffile, OpenCV and Pillow write what they can; what none of them writes (Adam7, packed 12 bit,
broken structure) is put together from bytes here, after the formats' specifications.
"""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from cytoimagenet_hf.errors import ImageRefusedError
from cytoimagenet_hf.imaging.readers import read_plane

_TYPE_SIZES = {1: "B", 2: "B", 3: "H", 4: "I", 16: "Q"}
_ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)


def ramp(dtype="uint8", height=7, width=9, *, start=0, step=1) -> np.ndarray:
    """Values start, start + step, ... row by row (wrapping as the type does)."""
    values = start + step * np.arange(height * width, dtype=np.int64)
    return values.astype(dtype).reshape(height, width)


def colors(dtype="uint8", height=7, width=9) -> np.ndarray:
    """(height, width, 3) whose channels differ."""
    top = int(np.iinfo(dtype).max)
    red = ramp(dtype, height, width, step=max(1, top // 64))
    return np.stack([red, top - red, red // 2], axis=-1)


def tiff(pixels: np.ndarray, **options) -> bytes:
    """Write with tifffile."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


def pages(*planes: np.ndarray, **options) -> bytes:
    """Write each plane to its own directory with tifffile."""
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream, **options) as writer:
        for plane in planes:
            writer.write(plane, contiguous=False, photometric="minisblack", metadata=None)
    return stream.getvalue()


def ome(*series: tuple[np.ndarray, str]) -> bytes:
    """Write an OME-TIFF of several images with tifffile; each is (pixels, axes)."""
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream, ome=True) as writer:
        for pixels, axes in series:
            writer.write(pixels, photometric="minisblack", metadata={"axes": axes})
    return stream.getvalue()


def opencv(ending: str, pixels: np.ndarray, *options: int) -> bytes:
    """Write with OpenCV; colors are given as RGB(A)."""
    if pixels.ndim == 3:
        order = [2, 1, 0, 3][: pixels.shape[2]]
        pixels = np.ascontiguousarray(pixels[..., order])
    done, data = cv2.imencode(ending, pixels, list(options))
    if not done:
        raise ValueError(f"OpenCV did not write {ending}")
    return data.tobytes()


def opencv_read(data: bytes) -> np.ndarray:
    """Read with OpenCV as stored; colors come as RGB."""
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return pixels[..., ::-1] if pixels.ndim == 3 else pixels


def pillow(ending: str, pixels: np.ndarray | Image.Image, **options) -> bytes:
    """Write with Pillow."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, ending, **options)
    return stream.getvalue()


def paletted(indices: np.ndarray, entries: list[tuple[int, int, int]]) -> Image.Image:
    """Make a Pillow image of mode P."""
    image = Image.fromarray(indices, mode="P")
    image.putpalette([value for entry in entries for value in entry])
    return image


def raw_tiff(
    tags: dict[int, tuple[int, list[int]]], data: bytes, *, order="<", following=0
) -> bytes:
    """Put a classic TIFF of one directory together from bytes.

    Args:
        tags: tag -> (type, values); StripOffsets points at `data` where it isn't given.
        data: all pixels, as one strip.
        order: byte order.
        following: where the next directory is said to be.
    """
    tags = dict(sorted({273: (4, [8]), **tags}.items()))
    at = 8 + len(data) + len(data) % 2
    extra_at = at + 2 + 12 * len(tags) + 4
    entries, extra = b"", b""
    for tag, (kind, values) in tags.items():
        packed = struct.pack(f"{order}{len(values)}{_TYPE_SIZES[kind]}", *values)
        field = packed.ljust(4, b"\0")
        if len(packed) > 4:
            field = struct.pack(f"{order}I", extra_at + len(extra))
            extra += packed
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + field
    head = b"II*\0" if order == "<" else b"MM\0*"
    directory = struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", following)
    padding = b"\0" * (len(data) % 2)
    return head + struct.pack(f"{order}I", at) + data + padding + directory + extra


def gray_tags(height: int, width: int, size: int, *, bits=8, **changes) -> dict:
    """Tags of one gray strip; `changes` are t<tag>=(type, values)."""
    tags = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits]),
        259: (3, [1]),
        262: (3, [1]),
        277: (3, [1]),
        278: (4, [height]),
        279: (4, [size]),
    }
    return tags | {int(name[1:]): value for name, value in changes.items()}


def pack_bits(plane: np.ndarray, bits: int) -> bytes:
    """Pack each row's values to `bits` bits, the highest first; rows begin on bytes (TIFF 6)."""
    rows = []
    for row in plane.tolist():
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows.append(int(text, 2).to_bytes(len(text) // 8, "big"))
    return b"".join(rows)


def chunk(kind: bytes, data: bytes) -> bytes:
    """One PNG chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(height: int, width: int, depth: int, color: int, rows: bytes, *, adam7=False) -> bytes:
    """Put a PNG together from its filtered rows."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, int(adam7))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def interlaced_png(plane: np.ndarray) -> bytes:
    """A gray 16-bit PNG in the seven passes of Adam7, unfiltered."""
    rows = b""
    for top, left, down, across in _ADAM7:
        part = plane[top::down, left::across]
        if part.size:
            rows += b"".join(b"\0" + row.astype(">u2").tobytes() for row in part)
    return raw_png(*plane.shape, 16, 0, rows, adam7=True)


def write(folder: Path, data: bytes, name: str = "file.bin") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def refusal(path: Path, **options) -> tuple[str, str]:
    """Read and return (reason, detail) of the refusal."""
    with pytest.raises(ImageRefusedError) as caught:
        read_plane(path, **options)
    return caught.value.reason, caught.value.detail
