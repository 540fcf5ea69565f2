"""Exact percentiles and 8-bit planes of integer images against NumPy in float64."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _inputs import gray_pngs, gray_tiffs, stained_fields
from _timing import Figure, Options, compare, run

from cytoimagenet_hf.imaging import intensity
from cytoimagenet_hf.imaging.readers import read_plane

PERCENTS = (0.1, 99.9)


def numpy_percentiles(plane: np.ndarray) -> np.ndarray:
    """Take percentiles as the paper does: of the plane in float64."""
    return np.percentile(plane.astype(np.float64), PERCENTS)


def numpy_stretched(plane: np.ndarray) -> np.ndarray:
    """Stretch to 8 bits in float64."""
    values = plane.astype(np.float64)
    low, high = np.percentile(values, PERCENTS)
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def stretched(plane: np.ndarray) -> np.ndarray:
    """Stretch to 8 bits with the package, which measures noise and contrast on the way."""
    normal = intensity.normalize([("stain", plane)])
    return intensity.look_up(normal.raw, normal.value_of, np.uint8)


def measure(options: Options) -> Iterator[Figure]:
    """Time uint8 and uint16 planes, once the results were found equal to the bit."""
    count = 1 if options.quick else 8
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wide = gray_tiffs(folder, count) + stained_fields(folder, 3)[-1:]
        for name, fields, must, aim in (
            ("uint8", gray_pngs(folder, count), 5, 10),
            ("uint16", wide, 3, 5),
        ):
            planes = [read_plane(file) for field in fields for file in field.files]
            note = f"{len(planes)} planes: " + "; ".join(sorted({one.origin for one in fields}))
            for plane in planes:
                assert tuple(numpy_percentiles(plane)) == intensity.percentiles(plane, PERCENTS)
                assert np.array_equal(numpy_stretched(plane), stretched(plane))
            yield compare(
                f"percentiles of {name}",
                lambda planes=planes: [numpy_percentiles(plane) for plane in planes],
                lambda planes=planes: [intensity.percentiles(plane, PERCENTS) for plane in planes],
                options,
                must=must,
                aim=aim,
                images=len(planes),
                note=note,
            )
            yield compare(
                f"{name} stretched to 8 bits",
                lambda planes=planes: [numpy_stretched(plane) for plane in planes],
                lambda planes=planes: [stretched(plane) for plane in planes],
                options,
                must=2.5,
                aim=3,
                images=len(planes),
                stages={
                    "counting": [(intensity, "distribution")],
                    "tables": [(intensity, "look_up")],
                    "contrast": [(intensity, "_block_means")],
                },
                note=note,
            )


if __name__ == "__main__":
    run(measure, __doc__)
