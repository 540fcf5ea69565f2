"""Tests of the whole build on simulated raw data, and (slow) on real images."""

import io
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cytoimagenet_hf import files, sources
from cytoimagenet_hf.curation import assembly, pipeline
from cytoimagenet_hf.curation.catalog import SourceInput, read_catalog
from cytoimagenet_hf.curation.parameters import preset
from cytoimagenet_hf.curation.pipeline import BuildConfig, build
from cytoimagenet_hf.errors import BuildError, CatalogError, SourceNotFoundError
from cytoimagenet_hf.imaging.readers import read_plane
from tests.curation.builds import NAMES, config, raw_data, tree


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """Simulated raw data, shared; tests that change them make their own."""
    return raw_data(tmp_path_factory.mktemp("raw"))


@pytest.fixture(scope="module")
def built(raw, tmp_path_factory) -> tuple[BuildConfig, pipeline.Summary]:
    """One build, shared by the tests that only look at it."""
    made = config(raw, tmp_path_factory.mktemp("built") / "cytoimagenet")
    return made, build(made)


def test_everything_is_accounted_for(built):
    """Each record of the catalog is published, or excluded with a reason, and none is both."""
    made, summary = built
    published = pq.read_table(made.output / "data" / "metadata", columns=["idx"])["idx"]
    kept = set(published.to_pylist())
    excluded = pq.read_table(made.output / "exclusions.parquet").to_pylist()
    whole = {row["id"] for row in excluded if not row["window"]}
    windows = {row["id"] for row in excluded if row["window"]}
    catalog = read_catalog(made.work_folder / "catalog", NAMES)["id"].to_pylist()
    assert set(catalog) == kept | whole | windows
    assert not kept & whole
    assert all(row["reason"] for row in excluded)
    assert summary.crops == len(published)


def test_folder_holds_what_the_design_lists(built):
    """The folder holds card, data, build.json, reports and sums, and no script."""
    names = {path.name for path in built[0].output.iterdir()}
    assert names == {
        "README.md", "SHA256SUMS", "build.json", "data", "exclusions.parquet", "labels.parquet",
        "croissant.json", "pictures",
    }  # fmt: skip


def test_second_run_does_nothing(built):
    """A build whose inputs are unchanged renders nothing and leaves every byte and time alone."""
    made, first = built
    before = {path: path.stat().st_mtime_ns for path in made.output.rglob("*")}
    again = build(made)
    assert (again.rendered, again.is_new) == (0, False)
    assert again.reused == first.rendered
    assert again.manifest_sha256 == first.manifest_sha256
    assert {path: path.stat().st_mtime_ns for path in made.output.rglob("*")} == before


def test_new_plan_reuses_what_is_rendered(raw, tmp_path):
    """After a source is added only the crops that the new plan adds are rendered."""
    one = config(raw, tmp_path / "cytoimagenet", names=NAMES[:1])
    first = build(one)
    both = config(raw, tmp_path / "cytoimagenet", names=NAMES[:2])
    second = build(both)
    assert first.rendered > 0
    assert second.reused == first.rendered
    fresh = config(raw, tmp_path / "fresh", names=NAMES[:2])
    build(fresh)
    assert tree(both.output) == tree(fresh.output)


def test_changed_file_is_rendered_again(tmp_path):
    """A raw file of another time is rendered again, and nothing else; `rehash` reads all again."""
    raw = raw_data(tmp_path / "raw", NAMES[:1])
    made = config(raw, tmp_path / "cytoimagenet", names=NAMES[:1])
    first = build(made)
    image = next(path for path in sorted(raw.rglob("*.tif")) if "_z_16" in path.parts[-2])
    stat = image.stat()
    os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    second = build(made)
    assert (second.rendered, second.reused) == (1, first.rendered - 1)
    assert second.manifest_sha256 == first.manifest_sha256
    third = build(config(raw, made.output, names=NAMES[:1], rehash=True))
    assert third.rendered == first.rendered
    assert third.manifest_sha256 == first.manifest_sha256


def test_dry_run_renders_nothing(raw, tmp_path):
    """A dry run gives the plan, an estimate and no data set."""
    made = config(raw, tmp_path / "cytoimagenet", dry_run=True)
    summary = build(made)
    assert summary.labels > 0
    assert summary.estimated_bytes > 0
    assert not made.output.exists()
    assert not (made.work_folder / "rendered").exists()


def test_estimate_is_near(built):
    """The disk estimate is within a factor of two of what was written."""
    made, summary = built
    written = sum(
        path.stat().st_size
        for folder in (made.output / "data", made.work_folder / "rendered")
        for path in folder.rglob("*")
        if path.is_file()
    )
    assert written / 2 < summary.estimated_bytes < written * 2


