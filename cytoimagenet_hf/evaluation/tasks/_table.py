"""A benchmark of anyone's labelled images, by way of the table door (design 6).

What is known decides how it is scored: with a column of splits the images of `train` are searched
for each other split; with groups (patients, wells, the image that cells are cut out of) no image
finds one of its own group; else each image finds all others.
"""

import functools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from cytoimagenet_hf.errors import TableError, TaskNotFoundError
from cytoimagenet_hf.evaluation.records import Planes, Protocol, Task
from cytoimagenet_hf.evaluation.tasks import names
from cytoimagenet_hf.evaluation.tasks._layout import Found, open_folder, stack, table_of
from cytoimagenet_hf.imaging.readers import cut, read_plane
from cytoimagenet_hf.sources import FieldOfView, Plane
from cytoimagenet_hf.sources._door import table_source
from cytoimagenet_hf.sources._tables import read_table

LABEL, GROUP, SPLIT = "label", "group", "split"  # columns, where no others are named
TRAIN = "train"  # the split whose images are searched
K = 11  # neighbors, as in the paper's tasks of single cells
_SOURCE = "table"  # of the records while they are read; no id shows it
# The door has no columns for label and split. It reads them as texts of two columns of its own,
# which checks them as it checks those; nothing else of a record's phenotype and site is used here.
_AS_LABEL, _AS_SPLIT = "phenotype", "site"


def table_task(  # noqa: PLR0913 - all but two by name
    table: Path,
    images: Path,
    *,
    name: str = "",
    label: str = LABEL,
    group: str = GROUP,
    split: str = SPLIT,
    columns: Mapping[str, str] | None = None,
    box: str = "zero",
    k: int = K,
    metric: Literal["euclidean", "cosine"] = "euclidean",
) -> Task:
    """Make a task of a table and a folder of images; both are read now, but for pixels.

    Images in color become (R+G+B)/3, rounded, in their own depth. An image without one label, split
    or channel is left out and counted.

    Args:
        table: wide, long or with boxes, as `--table` of a build.
        images: the folder that its paths are relative to.
        name: of the task; by default the table's.
        label: the column of labels: any column, or one of ours that `columns` maps.
        group: the column of groups; the default may be absent.
        split: the column of splits, `train` and others; the default may be absent.
        columns: our column -> the table's name for it, where they differ.
        box: `zero` or `voc`, as `--box` of a build.
        k: neighbors that vote.
        metric: of their distance.

    Raises:
        TableError: whatever is wrong in the table; says file, line and value.
        TaskNotFoundError: none of its images is there.
        ValueError: a name, k or mapping that can't be used.
    """
    known = _known(name, table)
    mapped = _mapped(table, dict(columns or {}), (label, group, split))
    folder = open_folder(images, known)
    source = table_source(table, name=_SOURCE, columns=mapped, box=box)
    records = list(source.fields(folder))
    has_split = _AS_SPLIT in mapped
    channels, found, dropped = _found(records, has_split)
    if not found:
        raise TaskNotFoundError(
            f"{known}: none of the {len(records)} images of {table} can be used "
            f"({', '.join(f'{why}: {count}' for why, count in sorted(dropped.items()))}; first "
            f"path: {records[0].planes[0].path!r}). Is {images} the folder its paths start from?"
        )
    is_grouped = any(one.group or one.well for one in records)
    protocols = _protocols(table, found, k, metric, is_grouped)

    opened = table_of(found, _reader(images), dropped=dropped, simulated=folder.is_simulated)
    return Task(
        name=known,
        title=f"Images of {table.name}",
        version=1,
        channels=tuple(stain or f"channel {at}" for at, stain in enumerate(channels, 1)),
        open=lambda _: opened,
        protocols=protocols,
        paper=tuple(replace(one, ties="label") for one in protocols),
        license="unknown",
        layout=f"the paths in {table.name}",
    )


def _known(name: str, table: Path) -> str:
    known = name or re.sub(r"[^a-z0-9]+", "_", table.name.partition(".")[0].lower()).strip("_")
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", known) or known in names():
        raise ValueError(
            f"A table can't be the task {known!r}: a name has small letters, digits, _ and -, and "
            f"is none of {', '.join(names())}. Give another."
        )
    return known


