"""How much disk a build needs, from a sample of headers, before anything is rendered."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cytoimagenet_hf.curation.jobs import ChunkJob, RecordJob
from cytoimagenet_hf.curation.parameters import Parameters
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
    sample = sorted(records, key=lambda one: rank(parameters.seed, "estimate", one[1].id))[:_SAMPLE]
    sides = [_sides(job.root, record, parameters) for job, record in sample]
    if not sides:
        return Estimate(0, 0)
    crops = sum(map(len, sides)) / len(sides) * len(records)
    size = sum(_png_bytes(one, parameters) for crops_of in sides for one in crops_of)
    total = size / len(sides) * len(records) * _COPIES * _MARGIN
    return Estimate(round(crops), round(total))


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


def _sides(root: Path, record: RecordJob, parameters: Parameters) -> list[tuple[int, int]]:
    """Heights and widths of the crops that a record will give."""
    if not record.planes:  # planned from tables alone
        return [(0, 0)] * record.wanted
    first = record.planes[0]
    if first.box:
        return [(first.box[3] - first.box[1], first.box[2] - first.box[0])]
    try:
        header = probe(root / first.path, limits=parameters.limits())
    except ImageRefusedError:
        return []
    rules = parameters.rules()
    if windows.is_kept_whole(header.height, header.width, rules):
        return [(header.height, header.width)]
    scales = windows.allowed_scales(header.height, header.width, rules)
    cycle = [scales[number % len(scales)] for number in range(record.wanted)]
    return [(header.height // scale, header.width // scale) for scale in cycle]


def _png_bytes(sides: tuple[int, int], parameters: Parameters) -> float:
    """Bytes of one crop, full and small."""
    shrunk = min(1.0, parameters.small_side / max(*sides, 1))
    return sides[0] * sides[1] * (1 + shrunk**2) * _PNG_BYTES


def _existing(folder: Path) -> Path:
    return next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
