"""All that changes a training run: one frozen record = the flags = the json beside the weights."""

import argparse
import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cytoimagenet_hf import files

IMAGENET_B0 = "tf_efficientnet_b0.in1k"  # plain ImageNet-1k; without a tag timm takes noisy student
CONFIG_FILE = "train_config.json"
_USAGE = "%(prog)s [--help] [--preset NAME] [--dataset WHERE] [--FLAG VALUE] [--no-FLAG] ..."
_ABOUT = (
    "Train any timm model on a labelled image data set. Defaults stand in parentheses; a preset "
    "changes many of them, and a flag beats a preset. docs/pretraining.md tells what matters."
)


_MANY = float("inf")
_RANGES = {  # lowest and highest value that a run can be made with
    "batch_size": (1, _MANY), "gradient_accumulation": (1, _MANY), "image_size": (8, 4096),
    "log_steps": (1, _MANY), "checkpoint_steps": (1, _MANY), "keep_checkpoints": (1, _MANY),
    "workers": (0, _MANY), "shuffle_buffer": (1, _MANY), "max_steps": (0, _MANY),
    "epochs": (0, _MANY), "zoom": (1, 10), "drop": (0, 0.99), "drop_path": (0, 0.99),
    "bn_momentum": (0, 1), "learning_rate": (0, 1e3), "weight_decay": (0, 1e3), "epsilon": (0, 1),
    "warmup": (0, 1), "clip_grad": (0, 1e9), "label_smoothing": (0, 0.99), "ema": (0, 0.999999),
    "rotate": (0, 360), "brightness": (0, 1), "contrast": (0, 1), "gamma": (0, 4), "blur": (0, 10),
    "noise": (0, 1), "mixup": (0, 100), "cutmix": (0, 100),
}  # fmt: skip


