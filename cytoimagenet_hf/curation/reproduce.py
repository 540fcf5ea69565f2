"""Crops of a curated folder, rendered once more from their raw bytes and compared (design 4).

What must be equal are hashes of raw bytes and pixels; PNG bytes may differ between libraries.
"""

import bisect
import difflib
import functools
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cytoimagenet_hf import files
from cytoimagenet_hf.curation.catalog import SourceInput
from cytoimagenet_hf.curation.documents import versions
from cytoimagenet_hf.curation.findings import UNREADABLE, told
from cytoimagenet_hf.curation.jobs import PlaneJob, RecordJob
from cytoimagenet_hf.curation.parameters import Parameters, from_dict
from cytoimagenet_hf.curation.records import RawReader, cut_record, source_sha256
from cytoimagenet_hf.errors import (
    DatasetNotAvailableError,
    ImageRefusedError,
    SourceNotFoundError,
)
from cytoimagenet_hf.hashing import pixel_sha256
from cytoimagenet_hf.imaging import windows

_COLUMNS = ["image_id", "idx", "source_sha256", "pixel_sha256"]
_NEAR = 50  # neighbors in the order of ids among which near ones are looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduced:
    """One crop of a data set beside the same crop rendered from raw bytes."""

    image_id: str
    source_sha256: str  # published
    pixel_sha256: str
    found_source_sha256: str
    found_pixel_sha256: str  # empty: the window isn't drawn, or is refused
    difference: str  # empty: equal
    reading_seconds: float  # reading, hashing and decoding raw files
    rendering_seconds: float

    @property
    def is_equal(self) -> bool:
        """Say whether raw bytes and pixels are those that were published."""
        return not self.difference


@dataclass(frozen=True, slots=True, kw_only=True)
class RawCrop:
    """A crop rendered from raw bytes."""

    source_sha256: str
    pixels: npt.NDArray[np.uint8] | None  # (height, width); None: not drawn, or refused
    reason: str  # why there are none
    reading_seconds: float
    rendering_seconds: float


def reproduce(image_id: str, folder: Path, inputs: Sequence[SourceInput]) -> Reproduced:
    """Render one crop of a curated folder from its raw bytes, and compare hashes.

    Args:
        image_id: of the crop.
        folder: the data set.
        inputs: the source that it is of, and where its raw files are; others are passed over.

    Raises:
        ValueError: no crop has this id; near ones are named.
        SourceNotFoundError: the source isn't among the inputs, or raw files are absent.
        DatasetNotAvailableError: build.json or the config `metadata` can't be read.
    """
    crops = published_crops(folder)
    if image_id not in crops:
        raise ValueError(_unknown(image_id, sorted(crops), folder))
    (found,) = _reproduce([crops[image_id]], folder, inputs)
    return found


def reproduce_all(folder: Path, inputs: Sequence[SourceInput]) -> Iterator[Reproduced]:
    """Render every crop of a curated folder from its raw bytes, record by record.

    Args:
        folder: the data set.
        inputs: all of its sources.

    Raises:
        As `reproduce` does.
    """
    crops = published_crops(folder)
    yield from _reproduce([crops[image_id] for image_id in sorted(crops)], folder, inputs)


def published_crops(folder: Path) -> dict[str, dict[str, Any]]:
    """Read ids and hashes of all crops from the config `metadata`.

    Raises:
        DatasetNotAvailableError: it can't be read.
    """
    paths = [path for path, _ in files.walk(folder)] if folder.is_dir() else []
    paths = [path for path in paths if path.startswith("data/metadata/")]
    if not paths:
        raise DatasetNotAvailableError(
            f"{folder} has no data/metadata/*.parquet. Name a folder that a build or pull made."
        )
    try:
        tables = [pq.read_table(folder / path, columns=_COLUMNS) for path in paths]
        rows = pa.concat_tables(tables).to_pylist()
    except UNREADABLE as error:
        raise DatasetNotAvailableError(
            f"{folder}: the config `metadata` can't be read ({told(error)}). `cytoimagenet verify` "
            f"says more, and --repair writes it again."
        ) from None
    return {row["image_id"]: row for row in rows}


def parameters_of(build: Mapping[str, Any], folder: Path) -> Parameters:
    """Take what crops were rendered with out of build.json.

    Raises:
        DatasetNotAvailableError: it isn't there, or was written by another version.
    """
    try:
        return from_dict(build.get("parameters"))
    except ValueError as error:
        raise DatasetNotAvailableError(f"{folder / 'build.json'}: {error}") from None


