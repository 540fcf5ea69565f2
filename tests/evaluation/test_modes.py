"""Modes: how channels are scaled, merged and resized, against numbers done by hand or NumPy."""

import numpy as np
import pytest

from cytoimagenet_hf.errors import ImageRefusedError
from cytoimagenet_hf.evaluation.modes import MODES, PAPER_MODES, Mode, parse_mode, prepare


def ramp(dtype, top, count=1001):
    """One row of evenly spaced values from 0 to `top`."""
    return np.linspace(0, top, count).round().astype(dtype).reshape(1, -1)


def test_names_read_back():
    """Every mode is written as it is read; a side comes after an at sign."""
    assert [parse_mode(mode.name) for mode in MODES] == list(MODES)
    assert parse_mode("merge-raw@224") == Mode("merge", "raw", 224)
    assert [mode.name for mode in PAPER_MODES] == [
        "concat-norm", "merge-norm", "concat-raw", "merge-raw",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["concat", "norm-concat", "concat-norm@0", "concat-norm@99999", "concat-norm@x", ""]
)
def test_what_is_no_mode_is_refused(text):
    """Unknown words and sides out of range are bad input."""
    with pytest.raises(ValueError, match=r"mode|resized"):
        parse_mode(text)


def test_norm_stretches_between_percentiles():
    """Of 0..1000 the 0.1 and 99.9 percentiles are 1 and 999: 500 becomes 127.5, ends are cut."""
    planes = ramp(np.uint16, 1000)[None]
    found = prepare(planes, Mode("concat", "norm"))[0, 0]
    assert found.dtype == np.float32
    assert (found[0], found[1], found[500], found[999], found[1000]) == (0, 0, 127.5, 255, 255)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "i4", "f4", "f8"])
def test_norm_equals_float64(dtype):
    """Any depth gives NumPy's stretch in float64, to single precision."""
    planes = np.random.default_rng(0).normal(60, 20, (2, 40, 50)).clip(0, 255).astype(dtype)
    found = prepare(planes, Mode("concat", "norm"))
    for plane, ours in zip(planes.astype(float), found, strict=True):
        low, high = np.percentile(plane, [0.1, 99.9])
        expected = np.clip((plane - low) / (high - low), 0, 1) * 255
        np.testing.assert_allclose(ours, expected, atol=2e-4)


def test_each_channel_is_stretched_alone_before_merging():
    """A dim channel counts as much as a bright one: the mean of two equal stretches."""
    planes = np.stack([ramp(np.uint16, 1000), ramp(np.uint16, 50_000)])
    merged = prepare(planes, Mode("merge", "norm"))
    assert merged.shape == (1, 1, 1001)
    assert merged[0, 0, 500] == pytest.approx(127.5, abs=1e-3)
    assert prepare(planes, Mode("merge", "raw"))[0, 0, 500] == (500 + 25_000) / 2
    for combine in ("concat", "joint"):
        assert prepare(planes, Mode(combine, "norm")).shape == (2, 1, 1001)


def test_raw_passes_counts():
    """16-bit counts go in as they are (protocols 6.8)."""
    planes = np.array([[[0, 300, 65535]]], np.uint16)
    assert prepare(planes, Mode("concat", "raw")).tolist() == [[[0, 300, 65535]]]


@pytest.mark.parametrize(
    ("plane", "expected"),
    [
        (np.array([0, 51, 255], np.uint8), [0, 51, 255]),
        (np.array([0, 13107, 65535], np.uint16), [0, 51, 255]),
        (np.array([0, 0.2, 1], np.float32), [0, 51, 255]),
        (np.array([False, True, True]), [0, 255, 255]),
    ],
)
def test_dtype_divides_by_the_largest_value(plane, expected):
    """A fifth of the range is 51 of 255, whatever the depth."""
    found = prepare(plane.reshape(1, 1, -1), Mode("concat", "dtype"))
    np.testing.assert_allclose(found[0, 0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("plane", "mode", "reason"),
    [
        (np.full((4, 4), 7, np.uint8), "concat-norm", r"constant: channel 1.*both are 7"),
        (np.full((4, 4), np.nan, np.float32), "concat-raw", "not finite: channel 1"),
        (np.full((4, 4), np.inf), "concat-norm", "not finite"),
        (np.full((4, 4), 2.0), "concat-dtype", r"out of range.*not within 0\.\.1"),
        (np.full((4, 4), 1j), "concat-raw", "unsupported depth"),
    ],
)
def test_channels_that_cannot_be_scaled_are_refused(plane, mode, reason):
    """No NaN ever leaves: the channel and the reason are named."""
    good = np.linspace(0, 1, 16).reshape(4, 4).astype(plane.dtype)
    if plane.dtype == np.uint8:
        good = np.arange(16, dtype=np.uint8).reshape(4, 4)
    with pytest.raises(ImageRefusedError, match=reason):
        prepare(np.stack([good, plane]), parse_mode(mode))


def test_no_pixels_are_refused():
    """An empty image, or one without a channel axis, has nothing to embed."""
    for shape in ((1, 0, 4), (0, 4, 4), (4, 4)):
        with pytest.raises(ImageRefusedError, match="no pixels"):
            prepare(np.zeros(shape, np.uint8), MODES[0])


def test_a_constant_channel_is_fine_where_nothing_is_divided():
    """Only `norm` can't scale it; in raw and dtype it is just constant."""
    planes = np.full((1, 4, 4), 51, np.uint8)
    for mode in ("concat-raw", "merge-dtype"):
        assert (prepare(planes, parse_mode(mode)) == 51).all()


def test_resizing_comes_after_scaling():
    """A 4 x 16 image becomes 8 x 8; a flat half stays flat, and values within its range."""
    planes = np.zeros((1, 4, 16), np.uint16)
    planes[..., 8:] = 1000
    found = prepare(planes, parse_mode("concat-norm@8"))
    assert found.shape == (1, 8, 8)
    assert found[0, 0, 0] == 0
    assert found[0, 0, -1] == 255


def test_input_is_left_alone():
    """The paper's function edits its input (protocols 6.12); ours doesn't."""
    planes = np.random.default_rng(0).random((2, 8, 8)).astype(np.float32)
    before = planes.copy()
    for mode in MODES:
        prepare(planes, mode)
    assert np.array_equal(planes, before)
