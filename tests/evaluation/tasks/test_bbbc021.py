"""BBBC021: two tables joined, files found by plate and name."""

import csv
import gzip
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from cytoimagenet_hf.errors import ImageRefusedError, TableError, TaskNotFoundError
from cytoimagenet_hf.evaluation.records import Features
from cytoimagenet_hf.evaluation.scoring import score
from cytoimagenet_hf.evaluation.tasks import bbbc021
from cytoimagenet_hf.evaluation.tasks._layout import table_of

HEADER = (
    *(f"Image_FileName_{channel}" for channel in ("DAPI", "Tubulin", "Actin")),
    "Image_Metadata_Plate_DAPI",
    "Image_Metadata_Compound",
    "Image_Metadata_Concentration",
)


def row(well="B02", compound="taxol", dose="0.300000", plate="Week1_22123", site=1):
    """A row of the table of images; files are named by well, site and channel."""
    names = (f"{well}_s{site}_w{digit}{'0' * 8}.tif" for digit in (1, 2, 4))
    return (*names, plate, compound, dose)


def write(path, header, rows):
    """Write a table."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


@pytest.fixture
def joined(tmp_path):
    """Give a function that joins made-up tables."""

    def join(rows, mechanisms=(("taxol", "0.3", "Stabilizers"),)):
        images = write(tmp_path / bbbc021.IMAGES, HEADER, rows)
        header = ("compound", "concentration", "moa")
        return bbbc021.read_fields(images, write(tmp_path / bbbc021.MECHANISMS, header, mechanisms))

    return join


@pytest.fixture(scope="module")
def real(real_tables):
    """The fields of the real tables, as images without pixels, and what was left out."""
    folder = real_tables / "bbbc021"
    fields, dropped = bbbc021.read_fields(
        folder / f"{bbbc021.IMAGES}.xz", folder / bbbc021.MECHANISMS
    )
    return table_of(fields, print, dropped=dropped, simulated=False)


def test_the_real_tables_give_the_benchmark(real):
    """2,528 fields of 103 treatments, 38 compounds and 12 mechanisms on 55 plates in 10 weeks."""
    assert len(real) == 2528
    counts = {name: len(set(values)) for name, values in real.keys.items()}
    assert (counts["treatment"], counts["compound"], len(set(real.labels))) == (103, 38, 12)
    assert (counts["plate"], counts["batch"]) == (55, 10)
    assert real.dropped == {"DMSO": 1320, "no mechanism of action in the table": 9352}


def test_treatments_agree_with_the_derived_table(real, real_tables):
    """Fields, plates and mechanism of each of the 103 are those counted by someone else."""
    with (real_tables / "bbbc021/treatments_103_derived.csv").open(encoding="utf-8") as stream:
        told = {
            (one["compound"], float(one["concentration"])): (one["moa"], int(one["n_fields"]))
            for one in csv.DictReader(stream)
        }
    found = Counter(zip(real.keys["compound"], real.keys["treatment"], real.labels, strict=True))
    ours = {
        (compound, float(treatment.removeprefix(f"{compound}-"))): (label, count)
        for (compound, treatment, label), count in found.items()
    }
    assert ours == told


def test_what_can_be_scored_on_the_real_tables(real):
    """103 by NSC; 91 where a shared batch excludes, 92 where equal sets of batches do.

    Two mechanisms lie in one batch only, and taxol 0.3 in all ten.
    """
    values = np.random.default_rng(0).normal(size=(len(real), 4)).astype(np.float32)
    features = [Features(real.ids, values, {})]
    outcomes = {
        (preset, one.name): score(real, features, one, backend="numpy")
        for preset in ("protocols", "paper")
        for one in getattr(bbbc021.TASK, preset)
    }
    assert {name: len(one.ids) for name, one in outcomes.items()} == {
        ("protocols", "nsc"): 103,
        ("protocols", "nscb"): 91,
        ("paper", "nsc"): 103,
        ("paper", "nscb"): 92,
    }
    ours, paper = (outcomes[one, "nscb"].unscorable for one in ("protocols", "paper"))
    assert set(ours) - set(paper) == {"taxol-0.3"}
    mechanisms = dict(zip(real.keys["treatment"], real.labels, strict=True))
    lost = Counter(mechanisms[name] for name in paper)
    assert lost == {"Cholesterol-lowering": 6, "Kinase inhibitors": 5}
    assert set(ours.values()) == set(paper.values()) == {"label not in its bank"}


def test_ids_are_plate_well_and_site(joined):
    """They are the source's own names, and so are the keys."""
    fields, _ = joined([row("G10", plate="Week4_27481", site=3)])
    assert [one.id for one in fields] == ["Week4_27481/G10/s3"]
    assert fields[0].keys == {
        "compound": "taxol",
        "treatment": "taxol-0.3",
        "batch": "Week4",
        "plate": "Week4_27481",
        "well": "Week4_27481/G10",
    }


