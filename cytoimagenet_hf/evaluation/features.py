"""From the images of a task to features keyed by id: batched, cached, resumable, checked.

Images are taken in the order of their ids, in chunks of 256. A chunk is written when it is
finished, so a killed run continues there. Each has its place in a batch by ids and shapes alone: on
one machine, with one number of threads, a run repeated gives the same bytes.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf import hashing
from cytoimagenet_hf.errors import FeaturesError, ImageRefusedError
from cytoimagenet_hf.evaluation._batches import Batch, Read, ahead, batches, capacity
from cytoimagenet_hf.evaluation._cache import Cache, folder_of
from cytoimagenet_hf.evaluation._matching import check_pixels, match
from cytoimagenet_hf.evaluation._provenance import key_of, provenance
from cytoimagenet_hf.evaluation.featurefiles import read_features, write_features
from cytoimagenet_hf.evaluation.modes import MODES, PAPER_MODES, Mode, parse_mode, prepare
from cytoimagenet_hf.evaluation.records import Features, Images
from cytoimagenet_hf.models.encoders import Encoder

__all__ = [
    "MODES",
    "PAPER_MODES",
    "Mode",
    "check_pixels",
    "compute",
    "estimate",
    "match",
    "parse_mode",
    "read_features",
    "write_features",
]

CHUNK = 256  # images
BATCH = 64  # images of the encoder
_TRIED = 3  # images that an estimate is made of

Progress = Callable[[int, int], None]  # images done, images in all


@dataclass(frozen=True, slots=True)
class _Job:
    """What is embedded, by what, and where chunks are kept."""

    images: Images
    encoder: Encoder
    mode: Mode
    batch: int
    cache: Cache | None


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A run of rows that has been read."""

    rows: Sequence[int]
    found: Read
    kept: Features | None  # from the cache


@dataclass(frozen=True, slots=True)
class _Made:
    """A finished chunk."""

    features: Features
    name: str  # of its file; "" where there is none


