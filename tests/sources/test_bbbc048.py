"""Tests of the cell cycle of BBBC048."""

from collections import Counter

import pytest

from cytoimagenet_hf.errors import SourceNotFoundError
from cytoimagenet_hf.sources import SourceFolder, get
from tests.sources.raw import folder_of, records_of


def cell(phase: str, number: int, channels: str = "346", end: str = ".ome.jpg") -> list[str]:
    """Name the files of a cell."""
    return [f"CellCycle/{phase}/{number}_Ch{channel}{end}" for channel in channels]


def test_the_real_cells_fall_into_seven_phases(real_images):
    """445 cells, three records each, counted by phase as the folders were sorted by hand."""
    records = records_of(SourceFolder(real_images / "bbbc048", "bbbc048"))
    assert len(records) == 3 * 445
    phases = Counter(one.annotations["phenotype"] for one in records)
    assert phases == {("g1",): 270, ("g2",): 270, ("s",): 270, ("prophase",): 270,
                      ("metaphase",): 156, ("telophase",): 63, ("anaphase",): 36}  # fmt: skip
    assert len({one.field_id for one in records}) == 445
    assert [one.key for one in records] == sorted(one.key for one in records)


@pytest.mark.parametrize("end", [".ome.jpg", ".jpg", ".ome.tif", ".tif"])
def test_a_cell_is_three_records_of_one_field(tmp_path, end):
    """The nucleus is seen in the DNA stain alone; cell 0 of G1 and of S are two cells."""
    folder = folder_of(tmp_path, "bbbc048", [*cell("G1", 0, end=end), *cell("S", 0, end=end)])
    records = records_of(folder)[:3]
    assert [one.key for one in records] == ["G1/0/brightfield", "G1/0/darkfield",
                                            "G1/0/fluorescence"]  # fmt: skip
    assert [one.planes[0].path[-len(end) - 3 : -len(end)] for one in records] == [
        "Ch3",
        "Ch6",
        "Ch4",
    ]
    assert {one.group_id for one in records} == {"bbbc048/G1/0"}
    assert [one.annotations.get("cell_visible") for one in records] == [None, None, ("nucleus",)]
    assert {one.annotations["cell_type"] for one in records} == {("jurkat",)}


def test_an_absent_channel_is_a_refused_record(tmp_path):
    """Cell 2 lacks its darkfield file; its two others stay."""
    folder = folder_of(tmp_path, "bbbc048", [*cell("G2", 1), *cell("G2", 2, "34")])
    refused = [(one.key, one.refusal) for one in records_of(folder) if one.refusal]
    assert refused == [("G2/2/darkfield", ("missing channel", "Ch6"))]


def test_the_list_is_compared_with_the_folders(tmp_path):
    """One file unlisted, one listed and absent, one of another class, one path not understood."""
    folder = folder_of(tmp_path, "bbbc048", cell("G1", 1))
    lines = ["0\t0\tCellCycle/G1/1_Ch3.ome.jpg", "1\t0\tCellCycle/G1/1_Ch4.ome.jpg",
             "2\t0\tCellCycle/S/7_Ch3.ome.jpg", "3\t9\tsomewhere"]  # fmt: skip
    (folder.root / "Ground_truth.lst").write_text("\n".join(lines))
    assert len(records_of(folder)) == 3
    assert folder.absent == {
        "line of Ground_truth.lst whose class is that of another phase": [
            "3: CellCycle/S/7_Ch3.ome.jpg"
        ],
        "line of Ground_truth.lst whose path is not understood": ["4: somewhere"],
        "file that Ground_truth.lst names": ["S/7/Ch3"],
        "line of Ground_truth.lst for a file": ["G1/1/Ch6"],
    }


def test_rows_come_from_the_list_and_equal_the_records(tmp_path):
    """Ids, fields and annotations are those that the files would give."""
    paths = [*cell("S", 2), *cell("Anaphase", 10), *cell("Anaphase", 9)]
    folder = folder_of(tmp_path, "bbbc048", paths)
    lines = "\r\n".join(f"{row}\t{path.count('S/')}\t{path}" for row, path in enumerate(paths))
    (folder.root / "Ground_truth.lst").write_text(lines)
    rows, records = list(get("bbbc048").rows(folder)), records_of(folder)
    assert [(one.id, one.field_id, one.annotations) for one in rows] == [
        (one.id, one.field_id, one.annotations) for one in records
    ]
    assert not folder.absent


def test_mosaics_are_another_layout(tmp_path):
    """One mosaic a phase and channel, as another copy of these cells is kept, matches nothing."""
    with pytest.raises(SourceNotFoundError, match=r"CellCycle/Anaphase/0_Ch3\.ome\.jpg"):
        records_of(folder_of(tmp_path, "bbbc048", ["images/Experiment_1/G1/Ch3_CP.tif"]))
