"""Tests of what a build reads: data roots, source files, tables, and what is wrong with them."""

import pytest

from cytoimagenet_hf import sources
from cytoimagenet_hf.curation import inputs
from cytoimagenet_hf.curation.catalog import SourceInput
from cytoimagenet_hf.errors import SourceNotFoundError, TableError
from cytoimagenet_hf.sources import SourceFolder


@pytest.fixture
def roots(tmp_path):
    """Two data roots: one with two sources and a stranger, one with a third source."""
    for folder in ("one/bbbc006", "one/bbbc022", "one/stranger", "two/bbbc048"):
        (tmp_path / folder).mkdir(parents=True)
    return [str(tmp_path / "one"), str(tmp_path / "two")]


def found(entries) -> dict[str, str]:
    """Give the last parts of the root of each source."""
    return {entry.source.name: "/".join(entry.root.parts[-2:]) for entry in entries}


def test_all_sources_of_all_roots_are_found(roots) -> None:
    """Folders that no source is named like are passed over."""
    assert found(inputs.from_roots(roots, [])) == {
        "bbbc006": "one/bbbc006",
        "bbbc022": "one/bbbc022",
        "bbbc048": "two/bbbc048",
    }


def test_names_choose_sources(roots) -> None:
    """Only what is named is taken, in the order named."""
    assert list(found(inputs.from_roots(roots, ["bbbc048", "bbbc006"]))) == ["bbbc048", "bbbc006"]


def test_a_root_may_name_its_source(roots, tmp_path) -> None:
    """NAME=FOLDER wins over the folders of other roots, whatever it is called."""
    entries = inputs.from_roots([*roots, f"bbbc006={tmp_path / 'one/stranger'}"], ["bbbc006"])
    assert found(entries) == {"bbbc006": "one/stranger"}


def test_a_folder_with_an_equal_sign_is_a_folder(tmp_path) -> None:
    """A root that exists as it is written is not taken apart."""
    (tmp_path / "k=5/bbbc006").mkdir(parents=True)
    assert found(inputs.from_roots([str(tmp_path / "k=5")], [])) == {"bbbc006": "k=5/bbbc006"}


def test_an_unknown_name_is_answered_with_near_ones(roots) -> None:
    """A slip of the finger is an error that offers what was meant."""
    with pytest.raises(SourceNotFoundError, match=r"'bbbc06'.*bbbc006"):
        inputs.from_roots(roots, ["bbbc06"])


def test_an_unknown_name_before_the_equal_sign_is_an_error(roots, tmp_path) -> None:
    """Otherwise the folder would be left out silently."""
    with pytest.raises(SourceNotFoundError, match=r"'bbc006'.*bbbc006"):
        inputs.from_roots([*roots, f"bbc006={tmp_path}"], [])
    other = SourceInput(sources.get("bbbc005"), tmp_path)
    with pytest.raises(SourceNotFoundError, match=r"'bbc006'.*bbbc006"):
        inputs.from_roots([*roots, f"bbc006={tmp_path}"], [], others=[other])


def test_a_name_may_be_that_of_a_source_file(roots, tmp_path) -> None:
    """Its root is among the data roots, and is no source of the package."""
    (tmp_path / "mine.py").write_text(_MINE)
    given = [*roots, f"mine={tmp_path}"]
    mine = inputs.from_file(tmp_path / "mine.py", given)
    assert len(inputs.from_roots(given, [], others=[mine])) == 3


