"""Tests of the Cell Painting plates of BBBC022."""

import gzip

import pytest

from cytoimagenet_hf.errors import SourceNotFoundError, TableError
from cytoimagenet_hf.sources import SourceFolder, get
from tests.sources.raw import folder_of, records_of

GUID = "64FBEEF7-F77C-4892-86F5-72D0160D4FB2"
HEADER = (
    "Image_Metadata_ASSAY_WELL_ROLE,Image_Metadata_CPD_WELL_POSITION,Image_Metadata_PlateID,"
    "Image_Metadata_SOURCE_COMPOUND_NAME,Image_Metadata_Site\n"
)


def field(well: str = "A01", site: int = 1, channels: str = "12345") -> list[str]:
    """Name the files of a field; the GUID begins with a digit, as real ones do."""
    return [f"BBBC022_v1_images_20585w{c}/IXMtest_{well}_s{site}_w{c}{GUID}.tif" for c in channels]


def table(folder: SourceFolder, text: str, name: str = "BBBC022_v1_image.csv") -> None:
    """Put the table of compounds beside the images."""
    (folder.root / name).write_text(HEADER + text, encoding="utf-8")


def test_five_channels_are_one_record_with_six_structures(tmp_path):
    """w4 holds two dyes: one plane, two labels."""
    (record,) = records_of(folder_of(tmp_path, "bbbc022", field()))
    assert [plane.stain for plane in record.planes] == [
        "nucleus",
        "er",
        "nucleoli",
        "actin and golgi",
        "mitochondria",
    ]
    assert record.annotations["cell_visible"] == (
        "nucleus",
        "er",
        "nucleoli",
        "actin",
        "golgi",
        "mitochondria",
    )
    assert (record.id, record.group_id) == ("bbbc022/20585/A01/s1", "bbbc022/20585/A01")


def test_channels_that_were_never_downloaded_are_noted_and_refuse_nothing(real_images):
    """The real folder has five fields with Hoechst alone: nucleus, and four notes."""
    folder = SourceFolder(real_images / "bbbc022", "bbbc022")
    records = records_of(folder)
    assert [one.well for one in records] == ["A01", "A01", "E05", "E07", "E08"]
    assert {one.annotations["cell_visible"] for one in records} == {("nucleus",)}
    assert not any(one.refusal for one in records)
    assert sum("was not downloaded" in note for note in folder.notes) == 4
    assert any("no table" in note for note in folder.notes)


def test_a_channel_that_one_field_lacks_refuses_it(tmp_path):
    """A02 lacks w5, which A01 has."""
    folder = folder_of(tmp_path, "bbbc022", [*field("A01"), *field("A02", channels="1234")])
    assert [one.refusal for one in records_of(folder)] == [None, ("missing channel", "w5")]


def test_the_folder_and_the_name_must_agree_on_the_channel(tmp_path):
    """A w2 file in the folder of w1 is not used."""
    wrong = f"BBBC022_v1_images_20585w1/IXMtest_A01_s1_w2{GUID}.tif"
    with pytest.raises(SourceNotFoundError):
        records_of(folder_of(tmp_path, "bbbc022", [wrong]))


def test_the_real_table_names_the_compound(tmp_path, real_tables):
    """Plate 20585, well A01, site 1 got niflumic acid by the true header and rows."""
    folder = folder_of(tmp_path, "bbbc022", field())
    real = (real_tables / "bbbc022/20585_AE.head.csv").read_bytes()
    (folder.root / "BBBC022_v1_image.csv.gz").write_bytes(gzip.compress(real))
    (record,) = records_of(folder)
    assert record.annotations["compound"] == ("NIFLUMIC ACID",)
    assert folder.absent["field of the table without files"] == ["20585/A01/2", "20585/A02/1",
                                                                 "20585/A03/1"]  # fmt: skip


def test_mock_wells_and_blank_names_are_no_compound(tmp_path):
    """A mock well with a name and a treated one without are both unlabeled."""
    folder = folder_of(tmp_path, "bbbc022", [*field("A01"), *field("A02"), *field("A03")])
    table(folder, "Mock,A01,20585,DMSO,1\ncompound,A02,20585,  ,1\ncompound,A03,20585, FCCP ,1\n")
    assert [one.annotations["compound"] for one in records_of(folder)] == [(), (), ("FCCP",)]


def test_bad_rows_and_both_ways_of_mismatch_are_reported(tmp_path):
    """A short row, a long one, a plate without files, a field without row, two that differ."""
    folder = folder_of(tmp_path, "bbbc022", [*field("A01"), *field("A02")])
    rows = ("compound,A01", "compound,A02,20585,b,1,x,y", "compound,A01,20585,FCCP,1",
            "compound,A01,20586,FCCP,1", "compound,A01,20585,Vitexin,1")  # fmt: skip
    table(folder, "\n".join(rows))
    records = records_of(folder)
    assert [one.annotations["compound"] for one in records] == [("FCCP",), ()]
    assert folder.absent == {
        "bad table row, skipped": [
            "BBBC022_v1_image.csv:2: the row has 2 cells, 5 are expected",
            "BBBC022_v1_image.csv:3: the row has 7 cells, 5 are expected",
        ],
        "table row against an earlier one, not used": ["BBBC022_v1_image.csv:6"],
        "plate of the table without files": ["20586"],
        "table row of a field that has files": ["20585/A02/1"],
    }


def test_a_table_without_its_columns_stops_the_run(tmp_path):
    """The columns there are named, so that a renamed one is found at once."""
    folder = folder_of(tmp_path, "bbbc022", field())
    (folder.root / "BBBC022_v1_image.csv").write_text("PlateID,Site\n20585,1\n")
    with pytest.raises(TableError, match=r"no column 'Image_Metadata_PlateID'.*PlateID, Site"):
        records_of(folder)


def test_rows_come_from_the_table_alone(tmp_path, real_tables):
    """Without any image the four rows of the real extract are planned, with their compounds."""
    tables = tmp_path / "tables"
    tables.mkdir()
    real = (real_tables / "bbbc022/20585_AE.head.csv").read_bytes()
    (tables / "BBBC022_v1_image.csv").write_bytes(real)
    folder = SourceFolder(tmp_path / "absent", "bbbc022", tables=[tables])
    rows = list(get("bbbc022").rows(folder))
    assert [one.key for one in rows] == ["20585/A01/s1", "20585/A01/s2", "20585/A02/s1",
                                         "20585/A03/s1"]  # fmt: skip
    assert {one.planes for one in rows} == {()}
    with_files = folder_of(tmp_path, "bbbc022", field())
    (with_files.root / "BBBC022_v1_image.csv").write_bytes(real)
    assert records_of(with_files)[0].annotations == rows[0].annotations


def test_rows_without_the_table_say_where_it_was_looked_for(tmp_path):
    """The error names the table and the way to give its folder."""
    with pytest.raises(SourceNotFoundError, match=r"no table BBBC022_v1_image\.csv.*--tables"):
        list(get("bbbc022").rows(folder_of(tmp_path, "bbbc022", field())))
