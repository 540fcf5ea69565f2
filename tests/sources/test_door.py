"""Tests of the table door."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks._tables import BCCD_COLUMNS, bccd_table, hpa_table, yeast_table
from cytoimagenet_hf.errors import TableError
from cytoimagenet_hf.sources import FieldOfView, Plane, SourceFolder
from cytoimagenet_hf.sources._door import table_source
from tests.sources.raw import folder_of

IMAGES = ("a.tif", "b.tif", "sub/c.tif")


def opened(folder: Path, text: str, **options) -> tuple[list[FieldOfView], SourceFolder]:
    """Write a table beside a folder of three empty images and read it."""
    table = folder / "my table.csv"
    table.write_text(text, encoding="utf-8")
    source = table_source(table, **options)
    images = folder_of(folder, "images", IMAGES)
    return list(source.fields(images)), images


def test_yeast_a_wide_table_gives_pairs_grouped_by_field(tmp_path, real_images):
    """200 cells of five proteins, two planes each; AAC1_1_rfp_10 belongs to AAC1_1."""
    images = real_images / "yeast_paired"
    source = table_source(yeast_table(images, tmp_path))
    folder = SourceFolder(images, source.name)
    records = list(source.fields(folder))
    assert len(records) == 200
    assert {tuple(plane.stain for plane in one.planes) for one in records} == {("gfp", "rfp")}
    proteins = Counter(one.annotations["cell_visible"] for one in records)
    assert proteins == dict.fromkeys([("AAC1",), ("AAC3",), ("AAH1",), ("AAP1",), ("AAR2",)], 40)
    assert (records[0].id, records[0].group_id) == (
        "yeast_paired/AAC1_1_rfp_10",
        "yeast_paired/AAC1_1",
    )
    assert folder.report()["unused"] == {}
    assert not any(one.refusal for one in records)


def test_hpa_a_long_table_gives_three_planes_a_cell_grouped_by_image(tmp_path, real_images):
    """48 cells of three genes; 762_F2_1_10 belongs to 762_F2_1."""
    images = real_images / "hpa_paired"
    source = table_source(hpa_table(images, tmp_path))
    records = list(source.fields(SourceFolder(images, source.name)))
    genes = Counter(one.annotations["cell_visible"][1] for one in records)
    assert genes == {"A1CF": 26, "AAAS": 17, "A4GALT": 5}
    assert {tuple(plane.stain for plane in one.planes) for one in records} == {
        ("nucleus", "protein", "microtubules")
    }
    (tenth,) = [one for one in records if one.key == "762_F2_1_10"]
    assert tenth.group == "762_F2_1"


def test_bccd_boxes_are_one_based_and_grouped_by_image(tmp_path, real_images):
    """1,228 cells in 90 images; the first box of the file, 260 177 491 376, starts at 259 176."""
    images = real_images / "bccd"
    source = table_source(bccd_table(images, tmp_path), columns=BCCD_COLUMNS, box="voc")
    folder = SourceFolder(images, source.name)
    records = list(source.fields(folder))
    types = Counter(one.annotations["cell_type"][0] for one in records)
    assert types == {"red blood cell": 1054, "white blood cell": 92, "platelet": 82}
    assert len({one.group_id for one in records}) == 90
    first = "BCCD/JPEGImages/BloodImage_00000.jpg"
    (cell,) = [one for one in records if one.key == f"{first}/259-176-491-376"]
    assert cell.planes == (Plane(first, "brightfield", 0, 0, (259, 176, 491, 376)),)
    assert cell.group_id == f"bccd/{first}"
    assert folder.report()["used"] == 90


def test_a_table_of_paths_alone_is_enough(tmp_path):
    """Id, field and group are the path; nothing is claimed about it."""
    (one, two), _ = opened(tmp_path, "path\nsub/c.tif\na.tif\n")
    assert (one.id, two.id) == ("my_table/a.tif", "my_table/sub/c.tif")
    assert one.planes == (Plane("a.tif", ""),)
    assert (one.modality, one.annotations, one.group_id) == ("", {}, one.id)


def test_all_columns_arrive(tmp_path):
    """Values are split at "|", repeated and blank ones left out; modality in any case."""
    text = (
        "id,path,page,series,stain,modality,group,plate,well,site,field,compound,gene,license\n"
        "x/1#,a.tif,2,1,dna,Fluorescence,g,p,A01,3,x,DMSO | taxol||DMSO,TP53,CC0\n"
    )
    (one,), _ = opened(tmp_path, text, name="mine")
    assert one == FieldOfView(
        source="mine",
        key="x/1%23",
        modality="fluorescence",
        planes=(Plane("a.tif", "dna", 2, 1),),
        annotations={"compound": ("DMSO", "taxol"), "gene": ("TP53",)},
        field_key="x",
        group="g",
        plate="p",
        well="A01",
        site="3",
        license="CC0",
    )


def test_rows_of_one_id_add_planes_and_may_leave_cells_blank(tmp_path):
    """What one row says holds for the record; pages of one file are planes too."""
    text = "id,path,page,stain,organism\nx,a.tif,0,dna,human\nx,a.tif,1,er,\nx,b.tif,,actin,human\n"
    (one,), _ = opened(tmp_path, text)
    assert [(p.path, p.page, p.stain) for p in one.planes] == [
        ("a.tif", 0, "dna"),
        ("a.tif", 1, "er"),
        ("b.tif", 0, "actin"),
    ]
    assert one.annotations == {"organism": ("human",)}


def test_pages_without_id_are_records_of_their_own(tmp_path):
    """Three pages of one file aren't summed into one picture; the file holds them together."""
    text = "path,page,cell_type\na.tif,0,hela\na.tif,1,u2os\na.tif,2,\nb.tif,0,\n"
    records, _ = opened(tmp_path, text)
    keys = ["a.tif/page-0", "a.tif/page-1", "a.tif/page-2", "b.tif/page-0"]
    assert [one.key for one in records] == keys
    assert [len(one.planes) for one in records] == [1, 1, 1, 1]
    assert [one.group for one in records] == ["a.tif"] * 3 + ["b.tif"]
    assert records[0].field_id != records[1].field_id


