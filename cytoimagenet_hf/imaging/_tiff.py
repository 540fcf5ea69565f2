"""TIFF structure: directories, tags, and what one page holds; every number is checked here.

Own code, because these checks must come before a decoder sees the file: a directory chain that
loops or never ends, tags and strips that point outside of the file, sizes beyond the limits. Pixels
are decoded in _tiffpixels.py.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf.errors import ImageRefusedError
from cytoimagenet_hf.schema import Limits

Numbers = npt.NDArray[np.unsignedinteger]
Tags = dict[int, Numbers]

_MAX_TAGS = 4096  # of a directory
_MAX_TAG_BYTES = 64 << 20  # of one tag; 8 million strips
# Bytes per value by type code; texts and undefined bytes are kept as uint8.
_TYPES = {1: "u1", 2: "u1", 3: "u2", 4: "u4", 7: "u1", 13: "u4", 16: "u8", 18: "u8"}


class Tag(IntEnum):
    """The tags that are read; all others are passed over."""

    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    DESCRIPTION = 270
    STRIP_OFFSETS = 273
    SAMPLES = 277
    STRIP_ROWS = 278
    STRIP_COUNTS = 279
    PLANAR = 284
    PREDICTOR = 317
    COLORS = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_COUNTS = 325
    EXTRA = 338
    FORMAT = 339
    JPEG_TABLES = 347
    DEPTH = 32997


_READ = frozenset(Tag)


@dataclass(frozen=True, slots=True)
class Page:
    """One directory's image; all sizes are checked but not yet held against the limits."""

    height: int
    width: int
    samples: int
    bits: int
    kind: str  # u, i, f; "c" for types that are not read
    compression: int
    photometric: int
    separate: bool  # channels one after another instead of pixel by pixel
    predictor: int
    extra: tuple[int, ...]
    tiled: bool
    rows: int  # of a strip or tile
    columns: int
    offsets: Numbers
    counts: Numbers | None
    colors: Numbers | None
    tables: bytes | None  # what all JPEG segments share


@dataclass(frozen=True, slots=True)
class Layout:
    """Byte order and width of a TIFF's numbers."""

    order: Literal["<", ">"]
    big: bool  # BigTIFF

    def number(self, data: bytes, at: int, code: str) -> int:
        """Read one integer, `code` as in `struct`."""
        (value,) = struct.unpack_from(self.order + code, data, at)
        return int(value)


def directories(data: bytes, limits: Limits) -> tuple[Layout, list[int]]:
    """Return the layout and the place of each directory of the main chain.

    Raises:
        ImageRefusedError: `too large`, more than `limits.pages`; `unreadable`, the chain loops,
            leaves the file or holds nothing.
    """
    layout = Layout("<" if data[:1] == b"I" else ">", data[2:4] in (b"+\0", b"\0+"))
    if layout.big and data[4:8] not in (b"\x08\0\0\0", b"\0\x08\0\0"):
        raise ImageRefusedError("unreadable", "BigTIFF whose offsets are not of 8 bytes")
    width, entry, head, code = (8, 20, 8, "Q") if layout.big else (4, 12, 2, "I")
    at = layout.number(data, width, code)
    found: dict[int, None] = {}
    while at:
        if at in found:
            raise ImageRefusedError("unreadable", f"directories loop at byte {at}")
        if len(found) == limits.pages:
            raise ImageRefusedError("too large", f"more than {limits.pages} pages")
        if at + head > len(data):
            raise ImageRefusedError("unreadable", f"directory at byte {at} of {len(data)}")
        tags = layout.number(data, at, "Q" if layout.big else "H")
        following = at + head + tags * entry
        if tags > _MAX_TAGS or following + width > len(data):
            raise ImageRefusedError("unreadable", f"directory of {tags} tags at byte {at}")
        found[at] = None
        at = layout.number(data, following, code)
    if not found:
        raise ImageRefusedError("unreadable", "TIFF without an image")
    return layout, list(found)


def read_tags(data: bytes, layout: Layout, at: int) -> Tags:
    """Read the known tags of the directory at byte `at`.

    Raises:
        ImageRefusedError: `unreadable`, a tag leaves the file, has no integer type, or stands
            twice (decoders disagree on which one counts).
    """
    head, entry, inline = (8, "HHQ8s", 8) if layout.big else (2, "HHI4s", 4)
    count = layout.number(data, at, "Q" if layout.big else "H")
    one = struct.Struct(layout.order + entry)
    tags: Tags = {}
    for tag, code, values, field in one.iter_unpack(data[at + head : at + head + count * one.size]):
        if tag not in _READ:
            continue
        if tag in tags or code not in _TYPES or values == 0:
            raise ImageRefusedError("unreadable", f"tag {tag} twice, empty, or of type {code}")
        dtype = np.dtype(layout.order + _TYPES[code])
        size = values * dtype.itemsize
        if size > inline:
            start = layout.number(field, 0, "Q" if layout.big else "I")
            if size > _MAX_TAG_BYTES or start + size > len(data):
                raise ImageRefusedError("unreadable", f"tag {tag} of {size} bytes at byte {start}")
            field = data[start : start + size]
        tags[tag] = np.frombuffer(field, dtype=dtype, count=values)
    return tags


