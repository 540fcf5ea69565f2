"""Tests of records, keys, and the folder that reports what was not used."""

import os
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytoimagenet_hf import sources
from cytoimagenet_hf.errors import SourceNotFoundError
from cytoimagenet_hf.files import write_json
from cytoimagenet_hf.schema import SIMULATED_MARK
from cytoimagenet_hf.sources import FieldOfView, SourceFolder, group_channels, make_key
from tests.sources.raw import folder_of

parts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PATTERN = r"(?P<well>[a-z]\d)_s(?P<site>\d)_w(?P<channel>\d)\.tif"


def record(**known) -> FieldOfView:
    """Make a record of which only some parts are known."""
    return FieldOfView(source="s", modality="", planes=(), **known)


@given(st.lists(parts, max_size=4))
def test_a_key_is_safe_in_ids(names):
    """No "#" (it ends an idx), no control character, NFC: and making it of itself adds none."""
    key = make_key(*names)
    assert not any(one == "#" or ord(one) < 32 or ord(one) == 127 for one in key)
    assert unicodedata.is_normalized("NFC", key)


@given(parts, parts)
def test_different_names_have_different_keys(one, other):
    """Encoding loses nothing but the Unicode form."""
    composed = [unicodedata.normalize("NFC", text) for text in (one, other)]
    assert (make_key(one) == make_key(other)) == (composed[0] == composed[1])


def test_a_key_joins_names_that_are_there():
    """Percent signs are encoded, so that an encoded "#" can't be met by a written one."""
    assert make_key("p1", "", "a#1", "100%23") == "p1/a%231/100%2523"


@pytest.mark.parametrize(
    ("known", "field_id", "group_id"),
    [
        ({"key": "p/a1/s1/bf", "field_key": "p/a1/s1", "group": "g"}, "s/p/a1/s1", "s/g"),
        ({"key": "k", "plate": "p", "well": "a1"}, "s/k", "s/p/a1"),
        ({"key": "k", "plate": "p"}, "s/k", "s/k"),
        ({"key": "k/bf", "field_key": "k"}, "s/k", "s/k"),
    ],
)
def test_field_and_group_have_defaults(known, field_id, group_id):
    """A group is what the source says, else the well on its plate, else the field."""
    assert (record(**known).field_id, record(**known).group_id) == (field_id, group_id)


def test_an_absent_folder_says_how_to_name_it(tmp_path):
    """The error has the folder and the option."""
    with pytest.raises(SourceNotFoundError, match=r"no folder .*absent.*--data-root s=PATH"):
        _ = SourceFolder(tmp_path / "absent", "s").paths


@pytest.mark.parametrize("place", ["", "one", "one/two", "one/two/three"])
def test_a_mark_around_the_folder_or_in_it_says_that_it_is_simulated(tmp_path, place):
    """Wherever in a simulated folder somebody points, and however deep the download lies."""
    root = tmp_path / "one" / "two"
    (root / "three").mkdir(parents=True)
    (root / "three" / "a.png").write_bytes(b"")
    assert not SourceFolder(root, "cells").is_simulated
    (tmp_path / place / SIMULATED_MARK).write_text("made up", encoding="utf-8")
    folder = SourceFolder(root, "cells")
    assert folder.is_simulated
    assert folder.paths == ["three/a.png"]


@pytest.mark.parametrize("kind", ["folder", "file", "link to a link"])
def test_links_to_simulated_data_say_that_they_are_simulated(tmp_path, kind):
    """A root made of links is marked where they lead, however deep they lie in it."""
    real, root = tmp_path / "simulated" / "actin", tmp_path / "root"
    for folder in (real, root / "in"):
        folder.mkdir(parents=True)
    (real / "a.png").write_bytes(b"")
    if kind == "folder":
        (root / "in" / "actin").symlink_to(real)
    else:
        first = tmp_path / "a.png" if kind == "link to a link" else root / "in" / "a.png"
        first.symlink_to(real / "a.png")
        if kind == "link to a link":
            (root / "in" / "a.png").symlink_to(first)
    assert not SourceFolder(root, "cells").is_simulated
    (real.parent / SIMULATED_MARK).write_text("made up", encoding="utf-8")
    assert SourceFolder(root, "cells").is_simulated


