"""Tables for the table door, made from the names of real images: wide, long, and with boxes.

`images` is the folder that the paths of the table are relative to (`--images`). Groups follow the
names, so that cells of one picture stay on one side of the split.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from cytoimagenet_hf.files import replacing, walk

BCCD_COLUMNS = {  # for --map; our column -> the one of BCCD's table of boxes
    "x_min": "xmin",
    "y_min": "ymin",
    "x_max": "xmax",
    "y_max": "ymax",
    "cell_type": "class",
}
_BLOOD = {"RBC": "red blood cell", "WBC": "white blood cell", "Platelets": "platelet"}
_HPA_STAINS = {"blue": "nucleus", "green": "protein", "red": "microtubules"}


def yeast_table(images: Path, to: Path) -> Path:
    """Write a wide table: a row a cell, tagged protein (gfp) and cytosol marker (rfp).

    AAC1_1_rfp_10 is cell 10 of field 1 of protein AAC1, so its group is AAC1_1.
    """
    name = re.compile(r"images/[^/]+/((([A-Z0-9]+)_\d+)_rfp_\d+)_(gfp|rfp)\.tif")
    found: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for path, _ in walk(images):
        if hit := name.fullmatch(path):
            found[hit[1], hit[2], hit[3]][hit[4]] = path
    header = ("id", "group", "cell_visible", "organism", "modality", "channel:gfp", "channel:rfp")
    rows = [
        (*cell, "yeast", "fluorescence", paths.get("gfp", ""), paths.get("rfp", ""))
        for cell, paths in sorted(found.items())
    ]
    return _write(to / "yeast_paired.csv", header, rows)


def hpa_table(images: Path, to: Path) -> Path:
    """Write a long table: a row a plane; 762_F2_1_10 is cell 10 of image 762_F2_1, its group."""
    name = re.compile(r"([A-Z0-9]+)_[^/]+/((.+)_\d+)_(blue|green|red)\.tif")
    header = ("id", "group", "label", "path", "stain", "cell_visible", "organism", "modality")
    rows = [
        (
            hit[2],
            hit[3],
            hit[1],
            path,
            _HPA_STAINS[hit[4]],
            f"nucleus|{hit[1]}|microtubules",
            "human",
            "fluorescence",
        )
        for path, _ in walk(images)
        if (hit := name.fullmatch(path))
    ]
    return _write(to / "hpa_paired.tsv", header, rows)


def bccd_table(images: Path, to: Path) -> Path:
    """Write a table of boxes, one-based as in BCCD's cells.csv (`box="voc"`, `BCCD_COLUMNS`)."""
    header = ("path", "class", "xmin", "ymin", "xmax", "ymax", "organism", "modality")
    with (images / "cells.csv").open(encoding="utf-8", newline="") as stream:
        rows = [
            (
                f"BCCD/JPEGImages/{cell['image']}",
                _BLOOD[cell["class"]],
                *(cell[name] for name in header[2:6]),
                "human",
                "brightfield",
            )
            for cell in csv.DictReader(stream)
        ]
    return _write(to / "bccd.csv", header, rows)


def tiles_table(images: Path, to: Path) -> Path:
    """Write a row a tile of cytoimagenet_tiles with its class; no groups are known."""
    with (images / "tiles.csv").open(encoding="utf-8", newline="") as stream:
        rows = [(row["file"], row["label"]) for row in csv.DictReader(stream)]
    return _write(to / "cytoimagenet_tiles.csv", ("path", "label"), rows)


def phases_table(images: Path, to: Path) -> Path:
    """Write a wide table of bbbc048: a row a cell with its phase, three channels."""
    name = re.compile(r"CellCycle/([^/]+)/(\d+)_(Ch[346])\..+")
    found: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for path, _ in walk(images):
        if hit := name.fullmatch(path):
            found[hit[1], hit[2]][hit[3]] = path
    header = ("id", "label", "channel:brightfield", "channel:dna", "channel:darkfield")
    rows = [
        (f"{phase}/{cell}", phase, *(paths.get(one, "") for one in ("Ch3", "Ch4", "Ch6")))
        for (phase, cell), paths in sorted(found.items())
    ]
    return _write(to / "bbbc048_phases.csv", header, rows)


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Path:
    between = "\t" if path.suffix == ".tsv" else ","
    with replacing(path) as aside, aside.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter=between, lineterminator="\n")
        writer.writerows([header, *rows])
    return path
