"""Training end to end: against stepping one ready batch, and against a loop of timm's own parts."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import datasets
import timm
import timm.data
import timm.optim
import torch
from _inputs import images
from _timing import Figure, Options, against, in_turns, run, seconds, shares
from _torch import WORKERS, two_cores
from torch.nn import functional
from torchvision.datasets import ImageFolder

from cytoimagenet_hf import sources
from cytoimagenet_hf.curation.catalog import SourceInput
from cytoimagenet_hf.curation.parameters import preset
from cytoimagenet_hf.curation.pipeline import BuildConfig, build
from cytoimagenet_hf.pretraining.config import TrainConfig
from cytoimagenet_hf.pretraining.inputs import Inputs
from cytoimagenet_hf.pretraining.log import read_lines
from cytoimagenet_hf.pretraining.train import Run
from cytoimagenet_hf.simulation import simulate

SOURCES = ("bbbc006", "bbbc022", "bbbc038")
# Halves of fields and whole small ones, most of them 180 to 256 pixels high in config `small`.
BUILD = {"min_fields": 2, "min_crop_side": 180}
SETTINGS = {"model": "tf_efficientnet_b0", "image_size": 224, "batch_size": 12}
QUICK_SETTINGS = {"model": "test_efficientnet", "image_size": 64, "batch_size": 4}
STEPS = 8  # an epoch


def build_small(folder: Path, count: int) -> tuple[TrainConfig, str]:
    """Build a data set from raw images; give settings that train on `count` of its crops."""
    root, origin = images(), "real"
    if root is None:
        root, origin = folder / "raw", "simulated"
        for name in SOURCES:
            simulate(name, root, fields=count // 4)  # more than `count` crops
    inputs = [SourceInput(sources.get(name), root / name) for name in SOURCES]
    output = folder / "built"
    build(BuildConfig(inputs=inputs, output=output, parameters=preset("standard", **BUILD)))
    config = TrainConfig(
        dataset=str(output), name="small", train_split=f"train[-{count}:]", validation_split="",
        pretrained=False, workers=WORKERS, cpu=True, epochs=1000, output_dir=str(folder / "run"),
        **(SETTINGS if count == SETTINGS["batch_size"] * STEPS else QUICK_SETTINGS),
    )  # fmt: skip
    return config, f"{count} crops of {origin} {', '.join(SOURCES)}"


def image_folder(config: TrainConfig, to: Path) -> None:
    """Write the very files that a run reads as a folder of classes."""
    rows = datasets.load_dataset(config.dataset, config.name, split=config.train_split)
    for number, row in enumerate(rows.cast_column("image", datasets.Image(decode=False))):
        path = to / f"{row['label']:03d}" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row["image"]["bytes"])


def timm_epoch(folder: Path, config: TrainConfig, classes: int) -> Callable[[], int]:
    """Make an epoch of a plain loop: timm's loader and optimizer with their defaults."""
    size = config.image_size
    loader = timm.data.create_loader(
        ImageFolder(folder), (3, size, size), config.batch_size, is_training=True,
        num_workers=config.workers, device=torch.device("cpu"),
    )  # fmt: skip
    model = timm.create_model(config.model, num_classes=classes)
    optimizer = timm.optim.create_optimizer_v2(model, opt=config.optimizer, lr=1e-4)

    def epoch() -> int:
        count = 0
        model.train()
        for pixels, labels in loader:
            loss = functional.cross_entropy(model(pixels), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            count += len(labels)
        return count

    return epoch


class Ours:
    """A run of the package's own loop, gone through epoch by epoch."""

    def __init__(self, config: TrainConfig) -> None:
        self.run = Run(config)
        self.progress = self.run.resume()
        self.checkpoint = 0.0  # seconds
        self.ready = next(iter(self.run.loader))

    def epoch(self) -> int:
        """Train one epoch; the checkpoint at its end is left out and charged apart."""
        before = self.progress.seen
        with mock.patch.object(self.run, "save"):
            self.progress = self.run.train_epoch(self.progress)
        return self.progress.seen - before

    def ready_epoch(self) -> int:
        """Step as often over one batch that is there: same network, optimizer, augmentation."""
        progress = self.progress
        for _ in range(STEPS):
            progress = self.run._step([self.ready], progress, mock.Mock(images=0))
        return progress.seen - self.progress.seen

    def where(self) -> dict[str, float]:
        """Tell what share of an epoch goes where."""
        clip = (self.run.accelerator, "clip_grad_norm_")
        stages = {
            "augmentation": [(Inputs, "training")],
            "optimizer": [(self.run.optimizer, "step"), clip],
        }
        spent = shares(self.epoch, stages)
        waiting = read_lines(self.run.output)[-1]["waiting"]
        spent["waiting for data"] = round(waiting, 3)
        spent["forward and backward"] = round(spent.pop("other") - waiting, 3)
        return spent


def measure(options: Options) -> Iterator[Figure]:
    """Time an epoch of a run, the same steps over a ready batch, and an epoch of timm's parts."""
    settings = QUICK_SETTINGS if options.quick else SETTINGS
    count = settings["batch_size"] * STEPS
    with tempfile.TemporaryDirectory() as temporary, two_cores(Path(temporary)):
        figures = _measure(Path(temporary), count, options)
    yield from figures


def _measure(folder: Path, count: int, options: Options) -> list[Figure]:
    config, origin = build_small(folder, count)
    image_folder(config, folder / "tree")
    ours = Ours(config)
    plain = timm_epoch(folder / "tree", config, len(ours.run.classes))
    sides = {"ready": ours.ready_epoch, "ours": ours.epoch, "timm": plain}
    for name, epoch in sides.items():  # the first round starts workers
        assert epoch() == count, f"{name} does not see {count} images"
    spent = in_turns(sides, options.rounds)
    checkpoint = seconds(lambda: ours.run.save(ours.progress)) * STEPS / config.checkpoint_steps
    own = [one + checkpoint for one in spent["ours"]]
    note = (
        f"{origin}, `small`; {config.model}, {config.image_size} px, batch {config.batch_size}, "
        f"{torch.get_num_threads()} threads and {WORKERS} workers on two cores"
    )
    beside = "timm's create_loader over an ImageFolder and create_optimizer_v2, defaults"
    return [
        against(
            "run against stepping a ready batch", spent["ready"], own,
            must=0.92, aim=0.96, images=count, where=ours.where(), note=note,
        ),
        against(
            "run against a loop of timm's parts", spent["timm"], own,
            must=0.95, aim=1.0, images=count, note=f"the same; {beside}",
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    run(measure, __doc__)
