"""Simulated BBBC010: worms in wells, fluorescence (w1) and transmitted light (w2).

Worms of columns 01-12 live: bent and dark in fluorescence. Those of 13-24 are dead: straight and
bright. Two folders of masks lie beside the images.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf.simulation import _optics, _writing

MOST = 100  # wells A01..E04
_SHAPE = (520, 696)
_IMAGES = "BBBC010_v2_images"
_PREFIX = "1649_1109_0003_Amp5-1_B_20070424"
_STEPS = 110  # discs a worm is drawn with
_CENTER, _HALF = (300.0, 360.0), 205.0  # pixels; the well is a square with round corners

_Line = npt.NDArray[np.float64]  # one value a disc


def simulate(root: Path, *, fields: int, seed: int) -> dict[str, tuple[str, ...]]:
    """Write `fields` wells, half of them live while both kinds are left."""
    truth: dict[str, tuple[str, ...]] = {}
    wells = _writing.WELLS[:MOST]
    wells.sort(key=lambda well: (well[0], (int(well[1:]) - 1) % 12, well))  # A01 A13 A02 A14 ...
    for well in wells[:fields]:
        live = int(well[1:]) <= 12
        rng = _optics.generator(seed, "bbbc010", well)
        worms, glow = _worms(rng, live)
        planes = {"w1": _fluorescence(rng, glow), "w2": _transmitted(rng, worms)}
        for channel, counts in planes.items():
            name = f"{_PREFIX}_{well}_{channel}_{_writing.guid(seed, well, channel).upper()}.tif"
            _writing.write_tiff(root / _IMAGES / name, counts)
            truth[f"{_IMAGES}/{name}"] = ("ampicillin", "live") if live else ("dead",)
        _write_masks(root, well, worms)
    return truth


def simulate_negative(root: Path) -> None:
    """Write the two mask archives alone."""
    for well in ("A01", "C04"):
        worms, _ = _worms(_optics.generator(0, "bbbc010", well), live=True)
        _write_masks(root, well, worms)


def _write_masks(root: Path, well: str, worms: _optics.FloatPlane) -> None:
    mask = np.where(worms > 0, 255, 0).astype(np.uint8)
    _writing.write_png(root / f"BBBC010_v1_foreground/{well}_binary.png", mask)
    each = root / f"BBBC010_v1_foreground_eachworm/{well}_01_ground_truth.png"
    _writing.write_png(each, mask)


def _worms(rng: np.random.Generator, live: bool) -> tuple[_optics.FloatPlane, _optics.FloatPlane]:
    """Draw worms as discs along bent lines; return depth (0 outside, 1 amid) and dead stain."""
    depth, glow = (np.zeros(_SHAPE, np.float32) for _ in range(2))
    for _ in range(int(rng.integers(9, 16))):
        dead = rng.random() < (0.12 if live else 0.85)
        length, width = rng.uniform(85, 115), rng.uniform(3.8, 5.2)
        along = np.linspace(0, 1, _STEPS)
        bend = rng.uniform(0.1, 0.4) if dead else rng.uniform(0.7, 1.7)
        heading = rng.uniform(0, 2 * np.pi) + bend * np.sin(
            rng.uniform(2, 5) * along + rng.uniform(0, 6)
        )
        start = np.array(_CENTER) + rng.uniform(-0.78, 0.78, 2) * _HALF
        y = start[0] + np.cumsum(np.sin(heading)) * length / _STEPS
        x = start[1] + np.cumsum(np.cos(heading)) * length / _STEPS
        taper = width * np.minimum(1, 4.5 * np.minimum(along + 0.06, 1.1 - along)) ** 0.6
        bright = rng.uniform(0.4, 1.3) if dead else 0.02
        _draw(depth, y, x, taper, np.ones(_STEPS))
        _draw(glow, y, x, taper, bright * (0.7 + 0.3 * np.sin(along * 40 + bend) ** 2))
    inside = _well() > 0
    return depth * inside, glow * inside


def _draw(plane: _optics.FloatPlane, y: _Line, x: _Line, radius: _Line, value: _Line) -> None:
    for one_y, one_x, one, bright in zip(y, x, radius, value, strict=True):
        at = _optics.window(_SHAPE, one_y, one_x, one)
        rows, columns = np.ogrid[at]
        squared = ((rows - one_y) ** 2 + (columns - one_x) ** 2) / one**2
        np.maximum(plane[at], bright * np.sqrt(np.maximum(1 - squared, 0)), out=plane[at])


def _well() -> _optics.FloatPlane:
    """Return how much light falls where: 1 in the well's middle, 0 outside of the well."""
    y = (np.arange(_SHAPE[0], dtype=np.float32)[:, None] - _CENTER[0]) / _HALF
    x = (np.arange(_SHAPE[1], dtype=np.float32)[None, :] - _CENTER[1]) / _HALF
    edge = (np.abs(y) ** 5 + np.abs(x) ** 5) ** 0.2
    inside = np.clip((1 - edge) * _HALF / 3, 0, 1)
    return np.asarray(inside * (1 - 0.3 * np.minimum(y * y + x * x, 1)), np.float32)


def _transmitted(rng: np.random.Generator, worms: _optics.FloatPlane) -> _optics.IntPlane:
    """Worms absorb light, most at their rims, and are grainy inside."""
    grains = _optics.texture(rng, _SHAPE, period=5)
    rim = np.exp(-(((worms - 0.35) / 0.3) ** 2)) * (worms > 0)
    dark = (worms > 0) * (0.42 + 0.06 * grains) + 0.22 * rim
    light = _well() * np.clip(1 - dark, 0.1, 1)
    return _optics.expose(rng, light, gain=2700, background=92)


def _fluorescence(rng: np.random.Generator, glow: _optics.FloatPlane) -> _optics.IntPlane:
    dust = np.where(rng.random(_SHAPE) < 6e-5, 0.5, 0).astype(np.float32)
    return _optics.expose(
        rng, glow + dust + 0.012 * _well(), gain=1100, background=86, read_noise=2
    )
