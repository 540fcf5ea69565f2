"""Kinds that are not read, broken files and hostile ones are refused under fixed reasons."""

import struct
import warnings
import zlib

import numpy as np
import pytest

from cytoimagenet_hf.imaging import _raster
from cytoimagenet_hf.imaging.readers import probe, read_plane
from cytoimagenet_hf.schema import Limits
from tests.imaging import _files as files
from tests.imaging._files import refusal, write
from tests.imaging._kinds import COLOR8, GRAY8, GRAY16, KINDS, SMOOTH

SIZE = GRAY8.size
FOUR = np.dstack([COLOR8, GRAY8])


# What is refused for its kind.


def refused_kinds() -> dict[str, tuple[str, bytes]]:
    """Kind -> (reason, file)."""
    clear = np.dstack([COLOR8, np.full(GRAY8.shape, 254, "uint8")])
    tags, raw = files.gray_tags, GRAY8.tobytes()
    two = np.stack([GRAY8] * 2, axis=-1)
    bits = GRAY8 % 2 == 0
    return {
        "png alpha": ("alpha", files.opencv(".png", clear)),
        "png transparent color in use": ("alpha", files.pillow("PNG", GRAY8, transparency=5)),
        "png bi-level": ("binary", files.pillow("PNG", bits)),
        "tiff alpha": (
            "alpha",
            files.tiff(clear, photometric="rgb", extrasamples=["unassalpha"]),
        ),
        "tiff bi-level": ("binary", files.tiff(bits)),
        "tiff bi-level, Pillow": ("binary", files.pillow("TIFF", bits, compression="group4")),
        "tiff two channels": (
            "unsupported channels",
            files.tiff(two, photometric="minisblack", planarconfig="contig"),
        ),
        "tiff five channels": (
            "unsupported channels",
            files.tiff(np.dstack([FOUR, GRAY8]), photometric="minisblack", planarconfig="contig"),
        ),
        "tiff cmyk": ("unsupported channels", files.tiff(FOUR, photometric="separated")),
        "tiff complex": ("unsupported depth", files.tiff(GRAY8.astype("complex64"))),
        "tiff int64": ("unsupported depth", files.tiff(GRAY8.astype("int64"))),
        "tiff uint64": ("unsupported depth", files.tiff(GRAY8.astype("uint64"))),
        "tiff lzma": ("unreadable", files.tiff(GRAY8, compression="lzma")),
        "tiff float WhiteIsZero": (
            "unreadable",
            files.tiff(GRAY8.astype("float32"), photometric="miniswhite"),
        ),
        "tiff depths that differ": (
            "unsupported depth",
            files.raw_tiff(tags(7, 9, SIZE, t258=(3, [8, 8, 16]), t277=(3, [3])), raw),
        ),
        "bmp bi-level": ("binary", files.pillow("BMP", bits)),
        "bmp alpha": ("alpha", files.opencv(".bmp", clear)),
        "jpeg cmyk": (
            "unsupported channels",
            files.pillow("JPEG", files.Image.fromarray(FOUR, mode="CMYK")),
        ),
    }


REFUSED = refused_kinds()


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_kinds(kind, tmp_path):
    """What can't be told exactly is refused under the reason that counts it."""
    reason, data = REFUSED[kind]
    assert refusal(write(tmp_path, data))[0] == reason


