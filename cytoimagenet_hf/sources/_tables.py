"""One reader for tables from outside, and one for the small facts tables of this package.

Real metadata tables come with byte-order marks, CRLF, line breaks inside of quotes, too few or too
many cells, or as a pointer that stands for a file that was never fetched. Each of these is either
read right or an error that names file and line.
"""

import csv
import difflib
import gzip
import importlib.resources
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from cytoimagenet_hf.errors import TableError

MAX_LINE = 1 << 20  # characters; the csv module bounds a cell at 131,072
MAX_TABLE = 1 << 30  # characters of a whole table, after decompression
_DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": "\t", ".lst": "\t"}
_POINTER = re.compile(rb"version https://git-lfs|(?:\.\./)*(?:\.git)?/?annex/objects/")
_DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError)
_UNDECODED = re.compile("[\udc80-\udcff]")  # what errors="surrogateescape" leaves of foreign bytes


class Row(NamedTuple):
    """One row: the line it begins on (from 1) and its cells by column."""

    line: int
    cells: dict[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """An open table: its columns are known, its rows are read once, while they are asked for."""

    path: Path
    columns: tuple[str, ...]
    rows: Iterator[Row]


def read_table(
    path: Path,
    *,
    columns: Iterable[str] = (),
    header: Sequence[str] | None = None,
    delimiter: str | None = None,
    skipped: Callable[[str], None] | None = None,
) -> Table:
    """Open a delimited text table: UTF-8, with or without BOM, plain or `.gz` or `.xz`.

    Header cells are trimmed, other cells are left as they are; rows without any text are passed
    over.

    Args:
        path: the file.
        columns: columns that must be there.
        header: names for the columns of a table that has no header line.
        delimiter: by default a comma for `.csv`, a tab for `.tsv`, `.txt` and `.lst`.
        skipped: is told of each bad row ("file:line: what") and the row is passed over; without
            it a bad row is an error.

    Raises:
        TableError: the file or its header can't be used; while rows are read: a bad row, a line
            that is not UTF-8 or too long, damaged compression. File and line are named.
    """
    between = delimiter or _delimiter(path)
    records = _records(path, between, skipped)
    if header is None:
        first = next(records, None)
        if first is None:
            raise error_at(path, 1, "the table is empty. Fetch it again.")
        names = tuple(cell.strip() for cell in first[1])
    else:
        names = tuple(header)
    _check_header(path, names, columns)
    return Table(path, tuple(name for name in names if name), _rows(path, names, records, skipped))


def error_at(path: Path, line: int, what: str) -> TableError:
    """Build the error for a line of a table: `file:line: what`."""
    return TableError(f"{path}:{line}: {what}")


def facts(name: str) -> list[dict[str, str]]:
    """Read a facts table of this package (`sources/_data/<name>.csv`); lines with # are comments.

    These tables are derived by us; the comment at the top says from what and by which rule.
    """
    data = importlib.resources.files("cytoimagenet_hf.sources").joinpath("_data", f"{name}.csv")
    lines = data.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def _delimiter(path: Path) -> str:
    inner = path.with_suffix("") if path.suffix in (".gz", ".xz") else path
    try:
        return _DELIMITERS[inner.suffix.lower()]
    except KeyError:
        raise TableError(
            f"{path}: a table ends in {', '.join(_DELIMITERS)}, all also with .gz or .xz, and not "
            f"in {inner.suffix!r}. Save or rename it so."
        ) from None


def _open(path: Path) -> BinaryIO:
    """Open the bytes of a table, decompressed; refuse a pointer that stands for a large file."""
    try:
        with path.open("rb") as stream:
            start = stream.read(200)
    except OSError as error:
        raise TableError(f"{path}: can't be read ({error.strerror}).") from error
    if _POINTER.match(start.lstrip()):
        raise error_at(
            path,
            1,
            "this is a large-file pointer (git-lfs or git-annex) and not the table itself. Fetch "
            "the content with `git lfs pull` or `git annex get`.",
        )
    if path.suffix == ".gz":
        return cast(BinaryIO, gzip.open(path))
    if path.suffix == ".xz":
        return cast(BinaryIO, lzma.open(path))
    return path.open("rb")


def _lines(path: Path) -> Iterator[str]:
    """Yield checked lines with their ends, so that a line break inside of quotes survives."""
    total, number = 0, 0
    with _open(path) as raw:
        text = TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="")
        while True:
            try:
                line = text.readline(MAX_LINE + 1)
            except _DAMAGED as error:
                raise error_at(path, number + 1, f"the file is damaged ({error}).") from error
            if not line:
                return
            number += 1
            total += len(line)
            if what := _fault(line, total):
                raise error_at(path, number, what)
            yield line


def _fault(line: str, total: int) -> str:
    """Say what is wrong with a line; "" where nothing is."""
    if len(line) > MAX_LINE:
        return f"the line has more than {MAX_LINE:,} characters. Is this a text table?"
    if total > MAX_TABLE:
        return f"the table has more than {MAX_TABLE:,} characters. Split it."
    if "\0" in line:
        return "the line holds a NUL byte. Save the table as UTF-8 text."
    if hit := _UNDECODED.search(line):
        byte = ord(hit[0]) - 0xDC00
        return f"byte 0x{byte:02x} is not UTF-8. Save the table as UTF-8 text."
    return ""


def _records(
    path: Path, delimiter: str, skipped: Callable[[str], None] | None
) -> Iterator[tuple[int, list[str]]]:
    """Yield (first line, cells) of each record that holds any text."""
    reader = csv.reader(_lines(path), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            what = f"the row can't be read ({error}). Are its quotes closed?"
            if skipped is None:
                raise error_at(path, line, what) from error
            skipped(f"{path.name}:{line}: {what}")
            continue
        if any(cell.strip() for cell in cells):
            yield line, cells


def _rows(
    path: Path,
    names: tuple[str, ...],
    records: Iterator[tuple[int, list[str]]],
    skipped: Callable[[str], None] | None,
) -> Iterator[Row]:
    """Pair cells with columns; a record with another number of cells is bad."""
    for line, cells in records:
        if len(cells) == len(names):
            yield Row(line, {name: cell for name, cell in zip(names, cells, strict=True) if name})
            continue
        what = f"the row has {len(cells)} cells, {len(names)} are expected"
        if skipped is None:
            raise error_at(path, line, f"{what}. First cell: {cells[0][:40]!r}.")
        skipped(f"{path.name}:{line}: {what}")


def _check_header(path: Path, names: tuple[str, ...], wanted: Iterable[str]) -> None:
    """Refuse repeated names and missing columns; a blank name can't be asked for."""
    repeated = sorted({name for name in names if name and names.count(name) > 1})
    if repeated:
        raise error_at(path, 1, f"the header repeats {', '.join(repeated)}. Rename one of each.")
    for name in wanted:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
            hint = f" (near: {', '.join(near)})" if near else ""
            raise error_at(path, 1, f"no column {name!r}{hint}. Columns there: {', '.join(names)}.")
