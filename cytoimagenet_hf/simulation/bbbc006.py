"""Simulated BBBC006: two stains a field in one plane folder, nuclear labels, a blurred plane.

The labels have the fields' names, and the further plane shows the same cells: neither may count.
"""

from pathlib import Path

import numpy as np

from cytoimagenet_hf.simulation import _cells, _optics, _writing

MOST = 768  # 384 wells x 2 sites
_SHAPE = (520, 696)
_IN_FOCUS, _FURTHER = "BBBC006_v1_images_z_16", "BBBC006_v1_images_z_20"


def simulate(root: Path, *, fields: int, seed: int) -> dict[str, tuple[str, ...]]:
    """Write `fields` fields in focus, and their first one out of focus."""
    truth: dict[str, tuple[str, ...]] = {}
    counts = []
    for number in range(fields):
        well = _writing.WELLS[number // 2 * 91 % 384].lower()  # 91 visits each of 384 once
        stem = f"mcf-z-stacks-03212011_{well}_s{number % 2 + 1}"
        rng = _optics.generator(seed, "bbbc006", stem)
        cells = _cells.grow(rng, _SHAPE, rng.uniform(40, 110))
        planes = {"1": _cells.nuclei(rng, cells), "2": _phalloidin(_cells.bodies(rng, cells))}
        for digit, plane in planes.items():
            name = f"{stem}_w{digit}{_writing.guid(seed, stem, digit)}.tif"
            _write(root / _IN_FOCUS / name, rng, plane)
            truth[f"{_IN_FOCUS}/{name}"] = ()
            if digit == "1":
                counts.append((name, len(cells.y)))
            if number == 0:
                further = f"{stem}_w{digit}{_writing.guid(seed, stem, digit, 'z')}.tif"
                _write(root / _FURTHER / further, rng, _optics.blur(plane, 6))
        _writing.write_png(root / f"BBBC006_v1_labels/{stem}.png", _cells.label_mask(cells))
    header = ("Image_FileName_OrigDAPI", "Image_Count_Nuclei")
    _writing.write_table(root / "BBBC006_v1_counts.csv", header, counts)
    return truth


def simulate_negative(root: Path) -> None:
    """Write the renamed copies that a focus-quality project keeps, and label images."""
    rng = _optics.generator(0, "bbbc006", "negative")
    cells = _cells.grow(rng, _SHAPE, 20)
    plane = _optics.expose(rng, _cells.nuclei(rng, cells), gain=700, background=150)
    for well in ("a01", "a09"):
        name = f"z_aligned_10/BBBC006_z_aligned__{well}__s1__w1_10.png"
        _writing.write_png(root / name, plane)
        label = f"BBBC006_v1_labels/mcf-z-stacks-03212011_{well}_s1.png"
        _writing.write_png(root / label, _cells.label_mask(cells))


def _phalloidin(body: _cells.Bodies) -> _optics.FloatPlane:
    mixed = 0.3 * body.inside + 0.35 * body.rim + 0.4 * body.fiber + 0.25 * body.near
    return np.asarray(mixed, np.float32)


def _write(path: Path, rng: np.random.Generator, plane: _optics.FloatPlane) -> None:
    counts = _optics.expose(rng, plane, gain=650, background=150)
    _writing.write_tiff(path, counts, compression="lzw")