def test_pages_with_a_stain_each_are_one_picture(tmp_path):
    """Without ids, too; pages of another series are another picture."""
    text = "path,page,series,stain\na.tif,0,0,dna\na.tif,1,0,er\na.tif,0,1,dna\na.tif,1,1,er\n"
    records, _ = opened(tmp_path, text)
    assert [one.key for one in records] == ["a.tif/series-0", "a.tif/series-1"]
    assert [[plane.stain for plane in one.planes] for one in records] == [["dna", "er"]] * 2


def test_planes_of_one_id_may_lack_stains(tmp_path):
    """Whoever gives rows one id says that they are one picture."""
    text = "id,path,modality\nx,a.tif,fluorescence\nx,b.tif,\nx,c.tif,fluorescence\n"
    (one,), _ = opened(tmp_path, text)
    assert [plane.path for plane in one.planes] == ["a.tif", "b.tif", "c.tif"]


def test_keys_of_pages_say_what_the_table_says(tmp_path):
    """Page, series and box, each where there is such a column; an id stands for all of them."""
    text = "id,path,page,series,well\n,a.tif,1,2,A01\nx,a.tif,0,0,A01\n"
    records, _ = opened(tmp_path, text)
    assert [one.key for one in records] == ["a.tif/page-1-series-2", "x"]
    assert {one.group_id for one in records} == {"my_table/A01"}
    boxed = "path,series,x_min,y_min,x_max,y_max\na.tif,3,0,0,9,9\n"
    assert [one.key for one in opened(tmp_path, boxed)[0]] == ["a.tif/series-3/0-0-9-9"]


