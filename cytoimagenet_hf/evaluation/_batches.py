"""Images as batches of one shape, read while the network runs.

Which images share a batch depends on their order and shapes alone, so that a run repeated gives the
same bytes (sums of other batches differ in the last bits).
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf.errors import ImageRefusedError
from cytoimagenet_hf.evaluation.modes import Mode, prepare
from cytoimagenet_hf.evaluation.records import Images

PIXELS_AT_ONCE = 1 << 22  # of one batch, over all its images and channels
_WAITING = 4  # batches' worth of pixels that may wait for more of their shape
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Batch:
    """Images of one shape."""

    rows: tuple[int, ...]
    pixels: npt.NDArray[np.float32]  # (n, channels, h, w), as the encoder gets them
    images: int  # how many of n are one image's: n / len(rows)


@dataclass(slots=True)
class Read:
    """What was found out of a run of images while they were read."""

    pixels: dict[int, str] = field(default_factory=dict)  # row -> sha256; "" where unreadable
    failed: dict[int, str] = field(default_factory=dict)  # row -> reason


def planes_sha256(planes: npt.NDArray[Any]) -> str:
    """Return the identity of an image as read: sha256 over its type, shape and pixels.

    Args:
        planes: (channels, height, width); big-endian pixels count as their native twins.
    """
    native = np.ascontiguousarray(planes, planes.dtype.newbyteorder("<"))
    state = hashlib.sha256(f"{native.dtype.str} {native.shape}\n".encode())
    state.update(native.data)
    return state.hexdigest()


def read_one(images: Images, row: int, found: Read) -> npt.NDArray[Any] | None:
    """Read an image and note its identity, or why it can't be read."""
    try:
        planes = np.asarray(images.read(row))
    except (ImageRefusedError, OSError) as error:
        found.pixels[row], found.failed[row] = "", str(error)
        return None
    found.pixels[row] = planes_sha256(planes)
    return planes


def batches(
    images: Images, rows: Sequence[int], mode: Mode, *, batch: int, found: Read
) -> Iterator[Batch]:
    """Yield the images of `rows` in batches of one shape.

    Args:
        images: of a task.
        rows: which of them, in order.
        mode: what is made of them.
        batch: most images of the encoder (channels, in mode concat) in a batch.
        found: gets the identity of each image, and why some have no features.
    """
    waiting: dict[tuple[int, ...], list[tuple[int, npt.NDArray[np.float32]]]] = {}
    pixels = 0
    for row in rows:
        planes = read_one(images, row, found)
        if planes is None:
            continue
        try:
            prepared = prepare(planes, mode)
        except ImageRefusedError as error:
            found.failed[row] = str(error)
            continue
        group = waiting.setdefault(prepared.shape, [])
        group.append((row, prepared))
        pixels += prepared.size
        if len(group) == capacity(prepared.shape, mode, batch):
            pixels -= prepared.size * len(group)
            yield _stack(waiting.pop(prepared.shape), mode)
        elif pixels > _WAITING * PIXELS_AT_ONCE:  # many shapes: let the oldest go unfilled
            shape = next(iter(waiting))
            pixels -= waiting[shape][0][1].size * len(waiting[shape])
            yield _stack(waiting.pop(shape), mode)
    for group in waiting.values():
        yield _stack(group, mode)


def capacity(shape: Sequence[int], mode: Mode, batch: int) -> int:
    """Tell how many images of a shape fill a batch.

    Args:
        shape: (channels, height, width) as prepared.
        mode: concat counts each channel.
        batch: most images of the encoder in a batch.
    """
    channels, height, width = shape
    fitting = PIXELS_AT_ONCE // (channels * height * width)
    return max(1, min(batch // (channels if mode.combine == "concat" else 1), fitting))


def _stack(group: list[tuple[int, npt.NDArray[np.float32]]], mode: Mode) -> Batch:
    pixels = np.stack([prepared for _, prepared in group])
    parts = pixels.shape[1] if mode.combine == "concat" else 1
    if parts > 1:
        pixels = pixels.reshape(-1, 1, *pixels.shape[2:])
    return Batch(tuple(row for row, _ in group), pixels, parts)


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield items, making the next one in a thread while the caller works on this one."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item  # type: ignore[misc]
