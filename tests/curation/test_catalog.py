"""Tests of the catalog: what is refused, what is reported, and when it is made again."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cytoimagenet_hf import files
from cytoimagenet_hf.curation import inputs
from cytoimagenet_hf.curation.catalog import (
    SourceInput,
    build_catalog,
    planned_fields,
    read_catalog,
    split_cell,
)
from cytoimagenet_hf.errors import CatalogError
from cytoimagenet_hf.schema import CATEGORIES
from cytoimagenet_hf.sources import Plane
from tests.curation.material import entry_of, record, source_of


def cataloged(records, folder: Path, *, name: str = "made", **known):
    """Write the catalog of some records; give its table and its report."""
    (folder / "raw").mkdir(exist_ok=True)
    entry = entry_of(records, folder / "raw", name=name)
    build_catalog(entry, folder / "catalog", **known)
    table = read_catalog(folder / "catalog", [name])
    return table, files.read_json(folder / "catalog" / f"{name}.json")


def fields_and_ids(table):
    """Give the planned fields and the id of each, by the records that it has."""
    fields, of_row = planned_fields(table)
    usable = [row["field"] for row in table.to_pylist() if row["refusal"] is None]
    named = dict(zip(of_row.tolist(), usable, strict=True))
    return fields, [named[number] for number in range(len(fields))]


def values_by_field(table) -> dict[str, dict[str, tuple[str, ...]]]:
    """Give the values of each planned field."""
    fields, ids = fields_and_ids(table)
    found = {idx: {} for idx in ids}
    for category in CATEGORIES:
        cells = fields.cells[category]
        for idx, code in zip(ids, cells.codes.tolist(), strict=True):
            if code >= 0:
                found[idx][category] = split_cell(cells.texts[code])
    return found


def test_catalog_holds_a_row_a_record_in_order_of_ids(tmp_path) -> None:
    """Rows come by field and id, with canonical values, the default license and all planes."""
    box = Plane("b.tif", "actin", page=1, series=2, box=(0, 1, 2, 3))
    table, report = cataloged(
        [
            record("b", planes=(box,), organism=("Human",), license="MIT"),
            record("a", gene=("TP53", "atm targeted"), plate="p", well="w"),
        ],
        tmp_path,
    )
    first, second = table.to_pylist()
    assert (first["id"], first["field"], first["group"]) == ("made/a", "made/a", "made/p/w")
    assert first["gene"] == "atm targeted|tp53 targeted"
    assert first["organism"] is None
    assert (first["license"], second["license"]) == ("CC0 1.0", "MIT")
    assert second["planes"] == [
        {"path": "b.tif", "stain": "actin", "page": 1, "series": 2, "box": [0, 1, 2, 3]}
    ]
    assert (report["records"], report["fields"]) == (2, 2)


def test_two_records_with_one_id_are_an_error(tmp_path) -> None:
    """The message names the id and the files of both."""
    twins = [record("a", path="x.tif"), record("a", path="y.tif")]
    with pytest.raises(CatalogError, match=r"'made/a' \(x\.tif and y\.tif\).*remove"):
        cataloged(twins, tmp_path)


def test_two_records_without_files_and_with_one_id_are_an_error(tmp_path) -> None:
    """Records from tables alone have no file that the message could name."""
    twins = [record("a", planes=()), record("a", planes=())]
    with pytest.raises(CatalogError, match="no file and no file"):
        cataloged(twins, tmp_path)


def test_a_field_has_one_group(tmp_path) -> None:
    """Records of one field on two sides of the split would leak; both groups are named."""
    records = [record("a/1", field_key="a", group="x"), record("a/2", field_key="a", group="y")]
    with pytest.raises(CatalogError, match="'made/a' have the groups 'made/x' and 'made/y'"):
        cataloged(records, tmp_path)


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../a.tif", "a/../../b.tif", "a/..", "a\\b.tif", "..\\b.tif", "C:/a.tif",
     "C:a.tif", "//host/share/a.tif", "", "a\x00.tif"],
)  # fmt: skip
def test_paths_that_leave_the_root_are_refused(tmp_path, path) -> None:
    """Absolute, climbing, Windows and impossible paths are errors that show the path."""
    planes = (Plane("fine.tif", "nucleus"), Plane(path, "actin"))
    with pytest.raises(CatalogError, match=r"made: the path .* leaves the data root"):
        cataloged([record("a", planes=planes)], tmp_path)


def test_odd_names_inside_of_the_root_are_taken(tmp_path) -> None:
    """Dots, spaces, colons further down and other alphabets are names like others."""
    names = ["a..b/..c.tif", "ä b/1:2.tif", "...tif"]
    table, _ = cataloged([record(str(at), path=name) for at, name in enumerate(names)], tmp_path)
    assert [row["planes"][0]["path"] for row in table.to_pylist()] == names


def test_values_that_differ_by_case_are_merged_and_reported(tmp_path) -> None:
    """The report lists all spellings of what became one value, and no others."""
    records = [
        record("a", cell_type=("U2OS",)),
        record("b", cell_type=("u2os",)),
        record("c", cell_type=("U-2 OS ",), organism=("human",)),
    ]
    table, report = cataloged(records, tmp_path)
    assert set(table["cell_type"].to_pylist()) == {"u2os"}
    assert report["spellings"] == [
        {"category": "cell_type", "value": "u2os", "spellings": ["U-2 OS ", "U2OS", "u2os"]}
    ]


def test_controls_are_dropped_and_reported(tmp_path) -> None:
    """EMPTY is no label and DMSO no phenotype; the report says how often and why."""
    records = [
        record("a", sirna=("EMPTY",), compound=("DMSO",)),
        record("b", sirna=("EMPTY",), phenotype=("dmso", "round")),
    ]
    table, report = cataloged(records, tmp_path)
    assert table["sirna"].to_pylist() == [None, None]
    assert table["compound"].to_pylist() == ["dmso", None]
    assert table["phenotype"].to_pylist() == [None, "round"]
    dropped = {(one["category"], one["value"]): one["records"] for one in report["dropped"]}
    assert dropped == {("phenotype", "dmso"): 1, ("sirna", "EMPTY"): 2}
    assert all(one["reason"] for one in report["dropped"])


def test_a_bar_inside_of_a_value_is_an_error(tmp_path) -> None:
    """The separator of cells can't be part of a value; the record is named."""
    with pytest.raises(CatalogError, match=r"made/a: compound 'x\|y'"):
        cataloged([record("a", compound=("x|y",))], tmp_path)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (record("a", celltype=("u2os",)), "made/a.*'celltype'.*cell_type"),
        (record("a", organism="human"), "made/a.*organism.*tuple"),
        (record("a", source="other"), "made.*'other/a'"),
        (record("a#1"), "made/a#1.*make_key"),
        (record("a\x1fb"), "make_key"),
        (record(""), "key"),
    ],
    ids=["category", "text", "source", "hash sign", "control character", "no key"],
)
def test_records_that_break_the_contract_are_errors(tmp_path, broken, message) -> None:
    """A source file of a user is told what is wrong, instead of losing annotations silently."""
    with pytest.raises(CatalogError, match=message):
        cataloged([broken], tmp_path)


