"""TIFF pixels: from a page to one plane.

`page` counts the planes of a series: in OME-TIFF in the order of its dimensions, in ImageJ stacks
of one directory the slices, else all directories of the file, whatever they show. Only OME-TIFF has
more than one series.

Values stay as stored (10, 12, 14 bit: the integers in uint16; gray of 2 to 7 bit: in uint8), with
one exception: WhiteIsZero is inverted (value -> maximum - value), so that more is brighter. The
Orientation tag is ignored, as it would move boxes.

libtiff decodes (imagecodecs.tiff_decode, into an array of the size that was checked). Speed on real
files, opening included, against Pillow and tifffile: LZW 1.2 and 1.9, raw 3.9 and 4.1, deflate 4.8
and 1.4, deflate with predictor 1.8 and 0.8, PackBits 1.5 and 1.9, a 40 x 40 file 1.8 and 1.7. It is
not used for packed bits, which it doesn't unpack, nor for JPEG, where its colors differ from those
of JPEG files.
"""

import itertools
import re
from collections.abc import Callable

import imagecodecs
import numpy as np

from cytoimagenet_hf.errors import ImageRefusedError
from cytoimagenet_hf.imaging._ome import Series, ome_series
from cytoimagenet_hf.imaging._raster import check_jpeg
from cytoimagenet_hf.imaging._samples import (
    Header,
    Pixels,
    check_size,
    palette_colors,
    plane_dtype,
    resolve_palette,
    to_plane,
)
from cytoimagenet_hf.imaging._tiff import (
    Layout,
    Page,
    description,
    directories,
    read_page,
    read_tags,
)
from cytoimagenet_hf.schema import Limits

_RAW, _LZW, _JPEG, _PACKBITS, _ZSTD = 1, 5, 7, 32773, 50000
_DEFLATE = (8, 32946)
_COMPRESSIONS = (_RAW, _LZW, _JPEG, *_DEFLATE, _PACKBITS, _ZSTD)
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _MASK, _YCBCR = 0, 1, 2, 3, 4, 6
_JFIF_WITHIN = 64  # bytes from the start of a JPEG
_ALPHA = ((1,), (2,))  # ExtraSamples: associated, unassociated
_WHOLE = {
    ("u", 8): "uint8",
    ("u", 16): "uint16",
    ("u", 32): "uint32",
    ("i", 8): "int8",
    ("i", 16): "int16",
    ("i", 32): "int32",
    ("f", 16): "float16",
    ("f", 32): "float32",
    ("f", 64): "float64",
}


def read_tiff(data: bytes, page: int, series: int, limits: Limits) -> Pixels:
    """Decode one plane of a TIFF or BigTIFF."""
    layout, found = directories(data, limits)
    first = read_tags(data, layout, found[0])
    places, planes = _series(description(first), len(found), limits)
    if not 0 <= series < len(planes):
        raise ImageRefusedError("series out of range", f"series {series} of {len(planes)}")
    if not 0 <= page < planes[series]:
        raise ImageRefusedError("page out of range", f"page {page} of {planes[series]}")
    if not places:
        stored = _checked(read_page(first, len(data)), limits)
        return to_plane(_shown(_slice(data, stored, layout, page), stored))
    at = places[series].get(page)
    if at is None:
        raise ImageRefusedError("page out of range", f"page {page} does not stand in this file")
    stored = _checked(read_page(read_tags(data, layout, found[at]), len(data)), limits)
    return to_plane(_shown(_decode(data, stored, at), stored))


def tiff_header(data: bytes, limits: Limits) -> Header:
    """Read and check the header of a TIFF's first plane."""
    layout, found = directories(data, limits)
    first = read_tags(data, layout, found[0])
    places, planes = _series(description(first), len(found), limits)
    at = places[0].get(0, 0) if places else 0
    page = _checked(read_page(read_tags(data, layout, found[at]), len(data)), limits)
    channels = 1 if page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) else 3
    dtype = _colors(page).dtype.name if page.photometric == _PALETTE else _dtype(page)
    shape = page.height, page.width, channels
    return Header("tiff", *shape, plane_dtype(dtype), planes[0], len(planes))


