"""Pieces of rendering work: a record, a chunk of records, and what to do when a worker dies."""

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from cytoimagenet_hf.curation.parameters import Parameters


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