def _mapped(table: Path, columns: dict[str, str], asked: tuple[str, str, str]) -> dict[str, str]:
    """Map label, group and split to columns of the door; the last two where they are there."""
    label, group, split = (columns.pop(one, one) for one in asked)
    wanted = [label, *(one for one, plain in ((group, GROUP), (split, SPLIT)) if one != plain)]
    there = read_table(table, columns=wanted).columns
    columns[_AS_LABEL] = label
    if group in there:
        columns["group"] = group
    if split in there:
        columns[_AS_SPLIT] = split
    return columns


def _found(
    records: Sequence[FieldOfView], has_split: bool
) -> tuple[tuple[str, ...], list[Found], Counter[str]]:
    """Choose the channels that most records have, and the records that can be used."""
    sets = Counter(tuple(plane.stain for plane in one.planes) for one in records if not one.refusal)
    groups: Counter[tuple[str, ...]] = Counter()
    for stains, count in sets.items():
        groups[tuple(sorted(stains))] += count
    best = min(groups, key=lambda stains: (-groups[stains], stains), default=())
    orders = sorted(stains for stains in sets if tuple(sorted(stains)) == best)
    order = max(orders, key=sets.__getitem__, default=())
    found, dropped = [], Counter[str]()
    for one in records:
        labels = one.annotations.get(_AS_LABEL, ())
        if why := _why_not(one, labels, best, has_split):
            dropped[why] += 1
            continue
        planes = sorted(one.planes, key=lambda plane: order.index(plane.stain))
        keys = {"group": one.group_id.removeprefix(f"{_SOURCE}/"), "plate": one.plate}
        split = one.site if has_split else ""
        found.append(Found(one.key, labels[0], tuple(planes), split=split, keys=keys))
    return order, found, dropped


def _why_not(
    one: FieldOfView, labels: Sequence[str], stains: tuple[str, ...], has_split: bool
) -> str:
    """Return why a record is left out; empty where it isn't."""
    if one.refusal:
        return one.refusal[0]
    if len(labels) != 1:
        return "several labels" if labels else "no label"
    if tuple(sorted(plane.stain for plane in one.planes)) != stains:
        return "other channels than most images"
    return "no split" if has_split and not one.site else ""


def _protocols(
    table: Path,
    found: Sequence[Found],
    k: int,
    metric: Literal["euclidean", "cosine"],
    grouped: bool,
) -> tuple[Protocol, ...]:
    splits = Counter(one.split for one in found)
    tests = sorted(set(splits) - {TRAIN, ""})
    if tests and TRAIN not in splits:
        raise TableError(
            f"{table}: no image is in the split {TRAIN!r}; there are {', '.join(map(repr, tests))}."
        )
    if TRAIN in splits and not tests:
        raise TableError(f"{table}: all images are in the split {TRAIN!r}; nothing is left to ask.")
    most = splits[TRAIN] if tests else len(found) - 1
    if not 1 <= k <= most:
        raise ValueError(
            f"k={k} neighbors are wanted; {table} has {most} images to search. Ask for fewer."
        )
    plain = "leave-group-out" if grouped else "leave-one-out"
    return tuple(
        Protocol(
            name=test or plain,
            k=k,
            metric=metric,
            bank=TRAIN if test else "",
            query=test,
            exclude=("group",) if grouped else (),
            cluster="group" if grouped else "",
        )
        for test in tests or [""]
    )


def _reader(root: Path) -> Callable[[tuple[Plane, ...]], Planes]:
    """Make a reader of images; boxes of one file follow each other, so that it is decoded once."""

    @functools.lru_cache(maxsize=4)
    def decoded(path: str, page: int, series: int) -> Planes:
        return _gray(read_plane(root / path, page=page, series=series))

    def read(planes: tuple[Plane, ...]) -> Planes:
        pixels = [decoded(one.path, one.page, one.series) for one in planes]
        boxed = [
            cut(whole, one.box) if one.box else whole
            for whole, one in zip(pixels, planes, strict=True)
        ]
        return stack([one.path for one in planes], boxed)

    return read


def _gray(pixels: Planes) -> Planes:
    """Turn color into gray of the same depth."""
    if pixels.ndim == 2:
        return pixels
    gray = pixels.mean(axis=2, dtype=np.float64)
    whole = np.rint(gray) if pixels.dtype.kind in "ui" else gray
    return np.asarray(whole.astype(pixels.dtype))
