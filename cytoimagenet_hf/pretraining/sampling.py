"""Which rows make which batch: computed, not drawn, so a run can go on anywhere.

An epoch's order is a ranking by hashes of row numbers. Processes never meet a row twice, and the
place of an image in its step is known, whatever the number of processes and micro-batches.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf.hashing import mix, rank
from cytoimagenet_hf.pretraining.config import TrainConfig

Rows = npt.NDArray[np.int64]


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
        rows = len(self._order())
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
        order = self._order()[: self._used]
        for step in range(self.start, self.steps):
            own = order[_edges(len(order), self.steps, step)]
            for micro in range(self.config.gradient_accumulation):
                yield own[self._part(len(own), micro)].tolist()

    def place(self, step: int, micro: int) -> int:
        """Return the place in its step of the first image of a micro-batch."""
        own = _edges(self._used, self.steps, step)
        return int(self._part(own.stop - own.start, micro).start)

    def _part(self, images: int, micro: int) -> slice:
        parts = self.processes * self.config.gradient_accumulation
        return _edges(images, parts, micro * self.processes + self.process)

    def _order(self) -> Rows:
        return epoch_order(
            self.labels,
            seed=self.config.seed,
            epoch=self.epoch,
            balanced=self.config.class_balanced,
        )


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
