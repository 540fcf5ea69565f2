"""Simulated BBBC005: cell bodies and nuclei of known count and blur (the real set is one too).

Ground truth bears the images' own names in another folder, beside a hidden file; some scenes are
there a second time out of focus.
"""

from pathlib import Path

import numpy as np

from cytoimagenet_hf.files import write_text
from cytoimagenet_hf.simulation import _cells, _optics, _writing

MOST = 600  # scenes: 24 counts x 25 samples
_SHAPE = (520, 696)
_COUNTS = (1, 5, 10, 14, 18, 23, 27, 31, 35, 40, 44, 48, 53, 57, 61, 66, 70, 74, 78, 83, 87, 91, 96,
           100)  # fmt: skip
_IMAGES, _GROUND_TRUTH = "BBBC005_v1_images", "BBBC005_v1_ground_truth"
_BLURRED = ("B", 4)  # row of the well, F in the file name


def simulate(root: Path, *, fields: int, seed: int) -> dict[str, tuple[str, ...]]:
    """Write `fields` scenes in focus, with ground truth, and every eighth one blurred as well."""
    truth: dict[str, tuple[str, ...]] = {}
    for number in range(fields):
        sample, column = number // 24 + 1, number * 7 % 24
        tail = f"{column + 1:02d}_C{_COUNTS[column]}_F{{}}_s{sample:02d}"
        rng = _optics.generator(seed, "bbbc005", tail)
        cells = _cells.grow(rng, _SHAPE, _COUNTS[column], radius=11)
        planes = {
            "w1": np.asarray(0.8 * _cells.bodies(rng, cells).inside, np.float32),
            "w2": _cells.nuclei(rng, cells, grain=0.5),
        }
        for channel, plane in planes.items():
            name = f"SIMCEPImages_A{tail.format(1)}_{channel}.TIF"
            _write(root / _IMAGES / name, rng, plane)
            truth[f"{_IMAGES}/{name}"] = ()
            mask = np.where(plane > 0.3, 255, 0).astype(np.uint8)
            _writing.write_tiff(root / _GROUND_TRUTH / name, mask)
            if number % 8 == 7:
                row, blur = _BLURRED
                name = f"SIMCEPImages_{row}{tail.format(blur)}_{channel}.TIF"
                _write(root / _IMAGES / name, rng, _optics.blur(plane, blur))
    write_text(root / _GROUND_TRUTH / ".htaccess", "Options +Indexes\n")
    return truth


def simulate_negative(root: Path) -> None:
    """Write the ground truth alone: its names are right, its folder isn't."""
    rng = _optics.generator(0, "bbbc005", "negative")
    for count, well in ((18, "A05"), (57, "A14")):
        mask = np.minimum(_cells.label_mask(_cells.grow(rng, _SHAPE, count)), 1)
        path = root / _GROUND_TRUTH / f"SIMCEPImages_{well}_C{count}_F1_s01_w2.TIF"
        _writing.write_tiff(path, (mask * 255).astype(np.uint8))


def _write(path: Path, rng: np.random.Generator, plane: _optics.FloatPlane) -> None:
    counts = _optics.expose(rng, plane, gain=150, background=12, top=255, read_noise=1.5)
    _writing.write_tiff(path, counts)