class RawCrops:
    """Renders crops of some records from raw files; names of files are read once a source.

    Args:
        inputs: sources and their raw folders.
        parameters: what the crops were rendered with.
        wanted: ids of the records that will be asked for.
    """

    def __init__(
        self, inputs: Sequence[SourceInput], parameters: Parameters, wanted: Iterable[str]
    ) -> None:
        self._inputs = {entry.source.name: entry for entry in inputs}
        self._parameters = parameters
        self._wanted: dict[str, set[str]] = defaultdict(set)
        for idx in wanted:
            self._wanted[idx.partition("/")[0]].add(idx)
        self._records = functools.cache(self._find_records)
        self._reader = functools.cache(
            lambda source: RawReader(self._inputs[source].root, parameters)
        )
        self._cut = functools.lru_cache(1)(self._cut_record)

    def crop(self, idx: str, window: str) -> RawCrop:
        """Render one crop; the windows of the last record are kept.

        Raises:
            SourceNotFoundError: the source isn't among the inputs, or raw files are absent.
        """
        sha256, crops, reason, reading, rendering = self._cut(idx)
        found = next((one for one in crops if one.window.name == window), None)
        if not reason:
            reason = "no such window" if found is None else found.reason
        return RawCrop(
            source_sha256=sha256,
            pixels=found.pixels if found and not reason else None,
            reason=reason,
            reading_seconds=reading,
            rendering_seconds=rendering,
        )

    def _cut_record(self, idx: str) -> tuple[str, list[windows.Crop], str, float, float]:
        """Render all windows of a record: raw hash, crops, refusal, seconds read and rendered."""
        source = idx.partition("/")[0]
        record = self._record(source, idx)
        reader = self._reader(source)
        start = time.perf_counter()
        sha256, reading = "", start
        try:
            sha256 = source_sha256(record.planes, reader.sha256)
            planes = {one: reader.plane(one) for one in record.planes}
            reading = time.perf_counter()
            crops = cut_record(record, planes.__getitem__, self._parameters)
        except ImageRefusedError as refused:
            if refused.reason == "missing file":
                raise SourceNotFoundError(
                    f"{idx}: the raw file {refused.detail} is absent under "
                    f"{self._inputs[source].root}."
                ) from None
            return sha256, [], str(refused), reading - start, time.perf_counter() - reading
        return sha256, crops, "", reading - start, time.perf_counter() - reading

    def _record(self, source: str, idx: str) -> RecordJob:
        if source not in self._inputs:
            raise SourceNotFoundError(
                f"{idx} is of the source {source}, whose raw files were not given. Name them with "
                f"--data-root (a table of your own with --table and --name {source})."
            )
        record = self._records(source).get(idx)
        if record is None:
            raise SourceNotFoundError(
                f"{idx}: the raw files of this record are not all under "
                f"{self._inputs[source].root}, or its table is another one."
            )
        return record

    def _find_records(self, source: str) -> dict[str, RecordJob]:
        """The wanted records of a source that can be rendered."""
        entry = self._inputs[source]
        wanted = self._wanted[source]
        most = len(windows.QUADRANTS)  # a build before this one may have wanted more than it does
        found: dict[str, RecordJob] = {}
        for record in entry.source.fields(entry.folder()):
            if record.id in wanted and record.refusal is None and record.planes:
                planes = tuple(
                    PlaneJob(one.path, one.stain, one.page, one.series, one.box)
                    for one in record.planes
                )
                found[record.id] = RecordJob(record.id, planes, most)
                if len(found) == len(wanted):
                    break
        return found


def _reproduce(
    rows: Sequence[Mapping[str, Any]], folder: Path, inputs: Sequence[SourceInput]
) -> Iterator[Reproduced]:
    build = _build_json(folder)
    raw = RawCrops(inputs, parameters_of(build, folder), {row["idx"] for row in rows})
    for row in rows:
        crop = raw.crop(row["idx"], row["image_id"].partition("#")[2])
        yield _compare(row, crop, build)


def _compare(row: Mapping[str, Any], crop: RawCrop, build: Mapping[str, Any]) -> Reproduced:
    found = "" if crop.pixels is None else pixel_sha256(crop.pixels)
    difference = ""
    if crop.source_sha256 != row["source_sha256"]:
        difference = "the raw files are not those that were published"
    elif found != row["pixel_sha256"]:
        difference = f"not rendered: {crop.reason}" if crop.reason else "other pixels"
        difference += other_versions(build)
    return Reproduced(
        image_id=row["image_id"],
        source_sha256=row["source_sha256"],
        pixel_sha256=row["pixel_sha256"],
        found_source_sha256=crop.source_sha256,
        found_pixel_sha256=found,
        difference=difference,
        reading_seconds=crop.reading_seconds,
        rendering_seconds=crop.rendering_seconds,
    )


def other_versions(build: Mapping[str, Any]) -> str:
    """Name the libraries that are of another version than in the build."""
    then = build.get("versions")
    then = then if isinstance(then, dict) else {}
    differing = [
        f"{name} {then.get(name)} -> {now}"
        for name, now in versions().items()
        if then.get(name) != now
    ]
    return f" ({', '.join(differing)})" if differing else ""


def _build_json(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "build.json").read_bytes())
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
    except UNREADABLE as error:
        raise DatasetNotAvailableError(
            f"{folder / 'build.json'} can't be read ({told(error)}); it holds what crops were "
            f"rendered with. Name a folder that a build or pull made."
        ) from None
    return found


def _unknown(image_id: str, known: Sequence[str], folder: Path) -> str:
    """Say that there is no such crop, and name near ones."""
    at = bisect.bisect(known, image_id)
    around = known[max(0, at - _NEAR) : at + _NEAR]  # comparing with all ids would take minutes
    near = difflib.get_close_matches(image_id, around, n=3, cutoff=0.6) or known[:1]
    hint = f"Did you mean {', '.join(near)}?" if near else "It holds no crops."
    return f"{folder} has no crop {image_id!r}. {hint}"
