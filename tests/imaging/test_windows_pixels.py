"""Pixels of windows against the slow float64 reference, and which windows are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytoimagenet_hf.imaging.intensity import contrast, normalize
from cytoimagenet_hf.imaging.readers import read_plane
from cytoimagenet_hf.imaging.windows import MIN_CONTRAST, Rules, crop_record, whole_record
from tests.imaging import oracle
from tests.imaging._fields import textured

EVERYTHING = Rules(min_contrast=0)  # contrast isn't judged

# Sixteen-bit files of all sorts.
SIXTEEN_BIT = (
    "bbbc006/**/*.tif",
    "bbbc006/**/*.png",
    "bbbc010/**/*.tif",
    "bbbc022/**/*.tif",
    "jump_cpg0000_crop/**/*.tif*",
    "nf1_cellpainting/**/*.tif*",
)


# Pixels.


DTYPES = ("uint8", "int8", "uint16", ">u2", "int16", "uint32", "int32", "float32", "float64")


@pytest.mark.parametrize("colors", [False, True], ids=["gray", "rgb"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_crops_of_one_plane_equal_the_float_reference(dtype, colors):
    """Each window of gray or RGB planes of each type is that of whole-image float64 arithmetic."""
    rng = np.random.default_rng(4)
    values = rng.gamma(2.0, 0.1, (600, 640, 3) if colors else (600, 640))
    values = np.clip(
        values / values.max() + np.linspace(0, 0.5, 600).reshape(-1, 1, *[1] * colors), 0, 1
    )
    kind = np.dtype(dtype)
    top = 20000.0 if kind.kind == "f" else float(np.iinfo(kind).max) - np.iinfo(kind).min
    low = -3000.0 if kind.kind == "f" else float(np.iinfo(kind).min)
    pixels = (values * top * 0.99 + low).astype(kind)
    reference = oracle.record([pixels])
    crops = crop_record(normalize([("", pixels)]), "a/1", 4, EVERYTHING)
    assert len({crop.window.scale for crop in crops}) == 3
    for crop in crops:
        assert crop.reason == ""
        assert np.array_equal(crop.pixels, oracle.crop(reference, crop.window.box))


@pytest.mark.parametrize("stains", [2, 3, 4, 5, 6, 7])
def test_crops_of_several_stains_lie_within_one_gray_level(stains):
    """Windows of merged stains differ from those of the float mean by at most one level."""
    planes = [textured(600, 600, seed=seed) for seed in range(stains)]
    reference = oracle.record(planes)
    plane = normalize([(str(one), pixels) for one, pixels in enumerate(planes)])
    for crop in crop_record(plane, "a/1", 4, EVERYTHING):
        exact = oracle.crop(reference, crop.window.box).astype(int)
        assert np.abs(crop.pixels - exact).max() <= 1


def test_a_dim_corner_of_several_stains_keeps_its_gray_levels():
    """A window that is 50 times dimmer than its field still has over 200 levels, off by 1."""
    planes = []
    for seed in range(3):
        plane = np.random.default_rng(seed).integers(0, 1000, (200, 200))
        plane[100:, 100:] *= 50
        planes.append(plane.astype(np.uint16))
    reference = oracle.record(planes)
    crops = crop_record(normalize(list(zip("abc", planes, strict=True))), "a", 4, EVERYTHING)
    (dim,) = (crop for crop in crops if crop.window.box == (0, 0, 100, 100))
    assert len(np.unique(dim.pixels)) > 200
    exact = oracle.crop(reference, dim.window.box).astype(int)
    assert np.abs(dim.pixels - exact).max() <= 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_whole_record_is_stretched_once(dtype):
    """Kept whole, a record equals the reference without a second stretch."""
    pixels = (textured(64, 80, np.uint8) // 2).astype(dtype)
    crop = whole_record(normalize([("", pixels)]), EVERYTHING)
    assert crop.window.box == (0, 0, 80, 64)
    assert crop.window.scale == 1
    assert np.array_equal(crop.pixels, oracle.rounded(oracle.record([pixels])))


def test_percents_reach_both_stretches():
    """With 5 and 95 percent, windows equal the reference with 5 and 95 percent."""
    pixels = textured(300, 300)
    rules = Rules(percents=(5, 95), min_contrast=0)
    plane = normalize([("", pixels)], percents=rules.percents)
    reference = oracle.record([pixels], rules.percents)
    for crop in crop_record(plane, "a", 4, rules):
        exact = oracle.crop(reference, crop.window.box, rules.percents)
        assert np.array_equal(crop.pixels, exact)


def test_raw_planes_are_left_as_they_are():
    """The authors' code changed the caller's array; ours may be read-only."""
    pixels = textured(300, 300)
    pixels.flags.writeable = False
    before = pixels.copy()
    crop_record(normalize([("a", pixels), ("b", pixels)]), "a", 4, EVERYTHING)
    assert np.array_equal(pixels, before)


# Refusals.


@st.composite
def odd_windows(draw):
    """A plane of 200 x 200 whose upper left quadrant has any share of black, white and gray."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    plane = rng.integers(1, 255, (200, 200)).astype(np.uint8)
    inside = np.full(10_000, draw(st.sampled_from([0, 128, 255])), np.uint8)
    counts = st.sampled_from([0, 1, 5, 9, 10, 11, 38, 39, 40, 2499, 2500, 2501, 7500, 9000])
    for value in draw(st.lists(st.sampled_from([0, 1, 100, 254, 255]), max_size=3)):
        inside[: draw(counts)] = value
        inside = np.roll(inside, draw(counts))
    plane[:100, :100] = inside.reshape(100, 100)
    return plane