# Broken and hostile files.


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files(kind, tmp_path):
    """No kind is read from its first half."""
    data, _ = KINDS[kind]
    assert refusal(write(tmp_path, data[: len(data) // 2]))[0] == "unreadable"


def hostile() -> dict[str, tuple[str, bytes]]:
    """Trick -> (reason, file)."""
    tags, raw = files.gray_tags, GRAY8.tobytes()
    plain, deflated = files.raw_tiff(tags(7, 9, SIZE), raw), zlib.compress(raw)
    first = struct.unpack_from("<I", plain, 4)[0]
    twice = bytearray(plain)
    twice[first + 2 : first + 14] = twice[first + 14 : first + 26]
    huge = 1 << 31
    many = files.pages(*[GRAY8] * 5)
    header = {".png": 16, ".bmp": 18}
    oversize = {ending: bytearray(files.opencv(ending, GRAY8)) for ending in header}
    struct.pack_into(">II", oversize[".png"], 16, 1 << 20, 1 << 20)
    struct.pack_into("<ii", oversize[".bmp"], 18, 1 << 20, 1 << 20)
    png = oversize[".png"]
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    jpeg = bytearray(files.opencv(".jpg", SMOOTH))
    struct.pack_into(">HH", jpeg, jpeg.index(b"\xff\xc0") + 5, 65535, 65535)
    return {
        "png of 2^40 pixels": ("too large", bytes(png)),
        "bmp of 2^40 pixels": ("too large", bytes(oversize[".bmp"])),
        "jpeg of 2^32 pixels": ("too large", bytes(jpeg)),
        "tiff of 2^62 pixels": (
            "too large",
            files.raw_tiff(tags(huge, huge, SIZE, t278=(4, [huge])), raw),
        ),
        "tiff of one huge tile": (
            "too large",
            files.raw_tiff(
                tags(7, 9, SIZE, t322=(4, [huge]), t323=(4, [huge]), t324=(4, [8]), t325=(4, [63])),
                raw,
            ),
        ),
        "directories that loop": (
            "unreadable",
            files.raw_tiff(tags(7, 9, SIZE), raw, following=first),
        ),
        "directory outside": ("unreadable", files.raw_tiff(tags(7, 9, SIZE), raw, following=10**6)),
        "directory in the last byte": (
            "unreadable",
            files.raw_tiff(tags(7, 9, SIZE), raw, following=len(plain) - 1),
        ),
        "strip outside": ("unreadable", files.raw_tiff(tags(7, 9, 10**6), raw)),
        "deflate strip too short": (
            "unreadable",
            files.raw_tiff(tags(7, 9, len(deflated) - 9, t259=(3, [8])), deflated),
        ),
        "strips too few": ("unreadable", files.raw_tiff(tags(7, 9, SIZE, t278=(4, [1])), raw)),
        "no rows": ("unreadable", files.raw_tiff(tags(0, 9, SIZE), raw)),
        "no rows in a strip": ("unreadable", files.raw_tiff(tags(7, 9, SIZE, t278=(4, [0])), raw)),
        "a tag that stands twice": ("unreadable", bytes(twice)),
        "float as width": ("unreadable", plain.replace(b"\0\1\4\0", b"\0\1\x0b\0", 1)),
        "tiff without directories": ("unreadable", b"II*\0\0\0\0\0"),
        "header alone": ("unreadable", b"II*\0"),
        "bigtiff of odd offsets": ("unreadable", b"II+\0\4\0\0\0" + bytes(40)),
        "palette that is absent": (
            "unreadable",
            files.raw_tiff(tags(7, 9, SIZE, t262=(3, [3])), raw),
        ),
        "five pages where four are allowed": ("too large", many),
    }


HOSTILE = hostile()


@pytest.mark.parametrize("trick", HOSTILE)
def test_hostile_structure(trick, tmp_path, capfd):
    """Each trick is refused, under its reason, without a line on the terminal."""
    reason, data = HOSTILE[trick]
    limits = Limits(pages=4)
    assert refusal(write(tmp_path, data), limits=limits)[0] == reason
    assert capfd.readouterr() == ("", "")


def test_strip_that_expands_too_far(tmp_path):
    """A deflate strip with 50 MB behind the pixels it should hold never gets them decoded."""
    expanding = zlib.compress(GRAY16[:3, :5].tobytes() + bytes(50 << 20), 9)
    tags = files.gray_tags(3, 5, len(expanding), bits=12, t259=(3, [8]))
    assert refusal(write(tmp_path, files.raw_tiff(tags, expanding)))[0] == "unreadable"
    tags = files.gray_tags(3, 5, len(expanding), bits=16, t259=(3, [8]))
    plane = read_plane(write(tmp_path, files.raw_tiff(tags, expanding)))
    assert np.array_equal(plane, GRAY16[:3, :5])


def test_png_texts_are_never_expanded(tmp_path, monkeypatch):
    """The decoder sees the chunks that pixels depend on; a compressed text can be a bomb."""
    data = files.opencv(".png", GRAY8)
    bomb = files.chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 20), 9))
    seen = []
    decode = _raster.imagecodecs.png_decode
    monkeypatch.setattr(
        _raster.imagecodecs, "png_decode", lambda given: seen.append(given) or decode(given)
    )
    path = write(tmp_path, data[:33] + bomb * 3 + data[33:])
    assert np.array_equal(read_plane(path), GRAY8)
    assert seen == [data]


