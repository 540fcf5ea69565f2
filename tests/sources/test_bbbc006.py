"""Tests of the focus series of BBBC006."""

import pytest

from cytoimagenet_hf.errors import SourceNotFoundError
from cytoimagenet_hf.sources import SourceFolder
from tests.sources.raw import folder_of, names_in, records_of


def test_all_real_names_give_768_fields(tmp_path, real_tables):
    """384 wells x 2 sites, two stains each, though the two GUIDs of a field differ."""
    names = names_in(real_tables / "bbbc006/file_names.txt.xz")
    records = records_of(folder_of(tmp_path, "bbbc006", names))
    assert (len(names), len(records)) == (1536, 768)
    assert {len(one.planes) for one in records} == {2}
    assert len({one.group_id for one in records}) == 384
    assert [one.key for one in records] == sorted(one.key for one in records)


def test_the_nearest_plane_stands_for_the_one_in_focus(real_images):
    """The real folder has z_00 alone: nine fields; its renamed copies match nothing."""
    folder = SourceFolder(real_images / "bbbc006", "bbbc006")
    records = records_of(folder)
    assert len(records) == 9
    assert any("z_00, is used" in note for note in folder.notes)
    assert folder.report()["unused"]["z_aligned_10/*.png"]["count"] == 2


def test_one_plane_of_a_series_is_used(tmp_path, real_tables):
    """z_17 is nearer to z_16 than z_02, whose files are the same fields again."""
    names = names_in(real_tables / "bbbc006/file_names.txt.xz")[:4]
    planes = [name.replace("z_16", z) for name in names for z in ("z_02", "z_17")]
    folder = folder_of(tmp_path, "bbbc006", planes)
    assert {plane.path[:24] for one in records_of(folder) for plane in one.planes} == {
        "BBBC006_v1_images_z_17/m"
    }
    assert any("not used: z_02" in note for note in folder.notes)


def test_labels_are_not_images(tmp_path):
    """The folder of masks alone is an error that shows what was looked for and found."""
    folder = folder_of(tmp_path, "bbbc006", ["BBBC006_v1_labels/mcf-z-stacks-03212011_a01_s1.png"])
    with pytest.raises(SourceNotFoundError, match=r"z_16/mcf.*first one seen: BBBC006_v1_labels"):
        records_of(folder)