@given(odd_windows())
@settings(max_examples=150, deadline=None)
def test_a_window_is_refused_exactly_if_it_breaks_a_rule(pixels):
    """Of all rules but contrast: the reason is one that the reference finds; none, then kept."""
    reference = oracle.record([pixels])
    for crop in crop_record(normalize([("", pixels)]), "a", 4, EVERYTHING):
        cut = oracle.cut(reference, crop.window.box)
        found = oracle.faults(cut, oracle.cut(pixels, crop.window.box), whole=False)
        assert crop.reason in (found or {""})


def small(**counts):
    """A record of 10,000 pixels, kept whole, with so many pixels of each value (v0=..., v7=...)."""
    values = [int(name[1:]) for name, count in counts.items() for _ in range(count)]
    assert len(values) == 10_000
    return np.array(values, np.uint8).reshape(100, 100)


def judged(pixels, rules=EVERYTHING):
    """The reason for which a record is refused when it is kept whole."""
    return whole_record(normalize([("", pixels)]), rules).reason


def test_all_black_bites_up_to_a_mean_of_one():
    """39 white pixels of 10,000 and one of 51 have a mean of 0.9996, two of 51 have 1.0047."""
    assert judged(small(v0=9960, v51=1, v255=39)) == "all black"
    assert judged(small(v0=9959, v51=2, v255=39)) == ""


def test_all_white_bites_from_a_mean_of_254():
    """The same upside down: 254.0004 and 253.9953."""
    assert judged(small(v255=9960, v204=1, v0=39)) == "all white"
    assert judged(small(v255=9959, v204=2, v0=39)) == ""


def quadrant(pixels, rules=EVERYTHING, beside=None):
    """The crop of 100 x 100 pixels that are the upper left quadrant of a textured field."""
    plane = textured(200, 200, np.uint8) if beside is None else beside.copy()
    plane[:100, :100] = pixels
    crops = crop_record(normalize([("", plane)]), "a", 4, rules)
    (found,) = (crop for crop in crops if crop.window.box == (0, 0, 100, 100))
    return found


FULL = np.random.default_rng(2).integers(0, 256, (200, 200)).astype(np.uint8)


