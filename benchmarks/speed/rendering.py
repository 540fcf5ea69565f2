"""From files to PNG crops: `render_record` against the paper's procedure written plainly."""

import functools
import io
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import tifffile
from _inputs import Field, color_pngs, gray_pngs, gray_tiffs, stained_fields
from _timing import Figure, Options, compare, cores, run
from PIL import Image

from cytoimagenet_hf import hashing
from cytoimagenet_hf.curation import jobs as work
from cytoimagenet_hf.curation import records
from cytoimagenet_hf.curation.parameters import Parameters
from cytoimagenet_hf.imaging import intensity, png, readers, windows

WANTED = 4  # crops of a field
STAGES = {
    "decode": [(readers, "read_plane")],
    "statistics": [
        (intensity, "distribution"),
        (windows, "distribution"),
        (intensity, "noise_of"),
        (intensity, "_block_means"),
        (windows, "contrast"),
    ],
    "tables": [(intensity, "look_up")],
    "shrink": [(records, "shrink")],
    "PNG": [(png, "encode")],
    "hashing": [(hashing, "sha256_file"), (hashing, "pixel_sha256")],
}
Boxes = Sequence[tuple[int, int, int, int]]


def paper(files: Sequence[Path], boxes: Boxes) -> list[tuple[np.ndarray, bytes, bytes]]:
    """Read, stretch and merge in float64, crop, stretch again, save with Pillow (paper 2.2)."""
    planes = []
    for file in files:
        if file.suffix.lower().startswith(".tif"):
            plane = tifffile.imread(file).astype(np.float64)
        else:
            plane = np.asarray(Image.open(file).convert("RGB")).astype(np.float64).mean(axis=-1)
        low, high = np.percentile(plane, (0.1, 99.9))
        planes.append(np.clip((plane - low) / (high - low), 0, 1) * 255)
    merged = np.mean(planes, axis=0) if len(planes) > 1 else planes[0]
    crops = []
    for x_min, y_min, x_max, y_max in boxes:
        crop = merged[y_min:y_max, x_min:x_max]
        low, high = np.percentile(crop, (0.1, 99.9))
        if low == high or np.percentile(crop, 75) == 0:
            continue
        crop = np.rint(np.clip((crop - low) / (high - low), 0, 1) * 255).astype(np.uint8)
        image = Image.fromarray(crop)
        small = image.copy()
        small.thumbnail((256, 256))
        crops.append((crop, _saved(image), _saved(small)))
    return crops


def _saved(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def ours(files: Sequence[Path], *, quadrants: bool) -> list[dict]:
    """Render four crops with the package; hashes, contrast and refusals are part of it.

    With `quadrants` all of them are whole quadrants, else of mixed scales, as in a real build.
    """
    jobs = tuple(
        work.PlaneJob(str(file), f"stain {at}", 0, 0, None) for at, file in enumerate(files)
    )
    return records.render_record(
        work.RecordJob(f"speed/{files[0].name}", jobs, WANTED),
        lambda job: readers.read_plane(Path(job.path)),
        lambda path: hashing.sha256_file(Path(path)),
        Parameters(min_crop_side=_least_quadrant(files[0])) if quadrants else Parameters(),
    )


@functools.cache
def _least_quadrant(file: Path) -> int:
    """Give the least crop side that leaves whole quadrants only."""
    return min(readers.read_plane(file).shape[:2]) // 4 + 1


def check(field: Field, *, quadrants: bool) -> Boxes:
    """Assert equal crops (of several channels: to one level) and lossless PNGs; give the boxes."""
    rows = [row for row in ours(field.files, quadrants=quadrants) if not row["reason"]]
    assert rows, f"no crop of {field.files[0].name} is kept"
    boxes = [tuple(row[name] for name in ("x_min", "y_min", "x_max", "y_max")) for row in rows]
    for row, (expected, _, _) in zip(rows, paper(field.files, boxes), strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(row["png"])))
        assert hashing.pixel_sha256(pixels) == row["pixel_sha256"], "the PNG holds other pixels"
        most = np.abs(pixels.astype(int) - expected).max()
        allowed = 1 if len(field.files) > 1 else 0
        assert most <= allowed, f"{field.files[0].name} differs by {most} levels"
    return boxes


def measure(options: Options) -> Iterator[Figure]:
    """Time each kind of field, then one worker against two."""
    count = 1 if options.quick else 4
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        three, five = stained_fields(folder, 3), stained_fields(folder, 5)
        lzw = stained_fields(folder, 3, compression="lzw")
        deflate = stained_fields(folder, 3, compression="zlib")
        for name, fields, must, aim in (
            ("gray PNG", gray_pngs(folder, count), 4, 7),
            ("color PNG", color_pngs(folder, count), 2, 2.9),
            ("gray 16-bit TIFF", gray_tiffs(folder, count), 5, 6.5),
            ("3 channels, 16-bit TIFF", three, 5, 10),
            ("5 channels, 16-bit TIFF", five, 4.5, 10),
            ("3 channels, LZW", lzw, 3, 4),
            ("3 channels, deflate", deflate, 4, 5),
        ):
            yield _compare(name, fields, options, quadrants=True, must=must, aim=aim)
        # Smaller crops leave Pillow's slow PNG less weight; there is no aim of its own for them.
        for name, fields in (
            ("3 channels, mixed scales", three),
            ("5 channels, mixed scales", five),
        ):
            yield _compare(name, fields, options, quadrants=False, must=2, aim=2)
        if not options.quick:
            yield workers(three, options)


def _compare(
    name: str, fields: list[Field], options: Options, *, quadrants: bool, must: float, aim: float
) -> Figure:
    boxes = [check(field, quadrants=quadrants) for field in fields]
    return compare(
        name,
        lambda: [paper(one.files, cut) for one, cut in zip(fields, boxes, strict=True)],
        lambda: [ours(one.files, quadrants=quadrants) for one in fields],
        options,
        must=must,
        aim=aim,
        images=len(fields),
        stages=STAGES,
        note="; ".join(
            f"{count} x {kind}" for kind, count in Counter(f.origin for f in fields).items()
        ),
    )


def workers(fields: Sequence[Field], options: Options) -> Figure:
    """Time two worker processes against one; all of them run before the clock does."""
    jobs = [fields[at % len(fields)].files for at in range(64)]
    context = get_context("spawn")
    with (
        cores(None),
        ProcessPoolExecutor(1, context) as one,
        ProcessPoolExecutor(2, context) as two,
    ):
        return compare(
            "two workers against one",
            lambda: list(one.map(_crops, jobs, chunksize=4)),
            lambda: list(two.map(_crops, jobs, chunksize=4)),
            options,
            must=1.5,
            aim=1.75,
            images=len(jobs),
            note="fields of three channels, mixed scales",
        )


def _crops(files: Sequence[Path]) -> int:
    return len(ours(files, quadrants=False))


if __name__ == "__main__":
    run(measure, __doc__)
