"""Encoders from timm: its names, folders and Hub repositories, pretrained or drawn at random."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import safetensors
import timm
import torch

from cytoimagenet_hf import files
from cytoimagenet_hf.errors import EncoderError
from cytoimagenet_hf.models._network import NetworkEncoder, Preprocessing, make_encoder, triple


def pretrained_encoder(model: str, *, name: str, device: str) -> NetworkEncoder:
    """Load pooled features of a timm model with its weights; a head of classes is left away.

    Mean and deviation are those of its configuration. Networks of fixed input size (transformers
    with positions) get tiles of it; the others get images as they are.

    Args:
        model: what `timm.create_model` takes.
        name: of the encoder.
        device: of torch.

    Raises:
        EncoderError: the files don't make a model.
    """
    failures = (OSError, RuntimeError, ValueError, TypeError, KeyError, AssertionError)
    try:
        network = timm.create_model(model, pretrained=True, num_classes=0)
        configuration = _configuration(model)
    except (*failures, AttributeError, safetensors.SafetensorError) as error:
        raise EncoderError(f"The model {model} can't be loaded: {error}") from error
    known = timm.data.resolve_model_data_config(network)
    channels = int(known["input_size"][0])
    preprocessing = Preprocessing(
        mean=triple(known["mean"], channels),
        std=triple(known["std"], channels),
        size=_tile(network, known),
    )
    return make_encoder(
        network,
        network,
        name=name,
        configuration=configuration,
        pooling=_pooling(network),
        preprocessing=preprocessing,
        device=device,
    )


def random_encoder(model: str, *, name: str, seed: int, device: str) -> NetworkEncoder:
    """Draw a timm model's weights from a seed; pixels are only divided by 255, as in the paper.

    The state of torch's own generator is left as it was.

    Args:
        model: a name of timm's.
        name: of the encoder.
        seed: of the weights.
        device: of torch.
    """
    with seeded(seed):
        network = timm.create_model(model, pretrained=False, num_classes=0)
    known = timm.data.resolve_model_data_config(network)
    return make_encoder(
        network,
        network,
        name=name,
        configuration=_configuration(model),
        pooling=_pooling(network),
        preprocessing=Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3, size=_tile(network, known)),
        device=device,
    )


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let torch's generator on the CPU begin at `seed` inside of the block, and go on after it."""
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(before)


def _configuration(model: str) -> dict[str, Any]:
    """Return architecture and arguments of a model: those that a folder or a repository gives.

    The number of classes is left away like their head.
    """
    source, _, rest = model.partition(":")
    if source == "local-dir":
        path = Path(rest) / "config.json"
    elif source == "hf-hub":
        name, _, revision = rest.partition("@")
        path = Path(huggingface_hub.hf_hub_download(name, "config.json", revision=revision or None))
    else:
        return {"architecture": model.partition(".")[0], "model_args": {}}
    given = files.read_json(path)
    arguments = dict(given.get("model_args") or {})
    arguments.pop("num_classes", None)
    return {"architecture": given["architecture"], "model_args": arguments}


def _tile(network: torch.nn.Module, known: dict[str, Any]) -> int | None:
    """Give the side of a network's input where it takes no other."""
    if not network.pretrained_cfg.get("fixed_input_size"):  # type: ignore[union-attr, operator]
        return None
    height, width = known["input_size"][1:]
    if height != width:
        raise EncoderError(f"Only square inputs are supported, not {height} x {width} pixels.")
    return int(height)


def _pooling(network: torch.nn.Module) -> str:
    """Name how a network makes one vector: avg, token ..."""
    pool = getattr(network, "global_pool", "") or getattr(network, "head", "")
    kind = pool if isinstance(pool, str) else getattr(pool, "pool_type", "")
    if not isinstance(kind, str) or not kind:
        inner = getattr(pool, "global_pool", "")
        kind = getattr(inner, "pool_type", "") or "the network's own"
    return str(kind)
