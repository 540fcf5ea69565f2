"""Contact sheets: labelled rows of gray tiles, to look at many crops at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Tile = npt.NDArray[np.uint8]

PAPER, MAT, INK, FAINT = 255, 238, 20, 110  # gray levels: background, behind tiles, text, counts
GAP = 6  # pixels between tiles, and around the sheet
TEXT_SIZE = 15  # pixels; the title is half as large again
TITLE_SIZE = 22
MAX_SIDE = 32_000  # pixels; browsers don't show pictures with much longer sides
ELLIPSIS = "…"


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[Tile]]],
    *,
    tile: int = 96,
    columns: int = 12,
    title: str = "",
) -> Image.Image:
    """Draw rows of tiles, each row under its name.

    Args:
        rows: (name, gray tiles of any size); tiles keep their aspect and are never enlarged by
            more than whole steps, so that pixels stay pixels. A row without tiles says "none".
        tile: side of the square that each tile is fitted into, in pixels.
        columns: tiles side by side; longer rows go on in the next line.
        title: first line of the sheet; empty for none.

    Returns:
        The sheet, mode "L". Names too long for the sheet end in an ellipsis. Rows that would make
        it higher than `MAX_SIDE` are left out, and its last line says how many.

    Raises:
        ValueError: a tile isn't two-dimensional uint8, a size is below 1, or the sheet would be
            wider than `MAX_SIDE`.
    """
    if tile < 1 or columns < 1:
        raise ValueError(f"tile and columns must be at least 1, not {tile} and {columns}.")
    text, head = ImageFont.load_default(TEXT_SIZE), ImageFont.load_default(TITLE_SIZE)
    step = tile + GAP
    width = GAP + columns * step
    top = GAP + (TITLE_SIZE + 2 * GAP if title else 0)
    if width > MAX_SIDE:
        raise ValueError(
            f"A sheet {width} pixels wide is more than {MAX_SIDE}; use fewer or smaller tiles."
        )
    rows = _rows_that_fit(rows, MAX_SIDE - top - GAP, step, columns)
    height = top + sum(_row_height(len(tiles), step, columns) for _, tiles in rows) + GAP
    sheet = Image.new("L", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((GAP, GAP), shorten(title, head, width - 2 * GAP), INK, head)
    for name, tiles in rows:
        _draw_name(draw, (GAP, top + GAP), name, len(tiles), text)
        for at, pixels in enumerate(tiles):
            row, column = divmod(at, columns)
            corner = (GAP + column * step, top + _name_height() + row * step)
            draw.rectangle((*corner, corner[0] + tile - 1, corner[1] + tile - 1), MAT)
            _paste(sheet, pixels, corner, tile)
        top += _row_height(len(tiles), step, columns)
    return sheet


def shorten(name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """Cut `name` so that it and an ellipsis are at most `width` pixels wide; line breaks go."""
    line = " ".join(name.split())
    if font.getlength(line) <= width:
        return line
    keep = len(line)
    while keep and font.getlength(line[:keep].rstrip() + ELLIPSIS) > width:
        keep -= 1
    return line[:keep].rstrip() + ELLIPSIS


def fit(pixels: Tile, side: int) -> Image.Image:
    """Scale a gray tile to fit a square of `side` pixels: by area down, by whole steps up.

    Raises:
        ValueError: the tile isn't two-dimensional uint8, or is empty.
    """
    if pixels.ndim != 2 or pixels.dtype != np.uint8 or not pixels.size:
        raise ValueError(f"A tile is 2-d uint8 with pixels, not {pixels.dtype} {pixels.shape}.")
    height, width = pixels.shape
    longest = max(height, width)
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if longest > side:
        size = (max(1, width * side // longest), max(1, height * side // longest))
        return picture.resize(size, Image.Resampling.BOX)
    step = side // longest
    return picture.resize((width * step, height * step), Image.Resampling.NEAREST)


def _rows_that_fit(
    rows: Sequence[tuple[str, Sequence[Tile]]], room: int, step: int, columns: int
) -> Sequence[tuple[str, Sequence[Tile]]]:
    """Return all rows, or the first ones and a row that names the number of the others."""
    heights = [_row_height(len(tiles), step, columns) for _, tiles in rows]
    if sum(heights) <= room:
        return rows
    ends = itertools.accumulate(heights)
    shown = sum(end <= room - _name_height() for end in ends)
    return [*rows[:shown], (f"rows that are not shown: {len(rows) - shown:,}", ())]


def _name_height() -> int:
    return TEXT_SIZE + 3 * GAP  # two above, so that a name belongs to the tiles below it


def _row_height(tiles: int, step: int, columns: int) -> int:
    return _name_height() + math.ceil(tiles / columns) * step


def _draw_name(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    name: str,
    tiles: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Write the name from the left and the number of tiles at the right end."""
    count = str(tiles) if tiles else "none"
    width = draw.im.size[0] - 2 * GAP
    taken = font.getlength(count)
    draw.text(corner, shorten(name, font, width - taken - GAP), INK, font)
    draw.text((corner[0] + width - taken, corner[1]), count, FAINT, font)


def _paste(sheet: Image.Image, pixels: Tile, corner: tuple[int, int], side: int) -> None:
    picture = fit(pixels, side)
    x = corner[0] + (side - picture.width) // 2
    y = corner[1] + (side - picture.height) // 2
    sheet.paste(picture, (x, y))
