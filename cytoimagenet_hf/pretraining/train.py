"""The training loop, read from top to bottom (paper 2.3; Accelerate for devices and processes).

Nothing here is drawn from a global stream of random numbers: the rows of a step, its augmentation
and its dropout follow from (seed, step, process), so a run that was killed goes on exactly.
"""

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import timm
import timm.utils
import torch
from torch.nn import functional

from cytoimagenet_hf import files, hashing
from cytoimagenet_hf.errors import CytoImageNetError
from cytoimagenet_hf.pretraining import checkpoints
from cytoimagenet_hf.pretraining.augment import augment, mix_batch, plain
from cytoimagenet_hf.pretraining.checkpoints import Progress
from cytoimagenet_hf.pretraining.config import TrainConfig
from cytoimagenet_hf.pretraining.data import (
    Batch,
    EvalSampler,
    MapBatches,
    Split,
    StepSampler,
    StreamBatches,
    make_loader,
    open_split,
)
from cytoimagenet_hf.pretraining.export import save_model
from cytoimagenet_hf.pretraining.log import Meter, write_line
from cytoimagenet_hf.pretraining.metrics import classification, per_class
from cytoimagenet_hf.pretraining.models import build_model, make_optimizer, normalization
from cytoimagenet_hf.pretraining.setup import identity, precision, rate_factor, tracker


def train(config: TrainConfig) -> dict[str, Any]:
    """Train a model and leave its folder in `config.output_dir`.

    Returns:
        The final metrics, as final.json holds them.

    Raises:
        CytoImageNetError, ValueError: each says what is wrong and what to do; checkpoints that
            were written before are whole.
    """
    run = Run(config)
    progress = run.resume()
    while progress.epoch < run.epochs and progress.step < run.total_steps:
        progress = run.train_epoch(progress)
    return run.finish(progress)


