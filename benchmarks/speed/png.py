"""The PNG writer against Pillow's default: time and size on crops of real images."""

import io
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from _inputs import Field, gray_pngs, gray_tiffs, stained_fields
from _timing import Figure, Options, compare, run
from PIL import Image

from cytoimagenet_hf.imaging import intensity, windows
from cytoimagenet_hf.imaging import png as writer
from cytoimagenet_hf.imaging.readers import read_plane


def pillow(crop: np.ndarray) -> bytes:
    """Encode with Pillow's defaults."""
    stream = io.BytesIO()
    Image.fromarray(crop).save(stream, "PNG")
    return stream.getvalue()


def crops(fields: Sequence[Field]) -> list[np.ndarray]:
    """Cut windows out of normalized fields, as a build does."""
    rules = windows.Rules(min_contrast=0)
    found = []
    for field in fields:
        planes = [(file.name, read_plane(file)) for file in field.files]
        drawn = windows.crop_record(intensity.normalize(planes), field.files[0].name, 4, rules)
        found += [one.pixels for one in drawn if one.pixels is not None and not one.reason]
    return found


def check(images: Sequence[np.ndarray]) -> None:
    """Assert that Pillow reads back every pixel."""
    for image in images:
        read = np.asarray(Image.open(io.BytesIO(writer.encode(image))))
        assert read.dtype == np.uint8, "another type"
        assert np.array_equal(read, image), "other pixels"


def measure(options: Options) -> Iterator[Figure]:
    """Time all crops, then add up their sizes."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, count = Path(temporary), 1 if options.quick else 8
        fields = gray_pngs(folder, count) + gray_tiffs(folder, count) + stained_fields(folder, 3)
        images = crops(fields)
    check(images)
    origins = "; ".join(dict.fromkeys(one.origin for one in fields))
    note = f"{len(images)} crops by {writer.ENGINE}: {origins}"
    yield compare(
        "PNG writer",
        lambda: [pillow(image) for image in images],
        lambda: [writer.encode(image) for image in images],
        options,
        must=6,
        aim=10,
        images=len(images),
        stages={"deflate": [(writer, "_compress")]},
        note=note,
    )
    sizes = [sum(len(encode(image)) for image in images) for encode in (writer.encode, pillow)]
    yield Figure(
        "size against Pillow's",
        sizes[0] / sizes[1],
        "x",
        1.05,
        1.0,
        more_is_better=False,
        note=note,
    )


if __name__ == "__main__":
    run(measure, __doc__)