def compute(  # noqa: PLR0913 - all but three by name
    images: Images,
    encoder: Encoder,
    mode: Mode,
    *,
    task: str,
    cache: Path | None,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Features:
    """Embed the images of a task.

    Started by `accelerate launch` (or torchrun), each process takes every n-th chunk; they share
    them through `cache`, and each returns all features.

    Args:
        images: with unique, sorted ids.
        encoder: what embeds them; mode `joint` needs one that takes their number of channels.
        mode: what is made of the channels first.
        task: its name, for provenance and the folder in the cache.
        cache: folder of finished chunks; None: nothing is kept.
        batch: most images of the encoder in a batch (in mode concat each channel is one).
        progress: is told how many images are done.

    Returns:
        Features of all images but those in `failed`: unreadable ones, constant or not finite
        channels, features that aren't finite. Provenance says how they were made.

    Raises:
        EncoderError: the encoder fails or takes no such images.
        FeaturesError: images have different numbers of channels.
        DiskError: the cache can't be written.
        ValueError: several processes and no cache.
    """
    this, processes = _place()
    if processes > 1 and cache is None:
        raise ValueError(f"{processes} processes share features through files: pass a cache.")
    key = key_of(encoder, mode, batch, CHUNK)
    kept = Cache(folder_of(cache, task, encoder.name, mode.name), key) if cache else None
    chunks = [range(at, min(at + CHUNK, len(images))) for at in range(0, len(images), CHUNK)]
    job = _Job(images, encoder, mode, batch, kept)
    made = dict(_chunks(job, chunks[this::processes], progress))
    if processes > 1 and kept:
        made = _shared(made, kept.folder)
    finished = [made[number].features for number in sorted(made)]
    return _join(images, finished, provenance(encoder, mode, task, key))


def _chunks(
    job: _Job, chunks: Sequence[range], progress: Progress | None
) -> Iterator[tuple[int, _Made]]:
    """Yield the number and the features of each chunk, writing to the cache what isn't there."""
    values: dict[int, npt.NDArray[np.float32]] = {}
    done = 0
    for item in ahead(_work(job, chunks)):
        if isinstance(item, Batch):
            embedded = job.encoder.embed(item.pixels).reshape(len(item.rows), -1)
            values.update(zip(item.rows, embedded, strict=True))
            continue
        features, name = item.kept or _features(job.images, item, values), ""
        if job.cache and len(features.ids):
            name = job.cache.path(job.images, item.rows, item.found).name
            if item.kept is None:
                job.cache.keep(job.images, item.rows, features, item.found)
        values.clear()
        done += len(item.rows)
        if progress:
            progress(done, sum(map(len, chunks)))
        yield item.rows[0] // CHUNK, _Made(features, name)


def _work(job: _Job, chunks: Sequence[range]) -> Iterator[Batch | _Chunk]:
    """Yield the batches of each chunk, and then what was found in it; cached ones have no batches.

    This runs in the thread that reads ahead.
    """
    for rows in chunks:
        found = Read()
        if job.cache and (kept := job.cache.recall(job.images, rows, found)):
            yield _Chunk(rows, found, kept)
            continue
        found = Read()
        yield from batches(job.images, rows, job.mode, batch=job.batch, found=found)
        yield _Chunk(rows, found, None)


def _features(
    images: Images, chunk: _Chunk, values: dict[int, npt.NDArray[np.float32]]
) -> Features:
    """Make one table of a chunk's rows; those that aren't finite have failed."""
    failed = dict(chunk.found.failed)
    for row, vector in values.items():
        if not np.isfinite(vector).all():
            failed[row] = "features not finite"
    rows = [row for row in chunk.rows if row not in failed]
    lengths = {len(values[row]): row for row in reversed(rows)}  # the first row of each length
    if len(lengths) > 1:
        (one, first), (other, second) = sorted(lengths.items(), key=lambda found: found[1])[:2]
        raise FeaturesError(
            f"Images have different numbers of channels: {images.ids[first]!r} gives {one} "
            f"features and {images.ids[second]!r} {other}. Use a task whose images are alike, or "
            f"mode merge."
        )
    made = np.stack([values[row] for row in rows]) if rows else np.empty((0, 0), np.float32)
    return Features(
        tuple(images.ids[row] for row in rows),
        made,
        {},
        {images.ids[row]: failed[row] for row in sorted(failed)},
        tuple(chunk.found.pixels[row] for row in rows),
    )


def _join(images: Images, chunks: Sequence[Features], about: dict[str, Any]) -> Features:
    """Put chunks together, in the order of ids."""
    filled = [chunk for chunk in chunks if len(chunk.ids)]
    lengths = {chunk.values.shape[1]: chunk.ids[0] for chunk in filled}
    if len(lengths) > 1:
        raise FeaturesError(
            f"Images have different numbers of channels: {' and '.join(lengths.values())} give "
            f"{' and '.join(map(str, lengths))} features."
        )
    dim = next(iter(lengths), about["dim"])
    ids = tuple(name for chunk in filled for name in chunk.ids)
    pixels = tuple(one for chunk in filled for one in chunk.pixels)
    values = [chunk.values for chunk in filled] or [np.empty((0, dim), np.float32)]
    made_of = about | {
        "dim": dim,
        "images": len(images),
        "pixels": hashing.fingerprint(
            text for pair in zip(ids, pixels, strict=True) for text in pair
        ),
        "simulated": images.simulated,
    }
    failed = {name: why for chunk in chunks for name, why in chunk.failed.items()}
    return Features(ids, np.concatenate(values), made_of, failed, pixels)


def _place() -> tuple[int, int]:
    """Return this process's number and how many there are, as a launcher set them."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return 0, 1
    import torch
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    # Without the word cpu accelerate takes processes on a CPU for single ones.
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available()
    state = PartialState(cpu=on_cpu)
    return state.process_index, state.num_processes


def _shared(made: dict[int, _Made], folder: Path) -> dict[int, _Made]:
    """Gather the chunks of all processes, which are read from their files."""
    from accelerate.utils import gather_object

    own = [(number, one.name, dict(one.features.failed)) for number, one in made.items()]
    for number, name, failed in gather_object(own):
        if number in made:
            continue
        if name:
            features = read_features(folder / name)
        else:  # no image of the chunk could be used
            features = Features((), np.empty((0, 0), np.float32), {}, failed)
        made[number] = _Made(features, name)
    return made


def estimate(images: Images, encoder: Encoder, mode: Mode, *, batch: int = BATCH) -> float:
    """Estimate the seconds that `compute` needs without a cache, by trying three of the images.

    Each is read and fills a batch by itself; reading and embedding count whichever is longer, as
    they run side by side. Images that can't be used are passed over.
    """
    if not len(images):
        return 0.0
    tried = sorted({round(share * (len(images) - 1)) for share in np.linspace(0, 1, _TRIED)})
    costs = []
    for number, row in enumerate(tried):
        began = time.perf_counter()
        try:
            prepared = prepare(np.asarray(images.read(row)), mode)
        except (ImageRefusedError, OSError):
            continue
        reading = time.perf_counter() - began
        filled = capacity(prepared.shape, mode, min(batch, len(images)))
        stack = np.repeat(prepared[None], filled, axis=0)
        if mode.combine == "concat":
            stack = stack.reshape(-1, 1, *prepared.shape[1:])
        if number == 0:
            encoder.embed(stack[:1])  # the first call of a network sets things up
        began = time.perf_counter()
        encoder.embed(stack)
        costs.append(max(reading, (time.perf_counter() - began) / filled))
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    return float(np.mean(costs)) * len(images) / processes if costs else 0.0