def test_disk_too_small_stops_before_rendering(raw, tmp_path, monkeypatch):
    """A disk that is too small stops the build before a pixel is read."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(BuildError, match=r"needs about .* GB .* are free"):
        build(config(raw, tmp_path / "cytoimagenet"))
    assert not (tmp_path / "cytoimagenet.work" / "rendered").exists()


def test_run_facts_stay_out_of_the_data_set(built):
    """Times, host and paths are in run.json of the work folder and nowhere in the output."""
    made, _ = built
    run = json.loads((made.work_folder / "run.json").read_text())
    assert set(run["seconds"]) == {"catalog", "plan", "rendering", "assembly"}
    for name in ("README.md", "build.json"):
        assert str(made.output.parent) not in (made.output / name).read_text()


def test_foreign_folder_is_never_replaced(raw, tmp_path):
    """An output folder that no build wrote is refused and left alone."""
    output = tmp_path / "precious"
    output.mkdir()
    (output / "thesis.txt").write_text("years of work")
    with pytest.raises(BuildError, match="no build wrote"):
        build(config(raw, output))
    assert (output / "thesis.txt").read_text() == "years of work"


def test_nothing_is_begun_where_a_build_would_remove_what_it_reads(raw, tmp_path):
    """Raw data or work in the output stop a build before anything is written, or swept away."""
    output = tmp_path / "cytoimagenet"
    shutil.copytree(raw / NAMES[0], output / NAMES[0])
    (output / "build.json").write_text("{}")
    before = tree(tmp_path)
    for made in (config(output, output, names=NAMES[:1]), config(raw, output, work=output / "w")):
        with pytest.raises(BuildError, match=r"lies? in"):
            build(made)
    assert tree(tmp_path) == before


def test_a_file_put_into_the_output_meanwhile_is_kept(raw, tmp_path, monkeypatch):
    """Between the first look and the swap lie hours."""
    made = config(raw, tmp_path / "cytoimagenet", names=NAMES[:1])
    build(made)
    write, notes = assembly.write_documents, made.output / "notes.txt"
    monkeypatch.setattr(
        assembly, "write_documents", lambda *a, **k: (notes.write_text("mine"), write(*a, **k))[1]
    )
    with pytest.raises(BuildError, match=r"no build wrote \(notes.txt\)"):
        build(config(raw, made.output, names=NAMES[:2]))
    assert notes.read_text() == "mine"


def test_second_run_at_a_time_says_who_holds_the_folder(raw, tmp_path):
    """Two runs into one folder: the second says which process holds it."""
    made = config(raw, tmp_path / "cytoimagenet")
    with (
        files.exclusive_lock(made.work_folder / "lock"),
        pytest.raises(BuildError, match=f"held by process {os.getpid()}"),
    ):
        build(made)


def test_nothing_to_build_is_an_error(raw, tmp_path):
    """No input, one input twice, and a threshold that nothing reaches are errors that say so."""
    with pytest.raises(BuildError, match="nothing to build"):
        build(BuildConfig(inputs=[], output=tmp_path / "cytoimagenet"))
    entry = SourceInput(sources.get("bbbc006"), raw / "bbbc006")
    with pytest.raises(BuildError, match="given twice"):
        build(BuildConfig(inputs=[entry, entry], output=tmp_path / "cytoimagenet"))
    with pytest.raises(BuildError, match=r"has \d+ fields, --min-fields is 287"):
        build(BuildConfig(inputs=[entry], output=tmp_path / "cytoimagenet"))


def test_missing_raw_folder_is_an_error(tmp_path):
    """A raw folder that is absent is named, with what to do."""
    entry = SourceInput(sources.get("bbbc006"), tmp_path / "absent")
    with pytest.raises(SourceNotFoundError, match="absent"):
        build(BuildConfig(inputs=[entry], output=tmp_path / "cytoimagenet"))


def test_bad_files_are_counted_refusals(tmp_path):
    """Truncated, empty, constant and oversize files are excluded by reason; the run goes on."""
    raw = raw_data(tmp_path / "raw", NAMES[:1])
    images = sorted((raw / "bbbc006").rglob("*_z_16/*_w1*.tif"))
    images[0].write_bytes(images[0].read_bytes()[:100])
    images[1].write_bytes(b"")
    images[2].write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    _constant_tiff(images[3])
    made = config(raw, tmp_path / "cytoimagenet", names=NAMES[:1])
    summary = build(made)
    assert summary.excluded["rendering: unreadable"] == 1
    assert summary.excluded["rendering: empty file"] == 1
    assert summary.excluded["rendering: large-file pointer"] == 1
    assert summary.excluded["rendering: constant"] == 1
    details = pq.read_table(made.output / "exclusions.parquet").to_pylist()
    assert all(str(tmp_path) not in row["detail"] for row in details)


def _constant_tiff(path: Path) -> None:
    import tifffile

    tifffile.imwrite(path, np.full((520, 696), 7, np.uint16))


def test_plan_from_tables_needs_no_raw_files(tmp_path):
    """`from_tables` plans from a source's table alone; a source without tables says so."""
    raw = raw_data(tmp_path / "raw", ("bbbc022",), fields=6)
    tables = tmp_path / "tables" / "bbbc022"
    tables.mkdir(parents=True)
    shutil.copy(raw / "bbbc022" / "BBBC022_v1_image.csv", tables)
    entry = SourceInput(sources.get("bbbc022"), tmp_path / "none", tables=(tables,))
    made = BuildConfig(
        inputs=[entry],
        output=tmp_path / "cytoimagenet",
        parameters=preset("standard", min_fields=4),
        from_tables=True,
    )
    summary = build(made)
    assert summary.fields >= 6
    assert summary.labels > 0
    bare = SourceInput(sources.get("bbbc006"), raw / "bbbc022")
    with pytest.raises(CatalogError, match="no tables"):
        build(BuildConfig(inputs=[bare], output=tmp_path / "x", from_tables=True))


