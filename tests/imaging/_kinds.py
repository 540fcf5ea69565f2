"""Each kind of image file that is read, with the plane that it holds; test_readers.py explains."""

import io

import imagecodecs
import numpy as np
from PIL import Image

from tests.imaging import _files as files
from tests.imaging._files import colors, ramp

GRAY8, GRAY16, COLOR8, COLOR16 = ramp(), ramp("uint16", step=1001), colors(), colors("uint16")
OPAQUE = np.dstack([COLOR8, np.full(GRAY8.shape, 255, np.uint8)])
WIDE = ramp(height=40, width=50)  # more than one tile of 16, last ones cut
WIDE16 = ramp("uint16", height=40, width=50, step=31)
TWELVE = ramp("uint16", height=3, width=5, step=291) % 4096  # 7.5 bytes a row
RED_GREEN = [(255, 0, 0), (0, 255, 0)] + [(0, 0, 0)] * 254
DIM = [(level // 2,) * 3 for level in range(256)]
COLORMAP = np.stack([np.arange(256), np.arange(256)[::-1], np.arange(256) // 2]).astype("uint16")
TWO_GRAYS = np.concatenate([[[7, 9]] * 3, COLORMAP[:, 2:]], axis=1).astype("uint16")
SMOOTH = np.add.outer(np.arange(64), np.arange(64)).astype("uint8")
SMOOTH_COLOR = np.dstack([SMOOTH, SMOOTH[::-1], SMOOTH[:, ::-1]])


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def kinds() -> dict[str, tuple[bytes, np.ndarray]]:
    """Kind -> (file, expected plane)."""
    return {**png_kinds(), **tiff_kinds(), **tiff_layouts(), **jpeg_kinds(), **bmp_kinds()}


def png_kinds() -> dict[str, tuple[bytes, np.ndarray]]:
    gray_alpha = Image.fromarray(np.dstack([GRAY8, np.full(GRAY8.shape, 255, "uint8")]), "LA")
    two = GRAY8 % 2
    four = GRAY8 % 16
    four_rows = b"".join(b"\0" + files.pack_bits(row[None], 4) for row in four)
    return {
        "png gray 8 (OpenCV)": (files.opencv(".png", GRAY8), GRAY8),
        "png gray 16 (OpenCV)": (files.opencv(".png", GRAY16), GRAY16),
        "png rgb 8 (Pillow)": (files.pillow("PNG", COLOR8), COLOR8),
        "png rgb 16 (OpenCV)": (files.opencv(".png", COLOR16), COLOR16),
        "png rgb with equal channels (Pillow)": (
            files.pillow("PNG", np.dstack([GRAY8] * 3)),
            GRAY8,
        ),
        "png rgba opaque (OpenCV)": (files.opencv(".png", OPAQUE), COLOR8),
        "png gray + alpha opaque (Pillow)": (files.pillow("PNG", gray_alpha), GRAY8),
        "png palette of colors (Pillow)": (
            files.pillow("PNG", files.paletted(two, RED_GREEN), bits=8),
            np.dstack([255 * (1 - two), 255 * two, 0 * two]),
        ),
        "png palette of grays (Pillow)": (
            files.pillow("PNG", files.paletted(GRAY8, DIM), bits=8),
            GRAY8 // 2,
        ),
        "png transparent color that is not used (Pillow)": (
            files.pillow("PNG", GRAY8, transparency=200),
            GRAY8,
        ),
        "png interlaced 16 (hand)": (files.interlaced_png(GRAY16), GRAY16),
        "png gray 4 (hand)": (files.raw_png(*four.shape, 4, 0, four_rows), four * 17),
    }


def tiff_kinds() -> dict[str, tuple[bytes, np.ndarray]]:
    stored = {
        f"tiff {dtype} (tifffile)": (files.tiff(plane), plane)
        for dtype in ("uint8", "uint16", "int16", "uint32", "int32", "float32", "float64")
        for plane in [ramp(dtype, start=-3 if dtype[0] in "if" else 0, step=501)]
    }
    int8, float16 = ramp("int8", start=-30), ramp("float16", step=0.25)
    white, packed = GRAY16, files.pack_bits(TWELVE, 12)
    lzw12 = imagecodecs.lzw_encode(packed)
    twelve = files.gray_tags(3, 5, len(packed), bits=12)
    twelve_lzw = files.gray_tags(3, 5, len(lzw12), bits=12, t259=(3, [5]))
    palette = np.moveaxis(COLORMAP, 0, -1)
    return stored | {
        "tiff int8 widened (tifffile)": (files.tiff(int8), int8.astype("int16")),
        "tiff float16 widened (tifffile)": (files.tiff(float16), float16.astype("float32")),
        "tiff LZW + predictor (Pillow)": (
            files.pillow("TIFF", WIDE16, compression="tiff_lzw", tiffinfo={317: 2}),
            WIDE16,
        ),
        "tiff deflate + predictor (tifffile)": (
            files.tiff(WIDE16, compression="zlib", predictor=2, rowsperstrip=7),
            WIDE16,
        ),
        "tiff deflate + float predictor (tifffile)": (
            files.tiff(WIDE16.astype("float32"), compression="zlib", predictor=3),
            WIDE16.astype("float32"),
        ),
        "tiff PackBits (Pillow)": (files.pillow("TIFF", WIDE, compression="packbits"), WIDE),
        "tiff zstd (tifffile)": (files.tiff(WIDE16, compression="zstd", predictor=2), WIDE16),
        "tiff WhiteIsZero (tifffile)": (
            files.tiff(white, photometric="miniswhite"),
            65535 - white,
        ),
        "tiff palette of 16-bit colors (tifffile)": (
            files.tiff(GRAY8, photometric="palette", colormap=COLORMAP),
            palette[GRAY8],
        ),
        "tiff palette of 8-bit colors (Pillow)": (
            files.pillow("TIFF", files.paletted(GRAY8 % 2, RED_GREEN)),
            np.dstack([255 * (1 - GRAY8 % 2), 255 * (GRAY8 % 2), 0 * GRAY8]),
        ),
        "tiff palette whose used colors are gray (tifffile)": (
            files.tiff(GRAY8 % 2, photometric="palette", colormap=TWO_GRAYS),
            (7 + 2 * (GRAY8 % 2)).astype("uint16"),
        ),
        "tiff 12 bit packed (hand)": (files.raw_tiff(twelve, packed), TWELVE),
        "tiff 12 bit packed, LZW (hand)": (files.raw_tiff(twelve_lzw, lzw12), TWELVE),
    }


def tiff_layouts() -> dict[str, tuple[bytes, np.ndarray]]:
    planar = np.moveaxis(COLOR16, -1, 0)
    rgb = {"photometric": "rgb"}
    return {
        "tiff big-endian (tifffile)": (files.tiff(GRAY16, byteorder=">"), GRAY16),
        "tiff BigTIFF (tifffile)": (files.tiff(GRAY16, bigtiff=True), GRAY16),
        "tiff BigTIFF, big-endian (tifffile)": (
            files.tiff(GRAY16, bigtiff=True, byteorder=">"),
            GRAY16,
        ),
        "tiff tiles (tifffile)": (files.tiff(WIDE16, tile=(16, 16)), WIDE16),
        "tiff tiles, deflate (tifffile)": (
            files.tiff(WIDE16, tile=(16, 32), compression="zlib"),
            WIDE16,
        ),
        "tiff rgb 16 chunky (tifffile)": (files.tiff(COLOR16, **rgb), COLOR16),
        "tiff rgb 16 planar (tifffile)": (
            files.tiff(planar, planarconfig="separate", **rgb),
            COLOR16,
        ),
        "tiff rgba opaque (tifffile)": (
            files.tiff(OPAQUE, extrasamples=["unassalpha"], **rgb),
            COLOR8,
        ),
        "tiff rgb 8 (OpenCV)": (files.opencv(".tif", COLOR8), COLOR8),
        "tiff without byte counts (hand)": (
            files.raw_tiff(
                {
                    tag: value
                    for tag, value in files.gray_tags(*GRAY8.shape, GRAY8.size).items()
                    if tag != 279
                },
                GRAY8.tobytes(),
            ),
            GRAY8,
        ),
    }


def jpeg_kinds() -> dict[str, tuple[bytes, np.ndarray]]:
    gray, color = files.opencv(".jpg", SMOOTH), files.pillow("JPEG", SMOOTH_COLOR, quality=90)
    turned = files.pillow("JPEG", SMOOTH_COLOR[:40], exif=orientation(6))
    progressive = files.pillow("JPEG", SMOOTH_COLOR, progressive=True)
    in_tiff = files.pillow("TIFF", SMOOTH, compression="jpeg")
    ycbcr = files.pillow("TIFF", SMOOTH_COLOR, compression="jpeg")
    rgb = files.tiff(SMOOTH_COLOR, compression="jpeg", photometric="rgb")
    tiles = files.tiff(SMOOTH_COLOR, compression="jpeg", photometric="ycbcr", tile=(48, 48))
    return {
        "jpeg gray (OpenCV)": (gray, files.opencv_read(gray)),
        "jpeg rgb (Pillow)": (color, files.opencv_read(color)),
        "jpeg progressive (Pillow)": (progressive, files.opencv_read(progressive)),
        "jpeg turned by EXIF, as stored (Pillow)": (turned, files.opencv_read(turned)),
        "tiff JPEG gray (Pillow)": (in_tiff, by_pillow(in_tiff)),
        "tiff JPEG YCbCr (Pillow)": (ycbcr, by_pillow(ycbcr)),
        "tiff JPEG rgb (tifffile)": (rgb, by_pillow(rgb)),
        "tiff JPEG tiles (tifffile)": (tiles, by_pillow(tiles)),
    }


def bmp_kinds() -> dict[str, tuple[bytes, np.ndarray]]:
    two = GRAY8 % 2
    return {
        "bmp gray 8 (OpenCV)": (files.opencv(".bmp", GRAY8), GRAY8),
        "bmp rgb 24 (OpenCV)": (files.opencv(".bmp", COLOR8), COLOR8),
        "bmp rgba 32 opaque (OpenCV)": (files.opencv(".bmp", OPAQUE), COLOR8),
        "bmp palette of colors (Pillow)": (
            files.pillow("BMP", files.paletted(two, RED_GREEN)),
            np.dstack([255 * (1 - two), 255 * two, 0 * two]),
        ),
        "bmp palette of grays (Pillow)": (
            files.pillow("BMP", files.paletted(GRAY8, DIM)),
            GRAY8 // 2,
        ),
    }


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = value
    return exif


KINDS = kinds()
