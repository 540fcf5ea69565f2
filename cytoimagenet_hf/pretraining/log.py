"""What a run tells: lines of metrics.jsonl, and the same on the terminal."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cytoimagenet_hf import files
from cytoimagenet_hf.errors import CytoImageNetError
from cytoimagenet_hf.pretraining.config import TrainConfig
from cytoimagenet_hf.pretraining.decoding import Batch

METRICS = "metrics.jsonl"


@dataclass(slots=True)
class Meter:
    """Times since the last line."""

    images: int = 0
    waiting: float = 0.0  # seconds without a batch
    start: float = field(default_factory=time.perf_counter)

    def numbers(self) -> dict[str, float]:
        """Images a second, share of time without a batch, peak memory."""
        seconds = max(time.perf_counter() - self.start, 1e-9)
        return {
            "images_a_second": self.images / seconds,
            "waiting": self.waiting / seconds,
            "peak_mb": peak_megabytes(),
        }


def write_line(
    folder: Path, kind: str, place: Mapping[str, int], numbers: Mapping[str, float]
) -> str:
    """Add a line to metrics.jsonl and return it in words.

    Args:
        folder: of the run.
        kind: train | validation.
        place: epoch and step.
        numbers: whatever was measured.
    """
    path = folder / METRICS
    with files.disk_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", newline="\n") as stream:
            stream.write(json.dumps({"kind": kind, **place, **numbers}) + "\n")
    shown = " ".join(f"{key} {value:.4g}" for key, value in numbers.items())
    return f"{kind}, epoch {place['epoch']}, step {place['step']}: {shown}"


def left_out(batch: Batch, config: TrainConfig) -> int:
    """Name the rows that nobody could decode, or stop at the first; return how many there are.

    Raises:
        CytoImageNetError: there is one and the policy is to stop.
    """
    for row in batch.bad:
        if config.bad_rows == "stop":
            raise CytoImageNetError(f"{row}. Use --bad-rows skip to leave such rows out.")
        sys.stderr.write(f"left out: {row}\n")  # from each process
    return len(batch.bad)


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl; a line that a kill cut off is passed over."""
    path = folder / METRICS
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    return found


def written(folder: Path) -> int:
    """Size of metrics.jsonl in bytes."""
    path = folder / METRICS
    return path.stat().st_size if path.exists() else 0


def rewind(folder: Path, size: int) -> None:
    """Cut metrics.jsonl to the size it had at a checkpoint; a resumed run writes the rest again."""
    if written(folder) > size:
        with files.disk_errors(folder / METRICS):
            os.truncate(folder / METRICS, size)


def peak_megabytes() -> float:
    """Peak memory of this process, without its workers; of a GPU, what torch allocated there.

    0 where the system doesn't tell.
    """
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