def test_dim_bites_where_three_quarters_are_black():
    """The 75th percentile stands at position 7499.25: 7,501 black pixels reach it, 7,500 don't."""
    for black, reason in ((7501, "dim"), (7500, "")):
        pixels = small(v0=black, v100=5000 - black // 2, v200=10_000 - 5000 - black + black // 2)
        assert quadrant(pixels, beside=FULL).reason == reason


def test_whole_records_are_never_dim():
    """A small record with one cell on black is what single cells look like."""
    assert judged(small(v0=9000, v100=500, v200=500)) == ""


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_constant_window_is_refused(value):
    """A window of one value has nothing to stretch and no pixels to look at."""
    crop = quadrant(np.full((100, 100), value), beside=FULL)
    assert (crop.reason, crop.pixels) == ("constant", None)


def test_a_window_is_constant_up_to_nine_other_pixels():
    """Nine of 10,000 pixels lie beyond the 99.9 percentile, ten reach it."""
    assert quadrant(small(v100=9991, v150=5, v200=4), beside=FULL).reason == "constant"
    assert quadrant(small(v100=9990, v150=5, v200=5), beside=FULL).reason == ""


def test_a_binary_window_is_refused_and_one_of_three_values_is_not():
    """Two values are a mask, also where one of them is rare; a single third one makes it none."""
    assert quadrant(small(v50=5000, v200=5000), beside=FULL).reason == "binary"
    assert quadrant(small(v50=9999, v200=1), beside=FULL).reason == "binary"
    assert quadrant(small(v50=5000, v60=1, v200=4999), beside=FULL).reason == ""


@pytest.mark.parametrize("sigma", [1, 5, 50, 1000])
@pytest.mark.parametrize("stains", [1, 3])
def test_pure_noise_is_no_contrast(sigma, stains):
    """Stretched to full range it looks like something; each window of it is refused."""
    rng = np.random.default_rng(12)
    planes = [
        (f"w{one}", np.rint(rng.normal(9000, sigma, (600, 600))).astype(np.uint16))
        for one in range(stains)
    ]
    crops = crop_record(normalize(planes), "a/1", 4, Rules())
    assert crops
    assert {crop.reason for crop in crops} == {"no contrast"}
    assert all(crop.pixels is not None for crop in crops)
    kept = crop_record(normalize(planes), "a/1", 4, EVERYTHING)
    assert {crop.reason for crop in kept} == {""}


def test_small_noise_records_are_judged_too():
    """A record that is kept whole and shows noise only is refused, with a spot it is kept."""
    pixels = np.random.default_rng(13).normal(500, 20, (90, 90)).astype(np.uint16)
    assert judged(pixels, Rules()) == "no contrast"
    pixels[40:52, 40:52] += 300
    assert judged(pixels, Rules()) == ""


def test_contrast_bites_below_the_threshold_and_not_at_it():
    """A threshold of exactly the record's contrast keeps it, the next larger number refuses it."""
    plane = normalize([("", textured(64, 64))])
    seen = contrast(plane)
    assert whole_record(plane, Rules(min_contrast=seen)).reason == ""
    above = float(np.nextafter(seen, np.inf))
    assert whole_record(plane, Rules(min_contrast=above)).reason == "no contrast"
    assert whole_record(plane, Rules()).contrast == seen


def test_one_good_stain_of_three_is_enough():
    """Two empty stains don't refuse a field whose third stain shows cells."""
    rng = np.random.default_rng(14)
    planes = [rng.normal(500, 9, (100, 100)).astype(np.uint16) for _ in range(3)]
    names = ("dna", "actin", "er")
    noise = whole_record(normalize(list(zip(names, planes, strict=True))), Rules())
    assert noise.reason == "no contrast"
    planes[1][30:60, 30:60] += 200
    crop = whole_record(normalize(list(zip(names, planes, strict=True))), Rules())
    assert crop.reason == ""
    assert crop.contrast > MIN_CONTRAST


def test_a_spot_in_one_window_does_not_keep_the_others():
    """Contrast is that of the window: three empty quarters beside a bright one are refused."""
    plane = np.random.default_rng(15).normal(500, 9, (200, 200))
    plane[20:60, 20:60] += 300
    crops = crop_record(normalize([("", plane.astype(np.uint16))]), "a", 4, Rules())
    kept = [crop.window.name for crop in crops if not crop.reason]
    assert [name[:4] for name in kept] == ["nw-2"]
    assert {crop.reason for crop in crops if crop.reason} == {"no contrast"}


# Real files.


def test_kept_windows_of_sixteen_bit_files_lose_nothing_before_the_end(real_images):
    """Each is the float64 reference's to the bit; nine of ten keep 0.75 of their gray levels.

    The tenth can't: values beyond the 0.1 and 99.9 percentiles are clipped, and values that are
    sparse in a wide range share levels, in exact arithmetic too. Read at 8 bits, as the authors
    did, only those of files that hold 8 bits in 16 would keep them.
    """
    kept = full = cut_to_eight = 0
    for path in (path for pattern in SIXTEEN_BIT for path in sorted(real_images.glob(pattern))):
        pixels = read_plane(path)
        assert pixels.dtype == np.uint16
        reference = oracle.record([pixels])
        for crop in crop_record(normalize([("", pixels)]), path.stem, 4, Rules()):
            if crop.reason:
                continue
            raw = oracle.cut(pixels, crop.window.box)
            enough = 0.75 * min(256, len(np.unique(raw)))
            kept += 1
            full += len(np.unique(crop.pixels)) >= enough
            cut_to_eight += len(np.unique(raw >> 8)) >= enough
            assert np.array_equal(crop.pixels, oracle.crop(reference, crop.window.box))
    assert kept >= 40
    assert full >= 0.9 * kept
    assert cut_to_eight <= 0.2 * kept
