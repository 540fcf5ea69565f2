"""The table door: any folder of images becomes a source by way of one table (design 6).

Long: each row is one plane, rows with equal id are the planes of one record. Wide: each row is one
record, columns `channel:<stain>` hold its paths. With x_min .. y_max a row is a cell cut out of an
image. The table is outside input: each cell is checked, and errors name file, line and value.
"""

import difflib
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cytoimagenet_hf.errors import TableError
from cytoimagenet_hf.schema import CATEGORIES, JOINT, MODALITIES
from cytoimagenet_hf.sources import names
from cytoimagenet_hf.sources._source import (
    Box,
    FieldOfView,
    Plane,
    Source,
    SourceFolder,
    make_key,
)
from cytoimagenet_hf.sources._tables import Row, error_at, read_table

CHANNEL = "channel:"  # prefix of the columns of a wide table
BOXES = ("zero", "voc")  # 0-based and end-exclusive, or 1-based with both ends inside (Pascal VOC)
_BOX = ("x_min", "y_min", "x_max", "y_max")
_OF_RECORD = ("field", "modality", "group", "plate", "well", "site", "license", *CATEGORIES)
COLUMNS = ("id", "path", "page", "series", "stain", *_BOX, *_OF_RECORD)
_NUMBER = re.compile(r"[0-9]{1,9}")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


def table_source(
    table: Path, *, name: str = "", columns: Mapping[str, str] | None = None, box: str = "zero"
) -> Source:
    """Make a source of a table; its `fields` wants the images' folder as root.

    A record's id is by default its path, the series and, unless the row names a stain, the page
    (where the table has those columns), and the box where there is one: pages of one file with a
    stain each are one picture, as are rows of one id. Its group is by default the image for boxes,
    else the well on its plate, else the field, else the image for pages. Blank cells say nothing.
    Values are split at "|" and left as written; the catalog brings them to one spelling.

    Args:
        table: see `read_table` for what is read.
        name: of the source, in ids; by default the table's name in lower case.
        columns: our column -> the table's name for it, where they differ.
        box: one of `BOXES`.

    Raises:
        ValueError: unknown column or box kind, or a name that can't be used. `fields` raises
            TableError for whatever is wrong in the table. A file that is absent is no error, its
            record is refused as "missing file".
    """
    for ours in columns or ():
        if ours not in COLUMNS and not ours.startswith(CHANNEL):
            near = difflib.get_close_matches(ours, COLUMNS, n=3, cutoff=0.5) or COLUMNS
            raise ValueError(f"No column {ours!r} can be mapped. Did you mean {', '.join(near)}?")
    if box not in BOXES:
        raise ValueError(f"Boxes are {' or '.join(BOXES)}, not {box!r}.")
    known = name or re.sub(r"[^a-z0-9]+", "_", table.name.partition(".")[0].lower()).strip("_")
    if not _NAME.fullmatch(known) or known in names():
        raise ValueError(
            f"A table can't be the source {known!r}: a name has small letters, digits and _ and is "
            f"none of the package's own. Give another with --name."
        )
    return Source(
        name=known,
        title=known,
        database="",
        accession="",
        page="",
        license="unknown",
        citation="",
        modality=(),
        expected_fields=None,
        layout=f"the paths in {table.name}",
        fields=functools.partial(_fields, table, known, columns or {}, box == "voc"),
    )


@dataclass(frozen=True, slots=True)
class _Line:
    """One row, asked by our column names."""

    table: Path
    row: Row
    theirs: Mapping[str, str]  # our column -> the table's

    def text(self, ours: str) -> str:
        return self.row.cells[self.theirs[ours]].strip() if ours in self.theirs else ""

    def number(self, ours: str) -> int:
        text = self.text(ours)
        if text and not _NUMBER.fullmatch(text):
            raise self.error(ours, f"{text!r} is not a whole number from 0 on.")
        return int(text or 0)

    def error(self, ours: str, what: str) -> TableError:
        column = self.theirs.get(ours, ours)
        return error_at(self.table, self.row.line, f"column {column!r}: {what}")


@dataclass(slots=True)
class _Record:
    """What the rows of one id have said so far."""

    first: _Line
    planes: list[Plane] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)  # of the columns that a record has once
    blank: list[str] = field(default_factory=list)  # channels of a wide row without a path