def test_the_report_counts_what_was_used_and_what_not(tmp_path):
    """Three files of one kind and a hidden one: one used, two unused, the hidden one never seen."""
    folder = folder_of(tmp_path, "s", ["x/b.tif", "x/a.tif", "x/c.tif", "x/.DS_Store"])
    assert [hit.string for hit in folder.match(r"x/a\.tif")] == ["x/a.tif"]
    folder.miss("file", "x/d.tif")
    folder.note("a remark")
    assert folder.report() == {
        "used": 1,
        "unused": {"x/*.tif": {"count": 2, "examples": ["x/b.tif", "x/c.tif"]}},
        "absent": {"file": {"count": 1, "examples": ["x/d.tif"]}},
        "notes": ["a remark"],
    }


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text on this system")
def test_names_that_are_no_utf8_are_reported_and_never_offered(tmp_path):
    """One name in Latin-1 costs itself: no pattern gives it, and a report in UTF-8 shows it."""
    folder = folder_of(tmp_path, "s", ["x/a.tif"])
    name = os.fsdecode(b"x/caf\xe9.tif")
    (folder.root / name).write_bytes(b"")
    assert [hit.string for hit in folder.match(r".*\.tif")] == ["x/a.tif"]
    assert not folder.use(name)
    folder.miss("file", name)
    folder.note(name)
    report = folder.report()
    kind = "names that are not UTF-8 (rename them)"
    shown = r"x/caf\udce9.tif"
    assert report["unused"] == {kind: {"count": 1, "examples": [shown]}}
    assert report["absent"] == {"file": {"count": 1, "examples": [shown]}}
    assert report["notes"] == [shown]
    write_json(tmp_path / "report.json", report)


def test_hidden_files_are_there_where_they_are_named(tmp_path):
    """No listing shows them; a table may name those in the root, and nothing outside of it."""
    folder = folder_of(tmp_path, "s", [".raw/a.tif", "x/.b.tif"])
    (tmp_path / ".out").mkdir()
    (tmp_path / ".out" / "c.tif").write_bytes(b"")
    (folder.root / ".link").symlink_to(tmp_path / ".out")
    assert folder.paths == []
    assert folder.use(".raw/a.tif")
    assert folder.use("x/.b.tif")
    for path in (".raw", ".raw/z.tif", ".link/c.tif", "../.out/c.tif", ".raw/../../.out/c.tif"):
        assert not folder.use(path), path
    assert folder.report()["used"] == 2


def test_a_pattern_must_match_the_whole_path(tmp_path):
    """A file with a longer name, or in a folder below, is another file."""
    folder = folder_of(tmp_path, "s", ["a.tif", "a.tif.bak", "masks/a.tif"])
    assert [hit.string for hit in folder.match(r"a\.tif")] == ["a.tif"]


def test_tables_are_found_in_the_root_first_then_in_the_table_folders(tmp_path):
    """The shallowest in the root wins over a deeper one and over --tables; packed ones count."""
    folder = folder_of(tmp_path, "s", ["deep/t.csv", "t.csv.xz"])
    extra = folder_of(tmp_path, "extra", ["t.csv", "u.csv.gz"]).root
    both = SourceFolder(folder.root, "s", tables=[tmp_path / "absent", extra])
    assert both.table("t.csv") == folder.root / "t.csv.xz"
    assert both.report()["used"] == 1
    assert both.table("u.csv") == extra / "u.csv.gz"
    assert both.table("v.csv") is None
    assert both.required_table("v.csv", "u.csv") == extra / "u.csv.gz"
    with pytest.raises(SourceNotFoundError, match=r"no table v\.csv .*extra.*--tables"):
        both.required_table("v.csv")


def test_channels_of_a_position_come_together_in_order_of_names(tmp_path):
    """Well goes before site, as in the pattern; the first file of a channel is taken."""
    folder = folder_of(tmp_path, "s", ["a1_s2_w1.tif", "a1_s2_w2.tif", "a2_s1_w1.tif",
                                       "a1_s1_w1.tif"])  # fmt: skip
    hits = folder.match(PATTERN)
    sets = list(group_channels(folder, [*hits, *hits[:1]], channel="channel", expected="123"))
    assert [one.at for one in sets] == [
        {"well": "a1", "site": "1"},
        {"well": "a1", "site": "2"},
        {"well": "a2", "site": "1"},
    ]
    assert [one.missing for one in sets] == [("2",), (), ("2",)]
    assert folder.absent["second file of one channel, not used"] == ["a1_s1_w1.tif"]
    assert [note[:21] for note in folder.notes] == ["channel 3 is absent f"]


def test_sources_are_read_from_file_names():
    """Each module holds the source of its name, and a near name is suggested."""
    assert {"bbbc005", "bbbc006", "bbbc010", "bbbc022", "bbbc038", "bbbc048"} <= set(
        sources.names()
    )
    assert all(sources.get(name).name == name for name in sources.names())
    with pytest.raises(SourceNotFoundError, match=r"'bbc006'.*bbbc006"):
        sources.get("bbc006")
