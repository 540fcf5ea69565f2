"""Textures, focus and camera of the simulated microscope."""

import numpy as np
import pytest

from cytoimagenet_hf.simulation import _optics


def test_generators_depend_on_every_name():
    """Each part of a name changes the stream, and equal names give equal streams."""
    draws = [
        _optics.generator(*names).random()
        for names in ((0, "a", "b"), (0, "a", "b"), (0, "a", "c"), (1, "a", "b"), (0, "ab"))
    ]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 4


def test_texture_has_mean_0_and_deviation_1():
    """On one whole tile both hold exactly, as it is periodic."""
    noise = _optics.texture(_optics.generator(0), (256, 256), period=8)
    assert noise.mean() == pytest.approx(0, abs=1e-5)
    assert noise.std() == pytest.approx(1, abs=1e-5)


def test_texture_has_no_seam():
    """Where two tiles meet the step is no larger than elsewhere."""
    noise = _optics.texture(_optics.generator(0), (256, 300), period=12)
    steps = np.abs(np.diff(noise, axis=1)).mean(0)
    assert steps[255] < 2 * np.median(steps)


def test_blur_keeps_the_sum_and_spreads_as_told():
    """A point of 1 stays 1 in sum; its deviation along an axis is the radius within a tenth."""
    point = np.zeros((101, 101), np.float32)
    point[50, 50] = 1
    spread = _optics.blur(point, 5)
    assert spread.sum() == pytest.approx(1, abs=1e-4)
    deviation = np.sqrt((spread.sum(0) * (np.arange(101) - 50) ** 2).sum())
    assert deviation == pytest.approx(5, rel=0.15)


def test_blur_of_less_than_a_pixel_changes_nothing():
    """Focus within half a pixel returns the plane itself."""
    plane = np.eye(4, dtype=np.float32)
    assert np.array_equal(_optics.blur(plane, 0.4), plane)


@pytest.mark.parametrize(("top", "dtype"), [(255, np.uint8), (4095, np.uint16)])
def test_exposure_clips_at_the_top(top, dtype):
    """Light beyond the range gives the highest count, in the smallest type that holds it."""
    bright = np.full((8, 8), 1e6, np.float32)
    counts = _optics.expose(_optics.generator(0), bright, gain=1, background=0, top=top)
    assert counts.dtype == dtype
    assert (counts == top).all()


def test_noise_grows_with_light():
    """Of 1000 counts a tenth is the variance of shot noise; read noise adds 4 squared."""
    flat = np.full((300, 300), 1000, np.float32)
    counts = _optics.expose(_optics.generator(0), flat, gain=1, background=0).astype(float)
    assert counts.mean() == pytest.approx(1000, abs=1)
    assert counts.var() == pytest.approx(100 + 16, rel=0.05)


def test_windows_stay_within_the_plane():
    """A point in the corner has a window cut off at the border; one outside has none."""
    assert _optics.window((10, 10), 0, 0, 2) == (slice(0, 3), slice(0, 3))
    rows, columns = _optics.window((10, 10), 40, 5, 2)
    assert rows.stop - rows.start == 0
    assert columns == slice(3, 8)
