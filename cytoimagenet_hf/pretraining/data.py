"""Batches for training: encoded bytes, decoded and resized in workers, the same on every restart.

Which rows make which batch is computed, not drawn: an epoch's order is a ranking by hashes of row
numbers, so a run can go on anywhere, and processes never meet a row twice. Images arrive as uint8
gray; everything random happens later, on the device (augment.py).
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from cytoimagenet_hf.errors import CytoImageNetError
from cytoimagenet_hf.hashing import mix, rank
from cytoimagenet_hf.pretraining.config import TrainConfig

Rows = npt.NDArray[np.int64]


class Batch(NamedTuple):
    """Images of one step and process."""

    images: torch.Tensor  # (n, 1, size, size) uint8
    labels: torch.Tensor  # (n,) int64
    rows: torch.Tensor  # (n,) int64, row numbers in the split; -1 when streaming
    bad: tuple[str, ...] = ()  # rows that nobody could decode, and why


@dataclass(frozen=True, slots=True)
class Split:
    """One split of a data set, opened."""

    rows: Any  # datasets.Dataset or IterableDataset with {bytes, path} images
    labels: Rows  # (n,) class of every row; read once, without images
    classes: tuple[str, ...]
    config: TrainConfig

    def __len__(self) -> int:
        return len(self.labels)

    def absent_classes(self) -> list[str]:
        """Classes without a row."""
        present = set(self.labels.tolist())
        return [name for at, name in enumerate(self.classes) if at not in present]


def open_split(config: TrainConfig, split: str) -> Split:
    """Open a split of any image-classification data set that `load_dataset` gives.

    Raises:
        CytoImageNetError, ValueError: absent data set, split or column; a label out of range.
    """
    import datasets

    from cytoimagenet_hf.hub.loading import load_dataset

    rows = load_dataset(
        config.dataset,
        config.name or None,
        split=split,
        streaming=config.streaming,
        revision=config.revision or None,
    )
    names = list(rows.features or {})
    for column in (config.image_column, config.label_column):
        if column not in names:
            raise ValueError(f"{config.dataset}: no column {column!r}; there are {names}.")
    feature = rows.features[config.label_column]
    if not isinstance(feature, datasets.ClassLabel):
        raise ValueError(
            f"{config.dataset}: column {config.label_column!r} is no ClassLabel but {feature}; "
            f"cast it with cast_column first."
        )
    labels = _labels(rows, config.label_column)
    if len(labels) == 0:
        raise ValueError(f"{config.dataset}: split {split!r} has no rows.")
    wrong = np.flatnonzero((labels < 0) | (labels >= feature.num_classes))
    if len(wrong):
        raise ValueError(
            f"{config.dataset}, split {split!r}, row {wrong[0]}: label {labels[wrong[0]]} is out "
            f"of range, there are {feature.num_classes} classes."
        )
    columns = [config.image_column, config.label_column]
    slim = rows.select_columns(columns).cast_column(
        config.image_column, datasets.Image(decode=False)
    )
    return Split(slim, labels, tuple(feature.names), config)


def _labels(rows: Any, column: str) -> Rows:  # noqa: ANN401 - either kind of datasets' Dataset
    """Read the label column alone."""
    only = rows.select_columns([column])
    if hasattr(rows, "data"):
        return np.asarray(only.with_format("numpy")[:][column], np.int64).reshape(-1)
    found = [row[column] for row in only]
    return np.array([-1 if one is None else one for one in found], np.int64)


def epoch_order(labels: Rows, *, seed: int, epoch: int, balanced: bool = False) -> Rows:
    """Order the rows of one epoch: each row once, or each class equally often.

    Args:
        labels: (n,) class of each row.
        seed: of the run.
        epoch: number of the pass.
        balanced: draw every class that occurs n / classes times, cycling through its rows.
    """
    salt = np.uint64(rank(seed, "epoch", epoch))
    mixed = np.argsort(mix(np.arange(len(labels), dtype=np.uint64) ^ salt), kind="stable")
    if not balanced:
        return mixed.astype(np.int64)
    by_class = [mixed[labels[mixed] == one] for one in np.unique(labels)]
    share = -(-len(labels) // len(by_class))
    drawn = np.concatenate([np.resize(own, share) for own in by_class])
    return drawn[np.argsort(mix(np.arange(len(drawn), dtype=np.uint64) + salt), kind="stable")]


@dataclass(slots=True)
class StepSampler:
    """Row numbers of each micro-batch of one process, for one epoch from any step on.

    The rows of an epoch are shared out over steps, and those of a step over processes and
    micro-batches, as evenly as can be: no row is left out or comes twice, and there is no tiny last
    batch (unless `drop_last`, which cuts full ones and leaves the rest out).
    """

    labels: Rows
    config: TrainConfig
    process: int = 0
    processes: int = 1
    epoch: int = 0
    start: int = 0  # first step
    steps: int = field(init=False)
    _used: int = field(init=False)

    def __post_init__(self) -> None:
        parts = self.processes * self.config.gradient_accumulation
        size = self.config.batch_size * parts
        rows = len(epoch_order(self.labels, seed=0, epoch=0, balanced=self.config.class_balanced))
        self.steps = rows // size if self.config.drop_last else -(-rows // size)
        self._used = self.steps * size if self.config.drop_last else rows
        if self.steps == 0 or self._used // self.steps < parts:
            raise ValueError(
                f"{rows} images are too few for {parts} batches a step"
                f"{' of full size (drop_last)' if self.config.drop_last else ''}: use fewer "
                f"processes, less accumulation, or a smaller batch_size ({self.config.batch_size})."
            )

    def __len__(self) -> int:
        return (self.steps - self.start) * self.config.gradient_accumulation

    def __iter__(self) -> Iterator[list[int]]:
        order = epoch_order(
            self.labels,
            seed=self.config.seed,
            epoch=self.epoch,
            balanced=self.config.class_balanced,
        )[: self._used]
        accumulation = self.config.gradient_accumulation
        for step in range(self.start, self.steps):
            own = order[_edges(len(order), self.steps, step)]
            for micro in range(accumulation):
                part = micro * self.processes + self.process
                yield own[_edges(len(own), self.processes * accumulation, part)].tolist()


@dataclass(frozen=True, slots=True)
class EvalSampler:
    """Row numbers of each validation batch of one process: every row once over all processes."""

    rows: int
    config: TrainConfig
    process: int = 0
    processes: int = 1

    def __len__(self) -> int:
        own = range(self.process, self.rows, self.processes)
        return -(-len(own) // self.config.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        own = range(self.process, self.rows, self.processes)
        for start in range(0, len(own), self.config.batch_size):
            yield list(own[start : start + self.config.batch_size])


def _edges(total: int, parts: int, number: int) -> slice:
    return slice(number * total // parts, (number + 1) * total // parts)


class MapBatches(torch.utils.data.Dataset[Batch]):
    """Rows by number, a whole batch at a time."""

    def __init__(self, split: Split) -> None:
        self._split = split

    def __len__(self) -> int:
        return len(self._split)

    def __getitems__(self, numbers: list[int]) -> Batch:
        """Decode one batch; torch's fetcher calls this instead of `__getitem__`."""
        config = self._split.config
        found = self._split.rows[numbers]
        return decode_batch(found[config.image_column], found[config.label_column], numbers, config)


