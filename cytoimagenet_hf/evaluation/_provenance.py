"""What features were made of and with: the part that can change them, and the rest."""

import importlib.metadata
from typing import Any

import cytoimagenet_hf
from cytoimagenet_hf.evaluation.modes import Mode
from cytoimagenet_hf.models.encoders import Encoder

VERSION = 1  # raise it whenever features of the same images and weights could change
_LIBRARIES = ("numpy", "pillow", "torch", "timm", "transformers")  # may change features


def key_of(encoder: Encoder, mode: Mode, batch: int, chunk: int) -> dict[str, Any]:
    """Name all that changes features, but for the images themselves."""
    return {
        "version": VERSION,
        "revision": encoder.revision,
        "preprocessing": encoder.preprocessing,
        "pooling": encoder.pooling,
        "device": encoder.device.partition(":")[0],
        "mode": mode.name,
        "batch": batch,
        "chunk": chunk,
        "libraries": _versions(),
    }


def provenance(encoder: Encoder, mode: Mode, task: str, key: dict[str, Any]) -> dict[str, Any]:
    """Tell people and results what features are of; `key` is that of `key_of`."""
    return key | {
        "encoder": encoder.name,
        "dim": encoder.dim,
        "channels": encoder.channels,
        "input_size": encoder.input_size,
        "task": task,
        "mode": mode.name,
        "libraries": key["libraries"] | {"cytoimagenet_hf": cytoimagenet_hf.__version__},
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
