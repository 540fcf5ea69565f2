"""The network: any timm model, from random or pretrained weights, and what it expects of images."""

import difflib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import timm.optim
import torch

from cytoimagenet_hf.errors import CytoImageNetError
from cytoimagenet_hf.pretraining.config import TrainConfig

_PROBE_SECONDS = 2.0


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
    source, _, rest = config.model.partition(":")
    if source == "local-dir":
        if not (Path(rest) / "config.json").exists():
            raise ValueError(f"No model in {rest}: it has no config.json (see timm save_for_hf).")
        return
    if source == "hf-hub":
        _check_reach(rest, config.model)
        return
    base, _, _ = config.model.partition(".")
    if not timm.is_model(base):
        near = difflib.get_close_matches(base, timm.list_models(), n=3) or ["tf_efficientnet_b0"]
        raise ValueError(f"Unknown timm model {config.model!r}. Did you mean {', '.join(near)}?")
    if not config.pretrained:
        return
    try:
        weights = timm.get_pretrained_cfg(config.model)
    except RuntimeError:  # a tag that there isn't
        weights = None
    if weights is None or not weights.hf_hub_id:
        known = ", ".join(timm.list_pretrained(base + ".*"))
        raise ValueError(f"{config.model} has no pretrained weights; there are: {known or 'none'}.")
    _check_reach(weights.hf_hub_id, config.model)


def _check_reach(hub_id: str, model: str) -> None:
    """Say at once that weights can't be had offline, instead of after minutes of retries."""
    import huggingface_hub
    from huggingface_hub import constants

    hub_id, _, revision = hub_id.partition("@")
    cached = huggingface_hub.try_to_load_from_cache(
        hub_id, "config.json", revision=revision or None
    )
    if isinstance(cached, str):
        return
    try:
        if not constants.HF_HUB_OFFLINE:
            huggingface_hub.HfApi().model_info(
                hub_id, revision=revision or None, timeout=_PROBE_SECONDS
            )
            return
        why = "HF_HUB_OFFLINE is set"
    except Exception as error:  # whatever the transport raises
        why = f"{type(error).__name__}"
    raise CytoImageNetError(
        f"The weights of {model} are not in the cache and the Hub can't be reached ({why}). "
        f"Pass --model local-dir:FOLDER with weights that you have, or --no-pretrained to start "
        f"from random ones."
    )


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
