"""Percentiles, stretching, merging and contrast, held to plain float64 arithmetic."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cytoimagenet_hf.errors import ImageRefusedError
from cytoimagenet_hf.imaging.intensity import (
    Stretched,
    as_float,
    contrast,
    distribution,
    look_up,
    noise_of,
    normalize,
    percentiles,
    stretch_window,
)
from cytoimagenet_hf.imaging.windows import MIN_CONTRAST
from tests.imaging import oracle

DTYPES = ("uint8", "int8", "uint16", ">u2", "int16", "uint32", "int32", "float16", "float32", "f8")
PERCENTS = (0, 0.01, 0.1, 0.5, 1, 25, 33.3, 50, 66.6, 75, 99, 99.7, 99.9, 99.99, 100)
several = settings(max_examples=60, deadline=None)


@st.composite
def vectors(draw):
    """Arrays of 1 to 60 pixels over a dtype's whole range, or with few values and many ties."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    whole = None
    if dtype.kind == "f":
        top = {2: 2.0**14, 4: 2.0**100, 8: 2.0**900}[dtype.itemsize]
        whole = st.floats(-top, top, width=dtype.itemsize * 8)
    if draw(st.booleans()):
        whole = st.integers(0, 4).map(float if dtype.kind == "f" else int)
    return draw(arrays.arrays(dtype, st.integers(1, 60), elements=whole))


@given(vectors(), st.lists(st.floats(0, 100), max_size=5))
@settings(max_examples=400, deadline=None)
def test_percentiles_equal_numpys_to_the_last_bit(pixels, more):
    """Any dtype, ties, one pixel, wide ranges: each percentile is the float that NumPy gives."""
    percents = [*PERCENTS, *more]
    ours = percentiles(pixels, percents)
    theirs = np.percentile(pixels.astype(np.float64), percents).tolist()
    assert list(ours) == theirs


@pytest.mark.parametrize("dtype", DTYPES)
def test_percentiles_of_a_plane_equal_numpys(dtype):
    """The same on 90,000 noisy pixels, where interpolation falls on both halves of a step."""
    rng = np.random.default_rng(3)
    pixels = rng.normal(60, 20, (300, 300)).astype(dtype)
    theirs = np.percentile(pixels.astype(np.float64), PERCENTS).tolist()
    assert list(percentiles(pixels, PERCENTS)) == theirs


