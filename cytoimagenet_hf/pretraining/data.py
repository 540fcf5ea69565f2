"""Data sets as batches: encoded bytes, decoded and resized in workers, the same on every restart.

Images arrive as uint8 gray; everything random happens later, on the device (augment.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cytoimagenet_hf import hashing
from cytoimagenet_hf.errors import CytoImageNetError
from cytoimagenet_hf.hub._folders import is_of_others
from cytoimagenet_hf.pretraining.config import TrainConfig
from cytoimagenet_hf.pretraining.decoding import Batch, decode_batch
from cytoimagenet_hf.pretraining.sampling import EvalSampler, Rows, StepSampler


@dataclass(frozen=True, slots=True)
class Split:
    """One split of a data set, opened."""

    rows: Any  # datasets.Dataset or IterableDataset with {bytes, path} images
    labels: Rows  # (n,) class of every row; read once, without images
    classes: tuple[str, ...]
    config: TrainConfig

    def __len__(self) -> int:
        return len(self.labels)

    def identity(self) -> str:
        """Fingerprint of classes and labels: tells another data set of the same name."""
        return hashing.fingerprint([*self.classes, self.labels.astype("<i8").tobytes().hex()])

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

    rows = _load(config, split)
    names = list(rows.features or {})
    for column in (config.image_column, config.label_column):
        if column not in names:
            raise ValueError(f"{config.dataset}: no column {column!r}; there are {names}.")
    if not isinstance(rows.features[config.image_column], datasets.Image):
        raise ValueError(f"{config.dataset}: column {config.image_column!r} holds no images.")
    feature = rows.features[config.label_column]
    if not isinstance(feature, datasets.ClassLabel):
        raise ValueError(
            f"{config.dataset}: column {config.label_column!r} is no ClassLabel but {feature}; "
            f"make it one with class_encode_column({config.label_column!r}) of `datasets`, and "
            f"write the data set again with to_parquet."
        )
    labels = _labels(rows, config, split)
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


def _load(config: TrainConfig, split: str, **options: Any) -> Any:  # noqa: ANN401
    from cytoimagenet_hf.hub import loading

    name = config.name or None
    options |= {"split": split, "streaming": config.streaming, "revision": config.revision or None}
    try:
        if is_of_others(config.dataset):
            import datasets

            if config.revision:
                raise ValueError(f"{config.dataset} is a folder and has no --revision.")
            return datasets.load_dataset(config.dataset, name, **options)
        return loading.load_dataset(config.dataset, name, **options)
    except OSError as error:
        raise CytoImageNetError(f"{config.dataset} can't be read: {error}") from error
    except ValueError as error:
        if str(error).startswith("BuilderConfig"):
            raise ValueError(f"{config.dataset}: {error}. Name one of them with --name.") from error
        if "split" not in str(error).lower():
            raise
        raise ValueError(
            f"{config.dataset}: {error} Name them with --train-split and --validation-split; "
            f"--validation-split= with nothing behind it trains without."
        ) from error


def _labels(rows: Any, config: TrainConfig, split: str) -> Rows:  # noqa: ANN401
    """Read the label column alone; -1 stands for none."""
    column = config.label_column
    if not config.streaming:
        table = rows.select_columns([column]).with_format("arrow")[:]
        return np.asarray(table[column].fill_null(-1).to_numpy(), np.int64)
    try:  # Parquet files are read by column
        only = _load(config, split, columns=[column])
    except (TypeError, ValueError):
        only = rows.select_columns([column])
    return np.array([-1 if row[column] is None else row[column] for row in only], np.int64)


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

    def __init__(self, split: Split, process: int, processes: int, *, train: bool) -> None:
        self._split, self._process, self._processes = split, process, processes
        self._train = train
        self.epoch, self.skip = 0, 0  # skip: batches of this process

    def __iter__(self) -> Iterator[Batch | None]:
        from datasets.distributed import split_dataset_by_node

        config = self._split.config
        rows = self._split.rows
        if self._train:
            # One shard at a time: mixing several, `datasets` waits 5 s at the end of each epoch,
            # and some of its releases leave workers without shards.
            rows = rows.shuffle(
                seed=config.seed, buffer_size=config.shuffle_buffer, max_buffer_input_shards=1
            )
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
