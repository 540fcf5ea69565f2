"""Rendering one record: raw planes in, rows with stretched crops and hashes out."""

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf import hashing
from cytoimagenet_hf.curation.jobs import PlaneJob, RecordJob
from cytoimagenet_hf.curation.parameters import Parameters
from cytoimagenet_hf.errors import ImageRefusedError
from cytoimagenet_hf.imaging import png, windows
from cytoimagenet_hf.imaging.intensity import normalize
from cytoimagenet_hf.imaging.readers import cut, probe, read_plane
from cytoimagenet_hf.imaging.resize import shrink

_THUMBNAIL = 96  # pixels, longest side of the picture kept of a refused window
_PLANES_KEPT = 2  # decoded planes kept, as the cells of one image follow each other


def render_record(
    record: RecordJob,
    plane_of: Callable[[PlaneJob], npt.NDArray[Any]],
    sha256_of: Callable[[str], str],
    parameters: Parameters,
) -> list[dict[str, Any]]:
    """Render one record to rows of `SCHEMA` (all but `stamp`).

    Args:
        record: what to render.
        plane_of: reads a plane; may raise ImageRefusedError.
        sha256_of: hashes a raw file by its path.
        parameters: thresholds and seed.
    """
    base: dict[str, Any] = {"idx": record.id, "wanted": record.wanted}
    try:
        base["source_sha256"] = source_sha256(record.planes, sha256_of)
        crops = cut_record(record, plane_of, parameters)
    except ImageRefusedError as refused:
        return [{**base, "window": "", "reason": refused.reason, "detail": refused.detail}]
    except MemoryError:
        return [{**base, "window": "", "reason": "out of memory", "detail": record.planes[0].path}]
    boxed = record.planes[0].box
    return [{**base, **_crop_row(crop, boxed, parameters)} for crop in crops]


def cut_record(
    record: RecordJob, plane_of: Callable[[PlaneJob], npt.NDArray[Any]], parameters: Parameters
) -> list[windows.Crop]:
    """Normalize one record and cut its windows.

    Raises:
        ImageRefusedError: the record can't be used at all.
    """
    rules = parameters.rules()

    def planes() -> Iterator[tuple[str, npt.NDArray[Any]]]:
        for one in record.planes:  # one after another, so that a single one is held
            pixels = plane_of(one)
            height, width = pixels.shape[:2]
            windows.check_size(height, width, rules)
            yield one.stain, pixels
            del pixels

    plane = normalize(planes(), count=len(record.planes), percents=parameters.percents)
    if record.planes[0].box:
        return [windows.whole_record(plane, rules)]
    return windows.crop_record(plane, record.id, record.wanted, rules)


def source_sha256(planes: Iterable[PlaneJob], sha256_of: Callable[[str], str]) -> str:
    """Identify a record by the bytes of its files and where in them it lies (design 3)."""
    state = hashlib.sha256()
    for plane in planes:
        box = ",".join(map(str, plane.box)) if plane.box else ""
        state.update(f"{sha256_of(plane.path)} {plane.series} {plane.page} {box}\n".encode())
    return state.hexdigest()


def _crop_row(
    crop: windows.Crop, boxed: tuple[int, int, int, int] | None, parameters: Parameters
) -> dict[str, Any]:
    window = crop.window
    x_min, y_min, x_max, y_max = boxed or window.box
    row: dict[str, Any] = {
        "window": window.name,
        "order": window.order,
        "reason": crop.reason,
        "detail": "" if not crop.reason else f"contrast {crop.contrast:.2f}",
        "contrast": crop.contrast,
        "crop": window.scale != 1,
        "scaling": 1 / window.scale,
        "x_min": x_min,
        "x_max": x_max,
        "y_min": y_min,
        "y_max": y_max,
    }
    if crop.pixels is None:
        return row
    if crop.reason:
        return {**row, "thumbnail": png.encode(shrink(crop.pixels, _THUMBNAIL))}
    columns = _image_columns(crop.pixels)
    small = shrink(crop.pixels, parameters.small_side)
    small_columns = columns if small is crop.pixels else _image_columns(small)
    return row | columns | {f"small_{name}": value for name, value in small_columns.items()}


def _image_columns(pixels: npt.NDArray[np.uint8]) -> dict[str, Any]:
    return {
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "pixel_sha256": hashing.pixel_sha256(pixels),
        "png": png.encode(pixels),
    }


class RawReader:
    """Reads and hashes raw files under one root; the last planes and all hashes are kept."""

    def __init__(self, root: Path, parameters: Parameters) -> None:
        self._root = root
        self._limits = parameters.limits()
        self._decode = functools.lru_cache(_PLANES_KEPT)(self._decode_file)
        self.sha256 = functools.cache(self._hash)

    def plane(self, job: PlaneJob) -> npt.NDArray[Any]:
        """Read one plane, cut to its box."""
        if job.box is None:
            return self._decode_file(job.path, job.page, job.series)
        return cut(self._decode(job.path, job.page, job.series), job.box)

    def pixels(self, record: RecordJob) -> int:
        """Pixels of all planes of a record, by their headers."""
        total = 0
        for plane in record.planes:
            with contextlib.suppress(ImageRefusedError):
                header = probe(self._root / plane.path, limits=self._limits)
                total += header.width * header.height
        return total

    def _decode_file(self, path: str, page: int, series: int) -> npt.NDArray[Any]:
        pixels: npt.NDArray[Any] = read_plane(
            self._root / path, page=page, series=series, limits=self._limits
        )
        return pixels

    def _hash(self, path: str) -> str:
        try:
            return hashing.sha256_file(self._root / path)
        except FileNotFoundError:
            raise ImageRefusedError("missing file", path) from None
        except OSError as error:
            raise ImageRefusedError("unreadable", f"{path}: {error.strerror}") from None
