"""The network: any timm model, from random or pretrained weights, and what it expects of images."""

import difflib
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
    if config.bn_momentum:
        options["bn_momentum"] = config.bn_momentum
    _check(config)
    try:
        model: torch.nn.Module = timm.create_model(
            config.model, pretrained=config.pretrained, **options
        )
    except (OSError, RuntimeError) as error:
        raise CytoImageNetError(f"The model {config.model} can't be loaded: {error}") from None
    if config.grad_checkpointing:
        model.set_grad_checkpointing()  # type: ignore[operator]
    return model


def normalization(model: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation that the network's weights expect, each (1, 3, 1, 1)."""
    known = timm.data.resolve_model_data_config(model)
    mean, std = (torch.tensor(known[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
    return mean, std


def _check(config: TrainConfig) -> None:
    """Refuse unknown names and weights out of reach before anything slow happens."""
    source, _, rest = config.model.partition(":")
    if source == "local-dir":
        if not (Path(rest) / "config.json").exists():
            raise ValueError(f"No model in {rest}: it has no config.json (see timm save_for_hf).")
        return
    if source == "hf-hub":
        _check_reach(rest, config.model)
        return
    base, _, tag = config.model.partition(".")
    if not timm.is_model(base):
        near = difflib.get_close_matches(base, timm.list_models(), n=3) or ["tf_efficientnet_b0"]
        raise ValueError(f"Unknown timm model {config.model!r}. Did you mean {', '.join(near)}?")
    if not config.pretrained:
        return
    weights = timm.get_pretrained_cfg(config.model, allow_unregistered=not tag)
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
