"""PNG files of our own writer, opened by other programs."""

import importlib
import io
import shutil
import struct
import subprocess
import sys
import zlib

import cv2
import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from cytoimagenet_hf.imaging import png
from cytoimagenet_hf.imaging.intensity import look_up, normalize
from cytoimagenet_hf.imaging.readers import read_plane

READERS = {
    "Pillow": lambda data: np.asarray(Image.open(io.BytesIO(data))),
    "OpenCV": lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED),
    "libpng": imagecodecs.png_decode,
}
REAL = (
    "bbbc006/BBBC006_v1_images_z_00/*.tif",
    "bbbc007/**/*.tif",
    "bbbc010/**/*.tif",
    "bbbc022/**/*.tif",
    "nf1_cellpainting/**/*.tif*",
    "jump_cpg0000_crop/**/*.tif*",
    "bbbc038/**/*.png",
)


def cases():
    """Crops of every kind that the writer meets: flat, empty but for a spot, ramps, noise."""
    rng = np.random.default_rng(0)
    spot = np.zeros((300, 400), np.uint8)
    spot[100:110, 200:220] = 200
    smooth = np.add.outer(np.arange(90), np.arange(110)) + rng.normal(20, 4, (90, 110))
    flat = {f"flat {value}": np.full((70, 90), value, np.uint8) for value in (0, 1, 128, 255)}
    return flat | {
        "one pixel": np.array([[77]], np.uint8),
        "one row": rng.integers(0, 256, (1, 500), np.uint8),
        "one column": rng.integers(0, 256, (500, 1), np.uint8),
        "spot": spot,
        "ramp": np.tile(np.arange(256, dtype=np.uint8), (70, 1)),
        "ramp down": np.tile(np.arange(256, dtype=np.uint8)[::-1], (70, 1)),
        "noise": rng.integers(0, 256, (333, 257), np.uint8),
        "rows apart": (np.arange(90) + rng.integers(0, 256, (70, 1))).astype(np.uint8),
        "ramp across rows": (np.arange(90) + rng.integers(0, 256, (70, 1))).astype(np.uint8).T,
        "smooth and noisy": smooth.astype(np.uint8),
        "stripes": np.tile(np.array([0, 255], np.uint8), (70, 50)),
        "large and empty": np.zeros((2000, 2000), np.uint8),
    }


CASES = cases()
odd = arrays.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)))
repeated = arrays.arrays(
    np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.sampled_from([0, 9])
)


@given(odd | repeated)
@settings(max_examples=150, deadline=None)
def test_other_readers_see_the_same_pixels(pixels):
    """Any crop comes back from Pillow, OpenCV and libpng as it was, as 8-bit gray."""
    data = png.encode(pixels)
    for name, read in READERS.items():
        back = read(data)
        assert back.dtype == np.uint8, name
        assert back.reshape(pixels.shape).tolist() == pixels.tolist(), name


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("reader", READERS)
def test_each_kind_of_crop_comes_back(name, reader):
    """Flat, tiny, sparse, smooth and noisy crops come back as they were."""
    pixels = CASES[name]
    back = READERS[reader](png.encode(pixels))
    assert np.array_equal(back.reshape(pixels.shape), pixels)


def test_views_are_written_as_they_look():
    """Transposed, reversed, strided and read-only crops are written like their copies."""
    base = CASES["noise"].copy()
    base.flags.writeable = False
    for view in (base.T, base[::-1], base[:, ::-1], base[::2, ::3], base[5:6]):
        assert png.encode(view) == png.encode(view.copy())


def chunks(data):
    """Split a PNG into (kind, body, stored sum) by the specification, up to its last byte."""
    assert data[:8] == bytes([137, 80, 78, 71, 13, 10, 26, 10])
    found, at = [], 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        body = data[at + 8 : at + 8 + size]
        (stored,) = struct.unpack(">I", data[at + 8 + size : at + 12 + size])
        found.append((data[at + 4 : at + 8], body, stored))
        at += 12 + size
    assert at == len(data)
    return found


