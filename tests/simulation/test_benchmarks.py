"""Simulated benchmarks: real names, true kinds of files, classes that differ in shape."""

import csv
import lzma
from collections import Counter

import numpy as np
import pytest
import tifffile

from cytoimagenet_hf.simulation import _optics, _single

MARK = "simulated by cytoimagenet"


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("bbbc021", (128, 160), np.uint16),
        ("coos7", (64, 64), np.uint16),
        ("cyclops", (64, 64), np.float32),
    ],
)
def test_channels_are_marked_tiff_files(written, name, shape, dtype):
    """One page of the real depth; only BBBC021 is smaller than the real one (1024 x 1280)."""
    for path in written(name).images():
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            assert len(file.pages) == 1
            assert (page.shape, page.dtype, page.description) == (shape, dtype, MARK)


def test_cyclops_floats_lie_within_0_and_1(written):
    """As those of the same laboratory's pairs do."""
    for path in written("cyclops").images():
        pixels = tifffile.imread(path)
        assert 0 <= pixels.min() < pixels.max() <= 1


def test_coos7_has_a_mask_beside_each_cell(written):
    """Masks are decoys: black and white, and in no truth."""
    root, truth = written("coos7").root, written("coos7").truth
    masks = sorted(root.rglob("*_mask.tif"))
    assert len(masks) == 8
    assert set(np.unique(tifffile.imread(masks[0]))) == {0, 255}
    assert not any("mask" in path for path in truth)


def test_coos7_parts_and_classes_are_all_there(written):
    """112 cells: each of seven classes eight times to train on, and in each test set."""
    found = Counter(tuple(path.split("/")[:2]) for path in written("coos7", 112).truth)
    assert len(found) == 35
    for (part, _), files in found.items():
        assert files == 2 * (8 if part == "train" else 2)


def test_bbbc021_tables_have_the_real_headers(written, real_tables):
    """The same columns in the same order."""
    root, real = written("bbbc021").root, real_tables / "bbbc021"
    with lzma.open(real / "BBBC021_v1_image.csv.xz", "rt", encoding="utf-8") as stream:
        header = next(csv.reader(stream))
    with (root / "BBBC021_v1_image.csv").open(encoding="utf-8") as stream:
        assert next(csv.reader(stream)) == header
    lines = [
        (folder / "BBBC021_v1_moa.csv").read_text("utf-8").splitlines()[0].replace('"', "")
        for folder in (root, real)
    ]
    assert lines[0] == lines[1]


def test_bbbc021_treatments_stand_where_they_really_stood(written, real_tables):
    """Each row's plate, well, compound and dose is one of the real table, and so its mechanism."""
    columns = (
        "Image_Metadata_Plate_DAPI",
        "Image_Metadata_Well_DAPI",
        "Image_Metadata_Compound",
        "Image_Metadata_Concentration",
        "Image_PathName_DAPI",
    )
    folder = real_tables / "bbbc021"
    with lzma.open(folder / "BBBC021_v1_image.csv.xz", "rt", encoding="utf-8") as stream:
        real = {tuple(row[column] for column in columns) for row in csv.DictReader(stream)}
    root = written("bbbc021", 180).root
    with (root / "BBBC021_v1_image.csv").open(encoding="utf-8") as stream:
        ours = [tuple(row[column] for column in columns) for row in csv.DictReader(stream)]
    assert len(ours) == 181
    assert set(ours) <= real
    told = [
        {
            (row["compound"], float(row["concentration"]), row["moa"])
            for row in csv.DictReader(
                (where / "BBBC021_v1_moa.csv").read_text("utf-8").splitlines()
            )
        }
        for where in (root, folder)
    ]
    assert told[0] < told[1]


def test_bbbc021_names_have_the_prefix_of_their_week(written, real_tables):
    """What stands before the well in a real file name of the plate stands there here."""
    real = lzma.decompress((real_tables / "bbbc021/BBBC021_v1_image.csv.xz").read_bytes())
    ours = (written("bbbc021", 180).root / "BBBC021_v1_image.csv").read_bytes()
    told, known = (
        {
            row["Image_Metadata_Plate_DAPI"]: row["Image_FileName_DAPI"].split(
                row["Image_Metadata_Well_DAPI"] + "_s"
            )[0]
            for row in csv.DictReader(table.decode().splitlines())
        }
        for table in (ours, real)
    )
    assert told.items() <= known.items()


@pytest.mark.parametrize("pattern", _single.PATTERNS)
def test_patterns_of_proteins_are_their_own(pattern):
    """Each is bright somewhere in the cell, dark outside of it, and unlike all others."""
    painted = {}
    for name in _single.PATTERNS:
        rng = _optics.generator(0, "cell")
        cell = _single.grow(rng, radius=8)
        painted[name] = _single.protein(rng, cell, name)
    own = painted.pop(pattern)
    assert own.dtype == np.float32
    assert own.shape == (64, 64)
    assert own.max() > 0.4
    assert own[:2].max() < 0.05
    for other in painted.values():
        assert np.corrcoef(own.ravel(), other.ravel())[0, 1] < 0.95