def test_two_folders_of_one_source_are_an_error(roots, tmp_path) -> None:
    """One would be left out silently; a named one decides, and one folder twice is one."""
    (tmp_path / "two/bbbc006").mkdir()
    with pytest.raises(SourceNotFoundError, match=r"bbbc006 lies in .*one/bbbc006 and .*two/bbbc0"):
        inputs.from_roots(roots, [])
    named = [f"bbbc006={root}/bbbc006" for root in roots]
    with pytest.raises(SourceNotFoundError, match="name one with --data-root bbbc006=DIR"):
        inputs.from_roots(named, ["bbbc006"])
    assert found(inputs.from_roots([*roots, named[1]], ["bbbc006"])) == {"bbbc006": "two/bbbc006"}
    assert len(inputs.from_roots([roots[1], f"{tmp_path}/one/../two"], [])) == 2
    assert found(inputs.from_roots(roots, ["bbbc048"])) == {"bbbc048": "two/bbbc048"}


def test_folders_that_no_source_matches_are_told_of(roots, tmp_path) -> None:
    """Some by name, all by count; not what is something else of the build."""
    (note,) = inputs.unmatched(roots, [])
    assert "such a name: stranger (" in note
    assert inputs.unmatched(roots, [tmp_path / "one/stranger/raw"]) == []
    for name in ("BBBC022", "a", "b", "c", "d", ".hidden"):
        (tmp_path / "two" / name).mkdir()
    assert "BBBC022, a, b, c, d and 1 more" in inputs.unmatched(roots, [])[0]


@pytest.mark.parametrize("root", ["{}/absent", "bbbc006={}/absent", "{}/file"])
def test_a_root_that_is_no_folder_is_an_error(tmp_path, root) -> None:
    """The message names the folder."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceNotFoundError, match=r"No data root .*(absent|file)"):
        inputs.from_roots([root.format(tmp_path)], [])


def test_a_source_without_a_folder_says_where_was_looked(roots) -> None:
    """The message lists all places, and how to name another."""
    with pytest.raises(SourceNotFoundError, match=r"one/bbbc010.*two/bbbc010.*bbbc010=FOLDER"):
        inputs.from_roots(roots, ["bbbc010"])


def test_roots_without_sources_are_an_error_unless_something_else_is_built(tmp_path) -> None:
    """The message lists the names that folders should have."""
    with pytest.raises(SourceNotFoundError, match=r"No source was found.*bbbc005, bbbc006"):
        inputs.from_roots([str(tmp_path)], [])
    with pytest.raises(SourceNotFoundError, match="no --data-root was given"):
        inputs.from_roots([], [])
    other = SourceInput(sources.get("bbbc005"), tmp_path)
    assert inputs.from_roots([str(tmp_path)], [], others=[other]) == []


def test_tables_alone_stand_for_a_source(tmp_path) -> None:
    """A folder of tables is enough to plan from; the absent raw folder is an error when read."""
    (tmp_path / "tables/bbbc022").mkdir(parents=True)
    (tmp_path / "roots").mkdir()
    (entry,) = inputs.from_roots([str(tmp_path / "roots")], ["bbbc022"], tables=tmp_path / "tables")
    assert entry.tables == (tmp_path / "tables/bbbc022",)
    with pytest.raises(SourceNotFoundError, match="bbbc022"):
        list(entry.source.fields(entry.folder()))


_MINE = """
from __future__ import annotations
import dataclasses
from cytoimagenet_hf.sources import FieldOfView, Plane, Source

@dataclasses.dataclass
class Position:
    well: str

def fields(folder):
    for hit in folder.match(r"(.*)\\.tif"):
        yield FieldOfView(source="mine", key=Position(hit[1]).well, modality="", planes=())

