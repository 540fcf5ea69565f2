"""Outside files become planes with exactly their values, or a refusal with a fixed reason.

What shows which kind of file. The reader decodes TIFF with libtiff and own code, PNG with libpng
and JPEG with libjpeg, all by imagecodecs, and BMP with Pillow; nothing expected comes from it.

| kind | written by | expected from |
|---|---|---|
| KINDS (_kinds.py), lossless | OpenCV, Pillow, tifffile, hand | the array that was written |
| KINDS (_kinds.py), JPEG | OpenCV, Pillow | OpenCV's decoder; in TIFF Pillow's (by libtiff) |
| TIFF LZW, 16 bit | bbbc006 | tifffile |
| TIFF raw and deflate + predictor, 16 bit | bbbc022, bbbc010 | tifffile |
| TIFF PackBits, also big-endian | bbbc007 | tifffile |
| TIFF palette that is gray | bbbc014, bbbc016 | OpenCV |
| TIFF float32 deflate | yeast_paired, hpa_paired | tifffile |
| TIFF deflate, 16 bit | nf1_cellpainting, jump_cpg0000_crop, bbbc048 | tifffile |
| PNG 16 bit | bbbc006 z_aligned | OpenCV |
| PNG RGBA, opaque | bbbc038 | OpenCV |
| JPEG RGB | bccd | OpenCV |
"""

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cytoimagenet_hf.errors import ImageRefusedError
from cytoimagenet_hf.imaging.readers import Header, cut, probe, read_plane
from tests.imaging import _files as files
from tests.imaging._files import refusal, write
from tests.imaging._kinds import COLOR8, GRAY8, GRAY16, KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_keeps_its_values(kind, tmp_path, caplog):
    """The plane has the written values in a native type; its header told the size; no log line."""
    data, expected = KINDS[kind]
    path = write(tmp_path, data)
    plane = read_plane(path)
    assert np.array_equal(plane, expected)
    assert plane.dtype.isnative
    assert plane.dtype == expected.dtype or "png gray 4" in kind
    assert plane.flags.c_contiguous
    assert not caplog.records
    header = probe(path)
    assert (header.height, header.width) == expected.shape[:2]
    assert header.dtype == plane.dtype.name
    assert header.channels >= (plane.shape[2] if plane.ndim == 3 else 1)


# Pages and series.


def test_page_counts_all_directories(tmp_path):
    """Page 2 of a stack is its third directory, also where the shapes differ."""
    path = write(tmp_path, files.pages(GRAY8, GRAY8[:4], GRAY8[:, :5]))
    assert np.array_equal(read_plane(path, page=2), GRAY8[:, :5])
    assert refusal(path, page=3) == ("page out of range", "file.bin: page 3 of 3")
    assert refusal(path, page=-1)[0] == "page out of range"
    assert refusal(path, series=1)[0] == "series out of range"
    assert probe(path).pages == 3


@pytest.mark.parametrize("truncate", [False, True])
@pytest.mark.parametrize("order", "<>")
def test_imagej_stack(tmp_path, truncate, order):
    """Slice 4 of 6 is read with a directory for each slice and with one for all."""
    stack = np.stack([GRAY16 + shift for shift in range(6)])
    options = {
        "imagej": True,
        "truncate": truncate,
        "byteorder": order,
        "metadata": {"axes": "ZYX"},
    }
    path = write(tmp_path, files.tiff(stack, **options))
    assert np.array_equal(read_plane(path, page=4), stack[4])
    assert probe(path).pages == 6
    assert refusal(path, page=6)[0] == "page out of range"


def test_imagej_stack_that_is_cut_off(tmp_path):
    """A stack whose last slice the file does not hold refuses that slice and no other."""
    stack = np.stack([GRAY16] * 6)
    data = files.tiff(stack, imagej=True, truncate=True, metadata={"axes": "ZYX"})
    path = write(tmp_path, data[: -GRAY16.nbytes])
    assert np.array_equal(read_plane(path, page=0), GRAY16)
    assert refusal(path, page=5)[0] == "unreadable"


