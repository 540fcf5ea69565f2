"""Contact sheets: tiles stand where they should, names are cut, bad tiles are refused."""

import numpy as np
import pytest
from PIL import ImageFont

from cytoimagenet_hf.imaging import montage
from cytoimagenet_hf.imaging.montage import (
    ELLIPSIS,
    GAP,
    MAT,
    PAPER,
    TEXT_SIZE,
    contact_sheet,
    fit,
    shorten,
)

ROW_OF_NAME = TEXT_SIZE + 3 * GAP


def flat(level: int, height: int = 10, width: int = 10) -> np.ndarray:
    """A tile of one gray level."""
    return np.full((height, width), level, dtype=np.uint8)


def test_tiles_stand_left_to_right_then_below():
    """Three tiles in two columns: the third begins the second line."""
    sheet = np.asarray(contact_sheet([("a", [flat(10), flat(20), flat(30)])], tile=10, columns=2))
    top = GAP + ROW_OF_NAME
    assert sheet.shape == (GAP + ROW_OF_NAME + 2 * (10 + GAP) + GAP, GAP + 2 * (10 + GAP))
    assert (sheet[top : top + 10, GAP : GAP + 10] == 10).all()
    assert (sheet[top : top + 10, 2 * GAP + 10 : 2 * GAP + 20] == 20).all()
    assert (sheet[top + 16 : top + 26, GAP : GAP + 10] == 30).all()
    assert (sheet[top + 16 : top + 26, 2 * GAP + 10 :] == PAPER).all()


def test_long_tile_keeps_its_aspect_and_is_centered():
    """A 20 x 10 tile in a square of 10 becomes 10 x 5, with the mat on both sides."""
    sheet = np.asarray(contact_sheet([("", [flat(0, 20, 10)])], tile=10, columns=20))
    square = sheet[GAP + ROW_OF_NAME :, GAP : GAP + 10][:10]
    assert (square == 0).sum(axis=1).tolist() == [5] * 10
    assert (square[:, :2] == MAT).all()


def test_reduction_averages_areas():
    """Two by two pixels of 0 and 100 become one of 50."""
    assert np.asarray(fit(np.array([[0, 100], [100, 0]], dtype=np.uint8), 1)).tolist() == [[50]]


def test_enlargement_goes_by_whole_steps():
    """A 2 x 3 tile in a square of 8 is doubled, so that each pixel stays a square."""
    pixels = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8)
    assert (np.asarray(fit(pixels, 8)) == pixels.repeat(2, axis=0).repeat(2, axis=1)).all()


def test_thin_tile_keeps_one_pixel():
    """A tile 1,000 times as wide as it is high doesn't vanish."""
    assert fit(flat(7, 1, 1000), 100).size == (100, 1)


def test_row_and_title_take_room():
    """A title moves the rows down, and a row without tiles still has its name."""
    rows = [("kept", [flat(0)]), ("no tiles", [])]
    bare, titled = contact_sheet(rows, tile=10), contact_sheet(rows, tile=10, title="Classes")
    assert titled.height > bare.height == GAP + 2 * ROW_OF_NAME + 10 + GAP + GAP
    below = np.asarray(bare)[GAP + ROW_OF_NAME + 10 + GAP :]
    assert below.min() < 128  # the name of the second row


def test_equal_rows_give_equal_sheets():
    """Nothing in a sheet depends on time or chance."""
    rows = [("nucleus", [flat(9), flat(90)])]
    assert contact_sheet(rows).tobytes() == contact_sheet(rows).tobytes()


def test_long_name_ends_in_an_ellipsis_that_fits():
    """A name wider than its place is cut at its end, one that fits isn't."""
    font = ImageFont.load_default(TEXT_SIZE)
    short = shorten("a name that goes on and on and on", font, 100)
    assert short.endswith(ELLIPSIS)
    assert short.startswith("a name")
    assert font.getlength(short) <= 100
    assert shorten("u2os", font, 100) == "u2os"
    assert shorten("two\nlines", font, 200) == "two lines"


@pytest.mark.parametrize(
    "tile",
    [
        pytest.param(np.zeros((4, 4, 3), np.uint8), id="color"),
        pytest.param(np.zeros((4, 4), np.uint16), id="16-bit"),
        pytest.param(np.zeros((0, 4), np.uint8), id="empty"),
    ],
)
def test_other_tiles_are_refused(tile):
    """Only gray 8-bit tiles with pixels are drawn; nothing is converted silently."""
    with pytest.raises(ValueError, match="2-d uint8"):
        contact_sheet([("x", [tile])])


def test_sheet_without_end_is_cut_at_whole_rows(monkeypatch):
    """Three rows that just fit are shown; with one pixel less, a line counts the third."""
    row = ROW_OF_NAME + 10 + GAP
    rows = [("a", [flat(1)]), ("b", [flat(2)]), ("c", [flat(3)])]
    monkeypatch.setattr(montage, "MAX_SIDE", GAP + 3 * row + GAP)
    whole = contact_sheet(rows, tile=10, columns=1)
    assert whole.height == montage.MAX_SIDE
    assert {1, 2, 3} <= set(whole.tobytes())
    monkeypatch.setattr(montage, "MAX_SIDE", GAP + 3 * row + GAP - 1)
    cut = contact_sheet(rows, tile=10, columns=1)
    assert cut.height == GAP + 2 * row + ROW_OF_NAME + GAP
    assert 2 in cut.tobytes()
    assert montage._rows_that_fit(rows, 3 * row - 1, 10 + GAP, 1) == [
        *rows[:2],
        ("rows that are not shown: 1", ()),
    ]


def test_sheet_of_no_use_is_refused():
    """Too wide for any viewer, or without columns: an error."""
    with pytest.raises(ValueError, match="smaller tiles"):
        contact_sheet([], columns=1000)
    with pytest.raises(ValueError, match="at least 1"):
        contact_sheet([], columns=0)
