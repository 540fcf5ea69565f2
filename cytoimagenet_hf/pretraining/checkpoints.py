"""Checkpoints that are whole or absent: written aside, hashed, renamed; a damaged one is passed by.

A checkpoint is a folder `step-00001234-epoch-0005` with weights (safetensors), the state of
optimizer and gradient scaler (tensors and numbers only, loaded with `weights_only`), progress.json,
and manifest.json with the sha256 of each.
"""

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from cytoimagenet_hf import files, hashing
from cytoimagenet_hf.errors import CytoImageNetError

MANIFEST, PROGRESS = "manifest.json", "progress.json"
WEIGHTS, AVERAGED, OPTIMIZER = "model.safetensors", "ema.safetensors", "optimizer.pt"


_NAME = re.compile(r"step-\d{8,}-epoch-\d{4,}")
_DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, RuntimeError,
           pickle.UnpicklingError, safetensors.SafetensorError)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands."""

    step: int  # optimizer steps done
    epoch: int
    step_in_epoch: int  # of this epoch, done
    seen: int  # images
    processes: int
    settings: Mapping[str, Any] = field(default_factory=dict)  # what must not change
    bad_rows: int = 0
    best: float = 0.0  # validation accuracy
    loss: float = 0.0  # sum since the last line of metrics.jsonl
    lined: int = 0  # steps since that line
    written: int = 0  # bytes of metrics.jsonl


@dataclass(frozen=True, slots=True)
class Parts:
    """The things of a run that have a state (`state_dict`, `load_state_dict`)."""

    model: torch.nn.Module  # unwrapped
    optimizer: Any
    scaler: Any = None  # of gradients, with fp16
    averaged: torch.nn.Module | None = None


@dataclass(frozen=True, slots=True)
class Restored:
    """A checkpoint that was read."""

    path: Path
    progress: Progress
    model: Mapping[str, torch.Tensor]
    averaged: Mapping[str, torch.Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]

    def load_into(self, parts: Parts) -> None:
        """Give the parts of a run their states."""
        parts.model.load_state_dict(dict(self.model))
        parts.optimizer.load_state_dict(self.optimizer)
        if parts.scaler is not None:
            parts.scaler.load_state_dict(self.scaler)
        if parts.averaged is not None:
            parts.averaged.load_state_dict(dict(self.averaged))


def save(folder: Path, progress: Progress, parts: Parts, *, keep: int = 2) -> Path:
    """Write a checkpoint and remove the oldest ones above `keep`.

    Args:
        folder: of the run's checkpoints.
        progress: where the run stands; its step and epoch name the checkpoint.
        parts: whose states are written.
        keep: how many stay.

    Raises:
        CytoImageNetError: weights aren't finite, or the disk is full or can't be written; older
            checkpoints are untouched.
    """
    path = folder / f"step-{progress.step:08d}-epoch-{progress.epoch:04d}"
    states = {WEIGHTS: parts.model.state_dict()}
    if parts.averaged is not None:
        states[AVERAGED] = parts.averaged.state_dict()
    others = {
        "optimizer": parts.optimizer.state_dict(),
        "scaler": parts.scaler.state_dict() if parts.scaler is not None else {},
    }
    if broken := [name for name, one in states[WEIGHTS].items() if not one.isfinite().all()]:
        raise CytoImageNetError(
            f"Weights are not finite after step {progress.step} ({broken[0]}). The last checkpoint "
            f"is whole; lower --learning-rate or set --clip-grad, and give another --output-dir."
        )
    for left in folder.glob("step-*.part"):
        shutil.rmtree(left, ignore_errors=True)
    aside = folder / f"{path.name}.part"
    try:
        aside.mkdir(parents=True)
        for name, state in states.items():
            safetensors.torch.save_file(_contiguous(state), str(aside / name))
        torch.save(others, aside / OPTIMIZER)
        files.write_json(aside / PROGRESS, asdict(progress))
        _seal(aside)
        shutil.rmtree(path, ignore_errors=True)  # there only when it was found damaged
        aside.rename(path)
        files.sync_folder(folder)
    except (OSError, safetensors.SafetensorError, RuntimeError, CytoImageNetError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        short = "enforce fail" in str(error)  # how torch.save says that a write was cut short
        why = "not all of it was taken, as if the disk were full" if short else error
        raise CytoImageNetError(
            f"The checkpoint {path} can't be written: {why}. Older ones are whole; free some "
            f"space and run the same command again."
        ) from error
    older = [one for one in _listed(folder) if one.name <= path.name]  # behind: damaged ones
    for old in older[: -max(1, keep)]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def _seal(folder: Path) -> None:
    """Write the manifest and make all files durable."""
    names = sorted(one.name for one in folder.iterdir())
    sums = {name: hashing.sha256_file(folder / name) for name in names}
    files.write_json(folder / MANIFEST, sums)
    for name in names:
        with (folder / name).open("rb+") as stream:
            os.fsync(stream.fileno())
    files.sync_folder(folder)


def restore(folder: Path, say: Callable[[str], None]) -> Restored | None:
    """Read the newest whole checkpoint; damaged ones are named and passed by.

    Args:
        folder: of the run's checkpoints.
        say: is told of damaged ones.
    """
    for path in reversed(_listed(folder)):
        try:
            return _read(path)
        except _DAMAGE as error:
            say(f"checkpoint {path} is damaged ({error}); the one before is taken")
    return None


def _read(path: Path) -> Restored:
    manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    if absent := {WEIGHTS, OPTIMIZER, PROGRESS} - set(manifest):
        raise ValueError(f"{MANIFEST} has no {', '.join(sorted(absent))}")
    for name, expected in manifest.items():
        if Path(name).name != name:
            raise ValueError(f"{name!r} leaves the folder")
        if hashing.sha256_file(path / name) != expected:
            raise ValueError(f"{name} is not what was written")
    averaged = path / AVERAGED
    state = torch.load(path / OPTIMIZER, weights_only=True, map_location="cpu")
    return Restored(
        path=path,
        progress=Progress(**json.loads((path / PROGRESS).read_text(encoding="utf-8"))),
        model=safetensors.torch.load_file(path / WEIGHTS),
        averaged=safetensors.torch.load_file(averaged) if AVERAGED in manifest else {},
        optimizer=state["optimizer"],
        scaler=state["scaler"],
    )


def _listed(folder: Path) -> list[Path]:
    """Checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*") if _NAME.fullmatch(path.name))


def _contiguous(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    # channels_last weights are saved in the order that every reader expects
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def any_in(folder: Path) -> bool:
    """Say whether a folder holds checkpoints."""
    return bool(_listed(folder))


def check_same(restored: Restored, settings: Mapping[str, Any], processes: int) -> None:
    """Refuse to go on from a checkpoint of other settings or another number of processes.

    Raises:
        CytoImageNetError: says which, and what to do.
    """
    progress, folder = restored.progress, restored.path
    then = progress.settings
    other = [
        f"{name} was {then.get(name)!r} and is {settings.get(name)!r}"
        for name in sorted({*then, *settings})
        if then.get(name) != settings.get(name)
    ]
    if other:
        raise CytoImageNetError(
            f"{folder} was written with other settings: {'; '.join(other)}. Give the same (they "
            f"are in train_config.json), or another --output-dir."
        )
    if progress.processes != processes:
        raise CytoImageNetError(
            f"{folder} was written by {progress.processes} processes and this run has "
            f"{processes}: batches would differ. Use as many, or another --output-dir."
        )
