"""Tests of the mixed nuclei of BBBC038."""

import csv

import pytest

from cytoimagenet_hf.errors import SourceNotFoundError
from cytoimagenet_hf.sources import SourceFolder, get
from cytoimagenet_hf.sources._tables import facts
from tests.sources.raw import folder_of, records_of

DARK = "00071198d059ba7f5914a526d124d28e6d010c92466da21d4a04cd5413362552"
PURPLE = "00ae65c1c6631ae6f2be1a449902976e6eb8483bf6b0740d00530220832c6d3e"


def image(name: str, stage: str = "stage1_train") -> str:
    """Name an image as the archives do."""
    return f"{stage}/{name}/images/{name}.png"


def test_the_facts_table_follows_its_rule(real_tables):
    """Recomputed from the summary: 541 fluorescence, 123 brightfield, short names all distinct."""
    listed = {row["image"]: row["modality"] for row in facts("bbbc038_modality")}
    summary = real_tables / "bbbc038/stage1_train_fixed_summary.csv"
    with summary.open(encoding="utf-8", newline="") as stream:
        expected = {
            row["ImageId"][:8]: "fluorescence"
            if row["rgb_channels_equal"] == "True" and float(row["mean_intensity"]) < 110
            else "brightfield"
            for row in csv.DictReader(stream)
        }
    assert len(listed) == 664
    assert listed == expected
    assert list(listed.values()).count("fluorescence") == 541


def test_modalities_agree_with_what_was_seen(real_images):
    """All 151 real images: dark gray ones are fluorescence, all others brightfield."""
    folder = SourceFolder(real_images / "bbbc038", "bbbc038")
    records = records_of(folder)
    with (real_images / "bbbc038/groups.csv").open(encoding="utf-8", newline="") as stream:
        seen = {row["id"]: row["modality"] for row in csv.DictReader(stream)}
    assert len(records) == 151
    for one in records:
        kind = seen[one.key.removeprefix("stage1_train/")]
        assert one.modality == ("fluorescence" if kind == "fluorescence_dark" else "brightfield")
        assert one.annotations == (
            {"cell_visible": ("nucleus",)} if one.modality == "fluorescence" else {}
        )
    assert folder.notes == []


def test_unlisted_images_get_no_annotation(tmp_path):
    """A test image is unknown even where its name begins like one of the training images."""
    paths = [image(DARK), image(PURPLE), image("f" * 64), image(DARK, "stage2_test_final")]
    folder = folder_of(tmp_path, "bbbc038", paths)
    records = records_of(folder)
    assert [(one.modality, dict(one.annotations)) for one in records] == [
        ("fluorescence", {"cell_visible": ("nucleus",)}),
        ("brightfield", {}),
        ("", {}),
        ("", {}),
    ]
    assert folder.notes == ["the modality of 2 images is not known: they get no annotation"]


def test_masks_are_never_images(tmp_path):
    """A mask beside the image is unused; masks alone are an error."""
    mask = f"stage1_train/{DARK}/masks/{PURPLE}.png"
    folder = folder_of(tmp_path, "bbbc038", [image(DARK), mask])
    assert [one.planes[0].path for one in records_of(folder)] == [image(DARK)]
    assert folder.report()["unused"]["stage1_train/*.png"]["examples"] == [mask]
    with pytest.raises(SourceNotFoundError):
        records_of(folder_of(tmp_path / "masks", "bbbc038", [mask]))


def test_rows_name_each_image_of_a_table_of_masks_once(tmp_path):
    """Three masks of two images are two rows, with the keys that the images would have."""
    folder = folder_of(tmp_path, "bbbc038", [image(DARK)])
    lines = f"ImageId,EncodedPixels\n{PURPLE},1 2\n{DARK},3 4\n{DARK},5 6\n"
    (folder.root / "stage1_train_labels.csv").write_text(lines)
    rows = list(get("bbbc038").rows(folder))
    assert [one.key for one in rows] == [f"stage1_train/{DARK}", f"stage1_train/{PURPLE}"]
    (record,) = records_of(folder)
    assert (rows[0].id, rows[0].annotations) == (record.id, record.annotations)
    assert rows[0].planes == ()
