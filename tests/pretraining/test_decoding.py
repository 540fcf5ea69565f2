"""Decoding: exactly Pillow's pixels, and damaged images are counted instead of ending a run."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cytoimagenet_hf.imaging.png import encode
from cytoimagenet_hf.pretraining import decoding
from cytoimagenet_hf.pretraining.config import TrainConfig
from cytoimagenet_hf.pretraining.decoding import decode, decode_batch


def pillow(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def saved(image, form="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def by_hand(pixels, filters):
    """Write a PNG with a given filter for each row, by the rules of the format alone."""
    rows = []
    above = np.zeros(pixels.shape[1], int)
    for row, kind in zip(pixels.astype(int), filters, strict=True):
        left = np.concatenate([[0], row[:-1]])
        corner = np.concatenate([[0], above[:-1]])
        guess = left + above - corner
        away = [abs(guess - one) for one in (left, above, corner)]
        paeth = np.where((away[0] <= away[1]) & (away[0] <= away[2]), left,
                         np.where(away[1] <= away[2], above, corner))  # fmt: skip
        taken = (0 * row, left, above, (left + above) // 2, paeth)[kind]
        rows.append(bytes([kind]) + ((row - taken) % 256).astype(np.uint8).tobytes())
        above = row

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 0, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
            + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b""))  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 5), st.integers(0, 2**32))
def test_short_way_equals_pillow(height, width, kind, seed):
    """All filters, alone and mixed (5), give Pillow's pixels."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (height, width), dtype=np.uint8)
    filters = [kind] * height if kind < 5 else random.integers(0, 5, height).tolist()
    data = by_hand(pixels, filters)
    assert (pillow(data) == pixels).all()
    assert (
        decode(data, 9)
        == np.asarray(Image.fromarray(pixels).resize((9, 9), Image.Resampling.BILINEAR))
    ).all()
    short = decoding._plain_png(data)
    assert (short is not None) == (len(set(filters)) == 1 and filters[0] < 3)
    assert short is None or (short == pixels).all()


def test_short_way_is_taken_for_our_files():
    """What imaging/png.py writes is decoded without Pillow; a palette or a text chunk is not."""
    pixels = np.arange(600, dtype=np.uint8).reshape(30, 20)
    assert (decoding._plain_png(encode(pixels)) == pixels).all()
    assert decoding._plain_png(saved(Image.fromarray(pixels).convert("P"))) is None
    assert decoding._plain_png(saved(Image.fromarray(pixels), "JPEG")) is None
    assert decoding._plain_png(saved(Image.fromarray(pixels), dpi=(72, 72))) is None


def test_resized_as_pillow_does():
    """Squares are Pillow's bilinear ones."""
    pixels = np.random.default_rng(1).integers(0, 256, (50, 70), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR))
    assert (decode(encode(pixels), 32) == expected).all()


def test_color_is_averaged():
    """(30, 60, 91) has the mean 60.33, which is 60 in gray."""
    image = Image.new("RGB", (32, 32), (30, 60, 91))
    assert (decode(saved(image), 32) == 60).all()


def test_sixteen_bits_are_refused():
    """Pillow would cut all above 255 off, so that an image becomes white without a word."""
    image = Image.fromarray(np.full((8, 8), 3000, np.uint16))
    with pytest.raises(ValueError, match="not an 8-bit image"):
        decode(saved(image), 32)


def moved(encoded):
    """Put a text before the header of a PNG, which Pillow doesn't mind."""
    body = b"tEXta\0b"
    return (
        encoded[:8] + struct.pack(">I", 3) + body + struct.pack(">I", zlib.crc32(body))
        + encoded[8:]
    )  # fmt: skip


def as_tiff(pixels, **options):
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, photometric="rgb", **options)
    return stream.getvalue()


COLOR = np.arange(4800, dtype=np.uint16).reshape(40, 40, 3)


@pytest.mark.parametrize(
    "encoded",
    [
        imagecodecs.png_encode(COLOR),
        imagecodecs.png_encode(COLOR[:, :, [0, 1, 2, 0]].copy()),
        imagecodecs.png_encode(COLOR[:, :, :2].copy()),
        moved(imagecodecs.png_encode(COLOR)),
        as_tiff(COLOR),
        as_tiff(COLOR, compression="zlib"),
        as_tiff(COLOR.transpose(2, 0, 1).copy(), planarconfig="separate"),
    ],
    ids=["RGB", "RGBA", "LA", "text first", "TIFF", "zlib", "planar"],
)
def test_sixteen_bits_of_color_are_refused(encoded):
    """Pillow says RGB and cuts the lower half off: 12-bit values would become 16 levels of gray."""
    row = {"bytes": encoded, "path": "a.png"}
    batch = decode_batch([row], [0], [7], TrainConfig(image_size=40))
    assert len(batch.images) == 0
    assert "row 7 (a.png): ValueError: not an 8-bit image" in batch.bad[0]


def test_eight_bits_of_color_in_a_tiff_are_read():
    """Only depth is refused: 60 in all channels stays 60."""
    assert (decode(as_tiff(np.full((8, 8, 3), 60, np.uint8)), 8) == 60).all()


def damaged():
    whole = encode(np.random.default_rng(2).integers(0, 256, (30, 30), dtype=np.uint8))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 64
    bomb = bytearray(whole)
    bomb[16:24] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    return {
        "empty": b"", "cut": whole[:200], "flipped": bytes(flipped), "bomb": bytes(bomb),
        "text": b"hello, this is no image at all, not even nearly one",
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    }  # fmt: skip


@pytest.mark.parametrize("name", damaged())
def test_damaged_image_is_left_out_and_named(name):
    """One damaged image costs itself, not its batch; its row, file and reason are told."""
    good = encode(np.zeros((9, 9), np.uint8))
    images = [{"bytes": good, "path": None}, {"bytes": damaged()[name], "path": "a.png"}]
    batch = decode_batch(images, [4, 5], [10, 11], TrainConfig(image_size=32))
    assert (batch.labels.tolist(), batch.rows.tolist()) == ([4], [10])
    assert batch.images.shape == (1, 1, 32, 32)
    assert "row 11 (a.png)" in batch.bad[0]


def test_bytes_of_no_image_are_told_in_words():
    """Pillow names an address in memory, which differs from run to run."""
    batch = decode_batch([{"bytes": b"x", "path": None}], [0], [4], TrainConfig(image_size=32))
    assert batch.bad[0].startswith("row 4: no image of a known format (PNG, JPEG")


def test_batch_of_nothing():
    """A batch without one good image is empty, and None for an image is a bad row."""
    batch = decode_batch([None], [0], [3], TrainConfig(image_size=32))
    assert (batch.images.shape, len(batch.bad)) == ((0, 1, 32, 32), 1)


def test_image_folders_are_read_by_path(tmp_path):
    """Where a row has no bytes its file is read."""
    Image.new("L", (8, 8), 77).save(tmp_path / "a.png")
    row = {"bytes": None, "path": str(tmp_path / "a.png")}
    batch = decode_batch([row], [0], [0], TrainConfig(image_size=8))
    assert (batch.images == 77).all()
