"""Encoders without a network of ours: intensity statistics, functions of somebody's file."""

import hashlib
import importlib.util
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf.errors import EncoderError

Function = Callable[[npt.NDArray[np.float32]], Any]
_PROBE = (2, 1, 64, 64)  # gray images whose answer tells what a file reads beside itself


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FunctionEncoder:
    """A function of images; see `encoders.Encoder` for what its attributes mean."""

    name: str
    revision: str
    channels: int | None
    pooling: str
    dim: int
    function: Function
    input_size: int | None = None
    preprocessing: str = "none, native size"
    device: str = "cpu"

    def embed(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Call the function and check what it gives.

        Args:
            images: (n, channels, h, w) float32, 0..255, or raw counts.

        Returns:
            (n, dim) float32.

        Raises:
            EncoderError: the function fails, or gives something other than one row an image.
        """
        if self.channels is not None and images.shape[1] != self.channels:
            raise EncoderError(
                f"{self.name} takes images of {self.channels} channels, not {images.shape[1]}; "
                f"use mode concat or merge."
            )
        try:
            values = np.asarray(self.function(images), np.float32)
        except Exception as error:  # it is foreign code
            raise EncoderError(f"{self.name} failed: {type(error).__name__}: {error}") from error
        if values.ndim != 2 or len(values) != len(images):
            raise EncoderError(
                f"{self.name} gave values of shape {values.shape} for {len(images)} images; it "
                f"must give (n, dim)."
            )
        return values


def file_encoder(
    path: Path, function: str, *, name: str, say: Callable[[str], None]
) -> FunctionEncoder:
    """Run a Python file and take one of its functions; this executes what is in the file.

    The revision is of the file's bytes and of what the function gives for two fixed images, as
    weights may lie beside the file. Where it refuses those, each loading has a revision of its own,
    so that no features of an earlier run are taken for its.

    Args:
        path: the file.
        function: its name; takes (n, c, h, w) float32 0..255 and gives (n, dim). Images come with
            one channel in modes concat and merge, with all in mode joint.
        name: of the encoder.
        say: is told where features can't be used again.

    Raises:
        EncoderError: there is no such file or function, or running the file fails.
    """
    if not path.is_file():
        raise EncoderError(f"There is no file {path}.")
    spec = importlib.util.spec_from_file_location("_encoder_" + path.stem, path)
    if spec is None or spec.loader is None:
        raise EncoderError(f"{path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # it is foreign code
        raise EncoderError(f"{path} can't be run: {type(error).__name__}: {error}") from error
    found = getattr(module, function, None)
    if not callable(found):
        there = [one for one, value in vars(module).items() if callable(value)]
        raise EncoderError(
            f"{path} has no function {function!r}; it has {', '.join(there) or 'none'}."
        )
    encoder = FunctionEncoder(
        name=name, revision="", channels=None, pooling="the file's own", dim=0, function=found
    )
    digest = hashlib.sha256(path.read_bytes())
    probe = np.random.default_rng(0).uniform(0, 255, _PROBE).astype(np.float32)
    try:
        digest.update(encoder.embed(probe).tobytes())
    except EncoderError:
        say(
            f"{name} takes no gray images of 64 x 64 pixels, by which it would be known again: "
            f"features of earlier runs aren't used."
        )
        digest.update(uuid.uuid4().bytes)
    return replace(encoder, revision=digest.hexdigest())
