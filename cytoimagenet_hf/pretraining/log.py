"""What a run tells: lines of metrics.jsonl, and the same on the terminal."""

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Meter:
    """Losses and times since the last line."""

    loss: float = 0.0
    images: int = 0
    steps: int = 0
    waiting: float = 0.0  # seconds without a batch
    start: float = field(default_factory=time.perf_counter)

    def add(self, loss: float, images: int) -> None:
        """Count one step."""
        self.loss, self.images, self.steps = self.loss + loss, self.images + images, self.steps + 1

    def numbers(self) -> dict[str, float]:
        """Mean loss, images a second, share of time without a batch, peak memory."""
        seconds = time.perf_counter() - self.start
        return {
            "loss": self.loss / self.steps,
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
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"kind": kind, **place, **numbers}) + "\n")
    shown = " ".join(f"{key} {value:.4g}" for key, value in numbers.items())
    return f"{kind}, epoch {place['epoch']}, step {place['step']}: {shown}"


def read_lines(folder: Path) -> list[dict[str, float]]:
    """Read metrics.jsonl; of a step that a resumed run repeated the last line counts."""
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = {}
    for line in map(json.loads, lines):
        found[line["kind"], line["step"]] = line
    return list(found.values())


def peak_megabytes() -> float:
    """Peak memory of this process; 0 where the system doesn't tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
