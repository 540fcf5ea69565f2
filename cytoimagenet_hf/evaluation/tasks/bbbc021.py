"""BBBC021: MCF7 cells under compounds whose mechanism of action (MOA) is known (Caie et al. 2010).

A field's features are averaged over its treatment; the nearest treatment of another compound tells
the mechanism (Ljosa et al. 2013). Tables and counts: protocols.md 3.1, checked on the real ones.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cytoimagenet_hf.evaluation.records import Images, Protocol, Task
from cytoimagenet_hf.evaluation.tasks._layout import (
    Found,
    missing,
    nothing_found,
    open_folder,
    read_files,
    table_of,
)
from cytoimagenet_hf.sources import SourceFolder, make_key
from cytoimagenet_hf.sources._tables import Row, error_at, read_table

IMAGES, MECHANISMS = "BBBC021_v1_image.csv", "BBBC021_v1_moa.csv"
CHANNELS = ("DAPI", "Tubulin", "Actin")
_FILES = tuple(f"Image_FileName_{channel}" for channel in CHANNELS)
_PLATE, _COMPOUND, _CONCENTRATION = (
    f"Image_Metadata_{name}" for name in ("Plate_DAPI", "Compound", "Concentration")
)
_NAME = re.compile(r"(?:.*_)?(?P<well>[A-P]\d\d)_s(?P<site>\d+)_w1[^/\\]*\.tif")
_WEEK = re.compile(r"(Week\d+)_[^/\\]+")
_ARCHIVE = "BBBC021_v1_images_"  # the folder that an archive may be unpacked into


def read_fields(images: Path, mechanisms: Path) -> tuple[list[Found], Counter[str]]:
    """Join the two tables; no image is needed.

    Returns:
        The fields of the benchmark, with their file names in the order of channels (2,528 in the
        complete table: 103 treatments, 38 compounds, 12 mechanisms); and how many rows were left
        out for which reason.

    Raises:
        TableError: a row that can't be read, or contradicts an earlier one.
    """
    known = _mechanisms(mechanisms)
    fields: dict[str, tuple[int, Found]] = {}
    dropped: Counter[str] = Counter()
    columns = (*_FILES, _PLATE, _COMPOUND, _CONCENTRATION)
    for row in read_table(images, columns=columns).rows:
        compound = row.cells[_COMPOUND].strip()
        dose = _number(images, row, _CONCENTRATION)
        if compound.upper() == "DMSO":
            dropped["DMSO"] += 1
        elif (compound, dose) not in known:
            dropped["no mechanism of action in the table"] += 1
        else:
            treatment = f"{compound}-{repr(dose).removesuffix('.0')}"
            one = _field(images, row, treatment, known[compound, dose][1])
            line, first = fields.setdefault(one.id, (row.line, one))
            if first != one:
                raise error_at(images, row.line, f"{one.id!r} contradicts line {line}.")
            if line != row.line:
                dropped["row repeats an earlier one"] += 1
    return [one for _, one in fields.values()], dropped


def _mechanisms(table: Path) -> dict[tuple[str, float], tuple[int, str]]:
    """Read the line and the mechanism of each compound and concentration."""
    known: dict[tuple[str, float], tuple[int, str]] = {}
    for row in read_table(table, columns=("compound", "concentration", "moa")).rows:
        name = row.cells["compound"].strip(), _number(table, row, "concentration")
        mechanism = row.cells["moa"].strip()
        if mechanism and known.setdefault(name, (row.line, mechanism))[1] != mechanism:
            line, other = known[name]
            raise error_at(table, row.line, f"{mechanism!r} contradicts {other!r} on line {line}.")
    return known


def _number(table: Path, row: Row, column: str) -> float:
    """Read a concentration; tables write 0.300000 for 0.3, so numbers are compared and not text."""
    text = row.cells[column].strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise error_at(table, row.line, f"column {column!r}: {text!r} is no concentration.")
    return value


def _field(table: Path, row: Row, treatment: str, mechanism: str) -> Found:
    plate, files = row.cells[_PLATE].strip(), tuple(row.cells[one].strip() for one in _FILES)
    week, hit = _WEEK.fullmatch(plate), _NAME.fullmatch(files[0])
    if not week or not hit:
        raise error_at(
            table,
            row.line,
            f"plate {plate!r} and file {files[0]!r} are not named like Week4_27481 and "
            f"G10_s1_w1<GUID>.tif.",
        )
    keys = {
        "compound": row.cells[_COMPOUND].strip(),
        "treatment": treatment,
        "batch": week[1],
        "plate": plate,
        "well": make_key(plate, hit["well"]),
    }
    return Found(make_key(keys["well"], f"s{hit['site']}"), mechanism, files, keys=keys)


def _open(root: Path) -> Images:
    folder = open_folder(root, TASK.name)
    tables = [_table(folder, name) for name in (IMAGES, MECHANISMS)]
    fields, dropped = read_fields(*tables)
    found = list(_on_disk(folder, fields, dropped))
    if not found:
        first = f"{fields[0].keys['plate']}/{fields[0].where[0]}" if fields else "treated fields"
        raise nothing_found(folder, first)
    return table_of(found, read_files(root), dropped=dropped, simulated=folder.is_simulated)


def _table(folder: SourceFolder, name: str) -> Path:
    if (path := folder.table(name)) is None:
        raise nothing_found(folder, f"{name} (plain, .gz or .xz)")
    return path


def _on_disk(folder: SourceFolder, fields: list[Found], dropped: Counter[str]) -> Iterator[Found]:
    """Yield the fields whose three files lie in a folder named like their plate."""
    paths: dict[tuple[str, str], str] = {}
    for path in folder.match(r"(?:.*/)?[^/]+/[^/]+\.tif"):
        plate, name = path.string.split("/")[-2:]
        paths.setdefault((plate.removeprefix(_ARCHIVE), name), path.string)
    for one in fields:
        there = [paths.get((one.keys["plate"], name)) for name in one.where]
        if lacking := [channel for channel, at in zip(CHANNELS, there, strict=True) if not at]:
            dropped[missing(lacking)] += 1
        else:
            yield replace(one, where=tuple(there))


_NSC = Protocol(
    name="nsc",
    k=1,
    metric="cosine",
    aggregate="treatment",
    exclude=("compound",),
    standardize="all",
    cluster="compound",
)
TASK = Task(
    name="bbbc021",
    title="Mechanism of action of compounds (BBBC021, MCF7 cells)",
    version=1,
    channels=CHANNELS,
    open=_open,
    protocols=(_NSC, replace(_NSC, name="nscb", exclude=("compound", "batch"))),
    # The published count of NSCB, 92, compares sets of batches: that of taxol 0.3, in all ten,
    # equals no other, so that rows of the query's own batch stay in the bank.
    paper=(
        replace(_NSC, ties="label"),
        replace(_NSC, name="nscb", exclude_equal=("batch",), ties="label"),
    ),
    published={
        "nsc": {"random": 27.18, "imagenet": 83.5, "cytoimagenet": 83.5, "fusion": 86.41},
    },
    page="https://bbbc.broadinstitute.org/BBBC021",
    license="CC BY-NC-SA 3.0",
    citation="Caie PD et al., Mol Cancer Ther 9:1913-1926 (2010); Ljosa V et al., J Biomol Screen "
    "18:1321 (2013); Ljosa V, Sokolnicki KL, Carpenter AE, Nature Methods 9:637 (2012)",
    layout=f"{IMAGES} and {MECHANISMS} (plain, .gz or .xz), and the 55 archives, unpacked: "
    "Week4_27481/G10_s1_w1BEDC2073-A983-4B98-95E9-84466707A25D.tif",
)
