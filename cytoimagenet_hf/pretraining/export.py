"""The model folder: what timm and transformers load with the same numbers, without our code.

Three input channels (gray is repeated), class names and preprocessing inside, no pickle. The
preprocessing is the one of training: squashed to a square, bilinear, so that the pipelines give
the numbers of validation for gray images. Training makes gray of color; pipelines leave it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import timm
import torch

from cytoimagenet_hf import files
from cytoimagenet_hf.errors import CytoImageNetError
from cytoimagenet_hf.pretraining.config import TrainConfig


def save_model(
    model: torch.nn.Module,
    folder: Path,
    *,
    classes: Sequence[str],
    config: TrainConfig,
    license: str = "",
) -> None:
    """Write model.safetensors and config.json.

    Args:
        model: the network, unwrapped, on any device.
        folder: gets the two files.
        classes: in the order of the outputs; must be unique.
        config: of the run.
        license: Hub id of the weights' license, from the terms of the training data.

    Raises:
        ValueError: two classes have one name (transformers would lose the mapping).
        CytoImageNetError: the folder can't be written.
    """
    if len(set(classes)) != len(classes):
        raise ValueError("Two classes have the same name; names must be unique.")
    known = timm.data.resolve_model_data_config(model)
    size = config.image_size
    pretrained_cfg: dict[str, Any] = {
        "tag": "cytoimagenet",
        "license": license or "other",
        "num_classes": len(classes),
        "input_size": [3, size, size],
        "test_input_size": None,
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "test_crop_pct": None,
        "crop_mode": "squash",
        "mean": list(known["mean"]),
        "std": list(known["std"]),
        "url": "",
        "hf_hub_id": None,
        "origin_url": "",
        "paper_ids": "",
        "paper_name": "",
    }
    path = folder / "config.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        timm.models.save_for_hf(
            model.cpu().to(memory_format=torch.contiguous_format),
            str(folder),
            model_config={"pretrained_cfg": pretrained_cfg, "label_names": list(classes)},
            safe_serialization=True,
        )
    except (OSError, safetensors.SafetensorError) as error:
        raise CytoImageNetError(
            f"The model can't be written to {folder}: {error}. Checkpoints are whole: make room "
            f"and run the same command again."
        ) from error
    written: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    written.get("model_args", {}).pop("num_classes", None)  # transformers gives it again and fails
    written["pretrained_cfg"] = _without_nothing(written["pretrained_cfg"])
    files.write_json(path, written)


def _without_nothing(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value not in (None, "")}
