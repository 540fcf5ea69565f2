"""The card's two pictures: a class gallery of crops that all may see, and the labels in numbers.

They are drawn from the shards of a folder, not from rendered chunks, so that a build on top of a
release and the published rest of a folder get theirs in the same way. Equal shards give equal bytes
with the same libraries.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

from cytoimagenet_hf import files
from cytoimagenet_hf.hashing import rank, ranks
from cytoimagenet_hf.hub._cardparts import CLASSES_PICTURE, LABELS_PICTURE
from cytoimagenet_hf.hub._facts import LabelFacts
from cytoimagenet_hf.hub.licenses import terms_of
from cytoimagenet_hf.imaging import png
from cytoimagenet_hf.imaging.montage import FAINT, GAP, INK, PAPER, Tile, contact_sheet, shorten
from cytoimagenet_hf.schema import CATEGORIES

PICTURES = (CLASSES_PICTURE, LABELS_PICTURE)

_SHOWN = 21  # classes in the gallery
_TILES, _TILE = 6, 88  # crops of each, and the side of their squares in pixels
_WIDTH, _MARGIN, _NAMES = 570, 14, 130  # of the chart; pixels
_TEXT, _HEAD = 17, 20  # heights of letters; a phone shows the picture at 0.6 of its size
_BAR, _LINE, _CURVE = 20, 32, 150  # heights of a bar, of a line with one, of the columns by rank
_DARK, _LIGHT = 90, 225

Place = tuple[str, int, int]  # shard, row group, row


def write_pictures(
    folder: Path,
    shards: Iterable[str],
    labels: Sequence[LabelFacts],
    *,
    seed: int,
    simulated: bool,
    to: Path,
) -> tuple[str, ...]:
    """Write the pictures that a card shows.

    Args:
        folder: where the shards are.
        shards: relative paths of those of config `small` that the pictures may show.
        labels: the classes in the order of their integers, with their crops.
        seed: ranks what is chosen.
        simulated: say so in both pictures.
        to: folder that gets them, under the paths returned.

    Returns:
        The paths written. Where no crop may be seen by others there is no gallery.
    """
    mark = "Simulated data, no real cells. " if simulated else ""
    tiles = choose_tiles(folder, shards, labels, seed=seed)
    drawn = {LABELS_PICTURE: draw_labels(labels, mark=mark)}
    if tiles:
        total = sum(one.crops > 0 for one in labels)
        title = f"{mark}{len(tiles)} of {total:,} classes"
        drawn[CLASSES_PICTURE] = contact_sheet(
            list(tiles.items()), tile=_TILE, columns=_TILES, title=title
        )
    for path, picture in drawn.items():
        with files.replacing(to / path) as aside:
            aside.write_bytes(png.encode(np.asarray(picture)))
    return tuple(sorted(drawn))


def choose_tiles(
    folder: Path, shards: Iterable[str], labels: Sequence[LabelFacts], *, seed: int
) -> dict[str, list[Tile]]:
    """Choose some crops of some classes by hash, of those alone that licenses let others see.

    Args:
        folder: where the shards are.
        shards: relative paths of shards of config `small`.
        labels: the classes in the order of their integers.
        seed: ranks what is chosen.

    Returns:
        Pixels by class and its number of crops, in the order of integers; each category has its
        share.
    """
    places = _lowest(folder, shards, seed)
    chosen = sorted(_spread(places, labels, seed)[:_SHOWN])
    wanted = {place: number for number in chosen for _, place in places[number]}
    pixels = dict(_read(folder, wanted))
    return {
        f"{labels[number].label} ({labels[number].crops:,} crops)": [
            pixels[place] for _, place in places[number]
        ]
        for number in chosen
    }


def draw_labels(labels: Sequence[LabelFacts], *, mark: str = "") -> Image.Image:
    """Draw crops by category as bars, and crops of each class from most to fewest as columns.

    Args:
        labels: the classes with their crops; those without any are passed over.
        mark: stands before the title.

    Returns:
        A gray picture, mode "L".
    """
    held = [one for one in labels if one.crops]
    text, head = ImageFont.load_default(_TEXT), ImageFont.load_default(_HEAD)
    top = 2 * _LINE + GAP
    height = top + len(CATEGORIES) * _LINE + 3 * _LINE + _CURVE
    picture = Image.new("L", (_WIDTH, height), PAPER)
    draw = ImageDraw.Draw(picture)
    total = sum(one.crops for one in held)
    title = f"{mark}{total:,} crops in {len(held):,} classes"
    room = _WIDTH - 2 * _MARGIN
    draw.text((_MARGIN, GAP), shorten(title, head, room), INK, head)
    draw.text((_MARGIN, _LINE + GAP), "crops by category (classes)", FAINT, text)
    _draw_bars(draw, held, top, text)
    top += len(CATEGORIES) * _LINE + _LINE // 2
    draw.text((_MARGIN, top), "crops of each class, from most to fewest", FAINT, text)
    _draw_columns(draw, sorted((one.crops for one in held), reverse=True), top + _LINE, text)
    return picture


def _lowest(folder: Path, shards: Iterable[str], seed: int) -> dict[int, list[tuple[int, Place]]]:
    """Find the lowest-hash crops of each class that others may see, a shard at a time."""
    found: dict[int, list[tuple[int, Place]]] = defaultdict(list)
    for path in sorted(shards):
        with pq.ParquetFile(folder / path) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=["image_id", "label", "license"])
                ids, numbers, licenses = (column.to_pylist() for column in table.columns)
                shown = {one for one in set(licenses) if terms_of(one).publishable}
                for row, order in enumerate(ranks(seed, "gallery", ids).tolist()):
                    if licenses[row] in shown:
                        found[numbers[row]].append((order, (path, group, row)))
        for number, own in found.items():
            found[number] = sorted(own)[:_TILES]
    return found


def _spread(numbers: Iterable[int], labels: Sequence[LabelFacts], seed: int) -> list[int]:
    """Order classes so that the first ones are of all categories, in each by hash."""
    of_category: dict[str, list[int]] = defaultdict(list)
    for number in sorted(numbers, key=lambda one: rank(seed, "gallery class", labels[one].label)):
        of_category[labels[number].category].append(number)
    rows = itertools.zip_longest(*(of_category[one] for one in CATEGORIES))
    return [number for row in rows for number in row if number is not None]


def _read(folder: Path, wanted: Mapping[Place, int]) -> Iterator[tuple[Place, Tile]]:
    """Read the pixels of some rows, a row group at a time."""
    for (path, group), places in itertools.groupby(sorted(wanted), key=lambda one: one[:2]):
        with pq.ParquetFile(folder / path) as file:
            images = file.read_row_group(group, columns=["image"])["image"]
        for place in places:
            yield place, png.decode(images[place[2]].as_py()["bytes"])


def _draw_bars(
    draw: ImageDraw.ImageDraw,
    labels: Sequence[LabelFacts],
    top: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Draw a bar for each category, its name before and its numbers behind it."""
    crops: Counter[str] = Counter()
    classes: Counter[str] = Counter()
    for one in labels:
        crops[one.category] += one.crops
        classes[one.category] += 1
    notes = {one: f"{crops[one]:,} ({classes[one]:,})" for one in CATEGORIES}
    behind = max(font.getlength(note) for note in notes.values()) + GAP
    room = _WIDTH - 2 * _MARGIN - _NAMES - behind
    most = max([1, *crops.values()])
    for line, category in enumerate(CATEGORIES):
        y = top + line * _LINE
        draw.text((_MARGIN, y), category.replace("_", " "), INK, font)
        left = _MARGIN + _NAMES
        right = left + round(room * crops[category] / most)
        draw.rectangle((left, y, right, y + _BAR - 1), _DARK)
        draw.text((right + GAP, y), notes[category], INK, font)


def _draw_columns(
    draw: ImageDraw.ImageDraw,
    crops: Sequence[int],
    top: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Draw the crops of each class in falling order; many classes share a column of pixels."""
    left, right, bottom = _MARGIN + _NAMES, _WIDTH - _MARGIN, top + _CURVE
    draw.rectangle((left, top, right - 1, bottom - 1), _LIGHT)
    most = max(crops, default=1)
    for x in range(left, right):
        at = (x - left) * len(crops) // (right - left)
        if crops:
            draw.line((x, bottom - round(_CURVE * crops[at] / most), x, bottom - 1), _DARK)
    draw.text((_MARGIN, top - GAP // 2), f"{most:,}", INK, font)
    draw.text((_MARGIN, bottom - _TEXT), "0", INK, font)
    draw.text((left, bottom + GAP), "class 1", INK, font)
    end = f"{len(crops):,}"
    draw.text((right - font.getlength(end), bottom + GAP), end, INK, font)
