"""The facts of a model's card, gathered from what a training run wrote."""

from __future__ import annotations

import importlib.metadata
import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cytoimagenet_hf import files
from cytoimagenet_hf.hub._trainingdata import DataFacts, read_run_data

_PRIVATE = ("output_dir", "hub_model_id", "hub_private", "push_to_hub", "resume", "tracker")
_VERSIONS = ("torch", "timm", "transformers", "accelerate", "datasets", "numpy", "cytoimagenet-hf")
_HEADER_BYTES = 100 << 20  # what the format itself allows
_BUFFER = re.compile(r"running_(?:mean|var)$|num_batches_tracked$")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """How one class did in validation."""

    name: str
    images: int
    predicted: int
    right: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """All that a model's card is made of; equal facts give equal bytes."""

    architecture: str  # timm's name
    classes: Sequence[str]
    data: DataFacts
    settings: Mapping[str, object]  # of the run, by the name of the flag
    preprocessing: Mapping[str, object]  # pretrained_cfg of config.json
    parameters: int  # numbers among the weights
    metrics: Mapping[str, float] = field(default_factory=dict)  # final.json
    history: Sequence[Mapping[str, object]] = ()  # lines of metrics.jsonl
    scores: Sequence[ClassScore] = ()
    versions: Mapping[str, str] = field(default_factory=dict)  # library -> version
    hub_id: str = ""  # "owner/name" where it stands on the Hub
    curves: bool = False  # curves.png lies beside the card


def describe_run(output: Path, *, hub_id: str = "") -> ModelFacts:
    """Gather the facts of a finished run from what it wrote; reads no image and no weight.

    Args:
        output: folder of the run, with train_config.json, final.json and model/.
        hub_id: where the model will stand.

    Raises:
        ValueError: a file of the run is absent or isn't what a run writes.
    """
    settings = _read(output / "train_config.json", dict)
    config = _read(output / "model" / "config.json", dict)
    final = _read(output / "final.json", dict)
    scores = _read(output / "classes.json", list) if (output / "classes.json").exists() else []
    data = read_run_data(settings)
    return ModelFacts(
        architecture=str(config["architecture"]),
        classes=[str(name) for name in config["label_names"]],
        data=data,
        settings=_public(settings, data),
        preprocessing=config["pretrained_cfg"],
        parameters=_count_parameters(output / "model" / "model.safetensors"),
        metrics=final,
        history=_history(output / "metrics.jsonl"),
        scores=[
            ClassScore(
                name=str(one["class"]),
                images=int(one["images"]),
                predicted=int(one["predicted"]),
                right=int(one["right"]),
            )
            for one in scores
        ],
        versions=_versions(),
        hub_id=hub_id,
    )


def _read(path: Path, kind: type) -> Any:  # noqa: ANN401 - whatever json gives
    found = files.read_json(path)
    if not isinstance(found, kind):
        raise ValueError(f"{path} is absent or isn't what a finished run writes; train again.")
    return found


def _history(path: Path) -> list[dict[str, object]]:
    """Read metrics.jsonl; of a step that a resumed run repeated the last line counts."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = {}
    for line in lines:
        try:
            one = json.loads(line)
            found[one["kind"], one["step"]] = one
        except (ValueError, KeyError, TypeError):
            continue  # a line that a kill cut
    return list(found.values())


def _public(settings: Mapping[str, object], data: DataFacts) -> dict[str, object]:
    """Leave out where things lie on this machine."""
    shown = {key: value for key, value in settings.items() if key not in _PRIVATE}
    model = str(shown.get("model", ""))
    if model.startswith("local-dir:"):
        shown["model"] = "local-dir:" + re.split(r"[\\/]", model.rstrip("\\/"))[-1]
    return shown | {"dataset": data.id}


def _versions() -> dict[str, str]:
    found = {}
    for name in _VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _count_parameters(path: Path) -> int:
    """Count what training changes in a safetensors file, by its header alone."""
    found = read_safetensors_header(path)
    return sum(math.prod(one["shape"]) for name, one in found.items() if not _BUFFER.search(name))


def read_safetensors_header(path: Path) -> dict[str, dict[str, Any]]:
    """Return name -> {dtype, shape, data_offsets} of the tensors in a file.

    Raises:
        ValueError: it is absent or not of that format (a pickle under another name, cut short).
    """
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if not 2 <= length <= min(_HEADER_BYTES, path.stat().st_size - 8):
                raise ValueError("its header doesn't fit into it")
            found = json.loads(stream.read(length))
        found.pop("__metadata__", None)
        end = max((one["data_offsets"][1] for one in found.values()), default=0)
    except (OSError, ValueError, struct.error, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from None
    if path.stat().st_size != 8 + length + end:
        raise ValueError(f"{path} is no whole safetensors file: it is cut short or too long.")
    return {str(name): dict(one) for name, one in found.items()}