def test_groups_default_to_image_well_or_field(tmp_path):
    """A box belongs to its image, a well to its plate, anything else to its field."""
    boxed, _ = opened(
        tmp_path, "path,x_min,y_min,x_max,y_max,well\na.tif,0,0,9,9,A01\nb.tif,,,,,A01\n"
    )
    assert [one.group_id for one in boxed] == ["my_table/a.tif", "my_table/A01"]
    assert [one.planes[0].box for one in boxed] == [(0, 0, 9, 9), None]
    plain, _ = opened(tmp_path, "path,field\na.tif,f\nb.tif,f\n")
    assert [one.group_id for one in plain] == ["my_table/f"] * 2


def test_boxes_of_both_kinds_name_the_same_pixels(tmp_path):
    """One-based 1..9 with both ends inside is 0..9 with the end outside."""
    head = "path,x_min,y_min,x_max,y_max\n"
    zero, _ = opened(tmp_path, head + "a.tif,0,2,9,3\n")
    voc, _ = opened(tmp_path, head + "a.tif,1,3,9,3\n", box="voc")
    assert zero == voc


def test_an_absent_file_is_a_counted_refusal(tmp_path):
    """The record stays, refused; the report names the file."""
    records, folder = opened(tmp_path, "path\na.tif\nlost.tif\n")
    assert [one.refusal for one in records] == [None, ("missing file", "lost.tif")]
    assert folder.absent == {"file that the table names": ["lost.tif"]}


def test_a_blank_channel_is_a_counted_refusal(tmp_path):
    """A wide row without one of its paths can't be merged like the others."""
    (one,), _ = opened(tmp_path, "id,channel:dna,channel:er\nx,a.tif,\n")
    assert one.refusal == ("missing channel", "er")
    assert one.planes == (Plane("a.tif", "dna"),)


def test_unknown_columns_are_noted(tmp_path):
    """They may be anything; they are not read."""
    _, folder = opened(tmp_path, "path,Comment\na.tif,x\n")
    assert folder.notes == ["columns of my table.csv that are not used: Comment"]


def test_columns_may_have_other_names(tmp_path):
    """`columns` leads from ours to theirs, channels included."""
    (one,), folder = opened(
        tmp_path, "File,Drug\na.tif,taxol\n", columns={"channel:dna": "File", "compound": "Drug"}
    )
    assert one.planes == (Plane("a.tif", "dna"),)
    assert one.annotations == {"compound": ("taxol",)}
    assert folder.notes == []


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../a.tif", "sub/../../a.tif", "C:/a.tif", "c:a.tif", "sub\\c.tif", "./a.tif",
     "sub//c.tif", "sub/", "\\\\host\\a.tif", "a\x01.tif"],
)  # fmt: skip
def test_names_that_leave_the_folder_are_refused(tmp_path, path):
    """Absolute, upwards, with a drive or with backslashes, on every system alike."""
    with pytest.raises(TableError, match=r"my table\.csv:2: column 'path': .*might leave"):
        opened(tmp_path, f"path\n{path}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("File\na.tif\n", r":1: .*neither 'path'.*Columns there: File"),
        ("path,channel:dna\na.tif,a.tif\n", r":1: .*both 'path' and 'channel:dna'"),
        ("channel:dna,stain\na.tif,x\n", r":1: a wide table names stains"),
        ("channel:\na.tif\n", r":1: a column 'channel:' lacks its stain"),
        ("path,x_min\na.tif,1\n", r":1: a box needs x_min, y_min, x_max, y_max; only x_min"),
        ("path\n", r":1: the table has a header and no rows"),
        ("path,page\na.tif,0,1\n", r":2: the row has 3 cells, 2 are expected"),
        ("path,page\na.tif,one\n", r":2: column 'page': 'one' is not a whole number"),
        ("path,page\na.tif,-1\n", r":2: column 'page': '-1' is not"),
        ("path,page\na.tif,1.0\n", r":2: column 'page': '1.0' is not"),
        ("path,page\na.tif,\u0661\n", r":2: column 'page': '\u0661' is not"),
        ("path,id\n,x\n", r":2: column 'path': the path is empty"),
        ("id,path\n/,a.tif\n", r":2: column 'id': '/' names nothing"),
        ("id,channel:dna\nx,\n", r":2: no channel has a path"),
        ("path,modality\na.tif,xray\n", r":2: column 'modality': 'xray' is none of fluorescence"),
        (
            "id,path,page,stain\nx,a.tif,0,dna\nx,a.tif,1,er\nx,a.tif,2,dna\n",
            r":4: column 'stain': 'dna' repeats one of line 2 .* need a stain each",
        ),
        (
            "path,page,stain\na.tif,0,dna\na.tif,1,dna\n",
            r":3: column 'stain': 'dna' repeats one of line 2 .* another id",
        ),
        ("id,path\nx,a.tif\nx,a.tif\n", r":3: column 'path': 'a.tif' page 0 repeats .*line 2"),
        ("path\na.tif\na.tif\n", r":3: column 'path': .*repeats"),
        ("channel:dna,channel:er\na.tif,a.tif\n", r":2: column 'path': 'a.tif' page 0 repeats"),
        ("id,channel:dna\nx,a.tif\nx,b.tif\n", r":3: column 'id': 'x' stands on line 2 already"),
        (
            "id,path,organism\nx,a.tif,human\nx,b.tif,mouse\n",
            r":3: column 'organism': 'mouse' contradicts 'human' on line 2",
        ),
        (
            "id,path,modality\nx,a.tif,fluorescence\nx,b.tif,brightfield\n",
            r":3: column 'modality': 'brightfield' contradicts 'fluorescence'",
        ),
        (
            "path,field,group\na.tif,f,g\nb.tif,f,h\n",
            r":3: column 'group': records of the field .* different groups",
        ),
    ],
)
def test_a_bad_table_stops_with_file_line_and_value(tmp_path, text, message):
    """Wrong columns, ragged rows, numbers, repeats and contradictions."""
    with pytest.raises(TableError, match=r"my table\.csv" + message):
        opened(tmp_path, text)


