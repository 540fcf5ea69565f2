"""Simulated BBBC048: single Jurkat cells, 66 x 66 pixels, three files a cell, one folder a phase.

Ch3 is brightfield, Ch4 the DNA stain, Ch6 darkfield. Both endings occur that copies of the data
have: `.ome.jpg` and `.jpg`.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf.files import write_text
from cytoimagenet_hf.simulation import _optics, _writing

MOST = 32266  # cells
_SIDE = 66  # pixels
# Out of 60 cells; the real shares (G1 44 %, anaphase 0.05 %) would leave most phases empty.
_SHARES = {
    "G1": 14,
    "S": 11,
    "G2": 11,
    "Prophase": 10,
    "Metaphase": 10,
    "Anaphase": 2,
    "Telophase": 2,
}
# Phase -> radius of the cell, distance of its two halves, length and width of the DNA, brightness.
_SHAPES = {
    "G1": (10.5, 0.0, 6.0, 5.6, 0.45),
    "S": (11.8, 0.0, 7.0, 6.5, 0.62),
    "G2": (13.4, 0.0, 8.4, 7.6, 0.8),
    "Prophase": (13.6, 0.0, 9.0, 8.2, 0.85),
    "Metaphase": (13.8, 0.0, 8.2, 4.0, 0.95),
    "Anaphase": (13.2, 6.0, 7.0, 3.2, 0.9),
    "Telophase": (9.6, 9.6, 5.6, 4.0, 0.85),
}
_CLUMPY = ("Prophase", "Metaphase", "Anaphase", "Telophase")
_CLASS_NUMBERS = {phase: number for number, phase in enumerate(sorted(_SHARES))}


def simulate(root: Path, *, fields: int, seed: int) -> dict[str, tuple[str, ...]]:
    """Write `fields` cells and the list of their classes."""
    truth: dict[str, tuple[str, ...]] = {}
    lines: list[str] = []
    for number, phase in enumerate(_phases(fields)):
        rng = _optics.generator(seed, "bbbc048", number)
        ending = "jpg" if number % 10 == 9 else "ome.jpg"
        for channel, plane in _paint(rng, phase):
            path = f"CellCycle/{phase}/{number + 1}_{channel}.{ending}"
            _writing.write_jpeg(root / path, plane)
            truth[path] = (phase.lower(),)
            lines.append(f"{len(lines)}\t{_CLASS_NUMBERS[phase]}\t{path}\n")
    write_text(root / "Ground_truth.lst", "".join(lines))
    write_text(root / "CellCycle/.DS_Store", "")
    return truth


def simulate_negative(root: Path) -> None:
    """Write mosaics, one a phase and channel, as another copy of these cells is kept."""
    for phase in ("Anaphase", "G1"):
        rows: dict[str, list[npt.NDArray[np.uint8]]] = {}
        for channel, plane in _paint(_optics.generator(0, "bbbc048", phase), phase):
            rows.setdefault(channel, []).append(plane)
        for channel, planes in rows.items():
            mosaic = np.hstack(planes * 3).astype(np.uint16)
            _writing.write_tiff(root / f"images/Experiment_1/{phase}/{channel}_CP.tif", mosaic)


def _phases(cells: int) -> Iterator[str]:
    """Yield a phase a cell, such that any first n cells have nearly the shares."""
    given = dict.fromkeys(_SHARES, 0)
    for _ in range(cells):
        phase = min(_SHARES, key=lambda one: ((given[one] + 0.5) / _SHARES[one], one))
        given[phase] += 1
        yield phase


def _paint(rng: np.random.Generator, phase: str) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    radius, apart, length, width, bright = _SHAPES[phase]
    scale = rng.normal(1, 0.08)
    angle = rng.uniform(0, 2 * np.pi)
    dy, dx = np.mgrid[:_SIDE, :_SIDE] - (_SIDE / 2 + rng.normal(0, 1.2, 2)[:, None, None])
    along, across = (
        (dx * np.cos(angle) + dy * np.sin(angle)) / scale,
        (dy * np.cos(angle) - dx * np.sin(angle)) / scale,
    )
    across = np.abs(across) - apart if apart else across
    distance = np.hypot(along, across * 1.08) / radius
    if phase == "Anaphase":  # the halves still share one body
        distance = np.hypot(along, np.maximum(across, 0) * 1.3) / radius
    dna = np.exp(-(((along / length) ** 2 + (across / width) ** 2) ** 1.3))
    if phase in _CLUMPY:
        dna = dna * np.clip(1 + 0.28 * _optics.texture(rng, (_SIDE, _SIDE), period=9), 0.2, 2)
    for channel, plane, gain, background in (
        ("Ch3", rng.uniform(0.9, 1.4) + _brightfield(rng, distance), 90.0, 0.0),
        ("Ch4", dna * bright * rng.lognormal(0, 0.1), 230.0, 8.0),
        ("Ch6", _darkfield(rng, distance, dx), 130.0, rng.uniform(20, 45)),
    ):
        counts = _optics.expose(
            rng, plane.astype(np.float32), gain=gain, background=background, top=255, read_noise=1.5
        )
        yield channel, counts.astype(np.uint8)


def _brightfield(rng: np.random.Generator, distance: npt.NDArray[np.float64]) -> _optics.FloatPlane:
    """Draw a dark halo around a bright rim, and grains of both signs inside."""
    halo = np.exp(-(((distance - 1.18) / 0.2) ** 2))
    rim = np.exp(-(((distance - 0.88) / 0.15) ** 2))
    grains = _optics.texture(rng, (_SIDE, _SIDE), period=5) * (distance < 0.85)
    light = 0.6 * rim - 0.75 * halo + 0.2 * grains * rng.uniform(0.6, 1.6)
    return np.asarray(light, np.float32)


def _darkfield(
    rng: np.random.Generator, distance: npt.NDArray[np.float64], dx: npt.NDArray[np.float64]
) -> _optics.FloatPlane:
    """Draw a black disc with sparkling grains, most of them on the side of the light."""
    sparks = np.maximum(_optics.texture(rng, (_SIDE, _SIDE), period=4) - 1.2, 0)
    lit = np.exp(-(((distance - 0.85) / 0.35) ** 2)) * np.clip(0.75 - dx / 18, 0.1, 1.5)
    return np.asarray(sparks * lit - 0.25 * (distance < 1), np.float32)