def _fields(
    table: Path, name: str, columns: Mapping[str, str], one_based: bool, folder: SourceFolder
) -> Iterator[FieldOfView]:
    """Yield the records of the table, sorted by key."""
    records: dict[str, _Record] = {}
    opened = read_table(table, columns=columns.values())
    theirs = _columns(table, opened.columns, columns)
    if unused := [column for column in opened.columns if column not in theirs.values()]:
        folder.note(f"columns of {table.name} that are not used: {', '.join(unused)}")
    is_wide = "path" not in theirs
    for row in opened.rows:
        line = _Line(table, row, theirs)
        planes = _planes(line, _box(line, one_based), is_wide=is_wide)
        key = _key(line, planes[0])
        record = records.setdefault(key, _Record(line))
        if is_wide and record.first is not line:
            raise line.error("id", f"{key!r} stands on line {record.first.row.line} already.")
        _add(record, line, planes)
    if not records:
        raise error_at(table, 1, "the table has a header and no rows.")
    groups: dict[str, str] = {}
    for key, record in sorted(records.items()):
        found = _field_of_view(name, key, record, folder)
        if groups.setdefault(found.field_id, found.group_id) != found.group_id:
            raise record.first.error(
                "group", f"records of the field {found.field_id!r} have different groups."
            )
        yield found


def _columns(table: Path, there: tuple[str, ...], mapped: Mapping[str, str]) -> dict[str, str]:
    """Find the table's name for each of our columns that it has; it must be long or wide."""
    channels = [column for column in there if column.startswith(CHANNEL)]
    theirs = {ours: ours for ours in (*COLUMNS, *channels) if ours in there} | dict(mapped)
    wide = [ours for ours in theirs if ours.startswith(CHANNEL)]
    if any(not ours.removeprefix(CHANNEL).strip() for ours in wide):
        raise error_at(table, 1, f"a column {CHANNEL!r} lacks its stain, as in 'channel:nucleus'.")
    if bool(wide) == ("path" in theirs):
        has = f"both 'path' and {wide[0]!r}" if wide else "neither 'path' nor 'channel:<stain>'"
        near = difflib.get_close_matches("path", there, n=3, cutoff=0.4)
        hint = f" Is the path in {', '.join(near)}?" if near and not wide else ""
        raise error_at(
            table,
            1,
            f"the table has {has}; one of them is needed (map it with --map path=NAME).{hint} "
            f"Columns there: {', '.join(there)}.",
        )
    if wide and "stain" in theirs:
        raise error_at(table, 1, "a wide table names stains in 'channel:<stain>', not in 'stain'.")
    boxed = [ours for ours in _BOX if ours in theirs]
    if boxed and len(boxed) < len(_BOX):
        raise error_at(
            table, 1, f"a box needs {', '.join(_BOX)}; only {', '.join(boxed)} is there."
        )
    return theirs


def _planes(line: _Line, box: Box | None, *, is_wide: bool) -> list[Plane]:
    """Make the planes of one row: one of a long table, one a filled channel of a wide one."""
    page, series = line.number("page"), line.number("series")
    if not is_wide:
        stain = line.text("stain") or _modality(line)
        return [Plane(_inside(line, "path"), stain, page, series, box)]
    channels = [ours for ours in line.theirs if ours.startswith(CHANNEL) and line.text(ours)]
    if not channels:
        raise error_at(line.table, line.row.line, "no channel has a path.")
    return [
        Plane(_inside(line, ours), ours.removeprefix(CHANNEL).strip(), page, series, box)
        for ours in channels
    ]


def _inside(line: _Line, ours: str) -> str:
    """Return a path that stays in the images' folder on every system."""
    path = line.text(ours)
    if not path:
        raise line.error(ours, "the path is empty.")
    leaves = {"", ".", ".."}.intersection(path.split("/"))
    if leaves or "\\" in path or re.match(r"[A-Za-z]:|.*[\x00-\x1f\x7f]", path, re.DOTALL):
        raise line.error(
            ours,
            f"{path!r} might leave the images' folder. Write paths relative to it, with / and "
            f"without . or .. or a drive.",
        )
    return path


