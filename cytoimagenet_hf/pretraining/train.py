"""The training loop, read from top to bottom (paper 2.3; Accelerate for devices and processes).

Nothing here is drawn from a global stream of random numbers: the rows of a step, its augmentation
and its dropout follow from (seed, step, process), so a run that was killed goes on exactly.
"""

import contextlib
import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import accelerate
import timm
import timm.utils
import torch
from torch.nn import functional

from cytoimagenet_hf import files, hashing
from cytoimagenet_hf.errors import CytoImageNetError
from cytoimagenet_hf.hub.pushing import check_run, license_of_run, publish_run
from cytoimagenet_hf.pretraining import checkpoints
from cytoimagenet_hf.pretraining.checkpoints import Parts, Progress
from cytoimagenet_hf.pretraining.config import TrainConfig
from cytoimagenet_hf.pretraining.data import MapBatches, StreamBatches, make_loader, open_split
from cytoimagenet_hf.pretraining.decoding import Batch
from cytoimagenet_hf.pretraining.evaluation import predict, write_classes
from cytoimagenet_hf.pretraining.export import save_model
from cytoimagenet_hf.pretraining.inputs import Inputs
from cytoimagenet_hf.pretraining.log import Meter, left_out, rewind, write_line, written
from cytoimagenet_hf.pretraining.metrics import classification
from cytoimagenet_hf.pretraining.models import (
    build_model,
    check_model,
    make_optimizer,
    normalization,
)
from cytoimagenet_hf.pretraining.sampling import StepSampler
from cytoimagenet_hf.pretraining.setup import (
    alone,
    check_compiler,
    choose_device,
    identity,
    precision,
    rate_factor,
    tracker,
)


def train(config: TrainConfig) -> dict[str, Any]:
    """Train a model and leave its folder in `config.output_dir`.

    Returns:
        The final metrics, as final.json holds them.

    Raises:
        CytoImageNetError, ValueError: each says what is wrong and what to do; checkpoints that
            were written before are whole.
    """
    run = Run(config)
    with alone(run.output) if run.accelerator.is_main_process else contextlib.nullcontext():
        progress = run.resume()
        while progress.epoch < run.epochs and progress.step < run.last_step:
            progress = run.train_epoch(progress)
        return run.finish(progress)


