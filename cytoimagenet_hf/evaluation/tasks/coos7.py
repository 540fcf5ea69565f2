"""COOS-7: single mouse cells, where a protein lies, and four test sets of growing shift (Lu 2019).

One HDF5 file a part, or a copy as a tree of TIFF files. An HDF5 file names no cell: the id of a
cell is the part and its row, which is the data set's own key.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from cytoimagenet_hf.evaluation.records import Images, Planes, Protocol, Task
from cytoimagenet_hf.evaluation.tasks import _hdf5
from cytoimagenet_hf.evaluation.tasks._layout import (
    Found,
    channel_sets,
    nothing_found,
    open_folder,
    read_files,
    table_of,
    two_copies,
)
from cytoimagenet_hf.sources import SourceFolder, make_key

CHANNELS = ("protein", "nucleus")
TESTS = ("test1", "test2", "test3", "test4")
# Inferred, not read in a file: other keys are an error that lists those that are there. Plate and
# well may be absent.
KEYS = {"images": "data", "labels": "labels", "plate": "plate", "well": "well"}
_TREE = (
    r"(?:.*/)?(?P<part>train|test[1-4])/(?P<label>[^/]+)/(?P<cell>[^/]+)"
    r"_(?P<channel>protein|nucleus|mask)\.tif"
)
_FILE = rf"(?:.*/)?(?:[^/]*[_-])?(?P<part>train|test[1-4])(?:ing)?\.(?:{'|'.join(_hdf5.ENDINGS)})"
_Where = tuple[str, int]  # part and row


def _open(root: Path) -> Images:
    folder = open_folder(root, TASK.name)
    files = _hdf5.open_parts(folder, _FILE, KEYS.values())
    sets, dropped = channel_sets(folder, _TREE, CHANNELS)
    if files and sets:
        raise two_copies(folder, next(iter(files.values())).path.name, next(iter(sets.values()))[0])
    if "train" not in files and not any(part == "train" for part, *_ in sets):
        raise nothing_found(folder, TASK.layout)
    if files:
        return _from_hdf5(files, folder)
    blank = {"plate": "", "well": ""}
    found = [
        Found(make_key(part, label, cell), label, paths, split=part, keys=blank)
        for (part, label, cell), paths in sets.items()
    ]
    return table_of(found, read_files(root), dropped=dropped, simulated=folder.is_simulated)


def _from_hdf5(files: dict[str, _hdf5.File], folder: SourceFolder) -> Images:
    arrays = {part: file.array(KEYS["images"]) for part, file in files.items()}
    last = {part: _is_channel_last(file, arrays[part].shape) for part, file in files.items()}

    def read(where: _Where) -> Planes:
        part, row = where
        planes = _hdf5.read_row(arrays[part], row)
        return np.moveaxis(planes, -1, 0) if last[part] else planes

    found = [one for part, file in files.items() for one in _cells(part, file, len(arrays[part]))]
    return table_of(found, read, dropped=Counter(), simulated=folder.is_simulated)


def _is_channel_last(file: _hdf5.File, shape: tuple[int, ...]) -> bool:
    """Tell (n, 2, height, width) from (n, height, width, 2); refuse what could be both or none."""
    sides = shape[1:]
    places = [at for at in (0, -1) if len(sides) == 3 and sides[at] == len(CHANNELS)]
    if len(places) != 1 or sides[1] == len(CHANNELS):
        raise file.other(
            f"{KEYS['images']!r} has the shape {shape}, where (cells, 2, 64, 64) is expected"
        )
    return places[0] == -1


def _cells(part: str, file: _hdf5.File, rows: int) -> Iterator[Found]:
    columns = {
        ours: file.names(key)
        for ours, key in KEYS.items()
        if ours == "labels" or (ours in ("plate", "well") and key in file)
    }
    for ours, values in columns.items():
        if len(values) != rows:
            raise file.other(f"{KEYS[ours]!r} has {len(values)} values for {rows} cells")
    blank = [""] * rows
    plates, wells = columns.get("plate", blank), columns.get("well", blank)
    for row, label in enumerate(columns["labels"]):
        well = make_key(plates[row], wells[row]) if wells[row] else ""
        keys = {"plate": plates[row], "well": well}
        yield Found(f"{part}/{row:06d}", label, (part, row), split=part, keys=keys)


_PROTOCOLS = tuple(
    Protocol(
        name=test,
        k=11,
        metric="euclidean",
        bank="train",
        query=test,
        standardize="bank",
        cluster="well",  # known from HDF5 only
    )
    for test in TESTS
)
TASK = Task(
    name="coos7",
    title="Where a protein lies in mouse cells (COOS-7, four test sets)",
    version=1,
    channels=CHANNELS,
    open=_open,
    protocols=_PROTOCOLS,
    paper=tuple(replace(one, ties="label") for one in _PROTOCOLS),
    published={
        "test1": {"random": 65.68, "imagenet": 88.87, "cytoimagenet": 88.58, "fusion": 94.8},
        "test2": {"random": 67.81, "imagenet": 88.93, "cytoimagenet": 89.37, "fusion": 95.07},
        "test3": {"random": 48.77, "imagenet": 75.91, "cytoimagenet": 65.97, "fusion": 78.97},
        "test4": {"random": 51.88, "imagenet": 82.19, "cytoimagenet": 78.52, "fusion": 87.47},
    },
    page="https://www.kaggle.com/datasets/stanleyhua/coos-7",
    license="unknown",
    citation="Lu AX, Lu AX, Schormann W, Ghassemi M, Andrews DW, Moses AM, NeurIPS 2019, "
    "arXiv 1906.07282",
    layout="train.hdf5 and test1.hdf5 .. test4.hdf5, or TIFF files: "
    "train/<class>/<cell>_protein.tif and _nucleus.tif, test1/ .. test4/ alike",
)