def read_page(tags: Tags, size: int) -> Page:
    """Make a page of a directory's tags.

    Args:
        tags: of the directory.
        size: bytes of the file; all pixels must stand inside of it.

    Raises:
        ImageRefusedError: `unreadable`, a needed tag is absent, or tags contradict each other.
    """
    if Tag.WIDTH not in tags or Tag.HEIGHT not in tags:
        raise ImageRefusedError("unreadable", "TIFF page without width or height")
    if _first(tags, Tag.DEPTH, 1) != 1 or _first(tags, Tag.FILL_ORDER, 1) != 1:
        raise ImageRefusedError("unreadable", "TIFF page with ImageDepth or reversed bits")
    height, width = _first(tags, Tag.HEIGHT, 0), _first(tags, Tag.WIDTH, 0)
    tiled = Tag.TILE_WIDTH in tags
    rows, columns = _segment_shape(tags, height, width)
    offsets = tags.get(Tag.TILE_OFFSETS if tiled else Tag.STRIP_OFFSETS)
    if min(height, width, rows, columns) < 1 or offsets is None:
        raise ImageRefusedError("unreadable", f"TIFF page of {height} x {width} without pixels")
    page = Page(
        height=height,
        width=width,
        samples=_first(tags, Tag.SAMPLES, 1),
        bits=_same(tags, Tag.BITS),
        kind={1: "u", 2: "i", 3: "f", 4: "u"}.get(_same(tags, Tag.FORMAT), "c"),
        compression=_first(tags, Tag.COMPRESSION, 1),
        photometric=_first(tags, Tag.PHOTOMETRIC, 1),
        separate=_first(tags, Tag.PLANAR, 1) == 2 and _first(tags, Tag.SAMPLES, 1) > 1,
        predictor=_first(tags, Tag.PREDICTOR, 1),
        extra=tuple(int(value) for value in tags.get(Tag.EXTRA, ())[:8]),
        tiled=tiled,
        rows=rows,
        columns=columns,
        offsets=offsets,
        counts=tags.get(Tag.TILE_COUNTS if tiled else Tag.STRIP_COUNTS),
        colors=tags.get(Tag.COLORS),
        tables=tags[Tag.JPEG_TABLES].tobytes() if Tag.JPEG_TABLES in tags else None,
    )
    _check_segments(page, size)
    return page


def description(tags: Tags) -> bytes:
    """Return the ImageDescription, empty where there is none."""
    return tags[Tag.DESCRIPTION].tobytes() if Tag.DESCRIPTION in tags else b""


def _segment_shape(tags: Tags, height: int, width: int) -> tuple[int, int]:
    """Return rows and columns of a tile or strip; RowsPerStrip may exceed the image."""
    if Tag.TILE_WIDTH in tags:
        return _first(tags, Tag.TILE_HEIGHT, 0), _first(tags, Tag.TILE_WIDTH, 0)
    return min(_first(tags, Tag.STRIP_ROWS, height), height), width


def _check_segments(page: Page, size: int) -> None:
    """Refuse a page whose strips or tiles are too few or don't all stand inside of the file."""
    down, across = -(-page.height // page.rows), -(-page.width // page.columns)
    expected = down * across * (page.samples if page.separate else 1)
    if len(page.offsets) < expected or (page.counts is not None and len(page.counts) < expected):
        raise ImageRefusedError(
            "unreadable", f"{len(page.offsets)} strips or tiles where {expected} are needed"
        )
    if page.counts is None:
        if page.compression != 1:
            raise ImageRefusedError("unreadable", "compressed strips or tiles of unknown size")
        return
    offsets = page.offsets[:expected].astype(np.uint64)
    counts = page.counts[:expected].astype(np.uint64)
    end = np.uint64(size)
    outside = (offsets >= end) | (counts > end - np.minimum(offsets, end)) | (counts == 0)
    if outside.any():
        which = int(outside.argmax())
        raise ImageRefusedError(
            "unreadable",
            f"strip or tile {which} at byte {offsets[which]}, {counts[which]} bytes long, "
            f"in a file of {size} bytes",
        )
    # Blank tiles may share their bytes; otherwise overlaps make a small file take very long.
    most = size + page.height * -(-page.width * page.samples * page.bits // 8)
    if (total := int(counts.sum())) > most:
        raise ImageRefusedError(
            "unreadable", f"strips or tiles overlap: {total} bytes where {most} are possible"
        )


def _first(tags: Tags, tag: Tag, default: int) -> int:
    return int(tags[tag][0]) if tag in tags else default


def _same(tags: Tags, tag: Tag) -> int:
    """Return the value that all channels share (1 where the tag is absent, as TIFF says)."""
    values = tags.get(tag)
    if values is None:
        return 1
    if (values != values[0]).any():
        raise ImageRefusedError("unsupported depth", f"channels differ in tag {int(tag)}")
    return int(values[0])