def test_refused_records_are_kept_and_count_nothing(tmp_path) -> None:
    """A record without planes stands in the catalog with its reason, and outside of the plan."""
    records = [
        record("a", planes=(), refusal=("missing channel", "w2"), organism=("human",)),
        record("b", organism=("human",)),
    ]
    table, _ = cataloged(records, tmp_path)
    assert table["refusal"].to_pylist() == ["missing channel", None]
    assert table["detail"].to_pylist() == ["w2", None]
    assert values_by_field(table) == {"made/b": {"organism": ("human",)}}


def test_a_catalog_of_refused_records_plans_nothing(tmp_path) -> None:
    """Without one usable record there are no fields."""
    table, _ = cataloged([record("a", planes=(), refusal=("missing file", "a"))], tmp_path)
    fields, ids = fields_and_ids(table)
    assert (len(fields), ids) == (0, [])


def test_a_field_has_the_values_of_all_its_records(tmp_path) -> None:
    """Of three records of one cell only the fluorescent one shows a nucleus; the cell has it."""
    records = [
        record("a/bright", field_key="a", phenotype=("g1",)),
        record("a/dark", field_key="a", phenotype=("g1",), cell_visible=("rim",)),
        record("a/glow", field_key="a", phenotype=("g1",), cell_visible=("nucleus", "actin")),
        record("b/bright", field_key="b", phenotype=("s",)),
        record("b/glow", field_key="b", phenotype=("s",), cell_visible=("rim",)),
        record("c/glow", field_key="c", cell_visible=("nucleus", "actin"), refusal=("x", "")),
    ]
    table, _ = cataloged(records, tmp_path)
    assert values_by_field(table) == {
        "made/a": {"phenotype": ("g1",), "cell_visible": ("actin", "nucleus", "rim")},
        "made/b": {"phenotype": ("s",), "cell_visible": ("rim",)},
    }


