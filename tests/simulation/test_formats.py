"""Simulated files are of the kind that the real ones are, read by libraries that aren't ours."""

from collections import Counter

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

MARK = "simulated by cytoimagenet"

# source -> compression tag, data type, most counts; all are 520 x 696 TIFF files of one page
TIFFS = {
    "bbbc005": (1, np.uint8, 255),
    "bbbc006": (5, np.uint16, 4095),
    "bbbc010": (1, np.uint16, 4095),
    "bbbc022": (1, np.uint16, 4095),
}


@pytest.mark.parametrize("name", TIFFS)
def test_fields_are_tiff_files_of_the_real_kind(written, name):
    """Shape, depth, compression (1 none, 5 LZW) and range are those of the download."""
    compression, dtype, most = TIFFS[name]
    for path in written(name).images():
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            assert len(file.pages) == 1
            assert (page.shape, page.dtype, page.compression) == ((520, 696), dtype, compression)
            assert page.description == MARK
            assert not {"DateTime", "Software"} & {tag.name for tag in page.tags}
            assert page.asarray().max() <= most


@pytest.mark.parametrize("name", TIFFS)
def test_opencv_reads_the_same_pixels(written, name):
    """Another decoder than the one that wrote the files agrees on every pixel."""
    path = written(name).images()[0]
    with Image.open(path) as picture:
        assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), np.asarray(picture))


def test_bbbc005_keeps_its_upper_case_ending(written):
    """A case-sensitive loader must not lose the .TIF files."""
    assert {path.suffix for path in written("bbbc005").images()} == {".TIF"}


def test_bbbc038_is_rgba_with_an_opaque_alpha(written):
    """Four channels of 8 bits, the last one full; the three others equal in fluorescence."""
    kinds = Counter()
    for path in written("bbbc038").images():
        with Image.open(path) as picture:
            pixels = np.asarray(picture)
            assert (picture.format, picture.mode, picture.text["Comment"]) == ("PNG", "RGBA", MARK)
        assert (pixels[..., 3] == 255).all()
        equal = (pixels[..., 0] == pixels[..., 2]).all()
        kinds["gray" if equal else "color", pixels[..., :3].mean() < 110] += 1
    assert kinds["gray", True] >= 5
    assert kinds["color", False] == 1
    assert set(kinds) == {("gray", True), ("color", False)}


def test_bbbc048_has_three_small_jpegs_a_cell(written):
    """66 x 66 pixels, 8 bits, gray; both endings of the copies occur."""
    paths = written("bbbc048", 60).images()
    assert Counter(path.name.split("_")[1][:3] for path in paths) == dict.fromkeys(
        ("Ch3", "Ch4", "Ch6"), 60
    )
    assert Counter(path.name.endswith(".ome.jpg") for path in paths) == {True: 162, False: 18}
    for path in paths[:12]:
        with Image.open(path) as picture:
            assert (picture.format, picture.mode, picture.size) == ("JPEG", "L", (66, 66))
            assert picture.info["comment"] == MARK.encode()


def test_bbbc048_has_enough_cells_of_five_phases(written):
    """Out of 60 cells at least 10 each are in g1, s, g2, prophase and metaphase."""
    phases = Counter(written("bbbc048", 60).truth.values())
    assert sum(count >= 30 for count in phases.values()) == 5  # three files a cell
    assert len(phases) == 7


def test_bbbc022_has_the_header_and_the_flaws_of_the_real_table(written, real_tables):
    """The header equals the real one; one row is short, one long, and mocks have no compound."""
    table = written("bbbc022").root / "BBBC022_v1_image.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    real = (real_tables / "bbbc022/20585_AE.head.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == real[0]
    cells = Counter(line.count(",") + 1 for line in lines)
    assert cells == {22: 10, 7: 1, 24: 1}  # header, 8 fields and 1 without files
    assert sum(",mock,,," in line for line in lines) == 1


def test_bbbc022_wells_and_treatments_are_those_of_the_real_plate(written, real_tables):
    """Well, compound and Broad id of the first three rows stand so in the real extract."""
    table = written("bbbc022").root / "BBBC022_v1_image.csv"
    columns = slice(7, 9)  # Broad id and concentration
    real = (real_tables / "bbbc022/20585_AE.head.csv").read_text(encoding="utf-8").splitlines()
    known = {tuple(line.split(",")[columns]) for line in real[1:]}
    told = {tuple(line.split(",")[columns]) for line in table.read_text("utf-8").splitlines()[1:4]}
    assert told == known
