"""Tests of the reader of outside tables."""

import csv
import gzip
import io
import lzma

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytoimagenet_hf.errors import TableError
from cytoimagenet_hf.sources import _tables
from cytoimagenet_hf.sources._tables import facts, read_table

cells = st.text(
    st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), min_size=1, max_size=20
)
grids = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), max_size=6)
)


def read(path, **options):
    """Read a whole table as (line, cells) pairs."""
    return [(row.line, tuple(row.cells.values())) for row in read_table(path, **options).rows]


def written(folder, content, name="t.csv"):
    """Write bytes or text as they are."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@given(grid=grids, ending=st.sampled_from(["csv", "tsv"]), pack=st.sampled_from(["", "gz", "xz"]),
       bom=st.booleans(), line_end=st.sampled_from(["\n", "\r\n"]))  # fmt: skip
def test_what_the_csv_module_writes_is_read_back(
    tmp_path_factory, grid, ending, pack, bom, line_end
):
    """Quotes, delimiters, line feeds in cells, BOM, CRLF and compression change no cell."""
    grid = [row for row in grid if any(cell.strip() for cell in row)]
    header = [f"c{number}" for number in range(len(grid[0]) if grid else 1)]
    text = io.StringIO()
    between = "," if ending == "csv" else "\t"
    csv.writer(text, delimiter=between, lineterminator=line_end).writerows([header, *grid])
    raw = (b"\xef\xbb\xbf" if bom else b"") + text.getvalue().encode()
    packed = {"": bytes, "gz": gzip.compress, "xz": lzma.compress}[pack](raw)
    name = f"t.{ending}" + (f".{pack}" if pack else "")
    path = written(tmp_path_factory.mktemp("t"), packed, name)
    table = read_table(path)
    assert list(table.columns) == header
    assert [list(row.cells.values()) for row in table.rows] == grid


def test_lines_are_counted_as_an_editor_counts_them(tmp_path):
    """A quoted line break and a blank line move the rows below them."""
    path = written(tmp_path, 'a,b\n1,"x\r\ny"\n\n2,z\n')
    assert read(path) == [(2, ("1", "x\r\ny")), (5, ("2", "z"))]


def test_header_cells_are_trimmed_and_others_are_not(tmp_path):
    """A BOM and blanks around names don't hide a column; a value is left as written."""
    table = read_table(written(tmp_path, "\ufeff id , b\r\n 1 , 2\r\n"), columns=("id", "b"))
    assert table.columns == ("id", "b")
    assert next(table.rows).cells == {"id": " 1 ", "b": " 2"}


def test_a_table_without_header_gets_names(tmp_path):
    """The first line is a row; a list ends its cells with tabs."""
    path = written(tmp_path, "0\tx y\n1\tz\n", "t.lst")
    assert read(path, header=("n", "what")) == [(1, ("0", "x y")), (2, ("1", "z"))]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n1,2,3\n", r"t\.csv:3: the row has 3 cells, 2 are expected"),
        ("a,b\n1\n", r"t\.csv:2: the row has 1 cells, 2 are expected"),
        ('a,b\n1,"2\n3,4\n', r"t\.csv:2: the row can't be read .*quotes"),
        (b"a,b\n1,2\n\xb5M,2\n", r"t\.csv:3: byte 0xb5 is not UTF-8"),
        (b"\xff\xfea\0,\0b\0\n\0", r"t\.csv:1: "),
        ("a,b\n1,\0\n", r"t\.csv:2: the line holds a NUL byte"),
        ("a,b\n1," + "x" * (1 << 17) + "x\n", r"t\.csv:2: the row can't be read .*limit"),
        ("a,b\n1," + "x" * (1 << 20), r"t\.csv:2: the line has more than 1,048,576"),
        ("a,b,a\n", r"t\.csv:1: the header repeats a\."),
        ("", r"t\.csv:1: the table is empty"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "large-file pointer"),
        ("/annex/objects/MD5E-s5--0.csv\n", "large-file pointer"),
        ("../../.git/annex/objects/Xx/1/MD5E-s5--0.csv\n", "large-file pointer"),
    ],
)
def test_a_table_that_cannot_be_used_names_file_and_line(tmp_path, content, message):
    """Ragged rows, open quotes, foreign bytes, huge cells, repeated names, pointers."""
    with pytest.raises(TableError, match=message):
        read(written(tmp_path, content))


@pytest.mark.parametrize("name", ["t.csv.gz", "t.csv.xz"])
def test_damaged_compression_and_packed_pointers_are_told_apart(tmp_path, name):
    """A file that is cut short is damaged; a pointer with a packed name is a pointer."""
    pack = gzip.compress if name.endswith("gz") else lzma.compress
    whole = pack(("a,b\n" + "".join(f"{n},{n * n}\n" for n in range(999))).encode())
    with pytest.raises(TableError, match=r"t\.csv\.[gx]z:\d+: the file is damaged"):
        read(written(tmp_path, whole[:-20], name))
    with pytest.raises(TableError, match="the file is damaged"):
        read(written(tmp_path, "a,b\n", name))
    with pytest.raises(TableError, match="git lfs pull"):
        read(written(tmp_path, "version https://git-lfs.github.com/spec/v1\n", name))


def test_a_packed_table_that_grows_without_end_is_stopped(tmp_path, monkeypatch):
    """A small file may unpack to more than memory holds: characters are counted."""
    monkeypatch.setattr(_tables, "MAX_TABLE", 1000)
    path = written(tmp_path, lzma.compress(b"a,b\n" + b"1,2\n" * 500), "t.csv.xz")
    with pytest.raises(TableError, match=r":251: the table has more than 1,000 characters"):
        read(path)


def test_the_caller_may_skip_bad_rows_and_count_them(tmp_path):
    """Two ragged rows and one with a broken quote are told; the good ones come through."""
    bad = []
    path = written(tmp_path, 'a,b\n1\n2,2\n3,3,3\n4,"x"y\n5,5\n')
    assert read(path, skipped=bad.append) == [(3, ("2", "2")), (6, ("5", "5"))]
    assert [what.partition(": ")[0] for what in bad] == ["t.csv:2", "t.csv:4", "t.csv:5"]
    assert "1 cells, 2 are expected" in bad[0]


def test_a_missing_column_is_answered_with_near_ones(tmp_path):
    """The error lists what is there, so that a renamed column is found."""
    path = written(tmp_path, "Image_PlateID,Well\n1,2\n")
    with pytest.raises(TableError, match=r"no column 'Image_Plate' \(near: Image_PlateID\).*Well"):
        read_table(path, columns=("Well", "Image_Plate"))


def test_unknown_endings_and_absent_files_are_errors(tmp_path):
    """A spreadsheet is refused by its name; a path that isn't there by the system's word."""
    with pytest.raises(TableError, match=r"not in '\.xlsx'"):
        read_table(written(tmp_path, "x", "t.xlsx"))
    with pytest.raises(TableError, match="can't be read"):
        read_table(tmp_path / "absent.csv")


def test_a_delimiter_may_be_given(tmp_path):
    """A csv of another country has semicolons."""
    assert read(written(tmp_path, "a;b\n1,5;2\n"), delimiter=";") == [(2, ("1,5", "2"))]


def test_facts_tables_hide_their_comments():
    """The first line after the comments is the header."""
    rows = facts("bbbc038_modality")
    assert rows[0] == {"image": "00071198", "modality": "fluorescence"}