def test_catalogs_of_several_sources_are_read_together(tmp_path) -> None:
    """Dictionaries of sources are united, and each field keeps its source."""
    for name in ("made", "made2"):
        cataloged([record("a", source=name, organism=(name,))], tmp_path, name=name)
    fields, ids = fields_and_ids(read_catalog(tmp_path / "catalog", ["made2", "made"]))
    assert ids == ["made/a", "made2/a"]
    assert [fields.source_names[code] for code in fields.sources] == ["made", "made2"]


def test_order_of_records_leaves_no_trace(tmp_path) -> None:
    """The same records in another order give the same bytes of both files."""
    records = [record(key, organism=(key,), gene=("g", key)) for key in "abcd"]
    written = []
    for number, some in enumerate((records, records[::-1])):
        (tmp_path / str(number)).mkdir()
        cataloged(some, tmp_path / str(number))
        catalog = tmp_path / str(number) / "catalog"
        report = files.read_json(catalog / "made.json")
        report.pop("signature")
        written.append(((catalog / "made.parquet").read_bytes(), report))
    assert written[0] == written[1]


def test_tables_alone_make_a_catalog_without_raw_files(tmp_path) -> None:
    """`rows` is asked in place of `fields`; a source without it says that it needs its files."""
    only_rows = source_of([], rows=lambda folder: iter([record("a", planes=())]))
    entry = SourceInput(only_rows, tmp_path / "absent")
    assert build_catalog(entry, tmp_path / "catalog", from_tables=True)
    table = read_catalog(tmp_path / "catalog", ["made"])
    assert table["planes"].to_pylist() == [[]]
    with pytest.raises(CatalogError, match="made has no tables"):
        build_catalog(SourceInput(source_of([]), tmp_path), tmp_path / "catalog", from_tables=True)


_MODULE = """
from cytoimagenet_hf.sources import FieldOfView, Plane, Source

def fields(folder):
    for hit in folder.match(r"(.*)\\.tif"):
        yield FieldOfView(
            source="mine", key=hit[1], modality="", planes=(Plane(hit[0], "nucleus"),)
        )

SOURCE = Source(
    name="mine", title="", database="", accession="", page="", license="MIT", citation="",
    modality=(), expected_fields=None, layout="a.tif", fields=fields,
)
"""


@pytest.fixture
def mine(tmp_path) -> Path:
    """A folder with a source file, an image, a table and a hidden file."""
    (tmp_path / "mine.py").write_text(_MODULE)
    raw = tmp_path / "raw" / "mine"
    raw.mkdir(parents=True)
    for name in ("a.tif", "facts.csv", ".hidden"):
        (raw / name).write_text("old")
    return tmp_path


