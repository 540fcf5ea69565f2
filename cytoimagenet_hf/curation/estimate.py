"""How much disk a build needs, from a sample of headers, before anything is rendered."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cytoimagenet_hf.curation.parameters import Parameters
from cytoimagenet_hf.curation.rendering import ChunkJob, RecordJob
from cytoimagenet_hf.errors import BuildError, ImageRefusedError
from cytoimagenet_hf.hashing import rank
from cytoimagenet_hf.imaging import windows
from cytoimagenet_hf.imaging.readers import probe

_SAMPLE = 200  # headers read
_PNG_BYTES = 0.75  # a pixel of a stretched crop; speed.md 1, libraries.md 8
_COPIES = 2  # rendered once, assembled once
_MARGIN = 1.1


@dataclass(frozen=True, slots=True)
class Estimate:
    """What rendering and assembly will write."""

    crops: int  # wanted
    bytes: int


def estimate(jobs: Sequence[ChunkJob], parameters: Parameters) -> Estimate:
    """Estimate the crops and bytes of a build from the headers of some records.

    Records are sampled by hash; files that can't be read count nothing.
    """
    records = [(job, record) for job in jobs for record in job.records]
    crops = sum(record.wanted for _, record in records)
    sample = sorted(records, key=lambda one: rank(parameters.seed, "estimate", one[1].id))[:_SAMPLE]
    sizes = [_record_bytes(job.root, record, parameters) for job, record in sample if record.planes]
    if not sizes:
        return Estimate(crops, 0)
    mean = sum(sizes) / len(sizes)
    return Estimate(crops, int(mean * len(records) * _COPIES * _MARGIN))


def check_space(needed: int, *folders: Path) -> None:
    """Stop when a disk is too small.

    Args:
        needed: bytes, half of them in each folder.
        folders: where the build writes; they need not exist yet.

    Raises:
        BuildError: says how much is needed, how much is free, and where.
    """
    by_disk: dict[int, list[Path]] = {}
    for folder in folders:
        there = _existing(folder)
        by_disk.setdefault(there.stat().st_dev, []).append(there)
    for places in by_disk.values():
        share = needed * len(places) // len(folders)
        free = shutil.disk_usage(places[0]).free
        if free < share:
            raise BuildError(
                f"The build needs about {share / 1e9:.1f} GB at {places[0]}, where "
                f"{free / 1e9:.1f} GB are free. Free some, or give --output and --work elsewhere."
            )


def _record_bytes(root: Path, record: RecordJob, parameters: Parameters) -> float:
    """Bytes of the crops of one record, full and small."""
    first = record.planes[0]
    try:
        header = probe(root / first.path, limits=parameters.limits())
    except ImageRefusedError:
        return 0.0
    width, height = header.width, header.height
    if first.box:
        width, height = first.box[2] - first.box[0], first.box[3] - first.box[1]
    rules = parameters.rules()
    if first.box or windows.is_kept_whole(height, width, rules):
        sides = [(height, width)]
    else:
        scales = windows.allowed_scales(height, width, rules)
        cycle = [scales[number % len(scales)] for number in range(record.wanted)]
        sides = [(height // scale, width // scale) for scale in cycle]
    total = 0.0
    for tall, wide in sides:
        shrunk = min(1.0, parameters.small_side / max(tall, wide, 1))
        total += tall * wide * (1 + shrunk**2) * _PNG_BYTES
    return total


def _existing(folder: Path) -> Path:
    return next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