@pytest.mark.parametrize("span", [(1 << 20) - 1, 1 << 20])
@pytest.mark.parametrize("lowest", [0, -5, 1 << 30])
def test_counting_and_sorting_agree(span, lowest):
    """Integers are counted up to a range of 2^20 and sorted beyond it, with one result."""
    pixels = np.array([0, 1, 1, span // 3, span]) + lowest
    counted = distribution(pixels)
    assert counted.values.tolist() == [lowest, lowest + 1, lowest + span // 3, lowest + span]
    assert counted.counts.tolist() == [1, 2, 1, 1]
    assert list(percentiles(pixels, PERCENTS)) == np.percentile(pixels, PERCENTS).tolist()


def test_half_way_between_two_pixels():
    """The median of 10 and 20 is 15; the 75th percentile of 0, 1, 2, 3, 4 is 3."""
    assert percentiles(np.array([20, 10], np.uint8), [50]) == (15.0,)
    assert percentiles(np.array([4, 0, 3, 1, 2], np.uint16), [75]) == (3.0,)


def test_percentiles_of_nothing_are_an_error():
    """An empty plane has no percentiles."""
    with pytest.raises(ValueError, match="no pixels"):
        percentiles(np.zeros((0, 5), np.uint8))


def plane(dtype, *, colors=False, seed=0, shape=(61, 83)):
    """A plane that uses much of its dtype: skewed noise with a bright and a dark patch."""
    rng = np.random.default_rng(seed)
    values = rng.gamma(2.0, 0.1, (*shape, 3) if colors else shape)
    values[5:15, 5:25] += 0.5
    values[20:30, 40:60] *= 0.1
    values = np.clip(values / values.max(), 0, 1)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return ((values - 0.3) * 5000).astype(kind)
    info = np.iinfo(kind)
    return (values * (float(info.max) - info.min) * 0.999 + info.min).astype(kind)


@pytest.mark.parametrize("colors", [False, True], ids=["gray", "rgb"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_plane_equals_the_float_reference_to_the_last_bit(dtype, colors):
    """Of one plane or RGB, the float values of 0..255 are those of whole-image arithmetic."""
    pixels = plane(dtype, colors=colors)
    ours = normalize([("dna", pixels)])
    assert np.array_equal(ours.value_of(ours.raw), oracle.record([pixels]))
    assert np.array_equal(
        look_up(ours.raw, ours.value_of, np.uint8), oracle.rounded(oracle.record([pixels]))
    )


@given(
    arrays.arrays(
        st.sampled_from(["uint8", "uint16", "int16", "uint32", "int32"]),
        st.tuples(st.integers(4, 9), st.integers(4, 9), st.just(3)) | st.tuples(*[st.just(6)] * 2),
    )
)
@several
def test_any_integers_equal_the_float_reference(pixels):
    """Whatever the integers are, also with wide ranges and few values, the bits are the same."""
    values = oracle.gray(pixels)
    low, high = np.percentile(values, oracle.PERCENTS)
    if len(np.unique(values)) <= 2 or low == high:
        assert refused(pixels) in {"constant", "binary"}
        return
    ours = normalize([("dna", pixels)])
    assert np.array_equal(ours.value_of(ours.raw), oracle.record([pixels]))


@pytest.mark.parametrize("stains", [2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_merged_stains_lie_within_a_gray_level_of_the_float_mean(dtype, stains):
    """Two to seven stains, summed as 16-bit numbers, differ from the float mean by at most 1."""
    planes = [plane(dtype, seed=seed) for seed in range(stains)]
    ours = normalize([(str(one), pixels) for one, pixels in enumerate(planes)])
    assert ours.raw.dtype == np.uint16
    mean = oracle.record(planes)
    assert np.abs(ours.value_of(ours.raw) - mean).max() < 0.02
    merged = look_up(ours.raw, ours.value_of, np.uint8).astype(int)
    assert np.abs(merged - oracle.rounded(mean)).max() <= 1


@pytest.mark.parametrize("stains", [2, 3, 4, 5, 6, 7])
def test_brightest_pixels_of_all_stains_fill_the_scale(stains):
    """Where every stain is saturated the sum is floor(65535 / C) * C, which is 255; dark is 0."""
    ramp = np.tile(np.arange(100, dtype=np.uint16), (100, 1))
    merged = normalize([(str(one), ramp) for one in range(stains)])
    assert (merged.raw.min(), merged.raw.max()) == (0, 65535 // stains * stains)
    assert merged.value_of(merged.raw).max() == 255.0


def test_rgb_is_the_plain_mean_without_overflow():
    """(250 + 251 + 252) / 3 is brighter than (250 + 250 + 250) / 3; a sum in uint8 would wrap."""
    pixels = np.full((40, 40, 3), 250, np.uint8)
    pixels[:20] = 0
    pixels[30:] = (250, 251, 252)
    ours = normalize([("stained", pixels)])
    assert sorted(set(ours.raw.ravel().tolist())) == [0, 750, 753]
    assert ours.value_of(ours.raw)[35, 0] == 255.0


def test_percents_are_parameters():
    """Stretched between 0 and 50 percent, everything from the median up is white."""
    ramp = np.arange(101, dtype=np.uint8).reshape(1, -1).repeat(8, axis=0)
    ours = normalize([("dna", ramp)], percents=(0, 50))
    assert (ours.value_of(ours.raw)[0, 50:] == 255).all()
    assert ours.value_of(ours.raw)[0, 25] == 127.5


def test_rounding_is_half_to_even_and_once():
    """0.5 becomes 0, 1.5 and 2.5 become 2."""
    raw = np.array([[1, 3, 5]], np.uint8)
    assert look_up(raw, lambda values: values / 2, np.uint8).tolist() == [[0, 2, 2]]


@pytest.mark.parametrize("dtype", ["uint8", ">u2", "int16", "uint32", "int64", "float32"])
def test_tables_and_arithmetic_agree(dtype):
    """A plane looked up in a table equals the function computed on each pixel."""
    raw = (np.arange(64).reshape(8, 8) * 3).astype(dtype)
    if np.dtype(dtype).kind == "i":
        raw -= 100
    half = look_up(raw, lambda values: np.abs(values) / 2.0, np.uint16)
    assert np.array_equal(half, np.rint(np.abs(raw.astype(float)) / 2))
    assert half.dtype == np.uint16


def test_floats_are_rounded_a_part_at_a_time(monkeypatch):
    """Cut into parts of one row, a float plane is rounded as a whole one."""
    raw = plane("float32")
    ours = normalize([("dna", raw)])
    whole = look_up(raw, ours.value_of, np.uint8)
    heights = []

    def watched(part):
        heights.append(len(part))
        return ours.value_of(part)

    monkeypatch.setattr("cytoimagenet_hf.imaging.intensity._AT_ONCE", 10)
    assert np.array_equal(look_up(raw, watched, np.uint8), whole)
    assert heights == [1] * 61


def test_window_is_stretched_between_given_values():
    """Between 50 and 150, 50 is black, 150 is white and 100 is 127.5, rounded to 128."""
    window = np.array([[0, 50, 100, 150, 200]], np.uint8)
    assert stretch_window(window, as_float, low=50, high=150).tolist() == [[0, 0, 128, 255, 255]]


# Refused planes, and the ones beside them that are kept.


def refused(*planes):
    """Normalize planes with numbers as stains; return the reason of refusal or an empty text."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # arithmetic that overflows or divides by zero
        try:
            normalize([(f"w{number}", pixels) for number, pixels in enumerate(planes, 1)])
        except ImageRefusedError as error:
            return error.reason
    return ""


NOISE = np.random.default_rng(1).normal(100, 20, (64, 64))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e301, -1e301])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_a_single_value_that_is_not_finite_refuses(bad, dtype):
    """One NaN, infinite or astronomic pixel in 4,096 makes the percentiles meaningless."""
    pixels = NOISE.astype(dtype)
    assert refused(pixels) == ""
    pixels[9, 9] = bad
    assert refused(pixels) == "not finite"
    assert refused(NOISE, pixels) == "not finite"


def test_large_and_tiny_floats_are_measured():
    """Values up to 1e299 and down to the smallest float that exists need no refusal."""
    assert refused(NOISE * 1e297) == ""
    smallest = np.zeros((64, 64))
    smallest[::3, ::5], smallest[::7, ::9] = 5e-324, 1e-323
    assert refused(smallest) == ""
    assert np.isfinite(contrast(normalize([("dna", smallest)])))


def test_planes_of_different_shapes_are_refused_by_name():
    """Planes of 64 x 64 and 64 x 65 are no field; the detail names the second stain."""
    wider = np.zeros((64, 65))
    with pytest.raises(ImageRefusedError, match=r"w2 is 64 x 65, .* before it 64 x 64") as caught:
        normalize([("w1", np.arange(4096.0).reshape(64, 64)), ("w2", wider)])
    assert caught.value.reason == "different shapes"
    assert refused(NOISE, NOISE + 1) == ""


@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_constant_plane_is_refused(value):
    """One value everywhere can't be stretched, as the only stain or among several."""
    flat = np.full((64, 64), value, np.uint8)
    assert refused(flat) == "constant"
    assert refused(NOISE, flat) == "constant"
    assert refused(flat, NOISE, NOISE) == "constant"


def spotted(bright, middle=1, shape=(100, 100)):
    """A black plane of 10,000 pixels with some of value 200 and some of value 100."""
    flat = np.zeros(shape[0] * shape[1], np.uint8)
    flat[:bright] = 200
    flat[bright : bright + middle] = 100
    return flat.reshape(shape)


def test_constant_bites_up_to_nine_bright_pixels_of_ten_thousand():
    """The 99.9 percentile stands at position 9989.001: nine bright pixels miss it, ten do not."""
    assert refused(spotted(8, 1)) == "constant"
    assert refused(spotted(9, 1)) == ""
    assert refused(255 - spotted(8, 1)) == "constant"
    assert refused(255 - spotted(9, 1)) == ""


def test_binary_bites_at_two_values_and_not_at_three():
    """A mask is refused; the same mask with one pixel of a third value is measured."""
    mask = np.zeros((64, 64), np.uint16)
    mask[:, 32:] = 4000
    assert refused(mask) == "binary"
    assert refused(NOISE, mask) == "binary"
    mask[0, 0] = 1
    assert refused(mask) == ""


# Contrast.


@pytest.mark.parametrize("sigma", [0.5, 1, 4, 30, 2000])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_pure_noise_has_a_contrast_of_five_whatever_its_strength(dtype, sigma):
    """2.58 + 2.75 standard deviations of a block mean lie between the two percentiles: 5.3."""
    rng = np.random.default_rng(5)
    noise = np.rint(rng.normal(20000, sigma, (512, 512))).astype(dtype)
    assert contrast(normalize([("dna", noise)])) == pytest.approx(5.3, abs=0.8)


@pytest.mark.parametrize("sigma", [0.05, 0.1, 0.2, 0.3, 0.4])
@pytest.mark.parametrize("offset", [0, 0.25, 0.5])
def test_noise_under_a_gray_level_is_no_contrast(sigma, offset):
    """Where rounding swallows the noise, the step between two levels stands for it."""
    rng = np.random.default_rng(6)
    noise = np.rint(rng.normal(100 + offset, sigma, (512, 512))).astype(np.uint8)
    noise[0, :3] = 99, 100, 101  # three values, so that the plane is no mask
    grid = noise[:512, :512].reshape(128, 4, 128, 4).mean((1, 3))
    made = Stretched(noise, as_float, (grid,), (noise_of(noise, 1.0),))
    assert contrast(made) < MIN_CONTRAST


def test_a_spot_in_noise_counts():
    """16 x 16 pixels (0.4 percent of the window) at five times the noise: 5 * 4 + 2.6 = 22."""
    rng = np.random.default_rng(7)
    field = rng.normal(1000, 10, (256, 256))
    empty = contrast(normalize([("dna", field.astype(np.uint16))]))
    field[100:116, 60:76] += 50
    seen = contrast(normalize([("dna", field.astype(np.uint16))]))
    assert empty < 6.5
    assert seen == pytest.approx(22, abs=3)


def test_contrast_does_not_depend_on_offset_or_gain():
    """Counts times 3 plus 2^30 (beyond the integers of float32) show the same structure."""
    rng = np.random.default_rng(8)
    field = rng.normal(1000, 2, (256, 256))
    field[100:140, 60:100] += 10
    field = np.rint(field).astype(np.uint32)
    near = contrast(normalize([("dna", field)]))
    assert contrast(normalize([("dna", field * 3)])) == pytest.approx(near, rel=1e-9)
    assert contrast(normalize([("dna", field + np.uint32(1 << 30))])) == pytest.approx(near)


def test_the_best_of_several_stains_counts():
    """A field with one good and two empty stains has the contrast of the good one."""
    rng = np.random.default_rng(9)
    empty = [rng.normal(500, 9, (128, 128)).astype(np.uint16) for _ in range(2)]
    good = empty[0].copy()
    good[40:80, 40:80] += 400
    alone = contrast(normalize([("dna", good)]))
    planes = [("a", empty[0]), ("b", good), ("c", empty[1])]
    assert alone > 100
    assert contrast(normalize(planes)) == alone


def test_contrast_is_that_of_the_window():
    """Beside the bright square there is nothing to see; a window over it sees it."""
    rng = np.random.default_rng(10)
    field = rng.normal(500, 9, (256, 256))
    field[:64, :64] += np.outer(np.arange(64), np.ones(64)) * 10
    plane = normalize([("dna", field.astype(np.uint16))])
    assert contrast(plane, (128, 128, 256, 256)) < 7
    assert contrast(plane, (0, 0, 128, 128)) > 100


def test_noise_of_white_noise_is_its_standard_deviation():
    """Second differences of noise of 10 tell 10; edges of cells change it little."""
    rng = np.random.default_rng(11)
    field = rng.normal(0, 10, (400, 400))
    assert noise_of(field, 0.0) == pytest.approx(10, rel=0.03)
    field[:, ::40] += 5000
    assert noise_of(field, 0.0) == pytest.approx(10, rel=0.15)


def test_noise_is_never_less_than_that_of_rounding():
    """A smooth ramp in steps of 12 has the noise of rounding to 12: 12 / sqrt(12)."""
    ramp = np.tile(np.arange(0, 1200, 12), (50, 1))
    assert noise_of(ramp, 12.0) == pytest.approx(12**0.5)