class StreamBatches(torch.utils.data.IterableDataset[Batch | None]):
    """Rows as they come from the shards of this process, in batches; None for those skipped.

    Each worker skips what a resumed run has used without decoding it, and says so by None, so that
    the order of batches over workers stays what it was.
    """

    def __init__(self, split: Split, *, process: int, processes: int, train: bool) -> None:
        self._split, self._process, self._processes = split, process, processes
        self._train = train
        self.epoch, self.skip = 0, 0  # skip: batches of this process

    def __iter__(self) -> Iterator[Batch | None]:
        from datasets.distributed import split_dataset_by_node

        config = self._split.config
        rows = self._split.rows
        if self._train:
            rows = rows.shuffle(seed=config.seed, buffer_size=config.shuffle_buffer)
            rows.set_epoch(self.epoch)
        if self._processes > 1:
            rows = split_dataset_by_node(rows, self._process, self._processes)
        info = torch.utils.data.get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        skip = max(0, -(-(self.skip - worker) // workers))  # batches come from workers in turn
        waiting: list[dict[str, Any]] = []
        for row in rows:
            waiting.append(row)
            if len(waiting) == config.batch_size:
                yield self._batch(waiting, skip)
                skip, waiting = skip - 1, []
        if waiting and not (self._train and config.drop_last):
            yield self._batch(waiting, skip)

    def _batch(self, rows: Sequence[dict[str, Any]], skip: int) -> Batch | None:
        if skip > 0:
            return None
        config = self._split.config
        images = [row[config.image_column] for row in rows]
        labels = [row[config.label_column] for row in rows]
        return decode_batch(images, labels, [-1] * len(rows), config)


def decode_batch(
    images: Sequence[dict[str, Any]],
    labels: Sequence[int],
    numbers: Sequence[int],
    config: TrainConfig,
) -> Batch:
    """Decode and resize images; those that nobody can decode are left out and named.

    Raises:
        CytoImageNetError: such an image, when `bad_rows` is "stop".
    """
    pixels, kept, bad = [], [], []
    for at, image in enumerate(images):
        try:
            pixels.append(decode(image["bytes"], config.image_size))
            kept.append(at)
        except (OSError, ValueError, TypeError, SyntaxError, Image.DecompressionBombError) as error:
            bad.append(f"row {numbers[at]} ({image.get('path')}): {error}")
    if bad and config.bad_rows == "stop":
        raise CytoImageNetError(f"{bad[0]}. Use --bad-rows skip to leave such rows out.")
    size = config.image_size
    stacked = np.stack(pixels) if pixels else np.zeros((0, size, size), np.uint8)
    return Batch(
        torch.from_numpy(stacked[:, None]),
        torch.tensor([labels[at] for at in kept], dtype=torch.int64),
        torch.tensor([numbers[at] for at in kept], dtype=torch.int64),
        tuple(bad),
    )


def decode(encoded: bytes, size: int) -> npt.NDArray[np.uint8]:
    """Decode an image to gray and resize it to a square, aspect ratio ignored (protocols.md 1).

    The resizing is Pillow's antialiased bilinear one: what the exported model's own preprocessing
    does, so that its numbers are those of validation. Color is averaged over channels (paper 2.2).
    """
    with Image.open(io.BytesIO(encoded)) as image:
        gray = image if image.mode == "L" else _gray(image)
        if gray.size != (size, size):
            gray = gray.resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(gray)


def _gray(image: Image.Image) -> Image.Image:
    mean = np.asarray(image.convert("RGB"), np.float32).mean(axis=-1)
    return Image.fromarray(np.rint(mean).astype(np.uint8))


def make_loader(
    source: MapBatches | StreamBatches,
    sampler: StepSampler | EvalSampler | None,
    config: TrainConfig,
) -> Any:  # noqa: ANN401 - torch's DataLoader over batches
    """Make the loader of one split; workers live as long as it does."""
    common: dict[str, Any] = {
        "num_workers": config.workers,
        "collate_fn": _as_is,
        "persistent_workers": config.workers > 0,
        "pin_memory": torch.cuda.is_available() and not config.cpu,
    }
    if isinstance(source, MapBatches):
        return torch.utils.data.DataLoader(source, batch_sampler=sampler, **common)
    return torch.utils.data.DataLoader(source, batch_size=None, **common)


def _as_is(batch: Batch) -> Batch:
    return batch
