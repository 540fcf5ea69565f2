"""The network: any timm model, from random or pretrained weights, and what it expects of images."""

import math
from collections.abc import Sequence
from typing import Any

import timm
import timm.optim
import torch

from cytoimagenet_hf.errors import CytoImageNetError
from cytoimagenet_hf.models import reach
from cytoimagenet_hf.pretraining.config import TrainConfig

_INSTEAD = (
    "Pass --model local-dir:FOLDER with weights that you have, or --no-pretrained to start from "
    "random ones."
)


def build_model(config: TrainConfig, classes: Sequence[str]) -> torch.nn.Module:
    """Make a network with one output a class; three input channels, as pipelines give RGB.

    Raises:
        ValueError: no such model (near names are given).
        CytoImageNetError: its weights can't be had here; says how to pass others.
    """
    options: dict[str, Any] = {
        "num_classes": len(classes),
        "drop_rate": config.drop,
        "drop_path_rate": config.drop_path,
    }
    check_model(config)
    if _fixed_size(config):
        options["img_size"] = config.image_size
    try:
        model: torch.nn.Module = timm.create_model(
            config.model, pretrained=config.pretrained, **options
        )
    except (OSError, RuntimeError, TypeError, AssertionError) as error:
        raise CytoImageNetError(f"The model {config.model} can't be loaded: {error}") from error
    for layer in model.modules():
        if config.bn_momentum and isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.momentum = config.bn_momentum
    if config.initialization == "keras":
        truncate_convolutions(model)
    if config.normalization == "none":
        known = dict(model.pretrained_cfg)  # type: ignore[arg-type]
        model.pretrained_cfg = known | {"mean": (0.0,) * 3, "std": (1.0,) * 3}  # type: ignore[assignment]
    if config.grad_checkpointing:
        model.set_grad_checkpointing()  # type: ignore[operator]
    return model


def truncate_convolutions(model: torch.nn.Module) -> None:
    """Draw convolutions as Keras does: normal, cut at two deviations, variance 2 / fan_out.

    All else of timm's EfficientNets is as in Keras already (classifier: uniform up to
    1 / sqrt(classes); biases 0); only the cut is missing there.
    """
    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d):
            fan_out = layer.weight[0, 0].numel() * layer.out_channels // layer.groups
            # Cutting narrows a normal distribution by this factor; Keras makes up for it.
            deviation = math.sqrt(2 / fan_out) / 0.87962566103423978
            torch.nn.init.trunc_normal_(
                layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation
            )


def _fixed_size(config: TrainConfig) -> bool:
    """Say whether a network has to be told the size of images (transformers with positions)."""
    if ":" in config.model:
        return False
    known = timm.get_pretrained_cfg(config.model.partition(".")[0])
    return bool(known and known.fixed_input_size)


def normalization(model: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation that the network's weights expect, each (1, 3, 1, 1)."""
    known = timm.data.resolve_model_data_config(model)
    mean, std = (torch.tensor(known[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
    return mean, std


def check_model(config: TrainConfig) -> None:
    """Refuse unknown names and weights out of reach before anything slow happens.

    Raises:
        ValueError, CytoImageNetError: as `build_model` does.
    """
    reach.check_timm(config.model, pretrained=config.pretrained, instead=_INSTEAD)


def make_optimizer(model: torch.nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Make timm's optimizer: no weight decay on biases and norms."""
    options = {} if config.optimizer == "sgd" else {"eps": config.epsilon}
    made: torch.optim.Optimizer = timm.optim.create_optimizer_v2(
        model,
        opt=config.optimizer,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        **options,
    )
    return made