def test_names_with_all_known_prefixes_are_read(joined):
    """Week4 has none, Week7 one that ends in two underscores."""
    rows = [
        (f"{prefix}B02_s1_w1X.tif", "t.tif", "a.tif", plate, "taxol", "0.3")
        for prefix, plate in (
            ("", "Week4_1"),
            ("Week7_7__", "Week7_1"),
            ("Week8_4sites_", "Week8_1"),
            ("Week10_200907_", "Week10_1"),
        )
    ]
    assert [one.id.split("/")[1] for one in joined(rows)[0]] == ["B02"] * 4


def test_concentrations_are_joined_as_numbers(joined):
    """0.300000 is 0.3, and 10 is written without a point."""
    told = [("taxol", ".30", "Stabilizers"), ("taxol", "1e1", "Stabilizers")]
    fields, _ = joined([row(), row("B03", dose="10.000000")], told)
    assert [one.keys["treatment"] for one in fields] == ["taxol-0.3", "taxol-10"]


def test_controls_and_unknown_mechanisms_are_counted(joined):
    """DMSO, a compound that the other table lacks, another dose, and a blank mechanism."""
    rows = [
        row("B02", "DMSO", "0"),
        row("B03", "UNKNOWN"),
        row("B04", dose="3"),
        row("B05", "blank"),
        row("B06"),
    ]
    told = [("taxol", "0.3", "Stabilizers"), ("blank", "0.3", " "), ("DMSO", "0", "DMSO")]
    fields, dropped = joined(rows, told)
    assert len(fields) == 1
    assert dropped == {"DMSO": 1, "no mechanism of action in the table": 3}


def test_a_repeated_row_is_counted_once(joined):
    """The same field twice is one image and one that is left out."""
    fields, dropped = joined([row(), row(), row("B03")])
    assert len(fields) == 2
    assert dropped == {"row repeats an earlier one": 1}


def test_contradicting_rows_are_refused(joined):
    """One field under two treatments names both lines; so do two mechanisms of one treatment."""
    told = [("taxol", "0.3", "Stabilizers"), ("taxol", "1", "Stabilizers")]
    with pytest.raises(TableError, match=r"image\.csv:4: 'Week1_22123/B02/s1' contradicts line 2"):
        joined([row(), row("B03"), row(dose="1")], told)
    told = [("taxol", "0.3", "Stabilizers"), ("taxol", "0.30", "Destabilizers")]
    with pytest.raises(TableError, match=r"moa\.csv:3: 'Destabilizers' contradicts 'Stabilizers'"):
        joined([row()], told)


@pytest.mark.parametrize("text", ["", "high", "nan", "inf", "-1"])
def test_what_is_no_concentration_is_refused(joined, text):
    """File, line, column and value are named."""
    with pytest.raises(TableError, match=rf"image\.csv:2: column .*Concentration': '{text}'"):
        joined([row(dose=text)])


@pytest.mark.parametrize(
    ("column", "value"), [(0, "../../etc/passwd"), (0, "<b>.tif"), (3, ".."), (3, "Week1_2/../x")]
)
def test_names_that_are_none_are_refused(joined, column, value):
    """A name of another form is said to be one, and no path is ever made of it."""
    bad = list(row())
    bad[column] = value
    with pytest.raises(TableError, match="not named like"):
        joined([bad])


