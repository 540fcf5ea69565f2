"""What the fine-tuning study tells of its cells: tables in Markdown, and curves."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cytoimagenet_hf import files

SPLITS = ("group", "random")
NETWORKS = ("imagenet", "random")
METHODS = (*NETWORKS, "intensity")
_INK = {"imagenet": "tab:blue", "random": "tab:orange", "intensity": "0.4"}

Cell = dict[str, Any]  # one method on one split of one set


def read_cells(to: Path) -> list[Cell]:
    """Read every finished cell."""
    return [files.read_json(path) for path in sorted(to.glob("*/cells/*.json"))]


def spread(values: Sequence[float]) -> str:
    """Mean, and lowest to highest where two decimals tell them apart."""
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{np.mean(values):.2f} ({low}-{high})"


def sizes(cells: Sequence[Cell], key: str) -> str:
    """Smallest and largest number of crops over seeds, as groups have unequal numbers of them."""
    low, high = (f"{limit(one[key] for one in cells):,}" for limit in (min, max))
    return low if low == high else f"{low}-{high}"


def accuracy_table(cells: Sequence[Cell]) -> str:
    """Markdown: a row a set and split, accuracy by method as mean (lowest-highest) over seeds."""
    grouped: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        grouped[cell["set"], cell["split"]].append(cell)
    lines = [
        "| set | split | train / held out | related | majority | " + " | ".join(METHODS) + " |",
        "|---|---|---:|---:|---:|" + "---:|" * len(METHODS),
    ]
    for (name, split), own in sorted(grouped.items()):
        scores = [
            spread([one["accuracy"] for one in own if one["method"] == method] or [float("nan")])
            for method in METHODS
        ]
        related, majority = (spread([one[key] for one in own]) for key in ("related", "majority"))
        counts = f"{sizes(own, 'train')} / {sizes(own, 'held_out')}"
        lines.append(f"| {name} | {split} | {counts} | {related} | {majority} | "
                     + " | ".join(scores) + " |")  # fmt: skip
    return "\n".join(lines)


def class_table(cells: Sequence[Cell], name: str, split: str = "group") -> str:
    """Markdown: a row a class, its recall by method over the held-out crops of all seeds."""
    own = [one for one in cells if (one["set"], one["split"]) == (name, split)]
    counts: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for cell in own:
        for row in cell["classes"]:
            counts[row["class"]][cell["method"]][0] += row["right"]
            counts[row["class"]][cell["method"]][1] += row["images"]
    lines = ["| class | held out | " + " | ".join(METHODS) + " |", "|---|" + "---:|" * 4]
    for label, found in counts.items():
        shares = [f"{found[one][0] / max(found[one][1], 1):.2f}" for one in METHODS]
        images = max(one[1] for one in found.values())
        lines.append(f"| {label} | {images} | " + " | ".join(shares) + " |")
    return "\n".join(lines)


def draw(cells: Sequence[Cell], to: Path) -> None:
    """Draw accuracy over steps, a panel a set and split, a line a seed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = sorted({one["set"] for one in cells})
    figure = Figure(figsize=(9, 3 * len(names)), layout="constrained")
    for at, (name, split) in enumerate((name, split) for name in names for split in SPLITS):
        own = [one for one in cells if (one["set"], one["split"]) == (name, split)]
        if not own:
            continue
        title = f"{name}, {'groups' if split == 'group' else 'crops'} held out"
        axes = figure.add_subplot(len(names), 2, at + 1, ylim=(0, 1), title=title)
        for cell in own:
            style = {"color": _INK[cell["method"]], "linewidth": 1}
            label = cell["method"] if cell["seed"] == 0 else None
            if cell["method"] == "intensity":
                axes.axhline(cell["accuracy"], linestyle="--", label=label, **style)
            else:
                axes.plot(*zip(*cell["curve"], strict=True), label=label, **style)
        axes.axhline(own[0]["majority"], color="0.8", label="majority")
        axes.set_xlabel("step")
        axes.set_ylabel("accuracy")
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    FigureCanvasAgg(figure)
    with files.replacing(to / "curves.png") as aside:
        figure.savefig(aside, format="png", dpi=110, metadata={"Software": None})
