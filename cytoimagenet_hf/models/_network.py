"""An encoder around a torch network: what it does to pixels, and what it is known by."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cytoimagenet_hf.errors import EncoderError
from cytoimagenet_hf.models.tiles import embed_tiles

Forward = Callable[[torch.Tensor], torch.Tensor]
_SIDE = 64  # pixels; of the image that tells a convolutional network's dimensions


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NetworkEncoder:
    """A network in inference mode; see `encoders.Encoder` for what its attributes mean."""

    name: str
    revision: str
    channels: int
    input_size: int | None
    pooling: str
    preprocessing: str
    dim: int
    device: str
    forward: Forward  # normalized (n, channels, h, w) -> (n, dim)
    scale: torch.Tensor  # (1, channels, 1, 1); pixels * scale + shift is what the network takes
    shift: torch.Tensor

    def embed(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Embed images of one size.

        Gray images are expanded to the channels of the network. Sizes that are multiples of 32 are
        safe for convolutional networks; at others timm's `tf_` networks pad like TensorFlow's
        "same", unlike the paper's Keras networks, which were built for even sizes. Nothing is
        padded here but images smaller than a tile (models/tiles.py).

        Args:
            images: (n, 1 or `channels`, h, w) float32, 0..255, or raw counts.

        Returns:
            (n, dim) float32.

        Raises:
            EncoderError: the number of channels is another, or the network fails on this size.
        """
        if images.shape[1] not in (1, self.channels):
            raise EncoderError(
                f"{self.name} takes images of 1 or {self.channels} channels, not "
                f"{images.shape[1]}; use mode concat or merge."
            )
        try:
            with torch.inference_mode():
                return self._run(torch.from_numpy(np.ascontiguousarray(images, np.float32)))
        except RuntimeError as error:
            size = " x ".join(map(str, images.shape[2:]))
            raise EncoderError(
                f"{self.name} fails on {len(images)} images of {size} pixels: {error}. Use a "
                f"smaller batch where memory is short, or a mode that resizes (concat-norm@224)."
            ) from error

    def _run(self, pixels: torch.Tensor) -> npt.NDArray[np.float32]:
        pixels = pixels.to(self.device).expand(-1, self.channels, -1, -1)
        pixels = torch.addcmul(self.shift, pixels, self.scale)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        if self.input_size is None:
            embedded = self.forward(pixels)
        else:
            embedded = embed_tiles(pixels, self.input_size, self.forward)
        result: npt.NDArray[np.float32] = embedded.float().cpu().numpy()
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """What is done to pixels before a network sees them: (x * factor - mean) / std, at a size."""

    mean: tuple[float, ...]  # one for each channel
    std: tuple[float, ...]
    factor: float = 1 / 255
    size: int | None = None  # side of tiles; None: images as they are

    def __str__(self) -> str:
        mean, std = (" ".join(f"{one:g}" for one in values) for values in (self.mean, self.std))
        size = f"tiles of {self.size}" if self.size else "native size"
        return f"x * {self.factor:g}, mean {mean}, std {std}, {size}"


def make_encoder(  # noqa: PLR0913 - all but two by name
    network: torch.nn.Module,
    forward: Forward,
    *,
    name: str,
    configuration: Mapping[str, Any],
    pooling: str,
    preprocessing: Preprocessing,
    device: str,
) -> NetworkEncoder:
    """Freeze a network and find out its dimensions by one small image.

    Args:
        network: its weights are part of the revision.
        forward: from normalized pixels to embeddings.
        name: of the encoder.
        configuration: what else the network computes by, such as architecture and arguments; no
            paths and no names of files, so that copies of a model have one revision.
        pooling: in words.
        preprocessing: what is done to pixels; part of the revision, too.
        device: of torch.

    Raises:
        EncoderError: mean or deviation are no usable numbers, or the output isn't (n, dim).
    """
    check_numbers(name, preprocessing)
    known = {"configuration": configuration, "preprocessing": asdict(preprocessing)}
    revision = network_hash(network.state_dict(), known)
    network.requires_grad_(False).eval()
    network.to(device=torch.device(device), memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean, std = (
        torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)
        for values in (preprocessing.mean, preprocessing.std)
    )
    scale, shift = ((one.float().to(device)) for one in (preprocessing.factor / std, -mean / std))
    channels, side = len(preprocessing.mean), preprocessing.size or _SIDE
    with torch.inference_mode():
        told = forward(shift.expand(1, channels, side, side))
    if told.ndim != 2:
        raise EncoderError(f"{name} gives values of shape {tuple(told.shape)}, not (n, dim).")
    return NetworkEncoder(
        name=name,
        revision=revision,
        channels=channels,
        input_size=preprocessing.size,
        pooling=pooling,
        preprocessing=str(preprocessing),
        dim=told.shape[1],
        device=device,
        forward=forward,
        scale=scale,
        shift=shift,
    )


def check_numbers(name: str, preprocessing: Preprocessing) -> None:
    """Refuse means and deviations that would make every feature useless."""
    if len(preprocessing.mean) != len(preprocessing.std):
        raise EncoderError(f"{name}: its configuration has another number of means than of stds.")
    for value in (*preprocessing.mean, *preprocessing.std, preprocessing.factor):
        if not math.isfinite(value):
            raise EncoderError(f"{name}: its configuration normalizes with {value}.")
    if min(preprocessing.std) <= 0:
        raise EncoderError(f"{name}: its configuration divides by {min(preprocessing.std)}.")


def network_hash(state: Mapping[str, Any], configuration: Mapping[str, Any]) -> str:
    """Return the sha256 over a configuration and all tensors.

    Equal tensors give other numbers in another architecture (timm's `tf_efficientnet_lite0` pads
    and normalizes otherwise than `efficientnet_lite0`), so both count.

    Args:
        state: tensors by name; names, types, shapes and bytes count.
        configuration: hashed as JSON with sorted keys.
    """
    digest = hashlib.sha256(json.dumps(configuration, sort_keys=True, default=str).encode())
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def triple(values: Sequence[float] | float, channels: int) -> tuple[float, ...]:
    """Give one value a channel, from as many or from one for all."""
    many = [values] if isinstance(values, int | float) else list(values)
    return tuple(float(one) for one in (many * channels if len(many) == 1 else many))
