"""Reading the release that a build goes on from, and carrying its shards over."""

import json
import os
import shlex
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cytoimagenet_hf import files
from cytoimagenet_hf.curation.findings import Findings
from cytoimagenet_hf.curation.papers import BUILD, EXCLUSION_REPORT, Papers, read_papers
from cytoimagenet_hf.curation.parameters import Parameters
from cytoimagenet_hf.curation.releases import PublishedCrop, Release
from cytoimagenet_hf.curation.shardcheck import NAME
from cytoimagenet_hf.curation.shards import Shard
from cytoimagenet_hf.errors import DatasetNotAvailableError
from cytoimagenet_hf.hub._folders import check_folder
from cytoimagenet_hf.schema import CATEGORIES

_COLUMNS = (
    "idx", "image_id", "label", "group", "terms", "source_sha256", "pixel_sha256", "license"
)  # fmt: skip
# What published crops and shards are made again with, by `reproduce` and `verify --repair`. One
# value of each in build.json stands for all builds; the other parameters only choose or arrange.
_SAME = (
    "seed", "percents", "min_crop_side", "min_side", "min_contrast", "small_side", "tiny_side",
    "tiny_labels", "tiny_crops", "group_rows", "group_bytes",
)  # fmt: skip
_NOT_LESS = "max_pixels"  # larger planes were published, and must still be read
_FLAGS = ("seed", "max_pixels")  # parameters with an option of their own


def read_release(folder: Path, parameters: Parameters) -> Release:
    """Read a release from its small tables; no image is looked at (`verify` does that).

    Raises:
        DatasetNotAvailableError: the folder isn't whole, or an older version wrote it.
        ValueError: the build to come has parameters that published crops can't be made again with.
    """
    check_folder(folder)
    papers = read_papers(folder, findings := Findings(""))
    if findings.kept or not papers.build:
        raise DatasetNotAvailableError(
            f"{folder} can't be a base: {findings.kept[0] if findings.kept else BUILD}. "
            f"`cytoimagenet verify` tells all that is wrong."
        )
    if not {"lineage", "label_fields", "sources"} <= papers.build.keys():
        raise DatasetNotAvailableError(
            f"{folder / BUILD} has no lineage: an older version wrote it. Build it again."
        )
    _check_parameters(folder, papers, parameters)
    shards: list[Shard] = []
    crops: list[PublishedCrop] = []
    for path in sorted(papers.sums):
        if (name := NAME.fullmatch(path)) is None:
            continue
        about = pq.read_metadata(folder / path)
        size = (folder / path).stat().st_size
        shards.append(
            Shard(name["config"], name["split"], name["terms"], path, about.num_rows, size)
        )
        if name["config"] == "metadata":
            table = pq.read_table(folder / path, columns=list(_COLUMNS))
            crops += _crops(table, name["split"], papers)
    return Release(
        folder=folder,
        manifest_sha256=papers.manifest_sha256,
        build=papers.build,
        labels=[(CATEGORIES[one.category], one.value) for one in papers.classes],
        texts=[one.text for one in papers.classes],
        crops=crops,
        exclusions=pq.read_table(folder / EXCLUSION_REPORT).to_pylist(),
        shards=shards,
        sums={path: one for path, one in papers.sums.items() if NAME.fullmatch(path)},
    )


def carry_over(release: Release, folder: Path) -> None:
    """Put the shards of a release into a new folder: as links where the disk allows it.

    Raises:
        DiskError: the system refuses.
    """
    for shard in release.shards:
        target = folder / shard.path
        with files.disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            origin = (release.folder / shard.path).resolve()  # a cache of the Hub holds links
            try:
                os.link(origin, target)
            except OSError:  # another disk, or a file system without links
                with files.replacing(target) as aside:
                    shutil.copyfile(origin, aside)


def _crops(table: pa.Table, split: str, papers: Papers) -> list[PublishedCrop]:
    found = []
    for row in table.to_pylist():
        label = papers.classes[row["label"]]
        found.append(
            PublishedCrop(
                idx=row["idx"],
                window=row["image_id"].partition("#")[2],
                label=(CATEGORIES[label.category], label.value),
                split=split,
                **{name: row[name] for name in _COLUMNS[3:]},
            )
        )
    return found


def _check_parameters(folder: Path, papers: Papers, parameters: Parameters) -> None:
    known = papers.build["parameters"]
    asked = json.loads(json.dumps(parameters.as_dict()))  # as build.json holds them
    other = [name for name in _SAME if known.get(name) != asked[name]]
    if asked[_NOT_LESS] < known.get(_NOT_LESS, 0):
        other.append(_NOT_LESS)
    if other:
        told = ", ".join(f"{name} {known.get(name)}, not {asked[name]}" for name in other)
        raise ValueError(
            f"{folder} was built with {told}. Its crops and shards stay and must be made again "
            f"with the same: pass {' '.join(_option(name, known.get(name)) for name in other)}"
        )


def _option(name: str, value: object) -> str:
    """Write a parameter as an argument of `cytoimagenet build`."""
    if name in _FLAGS:
        return f"--{name.replace('_', '-')} {value}"
    return "--set " + shlex.quote(f"{name}={json.dumps(value, separators=(',', ':'))}")
