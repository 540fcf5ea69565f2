"""What the network sees of a batch, in training and in validation."""

from dataclasses import dataclass

import torch
from torch.nn import functional

from cytoimagenet_hf import hashing
from cytoimagenet_hf.pretraining.augment import augment, draw, mix_batch, plain
from cytoimagenet_hf.pretraining.config import TrainConfig
from cytoimagenet_hf.pretraining.decoding import Batch


@dataclass(frozen=True, slots=True)
class Inputs:
    """From uint8 gray on the CPU to three normalized channels on the device."""

    config: TrainConfig
    classes: int
    mean: torch.Tensor  # (1, 3, 1, 1), as `std`
    std: torch.Tensor
    device: torch.device

    def training(
        self, batch: Batch | None, *, step: int, part: int, place: int
    ) -> tuple[torch.Tensor, torch.Tensor, float]:
        """Augment and mix a batch.

        Args:
            batch: None where a process has no more.
            step: of the run.
            part: of the step, a number for each process and micro-batch.
            place: of the batch's first image among those of the step.

        Returns:
            Pixels (n, 3, h, w), targets (n, classes), and what each image counts: 0 for a stand-in
            of no images; a half for the two views of a lone one, as batch norm needs two.
        """
        config = self.config
        if batch is None or len(batch.labels) == 0:
            images = torch.zeros(2, 1, config.image_size, config.image_size, dtype=torch.uint8)
            labels, weight = torch.zeros(2, dtype=torch.int64), 0.0
        elif len(batch.labels) == 1:
            images, labels = batch.images.repeat(2, 1, 1, 1), batch.labels.repeat(2)
            weight = 0.5
        else:
            images, labels, weight = batch.images, batch.labels, 1.0
        draws = draw(images, config, step, place)
        pixels = augment(images.to(self.device, non_blocking=True), config, draws)
        labels = labels.to(self.device, non_blocking=True)
        targets = functional.one_hot(labels, self.classes).float()
        salt = hashing.rank(config.seed, "mix", step, part) % (1 << 63)
        generator = torch.Generator().manual_seed(salt)
        pixels, targets = mix_batch(pixels, targets, config, generator)
        return self._normalized(pixels), targets, weight

    def validation(self, batch: Batch) -> torch.Tensor:
        """Leave a batch as it is; (n, 3, h, w)."""
        return self._normalized(plain(batch.images.to(self.device, non_blocking=True)))

    def _normalized(self, pixels: torch.Tensor) -> torch.Tensor:
        image = (pixels.expand(-1, 3, -1, -1) - self.mean) / self.std
        layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
        return image.contiguous(memory_format=layout)