class Run:
    """A training run: network, optimizer, batches, and where they stand."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.output = Path(config.output_dir)
        device = choose_device(config)
        check_compiler(config, device)
        self.accelerator = accelerate.Accelerator(
            cpu=device.type == "cpu",
            mixed_precision=precision(config, device),
            log_with=tracker(config),
            project_dir=config.output_dir,
        )
        self.device = self.accelerator.device
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.say(f"{self.world} process{'es' * (self.world > 1)} on {self.device.type}")
        check_model(config)  # before anything slow, like the right to push
        if config.push_to_hub and self.accelerator.is_main_process:
            check_run(config.as_dict())
        self._open_data()
        self._make_network()
        self.scores: dict[str, float] = {}  # of the last validation
        if config.tracker:
            self.accelerator.init_trackers("cytoimagenet", config=config.as_dict())

    def _open_data(self) -> None:
        config, place = self.config, (self.rank, self.world)
        split = open_split(config, config.train_split)
        self.classes, self.identity = split.classes, identity(config, split.identity())
        if absent := split.absent_classes():
            self.say(f"classes without a training image: {len(absent)} ({', '.join(absent[:5])})")
        self.validation = None
        if config.validation_split:
            self.validation = open_split(config, config.validation_split)
            if self.validation.classes != self.classes:
                raise ValueError(f"{config.dataset}: the splits have different classes.")
        if config.streaming:
            self.source: Any = StreamBatches(split, *place, train=True)
            size = config.batch_size * self.world * config.gradient_accumulation
            epoch_steps = -(-len(split) // size)  # about: each worker ends with a part of a batch
        else:
            self.source = MapBatches(split)
            self.sampler = StepSampler(split.labels, config, *place)
            self.loader = make_loader(self.source, self.sampler, config)
            epoch_steps = self.sampler.steps
        self.epochs = math.inf if config.max_steps else config.epochs
        self.last_step = config.max_steps or math.inf
        self.planned_steps = config.max_steps or config.epochs * epoch_steps  # of the schedule

    def _make_network(self) -> None:
        config = self.config
        torch.manual_seed(hashing.rank(config.seed, "weights") % (1 << 63))
        network = build_model(config, self.classes)
        mean, std = (one.to(self.device) for one in normalization(network))
        self.inputs = Inputs(config, len(self.classes), mean, std, self.device)
        if config.channels_last:
            network = network.to(memory_format=torch.channels_last)
        self.synchronized = self.world > 1 and self.device.type == "cuda"
        if self.synchronized:
            network = timm.layers.convert_sync_batchnorm(network)
        optimizer = make_optimizer(network, config)
        self.network = network
        self.model, self.optimizer = self.accelerator.prepare(network, optimizer)
        self.averaged = None
        if config.ema:  # with a warm-up, so that short runs don't end near their random start
            self.averaged = timm.utils.ModelEmaV3(network, decay=config.ema, use_warmup=True)
        averaged = None if self.averaged is None else self.averaged.module
        self.final = network if averaged is None else averaged  # what is scored and exported
        self.parts = Parts(network, self.optimizer, self.accelerator.scaler, averaged)
        self.forward = torch.compile(self.model) if config.compile else self.model

    # -- where a run stands --------------------------------------------------------------------

    def resume(self) -> Progress:
        """Go on from the newest whole checkpoint, or begin."""
        folder = self.output / "checkpoints"
        if not self.config.resume and checkpoints.any_in(folder):
            raise CytoImageNetError(
                f"{folder} holds checkpoints of a run. Give another --output-dir, or leave "
                f"--no-resume away to go on."
            )
        progress = Progress(0, 0, 0, 0, self.world, self.identity)
        restored = checkpoints.restore(folder, self.say)
        if restored is not None:
            checkpoints.check_same(restored, self.identity, self.world)
            progress = restored.progress
            restored.load_into(self.parts)
            self.say(f"resumed from {restored.path}")
        if self.accelerator.is_main_process:
            rewind(self.output, progress.written)
            self.config.save(self.output)
        return progress

    def save(self, progress: Progress) -> None:
        """Write a checkpoint; all processes wait for it."""
        if self.accelerator.is_main_process:
            checkpoints.save(
                self.output / "checkpoints",
                replace(progress, written=written(self.output)),
                self.parts,
                keep=self.config.keep_checkpoints,
            )
        self.accelerator.wait_for_everyone()

    # -- one epoch -------------------------------------------------------------------------------

    def train_epoch(self, progress: Progress) -> Progress:
        """Train from where the epoch stands to its end, then validate and write a checkpoint."""
        meter = Meter()
        for group in self._groups(progress, meter):
            progress = self._step(group, progress, meter)
            if progress.lined >= self.config.log_steps:  # which may be another one on resume
                progress, meter = self._log(progress, meter), Meter()
            if progress.step % self.config.checkpoint_steps == 0:
                self.save(progress)
            if progress.step >= self.last_step:
                break
        if progress.lined:
            progress = self._log(progress, meter)
        if progress.seen == 0:
            raise CytoImageNetError(
                f"Not one image of {self.config.dataset} made a batch: {progress.bad_rows} can't "
                f"be decoded; --drop-last leaves out batches that aren't full."
            )
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
            if not self._sum(len(group)):
                return
            yield group

    def _batches(self, progress: Progress) -> Iterator[Batch]:
        if not self.config.streaming:
            self.sampler.epoch, self.sampler.start = progress.epoch, progress.step_in_epoch
            yield from self.loader
            return
        used = progress.step_in_epoch * self.config.gradient_accumulation
        self.source.epoch, self.source.skip = progress.epoch, used
        # Workers hold a copy of the source, so they are started again for each epoch.
        yield from itertools.islice(make_loader(self.source, None, self.config), used, None)

    def _step(self, group: Sequence[Batch], progress: Progress, meter: Meter) -> Progress:
        """One step of the optimizer over the batches of all processes."""
        rate = self._follow_schedule(progress.step)
        count = self._sum(sum(len(batch.labels) for batch in group))
        bad = self._sum(sum(left_out(batch, self.config) for batch in group))
        total = torch.zeros((), device=self.device)
        parts: list[Batch | None] = list(group) or [None]
        for micro, batch in enumerate(parts):
            last = micro == len(parts) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                total += self._backward(batch, progress, micro, max(count, 1))
        loss = float(self.accelerator.reduce(total, "sum"))
        if not math.isfinite(loss):
            raise CytoImageNetError(
                f"The loss became {loss} at step {progress.step} (learning rate {rate:.3g}). The "
                f"last checkpoint is whole; lower --learning-rate or set --clip-grad, and give "
                f"another --output-dir."
            )
        if self.config.clip_grad:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.averaged is not None:
            self.averaged.update(self.network, step=progress.step)
        meter.images += count
        return replace(
            progress,
            step=progress.step + 1,
            step_in_epoch=progress.step_in_epoch + 1,
            seen=progress.seen + count,
            bad_rows=progress.bad_rows + bad,
            loss=progress.loss + loss,
            lined=progress.lined + 1,
        )

    def _backward(
        self, batch: Batch | None, progress: Progress, micro: int, count: int
    ) -> torch.Tensor:
        """Loss and gradients of one batch, as its share of the mean over all processes."""
        part, step = micro * self.world + self.rank, progress.step
        if self.config.streaming:
            place = part * self.config.batch_size
        else:
            place = self.sampler.place(progress.step_in_epoch, micro)
        pixels, targets, weight = self.inputs.training(batch, step=step, part=part, place=place)
        # A process without images takes part in the exchange of gradients, and in nothing else.
        self.model.train(weight > 0 or self.synchronized)
        # Dropout and stochastic depth draw from here on.
        torch.manual_seed(hashing.rank(self.config.seed, "step", step, part) % (1 << 63))
        with self.accelerator.autocast():
            logits = self.forward(pixels)
        losses = functional.cross_entropy(
            logits.float(), targets, label_smoothing=self.config.label_smoothing, reduction="sum"
        )
        share = losses * weight / count
        self.accelerator.backward(share * self.world)  # processes are averaged
        return share.detach()

    def _follow_schedule(self, step: int) -> float:
        rate = self.config.learning_rate * rate_factor(step, self.planned_steps, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    # -- validation and the end -----------------------------------------------------------------

    def validate(self, progress: Progress) -> dict[str, float]:
        """Score the validation split."""
        if self.validation is None:
            return {}
        found = predict(self.final, self.validation, self.inputs, self.accelerator)
        scores = classification(found.ranked, found.truth, len(self.classes))
        scores["loss"] = found.loss
        if found.left_out:  # the scores are of the others
            scores["left_out"] = found.left_out
        self._write("validation", progress, scores)
        if self.accelerator.is_main_process:
            write_classes(self.output, self.classes, found)
        return scores

    def finish(self, progress: Progress) -> dict[str, Any]:
        """Write the model folder."""
        scores = self.scores or self.validate(progress)
        numbers = {
            "steps": progress.step,
            "epochs": progress.epoch,
            "images_seen": progress.seen,
            "bad_rows": progress.bad_rows,
            "best_accuracy": progress.best,
        }
        if self.accelerator.is_main_process:
            terms, path = license_of_run(self.config.as_dict()), self.output / "model"
            save_model(self.final, path, classes=self.classes, config=self.config, license=terms)
            files.write_json(self.output / "final.json", scores | numbers)
            publish_run(self.output, say=self.say)  # the card; pushed where the config says so
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()
        return scores | numbers

    def _log(self, progress: Progress, meter: Meter) -> Progress:
        """Write the mean loss since the last line."""
        rate = self.optimizer.param_groups[0]["lr"]
        mean = {"loss": progress.loss / progress.lined, "learning_rate": rate}
        self._write("train", progress, mean | meter.numbers())
        return replace(progress, loss=0.0, lined=0)

    def _write(self, kind: str, progress: Progress, numbers: Mapping[str, float]) -> None:
        """Add a line to metrics.jsonl, and tell it."""
        if self.accelerator.is_main_process:
            place = {"epoch": progress.epoch, "step": progress.step}
            self.say(write_line(self.output, kind, place, numbers))
        if self.config.tracker:
            named = {f"{kind}/{key}": value for key, value in numbers.items()}
            self.accelerator.log(named, step=progress.step)

    def say(self, text: str) -> None:
        """Tell people, once."""
        self.accelerator.print(text)

    def _sum(self, value: int) -> int:
        own = torch.tensor(value, device=self.device)
        return int(self.accelerator.reduce(own, "sum"))