def test_broken_transparency_of_a_png(tmp_path):
    """A transparent color with a wrong checksum is not taken for opaque."""
    data = bytearray(files.pillow("PNG", GRAY8, transparency=200))
    data[data.index(b"tRNS") + 5] ^= 1
    assert refusal(write(tmp_path, bytes(data)))[0] == "unreadable"


def test_logging_of_others_is_left_alone(caplog):
    """Only warnings of our own reads are kept back; a user's own decoding still logs."""
    data, _ = KINDS["png interlaced 16 (hand)"]
    _raster.imagecodecs.png_decode(data)
    assert [record.name for record in caplog.records] == ["imagecodecs"]


def test_broken_checksum_of_a_png(tmp_path):
    """One flipped bit of pixel data is noticed."""
    data = bytearray(files.opencv(".png", GRAY8))
    data[data.index(b"IDAT") + 12] ^= 1
    assert refusal(write(tmp_path, bytes(data)))[0] == "unreadable"


def test_jpeg_of_endless_scans(tmp_path):
    """A progressive JPEG whose scans repeat a hundred times is refused before decoding."""
    data = files.pillow("JPEG", SMOOTH, progressive=True)
    start = data.rindex(b"\xff\xda")
    again = data[start:-2] * 100
    assert refusal(write(tmp_path, data[:start] + again + data[-2:]))[0] == "unreadable"


def test_limits_on_pixels_bytes_and_file(tmp_path):
    """63 pixels of 2 bytes: each limit refuses one less and takes exactly that."""
    data = files.tiff(GRAY16)
    path = write(tmp_path, data)
    for name, most in (("pixels", 63), ("decoded_bytes", 126), ("file_bytes", len(data))):
        assert np.array_equal(read_plane(path, limits=Limits(**{name: most})), GRAY16)
        assert refusal(path, limits=Limits(**{name: most - 1}))[0] == "too large"


def test_limits_above_those_of_pillow(tmp_path):
    """`--max-pixels` reaches JPEG and BMP too; Pillow's own limit is neither used nor changed."""
    data = bytearray(files.opencv(".bmp", GRAY8))
    struct.pack_into("<ii", data, 18, 20_000, 20_000)  # 4e8 pixels, all but 63 absent
    path = write(tmp_path, bytes(data))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert probe(path, Limits.for_pixels(1 << 29)).width == 20_000
    assert refusal(path)[0] == "too large"
    assert files.Image.MAX_IMAGE_PIXELS == 89_478_485


def test_details_are_one_short_line(tmp_path):
    """A detail has no line break and at most 200 characters, whatever the name."""
    _, detail = refusal(write(tmp_path, b"II*\0", "n" * 230))
    assert len(detail) == 200
    assert "\n" not in detail


def test_large_files_are_mapped(tmp_path, monkeypatch):
    """Above the threshold a file is mapped instead of read; every kind still gives its plane."""
    monkeypatch.setattr("cytoimagenet_hf.imaging.readers._MAPPED", 0)
    for number, (data, expected) in enumerate(KINDS.values()):
        assert np.array_equal(read_plane(write(tmp_path, data, f"{number}")), expected)
