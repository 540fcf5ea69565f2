"""From an outside file to one plane at native depth.

PNG, TIFF, BMP and JPEG are told by their first bytes, never by their name. A plane is (height,
width), or (height, width, 3) where colors differ; it is uint8, uint16, int16, uint32, int32,
float32 or float64, in native byte order and C-contiguous. On the way
- no bit is lost: int8 widens to int16 and float16 to float32; 64-bit integers are refused;
- palettes become colors; an opaque alpha is dropped, any other refused; so are bi-level images;
- RGB with R = G = B everywhere becomes one channel, equal to (R+G+B)/3: later stages are faster;
- orientation (EXIF, TIFF) is ignored: pixels and boxes are those of the file as stored.
The rules of one format stand in its module: _raster.py (PNG, JPEG, BMP), _tiffpixels.py, _ome.py.

Files are untrusted: each file is opened once, its header is held against `Limits` before anything
is allocated, and whatever is wrong with it ends as an ImageRefusedError with one of these reasons:
missing file, empty file, large-file pointer, unreadable, too large, out of memory, page out of
range, series out of range, box out of range, alpha, binary, unsupported channels, unsupported
depth.
"""

import contextlib
import mmap
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from cytoimagenet_hf.errors import ImageRefusedError
from cytoimagenet_hf.imaging import _raster, _tiffpixels
from cytoimagenet_hf.imaging._samples import Header, Pixels
from cytoimagenet_hf.schema import Limits

__all__ = ["Header", "cut", "probe", "read_plane"]

_LIMITS = Limits()
_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",
    b"MM\0+": "tiff",
    b"BM": "bmp",
    b"\xff\xd8\xff": "jpeg",
}
_READ: dict[str, Callable[[bytes, Limits], Pixels]] = {
    "png": _raster.read_png,
    "jpeg": _raster.read_jpeg,
    "bmp": _raster.read_bmp,
}
_HEADER: dict[str, Callable[[bytes, Limits], Header]] = {
    "png": _raster.png_header,
    "jpeg": _raster.jpeg_header,
    "bmp": _raster.bmp_header,
    "tiff": _tiffpixels.tiff_header,
}
_POINTERS = (b"version https://git-lfs", b"/annex/objects/", b"../.git/annex/", b".git/annex/")
_MAPPED = 64 << 20  # larger files are mapped: one page of a long stack needs little of it
_DETAIL = 200  # characters


def read_plane(path: Path, *, page: int = 0, series: int = 0, limits: Limits = _LIMITS) -> Pixels:
    """Read one plane of an image file.

    Args:
        path: PNG, TIFF, BMP or JPEG.
        page: number of the plane in its series, from 0 (_tiffpixels.py says how they are counted).
        series: number of the image in an OME-TIFF, from 0; other files have one.
        limits: what the file may ask for.

    Returns:
        (height, width) or (height, width, 3), see the module's text.

    Raises:
        ImageRefusedError: the file can't be used; no other error is raised for any file.
    """
    with _refusing(path):
        data, kind = _load(path, limits)
        if kind == "tiff":
            return _tiffpixels.read_tiff(data, page, series, limits)
        if series:
            raise ImageRefusedError("series out of range", f"series {series} of 1")
        if page:
            raise ImageRefusedError("page out of range", f"page {page} of 1")
        return _READ[kind](bytes(data), limits)


def cut(plane: Pixels, box: tuple[int, int, int, int]) -> Pixels:
    """Return the part of a plane inside of a box, as a view.

    Args:
        plane: (height, width) or (height, width, 3).
        box: x_min, y_min, x_max, y_max; 0-based, end-exclusive.

    Raises:
        ImageRefusedError: `box out of range`, the box is empty or leaves the plane.
    """
    x_min, y_min, x_max, y_max = box
    height, width = plane.shape[:2]
    if not (0 <= x_min < x_max <= width and 0 <= y_min < y_max <= height):
        raise ImageRefusedError(
            "box out of range",
            f"box {x_min}, {y_min}, {x_max}, {y_max} in a plane {width} wide and {height} high",
        )
    return plane[y_min:y_max, x_min:x_max]


def probe(path: Path, limits: Limits = _LIMITS) -> Header:
    """Read what a file's header says of its first plane, without decoding.

    Raises:
        ImageRefusedError: the file can't be used, as far as its header tells.
    """
    with _refusing(path):
        data, kind = _load(path, limits)
        return _HEADER[kind](data, limits)


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn every error into a refusal that names the file, in one line.

    Decoders fed with broken files raise nearly anything, so everything but an exit is caught. The
    detail holds the file's name without its folder, as it enters published tables.
    """
    try:
        yield
    except ImageRefusedError as error:
        reason, words = error.reason, error.detail
    except (FileNotFoundError, NotADirectoryError):
        reason, words = _missing(path)
    except MemoryError:
        reason, words = "out of memory", "decoding it takes more than there is"
    except OSError as error:  # of the system, whose own text holds the folder, or of Pillow
        reason, words = "unreadable", error.strerror or str(error)
    except Exception as error:  # whatever a decoder raises
        reason, words = "unreadable", f"{type(error).__name__}: {error}"
    else:
        return
    words = re.sub(r" at 0x[0-9a-fA-F]+", "", " ".join(words.split()))  # addresses differ by run
    raise ImageRefusedError(reason, f"{path.name}: {words}"[:_DETAIL])


def _missing(path: Path) -> tuple[str, str]:
    if path.is_symlink() and "annex/objects" in str(path.readlink()):
        return "large-file pointer", "a git-annex link whose content was not fetched"
    return "missing file", "no such file"


def _load(path: Path, limits: Limits) -> tuple[bytes, str]:
    """Open a file once; return its bytes (mapped, where they are many) and its format."""
    if not stat.S_ISREG(path.stat().st_mode):  # asked first: opening a pipe would wait
        raise ImageRefusedError("missing file", "not a regular file")
    with path.open("rb", buffering=0) as stream:  # with a buffer, reading on costs 20 x
        size = os.fstat(stream.fileno()).st_size
        if size == 0:
            raise ImageRefusedError("empty file", "0 bytes")
        if size > limits.file_bytes:
            raise ImageRefusedError("too large", f"{size} bytes, more than {limits.file_bytes}")
        start = stream.read(32)
        kind = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)
        if kind is None:
            raise _unknown(start)
        if size > _MAPPED:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            return cast("bytes", mapped), kind  # slices of it are bytes
        stream.seek(0)
        return stream.read(), kind


def _unknown(start: bytes) -> ImageRefusedError:
    if start.startswith(_POINTERS):
        return ImageRefusedError(
            "large-file pointer", "fetch the content (git lfs pull, annex get)"
        )
    return ImageRefusedError(
        "unreadable", f"starts with {start[:8]!r}; PNG, TIFF, BMP and JPEG are read"
    )
