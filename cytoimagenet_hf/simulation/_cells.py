"""Simulated microscopy: cells on a plate, and the stains that show them.

Nothing here is biology: shapes, sizes and gray levels imitate what the real images look like, and
a `Look` changes them a little for each treatment, so that a model has something to learn.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf.simulation._optics import TILE, FloatPlane, generator, texture, window


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a treatment changes cells; all ones is an untreated field."""

    count: float = 1.0
    size: float = 1.0  # of nuclei
    spread: float = 1.0  # of cell bodies
    stretch: float = 1.0  # of nuclei, along their long axis
    brightness: float = 1.0
    grain: float = 1.0  # strength of the texture inside of nuclei
    mesh: float = 1.0  # period of er and mitochondria
    dying: float = 0.03  # share of small bright nuclei


def look_of(treatment: str) -> Look:
    """Return the look of a treatment: the same for every seed, and far from that of others."""
    if not treatment:
        return Look()
    rng = generator(0, "look", treatment)
    count, size, spread, mesh = rng.choice([0.55, 0.8, 1.25, 1.5], 4)
    return Look(
        count=float(count),
        size=float(size) ** 0.7,
        spread=float(spread) ** 0.5,
        stretch=float(rng.choice([1.0, 1.3, 1.6])),
        brightness=float(rng.choice([0.7, 1.0, 1.5])),
        grain=float(rng.choice([0.4, 1.0, 2.2])),
        mesh=float(mesh),
        dying=float(rng.choice([0.02, 0.1, 0.25])),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """The cells of one field, one value a cell; lengths in pixels, angles in radians."""

    shape: tuple[int, int]  # height and width of the field
    y: npt.NDArray[np.float64]
    x: npt.NDArray[np.float64]
    angle: npt.NDArray[np.float64]
    long: npt.NDArray[np.float64]  # half axes of the nucleus
    short: npt.NDArray[np.float64]
    bend: npt.NDArray[np.float64]  # how far the nucleus is from an ellipse
    body: npt.NDArray[np.float64]  # radius of the cell body
    bright: npt.NDArray[np.float64]


def grow(
    rng: np.random.Generator,
    shape: tuple[int, int],
    count: float,  # before the look changes it; fewer where they don't fit
    *,
    radius: float = 13.0,
    look: Look | None = None,
) -> Cells:
    """Scatter about `count` cells over a field, densely in some places and not in others."""
    look = look or Look()
    wanted = max(1, round(count * look.count))
    radius = radius * look.size
    y, x = _scatter(rng, shape, wanted, gap=1.7 * radius)
    n = len(y)
    dying = rng.random(n) < look.dying
    long = radius * rng.lognormal(0.08, 0.16, n) * look.stretch**0.5
    short = long * rng.uniform(0.55, 0.95, n) / look.stretch
    return Cells(
        shape=shape,
        y=y,
        x=x,
        angle=rng.uniform(0, np.pi, n),
        long=np.where(dying, long * 0.45, long),
        short=np.where(dying, short * 0.5, short),
        bend=rng.normal(0, 0.1, n),
        body=radius * 3.1 * look.spread * rng.lognormal(0, 0.15, n),
        bright=look.brightness * rng.lognormal(-0.05, 0.22, n) * np.where(dying, 2.0, 1.0),
    )


def nuclei(rng: np.random.Generator, cells: Cells, *, grain: float = 1.0) -> FloatPlane:
    """Paint the nuclei: bean-shaped, soft at the rim, mottled inside."""
    plane = np.zeros(cells.shape, np.float32)
    mottle = 1 + 0.09 * grain * texture(rng, cells.shape, period=8)
    for i, at, u, v in _around(cells, cells.long * 1.35 + 2):
        a, b = cells.long[i], cells.short[i]
        v = v + cells.bend[i] * u * u / a
        distance = np.sqrt((u / a) ** 2 + (v / b) ** 2)
        inside = _soft((1 - distance) * b / 1.6 + 0.5)
        dome = 0.75 + 0.25 * np.clip(1 - distance, 0, 1)
        np.maximum(plane[at], inside * dome * mottle[at] * cells.bright[i], out=plane[at])
    return plane


@dataclass(frozen=True, slots=True, kw_only=True)
class Bodies:
    """What the stains of the cell body are mixed from; planes of the field's shape, 0..1."""

    inside: FloatPlane
    rim: FloatPlane
    fiber: FloatPlane  # stress fibers
    near: FloatPlane  # close to the nucleus


def bodies(rng: np.random.Generator, cells: Cells) -> Bodies:
    """Lay out the cell bodies; a pixel belongs to the cell it is deepest in.

    They are smooth, so they are drawn at half resolution.
    """
    half = (-(-cells.shape[0] // 2), -(-cells.shape[1] // 2))
    maps = np.zeros((4, *half), np.float32)
    warp = np.maximum(1 + 0.1 * texture(rng, half, period=22), 0.82)  # no cell is an ellipse
    threads = texture(rng, (TILE, TILE), period=6, stretch=7)
    for i, at, u, v in _around(cells, cells.body * 1.65, step=2):
        radius = cells.body[i] * (1 + 0.15 * u / (np.abs(u) + np.abs(v) + 1))
        distance = np.sqrt((u * 0.85) ** 2 + (v * 1.15) ** 2) / radius * warp[at]
        inside = _soft((1 - distance) * 2.2)
        owned = inside > maps[0][at]
        parts = (
            inside,
            np.exp(-(((distance - 0.9) / 0.09) ** 2)),
            np.clip(0.35 + 0.5 * _turned(threads, i, u, v), 0, 1.6) * inside,
            np.exp(-np.maximum(distance - 0.25, 0) * 3.5) * inside,
        )
        for full, part in zip(maps, parts, strict=True):
            full[at][owned] = part[owned]
    inside, rim, fiber, near = (_double(one, cells.shape) for one in maps)
    return Bodies(inside=inside, rim=rim, fiber=fiber, near=near)


def spots(
    rng: np.random.Generator, cells: Cells, *, each: int, radius: float, offset: float
) -> FloatPlane:
    """Paint some round spots a cell, about `offset` nuclear radii away from its center."""
    plane = np.zeros(cells.shape, np.float32)
    n = len(cells.y)
    turn = np.repeat(rng.uniform(0, 2 * np.pi, n), each) + rng.normal(0, 0.7, n * each)
    away = np.repeat(cells.short, each) * offset * rng.uniform(0.5, 1.3, n * each)
    y = np.repeat(cells.y, each) + away * np.sin(turn)
    x = np.repeat(cells.x, each) + away * np.cos(turn)
    size = radius * rng.uniform(0.6, 1.3, n * each)
    for one_y, one_x, one in zip(y, x, size, strict=True):
        at = window(cells.shape, one_y, one_x, 2.5 * one)
        rows, columns = np.ogrid[at]
        squared = ((rows - one_y) ** 2 + (columns - one_x) ** 2) / one**2
        np.maximum(plane[at], np.exp(-squared), out=plane[at])
    return plane


def label_mask(cells: Cells) -> npt.NDArray[np.uint16]:
    """Number the nuclei's pixels 1, 2 ...: what the sources ship as ground truth."""
    mask = np.zeros(cells.shape, np.uint16)
    for i, at, u, v in _around(cells, cells.long + 2):
        mask[at][(u / cells.long[i]) ** 2 + (v / cells.short[i]) ** 2 <= 1] = i + 1
    return mask


def _scatter(
    rng: np.random.Generator, shape: tuple[int, int], count: int, gap: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Draw points that keep a distance, fewer of them where the field's density is low."""
    tries = rng.random((count * 12, 3)) * (shape[0], shape[1], 1)
    wave = rng.uniform(0, 2 * np.pi, 2)
    dense = 0.6 + 0.4 * np.sin(tries[:, 0] / 110 + wave[0]) * np.sin(tries[:, 1] / 110 + wave[1])
    kept = np.empty((count, 2))
    found = 0
    for point in tries[tries[:, 2] < dense][:, :2]:
        if found == count:
            break
        if not found or np.min(((kept[:found] - point) ** 2).sum(1)) > gap * gap:
            kept[found] = point
            found += 1
    return kept[:found, 0], kept[:found, 1]


def _around(
    cells: Cells, reach: npt.NDArray[np.float64], step: int = 1
) -> Iterator[tuple[int, tuple[slice, slice], FloatPlane, FloatPlane]]:
    """Yield each cell's number, its window, and the pixels' places along its two axes."""
    for i, (y, x) in enumerate(zip(cells.y, cells.x, strict=True)):
        at = window(cells.shape, y, x, reach[i], step)
        rows, columns = np.ogrid[at]
        dy = (rows * step - y).astype(np.float32)
        dx = (columns * step - x).astype(np.float32)
        cos, sin = np.float32(np.cos(cells.angle[i])), np.float32(np.sin(cells.angle[i]))
        yield i, at, dx * cos + dy * sin, dy * cos - dx * sin


def _turned(tile: FloatPlane, number: int, u: FloatPlane, v: FloatPlane) -> FloatPlane:
    """Turn a texture so that its threads lie along u; another part of it for each cell."""
    along = np.rint(u).astype(np.int64) + 37 * number
    across = np.rint(v).astype(np.int64) + 101 * number
    return tile[across % TILE, along % TILE]


def _soft(ramp: FloatPlane) -> FloatPlane:
    """Round a ramp off to an S between 0 and 1."""
    ramp = np.clip(ramp, 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp), np.float32)


def _double(plane: FloatPlane, shape: tuple[int, int]) -> FloatPlane:
    """Enlarge twice, each new pixel the mean of the two nearest along each axis."""
    for axis in (0, 1):
        plane = np.repeat(plane, 2, axis=axis)
        following = np.roll(plane, -1, axis=axis)
        if axis == 0:  # the last row has no next one; it must not take the first
            following[-1] = plane[-1]
        else:
            following[:, -1] = plane[:, -1]
        plane = 0.5 * (plane + following)
    return plane[: shape[0], : shape[1]]
