"""The network: any timm model, from random or pretrained weights, and what it expects of images."""

import functools
import math
import textwrap
from collections.abc import Callable, Sequence
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
        ValueError: no such model (near names are given); it has no stochastic depth or
            checkpointing of gradients, or takes no images of the size.
        CytoImageNetError: its weights can't be had here, or don't fit; says how to pass others.
    """
    check_model(config)
    try:
        model = _create(config, len(classes))
    except (OSError, RuntimeError, TypeError, AssertionError) as error:
        raise CytoImageNetError(
            f"The model {config.model} can't be loaded: {_words(error)}. If sizes differ, the "
            f"weights are bound to the --image-size that they were trained at."
        ) from error
    _check_size(model, config)
    model.register_state_dict_post_hook(_own_tensors)  # type: ignore[no-untyped-call]
    for layer in model.modules():
        if config.bn_momentum and isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.momentum = config.bn_momentum
    if config.initialization == "keras":
        truncate_convolutions(model)
    if config.normalization == "none":
        known = dict(model.pretrained_cfg)  # type: ignore[arg-type]
        model.pretrained_cfg = known | {"mean": (0.0,) * 3, "std": (1.0,) * 3}  # type: ignore[assignment]
    if config.grad_checkpointing:
        try:
            model.set_grad_checkpointing()  # type: ignore[operator]
        except AssertionError as error:
            raise ValueError(
                f"{config.model} can't save memory: leave --grad-checkpointing away."
            ) from error
    return model


def _create(config: TrainConfig, classes: int) -> torch.nn.Module:
    """Make timm's network for the size of images, with the rates of dropout asked for."""
    options: dict[str, Any] = {"num_classes": classes, "drop_rate": config.drop}
    # Transformers with positions have to be told the size; None, for the others, timm leaves out.
    size = {"img_size": config.image_size}
    options["img_size"] = timm.models.resolve_model_input_args(config.model, size).get("img_size")
    make: Callable[..., torch.nn.Module] = functools.partial(
        timm.create_model, config.model, config.pretrained, **options
    )
    try:
        return make(drop_path_rate=config.drop_path)
    except TypeError as error:
        if "drop_path_rate" not in str(error):
            raise
        if config.drop_path:
            raise ValueError(
                f"{config.model} has no stochastic depth: pass --drop-path 0."
            ) from error
    return make()


def _own_tensors(_: Any, tensors: dict[str, Any], *__: Any) -> None:  # noqa: ANN401
    """Give each name a tensor of its own: CoaT shares some, which safetensors refuses."""
    seen = set()
    for name, tensor in tensors.items():
        if tensor.data_ptr() in seen:
            tensors[name] = tensor.clone()
        seen.add(tensor.data_ptr())


def _check_size(model: torch.nn.Module, config: TrainConfig) -> None:
    """Refuse a size that the network can't see; many tell it only when they run, by an assert."""
    size = config.image_size
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, size, size))
    except (AssertionError, RuntimeError) as error:
        raise ValueError(
            f"{config.model} can't see images of {size} pixels ({_words(error)}): pass another "
            f"--image-size."
        ) from error
    model.train()


def _words(error: Exception) -> str:
    """Bring torch's lists of mismatches to one line."""
    return textwrap.shorten(str(error), 300, placeholder=" ...") or type(error).__name__


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
