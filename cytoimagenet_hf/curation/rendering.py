"""Rendering: the planned records of a chunk of fields become stretched crops with hashes.

The only stage that touches pixels. A chunk is an Arrow file with one row a window, kept or
refused, and one for a record that can't be used at all. Rows carry no label, so that after a new
plan those of windows still wanted are used again.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cytoimagenet_hf import __version__, files, hashing
from cytoimagenet_hf.curation.engine import Guard
from cytoimagenet_hf.curation.jobs import ChunkJob, ChunkResult, PlaneJob, RecordJob
from cytoimagenet_hf.curation.parameters import Parameters
from cytoimagenet_hf.curation.records import RawReader, render_record
from cytoimagenet_hf.errors import BuildError
from cytoimagenet_hf.imaging import png

# CPU time of a record before its worker is ended (design 5).
_FIELD_SECONDS = 5.0
_PIXELS_A_SECOND = 1 << 21
_PATIENCE = 4  # times as much when it is tried alone

_OPEN_CHUNKS = 64  # rendered files mapped at a time

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


class RenderedChunks:
    """Random access to rendered crops; files are mapped, a few at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._table = functools.lru_cache(_OPEN_CHUNKS)(self._map)
        self.sizes = functools.cache(self._sizes)

    def column(self, chunk: str, name: str) -> pa.Array:
        """One column of one chunk."""
        return self._table(chunk)[name].chunk(0)

    def value(self, chunk: str, row: int, name: str) -> Any:  # noqa: ANN401 - of any column
        """One cell."""
        return self._table(chunk)[name][row].as_py()

    def _sizes(self, chunk: str, name: str) -> npt.NDArray[np.int64]:
        """Bytes of each cell of a column of images (-1: none), without reading them."""
        lengths = pc.binary_length(self.column(chunk, name)).fill_null(-1)
        return np.asarray(lengths, np.int64)

    def _map(self, chunk: str) -> pa.Table:
        path = self._folder / f"{chunk}.arrow"
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all().combine_chunks()


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
