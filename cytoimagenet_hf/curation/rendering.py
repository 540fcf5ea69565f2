"""Rendering: the planned records of a chunk of fields become stretched crops with hashes.

The only stage that touches pixels. A chunk is an Arrow file with one row a window, kept or
refused, and one for a record that can't be used at all. Rows carry no label, so that after a new
plan those of windows still wanted are used again.
"""

import contextlib
import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cytoimagenet_hf import __version__, files, hashing
from cytoimagenet_hf.curation.engine import Guard
from cytoimagenet_hf.curation.parameters import Parameters
from cytoimagenet_hf.errors import BuildError, ImageRefusedError
from cytoimagenet_hf.imaging import png, windows
from cytoimagenet_hf.imaging.intensity import normalize
from cytoimagenet_hf.imaging.readers import cut, probe, read_plane
from cytoimagenet_hf.imaging.resize import shrink

# CPU time of a record before its worker is ended (design 5).
_FIELD_SECONDS = 5.0
_PIXELS_A_SECOND = 1 << 21
_PATIENCE = 4  # times as much when it is tried alone

_THUMBNAIL = 96  # pixels, longest side of the picture kept of a refused window
_OPEN_CHUNKS = 64  # rendered files mapped at a time
_PLANES_KEPT = 2  # decoded planes kept, as the cells of one image follow each other

SCHEMA = pa.schema(
    [
        ("idx", pa.string()),
        ("stamp", pa.string()),  # of the raw files' paths, sizes and times: tells if it is stale
        ("wanted", pa.int8()),  # windows that were asked for
        ("window", pa.string()),  # empty: the whole record was refused
        ("order", pa.int8()),  # how many windows of the record come before
        ("reason", pa.string()),  # empty: kept
        ("detail", pa.string()),
        ("contrast", pa.float32()),
        ("crop", pa.bool_()),
        ("scaling", pa.float32()),
        *((name, pa.int32()) for name in ("x_min", "x_max", "y_min", "y_max")),
        ("source_sha256", pa.string()),
        *(
            one
            for config in ("", "small_")
            for one in (
                (f"{config}height", pa.int32()),
                (f"{config}width", pa.int32()),
                (f"{config}pixel_sha256", pa.string()),
                (f"{config}png", pa.large_binary()),
            )
        ),
        ("thumbnail", pa.large_binary()),  # PNG of a refused window
    ]
)
_SIGNATURE = b"cytoimagenet_hf signature"
_PARAMETERS = b"cytoimagenet_hf parameters"
_CONTENT = b"cytoimagenet_hf content"


@dataclass(frozen=True, slots=True)
class PlaneJob:
    """One plane to read."""

    path: str
    stain: str
    page: int
    series: int
    box: tuple[int, int, int, int] | None


@dataclass(frozen=True, slots=True)
class RecordJob:
    """One record to render and how many windows are wanted of it."""

    id: str
    planes: tuple[PlaneJob, ...]
    wanted: int


@dataclass(frozen=True, slots=True)
class ChunkJob:
    """The planned records of consecutive fields of one source."""

    name: str  # "bbbc022-00003"
    root: Path
    records: tuple[RecordJob, ...]
    parameters: Parameters
    to: Path
    lost: tuple[tuple[str, str], ...] = ()  # (record, reason): killed its worker twice, refuse it
    patient: frozenset[str] = frozenset()  # records that may take longer
    is_trial: bool = False  # render a single suspect record alone, and write nothing
    siblings: tuple[RecordJob, ...] = ()  # of a trial: all records of the chunk


@dataclass(slots=True)
class ChunkResult:
    """What was done for one chunk."""

    name: str
    kept: int = 0
    rendered: int = 0  # records
    reused: int = 0
    dropped: int = 0  # records in the old file that nobody wants any more
    refused: Counter[str] = field(default_factory=Counter)


def render_chunk(job: ChunkJob, guard: Guard | None = None, *, rehash: bool = False) -> ChunkResult:
    """Render a chunk, using what a former run rendered of it.

    Args:
        job: the chunk.
        guard: is told of each record and the CPU time that it may take; None: no protection.
        rehash: read and hash all raw files again, whatever their sizes and times say.

    Returns:
        Counts; the file `<job.to>/<job.name>.arrow` is whole.
    """
    path = job.to / f"{job.name}.arrow"
    stamps = {record.id: _stamp(job.root, record.planes) for record in job.records}
    signature = _signature(job, stamps)
    old = None if rehash else _open(path)
    result = ChunkResult(job.name)
    if old is not None and old.schema.metadata.get(_SIGNATURE) == signature:
        result.reused = len(job.records)
        _count(result, old["reason"].to_pylist())
        return result
    former = _former_rows(old, job.parameters)
    result.dropped = len(set(former) - set(stamps))
    reader = RawReader(job.root, job.parameters)
    rows: list[dict[str, Any]] = []
    for record in job.records:
        ready = _still_right(former.get(record.id, ()), record, stamps[record.id])
        result.reused += bool(ready)
        result.rendered += not ready
        rows += ready or [
            {**row, "stamp": stamps[record.id]} for row in _guarded_rows(job, record, reader, guard)
        ]
    if job.is_trial:
        return result
    schema = SCHEMA.with_metadata(
        {
            _SIGNATURE: signature,
            _PARAMETERS: _rendering_key(job.parameters),
            _CONTENT: _content(rows),
        }
    )
    del old
    with files.replacing(path) as aside, pa.ipc.new_file(str(aside), schema) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    _count(result, [row["reason"] for row in rows])
    return result


