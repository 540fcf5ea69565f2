"""Which windows of a field are taken, and where they lie."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cytoimagenet_hf.errors import ImageRefusedError
from cytoimagenet_hf.imaging.windows import (
    QUADRANTS,
    SCALES,
    Rules,
    allowed_scales,
    check_size,
    crop_record,
    is_kept_whole,
    ranking,
)
from tests.imaging._fields import corner, field

EVERYTHING = Rules(min_contrast=0)  # contrast isn't judged
ids = st.text("abcdefgh0123456789/-_%", min_size=1, max_size=30)
sides = st.integers(140, 700)
few = settings(max_examples=40, deadline=None)


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
