"""Tests of the simulated cells of BBBC005."""

import pytest

from cytoimagenet_hf.errors import SourceNotFoundError
from tests.sources.raw import folder_of, names_in, records_of

SCENE = "BBBC005_v1_images/SIMCEPImages_A14_C57_F1_s21_w1.TIF"


def test_all_real_names_give_600_fields_with_two_stains(tmp_path, real_tables):
    """24 cell counts x 25 samples, listed as masks, which have the names of the sharp images."""
    names = names_in(real_tables / "bbbc005/file_names.txt.xz")
    leaves = {name.rpartition("/")[2] for name in names}
    assert (len(names), len(leaves)) == (2400, 1200)
    records = records_of(folder_of(tmp_path, "bbbc005", [f"BBBC005_v1_images/{n}" for n in leaves]))
    assert len(records) == 24 * 25
    assert {tuple(plane.stain for plane in one.planes) for one in records} == {
        ("cell body", "nucleus")
    }
    assert len({one.group_id for one in records}) == 600
    assert not any(one.refusal for one in records)


def test_masks_with_the_names_of_images_are_never_images(tmp_path, real_tables):
    """A folder with both copies of the ground truth and no images has nothing for us."""
    names = names_in(real_tables / "bbbc005/file_names.txt.xz")
    folder = folder_of(tmp_path, "bbbc005", names)
    with pytest.raises(SourceNotFoundError, match="none of the 2400 files"):
        records_of(folder)


def test_a_record_has_the_parts_of_its_name(tmp_path):
    """Well, sample and key come from the name; organism and cell type from the sheet."""
    (record,) = records_of(folder_of(tmp_path, "bbbc005", [SCENE]))
    assert (record.id, record.well, record.site) == ("bbbc005/A14/C57_F1_s21", "A14", "21")
    assert record.annotations == {
        "organism": ("human",),
        "cell_type": ("u2os",),
        "cell_visible": ("cell body",),
    }


def test_the_sharpest_blur_level_that_is_there_is_used_alone(tmp_path):
    """F4 stands for the absent F1, and F23, the same scene blurred more, is left out."""
    blurred = [SCENE.replace("A14", "B14").replace("F1", "F4"), SCENE.replace("F1", "F23")]
    folder = folder_of(tmp_path, "bbbc005", blurred)
    assert [one.key for one in records_of(folder)] == ["B14/C57_F4_s21"]
    assert any("F4 is used" in note for note in folder.notes)
    assert any("not used: F23" in note for note in folder.notes)


def test_a_channel_that_one_field_lacks_refuses_it(tmp_path):
    """Sample 21 has both channels, sample 22 only the first."""
    paths = [SCENE, SCENE.replace("w1", "w2"), SCENE.replace("s21", "s22")]
    records = records_of(folder_of(tmp_path, "bbbc005", paths))
    assert [one.refusal for one in records] == [None, ("missing channel", "w2")]