def next_try(job: ChunkJob, item: str, reason: str) -> ChunkJob:
    """Say what to do about a record at which a worker died.

    The first time it is tried once alone, with more time; when that fails too it is refused.
    """
    if job.is_trial:
        whole = replace(job, is_trial=False, records=job.siblings, siblings=())
        return replace(whole, lost=(*whole.lost, (item, reason)))
    (record,) = (one for one in job.records if one.id == item)
    return replace(
        job, is_trial=True, records=(record,), siblings=job.records, patient=job.patient | {item}
    )


def after_trial(job: ChunkJob) -> ChunkJob:
    """The chunk of a record that went well when it was tried alone."""
    return replace(job, is_trial=False, records=job.siblings, siblings=())


def _guarded_rows(
    job: ChunkJob, record: RecordJob, reader: "RawReader", guard: Guard | None
) -> list[dict[str, Any]]:
    """Render a record within its limit of processor time, or refuse it where it had its chances."""
    lost = dict(job.lost)
    if record.id in lost:
        row = {"idx": record.id, "wanted": record.wanted, "window": "", "source_sha256": ""}
        return [{**row, "reason": lost[record.id], "detail": "twice, the second time alone"}]
    if guard is not None:
        factor = _PATIENCE if record.id in job.patient else 1
        guard(record.id, factor * _FIELD_SECONDS)
        seconds = _FIELD_SECONDS + reader.pixels(record) / _PIXELS_A_SECOND
        guard(record.id, factor * seconds)
    return render_record(record, reader.plane, reader.sha256, job.parameters)


def is_rendered(job: ChunkJob) -> bool:
    """Say whether the chunk's file holds exactly what the job asks for."""
    old = _open(job.to / f"{job.name}.arrow")
    if old is None:
        return False
    stamps = {record.id: _stamp(job.root, record.planes) for record in job.records}
    return bool(old.schema.metadata.get(_SIGNATURE) == _signature(job, stamps))


def content_of(job: ChunkJob) -> str:
    """Identify what a rendered chunk holds, without reading its rows."""
    rendered = _open(job.to / f"{job.name}.arrow")
    if rendered is None:
        raise BuildError(f"The rendered chunk {job.name} is gone from {job.to}; run again.")
    return str(rendered.schema.metadata[_CONTENT].decode())


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
    return {
        **row,
        **_image_columns(crop.pixels, ""),
        **_image_columns(shrink(crop.pixels, parameters.small_side), "small_"),
    }


def _image_columns(pixels: npt.NDArray[np.uint8], config: str) -> dict[str, Any]:
    return {
        f"{config}height": pixels.shape[0],
        f"{config}width": pixels.shape[1],
        f"{config}pixel_sha256": hashing.pixel_sha256(pixels),
        f"{config}png": png.encode(pixels),
    }


class RenderedChunks:
    """Random access to rendered crops; files are mapped, a few at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._table = functools.lru_cache(_OPEN_CHUNKS)(self._map)

    def column(self, chunk: str, name: str) -> pa.Array:
        """One column of one chunk."""
        return self._table(chunk)[name].chunk(0)

    def value(self, chunk: str, row: int, name: str) -> Any:  # noqa: ANN401 - of any column
        """One cell."""
        return self._table(chunk)[name][row].as_py()

    def _map(self, chunk: str) -> pa.Table:
        path = self._folder / f"{chunk}.arrow"
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all().combine_chunks()


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


def _stamp(root: Path, planes: Iterable[PlaneJob]) -> str:
    """Tell by size and time of change whether raw files are those that were rendered."""
    parts = []
    for plane in planes:
        try:
            stat = (root / plane.path).stat()
            parts.append(f"{plane} {stat.st_size} {stat.st_mtime_ns}")
        except OSError:
            parts.append(f"{plane} absent")
    return hashing.fingerprint(parts)


def _signature(job: ChunkJob, stamps: Mapping[str, str]) -> bytes:
    records = [f"{record.id} {record.wanted} {stamps[record.id]}" for record in job.records]
    return hashing.fingerprint([_rendering_key(job.parameters).decode(), *records]).encode()


def _content(rows: Sequence[Mapping[str, Any]]) -> bytes:
    keys = ("idx", "window", "reason", "source_sha256", "pixel_sha256", "small_pixel_sha256")
    return hashing.fingerprint(str(row.get(key)) for row in rows for key in keys).encode()


def _rendering_key(parameters: Parameters) -> bytes:
    """All that pixels depend on besides the raw files."""
    kept = (parameters.rules(), parameters.limits(), parameters.small_side, png.ENGINE)
    return f"{__version__} {kept}".encode()


def _open(path: Path) -> pa.Table | None:
    """Map a rendered chunk; None where it is absent or not whole."""
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowInvalid):
        return None


def _former_rows(old: pa.Table | None, parameters: Parameters) -> dict[str, list[dict[str, Any]]]:
    """Rows of a former run by record, if they were made with the same parameters."""
    if old is None or old.schema.metadata.get(_PARAMETERS) != _rendering_key(parameters):
        return {}
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in old.to_pylist():
        rows.setdefault(row["idx"], []).append(row)
    return rows


def _still_right(
    rows: Sequence[dict[str, Any]], record: RecordJob, stamp: str
) -> list[dict[str, Any]]:
    """Rows of a former run that serve this one; none if the record must be rendered."""
    if not rows or rows[0]["stamp"] != stamp or rows[0]["wanted"] < record.wanted:
        return []
    return [{**row, "wanted": record.wanted} for row in rows if (row["order"] or 0) < record.wanted]


def _count(result: ChunkResult, reasons: Iterable[str]) -> None:
    for reason in reasons:
        if reason:
            result.refused[reason] += 1
        else:
            result.kept += 1
