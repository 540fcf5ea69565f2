"""Tests of the worms of BBBC010."""

import pytest

from cytoimagenet_hf.errors import SourceNotFoundError
from cytoimagenet_hf.sources import SourceFolder
from tests.sources.raw import folder_of, records_of

PLATE = "1649_1109_0003_Amp5-1_B_20070424"
GUID = "10E01AFB-34C4-416E-A9D3-51B90AB53728"


def image(well: str, channel: str) -> str:
    """Name a file as the archive does."""
    return f"{PLATE}_{well}_{channel}_{GUID}.tif"


def test_a_real_well_is_two_records_of_one_field(real_images):
    """w2 is brightfield and w1 fluorescence; C01 got ampicillin, so its worms live."""
    records = records_of(SourceFolder(real_images / "bbbc010", "bbbc010"))
    assert [one.key for one in records] == [
        f"{PLATE}/C01/brightfield",
        f"{PLATE}/C01/fluorescence",
    ]
    assert ["_w2_" in records[0].planes[0].path, "_w1_" in records[1].planes[0].path] == [True] * 2
    assert {one.field_id for one in records} == {f"bbbc010/{PLATE}/C01"}
    assert records[0].annotations == records[1].annotations
    assert records[0].annotations["phenotype"] == ("live",)
    assert records[0].annotations["compound"] == ("ampicillin",)


@pytest.mark.parametrize(
    ("well", "phenotype", "compound"),
    [("A12", ("live",), ("ampicillin",)), ("A13", ("dead",), None), ("E24", ("dead",), None)],
)
def test_the_column_decides_over_life(tmp_path, well, phenotype, compound):
    """Columns 01 to 12 are treated, 13 to 24 are not; untreated is no compound."""
    folder = folder_of(tmp_path, "bbbc010", [image(well, "w1"), image(well, "w2")])
    for record in records_of(folder):
        assert record.annotations["phenotype"] == phenotype
        assert record.annotations.get("compound") == compound


def test_files_without_a_top_folder_are_found_and_masks_are_not(tmp_path):
    """The zip has no top folder for some unpackers; masks begin with the well."""
    masks = ["BBBC010_v1_foreground/C01_binary.png", "eachworm/C01_01_ground_truth.png"]
    folder = folder_of(tmp_path, "bbbc010", [image("C01", "w1"), image("C01", "w2"), *masks])
    assert len(records_of(folder)) == 2
    assert {row["count"] for row in folder.report()["unused"].values()} == {1}
    with pytest.raises(SourceNotFoundError, match="first one seen: BBBC010_v1_foreground"):
        records_of(folder_of(tmp_path / "masks", "bbbc010", masks))


def test_an_absent_channel_is_a_refused_record(tmp_path):
    """C02 has no fluorescence: its brightfield record stays, the other is refused and counted."""
    paths = [image("C01", "w1"), image("C01", "w2"), image("C02", "w2")]
    records = records_of(folder_of(tmp_path, "bbbc010", paths))
    assert [one.refusal for one in records] == [None, None, None, ("missing channel", "w1")]
    assert records[3].planes == ()