def test_a_path_in_another_channels_name_leads_nowhere(simulated, tmp_path):
    """Files are found in the listing of the folder only: a file outside of it is missing."""
    copy = simulated("bbbc021").copy(tmp_path / "in")
    table = copy.root / bbbc021.IMAGES
    with table.open(encoding="utf-8", newline="") as stream:
        header, first, *rest = csv.reader(stream)
    at = header.index("Image_FileName_Actin")
    plate = first[header.index("Image_Metadata_Plate_DAPI")]
    shutil.copy(copy.root / plate / first[at], tmp_path / "outside.tif")
    first[at] = "../../outside.tif"
    write(table, header, [first, *rest])
    assert copy.open().dropped["missing channel file (Actin)"] == 1


@pytest.mark.parametrize("depth", ["Week1/{}", "BBBC021_v1_images_{0}/{0}", "BBBC021_v1_images_{}"])
def test_plates_are_found_however_deep_they_lie(simulated, tmp_path, depth):
    """As the table's paths have it, or in a folder of the archive's name."""
    given = simulated("bbbc021")
    for folder in sorted(path for path in given.root.iterdir() if path.is_dir()):
        shutil.copytree(folder, tmp_path / "moved" / depth.format(folder.name))
    for table in given.root.glob("*.csv"):
        shutil.copy(table, tmp_path / "moved" / table.name)
    found = bbbc021.TASK.open(tmp_path / "moved")
    whole = given.open()
    assert (found.ids, found.labels, found.keys) == (whole.ids, whole.labels, whole.keys)
    assert np.array_equal(found.read(3), whole.read(3))


def test_compressed_tables_are_read(simulated, tmp_path):
    """A table may end in .gz."""
    copy = simulated("bbbc021").copy(tmp_path)
    table = copy.root / bbbc021.IMAGES
    with gzip.open(copy.root / f"{bbbc021.IMAGES}.gz", "wb") as stream:
        stream.write(table.read_bytes())
    table.unlink()
    assert copy.open().ids == simulated("bbbc021").open().ids


def test_a_missing_table_is_named(simulated, tmp_path):
    """Both tables are needed."""
    copy = simulated("bbbc021").copy(tmp_path, bbbc021.MECHANISMS)
    with pytest.raises(TaskNotFoundError, match=r"looked for BBBC021_v1_moa\.csv \(plain"):
        copy.open()


def test_tables_without_images_are_no_benchmark(simulated, tmp_path):
    """The first file that was looked for is named."""
    for table in simulated("bbbc021").root.glob("*.csv"):
        shutil.copy(table, tmp_path)
    with pytest.raises(TaskNotFoundError, match=r"looked for Week1_22123/Week1_150607_B11_s1_w1"):
        bbbc021.TASK.open(tmp_path)


def test_a_broken_image_is_refused_when_it_is_read(simulated, tmp_path):
    """The table is whole; the image's reason is there to be counted."""
    copy = simulated("bbbc021").copy(tmp_path)
    images = copy.open()
    path = min(path for path in copy.root.rglob("*_w2*.tif") if images.ids[0][:12] in str(path))
    path.write_bytes(b"no image")
    row = next(at for at, name in enumerate(images.ids) if path.parent.name in name)
    with pytest.raises(ImageRefusedError, match="unreadable"):
        images.read(row)


def test_a_mechanism_of_one_compound_is_named_as_not_scorable(joined):
    """Without another compound of its mechanism a treatment can't be right."""
    told = [("taxol", "0.3", "a"), ("docetaxel", "1", "a"), ("alone", "1", "b")]
    rows = [row(), row("B03", "docetaxel", "1"), row("B04", "alone", "1")]
    fields, dropped = joined(rows, told)
    images = table_of(fields, print, dropped=dropped, simulated=True)
    features = [Features(images.ids, np.eye(3, dtype=np.float32), {})]
    protocol = replace(bbbc021.TASK.protocols[0], standardize="none")
    outcome = score(images, features, protocol, backend="numpy")
    assert outcome.unscorable == {"alone-1": "label not in its bank"}