def _rebuild(folder: Path, **known) -> bool:
    entry = inputs.from_file(folder / "mine.py", [str(folder / "raw")])
    return build_catalog(dataclasses.replace(entry, **known), folder / "catalog")


def _age(path: Path) -> None:
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))


_CHANGES = {
    "bytes of a table": lambda at: (at / "raw/mine/facts.csv").write_text("new"),
    "size of an image": lambda at: (at / "raw/mine/a.tif").write_text("longer"),
    "time of an image": lambda at: _age(at / "raw/mine/a.tif"),
    "a new image": lambda at: (at / "raw/mine/b.tif").write_text("old"),
    "an image gone": lambda at: (at / "raw/mine/a.tif").unlink(),
    "code of the source": lambda at: (at / "mine.py").write_text(_MODULE + "# changed\n"),
    "the catalog gone": lambda at: (at / "catalog/mine.parquet").unlink(),
    "the report damaged": lambda at: (at / "catalog/mine.json").write_text("{"),
}
_NO_CHANGES = {
    "nothing": lambda at: None,
    "time of a table": lambda at: _age(at / "raw/mine/facts.csv"),
    "a hidden file": lambda at: (at / "raw/mine/.hidden").write_text("newer"),
    "another source": lambda at: (at / "raw/other").mkdir(),
}


@pytest.mark.parametrize("what", _CHANGES)
def test_a_catalog_is_made_again_when_its_inputs_change(mine, what) -> None:
    """Whatever it was made of, and nothing less, brings it up to date."""
    assert _rebuild(mine)
    _CHANGES[what](mine)
    assert _rebuild(mine)
    assert not _rebuild(mine)


@pytest.mark.parametrize("what", _NO_CHANGES)
def test_a_catalog_is_kept_while_its_inputs_are_the_same(mine, what) -> None:
    """What the source can't see makes nothing new."""
    assert _rebuild(mine)
    before = (mine / "catalog/mine.parquet").stat().st_mtime_ns
    _NO_CHANGES[what](mine)
    assert not _rebuild(mine)
    assert (mine / "catalog/mine.parquet").stat().st_mtime_ns == before


def test_options_and_further_files_are_inputs(mine) -> None:
    """A user's table and how it is read decide too; so do tables that lie elsewhere."""
    table, more = mine / "user.csv", mine / "tables"
    table.write_text("old")
    more.mkdir()
    known = {"inputs": (table,), "options": "zero", "tables": (more,)}
    assert _rebuild(mine)
    assert _rebuild(mine, **known)
    assert not _rebuild(mine, **known)
    table.write_text("new")
    assert _rebuild(mine, **known)
    (more / "a.csv").write_text("")
    assert _rebuild(mine, **known)
    assert _rebuild(mine, **known | {"options": "voc"})


_OF_TABLE = """
import pathlib, sys
from cytoimagenet_hf.curation import catalog, inputs
at = pathlib.Path(sys.argv[1])
entry = inputs.from_table(at / "cells.csv", at / "images", [])
print(catalog.build_catalog(entry, at / "catalog"))
"""


def test_the_catalog_of_a_table_is_kept_by_the_next_process(tmp_path) -> None:
    """A source made of a user's table is new in each process, and its signature is not."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.tif").write_text("")
    (tmp_path / "cells.csv").write_text("path,organism\na.tif,human\n")
    command = [sys.executable, "-c", _OF_TABLE, str(tmp_path)]
    said = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        for _ in range(2)
    ]
    assert said == ["True", "False"]


def test_a_failed_catalog_leaves_the_old_one(tmp_path) -> None:
    """An error while records are read writes nothing."""
    cataloged([record("a")], tmp_path)
    (tmp_path / "raw/new.tif").write_text("")
    with pytest.raises(CatalogError):
        cataloged([record("a"), record("a")], tmp_path)
    assert pq.read_table(tmp_path / "catalog/made.parquet")["id"].to_pylist() == ["made/a"]
    assert sorted(path.name for path in (tmp_path / "catalog").iterdir()) == [
        "made.json",
        "made.parquet",
    ]
