"""Broken and malicious files through the whole rendering of a chunk, in a limited process."""

import json
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from cytoimagenet_hf import hashing, simulation
from tests.conftest import SHARED
from tests.imaging import _files as files
from tests.imaging._kinds import KINDS
from tests.imaging.test_readers_fuzz import mutant

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's"),
]

ROOT = Path(__file__).parents[2]
MOST_MIB = 1536
SIDE = 2048  # 2^22 pixels
REASONS = {
    "kept", "empty file", "large-file pointer", "unreadable", "too large", "page out of range",
    "alpha", "binary", "unsupported channels", "unsupported depth", "too small", "constant",
    "not finite", "no contrast", "dim", "all black", "all white",
}  # fmt: skip
A_FOLDER = 4  # real files taken of each folder and format


def rendered(folder: Path, to: Path, *, seconds: float = 5) -> dict[str, dict]:
    """Render each file of a folder in a limited process; return what it tells, by file name."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.imaging.hostile", str(folder), str(to), str(seconds)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    names = sorted(path.name for path in folder.iterdir())
    assert done.returncode == 0, f"ended at {names[len(lines)]}: {done.stderr[-500:]}"
    assert done.stderr == ""
    assert [line["name"] for line in lines] == names
    assert max(line["peak"] for line in lines) < MOST_MIB
    return {line["name"]: line for line in lines}


def reasons(told: dict) -> set[str]:
    return {outcome.partition(":")[0] for outcome in told["outcomes"]}


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> list[bytes]:
    """Some real files of each kind (simulated ones where there are none), and all odd kinds."""
    folder = SHARED / "data" / "images"
    if not folder.is_dir():
        folder = tmp_path_factory.mktemp("simulated")
        for name in simulation.names():
            simulation.simulate(name, folder, fields=4)
    kinds: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(folder.rglob("*.*")):
        ending = path.suffix.lower()
        if ending in (".tif", ".tiff", ".png", ".jpg", ".bmp") and path.stat().st_size < 3 << 20:
            kinds.setdefault((path.relative_to(folder).parts[0], ending), []).append(path)
    chosen = [
        path
        for paths in kinds.values()
        for path in sorted(paths, key=lambda one: hashing.rank(0, "hostile", one.name))[:A_FOLDER]
    ]
    assert len(chosen) >= 3 * A_FOLDER
    return [path.read_bytes() for path in chosen] + [data for data, _ in KINDS.values()]


def mutants(originals: list[bytes], numbers: range, folder: Path) -> set[str]:
    """Render mutants; return all reasons."""
    raw = folder / "raw"
    raw.mkdir()
    for number in numbers:
        (raw / f"{number:06d}").write_bytes(mutant(number, originals))
    told = rendered(raw, folder / "to")
    found = set().union(*map(reasons, told.values()))
    for path in raw.iterdir():
        path.unlink()
    raw.rmdir()
    return found


def test_mutants_of_real_files(originals, tmp_path):
    """300 spoiled files: no crash, none over 5 s or 1.5 GB, each row with a known reason."""
    found = mutants(originals, range(300), tmp_path)
    assert {"kept", "unreadable", "constant"} <= found <= REASONS


def striped(data: bytes, strips: int, compression: int, *, bits: int = 8) -> bytes:
    """A TIFF of 2048 x 2048 whose strips all hold the whole of `data`."""
    tags = files.gray_tags(SIDE, SIDE, 0, bits=bits, t259=(3, [compression]))
    tags |= {278: (4, [SIDE // strips]), 279: (4, [len(data)] * strips), 273: (4, [8] * strips)}
    return files.raw_tiff(tags, data)


def overlaps() -> dict[str, tuple[bytes, str]]:
    """TIFFs of a few MB that ask for gigabytes to be decoded, again and again the same ones."""
    rest = bytes(8 << 20)
    row = bytes(range(256)) * 8
    jpeg = files.opencv(".jpg", np.frombuffer(row, np.uint8).reshape(1, -1).repeat(8, 0))
    told = "unreadable: .*overlap"
    return {
        "overlap raw": (striped(rest, SIDE, 1), told),
        "overlap raw 12": (striped(rest, SIDE, 1, bits=12), told),
        "overlap deflate": (striped(zlib.compress(row) + rest, SIDE, 8), told),
        "overlap deflate 12": (striped(zlib.compress(row * 2) + rest, SIDE, 8, bits=12), told),
        "overlap LZW": (striped(imagecodecs.lzw_encode(row) + rest, SIDE, 5), told),
        "overlap PackBits": (striped(rest, SIDE, 32773), told),
        "overlap JPEG": (striped(jpeg[:-2] + rest + jpeg[-2:], SIDE // 8, 7), told),
    }


def headers() -> dict[str, tuple[bytes, str]]:
    """Small files whose headers ask for 60,000 x 60,000 pixels."""
    size = struct.pack(">HH", 60000, 60000)
    bmp = files.opencv(".bmp", np.zeros((4, 4), np.uint8))
    jpeg = files.opencv(".jpg", np.zeros((8, 8), np.uint8))
    at = jpeg.index(b"\xff\xc0") + 5
    told = "too large: .*60000 x 60000"
    return {
        "huge png": (files.raw_png(60000, 60000, 8, 0, b""), told),
        "huge tiff": (files.raw_tiff(files.gray_tags(60000, 60000, 4), b"1234"), told),
        "huge bmp": (bmp[:18] + struct.pack("<ii", 60000, 60000) + bmp[26:], told),
        "huge jpeg": (jpeg[:at] + size + jpeg[at + 4 :], told),
    }


def bombs() -> dict[str, tuple[bytes, str]]:
    """Small files that decompress to 128 MB and more."""
    zeros = bytes(1 << 27)
    deflate, lzw = zlib.compress(zeros), imagecodecs.lzw_encode(zeros)
    body = zlib.compress(bytes(SIDE * (SIDE + 1)))
    text = files.chunk(b"zTXt", b"Comment\0\0" + deflate) + files.chunk(b"tEXt", b"") * 500_000
    png = files.raw_png(SIDE, SIDE, 8, 0, b"")
    tags = files.gray_tags(SIDE, SIDE, len(deflate), t259=(3, [8]))
    constant = "constant: "
    return {
        "bomb png": (files.raw_png(SIDE, SIDE, 8, 0, zeros), constant),
        "bomb deflate": (files.raw_tiff(tags, deflate), constant),
        "bomb deflate 12": (files.raw_tiff({**tags, 258: (3, [12])}, deflate), "unreadable: "),
        "bomb LZW": (
            files.raw_tiff({**tags, 259: (3, [5]), 279: (4, [len(lzw)])}, lzw),
            constant,
        ),
        "bomb png text": (png[:33] + text + files.chunk(b"IDAT", body) + png[-12:], constant),
    }


def structures() -> dict[str, tuple[bytes, str]]:
    """Chains, lists and texts without end."""
    many = 1_000_000
    chain = b"".join(struct.pack("<HI", 0, 14 + 6 * at) for at in range(many))
    images = b'<OME xmlns="o">' + b"<Image><Pixels/></Image>" * 200_000 + b"</OME>"
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    progressive = files.pillow("JPEG", pixels, progressive=True)
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    endless = progressive[:-2] + scan * 60 + b"\xff\xd9"
    comments = progressive[:2] + b"\xff\xfe\0\2" * many + progressive[2:]
    return {
        "loop": (files.raw_tiff(files.gray_tags(2, 2, 4), b"1234", following=12), "unrea.*loop"),
        "million": (b"II*\0" + struct.pack("<I", 8) + chain, "too large: .*4096 pages"),
        "ome images": (described(images), "too large: .*4096 planes"),
        "ome depth": (described(b"<OME>" + b"<a>" * many + b"</OME>"), ""),
        "ome attributes": (described(b"<OME %s/>" % _attributes(300_000)), ""),
        "imagej": (described(b"ImageJ=1\n" + b"images=1\n" * many), ""),
        "jpeg scans": (endless, "unreadable: .*scans"),
        "jpeg comments": (comments, ""),
    }


def described(text: bytes) -> bytes:
    """A small TIFF with an ImageDescription."""
    tags = files.gray_tags(64, 64, 4096, t270=(2, list(text)))
    return files.raw_tiff(tags, bytes(range(64)) * 64)


def _attributes(count: int) -> bytes:
    return b" ".join(b'a%d="1"' % number for number in range(count))


@pytest.mark.parametrize("kind", [overlaps, headers, bombs, structures])
def test_malicious_files(kind, tmp_path):
    """Files made to take all time or memory are refused or read within 5 s and 1.5 GB."""
    raw = tmp_path / "raw"
    raw.mkdir()
    made = kind()
    for name, (data, _) in made.items():
        (raw / name).write_bytes(data)
    for name, told in rendered(raw, tmp_path / "to").items():
        assert re.match(made[name][1], told["outcomes"][0]), told
        assert told["seconds"] < 5


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "rgb"])
def test_largest_constant_plane(dtype, compression, tmp_path):
    """A constant plane of 2^26 pixels is refused within 1.5 GB and its limit of time (design 5)."""
    raw = tmp_path / "raw"
    raw.mkdir()
    shape = (8192, 8192, 3) if dtype == "rgb" else (8192, 8192)
    pixels = np.full(shape, 7, "uint8" if dtype == "rgb" else dtype)
    tifffile.imwrite(
        raw / "plane",
        pixels,
        compression=compression,
        photometric="rgb" if dtype == "rgb" else "minisblack",
    )
    del pixels
    told = rendered(raw, tmp_path / "to", seconds=5 + 2**26 / 2**21)["plane"]
    assert reasons(told) == {"constant"}
    (raw / "plane").unlink()


def test_the_limits_bite(tmp_path):
    """A file that takes longer than its limit ends the process, and is named."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in "ab":
        pixels = np.random.default_rng(0).random((SIDE, SIDE), dtype=np.float32)
        tifffile.imwrite(raw / name, np.tile(pixels, (2, 2)))
    with pytest.raises(AssertionError, match=r"ended at [ab]"):
        rendered(raw, tmp_path / "to", seconds=0)
