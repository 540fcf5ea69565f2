"""Simulated crops of single cells, and the patterns that a tagged protein makes in them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cytoimagenet_hf.simulation import _cells, _optics
from cytoimagenet_hf.simulation._optics import FloatPlane

SIDE = 64  # pixels
_SHAPE = (SIDE, SIDE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell in the middle of a crop."""

    cells: _cells.Cells
    nucleus: FloatPlane
    body: _cells.Bodies


def grow(rng: np.random.Generator, *, radius: float) -> Cell:
    """Grow a cell whose nucleus has about this radius in pixels, its body three times as much."""
    size = radius * rng.lognormal(0, 0.08)
    cells = _cells.Cells(
        shape=_SHAPE,
        y=rng.normal(SIDE / 2, 1.5, 1),
        x=rng.normal(SIDE / 2, 1.5, 1),
        angle=rng.uniform(0, np.pi, 1),
        long=np.array([size * 1.1]),
        short=np.array([size * rng.uniform(0.7, 0.95)]),
        bend=rng.normal(0, 0.1, 1),
        body=np.array([size * 3.1]),
        bright=np.ones(1),
    )
    return Cell(cells=cells, nucleus=_cells.nuclei(rng, cells), body=_body(rng, cells))


def _body(rng: np.random.Generator, cells: _cells.Cells) -> _cells.Bodies:
    """Lay out the body as `_cells.bodies` does for a field, without textures: crops are many."""
    y, x = np.mgrid[:SIDE, :SIDE] - np.array([cells.y[0], cells.x[0]])[:, None, None]
    turn = np.arctan2(y, x)
    wave = sum(
        rng.normal(0, 0.09 / lobes) * np.cos(lobes * turn + rng.uniform(0, 2 * np.pi))
        for lobes in (2, 3, 5)
    )
    distance = np.hypot(y, x) / (cells.body[0] * (1 + wave))
    inside = np.clip((1 - distance) * 4, 0, 1)
    parts = {
        "inside": inside,
        "rim": np.exp(-(((distance - 0.9) / 0.09) ** 2)),
        "fiber": np.zeros_like(inside),
        "near": np.exp(-np.maximum(distance - 0.25, 0) * 3.5) * inside,
    }
    return _cells.Bodies(**{name: part.astype(np.float32) for name, part in parts.items()})


def protein(rng: np.random.Generator, cell: Cell, pattern: str) -> FloatPlane:
    """Paint a protein in one of `PATTERNS`; cells differ in how much of it they hold."""
    plane = PATTERNS[pattern](rng, cell) + 0.08 * cell.body.inside
    return np.asarray(plane * rng.lognormal(0, 0.2), np.float32)


def _envelope(_: np.random.Generator, cell: Cell) -> FloatPlane:
    soft = _optics.blur(cell.nucleus, 1)
    return np.asarray(np.exp(-(((soft - 0.45) / 0.18) ** 2)), np.float32)


def _mesh(rng: np.random.Generator, cell: Cell) -> FloatPlane:
    return np.asarray(cell.body.near * (0.25 + _optics.ridges(rng, _SHAPE, period=6)))


def _threads(rng: np.random.Generator, cell: Cell) -> FloatPlane:
    threads = _optics.texture(rng, _SHAPE, period=5, stretch=5)
    return np.asarray(cell.body.inside * np.clip(0.2 + 0.6 * threads, 0, 2), np.float32)


def _smooth(_: np.random.Generator, cell: Cell) -> FloatPlane:
    return np.asarray(0.7 * cell.body.inside * (1 - 0.8 * np.minimum(cell.nucleus, 1)))


def _spots(each: int, radius: float, offset: float, times: int = 1) -> Callable[..., FloatPlane]:
    """Make a painter of round spots, on as many sides of the nucleus as `times` says."""

    def paint(rng: np.random.Generator, cell: Cell) -> FloatPlane:
        sides = [
            _cells.spots(rng, cell.cells, each=each, radius=radius, offset=offset)
            for _ in range(times)
        ]
        return np.asarray(np.maximum.reduce(sides) * cell.body.inside)

    return paint


PATTERNS: dict[str, Callable[[np.random.Generator, Cell], FloatPlane]] = {
    "nucleus": lambda _, cell: cell.nucleus,
    "envelope": _envelope,
    "rim": lambda _, cell: cell.body.rim,
    "smooth": _smooth,
    "mesh": _mesh,
    "threads": _threads,
    "stack": _spots(9, 2.4, 1.2),
    "dots": _spots(7, 1.3, 1.7, times=5),
    "blobs": _spots(2, 3.4, 1.5, times=2),
    "point": _spots(1, 1.8, 0.9),
}
