"""Small decisions of a run that follow from its settings and the machine."""

import importlib.util
import math

import torch

from cytoimagenet_hf import hashing
from cytoimagenet_hf.errors import CytoImageNetError
from cytoimagenet_hf.pretraining.config import TrainConfig

# Settings that may change when a run goes on: they move no batch and no weight.
_MAY_DIFFER = (
    "output_dir", "workers", "log_steps", "checkpoint_steps", "keep_checkpoints", "resume",
    "tracker", "push_to_hub", "hub_model_id", "hub_private", "cpu",
)  # fmt: skip


def identity(config: TrainConfig) -> str:
    """Name all settings that a resumed run must share."""
    kept = {key: value for key, value in config.as_dict().items() if key not in _MAY_DIFFER}
    return hashing.fingerprint(f"{key}={value!r}" for key, value in sorted(kept.items()))


def precision(config: TrainConfig) -> str:
    """Choose the arithmetic: bf16 where a device has units for it, never on a CPU.

    On a CPU without such units one bf16 step took 7 times as long (speed.md 4).

    Raises:
        ValueError: bf16 or fp16 was asked for on a device that lacks it.
    """
    on_gpu = torch.cuda.is_available() and not config.cpu
    has_bf16 = on_gpu and torch.cuda.is_bf16_supported()
    if config.mixed_precision == "auto":
        return "bf16" if has_bf16 else "no"
    if config.mixed_precision == "bf16" and not has_bf16:
        raise ValueError("This device has no bf16 units: leave --mixed-precision at auto.")
    if config.mixed_precision == "fp16" and not on_gpu:
        raise ValueError("fp16 needs a GPU: leave --mixed-precision at auto.")
    return config.mixed_precision


def tracker(config: TrainConfig) -> str | None:
    """Return the tracker's name.

    Raises:
        CytoImageNetError: it isn't installed.
    """
    if not config.tracker:
        return None
    if importlib.util.find_spec(config.tracker) is None:
        raise CytoImageNetError(
            f"The tracker {config.tracker} isn't installed (pip install {config.tracker}); "
            f"metrics.jsonl is written without it."
        )
    return config.tracker


def rate_factor(step: int, total: int, config: TrainConfig) -> float:
    """Share of the peak learning rate at a step: rising, then constant or half a cosine."""
    rising = round(config.warmup * total)
    if step < rising:
        return (step + 1) / rising
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, total - rising))))
