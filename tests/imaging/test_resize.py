"""Area averaging, held to float arithmetic written out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytoimagenet_hf.imaging.resize import shrink


def shares(old, new):
    """(new, old) matrix: the share of each old pixel in each new one, by overlap of intervals."""
    edges = np.arange(new + 1) * old / new
    left, right = edges[:-1, None], edges[1:, None]
    at = np.arange(old)
    return np.clip(np.minimum(right, at + 1) - np.maximum(left, at), 0, None) / (old / new)


def image(height, width, seed=0):
    """Noise over the whole range with a smooth gradient."""
    rng = np.random.default_rng(seed)
    smooth = np.add.outer(np.linspace(0, 120, height), np.linspace(0, 120, width))
    return (smooth + rng.uniform(0, 15, (height, width))).astype(np.uint8)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 64), st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_longest_side_is_met_and_the_aspect_kept(height, width, longest, seed):
    """The longest side becomes `longest`, the other one the nearest pixel, never less than 1."""
    pixels = image(height, width, seed)
    small = shrink(pixels, longest)
    if max(height, width) <= longest:
        assert np.array_equal(small, pixels)
        return
    assert small.dtype == np.uint8
    assert max(small.shape) == longest
    factor = longest / max(height, width)
    for side, old in zip(small.shape, pixels.shape, strict=True):
        assert side >= 1
        assert abs(side - old * factor) <= 0.5 or side == 1


def away(shape, longest):
    """How far each pixel is from the mean of its area, computed in float64."""
    pixels = image(*shape)
    small = shrink(pixels, longest)
    rows, columns = shares(shape[0], small.shape[0]), shares(shape[1], small.shape[1])
    return small - rows @ pixels.astype(np.float64) @ columns.T


@pytest.mark.parametrize(
    ("shape", "longest"), [((512, 512), 256), ((384, 300), 128), ((768, 1024), 256)]
)
def test_each_pixel_is_the_mean_of_its_block(shape, longest):
    """By 2, 3 and 4 to 1, at most one gray level from blocks averaged in float64."""
    assert np.abs(away(shape, longest)).max() < 1 + 1e-9


@pytest.mark.parametrize(
    ("shape", "longest"),
    [((520, 696), 256), ((347, 260), 128), ((300, 257), 256), ((71, 280), 128)],
)
def test_each_pixel_is_the_mean_of_its_area(shape, longest):
    """At odd ratios a pixel at the edge of two areas is shared: at most one gray level off."""
    assert np.abs(away(shape, longest)).max() < 1 + 1e-9


def test_two_by_two_blocks_become_their_mean():
    """0, 100, 100, 200 is 100; four times 7 is 7."""
    pixels = np.array([[0, 100, 7, 7], [100, 200, 7, 7]], np.uint8)
    assert shrink(pixels, 2).tolist() == [[100, 7]]


@pytest.mark.parametrize("shape", [(256, 256), (1, 1), (255, 40), (1, 256)])
def test_small_crops_stay_as_they_are(shape):
    """Nothing is ever enlarged; a side of exactly `longest` is no reason to touch a crop."""
    pixels = image(*shape)
    assert shrink(pixels, 256) is pixels


def test_one_pixel_more_is_shrunk():
    """257 pixels are more than 256."""
    assert shrink(image(257, 100), 256).shape == (256, 100)


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
def test_a_flat_crop_stays_flat(value):
    """Rounding in two passes leaves each constant as it is."""
    assert (shrink(np.full((301, 203), value, np.uint8), 128) == value).all()


def test_a_line_is_kept_one_pixel_high():
    """1 x 1000 shrinks to 1 x 100: the other side never becomes 0."""
    assert shrink(image(1, 1000), 100).shape == (1, 100)
    assert shrink(image(1000, 1), 100).shape == (100, 1)


def test_views_and_read_only_crops_are_taken():
    """A transposed, read-only view gives what its copy gives."""
    pixels = image(300, 280)[::-1].T
    copy = pixels.copy()
    pixels.flags.writeable = False
    assert np.array_equal(shrink(pixels, 128), shrink(copy, 128))
