"""Encoders from transformers: vision models by id or folder, on tiles of their processor's size.

Remote code is never run and pickled weights are never read.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cytoimagenet_hf.errors import EncoderError
from cytoimagenet_hf.models._network import (
    Forward,
    NetworkEncoder,
    Preprocessing,
    make_encoder,
    triple,
)


def transformers_encoder(model: str, *, name: str, device: str) -> NetworkEncoder:
    """Load a vision model with the preprocessing of its image processor.

    The embedding is `pooler_output`; where a model has none, or its weights came without those of
    the pooler (which transformers then draws at random), the mean over all tokens or places of
    `last_hidden_state`, class token included. Of models of text and images the image part is taken.

    Args:
        model: id on the Hub ("@revision" may follow), or a folder.
        name: of the encoder.
        device: of torch.

    Raises:
        EncoderError: there is no such model, weights are missing, it isn't a vision model, or it
            draws at random while it embeds (masked autoencoders).
    """
    loaded, processor, missing = _load(model)
    if lost := [key for key in missing if "pooler" not in key]:
        raise EncoderError(f"{model} came without {len(lost)} of its weights (first: {lost[0]}).")
    drawn = loaded.state_dict()
    for key in missing:  # unused, but part of the revision, which must not be drawn at random
        drawn[key].zero_()
    network = getattr(loaded, "vision_model", loaded).eval()
    try:
        preprocessing = _preprocessing(model, processor)
        forward, pooling = _forward(network, preprocessing, pooled=not missing)
        encoder = make_encoder(
            network,
            forward,
            name=name,
            configuration=_configuration(loaded.config.to_dict()),
            pooling=pooling,
            preprocessing=preprocessing,
            device=device,
        )
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise EncoderError(f"{model} is no vision model with one image input: {error}") from error
    side = preprocessing.size or 1
    image = np.linspace(0, 255, side**2, dtype=np.float32).reshape(1, 1, side, side)
    if not np.array_equal(encoder.embed(image), encoder.embed(image)):
        raise EncoderError(f"{model} embeds one image in two ways: it draws at random (masks?).")
    return encoder


def _load(model: str) -> tuple[Any, Any, list[str]]:
    """Load a model, its image processor and the names of weights that didn't come with it."""
    import transformers

    name, options = model, dict[str, Any](trust_remote_code=False)
    if not Path(model).is_dir():
        name, _, revision = model.partition("@")
        options |= {"revision": revision} if revision else {}
    try:
        with _quiet():
            loaded, told = transformers.AutoModel.from_pretrained(
                name, output_loading_info=True, use_safetensors=True, **options
            )
            processor = transformers.AutoImageProcessor.from_pretrained(name, **options)
    except Exception as error:  # whatever a foreign configuration makes the library raise
        raise EncoderError(f"transformers can't load {model}: {error}") from error
    return loaded, processor, sorted(told["missing_keys"])


def _configuration(given: dict[str, Any]) -> dict[str, Any]:
    """Return what a configuration says of the network: no places, versions nor class heads."""
    left_out = {"transformers_version", "architectures", "dtype", "torch_dtype"}
    left_out |= {"id2label", "label2id"}
    return {
        name: _configuration(value) if isinstance(value, dict) else value
        for name, value in given.items()
        if isinstance(name, str) and not name.startswith("_") and name not in left_out
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from drawing bars and tables; what matters in them is checked here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _forward(
    network: Any,  # noqa: ANN401 - no types there
    preprocessing: Preprocessing,
    *,
    pooled: bool,
) -> tuple[Forward, str]:
    """Give the function from pixels to embeddings and its name, as one small image tells."""

    def by_pooler(pixels: torch.Tensor) -> torch.Tensor:
        embedded: torch.Tensor = network(pixel_values=pixels).pooler_output.flatten(1)
        return embedded

    def by_mean(pixels: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = network(pixel_values=pixels).last_hidden_state
        return hidden.mean(dim=1) if hidden.ndim == 3 else hidden.flatten(2).mean(dim=2)

    size = preprocessing.size or 0
    with torch.inference_mode():
        told = network(pixel_values=torch.zeros(1, len(preprocessing.mean), size, size))
    if pooled and getattr(told, "pooler_output", None) is not None:
        return by_pooler, "pooler_output"
    return by_mean, "mean of tokens"


def _preprocessing(model: str, processor: Any) -> Preprocessing:  # noqa: ANN401 - no types there
    """Read mean, deviation and size of an image processor."""
    if known := getattr(processor, "data_config", None):  # timm's, wrapped
        channels, height, width = known["input_size"]
        mean, std, factor = known["mean"], known["std"], 1 / 255
    else:
        size = processor.crop_size if getattr(processor, "do_center_crop", False) else None
        height, width = _sides(size or processor.size)
        channels = 3
        factor = processor.rescale_factor if processor.do_rescale else 1.0
        normalized = processor.do_normalize
        mean = processor.image_mean if normalized else (0.0,) * channels
        std = processor.image_std if normalized else (1.0,) * channels
    if height != width:
        raise EncoderError(f"{model} takes {height} x {width} pixels; only squares are supported.")
    return Preprocessing(
        mean=triple(mean, channels), std=triple(std, channels), factor=factor, size=int(height)
    )


def _sides(size: Any) -> tuple[int, int]:  # noqa: ANN401 - a dictionary of some kind
    """Read height and width from a processor's size, in any of its spellings."""
    given = {key: value for key, value in dict(size).items() if value}
    side = given.get("shortest_edge") or given.get("longest_edge") or 0
    return int(given.get("height", side)), int(given.get("width", side))
