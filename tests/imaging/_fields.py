"""Planes made for tests of windows: textured everywhere, black in chosen quadrants."""

import numpy as np

from cytoimagenet_hf.imaging.intensity import normalize


def textured(height, width, dtype=np.uint16, seed=0):
    """A plane with structure everywhere, so that nothing in it is refused."""
    rng = np.random.default_rng(seed)
    plane = rng.integers(100, 200, (height, width))
    plane[::9, ::7] += 3000 if np.dtype(dtype).itemsize > 1 else 50
    return plane.astype(dtype)


def field(height, width, flat=(), seed=0):
    """A normalized textured plane, black in some of its quadrants."""
    plane = textured(height, width, np.uint8, seed)
    for name in flat:
        x, y = corner(name, height, width)
        plane[y : y + height // 2, x : x + width // 2] = 0
    return normalize([("dna", plane)])


def corner(quadrant, height, width):
    """Upper left corner of a quadrant: 0 or floor(side / 2)."""
    return (width // 2 if "e" in quadrant else 0), (height // 2 if "s" in quadrant else 0)
