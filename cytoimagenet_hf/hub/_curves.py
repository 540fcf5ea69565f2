"""Learning curves as text, and as a picture where matplotlib is installed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from cytoimagenet_hf import files

Lines = Sequence[Mapping[str, object]]  # of metrics.jsonl

_T = TypeVar("_T")
_BARS = "▁▂▃▄▅▆▇█"


def values(lines: Lines, kind: str, key: str) -> list[tuple[float, float]]:
    """Return (step, value) of one number, by step; lines without it are passed over."""
    found = []
    for line in lines:
        step, value = line.get("step"), line.get(key)
        if line.get("kind") == kind and _is_number(step) and _is_number(value):
            found.append((float(step), float(value)))  # type: ignore[arg-type]
    return sorted(found)


def sparkline(numbers: Sequence[float], width: int = 32) -> str:
    """Draw numbers as a row of bars, lowest to highest; more than `width` are thinned evenly."""
    shown = thinned(list(numbers), width)
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    return "".join(_BARS[round((one - low) / span * (len(_BARS) - 1))] for one in shown)


def thinned(rows: list[_T], most: int) -> list[_T]:
    """Return at most so many rows, evenly chosen, the first and the last among them."""
    if len(rows) <= most:
        return rows
    return [rows[round(at * (len(rows) - 1) / (most - 1))] for at in range(most)]


def draw_curves(lines: Lines, path: Path) -> bool:
    """Draw loss and accuracy over steps as a PNG; False without matplotlib or anything to draw."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    losses = {kind: values(lines, kind, "loss") for kind in ("train", "validation")}
    scores = {
        "accuracy": values(lines, "validation", "accuracy"),
        "balanced accuracy": values(lines, "validation", "balanced_accuracy"),
    }
    if not any(losses.values()):
        return False
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for at, (title, curves) in enumerate((("loss", losses), ("validation", scores)), start=1):
        axes = figure.add_subplot(1, 2, at)
        for name, points in curves.items():
            if points:
                axes.plot(*zip(*points, strict=True), label=name, marker=".", linewidth=1)
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if any(curves.values()):
            axes.legend()
    FigureCanvasAgg(figure)
    with files.replacing(path) as aside:  # without the library's version: equal facts, equal bytes
        figure.savefig(aside, format="png", dpi=110, metadata={"Software": None})
    return True


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
