"""Small decisions of a run that follow from its settings and the machine."""

import contextlib
import importlib.util
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from cytoimagenet_hf import files
from cytoimagenet_hf.errors import BuildError, CytoImageNetError, DiskError
from cytoimagenet_hf.pretraining.config import TrainConfig

# Settings that may change when a run goes on: they move no batch and no weight.
_MAY_DIFFER = {
    "output_dir", "log_steps", "checkpoint_steps", "keep_checkpoints", "resume", "tracker",
    "push_to_hub", "hub_model_id", "hub_private", "cpu",
}  # fmt: skip


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a second run out of the folder for the block.

    Raises:
        CytoImageNetError: another run holds it, or it can't be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.exclusive_lock(folder / "lock"))
        except DiskError:
            raise
        except BuildError:
            raise CytoImageNetError(
                f"Another run is writing to {folder}. Wait until it ends, or give this one another "
                f"--output-dir."
            ) from None
        yield


def identity(config: TrainConfig, data: str) -> dict[str, Any]:
    """Collect all that a resumed run must share.

    Args:
        config: of the run.
        data: fingerprint of the training split.
    """
    free = _MAY_DIFFER | (set() if config.streaming else {"workers"})  # workers share out shards
    kept = {key: value for key, value in config.as_dict().items() if key not in free}
    return kept | {"fingerprint of the labels of the training split": data}


def choose_device(config: TrainConfig) -> torch.device:
    """Choose where this process computes, before accelerate decides how many there are.

    Where there is nothing but a CPU, accelerate wants to be told: otherwise each of several
    processes that were launched would train alone.
    """
    import accelerate

    asked = config.cpu or accelerate.utils.parse_flag_from_env("ACCELERATE_USE_CPU")
    state = accelerate.PartialState(cpu=asked or not torch.accelerator.is_available())
    device: torch.device = state.device
    return device


def precision(config: TrainConfig, device: torch.device) -> str:
    """Choose the arithmetic: bf16 where a GPU has units for it, never on a CPU.

    On a CPU without such units one bf16 step took 7 times as long as a plain one.

    Raises:
        ValueError: bf16 or fp16 was asked for on a device that lacks it.
    """
    on_gpu = device.type == "cuda"
    has_bf16 = on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    if config.mixed_precision == "auto":
        return "bf16" if has_bf16 else "no"
    if config.mixed_precision == "bf16" and not has_bf16:
        raise ValueError(
            f"bf16 is for GPUs that have units for it, and this run is on {device.type}: leave "
            f"--mixed-precision at auto."
        )
    if config.mixed_precision == "fp16" and not on_gpu:
        raise ValueError(
            f"fp16 needs a GPU, and this run is on {device.type}: leave --mixed-precision at auto."
        )
    return config.mixed_precision


def check_compiler(config: TrainConfig, device: torch.device) -> None:
    """Refuse --compile where torch.compile can't work, before the first step does.

    Raises:
        ValueError: there is no C++ compiler.
    """
    names = (os.environ.get("CXX", ""), "g++", "c++", "clang++", "cl")
    if config.compile and device.type == "cpu" and not any(map(shutil.which, names)):
        raise ValueError(
            "torch.compile on a CPU needs a C++ compiler, and none was found: install one, name it "
            "in the environment (CXX), or leave --compile away."
        )


def tracker(config: TrainConfig) -> str | None:
    """Return the tracker's name.

    Raises:
        ValueError: there is no such tracker.
        CytoImageNetError: it isn't installed.
    """
    if not config.tracker:
        return None
    from accelerate.tracking import LoggerType

    known = sorted(one.value for one in LoggerType if one.value != "all")
    if config.tracker not in known:
        raise ValueError(f"Unknown tracker {config.tracker!r}; there are {', '.join(known)}.")
    if importlib.util.find_spec(config.tracker) is None:
        raise CytoImageNetError(
            f"The tracker {config.tracker} isn't installed: pip install {config.tracker}, or leave "
            f"--tracker away, as metrics.jsonl is written anyhow."
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