def _series(text: bytes, found: int, limits: Limits) -> tuple[Series, list[int]]:
    """Return the directory of each plane, and the planes of each series.

    No directories at all are given for an ImageJ stack whose slices follow one directory.
    """
    if found == 1 and text.startswith(b"ImageJ="):
        images = re.search(rb"^images=(\d{1,9})\s*$", text, re.MULTILINE)
        if images and int(images[1]) > 1:
            return [], [int(images[1])]
    return ome_series(text, found, limits) or ([{at: at for at in range(found)}], [found])


def _checked(page: Page, limits: Limits) -> Page:
    """Refuse what is not read, and what is larger than `limits`."""
    if page.photometric == _MASK or (page.bits == 1 and page.samples == 1):
        raise ImageRefusedError("binary", f"TIFF of {page.bits} bit")
    if page.compression not in _COMPRESSIONS:
        raise ImageRefusedError(
            "unreadable",
            f"TIFF compression {page.compression}; none, LZW, JPEG, deflate, PackBits and "
            f"zstd are read",
        )
    _check_channels(page)
    dtype = np.dtype(plane_dtype(_dtype(page)))
    if page.photometric == _WHITE_IS_ZERO and dtype.kind != "u":
        raise ImageRefusedError("unreadable", f"WhiteIsZero with {dtype}")
    channels = page.samples
    if page.photometric == _PALETTE:
        channels, dtype = 3, _colors(page).dtype
    check_size(page.height, page.width, channels * dtype.itemsize, limits)
    check_size(page.rows, page.columns, channels * dtype.itemsize, limits)
    return page


def _check_channels(page: Page) -> None:
    samples = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _YCBCR: 3}
    expected = samples.get(page.photometric, 0)
    with_alpha = page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB) and page.extra in _ALPHA
    if page.samples != expected + with_alpha or not expected:
        raise ImageRefusedError(
            "unsupported channels",
            f"{page.samples} channels of photometric {page.photometric}, extra {page.extra}",
        )
    if page.photometric == _YCBCR and page.compression != _JPEG:
        raise ImageRefusedError("unsupported channels", "YCbCr without JPEG")
    if page.compression == _JPEG and (page.separate or with_alpha):
        raise ImageRefusedError("unsupported channels", "JPEG with alpha or separate channels")


def _dtype(page: Page) -> str:
    """Name the type that a page decodes to, before widening."""
    whole = _WHOLE.get((page.kind, page.bits))
    needs_bytes = page.compression == _JPEG
    if whole and (not needs_bytes or whole == "uint8"):
        return whole
    packed = page.kind == "u" and page.samples == 1 and 1 < page.bits < 16
    if packed and page.predictor == 1 and not needs_bytes:
        return "uint8" if page.bits < 8 else "uint16"
    raise ImageRefusedError(
        "unsupported depth",
        f"{page.bits} bit of kind {page.kind}, {page.samples} channels, predictor "
        f"{page.predictor}, compression {page.compression}",
    )


def _colors(page: Page) -> Pixels:
    """Return the palette as (entries, 3)."""
    colors = page.colors
    if colors is None or page.kind != "u" or len(colors) != 3 << page.bits:
        raise ImageRefusedError("unreadable", "TIFF palette absent or of another length")
    return palette_colors(colors.reshape(3, -1).T.astype(np.uint16))


def _shown(pixels: Pixels, page: Page) -> Pixels:
    """Resolve the palette; invert WhiteIsZero."""
    if page.photometric == _PALETTE:
        return resolve_palette(pixels, _colors(page))
    if page.photometric == _WHITE_IS_ZERO:
        gray = pixels[..., 0] if pixels.ndim == 3 else pixels
        np.subtract((1 << page.bits) - 1, gray, out=gray)
    return pixels