class Run:
    """Everything a run holds: data, network, optimizer, log."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.output = Path(config.output_dir)
        self.accelerator = accelerate.Accelerator(
            cpu=config.cpu, mixed_precision=precision(config), log_with=tracker(config)
        )
        self.rank = self.accelerator.process_index
        self.world = self.accelerator.num_processes
        self.train_split = open_split(config, config.train_split)
        self.validation = (
            open_split(config, config.validation_split) if config.validation_split else None
        )
        self.classes = self.train_split.classes
        if absent := self.train_split.absent_classes():
            self.say(f"{len(absent)} classes have no training image: {', '.join(absent[:5])}")
        torch.manual_seed(hashing.rank(config.seed, "weights") % (1 << 63))
        network = build_model(config, self.classes)
        self.mean, self.std = (one.to(self.accelerator.device) for one in normalization(network))
        if config.channels_last:
            network = network.to(memory_format=torch.channels_last)
        if self.world > 1 and self.accelerator.device.type == "cuda":
            network = timm.layers.convert_sync_batchnorm(network)
        self.optimizer = make_optimizer(network, config)
        self.network = network
        self.averaged = timm.utils.ModelEmaV3(network, decay=config.ema) if config.ema else None
        self.model, self.optimizer = self.accelerator.prepare(network, self.optimizer)
        self.forward = torch.compile(self.model) if config.compile else self.model
        self._open_loaders()
        self.scores: dict[str, float] = {}  # of the last validation
        if config.tracker:
            self.accelerator.init_trackers("cytoimagenet", config=config.as_dict())

    def _open_loaders(self) -> None:
        config, place = self.config, (self.rank, self.world)
        self.sampler = StepSampler(self.train_split.labels, config, *place)
        if config.streaming:
            self.source: Any = StreamBatches(
                self.train_split, process=self.rank, processes=self.world, train=True
            )
            size = config.batch_size * self.world * config.gradient_accumulation
            self.epoch_steps = -(-len(self.train_split) // size)
        else:
            self.source = MapBatches(self.train_split)
            self.epoch_steps = self.sampler.steps
        self.loader = make_loader(self.source, self.sampler, config)
        self.epochs = config.epochs if config.epochs > 0 else 1 << 30
        self.total_steps = config.max_steps or self.epochs * self.epoch_steps

    # -- where a run stands --------------------------------------------------------------------

    def resume(self) -> Progress:
        """Go on from the newest whole checkpoint, or begin."""
        key = identity(self.config)
        fresh = Progress(0, 0, 0, 0, self.world, key)
        folder = self.output / "checkpoints"
        if not self.config.resume:
            if checkpoints.any_in(folder):
                raise CytoImageNetError(
                    f"{folder} holds checkpoints of a run. Give another --output-dir, or leave "
                    f"--no-resume away to go on."
                )
            restored = None
        else:
            restored = checkpoints.restore(folder, self.say)
        if self.accelerator.is_main_process:
            self.config.save(self.output)
        if restored is None:
            return fresh
        checkpoints.check_same(restored, key, self.world)
        self.network.load_state_dict(dict(restored.model))
        self.optimizer.load_state_dict(restored.optimizer)
        if self.averaged is not None and restored.averaged is not None:
            self.averaged.module.load_state_dict(dict(restored.averaged))
        self.say(f"resumed from {restored.path}")
        return restored.progress

    def save(self, progress: Progress) -> None:
        """Write a checkpoint; all processes wait for it."""
        if self.accelerator.is_main_process:
            checkpoints.save(
                self.output / "checkpoints",
                progress,
                model=self.network.state_dict(),
                optimizer=self.optimizer.state_dict(),
                averaged=self.averaged.module.state_dict() if self.averaged else None,
                keep=self.config.keep_checkpoints,
            )
        self.accelerator.wait_for_everyone()

    # -- one epoch -------------------------------------------------------------------------------

    def train_epoch(self, progress: Progress) -> Progress:
        """Train from where the epoch stands to its end, then validate and write a checkpoint."""
        meter = Meter()
        for group in self._groups(progress, meter):
            progress = self._step(group, progress, meter)
            if progress.step % self.config.log_steps == 0:
                rate = self.optimizer.param_groups[0]["lr"]
                self._write("train", progress, meter.numbers() | {"learning_rate": rate})
                meter = Meter()
            if progress.step % self.config.checkpoint_steps == 0:
                self.save(progress)
            if progress.step >= self.total_steps:
                break
        progress = replace(progress, epoch=progress.epoch + 1, step_in_epoch=0)
        self.scores = self.validate(progress)
        progress = replace(progress, best=max(progress.best, self.scores.get("accuracy", 0.0)))
        self.save(progress)
        return progress

    def _groups(self, progress: Progress, meter: Meter) -> Iterator[list[Batch]]:
        """Yield the batches of each step; the same number of times in all processes."""
        batches = self._batches(progress)
        while True:
            group = []
            for _ in range(self.config.gradient_accumulation):
                began = time.perf_counter()
                batch = next(batches, None)
                meter.waiting += time.perf_counter() - began
                if batch is not None:
                    group.append(batch)
            if not self._anyone(bool(group)):
                return
            yield group

    def _batches(self, progress: Progress) -> Iterator[Batch]:
        used = progress.step_in_epoch * self.config.gradient_accumulation
        if not self.config.streaming:
            self.sampler.epoch, self.sampler.start = progress.epoch, progress.step_in_epoch
            yield from self.loader
            return
        self.source.epoch, self.source.skip = progress.epoch, used
        # Workers hold a copy of the source, so they are started again for each epoch.
        for number, batch in enumerate(make_loader(self.source, None, self.config)):
            if number >= used:
                yield batch

    def _step(self, group: Sequence[Batch], progress: Progress, meter: Meter) -> Progress:
        """One step of the optimizer over the batches of all processes."""
        self._follow_schedule(progress.step)
        count = self._sum(sum(len(batch.labels) for batch in group))
        bad = self._sum(sum(len(batch.bad) for batch in group))
        for batch in group:
            for row in batch.bad:
                self.say(f"left out: {row}")
        self.model.train()
        total = torch.zeros((), device=self.accelerator.device)
        parts: list[Batch | None] = list(group) or [None]
        for at, batch in enumerate(parts):
            last = at == len(parts) - 1
            with self.accelerator.no_sync(self.model) if not last else contextlib.nullcontext():
                total += self._backward(batch, progress.step, at, max(count, 1))
        loss = float(self.accelerator.reduce(total, "sum")) if self.world > 1 else float(total)
        if not math.isfinite(loss):
            raise CytoImageNetError(
                f"The loss became {loss} at step {progress.step}. The last checkpoint is whole; "
                f"lower --learning-rate or set --clip-grad, and give another --output-dir."
            )
        if self.config.clip_grad:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.averaged is not None:
            self.averaged.update(self.network, step=progress.step)
        meter.add(loss, count)
        return replace(
            progress,
            step=progress.step + 1,
            step_in_epoch=progress.step_in_epoch + 1,
            seen=progress.seen + count,
            bad_rows=progress.bad_rows + bad,
        )

    def _backward(self, batch: Batch | None, step: int, part: int, count: int) -> torch.Tensor:
        """Loss and gradients of one batch, as its share of the mean over all processes."""
        salt = hashing.rank(self.config.seed, "step", step, part, self.rank) % (1 << 63)
        torch.manual_seed(salt)  # dropout and stochastic depth
        generator = torch.Generator().manual_seed(salt)
        device = self.accelerator.device
        empty = batch is None or len(batch.labels) == 0
        if empty:  # this process has no image left, but must take part in the exchange
            size = self.config.image_size
            images = torch.zeros(2, 1, size, size, dtype=torch.uint8, device=device)
            labels = torch.zeros(2, dtype=torch.int64, device=device)
        else:
            assert batch is not None
            images = batch.images.to(device, non_blocking=True)
            labels = batch.labels.to(device, non_blocking=True)
        targets = functional.one_hot(labels, len(self.classes)).float()
        pixels, targets = mix_batch(
            augment(images, self.config, generator), targets, self.config, generator
        )
        with self.accelerator.autocast():
            logits = self.forward(self._input(pixels))
        losses = functional.cross_entropy(
            logits.float(), targets, label_smoothing=self.config.label_smoothing, reduction="sum"
        )
        share = losses * (0.0 if empty else 1.0) / count
        self.accelerator.backward(share * self.world)  # processes are averaged
        return share.detach()

    def _input(self, pixels: torch.Tensor) -> torch.Tensor:
        """Gray in 0..1 to three normalized channels."""
        image = (pixels.expand(-1, 3, -1, -1) - self.mean) / self.std
        layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
        return image.contiguous(memory_format=layout)

    def _follow_schedule(self, step: int) -> None:
        rate = self.config.learning_rate * rate_factor(step, self.total_steps, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    # -- validation ------------------------------------------------------------------------------

    @torch.inference_mode()
    def validate(self, progress: Progress) -> dict[str, float]:
        """Score the validation split; every row counts once."""
        if self.validation is None:
            return {}
        predictions, references, loss = self.predict(self.validation)
        scores = classification(predictions, references, len(self.classes))
        scores["loss"] = loss
        self._write("validation", progress, scores)
        table = per_class(predictions[:, 0], references, len(self.classes))
        if self.accelerator.is_main_process:
            rows = [
                {"class": name, "images": int(n), "predicted": int(p), "right": int(r)}
                for name, (n, p, r) in zip(self.classes, table, strict=True)
            ]
            files.write_json(self.output / "classes.json", rows)
        return scores

    @torch.inference_mode()
    def predict(self, split: Split) -> tuple[np.ndarray, np.ndarray, float]:
        """Rank the classes of each row of a split.

        Returns:
            (n, 7 or fewer) class numbers, (n,) true classes, mean loss; gathered over processes.
        """
        model = self.averaged.module if self.averaged is not None else self.model
        model.eval()
        source, sampler = self._evaluation(split)
        ranked, truth, loss = [], [], 0.0
        for batch in make_loader(source, sampler, self.config):
            if len(batch.labels) == 0:
                continue
            images = batch.images.to(self.accelerator.device)
            with self.accelerator.autocast():
                logits = model(self._input(plain(images))).float().cpu()
            loss += float(functional.cross_entropy(logits, batch.labels, reduction="sum"))
            ranked += logits.topk(min(7, len(self.classes))).indices.tolist()
            truth += batch.labels.tolist()
        everyone = accelerate.utils.gather_object([(ranked, truth, loss)])
        rows = [row for part in everyone for row in part[0]]
        labels = [label for part in everyone for label in part[1]]
        return np.array(rows), np.array(labels), sum(part[2] for part in everyone) / len(labels)

    def _evaluation(self, split: Split) -> tuple[Any, Any]:
        if self.config.streaming:
            return StreamBatches(split, process=self.rank, processes=self.world, train=False), None
        return MapBatches(split), EvalSampler(len(split), self.config, self.rank, self.world)

    # -- the end ---------------------------------------------------------------------------------

    def finish(self, progress: Progress) -> dict[str, Any]:
        """Write the model folder."""
        final = {
            **(self.scores or self.validate(progress)),
            "steps": progress.step,
            "epochs": progress.epoch,
            "images_seen": progress.seen,
            "bad_rows": progress.bad_rows,
        }
        if self.accelerator.is_main_process:
            network = self.averaged.module if self.averaged is not None else self.network
            save_model(network, self.output / "model", classes=self.classes, config=self.config)
            files.write_json(self.output / "final.json", final)
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()
        return final

    def _write(self, kind: str, progress: Progress, numbers: Mapping[str, float]) -> None:
        """Add a line to metrics.jsonl, and tell it."""
        if not self.accelerator.is_main_process:
            return
        place = {"epoch": progress.epoch, "step": progress.step}
        self.say(write_line(self.output, kind, place, numbers))
        if self.config.tracker:
            self.accelerator.log(dict(numbers), step=progress.step)

    def say(self, text: str) -> None:
        """Tell people, once."""
        self.accelerator.print(text)

    def _sum(self, value: int) -> int:
        if self.world == 1:
            return value
        own = torch.tensor(value, device=self.accelerator.device)
        return int(self.accelerator.reduce(own, "sum"))

    def _anyone(self, value: bool) -> bool:
        return bool(self._sum(int(value)))
