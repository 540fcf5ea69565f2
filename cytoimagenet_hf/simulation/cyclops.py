"""Simulated CYCLoPs: crops of single yeast cells, float TIFF in 0..1, a folder a class.

Ten of the classes are simulated, among them those that a benchmark leaves out or merges. Files are
named as by the script that unpacks the published HDF5: <class>_<number>_<channel>.tif.
"""

from pathlib import Path

import numpy as np

from cytoimagenet_hf.simulation import _optics, _single, _writing

MOST = 28166  # cells
_PATTERNS = {  # dead cells are bright all over, ghosts show next to nothing
    "ACTIN": "dots",
    "CELLPERIPHERY": "rim",
    "CYTOPLASM": "smooth",
    "ENDOSOME": "blobs",
    "MITOCHONDRIA": "threads",
    "NUCLEI": "nucleus",
    "SPINDLE": "point",
    "SPINDLEPOLE": "point",
    "DEAD": "smooth",
    "GHOST": "smooth",
}
_RED = {"DEAD": 2.5, "GHOST": 0.1}  # brightness of the cytosol marker; others: 1
_TOP = 4095  # counts that are written as 1.0


def simulate(root: Path, *, fields: int, seed: int) -> dict[str, tuple[str, ...]]:
    """Write `fields` cells, classes in turn."""
    truth: dict[str, tuple[str, ...]] = {}
    for number in range(fields):
        label = list(_PATTERNS)[number % len(_PATTERNS)]
        for channel, plane in _paint(seed, number, label).items():
            path = f"{label}/{label}_{number // len(_PATTERNS)}_{channel}.tif"
            _writing.write_tiff(root / path, plane)
            truth[path] = (label,)
    return truth


def simulate_negative(root: Path) -> None:
    """Write pairs of the same laboratory, a folder a protein and not a class."""
    for number, name in enumerate(("AAC1", "AAH1")):
        for channel, plane in _paint(0, number, "MITOCHONDRIA").items():
            _writing.write_tiff(root / f"images/{name}/{name}_1_rfp_10_{channel}.tif", plane)


def _paint(seed: int, number: int, label: str) -> dict[str, _optics.FloatPlane]:
    rng = _optics.generator(seed, "cyclops", number)
    cell = _single.grow(rng, radius=5.5)
    red = _RED.get(label, 1.0)
    stained = {
        "gfp": _single.protein(rng, cell, _PATTERNS[label]) * (red if label in _RED else 1),
        "rfp": cell.body.inside * (1 - 0.3 * np.minimum(cell.nucleus, 1)) * red,
    }
    return {
        channel: np.asarray(
            _optics.expose(rng, plane.astype(np.float32), gain=900, background=150) / _TOP,
            np.float32,
        )
        for channel, plane in stained.items()
    }
