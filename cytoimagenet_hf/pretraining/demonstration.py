"""The demo's training: a small network on what was curated, loaded again as its users load it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cytoimagenet_hf.errors import CytoImageNetError
from cytoimagenet_hf.pretraining.config import PRESETS, TrainConfig

_BATCH = 64

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Loaded:
    """How the model that a run left does when it is loaded from its folder."""

    images: int  # held out
    accuracy: float  # share of them that the model names rightly
    majority: float  # share that the most frequent class of the training split gets
    difference: float  # largest one between the outputs of timm and transformers


def settings(dataset: Path, output: Path, *, workers: int) -> TrainConfig:
    """Make the settings of the demo's run: preset `demo`, nothing else changed.

    Args:
        dataset: folder that a build made.
        output: folder of the run; the model goes to `output/model`.
        workers: processes that decode; the weights don't depend on them.
    """
    own = {"dataset": str(dataset), "output_dir": str(output), "workers": workers}
    return TrainConfig(**{**PRESETS["demo"], **own})


def train_anew(config: TrainConfig, say: Say) -> None:
    """Train, or go on where a run of the same data stands; checkpoints of other data are removed.

    Args:
        config: of the run; its folder belongs to the demo.
        say: is told when checkpoints are removed.

    Raises:
        CytoImageNetError, ValueError: as `train`.
    """
    from cytoimagenet_hf.pretraining.train import train

    _forget_others(config, say)
    train(config)


def _forget_others(config: TrainConfig, say: Say) -> None:
    """Remove checkpoints that this run couldn't go on from."""
    from cytoimagenet_hf.pretraining import checkpoints
    from cytoimagenet_hf.pretraining.data import open_split
    from cytoimagenet_hf.pretraining.setup import alone, identity

    output = Path(config.output_dir)
    restored = checkpoints.restore(output / "checkpoints", say)
    if restored is None:
        return
    data = open_split(config, config.train_split).identity()
    try:
        checkpoints.check_same(restored, identity(config, data), 1)
    except CytoImageNetError:
        say(f"{output} was trained on other data or with other settings: it is trained anew")
        with alone(output):
            shutil.rmtree(output / "checkpoints")


def curves(output: Path) -> list[str]:
    """Draw the losses and accuracies of a run as rows of bars, with the first and the last."""
    from cytoimagenet_hf.hub._curves import sparkline, values
    from cytoimagenet_hf.pretraining.log import read_lines

    drawn = []
    for name, kind, key in (("loss", "train", "loss"), ("accuracy", "validation", "accuracy")):
        # By step, as a run that is only exported again repeats its last validation.
        points = list(dict(values(read_lines(output), kind, key)).values())
        if points:
            drawn.append(f"{name:9} {sparkline(points)}  {points[0]:.2f} → {points[-1]:.2f}")
    return drawn


def score_loaded(config: TrainConfig) -> Loaded:
    """Load the model of a finished run with timm and transformers, and score what was held out.

    Nothing of the training code is used: images go through the preprocessing that the model's own
    folder names.
    """
    import timm
    import torch
    from transformers import AutoModelForImageClassification

    from cytoimagenet_hf.hub.loading import load_dataset

    folder = Path(config.output_dir).resolve() / "model"
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    wrapped = AutoModelForImageClassification.from_pretrained(str(folder)).eval()
    transform = timm.data.create_transform(
        **timm.data.resolve_model_data_config(model), is_training=False
    )
    data = load_dataset(config.dataset, config.name or None)
    known = torch.tensor(data["train"]["label"])
    truth = torch.tensor(data["validation"]["label"])
    right, difference = 0, 0.0
    for start in range(0, len(truth), _BATCH):
        images = data["validation"][start : start + _BATCH]["image"]
        pixels = torch.stack([transform(image.convert("RGB")) for image in images])
        with torch.inference_mode():
            logits, others = model(pixels), wrapped(pixel_values=pixels).logits
        right += int((logits.argmax(1) == truth[start : start + _BATCH]).sum())
        difference = max(difference, float((logits - others).abs().max()))
    return Loaded(
        images=len(truth),
        accuracy=right / len(truth),
        majority=int((truth == known.mode().values).sum()) / len(truth),
        difference=difference,
    )