def _option(default: Any, text: str) -> Any:  # noqa: ANN401 - a dataclass field of any type
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Settings of a run; saved as train_config.json next to weights and checkpoints."""

    # Data
    dataset: str = _option("cytoimagenet", "what load_dataset takes: a folder, a name, a Hub id")
    name: str = _option("", "config of the data set, e.g. small")
    revision: str = _option("", "of the data set on the Hub")
    train_split: str = _option("train", "split to train on")
    validation_split: str = _option("validation", "split to validate on; empty: none")
    image_column: str = _option("image", "column of images")
    label_column: str = _option("label", "column of classes (ClassLabel)")
    streaming: bool = _option(False, "read shards as they come, without a copy in the cache")
    shuffle_buffer: int = _option(
        2048, "rows of a shard mixed at a time when streaming; shards come in any order"
    )
    bad_rows: Literal["skip", "stop"] = _option("skip", "what to do about images nobody can decode")
    workers: int = _option(2, "processes that decode, for each training process")

    # Model
    model: str = _option(IMAGENET_B0, "timm name, local-dir:FOLDER or hf-hub:ID")
    pretrained: bool = _option(True, "start from the model's weights instead of random ones")
    drop: float = _option(0.0, "dropout before the classifier")
    drop_path: float = _option(0.0, "stochastic depth")
    bn_momentum: float = _option(0.0, "of batch norm, as in torch; 0: the model's own")
    normalization: Literal["model", "none"] = _option(
        "model", "mean and deviation that the weights expect, or none: 0..1 as it is"
    )
    initialization: Literal["model", "keras"] = _option(
        "model", "of random weights; keras: truncated normal convolutions, as the paper's"
    )
    image_size: int = _option(224, "pixels, side of the square that the network sees")
    channels_last: bool = _option(True, "memory layout that convolutions like")
    compile: bool = _option(False, "torch.compile")
    grad_checkpointing: bool = _option(False, "compute activations twice to save memory")

    # Optimization
    epochs: int = _option(10, "passes over the training split")
    max_steps: int = _option(
        0, "stop after so many steps, however many epochs; 0: after the epochs"
    )
    batch_size: int = _option(64, "images a step, for each process")
    gradient_accumulation: int = _option(1, "batches a step")
    optimizer: Literal["adam", "adamw", "sgd"] = _option("adamw", "kind of optimizer")
    learning_rate: float = _option(3e-4, "peak")
    weight_decay: float = _option(0.05, "of all weights but biases and norms")
    epsilon: float = _option(1e-8, "of Adam")
    schedule: Literal["constant", "cosine"] = _option("cosine", "of the learning rate")
    warmup: float = _option(0.05, "share of all steps with a rising learning rate")
    clip_grad: float = _option(1.0, "largest norm of the gradient; 0: any")
    label_smoothing: float = _option(0.1, "share of the target given to all classes")
    ema: float = _option(0.0, "decay of averaged weights; 0: none")
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = _option(
        "auto", "auto: bf16 on devices that have it, never on a CPU"
    )
    class_balanced: bool = _option(False, "draw each class equally often, with repeats")
    drop_last: bool = _option(False, "leave out the images that don't fill a batch")

    # Augmentation, in batches on the device
    rotate: float = _option(180.0, "degrees, largest turn to either side")
    flip: bool = _option(True, "mirror half of the images")
    zoom: float = _option(1.15, "largest factor of scale, up or down; cells keep about their size")
    brightness: float = _option(0.1, "largest shift, of the full range")
    contrast: float = _option(0.2, "largest change of the span")
    gamma: float = _option(0.2, "largest change of the exponent")
    blur: float = _option(0.7, "largest sigma in pixels; half of the images are left sharp")
    noise: float = _option(0.02, "largest sigma, of the full range")
    mixup: float = _option(0.0, "alpha of mixup; 0: none")
    cutmix: float = _option(0.0, "alpha of cutmix; 0: none")

    # Run
    output_dir: str = _option("cytoimagenet-model", "folder of model, checkpoints and logs")
    seed: int = _option(0, "of everything")
    resume: bool = _option(True, "go on from the newest whole checkpoint of this folder")
    checkpoint_steps: int = _option(500, "steps between checkpoints; one at each epoch's end too")
    keep_checkpoints: int = _option(2, "older ones are removed")
    log_steps: int = _option(50, "steps between lines of metrics.jsonl")
    tracker: str = _option("", "also log to a tracker of accelerate: tensorboard, wandb ...")
    cpu: bool = _option(False, "use no GPU")
    push_to_hub: bool = _option(False, "push the model when it is trained")
    hub_model_id: str = _option("", "OWNER/NAME")
    hub_private: bool = _option(False, "make the model on the Hub private")

    def __post_init__(self) -> None:
        """Refuse values that no run can be made with."""
        hints = typing.get_type_hints(TrainConfig)
        for one in dataclasses.fields(self):
            _check_type(one.name, getattr(self, one.name), hints[one.name])
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be {low}..{high}, got {getattr(self, name)}")
        if self.epochs < 1 and self.max_steps < 1:
            raise ValueError("Give epochs or max_steps of at least 1.")
        if self.streaming and self.class_balanced:
            raise ValueError("class_balanced needs rows by number: leave streaming away.")
        if self.initialization == "keras" and self.pretrained:
            raise ValueError("initialization keras is for random weights: add --no-pretrained.")
        if self.push_to_hub and not self.hub_model_id:
            raise ValueError("--push-to-hub needs --hub-model-id OWNER/NAME.")

    def as_dict(self) -> dict[str, Any]:
        """All values by name."""
        return dataclasses.asdict(self)

    def save(self, folder: Path) -> None:
        """Write train_config.json."""
        files.write_json(folder / CONFIG_FILE, self.as_dict())


PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Section 2.3 of the paper and its code; values equal to defaults too, lest these move.
    "paper": {
        "model": "tf_efficientnet_b0", "pretrained": False, "drop": 0.2, "drop_path": 0.2,
        "bn_momentum": 0.01, "normalization": "none", "initialization": "keras",
        "image_size": 224, "epochs": 24, "max_steps": 0, "batch_size": 64,
        "gradient_accumulation": 1, "drop_last": True, "class_balanced": False, "seed": 728565,
        "optimizer": "adam", "learning_rate": 1e-3, "weight_decay": 0.0, "epsilon": 1e-7,
        "schedule": "constant", "warmup": 0.0, "clip_grad": 0.0, "label_smoothing": 0.0,
        "ema": 0.0, "mixed_precision": "no", "rotate": 360.0, "flip": False, "zoom": 1.0,
        "brightness": 0.0, "contrast": 0.0, "gamma": 0.0, "blur": 0.0, "noise": 0.0,
        "mixup": 0.0, "cutmix": 0.0,
    },
    "modern": {
        "model": "tf_efficientnet_b0", "pretrained": False, "drop": 0.2, "drop_path": 0.1,
        "epochs": 60, "batch_size": 256, "learning_rate": 1e-3, "weight_decay": 0.05,
        "schedule": "cosine", "warmup": 0.05, "label_smoothing": 0.1, "ema": 0.9998,
        "mixup": 0.2, "cutmix": 1.0,
    },
    # Half a minute on two cores: a tiny network on small images.
    "demo": {
        "model": "test_efficientnet", "pretrained": False, "image_size": 96, "epochs": 8,
        "batch_size": 64, "learning_rate": 3e-3, "warmup": 0.1, "log_steps": 10,
        "label_smoothing": 0.0, "name": "small",
    },
}  # fmt: skip


_OF_EXAMPLES = {  # names of flags in the Hugging Face examples that are other ones than ours
    "dataset-name": "dataset", "dataset-config-name": "name", "image-column-name": "image-column",
    "label-column-name": "label-column", "model-name-or-path": "model",
    "per-device-train-batch-size": "batch-size", "num-train-epochs": "epochs",
    "max-train-steps": "max-steps", "gradient-accumulation-steps": "gradient-accumulation",
    "checkpointing-steps": "checkpoint-steps", "logging-steps": "log-steps",
    "dataloader-num-workers": "workers", "report-to": "tracker",
}  # fmt: skip


def parse_config(arguments: Sequence[str], *, program: str = "train") -> TrainConfig:
    """Read flags: defaults, then `--preset`, then `--config FILE.json`, then single flags.

    Flags are the field names with dashes (underscores work too); where the Hugging Face examples
    name them otherwise, those names work too.

    Raises:
        ValueError: a value that the record refuses.
    """
    known = dataclasses.fields(TrainConfig)
    hints = typing.get_type_hints(TrainConfig)
    parser = argparse.ArgumentParser(program, _USAGE, _ABOUT, allow_abbrev=False)
    parser.add_argument("--preset", choices=sorted(PRESETS), help="a set of values to start from")
    parser.add_argument("--config", type=Path, help="train_config.json of another run")
    for one in known:
        _add_flag(parser, one, hints[one.name])
    dashed = [_with_dashes(argument) for argument in arguments]
    parsed = vars(parser.parse_args(dashed))
    given = {key: value for key, value in parsed.items() if value is not None}
    values = dict(PRESETS.get(given.pop("preset", ""), {}))
    if path := given.pop("config", None):
        values |= load_config(path).as_dict()
    return TrainConfig(**{**values, **given})


def load_config(path: Path) -> TrainConfig:
    """Read train_config.json; unknown names are errors.

    Raises:
        ValueError: the file is absent, no json, or holds other names.
    """
    if not path.exists():
        raise ValueError(f"{path} is absent: --config names the train_config.json of a run.")
    values = files.read_json(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path} is no train_config.json of a run.")
    known = {one.name for one in dataclasses.fields(TrainConfig)}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"{path} holds unknown settings: {', '.join(unknown)}.")
    return TrainConfig(**values)


def _check_type(name: str, value: Any, hint: Any) -> None:  # noqa: ANN401
    """Refuse what a json of somebody's may hold: a text for a number, a choice that is none."""
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
        return
    fits = type(value) is hint or (hint is float and type(value) is int)
    if not fits:
        raise ValueError(f"{name} must be {hint.__name__}, got {value!r}")


def _add_flag(parser: argparse.ArgumentParser, one: Any, hint: Any) -> None:  # noqa: ANN401
    flag = "--" + one.name.replace("_", "-")
    text = f"{one.metadata['help']} ({one.default!r})".strip().replace("%", "%%")
    if hint is bool:
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
    elif typing.get_origin(hint) is Literal:
        parser.add_argument(flag, choices=typing.get_args(hint), help=text)
    else:
        parser.add_argument(flag, type=hint, help=text)


def _with_dashes(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, sign, value = argument.partition("=")
    dashed = name.replace("_", "-")
    return "--" + _OF_EXAMPLES.get(dashed[2:], dashed[2:]) + sign + value