def unfiltered(rows, width):
    """Undo filters 0 to 3 of 8-bit gray rows, a pixel after the other, by the specification."""
    image, above = [], [0] * width
    for at in range(0, len(rows), width + 1):
        kind, row = rows[at], []
        for x, left_over in enumerate(rows[at + 1 : at + 1 + width]):
            left = row[-1] if row else 0
            row.append(left_over + (0, left, above[x], (left + above[x]) // 2)[kind] & 255)
        image.append(row)
        above = row
    return image


@pytest.mark.parametrize("name", CASES)
def test_chunks_follow_the_specification(name):
    """IHDR, IDAT, IEND and nothing else, each with its right sum; 8-bit gray, not interlaced."""
    pixels = CASES[name]
    found = chunks(png.encode(pixels))
    assert [kind for kind, _, _ in found] == [b"IHDR", b"IDAT", b"IEND"]
    for kind, body, stored in found:
        assert stored == zlib.crc32(body, zlib.crc32(kind))
    height, width = pixels.shape
    assert found[0][1] == width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\0\0\0\0"
    assert found[2][1] == b""
    rows = zlib.decompress(found[1][1])
    assert len(rows) == height * (width + 1)
    if pixels.size < 100_000:
        assert unfiltered(rows, width) == pixels.tolist()


def test_each_filter_is_used_where_it_fits():
    """Noise is left alone (0), rows take their left (1) or upper (2) neighbor, cells both (3)."""
    used = {
        name: zlib.decompress(chunks(png.encode(CASES[name]))[1][1])[0]
        for name in ("noise", "rows apart", "ramp across rows", "smooth and noisy")
    }
    assert used == {"noise": 0, "rows apart": 1, "ramp across rows": 2, "smooth and noisy": 3}


@pytest.mark.parametrize("tool", ["pngcheck", "pngfix"])
@pytest.mark.parametrize("name", CASES)
def test_checkers_find_nothing(tool, name, tmp_path):
    """The checkers of libpng's authors (Debian: pngcheck, libpng-tools) accept each file."""
    program = shutil.which(tool)
    if program is None:
        pytest.skip(f"no {tool} on this machine")
    path = tmp_path / "crop.png"
    path.write_bytes(png.encode(CASES[name]))
    done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    if tool == "pngcheck":
        assert done.stdout.startswith("OK")
    broken = bytearray(path.read_bytes())
    broken[-20] ^= 1
    path.write_bytes(broken)
    assert subprocess.run([program, str(path)], capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (5, 5, 3), (5,)])
def test_other_shapes_are_an_error(shape):
    """A PNG of no pixels, or of colors, is not written."""
    with pytest.raises(ValueError, match=r"need \(height, width\) uint8"):
        png.encode(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", ["uint16", "float64", "bool", "int8"])
def test_other_dtypes_are_an_error(dtype):
    """Nothing is cast silently."""
    with pytest.raises(ValueError, match=dtype):
        png.encode(np.zeros((5, 5), dtype))


def real_crops(folder):
    """Quarters of real fields of all kinds, stretched to 8 bits."""
    for pattern in REAL:
        for path in sorted(folder.glob(pattern))[:6]:
            plane = normalize([("", read_plane(path))])
            whole = look_up(plane.raw, plane.value_of, np.uint8)
            yield whole[: len(whole) // 2, : whole.shape[1] // 2]


def pillow_size(pixels):
    """Size of the same image as Pillow writes it without being asked for anything."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return len(stream.getvalue())


def total_ratio(folder):
    """Bytes of real crops by our writer against Pillow's."""
    crops = list(real_crops(folder))
    assert len(crops) >= 20
    return sum(len(png.encode(one)) for one in crops) / sum(map(pillow_size, crops))


def test_real_crops_are_as_small_as_pillows(real_images):
    """Over real crops of all kinds the files are at most 1.02 times Pillow's default."""
    assert total_ratio(real_images) <= 1.02


@pytest.fixture
def without_zlib_ng(monkeypatch):
    """The module as it is where zlib-ng has no wheel."""
    monkeypatch.setitem(sys.modules, "zlib_ng", None)
    importlib.reload(png)
    yield
    monkeypatch.undo()
    importlib.reload(png)


def test_zlib_ng_is_used_where_it_is_there():
    """The engine that wrote the files has a name for build.json."""
    pytest.importorskip("zlib_ng")
    assert png.ENGINE == "zlib-ng"


def test_the_standard_library_takes_over(without_zlib_ng):
    """Without zlib-ng the files are others, their pixels the same."""
    assert png.ENGINE == "zlib"
    for name, pixels in CASES.items():
        back = READERS["Pillow"](png.encode(pixels))
        assert np.array_equal(back.reshape(pixels.shape), pixels), name


def test_the_standard_library_writes_small_files_too(without_zlib_ng, real_images):
    """The bound on the size holds for the standard library too."""
    assert total_ratio(real_images) <= 1.02


def test_nearly_empty_crops_are_deflated_with_matches(monkeypatch):
    """Diagonal lines on black repeat every 100 rows; run lengths alone take twice the bytes."""
    lines = np.zeros((500, 500), np.uint8)
    lines[np.add.outer(np.arange(500), np.arange(500)) % 100 == 0] = 200
    small = len(png.encode(lines))
    monkeypatch.setattr(png, "_TINY", 0)
    assert small <= 0.6 * len(png.encode(lines))


# The strict reader.


def chunk(kind, body):
    """A chunk with its right sum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def header(width=8, height=8, bits=8, color=0):
    """An IHDR chunk."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))


SIGNATURE, END = b"\x89PNG\r\n\x1a\n", chunk(b"IEND", b"")
ROWS = chunk(b"IDAT", zlib.compress(b"\0" * 72))
BROKEN = {
    "nothing": b"",
    "only a signature": SIGNATURE,
    "short header": SIGNATURE + chunk(b"IHDR", b"abc") + ROWS + END,
    "no pixels": SIGNATURE + header() + END,
    "no end": SIGNATURE + header() + ROWS,
    "text": SIGNATURE + header() + chunk(b"tEXt", b"a\0b") + ROWS + END,
    "two headers": SIGNATURE + header() + header() + ROWS + END,
    "16 bits": SIGNATURE + header(bits=16) + ROWS + END,
    "colors": SIGNATURE + header(color=2) + ROWS + END,
    "0 pixels wide": SIGNATURE + header(width=0) + ROWS + END,
    "65 pixels": SIGNATURE + header(width=65, height=1) + ROWS + END,
    "2^62 pixels": SIGNATURE + header(width=1 << 31, height=1 << 31) + ROWS + END,
    "too few rows": SIGNATURE + header() + chunk(b"IDAT", zlib.compress(b"\0" * 20)) + END,
    "no deflate": SIGNATURE + header() + chunk(b"IDAT", b"xx") + END,
    "filter 7": SIGNATURE + header() + chunk(b"IDAT", zlib.compress(b"\7" * 72)) + END,
    "more after the end": SIGNATURE + header() + ROWS + END + b"x",
}


def test_our_reader_reads_what_our_writer_wrote():
    """Every kind of crop comes back."""
    for name, pixels in CASES.items():
        assert np.array_equal(png.decode(png.encode(pixels)), pixels), name
    plain = SIGNATURE + header() + ROWS + END
    assert png.decode(plain, max_pixels=64).tolist() == [[0] * 8] * 8


@pytest.mark.parametrize("name", BROKEN)
def test_anything_else_is_an_error(name):
    """Damaged files, other kinds and further chunks are a ValueError or an OSError."""
    with pytest.raises((ValueError, OSError)):
        png.decode(BROKEN[name], max_pixels=64)


def test_each_flipped_bit_is_noticed():
    """At every place; sums stand over all that the signature leaves."""
    data = png.encode(np.arange(64, dtype=np.uint8).reshape(8, 8))
    for place in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises((ValueError, OSError)):
            png.decode(bytes(flipped))
