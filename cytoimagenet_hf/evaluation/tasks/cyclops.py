"""CYCLoPs WT2: single yeast cells, where a tagged protein lies (Chong et al. 2015).

The three HDF5 files of DeepLoc (Kraus et al. 2017), pooled, or a copy as a tree of TIFF files. An
HDF5 file names no cell: the id of a cell is the file and its row, which is the data set's own key.
Neither form names strain or image of a cell, so that leave-one-out is optimistic.
"""

from collections import Counter
from collections.abc import Callable, Iterator
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
from cytoimagenet_hf.sources import make_key

CHANNELS = ("gfp", "rfp")  # the authors' code joins rfp, gfp: no distance changes by it
NO_CLASSES = ("DEAD", "GHOST")
MERGED = {"SPINDLEPOLE": "SPINDLE"}
# As the script read them that unpacked the files for the TIFF copy; other keys are an error.
KEYS = {"images": "data1", "labels": "Index1", "names": "Index1_columns"}
_SIDE = 64  # pixels; a row of an HDF5 file is flat: gfp, then rfp
# Folders of classes have letters only; those of proteins, as AAC1, in other sets of pairs have not.
_TREE = r"(?:.*/)?(?P<label>[A-Z]+)/(?P<cell>[^/]+)_(?P<channel>gfp|rfp)\.tif"
_FILE = rf"(?:.*/)?(?P<part>Chong_(?:train|valid|test)_set)\.(?:{'|'.join(_hdf5.ENDINGS)})"


def _open(root: Path) -> Images:
    folder = open_folder(root, TASK.name)
    files = _hdf5.open_parts(folder, _FILE, KEYS.values())
    sets, dropped = channel_sets(folder, _TREE, CHANNELS)
    if files and sets:
        raise two_copies(folder, next(iter(files.values())).path.name, next(iter(sets.values()))[0])
    found = [Found(make_key(label, cell), label, paths) for (label, cell), paths in sets.items()]
    found += [one for part, file in files.items() for one in _cells(part, file)]
    if not (kept := _classes(found, dropped)):
        raise nothing_found(folder, TASK.layout)
    read = _rows(files) if files else read_files(root)
    return table_of(kept, read, dropped=dropped, simulated=folder.is_simulated)


def _rows(files: dict[str, _hdf5.File]) -> Callable[[tuple[str, int]], Planes]:
    """Make a reader of cells that are given as file and row."""
    arrays = {part: file.array(KEYS["images"]) for part, file in files.items()}

    def read(where: tuple[str, int]) -> Planes:
        part, row = where
        return _hdf5.read_row(arrays[part], row).reshape(len(CHANNELS), _SIDE, _SIDE)

    return read


def _classes(found: list[Found], dropped: Counter[str]) -> list[Found]:
    """Leave out what is no class, and merge two into one; ids keep the class as it was written."""
    kept = []
    for one in found:
        if one.label in NO_CLASSES:
            dropped[f"class {one.label}"] += 1
        elif one.label:
            kept.append(replace(one, label=MERGED.get(one.label, one.label)))
        else:
            dropped["no class, or several"] += 1
    return kept


def _cells(part: str, file: _hdf5.File) -> Iterator[Found]:
    shape = file.array(KEYS["images"]).shape
    if shape[1:] != (len(CHANNELS) * _SIDE * _SIDE,):
        raise file.other(
            f"{KEYS['images']!r} has the shape {shape}, where (cells, 8192) is expected"
        )
    names = file.names(KEYS["names"])
    marks = file.column(KEYS["labels"], dimensions=2)
    if marks.shape != (shape[0], len(names)):
        raise file.other(
            f"{KEYS['labels']!r} has the shape {marks.shape} for {shape[0]} cells and "
            f"{len(names)} classes"
        )
    single = ((marks == 1).sum(axis=1) == 1) & ((marks == 0).sum(axis=1) == len(names) - 1)
    for row, at in enumerate(np.argmax(marks, axis=1)):
        label = names[at] if single[row] else ""
        yield Found(f"{part}/{row:06d}", label, (part, row))


_LEAVE_ONE_OUT = Protocol(name="leave-one-out", k=11, metric="euclidean", standardize="all")
TASK = Task(
    name="cyclops",
    title="Where a protein lies in yeast cells (CYCLoPs WT2)",
    version=1,
    channels=CHANNELS,
    open=_open,
    protocols=(_LEAVE_ONE_OUT,),
    paper=(replace(_LEAVE_ONE_OUT, ties="label"),),
    published={
        "leave-one-out": {
            "random": 53.06,
            "imagenet": 68.47,
            "cytoimagenet": 65.19,
            "fusion": 77.97,
        },
    },
    page="https://www.kaggle.com/datasets/stanleyhua/cyclops-protein-loc",
    license="unknown",
    citation="Koh JLY et al., G3 5:1223-1232 (2015); Chong YT et al., Cell 161:1413 (2015); "
    "Kraus OZ et al., Mol Syst Biol 13:924 (2017)",
    layout="Chong_train_set.hdf5, Chong_valid_set.hdf5 and Chong_test_set.hdf5, or TIFF files: "
    "<CLASS>/<cell>_gfp.tif and _rfp.tif",
)