def _box(line: _Line, one_based: bool) -> Box | None:
    """Read a box, 0-based and end-exclusive; None where its four cells are blank."""
    filled = [ours for ours in _BOX if line.text(ours)]
    if not filled:
        return None
    if len(filled) < len(_BOX):
        lacking = next(ours for ours in _BOX if ours not in filled)
        raise line.error(lacking, "the box has only some of its four numbers.")
    x_min, y_min, x_max, y_max = (line.number(ours) for ours in _BOX)
    if one_based:
        x_min, y_min = x_min - 1, y_min - 1
    for ours, start, end in (("x_max", x_min, x_max), ("y_max", y_min, y_max)):
        if start < 0:
            raise line.error(ours.replace("max", "min"), "0 is not in a one-based (voc) box.")
        if end <= start:
            raise line.error(ours, f"the box ends at {end}, where it starts at {start} (0-based).")
    return x_min, y_min, x_max, y_max


def _modality(line: _Line) -> str:
    text = line.text("modality").lower()
    if text and text not in MODALITIES:
        raise line.error("modality", f"{text!r} is none of {', '.join(MODALITIES)}.")
    return text


def _key(line: _Line, plane: Plane) -> str:
    """Make the key of a row: its id, else the path, the page and the box."""
    if text := line.text("id"):
        if key := make_key(*text.split("/")):
            return key
        raise line.error("id", f"{text!r} names nothing.")
    box = "-".join(map(str, plane.box)) if plane.box else ""
    return make_key(plane.path, _page(line), box)


def _page(line: _Line) -> str:
    """Tell a row without id from others of its file: "page-2-series-0", of the columns there.

    Pages with a stain each are the channels of one picture; series are different pictures.
    """
    if line.text("id"):
        return ""
    parts = ("series",) if line.text("stain") else ("page", "series")
    there = [ours for ours in parts if ours in line.theirs]
    return "-".join(f"{ours}-{line.number(ours)}" for ours in there)


def _add(record: _Record, line: _Line, planes: list[Plane]) -> None:
    """Add a row to its record, unless it contradicts an earlier row or repeats a plane."""
    earlier = f"line {record.first.row.line} of the same id"
    texts = {ours: line.text(ours) for ours in _OF_RECORD} | {"modality": _modality(line)}
    for ours, text in texts.items():
        said = record.texts.get(ours, "")
        if text and said and set(_values(text)) != set(_values(said)):
            raise line.error(ours, f"{text!r} contradicts {said!r} on {earlier}.")
        record.texts[ours] = said or text
    for plane in planes:
        where = (plane.path, plane.page, plane.series)
        if where in [(one.path, one.page, one.series) for one in record.planes]:
            raise line.error(
                "path",
                f"{plane.path!r} page {plane.page} repeats a plane of {earlier}. Several cells of "
                f"one image need a box each, and an id each where there is a column id.",
            )
        if record.planes and plane.box != record.planes[0].box:
            raise line.error("x_min", f"the box differs from {earlier}.")
        if line.text("stain") and plane.stain in [one.stain for one in record.planes]:
            raise line.error(
                "stain",
                f"{plane.stain!r} repeats one of {earlier}. Planes of one picture need a stain "
                f"each; rows of other pictures need another id.",
            )
        record.planes.append(plane)
    record.blank += [
        ours.removeprefix(CHANNEL)
        for ours in line.theirs
        if ours.startswith(CHANNEL) and not line.text(ours)
    ]


def _values(text: str) -> tuple[str, ...]:
    """Split a cell at "|", each value once, blanks left out."""
    return tuple(dict.fromkeys(one.strip() for one in text.split(JOINT) if one.strip()))


def _field_of_view(name: str, key: str, record: _Record, folder: SourceFolder) -> FieldOfView:
    texts = record.texts
    absent = [plane.path for plane in record.planes if not folder.use(plane.path)]
    for path in absent:
        folder.miss("file that the table names", path)
    refusal = ("missing channel", ", ".join(record.blank)) if record.blank else None
    if absent:
        refusal = ("missing file", absent[0])
    is_page = _page(record.first) and not (texts["well"] or texts["field"])
    image = record.planes[0].path if record.planes[0].box or is_page else ""
    return FieldOfView(
        source=name,
        key=key,
        modality=texts["modality"],
        planes=tuple(record.planes),
        annotations={ours: values for ours in CATEGORIES if (values := _values(texts[ours]))},
        field_key=make_key(*texts["field"].split("/")),
        group=make_key(*(texts["group"] or image).split("/")),
        plate=texts["plate"],
        well=texts["well"],
        site=texts["site"],
        license=texts["license"],
        refusal=refusal,
    )
