"""Checkpoints that are whole or absent: written aside, hashed, renamed; a damaged one is passed by.

A checkpoint is a folder `step-00001234` with weights (safetensors), optimizer state (tensors and
numbers only, loaded with `weights_only`), progress.json and manifest.json with the sha256 of each.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from cytoimagenet_hf import files, hashing
from cytoimagenet_hf.errors import CytoImageNetError

MANIFEST, PROGRESS = "manifest.json", "progress.json"
WEIGHTS, AVERAGED, OPTIMIZER = "model.safetensors", "ema.safetensors", "optimizer.pt"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands."""

    step: int  # optimizer steps done
    epoch: int
    step_in_epoch: int  # of this epoch, done
    seen: int  # images
    processes: int
    config: str  # fingerprint of what must not change
    bad_rows: int = 0
    best: float = 0.0  # validation accuracy


@dataclass(frozen=True, slots=True)
class Restored:
    """A checkpoint that was read."""

    path: Path
    progress: Progress
    model: Mapping[str, torch.Tensor]
    averaged: Mapping[str, torch.Tensor] | None
    optimizer: dict[str, Any]


def save(
    folder: Path,
    progress: Progress,
    *,
    model: Mapping[str, torch.Tensor],
    optimizer: Mapping[str, Any],
    averaged: Mapping[str, torch.Tensor] | None = None,
    keep: int = 2,
) -> Path:
    """Write a checkpoint and remove the oldest ones above `keep`.

    Args:
        folder: of the run's checkpoints.
        progress: where the run stands; its step names the checkpoint.
        model: state of the network.
        optimizer: its state_dict.
        averaged: state of the averaged network.
        keep: how many stay.

    Raises:
        CytoImageNetError: the disk is full or can't be written; older checkpoints are untouched.
    """
    path = folder / f"step-{progress.step:08d}"
    aside = folder / f"{path.name}.part"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        safetensors.torch.save_file(_contiguous(model), str(aside / WEIGHTS))
        if averaged is not None:
            safetensors.torch.save_file(_contiguous(averaged), str(aside / AVERAGED))
        torch.save(dict(optimizer), aside / OPTIMIZER)
        files.write_json(aside / PROGRESS, asdict(progress))
        names = sorted(one.name for one in aside.iterdir())
        files.write_json(
            aside / MANIFEST, {name: hashing.sha256_file(aside / name) for name in names}
        )
        for name in (*names, MANIFEST):
            with (aside / name).open("rb+") as stream:
                os.fsync(stream.fileno())
        files.sync_folder(aside)
        shutil.rmtree(path, ignore_errors=True)
        aside.rename(path)
        files.sync_folder(folder)
    except (OSError, safetensors.SafetensorError, RuntimeError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise CytoImageNetError(
            f"The checkpoint {path} can't be written: {error}. Older ones are whole; free some "
            f"space and run the same command again."
        ) from error
    for old in _listed(folder)[: -max(1, keep)]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def restore(folder: Path, say: Callable[[str], None]) -> Restored | None:
    """Read the newest whole checkpoint; damaged ones are named and passed by.

    Args:
        folder: of the run's checkpoints.
        say: is told of damaged ones.
    """
    for path in reversed(_listed(folder)):
        try:
            return _read(path)
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            RuntimeError,
            safetensors.SafetensorError,
        ) as error:
            say(f"checkpoint {path} is damaged ({error}); the one before is taken")
    return None


def _read(path: Path) -> Restored:
    manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    for name, expected in manifest.items():
        if Path(name).name != name:
            raise ValueError(f"{name!r} leaves the folder")
        if hashing.sha256_file(path / name) != expected:
            raise ValueError(f"{name} is not what was written")
    averaged = path / AVERAGED
    return Restored(
        path=path,
        progress=Progress(**json.loads((path / PROGRESS).read_text(encoding="utf-8"))),
        model=safetensors.torch.load_file(path / WEIGHTS),
        averaged=safetensors.torch.load_file(averaged) if AVERAGED in manifest else None,
        optimizer=torch.load(path / OPTIMIZER, weights_only=True, map_location="cpu"),
    )


def _listed(folder: Path) -> list[Path]:
    """Checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.suffix != ".part")


def _contiguous(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    # channels_last weights are saved in the order that every reader expects
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def any_in(folder: Path) -> bool:
    """Say whether a folder holds checkpoints."""
    return bool(_listed(folder))


def check_same(restored: Restored, config: str, processes: int) -> None:
    """Refuse to go on from a checkpoint of other settings or another number of processes.

    Raises:
        CytoImageNetError: says which, and what to do.
    """
    progress, folder = restored.progress, restored.path
    if progress.config != config:
        raise CytoImageNetError(
            f"{folder} was written with other settings (a batch size, a seed, a data "
            f"set ...). Give the flags of its train_config.json, or another --output-dir."
        )
    if progress.processes != processes:
        raise CytoImageNetError(
            f"{folder} was written by {progress.processes} processes and this run has "
            f"{processes}: batches would differ. Use as many, or another --output-dir."
        )