@pytest.mark.parametrize(
    ("cells", "kind", "message"),
    [
        ("5,0,5,9", "zero", "'x_max': the box ends at 5, where it starts at 5"),
        ("0,9,5,2", "zero", "'y_max': the box ends at 2, where it starts at 9"),
        ("0,1,5,9", "voc", "'x_min': 0 is not in a one-based"),
        ("0,,5,9", "zero", "'y_min': the box has only some"),
        ("0,0,5.5,9", "zero", "'x_max': '5.5' is not a whole number"),
    ],
)
def test_a_bad_box_stops_with_file_line_and_value(tmp_path, cells, kind, message):
    """Empty, turned round, outside, incomplete, or not in pixels."""
    with pytest.raises(TableError, match=r":2: column " + message):
        opened(tmp_path, f"path,x_min,y_min,x_max,y_max\na.tif,{cells}\n", box=kind)


def test_planes_of_one_record_share_their_box(tmp_path):
    """Two boxes under one id are two cells, or a mistake."""
    text = "id,path,x_min,y_min,x_max,y_max\nx,a.tif,0,0,9,9\nx,b.tif,0,0,8,9\n"
    with pytest.raises(TableError, match=r":3: column 'x_min': the box differs from line 2"):
        opened(tmp_path, text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": {"compuond": "Drug"}}, "'compuond' can be mapped.*compound"),
        ({"box": "coco"}, "zero or voc, not 'coco'"),
        ({"name": "bbbc006"}, "can't be the source 'bbbc006'"),
        ({"name": "My Set"}, "can't be the source 'My Set'"),
    ],
)
def test_wrong_arguments_are_told_before_the_table_is_read(options, message):
    """Unknown columns and boxes, a name of the package or one that ids can't hold."""
    with pytest.raises(ValueError, match=message):
        table_source(Path("absent.csv"), **options)


def test_a_mapped_column_must_be_there(tmp_path):
    """The columns of the table are listed."""
    with pytest.raises(TableError, match=r"no column 'Drug'.*path, drug"):
        opened(tmp_path, "path,drug\na.tif,x\n", columns={"compound": "Drug"})