def test_work_folder_shows_the_build(built):
    """Gallery, refused crops and page lie in the work folder; simulated data are declared."""
    work = built[0].work_folder
    assert (work / "gallery.png").read_bytes().startswith(b"\x89PNG")
    assert "simulated" in (work / "report.html").read_text(encoding="utf-8").lower()
    assert "SIMULATED" in (built[0].output / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def real_build(real_images, tmp_path_factory) -> tuple[BuildConfig, pipeline.Summary]:
    """The build of real images that the project shows."""
    names = ("bbbc006", "bbbc010", "bbbc022", "bbbc038", "bbbc048")
    made = BuildConfig(
        inputs=[SourceInput(sources.get(name), real_images / name) for name in names],
        output=tmp_path_factory.mktemp("real") / "cytoimagenet",
        parameters=preset("standard", min_fields=10),
        workers=2,
    )
    return made, build(made)


@pytest.mark.slow
def test_real_build_is_as_expected(real_build):
    """Real images give the fields, classes and crops that were worked out beforehand."""
    made, summary = real_build
    assert summary.fields == 611
    rows = pq.read_table(made.output / "labels.parquet").to_pylist()
    assigned = {row["label"]: row["assigned"] for row in rows if not row["dropped_reason"]}
    assert assigned == {
        "g1": 90, "g2": 90, "s": 90, "prophase": 90, "nucleus": 112,
        "metaphase": 52, "telophase": 21, "u2os": 14, "anaphase": 12,
    }  # fmt: skip
    assert abs(summary.crops - 1830) < 30
    assert 0.08 < summary.splits["validation"] / summary.crops < 0.12
    assert summary.terms["local"] > summary.crops / 2
    assert any("z_00" in note for note in summary.notes)
    assert any("z_aligned_10" in note for note in summary.notes)


@pytest.mark.slow
def test_sixteen_bit_crops_keep_their_gray_levels(real_build, real_images):
    """Crops of 16-bit fields keep 0.75 * min(256, distinct raw values) levels, or all there can be.

    A cell of 40 x 40 pixels with a few bright ones has its many dark values within few gray levels
    after any linear stretch; such crops equal the float64 reference, so nothing was lost before.
    """
    made, _ = real_build
    names = [entry.source.name for entry in made.inputs]
    path_of = {
        row["id"]: f"{row['id'].partition('/')[0]}/{row['planes'][0]['path']}"
        for row in read_catalog(made.work_folder / "catalog", names).to_pylist()
    }
    counted = Counter()
    for row in pq.read_table(made.output / "data" / "default").to_pylist():
        plane = read_plane(real_images / path_of[row["idx"]])
        if plane.dtype != np.uint16:
            continue
        counted[row["dir_name"]] += 1
        window = plane[row["y_min"] : row["y_max"], row["x_min"] : row["x_max"]]
        crop = _decoded(row["image"]["bytes"])
        if row["crop"]:
            levels = len(np.unique(crop))
            assert levels >= 0.75 * min(256, len(np.unique(window))), row["image_id"]
        else:
            low, high = np.percentile(plane.astype(np.float64), (0.1, 99.9))
            stretched = np.rint(np.clip((plane - low) / (high - low), 0, 1) * 255)
            assert np.array_equal(crop, stretched.astype(np.uint8)), row["image_id"]
    assert counted == {"bbbc006": 36, "bbbc022": 20, "bbbc048": 1335}


def _decoded(encoded: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image)
