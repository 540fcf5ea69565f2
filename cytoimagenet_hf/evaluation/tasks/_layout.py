"""What the layouts of tasks share: folders, channel files brought together, tables of images.

Only names are looked at until `Images.read` is called. Files are found by listing the folder, never
by a path that a table gives, so that no name in a table leads out of it.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cytoimagenet_hf.errors import ImageRefusedError, TaskNotFoundError
from cytoimagenet_hf.evaluation.records import Images, Planes
from cytoimagenet_hf.imaging.readers import read_plane
from cytoimagenet_hf.sources import SourceFolder


@dataclass(frozen=True, slots=True)
class Found:
    """One image that a layout holds."""

    id: str
    label: str
    where: Any  # what the layout's reader wants: paths, or a file and a row of it
    split: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)


def open_folder(root: Path, task: str) -> SourceFolder:
    """List the files of a task.

    Raises:
        TaskNotFoundError: there is no such folder.
    """
    if not root.is_dir():
        raise TaskNotFoundError(
            f"{task}: no folder {root}. Put the unpacked download there, or name another place."
        )
    return SourceFolder(root, task)


def nothing_found(folder: SourceFolder, wanted: str) -> TaskNotFoundError:
    """Build the error for a folder that lacks what a layout must have."""
    first = repr(folder.paths[0]) if folder.paths else "none, the folder is empty"
    return TaskNotFoundError(
        f"{folder.name}: looked for {wanted} among the {len(folder.paths)} files under "
        f"{folder.root} (first one seen: {first}). Unpack the download there, or name another "
        f"place."
    )


def channel_sets(
    folder: SourceFolder, pattern: str, channels: Sequence[str]
) -> tuple[dict[tuple[str, ...], tuple[str, ...]], Counter[str]]:
    """Bring the channel files of each position together.

    Args:
        folder: its relative paths are matched whole.
        pattern: the group `channel` says which file of a position it is, all others say where.
        channels: what an image needs, in the task's order; other files count nothing.

    Returns:
        Paths of each complete position in the order of channels; and how many positions lack which
        channels.

    Raises:
        TaskNotFoundError: two files stand for one channel of one position.
    """
    found: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for hit in folder.match(pattern):
        named = hit.groupdict()
        if (channel := named.pop("channel")) not in channels:
            continue
        one = found[tuple(named.values())].setdefault(channel, hit.string)
        if one != hit.string:
            raise two_copies(folder, one, hit.string)
    whole, dropped = {}, Counter[str]()
    for at, paths in sorted(found.items()):
        if lacking := [channel for channel in channels if channel not in paths]:
            dropped[missing(lacking)] += 1
        else:
            whole[at] = tuple(paths[channel] for channel in channels)
    return whole, dropped


def two_copies(folder: SourceFolder, one: str, other: str) -> TaskNotFoundError:
    """Build the error for two files that hold the same images."""
    return TaskNotFoundError(
        f"{folder.name}: {one!r} and {other!r} under {folder.root} stand for the same images. Keep "
        f"one copy of the data there."
    )


def missing(channels: Sequence[str]) -> str:
    """Give the reason for which an image without some of its files is left out."""
    return f"missing channel file ({', '.join(channels)})"


def read_files(root: Path) -> Callable[[tuple[str, ...]], Planes]:
    """Make a reader of images whose channels are files under `root`, one each.

    It raises ImageRefusedError where a file can't be used, or files differ in size or depth.
    """

    def read(paths: tuple[str, ...]) -> Planes:
        return stack(paths, [read_plane(root / path) for path in paths])

    return read


def stack(names: Sequence[str], planes: Sequence[Planes]) -> Planes:
    """Stack the channels of an image, each (height, width), and of one depth.

    Raises:
        ImageRefusedError: a channel is in color, or of another size or depth than the first.
    """
    for name, plane in zip(names, planes, strict=True):
        if plane.ndim != 2:
            raise ImageRefusedError("unsupported channels", f"{name} is in color")
        if (plane.shape, plane.dtype) != (planes[0].shape, planes[0].dtype):
            raise ImageRefusedError(
                "channels differ",
                f"{name} is {plane.dtype} {plane.shape}, {names[0]} is {planes[0].dtype} "
                f"{planes[0].shape}",
            )
    return np.stack(planes)


def table_of(
    found: Iterable[Found],
    read: Callable[[Any], Planes],
    *,
    dropped: Mapping[str, int],
    simulated: bool,
) -> Images:
    """Make the table of images, sorted by id; `read` is given what `Found.where` holds."""
    rows = sorted(found, key=lambda one: one.id)
    places = [one.where for one in rows]
    names = sorted({name for one in rows for name in one.keys})
    return Images(
        ids=tuple(one.id for one in rows),
        labels=tuple(one.label for one in rows),
        splits=tuple(one.split for one in rows),
        keys={name: tuple(one.keys.get(name, "") for one in rows) for name in names},
        read=lambda row: read(places[row]),
        dropped=dict(sorted(dropped.items())),
        simulated=simulated,
    )
