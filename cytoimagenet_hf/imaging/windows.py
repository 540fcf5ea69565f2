"""Which windows of a field become crops, and which are refused (paper 2.2; design 5).

Windows are drawn one after another from hashes of the record's id: the k-th never depends on how
many are wanted. A window is named `<quadrant>-<scale>-<draw>`: `ne-4-0` is the first draw of a
quarter-size window in the upper right quadrant.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf.errors import ImageRefusedError
from cytoimagenet_hf.hashing import rank
from cytoimagenet_hf.imaging.intensity import (
    PERCENTILES,
    Distribution,
    Plane,
    Stretched,
    contrast,
    distribution,
    look_up,
    stretch_window,
)

Box = tuple[int, int, int, int]  # x_min, y_min, x_max, y_max; 0-based, end-exclusive

MIN_CROP_SIDE = 70  # pixels; paper 2.2
MIN_SIDE = 32  # pixels; smaller records show nothing that a network could learn from (design 5)
SCALES = (2, 4, 8, 16)  # parts of the field's side: 1, 1/2, 1/4, 1/8 of the quadrant (paper 2.2)
QUADRANTS = ("nw", "ne", "sw", "se")
DRAWS = 3  # tries for one window before it is given up
WHOLE = "whole"
MIN_CONTRAST = 11.5  # block-mean noise units (pure noise: 5); set by eye, docs/labels.md
DARK, BRIGHT = 1.0, 254.0  # mean of 0..255 up to which a window is black, from which it is white


@dataclass(frozen=True, slots=True)
class Rules:
    """Thresholds of windows and refusals."""

    seed: int = 0
    min_crop_side: int = MIN_CROP_SIDE
    min_side: int = MIN_SIDE
    percents: tuple[float, float] = PERCENTILES
    min_contrast: float = MIN_CONTRAST  # 0: contrast is not judged


@dataclass(frozen=True, slots=True)
class Window:
    """A window of a record: its name, its order, and where it lies in the plane."""

    name: str
    order: int  # k: how many windows of the record come before it
    scale: int  # 2, 4, 8, 16: part of the field's side; 1 for a whole record
    box: Box


@dataclass(frozen=True, slots=True)
class Crop:
    """A window after judging: stretched pixels, or the reason for which it was refused.

    A refused window has pixels too where they can be drawn at all, so that people can look at
    what was refused.
    """

    window: Window
    pixels: npt.NDArray[np.uint8] | None  # (height, width)
    contrast: float
    reason: str = ""  # empty: kept


def is_kept_whole(height: int, width: int, rules: Rules) -> bool:
    """Say whether a field is too small to be cut: half of a side is under the least crop side."""
    return min(height, width) // 2 < rules.min_crop_side


def allowed_scales(height: int, width: int, rules: Rules) -> tuple[int, ...]:
    """Scales whose windows keep both sides at or above the least crop side."""
    return tuple(part for part in SCALES if min(height, width) // part >= rules.min_crop_side)


def ranking(record: str, scales: tuple[int, ...], seed: int) -> list[tuple[str, int]]:
    """Rank (quadrant, scale) pairs for the first, second ... window of a record.

    No quadrant, and no allowed scale, comes again while another is unused.
    """
    quadrants = sorted(QUADRANTS, key=lambda one: rank(seed, "quadrant", record, one))
    cycles = -(-len(quadrants) // len(scales))
    ordered = [
        scale
        for cycle in range(cycles)
        for scale in sorted(scales, key=lambda one: rank(seed, "scale", record, cycle, one))
    ]
    return list(zip(quadrants, ordered, strict=False))


def _draw(
    record: str, shape: tuple[int, int], pair: tuple[str, int], draw: int, rules: Rules
) -> tuple[str, Box]:
    """Place a window of (quadrant, scale) by hash; a half has but one place."""
    quadrant, scale = pair
    height, width = shape
    sides = width // scale, height // scale
    halves = width // 2, height // 2
    starts = halves[0] * (quadrant[1] == "e"), halves[1] * (quadrant[0] == "s")
    x, y = (
        start + rank(rules.seed, axis, record, quadrant, scale, draw) % (half - side + 1)
        for axis, start, half, side in zip("xy", starts, halves, sides, strict=True)
    )
    return f"{quadrant}-{scale}-{draw}", (x, y, x + sides[0], y + sides[1])


def crop_record(plane: Stretched, record: str, wanted: int, rules: Rules) -> list[Crop]:
    """Cut the wanted windows out of a field one after another, and judge each.

    A refused half takes the next quadrant that holds no half yet, a smaller window another place
    in its quadrant; three draws in all. No box comes twice, and the k-th window never depends on
    how many are wanted.

    Args:
        plane: the normalized record.
        record: its id.
        wanted: windows wanted, 1 to 4.
        rules: thresholds and seed.

    Returns:
        Kept and refused crops in the order in which they were drawn. A small field gives one
        crop, `whole`.
    """
    if is_kept_whole(*plane.shape, rules):
        return [whole_record(plane, rules)]
    ranked = ranking(record, allowed_scales(*plane.shape, rules), rules.seed)
    crops: list[Crop] = []
    for order, pair in enumerate(ranked[:wanted]):
        turn = _from(pair[0], [quadrant for quadrant, _ in ranked])
        for draw in range(DRAWS):
            seen = {crop.window.box for crop in crops}
            # A half is fixed by its quadrant: it moves on to one that holds no half yet.
            quadrants = turn if pair[1] == SCALES[0] else turn[:1]
            drawn = [
                _draw(record, plane.shape, (quadrant, pair[1]), draw, rules)
                for quadrant in quadrants
            ]
            fresh = [(name, box) for name, box in drawn if box not in seen]
            if not fresh:
                continue
            name, box = fresh[0]
            crops.append(_cut(plane, Window(name, order, pair[1], box), rules))
            if not crops[-1].reason:
                break
    return crops


def _from(first: str, ring: list[str]) -> list[str]:
    """Turn a ring of quadrants so that it begins with `first`."""
    at = ring.index(first)
    return ring[at:] + ring[:at]


def check_size(height: int, width: int, rules: Rules) -> None:
    """Refuse a record that is too small to show anything.

    Raises:
        ImageRefusedError: a side is under `rules.min_side`.
    """
    if min(height, width) < rules.min_side:
        raise ImageRefusedError("too small", f"{height} x {width}, least side {rules.min_side}")


def whole_record(plane: Stretched, rules: Rules) -> Crop:
    """Keep a record whole, stretched once (small fields, cells cut out by a box)."""
    height, width = plane.shape
    window = Window(WHOLE, 0, 1, (0, 0, width, height))
    seen = contrast(plane)
    counted = distribution(plane.raw)
    reason = _emptiness(counted, plane) or _faint(seen, rules)
    pixels = look_up(plane.raw, plane.value_of, np.uint8, counted=counted)
    return Crop(window, pixels, seen, reason)


def _cut(plane: Stretched, window: Window, rules: Rules) -> Crop:
    """Judge a window and stretch it a second time."""
    x_min, y_min, x_max, y_max = window.box
    raw: Plane = plane.raw[y_min:y_max, x_min:x_max]
    counted = distribution(raw)
    low, high = (counted.percentile(percent, plane.value_of) for percent in rules.percents)
    if high <= low:
        return Crop(window, None, 0.0, "binary" if len(counted.values) == 2 else "constant")
    pixels = stretch_window(raw, plane.value_of, low=low, high=high, counted=counted)
    seen = contrast(plane, window.box)
    reason = _emptiness(counted, plane)
    if not reason and counted.percentile(75, plane.value_of) == 0:
        reason = "dim"
    return Crop(window, pixels, seen, reason or _faint(seen, rules))


def _emptiness(counted: Distribution, plane: Stretched) -> str:
    """Name what is wrong with a window by its values alone; empty when nothing is."""
    if len(counted.values) <= 2:
        return "binary" if len(counted.values) == 2 else "constant"
    values = plane.value_of(counted.values)
    mean = float((values * counted.counts).sum()) / counted.pixels
    if mean <= DARK:
        return "all black"
    return "all white" if mean >= BRIGHT else ""


def _faint(seen: float, rules: Rules) -> str:
    return "no contrast" if seen < rules.min_contrast else ""