def test_ome_series_and_planes(tmp_path):
    """Planes count in the file's order of dimensions; series are the Image elements."""
    volume = np.arange(2 * 3 * 4 * 5 * 6, dtype="uint16").reshape(2, 3, 4, 5, 6)  # T C Z Y X
    path = write(tmp_path, files.ome((GRAY8, "YX"), (volume, "TCZYX")))
    assert np.array_equal(read_plane(path), GRAY8)
    assert np.array_equal(read_plane(path, series=1, page=4 * 3 * 1 + 4 * 2 + 3), volume[1, 2, 3])
    assert refusal(path, series=1, page=24) == ("page out of range", "file.bin: page 24 of 24")
    assert refusal(path, series=2)[0] == "series out of range"
    assert probe(path) == Header("tiff", 7, 9, 1, "uint8", pages=1, series=2)


def test_ome_planes_listed_out_of_order(tmp_path):
    """TiffData says which directory holds which plane; planes of other files have none here."""
    xml = (
        '<OME xmlns="o" UUID="urn:uuid:1"><Image><Pixels DimensionOrder="XYZCT" SizeZ="1" SizeC="3"'
        ' SizeT="1"><TiffData IFD="1" FirstC="0"><UUID FileName="me">urn:uuid:1</UUID></TiffData>'
        '<TiffData IFD="0" FirstC="1"/><TiffData IFD="0" FirstC="2"><UUID FileName="../you.tif">'
        "urn:uuid:2</UUID></TiffData></Pixels></Image></OME>"
    )
    path = tmp_path / "two.tif"
    with tifffile.TiffWriter(path) as writer:
        for plane, text in ((GRAY8, xml), (GRAY8 + 100, None)):
            writer.write(plane, description=text, contiguous=False, metadata=None)
    assert np.array_equal(read_plane(path, page=0), GRAY8 + 100)
    assert np.array_equal(read_plane(path, page=1), GRAY8)
    assert refusal(path, page=2) == (
        "page out of range",
        "two.tif: page 2 does not stand in this file",
    )


@pytest.mark.parametrize(
    "xml",
    [
        '<!DOCTYPE l [<!ENTITY a "aaaa">]><OME><Image><Pixels SizeC="9"/></Image></OME>',
        "<OME><Image><Pixels",
        "<OME></OME>",
        '<?xml version="1.0"?><other/>',
    ],
)
def test_texts_that_are_no_ome(tmp_path, xml):
    """Broken OME-XML, and such with entities, is passed over: the file is its directories."""
    path = write(tmp_path, files.tiff(GRAY8, description=xml, metadata=None))
    assert np.array_equal(read_plane(path), GRAY8)
    assert probe(path).pages == 1


def test_pages_of_formats_without_pages(tmp_path):
    """A PNG has page 0 of series 0 and no other."""
    path = write(tmp_path, files.opencv(".png", GRAY8))
    assert refusal(path, page=1)[0] == "page out of range"
    assert refusal(path, series=1)[0] == "series out of range"


# Names and places.


@pytest.mark.parametrize("name", ["a.tif", "a.JPG", "a", "Größe.Bmp"])
def test_content_decides_not_the_name(tmp_path, name):
    """A PNG is read under any name."""
    path = write(tmp_path, files.opencv(".png", GRAY8), name)
    assert np.array_equal(read_plane(path), GRAY8)


def test_missing_file(tmp_path):
    """The detail names the file without its folder, as it is published."""
    assert refusal(tmp_path / "no.tif") == ("missing file", "no.tif: no such file")
    assert refusal(tmp_path)[0] == "missing file"
    assert refusal(write(tmp_path, b"x") / "in a file.tif")[0] == "missing file"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_not_waited_for(tmp_path):
    """Something that is no regular file is refused before it is opened."""
    os.mkfifo(tmp_path / "pipe.tif")
    assert refusal(tmp_path / "pipe.tif")[0] == "missing file"


