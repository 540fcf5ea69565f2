"""Pictures of scores: accuracies with intervals, a confusion matrix a task, features in a plane.

Each returns False where matplotlib isn't installed. Text from outside is shown as it is, never as
math; the titles of pictures of simulated images say so.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cytoimagenet_hf import files
from cytoimagenet_hf.evaluation import comparing
from cytoimagenet_hf.evaluation.comparing import Pair, Row
from cytoimagenet_hf.evaluation.distances import Float
from cytoimagenet_hf.evaluation.results import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 110
_INK, _FAINT, _LEAD = "#24292f", "#8c959f", "#0b5cad"
_WIDEST = 32  # characters of a name
_MOST_CLASSES = 40  # whose names fit beside a matrix
_MOST_NUMBERS = 14  # classes up to which cells show their counts
_MOST_COLORS = 20  # classes that colors tell apart
_COLUMNS = 3  # of panels
_SIMULATED = "SIMULATED, no real cells"


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Features of a task in a plane, and the label of each point."""

    task: str
    encoder: str
    mode: str
    points: Float  # (n, 2)
    labels: tuple[str, ...]
    shares: tuple[float, float]  # of the variance along each axis
    simulated: bool


def draw_accuracies(scores: Sequence[Score], pairs: Sequence[Pair], path: Path) -> bool:
    """Draw each row's accuracies with their intervals; the best and its ties are colored."""
    table = comparing.tabulate(scores)
    if not table or not (figure := _figure(7.5, 0.5 + sum(map(_height, table.values())))):
        return False
    heights = [_height(cells) for cells in table.values()]
    panels = figure.subplots(len(table), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (row, cells) in zip(panels, table.items(), strict=True):
        leaders = comparing.leaders(cells, row, pairs)
        for at, (name, those) in enumerate(cells.items()):
            _draw_cell(axes, at, those, _LEAD if name in leaders else _INK)
        full = comparing.fullest(cells)
        largest = max(counts[0] for counts in full.classes.values()) / full.n * 100
        axes.axvline(largest, color=_FAINT, linestyle=":", linewidth=1)
        less = [comparing.shortfall(those, full) for those in cells.values()]
        names = [f"{_shown(name)} {text}".strip() for name, text in zip(cells, less, strict=True)]
        axes.set_yticks(range(len(cells)), names)
        axes.set_ylim(len(cells) - 0.4, -0.6)
        axes.set_xlim(-1, 101)
        axes.set_title(_title(f"{row}, n = {full.n:,}", full.simulated), loc="left", fontsize=10)
        _plain(axes)
        axes.grid(axis="x", alpha=0.25)
    figure.supxlabel(
        "accuracy, %. Bars: 95 % interval; of several seeds their range.\n"
        "Blue: the best and what can't be told from it. Dotted: always naming the largest class.",
        fontsize=9,
    )
    return _save(figure, path)


def draw_confusion(
    row: Row, score: Score, counts: Float, labels: Sequence[str], path: Path
) -> bool:
    """Draw which classes are taken for which; each row sums up to 100 %."""
    size = min(4.0 + 0.32 * len(labels), 14.0)
    if not (figure := _figure(size + 1.0, size)):
        return False
    axes = figure.subplots()
    sums = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, sums, out=np.zeros(counts.shape), where=sums > 0) * 100
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    if len(labels) <= _MOST_NUMBERS:
        for (at, other), count in np.ndenumerate(counts):
            dark = shares[at, other] > 55
            axes.text(other, at, f"{int(count):,}" if count else "", ha="center", va="center",
                      fontsize=8, color="white" if dark else _INK)  # fmt: skip
    if len(labels) <= _MOST_CLASSES:
        names = [_shown(label) for label in labels]
        axes.set_xticks(range(len(labels)), names, rotation=45, ha="right", fontsize=8)
        axes.set_yticks(range(len(labels)), names, fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    title = f"{row}\n{_shown(score.encoder)}: {score.accuracy:.1%} of {score.n:,}"
    axes.set_title(_title(title, score.simulated), loc="left", fontsize=10)
    figure.colorbar(drawn, ax=axes, shrink=0.7, label="% of the true class")
    return _save(figure, path)


def draw_points(task: str, several: Sequence[Points], path: Path) -> bool:
    """Draw the features of one task by several encoders, colored by label."""
    across = 2 if len(several) == 4 else min(_COLUMNS, len(several))
    down = -(-len(several) // across) if several else 0
    if not several or not (figure := _figure(3.6 * across + 2.2, 3.4 * down + 0.5)):
        return False
    panels = figure.subplots(down, across, squeeze=False).ravel()
    labels = sorted({label for one in several for label in one.labels})
    colors = _colors(labels)
    for axes, one in zip(panels, several, strict=False):
        axes.scatter(
            one.points[:, 0],
            one.points[:, 1],
            c=[colors[label] for label in one.labels],
            s=float(np.clip(3000 / len(one.points), 3, 24)),
            linewidths=0,
            alpha=0.75,
        )
        axes.set_title(f"{_shown(one.encoder)}, {_shown(one.mode)}", fontsize=10)
        axes.set_xlabel(f"component 1 ({one.shares[0]:.0%})", fontsize=8)
        axes.set_ylabel(f"component 2 ({one.shares[1]:.0%})", fontsize=8)
        axes.set_xticks([])
        axes.set_yticks([])
        _plain(axes)
    for axes in panels[len(several) :]:
        axes.set_visible(False)
    if len(labels) <= _MOST_COLORS:
        _legend(figure, colors)
    figure.suptitle(
        _title(f"{_shown(task)}: features in a plane (PCA)", several[0].simulated), fontsize=11
    )
    return _save(figure, path)


def _draw_cell(axes: Axes, at: int, scores: Sequence[Score], color: str) -> None:
    """Draw one encoder: a point with its interval, or the mean of seeds with their range."""
    middle = comparing.mean(scores) * 100
    seeds = [score.accuracy * 100 for score in scores]
    bounds: list[float | None] = [scores[0].low, scores[0].high]
    if len(scores) > 1:
        bounds = [min(seeds) / 100, max(seeds) / 100]
        axes.plot(seeds, [at] * len(seeds), linestyle="", marker="|", color=color, markersize=8)
    if None not in bounds:
        ends = [100 * bound for bound in bounds if bound is not None]
        axes.plot(ends, [at, at], color=color, linewidth=1.6, solid_capstyle="butt")
    axes.plot([middle], [at], marker="o", color=color, markersize=5)
    axes.annotate(f"{middle:.1f}", (middle, at), xytext=(0, 5), textcoords="offset points",
                  ha="center", fontsize=8, color=color)  # fmt: skip


def _height(cells: Mapping[str, object]) -> float:
    return 0.75 + 0.34 * len(cells)


def _legend(figure: Figure, colors: Mapping[str, Any]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="", marker="o", color=color, label=_shown(label))
        for label, color in colors.items()
    ]
    figure.legend(handles=handles, loc="outside right center", fontsize=8, frameon=False)


def _colors(labels: Sequence[str]) -> dict[str, Any]:
    """Return a color for each label; gray for all where there are too many to tell apart."""
    from matplotlib import colormaps

    if len(labels) > _MOST_COLORS:
        return dict.fromkeys(labels, _FAINT)
    palette = colormaps["tab10" if len(labels) <= 10 else "tab20"]
    return {label: palette(at) for at, label in enumerate(labels)}


def _figure(width: float, height: float) -> Figure | None:
    """Make a figure that needs no display; None without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> bool:
    with files.replacing(path) as aside, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # boxes in a picture tell it
        # Without the library's version: equal facts, equal bytes.
        figure.savefig(aside, format="png", dpi=_DPI, metadata={"Software": None})
    return True


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _title(text: str, simulated: bool) -> str:
    lines = [_shown(line, 90) for line in text.split("\n")]
    return "\n".join([*lines, _SIMULATED] if simulated else lines)


def _shown(text: str, widest: int = _WIDEST) -> str:
    """Make text from outside a label: one line, not too long, dollars not math."""
    kept = "".join(c for c in text if unicodedata.category(c)[0] != "C")
    line = " ".join(kept.split()).replace("\\$", "$")
    line = line if len(line) <= widest else line[: widest - 1] + "…"
    return line.replace("$", "\\$")
