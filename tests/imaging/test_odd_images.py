"""Odd images through the whole rendering, held to a slow oracle.

The oracle reads each file with another library (tifffile, OpenCV, Pillow), judges it by the rules
written out in plain float64, and computes the crops with NumPy's own percentiles.
"""

import io

import numpy as np
import pyarrow as pa
import pytest
import tifffile
from PIL import Image

from cytoimagenet_hf.curation.jobs import ChunkJob, PlaneJob, RecordJob
from cytoimagenet_hf.curation.parameters import Parameters
from cytoimagenet_hf.curation.rendering import render_chunk
from tests.imaging import _files as files
from tests.imaging import oracle
from tests.imaging._kinds import orientation

PARAMETERS = Parameters(min_contrast=0.0)  # contrast has an oracle of its own (test_intensity.py)
LARGEST = 1e300  # beyond it sums overflow; "not finite" (design 5)


def scene(height=200, width=240, dtype="uint16", low=300, high=4000, seed=0) -> np.ndarray:
    """Bright disks on a noisy slope, between `low` and `high`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    values = 0.1 * (y + x) / (height + width) + rng.uniform(0, 0.2, (height, width))
    for _ in range(25):
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        values += 0.5 * ((y - cy) ** 2 + (x - cx) ** 2 < (min(height, width) / 12 + 2) ** 2)
    return (low + (high - low) * np.minimum(values, 1)).astype(dtype)


def scene8(height=200, width=240, seed=0) -> np.ndarray:
    """The same in 8 bits."""
    return scene(height, width, "uint8", 10, 250, seed)


def color(dtype="uint8", high=250) -> np.ndarray:
    """Three scenes as channels."""
    return np.stack([scene(dtype=dtype, low=3, high=high, seed=seed) for seed in range(3)], -1)


def changed(pixels: np.ndarray, **values) -> np.ndarray:
    """Set single pixels, `y<row>x<column>`=value."""
    pixels = pixels.copy()
    for place, value in values.items():
        row, column = place[1:].split("x")
        pixels[int(row), int(column)] = value
    return pixels


def sparse(share: float, dtype="uint8", top=200) -> np.ndarray:
    """Zeros, and a share of pixels between 1 and `top`."""
    rng = np.random.default_rng(3)
    values = rng.integers(1, top, (200, 240))
    return (values * (rng.random((200, 240)) < share)).astype(dtype)


SIZES = (
    (1, 1), (1, 500), (500, 1), (31, 31), (31, 200), (200, 31), (32, 32), (32, 33), (69, 69),
    (70, 70), (69, 300), (139, 139), (139, 300), (300, 139), (140, 140), (141, 143), (140, 600),
    (279, 280), (281, 563),
)  # fmt: skip
Y, X = np.mgrid[:200, :240]
VALUES = {
    "all 0": np.zeros((200, 240), "uint8"),
    "all 255": np.full((200, 240), 255, "uint8"),
    "all 65535": np.full((200, 240), 65535, "uint16"),
    "two values": scene8() // 128 * 255,
    "two values next to each other": 700 + scene() // 3000,
    "three values": scene8() // 90,
    "one hot pixel on nothing": changed(np.zeros((200, 240), "uint16"), y90x7=60000),
    "two hot pixels on nothing": changed(np.zeros((200, 240), "uint16"), y90x7=9, y3x3=60000),
    "one hot pixel on a scene": changed(scene(), y90x7=65535),
    "one dead pixel on a scene": changed(scene(), y90x7=0),
    "gradient across": X.astype("uint8"),
    "gradient down": Y.astype("uint16") * 300,
    "ramp of all values": np.arange(256 * 256).reshape(256, 256).astype("uint16"),
    "checkerboard of three": ((X + Y) % 3).astype("uint8"),
    "nearly black": sparse(0.2),
    "nearly all black": sparse(0.004),
    "a thousandth of pixels": sparse(0.0009, top=3),
    "nearly white": 255 - sparse(0.02, top=4),
    "saturated": np.minimum(scene(low=0, high=9000), 4095).astype("uint16"),
    "12 bit in 16": scene(low=0, high=4095),
    "8 bit in 16": scene(low=0, high=255),
    "16 bit full": scene(low=0, high=65535),
    "negative int16": scene(dtype="int16", low=-3000, high=-5),
    "int16 around 0": scene(dtype="int16", low=-32768, high=32767),
    "int8": scene(dtype="int8", low=-128, high=127),
    "int32": scene(dtype="int32", low=-(2**31), high=2**31 - 1),
    "uint32": scene(dtype="uint32", low=0, high=2**32 - 1),
    "uint32 high": scene(dtype="uint32", low=2**32 - 2000, high=2**32 - 1),
    "float16": scene(dtype="float16", low=-2, high=900),
    "float32": scene(dtype="float32", low=-1, high=1),
    "float64": scene(dtype="float64", low=0, high=1),
    "float of integers": scene().astype("float32"),
    "tiny noise on one": 1 + 1e-12 * scene(dtype="float64", low=0, high=1),
    "large floats": scene(dtype="float64", low=-1e299, high=1e299),
    "floats too large": scene(dtype="float64", low=0, high=1e305),
    "smallest floats": scene(dtype="float64", low=0, high=1e-300),
    "NaN": changed(scene(dtype="float32"), y9x9=np.nan),
    "all NaN": np.full((200, 240), np.nan, "float32"),
    "infinite": changed(scene(dtype="float32"), y9x9=np.inf),
    "minus infinite": changed(scene(dtype="float64"), y9x9=-np.inf),
    "minus zero": -1.0 * (scene() > 2000) * scene(dtype="float32", low=0, high=1),
    "rgb 8": color(),
    "rgb 16": color("uint16", 60000),
    "rgb float": color("float32", 1),
    "rgb of equal channels": np.repeat(scene8()[..., None], 3, axis=2),
    "rgb nearly equal": changed(np.repeat(scene8()[..., None], 3, axis=2), y0x0=(1, 2, 3)),
    "rgb constant": np.full((200, 240, 3), (1, 2, 3), "uint8"),
}


def tiffs() -> dict[str, bytes]:
    """Values and sizes, as TIFF."""
    sized = {f"{height} x {width}": files.tiff(scene(height, width)) for height, width in SIZES}
    plain = {
        name: files.tiff(pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack")
        for name, pixels in VALUES.items()
    }
    planar = np.moveaxis(color("uint16", 60000), -1, 0)
    return {
        **sized,
        **plain,
        "big-endian": files.tiff(scene(), byteorder=">"),
        "big-endian float64": files.tiff(VALUES["float64"], byteorder=">"),
        "rgb planar": files.tiff(planar, photometric="rgb", planarconfig="separate"),
        "tiles": files.tiff(scene(), tile=(64, 48), compression="zlib", predictor=2),
        "LZW": files.tiff(scene(), compression="lzw", rowsperstrip=7),
        "first of three pages": files.pages(scene(), scene(seed=1), scene(seed=2)),
    }


def others() -> dict[str, bytes]:
    """PNG, JPEG and BMP, and TIFF that tifffile doesn't give as shown; read by OpenCV or Pillow."""
    rgb, gray = color(), scene8()
    palette = [(value, 255 - value, value // 2) for value in range(256)]
    opaque = np.dstack([rgb, np.full(gray.shape, 255, "uint8")])
    gray_opaque = Image.fromarray(np.dstack([gray, np.full_like(gray, 255)]), "LA")
    return {
        "png 8": files.opencv(".png", gray),
        "png 16": files.opencv(".png", scene()),
        "png rgb 16": files.opencv(".png", color("uint16", 60000)),
        "png interlaced": files.interlaced_png(scene()),
        "png opaque": files.pillow("PNG", opaque),
        "png gray opaque": files.pillow("PNG", gray_opaque),
        "png palette": files.pillow("PNG", files.paletted(gray, palette)),
        "bmp 8": files.opencv(".bmp", gray),
        "bmp rgb": files.opencv(".bmp", rgb),
        "bmp palette": files.pillow("BMP", files.paletted(gray, palette)),
        "tiff palette": files.pillow("TIFF", files.paletted(gray, palette)),
        "jpeg gray": files.opencv(".jpg", gray),
        "jpeg rgb": files.pillow("JPEG", rgb, quality=90),
        "jpeg turned by EXIF": files.pillow("JPEG", rgb, exif=orientation(6)),
    }


def refused() -> dict[str, tuple[bytes, str]]:
    """Files that are refused for what they are, with the reason."""
    gray, rgb = scene8(), color()
    bits = Image.fromarray(scene8() > 99)
    alpha = np.dstack([rgb, gray])
    cmyk = Image.fromarray(rgb).convert("CMYK")
    channels = {
        f"{number} channels": (
            files.tiff(
                np.stack([scene(seed=seed) for seed in range(number)], -1),
                photometric="minisblack",
                planarconfig="contig",
                extrasamples=["unspecified"] * (number - 1),
            ),
            "unsupported channels",
        )
        for number in (2, 5, 7)
    }
    return {
        **channels,
        "alpha": (files.pillow("PNG", alpha), "alpha"),
        "tiff alpha": (
            files.tiff(alpha, photometric="rgb", extrasamples=["unassalpha"]),
            "alpha",
        ),
        "gray alpha": (files.pillow("PNG", Image.fromarray(alpha[..., 2:], "LA")), "alpha"),
        "jpeg CMYK": (files.pillow("JPEG", cmyk), "unsupported channels"),
        "tiff CMYK": (files.pillow("TIFF", cmyk), "unsupported channels"),
        "png 1 bit": (files.pillow("PNG", bits), "binary"),
        "tiff 1 bit": (files.pillow("TIFF", bits), "binary"),
        "bmp 1 bit": (files.pillow("BMP", bits), "binary"),
        "uint64": (files.tiff(scene(dtype="uint64")), "unsupported depth"),
        "complex": (files.tiff(scene(dtype="complex64")), "unsupported depth"),
        "empty": (b"", "empty file"),
        "text": (b"P5 2 2 255\n1234", "unreadable"),
    }


TIFFS, OTHERS, REFUSED = tiffs(), others(), refused()


def rendered(data: bytes, folder) -> list[dict]:
    """Render a file as one record; return its rows."""
    (folder / "raw").write_bytes(data)
    plane = PlaneJob(path="raw", stain="nucleus", page=0, series=0, box=None)
    job = ChunkJob("odd", folder, (RecordJob("odd/one", (plane,), 4),), PARAMETERS, folder)
    render_chunk(job)
    with pa.memory_map(str(folder / "odd.arrow")) as source:
        return pa.ipc.open_file(source).read_all().to_pylist()


def by_tifffile(data: bytes) -> np.ndarray:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        pixels = page.asarray()
    return np.moveaxis(pixels, 0, -1) if page.planarconfig == 2 and pixels.ndim == 3 else pixels


def by_another(name: str, data: bytes) -> np.ndarray:
    """Read with OpenCV, or what OpenCV doesn't give as stored with Pillow; alpha is cut off."""
    if "palette" in name:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    if name == "png gray opaque":
        return np.asarray(Image.open(io.BytesIO(data)))[..., 0]
    return files.opencv_read(data)[..., :3] if name == "png rgb 16" else _opencv(data)


def _opencv(data: bytes) -> np.ndarray:
    pixels = files.opencv_read(data)  # reversed: colors come as RGB, but alpha as the first
    return pixels[..., 1:] if pixels.ndim == 3 and pixels.shape[2] == 4 else pixels


def refusal(pixels: np.ndarray) -> str:
    """The reason for which a whole record is refused, by the rules of design 5."""
    if min(pixels.shape[:2]) < PARAMETERS.min_side:
        return "too small"
    with np.errstate(invalid="ignore"):
        if not (np.abs(pixels.astype(np.float64)) < LARGEST).all():
            return "not finite"
    values = oracle.gray(pixels)
    if (distinct := len(np.unique(values))) <= 2:
        return "constant" if distinct == 1 else "binary"
    low, high = np.percentile(values, oracle.PERCENTS)
    return "constant" if low == high else ""


def check(rows: list[dict], pixels: np.ndarray) -> None:
    """Hold the rows of a record to the oracle."""
    if reason := refusal(pixels):
        assert [(row["window"], row["reason"]) for row in rows] == [("", reason)]
        return
    values, height, width = oracle.record([pixels]), *pixels.shape[:2]
    raw = oracle.gray(pixels)
    whole = min(height, width) < 140
    # Refused halves are followed by those left; each row is another window in any case.
    assert len({(row["x_min"], row["y_min"], row["scaling"]) for row in rows}) == len(rows)
    assert len(rows) == 1 if whole else len(rows) >= 4
    for row in rows:
        box = row["x_min"], row["y_min"], row["x_max"], row["y_max"]
        scale = round(row["scaling"] ** -1)
        assert (row["window"] == "whole") == whole
        assert (box[2] - box[0], box[3] - box[1]) == (width // scale, height // scale)
        assert min(width, height) // scale >= (32 if whole else 70)
        faults = oracle.faults(oracle.cut(values, box), oracle.cut(raw, box), whole=whole)
        assert row["reason"] in (faults or {""}), row["window"]
        if not row["reason"]:
            crop = np.asarray(Image.open(io.BytesIO(row["png"])))
            expected = oracle.rounded(values) if whole else oracle.crop(values, box)
            assert np.array_equal(crop, expected), row["window"]


@pytest.mark.parametrize("name", TIFFS)
def test_odd_tiff(name, tmp_path):
    """A TIFF of odd size, values or type is refused, or rendered, as the oracle says."""
    check(rendered(TIFFS[name], tmp_path), by_tifffile(TIFFS[name]))


@pytest.mark.parametrize("name", OTHERS)
def test_odd_other(name, tmp_path):
    """A PNG, JPEG or BMP, with palette, alpha or rotation, is rendered as the oracle says."""
    check(rendered(OTHERS[name], tmp_path), by_another(name, OTHERS[name]))


@pytest.mark.parametrize("name", REFUSED)
def test_odd_and_refused(name, tmp_path):
    """What no rule can make a gray plane of is refused for what it is."""
    data, reason = REFUSED[name]
    (row,) = rendered(data, tmp_path)
    assert (row["window"], row["reason"], row["png"]) == ("", reason, None)


def test_there_are_many():
    """Sixty and more odd images; each outcome of a record comes among them, and kept ones too."""
    reasons = [refusal(by_tifffile(data)) for data in TIFFS.values()]
    assert len(TIFFS) + len(OTHERS) + len(REFUSED) >= 60
    assert set(reasons) == {"", "too small", "not finite", "constant", "binary"}
    assert reasons.count("") >= 40
