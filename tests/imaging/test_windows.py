"""Where windows lie, which are refused, and their pixels against the slow float64 reference."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cytoimagenet_hf.errors import ImageRefusedError
from cytoimagenet_hf.imaging.intensity import contrast, normalize
from cytoimagenet_hf.imaging.readers import read_plane
from cytoimagenet_hf.imaging.windows import (
    MIN_CONTRAST,
    QUADRANTS,
    SCALES,
    Rules,
    allowed_scales,
    check_size,
    crop_record,
    is_kept_whole,
    ranking,
    whole_record,
)
from tests.imaging import oracle

EVERYTHING = Rules(min_contrast=0)  # contrast isn't judged
ids = st.text("abcdefgh0123456789/-_%", min_size=1, max_size=30)
sides = st.integers(140, 700)
few = settings(max_examples=40, deadline=None)

# Sixteen-bit files of all sorts.
SIXTEEN_BIT = (
    "bbbc006/**/*.tif",
    "bbbc006/**/*.png",
    "bbbc010/**/*.tif",
    "bbbc022/**/*.tif",
    "jump_cpg0000_crop/**/*.tif*",
    "nf1_cellpainting/**/*.tif*",
)


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


def parts(name):
    """Quadrant, scale and draw of a window's name."""
    quadrant, scale, draw = name.split("-")
    return quadrant, int(scale), int(draw)


# The ranking.


@given(ids, st.integers(0, 9), st.integers(1, 4))
def test_no_quadrant_and_no_scale_repeats_while_another_is_unused(record, seed, scales):
    """Four windows have four quadrants; each run of as many windows as scales has all scales."""
    pairs = ranking(record, SCALES[:scales], seed)
    assert sorted(quadrant for quadrant, _ in pairs) == sorted(QUADRANTS)
    for start in range(0, 4 - scales + 1, scales):
        run = [scale for _, scale in pairs[start : start + scales]]
        assert sorted(run) == list(SCALES[:scales])
    rest = [scale for _, scale in pairs[4 - 4 % scales :]]
    assert len(set(rest)) == len(rest)


def test_every_pair_comes_first_equally_often():
    """Of 16,000 records, each of 16 pairs is the first of about 1,000."""
    firsts = [ranking(f"bbbc022/{number}", SCALES, 0)[0] for number in range(16_000)]
    counts = [firsts.count((quadrant, scale)) for quadrant in QUADRANTS for scale in SCALES]
    assert sum(counts) == 16_000
    assert max(abs(count - 1000) for count in counts) < 4 * 31


@pytest.mark.parametrize(
    ("height", "width", "scales"),
    [
        (140, 900, (2,)),
        (279, 279, (2,)),
        (280, 280, (2, 4)),
        (559, 4000, (2, 4)),
        (560, 560, (2, 4, 8)),
        (1119, 1120, (2, 4, 8)),
        (1120, 1120, (2, 4, 8, 16)),
        (9000, 9000, (2, 4, 8, 16)),
    ],
)
def test_scales_keep_both_sides_at_seventy_pixels(height, width, scales):
    """A sixteenth of 1120 is 70; of 1119 it is 69 and not allowed."""
    assert allowed_scales(height, width, Rules()) == scales
    assert allowed_scales(width, height, Rules()) == scales


@pytest.mark.parametrize(
    ("height", "width", "whole"),
    [(139, 139, True), (139, 2000, True), (2000, 139, True), (140, 140, False), (141, 140, False)],
)
def test_fields_whose_half_is_under_seventy_pixels_are_kept_whole(height, width, whole):
    """Half of 139 is 69, half of 140 is 70."""
    assert is_kept_whole(height, width, Rules()) is whole
    if height * width < 50_000:
        crops = crop_record(field(height, width), "a", 1, EVERYTHING)
        assert (crops[0].window.name == "whole") is whole
        assert crops[0].pixels.shape == ((height, width) if whole else (70, 70))


@pytest.mark.parametrize(("height", "width"), [(31, 80), (80, 31), (31, 31), (1, 1)])
def test_records_under_thirty_two_pixels_are_refused(height, width):
    """31 pixels on one side are too few; the detail gives the size."""
    with pytest.raises(ImageRefusedError, match=f"{height} x {width}") as caught:
        check_size(height, width, Rules())
    assert caught.value.reason == "too small"


