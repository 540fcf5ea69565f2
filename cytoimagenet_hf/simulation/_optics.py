"""Simulated microscopy: textures, focus and the camera.

Planes are float32; 0 is background and about 1 the brightness of a common cell until `expose`
turns them into counts. All randomness comes from the generator that is handed in.
"""

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf.hashing import rank

FloatPlane = npt.NDArray[np.float32]
IntPlane = npt.NDArray[np.uint8 | np.uint16]
TILE = 256  # pixels; side of the periodic texture that is laid over a plane


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return the generator of one simulated thing, whatever else is simulated before it."""
    return np.random.default_rng(rank(seed, "simulation", *names))


def texture(
    rng: np.random.Generator, shape: tuple[int, int], *, period: float, stretch: float = 1.0
) -> FloatPlane:
    """Return noise of mean 0 and deviation 1 whose bumps are about `period` pixels apart.

    With `stretch` the bumps are that many times longer along x.
    It is made as one periodic tile in frequency space, so the seams don't show.
    """
    frequency = np.hypot(np.fft.fftfreq(TILE)[:, None], stretch * np.fft.rfftfreq(TILE)[None, :])
    frequency[0, 0] = np.inf  # no mean
    ring = np.exp(-((np.log2(frequency * period) / 0.8) ** 2)) / frequency
    phase = rng.random(ring.shape) * 2 * np.pi
    tile = np.fft.irfft2(ring * np.exp(1j * phase), s=(TILE, TILE))
    tile = (tile / tile.std()).astype(np.float32)
    repeats = (-(-shape[0] // TILE), -(-shape[1] // TILE))
    return np.ascontiguousarray(np.tile(tile, repeats)[: shape[0], : shape[1]])


def ridges(rng: np.random.Generator, shape: tuple[int, int], *, period: float) -> FloatPlane:
    """Return a net of bright threads, 0..1, with meshes of about `period` pixels."""
    noise = texture(rng, shape, period=period)
    return np.asarray(np.exp(-((noise * 1.6) ** 2)), np.float32)


def blur(plane: FloatPlane, radius: float) -> FloatPlane:
    """Put a plane out of focus: three running means, close to a Gaussian of this deviation."""
    width = round(radius)
    if width < 1:
        return plane
    for _ in range(3):
        for axis in (0, 1):
            plane = _running_mean(plane, width, axis)
    return plane


def expose(
    rng: np.random.Generator,
    plane: FloatPlane,
    *,
    gain: float,
    background: float,
    top: int = 4095,
    read_noise: float = 4.0,
) -> IntPlane:
    """Turn brightness into counts of a camera: uneven background, shot and read noise, clipping.

    Shot noise is drawn as a normal of the same variance (a tenth of the signal, as one count is
    several electrons).

    Returns:
        (height, width) uint8 where `top` is at most 255, else uint16.
    """
    height, width = plane.shape
    tilt_y, tilt_x = rng.uniform(-0.08, 0.08, 2)
    uneven = 1 + tilt_y * np.linspace(-1, 1, height)[:, None]
    uneven = uneven + tilt_x * np.linspace(-1, 1, width)[None, :]
    mean = (background * uneven).astype(np.float32) + np.float32(gain) * plane
    noise = rng.standard_normal(plane.shape, dtype=np.float32)
    noisy = mean + noise * np.sqrt(np.maximum(mean, 0) * 0.1 + read_noise**2, dtype=np.float32)
    counts = np.clip(np.rint(noisy), 0, top)
    whole: IntPlane = counts.astype(np.uint8 if top <= 255 else np.uint16)
    return whole


def window(
    shape: tuple[int, int], y: float, x: float, reach: float, step: int = 1
) -> tuple[slice, slice]:
    """Return the part of a plane within `reach` of a point, in units of every `step`-th pixel."""
    top, left = max(0, int((y - reach) // step)), max(0, int((x - reach) // step))
    bottom, right = int((y + reach) // step) + 1, int((x + reach) // step) + 1
    high, wide = -(-shape[0] // step), -(-shape[1] // step)
    return slice(top, max(top, min(bottom, high))), slice(left, max(left, min(right, wide)))


def _running_mean(plane: FloatPlane, width: int, axis: int) -> FloatPlane:
    """Average 2 * width + 1 neighbors along an axis; the border is repeated outwards."""
    pad = [(0, 0), (0, 0)]
    pad[axis] = (width + 1, width)
    sums = np.pad(plane, pad, mode="edge").cumsum(axis=axis, dtype=np.float64)
    size = 2 * width + 1
    ends = np.arange(size, sums.shape[axis])
    mean = (np.take(sums, ends, axis) - np.take(sums, ends - size, axis)) / size
    return np.asarray(mean, np.float32)