SOURCE = Source(
    name="mine", title="", database="", accession="", page="", license="MIT", citation="",
    modality=(), expected_fields=None, layout="a.tif", fields=fields,
)
"""


def test_a_source_file_is_run(tmp_path) -> None:
    """A module outside of the package is a source, also when it makes dataclasses of its own."""
    (tmp_path / "raw/mine").mkdir(parents=True)
    (tmp_path / "raw/mine/a.tif").write_text("")
    (tmp_path / "mine.py").write_text(_MINE)
    entry = inputs.from_file(tmp_path / "mine.py", [str(tmp_path / "raw")])
    (only,) = entry.source.fields(SourceFolder(entry.root, "mine"))
    assert only.id == "mine/a"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 1\n", "defines no SOURCE"),
        ("SOURCE = 'mine'\n", "defines no SOURCE"),
        ("SOURCE = (\n", r"mine\.py.*SyntaxError"),
        ("import no_such_module\n", r"mine\.py.*ModuleNotFoundError"),
    ],
    ids=["none", "text", "syntax", "import"],
)
def test_a_file_that_is_no_source_is_an_error(tmp_path, content, message) -> None:
    """The message names the file and what is wrong with it."""
    (tmp_path / "mine.py").write_text(content)
    with pytest.raises(SourceNotFoundError, match=message):
        inputs.from_file(tmp_path / "mine.py", [str(tmp_path)])


@pytest.mark.parametrize("name", ["../mine", "mi/ne", "Mine", "", "9"])
def test_a_source_file_has_a_plain_name(tmp_path, name) -> None:
    """A name becomes a file name and the start of ids, so only plain ones are taken."""
    (tmp_path / "mine.py").write_text(_MINE.replace('name="mine"', f"name={name!r}"))
    with pytest.raises(SourceNotFoundError, match="name"):
        inputs.from_file(tmp_path / "mine.py", [f"{name}={tmp_path}", str(tmp_path)])


@pytest.mark.parametrize("name", ["absent.py", "mine.txt"])
def test_a_source_file_must_be_a_python_file(tmp_path, name) -> None:
    """Neither an absent file nor a text is run."""
    (tmp_path / "mine.txt").write_text("SOURCE = 1")
    with pytest.raises(SourceNotFoundError, match=name):
        inputs.from_file(tmp_path / name, [str(tmp_path)])


@pytest.fixture
def table(tmp_path):
    """A table of one image, with a column that is named otherwise."""
    (tmp_path / "cells.csv").write_text("file,organism\na.tif,human\n")
    return tmp_path / "cells.csv"


def test_a_table_is_a_source(table, tmp_path) -> None:
    """Its name is the table's, its root the table's folder, and its options are inputs."""
    entry = inputs.from_table(table, None, ["path=file"])
    assert (entry.source.name, entry.root, entry.inputs) == ("cells", tmp_path, (table,))
    other = inputs.from_table(table, None, ["path=file"], box="voc")
    assert entry.options != other.options
    (only,) = entry.source.fields(entry.folder())
    assert (only.id, only.annotations) == ("cells/a.tif", {"organism": ("human",)})


@pytest.mark.parametrize(
    ("columns", "message"),
    [(["path"], "COLUMN=NAME.*'path'"), (["paths=file"], "'paths'.*path"), (["=file"], "''")],
)
def test_mappings_of_unknown_form_are_errors(table, columns, message) -> None:
    """A mapping without =, or of a column that is none of ours, is an error at once."""
    with pytest.raises(ValueError, match=message):
        inputs.from_table(table, None, columns)


def test_a_mapping_to_an_absent_column_is_an_error_that_lists_the_columns(table) -> None:
    """What the table lacks is said when it is read, with what it has."""
    entry = inputs.from_table(table, None, ["path=filename"])
    with pytest.raises(TableError, match="filename"):
        list(entry.source.fields(entry.folder()))


def test_one_column_is_mapped_once(table) -> None:
    """Two mappings of one column contradict each other."""
    with pytest.raises(ValueError, match="path"):
        inputs.from_table(table, None, ["path=file", "path=organism"])


def test_an_absent_table_or_folder_of_images_is_an_error(table, tmp_path) -> None:
    """Each message names what is absent."""
    with pytest.raises(TableError, match=r"absent\.csv"):
        inputs.from_table(tmp_path / "absent.csv", None, [])
    with pytest.raises(SourceNotFoundError, match="nowhere"):
        inputs.from_table(table, tmp_path / "nowhere", [])