@pytest.mark.parametrize(("height", "width"), [(32, 32), (32, 4000), (33, 32)])
def test_records_of_thirty_two_pixels_are_not(height, width):
    """32 pixels are enough."""
    check_size(height, width, Rules())


# Where windows lie.


def check_geometry(crops, shape, rules=EVERYTHING):
    """Hold the windows of a record to all that the design says about where they lie."""
    height, width = shape
    assert len({crop.window.name for crop in crops}) == len(crops)
    assert len({crop.window.box for crop in crops}) == len(crops)
    for crop in crops:
        quadrant, scale, draw = parts(crop.window.name)
        x_min, y_min, x_max, y_max = crop.window.box
        assert scale == crop.window.scale
        assert scale in allowed_scales(height, width, rules)
        assert 0 <= draw < 3
        assert (x_max - x_min, y_max - y_min) == (width // scale, height // scale)
        assert min(x_max - x_min, y_max - y_min) >= 70
        left, top = corner(quadrant, height, width)
        assert left <= x_min < x_max <= left + width // 2 <= width
        assert top <= y_min < y_max <= top + height // 2 <= height
        if crop.pixels is not None:
            assert crop.pixels.shape == (y_max - y_min, x_max - x_min)
            assert crop.pixels.dtype == np.uint8


def check_order(crops, wanted):
    """Each window has at most three draws, of which only the last may be kept."""
    orders = [crop.window.order for crop in crops]
    assert orders == sorted(orders)
    assert set(orders) <= set(range(wanted))
    for order in range(wanted):
        drawn = [crop for crop in crops if crop.window.order == order]
        assert len(drawn) <= 3
        assert all(crop.reason for crop in drawn[:-1])
        numbers = [parts(crop.window.name)[2] for crop in drawn]
        assert numbers == sorted(set(numbers))
        assert len({crop.window.scale for crop in drawn}) <= 1
        if drawn and drawn[-1].reason and drawn[-1].window.scale > 2:
            assert len(drawn) == 3


@given(ids, sides, sides, st.sets(st.sampled_from(QUADRANTS), max_size=3), st.integers(0, 3))
@few
@example("bbbc022/a", 140, 140, {"nw", "ne", "sw"}, 0)
@example("bbbc022/a", 1401, 1123, {"se"}, 0)
@example("bbbc022/a", 3000, 2999, set(), 1)
@example("bbbc022/b", 141, 3000, {"nw"}, 1)
def test_windows_lie_where_they_may(record, height, width, flat, seed):
    """Any size, id, seed and black quadrants: boxes, names and draws follow the rules."""
    rules = Rules(seed=seed, min_contrast=0)
    plane = field(height, width, sorted(flat))
    crops = crop_record(plane, record, 4, rules)
    check_geometry(crops, (height, width))
    check_order(crops, 4)
    ranked = ranking(record, allowed_scales(height, width, rules), seed)
    for crop in crops:
        quadrant, scale, _ = parts(crop.window.name)
        assert scale == ranked[crop.window.order][1]
        if scale > 2:
            assert quadrant == ranked[crop.window.order][0]
        if quadrant in flat:
            assert crop.reason == "constant"
        else:
            assert crop.reason == ""


@given(ids, sides, sides, st.sets(st.sampled_from(QUADRANTS), max_size=3))
@few
@example("bbbc022/a", 140, 140, {"nw", "ne", "sw"})
def test_a_window_never_depends_on_how_many_are_wanted(record, height, width, flat):
    """One, two or three windows are the beginning of four, refused ones included."""
    plane = field(height, width, sorted(flat))
    four = crop_record(plane, record, 4, EVERYTHING)
    for wanted in (1, 2, 3):
        fewer = crop_record(plane, record, wanted, EVERYTHING)
        begin = [crop for crop in four if crop.window.order < wanted]
        assert [crop.window for crop in fewer] == [crop.window for crop in begin]
        assert [crop.reason for crop in fewer] == [crop.reason for crop in begin]
        for one, other in zip(fewer, begin, strict=True):
            assert np.array_equal(one.pixels, other.pixels)


def test_without_refusals_windows_are_the_ranked_ones():
    """Four windows of a full field: the four ranked pairs, first draws all of them."""
    plane = field(1200, 1300)
    for number in range(20):
        record = f"bbbc022/{number}"
        crops = crop_record(plane, record, 4, EVERYTHING)
        drawn = [parts(crop.window.name) for crop in crops]
        assert drawn == [(*pair, 0) for pair in ranking(record, SCALES, 0)]


def test_a_refused_half_takes_the_next_quadrant_without_a_half():
    """In a field of halves only, the first is black: the second quadrant is taken, then others."""
    record = "bbbc006/x"
    first, second, third, fourth = (quadrant for quadrant, _ in ranking(record, (2,), 0))
    crops = crop_record(field(200, 200, [first]), record, 4, EVERYTHING)
    assert [(crop.window.name, crop.window.order, crop.reason) for crop in crops] == [
        (f"{first}-2-0", 0, "constant"),
        (f"{second}-2-1", 0, ""),
        (f"{third}-2-0", 1, ""),
        (f"{fourth}-2-0", 2, ""),
    ]


def test_a_half_is_given_up_after_three_draws():
    """Three black quadrants are three draws; the fourth quadrant is the second window's."""
    record = "bbbc006/x"
    order = [quadrant for quadrant, _ in ranking(record, (2,), 0)]
    crops = crop_record(field(200, 200, order[:3]), record, 2, EVERYTHING)
    assert [(crop.window.name, crop.window.order, crop.reason) for crop in crops] == [
        (f"{order[0]}-2-0", 0, "constant"),
        (f"{order[1]}-2-1", 0, "constant"),
        (f"{order[2]}-2-2", 0, "constant"),
        (f"{order[3]}-2-0", 1, ""),
    ]


def test_a_refused_small_window_is_drawn_elsewhere_in_its_quadrant():
    """A quarter-size window over black is drawn at three places of its quadrant, and no more."""
    for number in range(50):
        record = f"a/{number}"
        quadrant, scale = ranking(record, (2, 4), 0)[0]
        if scale == 4:
            break
    crops = crop_record(field(300, 300, [quadrant]), record, 1, EVERYTHING)
    assert [crop.window.name for crop in crops] == [f"{quadrant}-4-{draw}" for draw in range(3)]
    assert len({crop.window.box for crop in crops}) == 3


def test_each_position_occurs():
    """A window of 70 has 71 places in a quadrant of 140; over 2,000 records all of them occur."""
    plane = field(280, 280)
    found = set()
    for number in range(2000):
        for crop in crop_record(plane, f"a/{number}", 2, EVERYTHING):
            if crop.window.scale == 4:
                left, _ = corner(crop.window.name[:2], 280, 280)
                found.add(crop.window.box[0] - left)
    assert found == set(range(71))


def test_positions_fill_the_quadrant():
    """Over 2,000 records, sixteenth-size windows start at both ends of what is possible."""
    plane = field(1120, 1200)
    starts = {"x": set(), "y": set()}
    for number in range(2000):
        record = f"a/{number}"
        quadrant, scale = ranking(record, SCALES, 0)[0]
        if scale != 16:
            continue
        (crop, *_) = crop_record(plane, record, 1, EVERYTHING)
        left, top = corner(quadrant, 1120, 1200)
        starts["x"].add(crop.window.box[0] - left)
        starts["y"].add(crop.window.box[1] - top)
    assert min(starts["x"]) < 12
    assert max(starts["x"]) > 600 - 75 - 12
    assert max(starts["x"]) <= 600 - 75
    assert min(starts["y"]) < 12
    assert 560 - 70 - 12 < max(starts["y"]) <= 560 - 70


def test_seed_and_id_decide():
    """The same seed and id give the same windows, another of either gives others."""
    plane = field(1200, 1200)

    def boxes(record, seed):
        crops = crop_record(plane, record, 4, Rules(seed=seed, min_contrast=0))
        return [crop.window.box for crop in crops]

    assert boxes("a/1", 0) == boxes("a/1", 0)
    assert boxes("a/1", 0) != boxes("a/2", 0)
    assert boxes("a/1", 0) != boxes("a/1", 1)


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