@pytest.mark.parametrize(
    "text",
    [
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        b"/annex/objects/SHA256E-s9--00.tif\n",
    ],
)
def test_large_file_pointers(tmp_path, text):
    """Pointer texts of git-lfs and git-annex are told from broken images."""
    assert refusal(write(tmp_path, text))[0] == "large-file pointer"


def test_annex_link_without_content(tmp_path):
    """A dangling link into git-annex's store says that the content was not fetched."""
    link = tmp_path / "a.tif"
    try:
        link.symlink_to(".git/annex/objects/aa/bb/SHA256E-s9--00.tif")
    except OSError:
        pytest.skip("links need a privilege here")
    assert refusal(link)[0] == "large-file pointer"


def test_other_formats_and_texts(tmp_path):
    """GIF and plain text are unreadable; the detail shows how the file starts."""
    assert refusal(write(tmp_path, files.pillow("GIF", GRAY8)))[0] == "unreadable"
    reason, detail = refusal(write(tmp_path, b"id,label\n1,2\n", "table.png"))
    assert reason == "unreadable"
    assert detail.startswith("table.png: starts with b'id,label'")
    assert refusal(write(tmp_path, b"", "none.tif")) == ("empty file", "none.tif: 0 bytes")


# Boxes.


def test_cut_is_a_view_and_end_exclusive():
    """Box 2, 1, 5, 3 holds columns 2 to 4 of rows 1 and 2."""
    part = cut(GRAY8, (2, 1, 5, 3))
    assert part.tolist() == [[11, 12, 13], [20, 21, 22]]
    assert np.shares_memory(part, GRAY8)
    assert cut(COLOR8, (0, 0, 9, 7)).shape == (7, 9, 3)


@pytest.mark.parametrize(
    "box", [(0, 0, 10, 7), (0, 0, 9, 8), (-1, 0, 3, 3), (0, -1, 3, 3), (3, 3, 3, 5), (5, 3, 3, 5)]
)
def test_boxes_out_of_range(box):
    """A box that leaves the plane or is empty is refused; NumPy would cut it silently."""
    with pytest.raises(ImageRefusedError) as caught:
        cut(GRAY8, box)
    assert caught.value.reason == "box out of range"


# Real files.

REAL = {
    "bbbc006/BBBC006_v1_images_z_00": "uint16",
    "bbbc006/z_aligned_10": "uint16",
    "bbbc007": "uint8",
    "bbbc010": "uint16",
    "bbbc014": "uint8",
    "bbbc016": "uint8",
    "bbbc022": "uint16",
    "bbbc038": "uint8",
    "bbbc048/CellCycle/Anaphase": "uint16",
    "bccd/BCCD/JPEGImages": "uint8",
    "hpa_paired": "float32",
    "jump_cpg0000_crop": "uint16",
    "nf1_cellpainting": "uint16",
    "yeast_paired/images/AAC1": "float32",
}
ENDINGS = (".tif", ".tiff", ".png", ".jpg")
PER_FOLDER = 20


@pytest.mark.parametrize("folder", REAL)
def test_real_files_equal_another_reader(folder, real_images):
    """Up to 20 real files of each source have the values and the depth that others read."""
    paths = [path for path in sorted((real_images / folder).rglob("*")) if is_image(path)]
    assert paths
    for path in paths[:PER_FOLDER]:
        plane = read_plane(path)
        expected = by_another(path)
        if expected.ndim == 3 and (expected == expected[..., :1]).all():
            expected = expected[..., 0]
        assert np.array_equal(plane, expected), path.name
        assert plane.dtype == REAL[folder]


def is_image(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS


def by_another(path: Path) -> np.ndarray:
    if path.suffix.lower().startswith(".tif"):
        with tifffile.TiffFile(path) as file:
            if file.pages[0].photometric != tifffile.PHOTOMETRIC.PALETTE:
                return file.asarray()
    plane = files.opencv_read(path.read_bytes())
    return (
        plane[..., -3:] if plane.ndim == 3 else plane
    )  # without alpha, which is first after reversal