def _decode(data: bytes, page: Page, index: int) -> Pixels:
    """Decode the page that stands in directory `index`."""
    if page.compression == _JPEG:
        return _by_segment(data, page, _jpeg)
    if (page.kind, page.bits) not in _WHOLE:
        return _by_segment(data, page, _unpack)
    shape: tuple[int, ...] = (page.height, page.width)
    if page.samples > 1:
        shape = (page.samples, *shape) if page.separate else (*shape, page.samples)
    out = np.zeros(shape, dtype=_dtype(page))
    pixels: Pixels = imagecodecs.tiff_decode(data, index=index, out=out)
    return np.moveaxis(pixels, 0, -1) if page.separate else pixels


def _slice(data: bytes, page: Page, layout: Layout, number: int) -> Pixels:
    """Read slice `number` of an ImageJ stack: raw, each one after the one before."""
    dtype = np.dtype(_dtype(page)).newbyteorder(layout.order)
    if page.compression != _RAW or page.samples != 1 or (page.kind, page.bits) not in _WHOLE:
        raise ImageRefusedError("unreadable", "ImageJ stack that is not raw gray")
    pixels = page.height * page.width
    start = int(page.offsets[0]) + number * pixels * dtype.itemsize
    raw = data[start : start + pixels * dtype.itemsize]
    plane = np.frombuffer(raw, dtype=dtype, count=pixels)
    return plane.reshape(page.height, page.width).astype(dtype.newbyteorder("="))


def _by_segment(data: bytes, page: Page, decode: Callable[[bytes, Page, int], Pixels]) -> Pixels:
    """Put a page together of its strips or tiles, each decoded by `decode(bytes, page, rows)`."""
    shape = (page.height, page.width) if page.samples == 1 else (page.height, page.width, 3)
    pixels = np.zeros(shape, dtype=_dtype(page))
    places = itertools.product(range(0, page.height, page.rows), range(0, page.width, page.columns))
    for number, (y, x) in enumerate(places):
        rows = page.rows if page.tiled else min(page.rows, page.height - y)
        start = int(page.offsets[number])
        raw = rows * -(-page.columns * page.bits // 8)
        stop = start + (raw if page.counts is None else int(page.counts[number]))
        part = pixels[y : y + rows, x : x + page.columns]
        part[...] = decode(data[start:stop], page, rows)[: part.shape[0], : part.shape[1]]
    return pixels


def _jpeg(segment: bytes, page: Page, rows: int) -> Pixels:
    """Decode one JPEG strip or tile."""
    check_jpeg(segment)
    color = page.samples == 3
    # RGB without a JFIF marker is stored as RGB; libjpeg would take it for YCbCr.
    as_rgb = page.photometric == _RGB and b"JFIF" not in segment[:_JFIF_WITHIN]
    shape = (rows, page.columns, 3) if color else (rows, page.columns)
    decoded: Pixels = imagecodecs.jpeg8_decode(
        segment,
        tables=page.tables,
        colorspace="RGB" if as_rgb else None,
        outcolorspace="RGB" if color else None,
        out=np.zeros(shape, dtype=np.uint8),
    )
    return decoded


def _unpack(segment: bytes, page: Page, rows: int) -> Pixels:
    """Decompress one strip or tile of packed bits, to no more bytes than it may hold."""
    size = rows * -(-page.columns * page.bits // 8)  # each row begins on a byte
    packed: bytes | bytearray = segment[:size]
    if page.compression == _LZW:
        packed = imagecodecs.lzw_decode(segment, out=size)
    elif page.compression == _PACKBITS:
        packed = imagecodecs.packbits_decode(segment, out=size)
    elif page.compression == _ZSTD:
        packed = imagecodecs.zstd_decode(segment, out=size)
    elif page.compression in _DEFLATE:
        packed = imagecodecs.zlib_decode(segment, out=size)
    if len(packed) < size:
        raise ImageRefusedError("unreadable", f"strip or tile of {len(packed)} of {size} bytes")
    flat: Pixels = imagecodecs.packints_decode(packed, _dtype(page), page.bits, runlen=page.columns)
    return flat.reshape(rows, page.columns)
