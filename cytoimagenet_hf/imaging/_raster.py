"""PNG, JPEG and BMP: files of one plane, read as stored.

JPEG pixels are given as stored: EXIF rotation is ignored, as it would move boxes. PNG grays of 2
and 4 bit come as 0..255 (x 85, x 17). Pillow's classes are called by themselves: `Image.open` would
apply its own, global pixel limit instead of ours.
"""

import io
import logging
import struct
import threading
import warnings
import zlib

import imagecodecs
import numpy as np
from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin

from cytoimagenet_hf.errors import ImageRefusedError
from cytoimagenet_hf.imaging._samples import (
    Header,
    Pixels,
    check_size,
    resolve_palette,
    to_plane,
)
from cytoimagenet_hf.schema import Limits

_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by color type
_TRANSPARENCY = b"tRNS"  # the one ancillary chunk that is kept
_SCAN, _END = b"\xff\xda", b"\xff\xd9"  # markers; compressed data never hold them
_MAX_SCANS = 64  # of a progressive JPEG; each one costs a pass over all pixels
_BMP_UNCOMPRESSED = (0, 3)  # BI_RGB, BI_BITFIELDS

_thread = threading.local()
# imagecodecs logs libpng's warnings (of each interlaced file, for one); ours are not shown.
logging.getLogger("imagecodecs").addFilter(lambda _: not getattr(_thread, "decodes", False))


def png_header(data: bytes, limits: Limits) -> Header:
    """Read the header of a PNG and check it against `limits`."""
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise ImageRefusedError("unreadable", "PNG without IHDR")
    width, height, depth, color = struct.unpack_from(">IIBB", data, 16)
    if color not in _PNG_CHANNELS or depth not in (1, 2, 4, 8, 16):
        raise ImageRefusedError("unreadable", f"PNG of color type {color} and {depth} bit")
    if depth == 1:
        raise ImageRefusedError("binary", "PNG of 1 bit")
    bytes_each = 2 if depth == 16 else 1
    stored = _PNG_CHANNELS[color] + (color in (0, 2, 3))  # tRNS may add an alpha
    check_size(height, width, stored * bytes_each, limits)
    channels = 1 if color in (0, 4) else 3
    return Header("png", height, width, channels, f"uint{8 * bytes_each}")


def read_png(data: bytes, limits: Limits) -> Pixels:
    """Decode a PNG of 2 to 16 bit to a plane."""
    png_header(data, limits)
    _thread.decodes = True
    try:
        return to_plane(imagecodecs.png_decode(_image_chunks(data)))
    finally:
        _thread.decodes = False


def jpeg_header(data: bytes, limits: Limits) -> Header:
    """Read the header of a JPEG and check it against `limits`."""
    with _open_jpeg(data, limits) as image:
        return _header("jpeg", image)


def read_jpeg(data: bytes, limits: Limits) -> Pixels:
    """Decode a gray or RGB JPEG to a plane."""
    with _open_jpeg(data, limits) as image:
        shape = (image.height, image.width, 3)[: 2 if image.mode == "L" else 3]
    check_jpeg(data)
    out = np.zeros(shape, dtype=np.uint8)
    return to_plane(imagecodecs.jpeg8_decode(data, out=out))


def check_jpeg(data: bytes) -> None:
    """Refuse a truncated JPEG, which libjpeg would fill up with gray, and one of endless scans."""
    if data.rfind(_END) < data.rfind(_SCAN) or _END not in data:
        raise ImageRefusedError("unreadable", "truncated JPEG")
    if (scans := data.count(_SCAN)) > _MAX_SCANS:
        raise ImageRefusedError("unreadable", f"JPEG of {scans} scans")


def bmp_header(data: bytes, limits: Limits) -> Header:
    """Read the header of a BMP and check it against `limits`."""
    with _open_bmp(data, limits) as image:
        return _header("bmp", image)


def read_bmp(data: bytes, limits: Limits) -> Pixels:
    """Decode a BMP of 4 to 32 bit, with or without palette, to a plane."""
    with _open_bmp(data, limits) as image:
        if image.mode != "P":
            return to_plane(np.asarray(image))
        palette = image.getpalette("RGB") or []
        colors = np.array(palette, dtype=np.uint8).reshape(-1, 3)
        return to_plane(resolve_palette(np.asarray(image), colors))


def _image_chunks(data: bytes) -> bytes:
    """Return the PNG without chunks that no pixel depends on; texts can expand a thousandfold."""
    kept, at = [data[:8]], 8
    while True:
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + size
        if end > len(data):
            raise ImageRefusedError("unreadable", f"PNG ends inside of a chunk, at byte {at}")
        is_critical = not kind[0] & 0x20
        if is_critical:  # libpng checks these
            kept.append(data[at:end])
        elif kind == _TRANSPARENCY:
            checksum = zlib.crc32(data[at + 4 : end - 4])
            if checksum.to_bytes(4, "big") != data[end - 4 : end]:
                raise ImageRefusedError("unreadable", "tRNS: CRC error")
            kept.append(data[at:end])
        at = end
        if kind == b"IEND":
            return b"".join(kept)


def _open_jpeg(data: bytes, limits: Limits) -> ImageFile.ImageFile:
    with warnings.catch_warnings(action="ignore"):  # of broken EXIF, which is not used
        image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    return _checked(image, limits)


def _open_bmp(data: bytes, limits: Limits) -> ImageFile.ImageFile:
    if len(data) < 34:
        raise ImageRefusedError("unreadable", f"BMP of {len(data)} bytes")
    old = struct.unpack_from("<I", data, 14)[0] == 12  # OS/2: shorter header, never compressed
    bits = struct.unpack_from("<H", data, 24 if old else 28)[0]
    compression = 0 if old else struct.unpack_from("<I", data, 30)[0]
    if bits == 1:
        raise ImageRefusedError("binary", "BMP of 1 bit")
    if compression not in _BMP_UNCOMPRESSED:
        raise ImageRefusedError("unreadable", f"BMP of compression {compression}")
    return _checked(BmpImagePlugin.BmpImageFile(io.BytesIO(data)), limits)


def _checked(image: ImageFile.ImageFile, limits: Limits) -> ImageFile.ImageFile:
    """Check the header that Pillow has read; pixels are decoded later."""
    if image.mode == "1":
        raise ImageRefusedError("binary", "1 bit a pixel")
    if image.mode not in ("L", "P", "RGB", "RGBA"):
        raise ImageRefusedError("unsupported channels", f"colors are stored as {image.mode}")
    stored = {"L": 1, "P": 3}.get(image.mode, 4)  # Pillow holds RGB in 4 bytes
    check_size(image.height, image.width, stored, limits)
    return image


def _header(name: str, image: Image.Image) -> Header:
    channels = 1 if image.mode == "L" else 3
    return Header(name, image.height, image.width, channels, "uint8")
