"""Simulated COOS-7: crops of single mouse cells, a folder a part and class, and masks beside them.

Test sets 3 and 4 have other gains, as they were imaged later and by another microscope. Names of
cells are numbers: real ones are not known.
"""

from pathlib import Path

import numpy as np

from cytoimagenet_hf.simulation import _optics, _single, _writing

MOST = 132209  # cells
_PATTERNS = {
    "Cytosol": "smooth",
    "ER": "mesh",
    "Early endosome": "blobs",
    "Golgi": "stack",
    "Inner mitochondrial membrane": "threads",
    "Nuclear envelope": "envelope",
    "Peroxisomes": "dots",
}
_PARTS = ("train", "train", "test1", "train", "test2", "train", "test3", "test4")  # by round
_GAINS = {"test3": (520.0, 210.0), "test4": (1300.0, 320.0)}  # others: 800 and 160 counts


def simulate(root: Path, *, fields: int, seed: int) -> dict[str, tuple[str, ...]]:
    """Write `fields` cells: classes in turn, then parts, half of them to train on."""
    truth: dict[str, tuple[str, ...]] = {}
    for number in range(fields):
        label = list(_PATTERNS)[number % len(_PATTERNS)]
        part = _PARTS[number // len(_PATTERNS) % len(_PARTS)]
        planes = _paint(seed, number, label, _GAINS.get(part, (800.0, 160.0)))
        for kind, plane in planes.items():
            path = f"{part}/{label}/{number}_{kind}.tif"
            _writing.write_tiff(root / path, plane)
            if kind != "mask":
                truth[path] = (label,)
    return truth


def simulate_negative(root: Path) -> None:
    """Write parts and classes with one file a cell, as other benchmarks keep them, and masks."""
    for part in ("train", "test1"):
        for number, label in enumerate(("ER", "Golgi")):
            planes = _paint(0, number, label, (800.0, 160.0))
            _writing.write_tiff(root / part / label / f"{number}.tif", planes["protein"])
            _writing.write_tiff(root / part / label / f"{number}_mask.tif", planes["mask"])


def _paint(
    seed: int, number: int, label: str, light: tuple[float, float]
) -> dict[str, _optics.IntPlane]:
    rng = _optics.generator(seed, "coos7", number)
    cell = _single.grow(rng, radius=8)
    stained = {
        "protein": _single.protein(rng, cell, _PATTERNS[label]),
        "nucleus": cell.nucleus,
    }
    gain, background = light
    planes = {
        kind: _optics.expose(rng, plane, gain=gain, background=background, top=65535)
        for kind, plane in stained.items()
    }
    return {**planes, "mask": np.where(cell.body.inside > 0.3, 255, 0).astype(np.uint8)}
