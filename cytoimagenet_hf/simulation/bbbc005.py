"""Simulated BBBC005: cell bodies and nuclei of known count and blur (the real set is one too).

Ground truth bears the images' own names in another folder, beside a hidden file.
"""

from pathlib import Path

import numpy as np

from cytoimagenet_hf.files import write_text
from cytoimagenet_hf.simulation import _cells, _optics, _writing

MOST = 9600  # 16 rows of blur x 24 columns of counts x 25 samples
_SHAPE = (520, 696)
_COUNTS = (1, 5, 10, 14, 18, 23, 27, 31, 35, 40, 44, 48, 53, 57, 61, 66, 70, 74, 78, 83, 87, 91, 96,
           100)  # fmt: skip
_BLURS = (1, 4, 7, 10, 14, 17, 20, 23, 26, 29, 32, 35, 39, 42, 45, 48)  # F, by the well's row
_IMAGES, _GROUND_TRUTH = "BBBC005_v1_images", "BBBC005_v1_ground_truth"


def simulate(root: Path, *, fields: int, seed: int) -> dict[str, tuple[str, ...]]:
    """Write `fields` fields, and ground truth for those in focus."""
    truth: dict[str, tuple[str, ...]] = {}
    for number in range(fields):
        stem, blur, count = _position(number)
        rng = _optics.generator(seed, "bbbc005", stem)
        cells = _cells.grow(rng, _SHAPE, count, radius=11)
        planes = {
            "w1": 0.8 * _cells.bodies(rng, cells).inside,
            "w2": _cells.nuclei(rng, cells, grain=0.5),
        }
        for channel, plane in planes.items():
            path = f"{_IMAGES}/{stem}_{channel}.TIF"
            sharp = _optics.blur(plane, blur / 4)
            counts = _optics.expose(rng, sharp, gain=150, background=12, top=255, read_noise=1.5)
            _writing.write_tiff(root / path, counts)
            truth[path] = ()
            if blur == 1:
                mask = np.where(plane > 0.3, 255, 0).astype(np.uint8)
                _writing.write_tiff(root / _GROUND_TRUTH / f"{stem}_{channel}.TIF", mask)
    write_text(root / _GROUND_TRUTH / ".htaccess", "Options +Indexes\n")
    return truth


def simulate_negative(root: Path) -> None:
    """Write the ground truth alone: its names are right, its folder isn't."""
    rng = _optics.generator(0, "bbbc005", "negative")
    for count, well in ((18, "A05"), (57, "A14")):
        mask = np.minimum(_cells.label_mask(_cells.grow(rng, _SHAPE, count)), 1)
        path = root / _GROUND_TRUTH / f"SIMCEPImages_{well}_C{count}_F1_s01_w2.TIF"
        _writing.write_tiff(path, (mask * 255).astype(np.uint8))


def _position(number: int) -> tuple[str, int, int]:
    """Name a field: each (row, column, sample) once; at first mostly row A, which is in focus."""
    turn, column = number // 24, number * 7 % 24
    sample, row = divmod(turn, 16)
    row = (row + (number % 4 == 3)) % 16
    blur, count = _BLURS[row], _COUNTS[column]
    well = f"{'ABCDEFGHIJKLMNOP'[row]}{column + 1:02d}"
    return f"SIMCEPImages_{well}_C{count}_F{blur}_s{sample + 1:02d}", blur, count
