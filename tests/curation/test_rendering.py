"""Tests of rendering records and chunks."""

import hashlib
import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import tifffile
from PIL import Image

from cytoimagenet_hf import hashing
from cytoimagenet_hf.curation import records, rendering
from cytoimagenet_hf.curation.jobs import ChunkJob, PlaneJob, RecordJob
from cytoimagenet_hf.curation.parameters import Parameters
from cytoimagenet_hf.curation.rendering import render_chunk
from cytoimagenet_hf.errors import ImageRefusedError

PARAMETERS = Parameters(min_contrast=0.0)


def field(path, seed: int, shape=(300, 400), dtype=np.uint16) -> None:
    """Write a field with bright disks on a noisy background."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    pixels = rng.normal(300, 10, shape)
    for _ in range(12):
        cy, cx = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        pixels += 900 * ((y - cy) ** 2 + (x - cx) ** 2 < 400)
    tifffile.imwrite(path, pixels.astype(dtype))


@pytest.fixture
def root(tmp_path):
    """A folder with four fields, the last one of two stains."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for number in range(5):
        field(folder / f"{number}.tif", number)
    return folder


def plane(path: str, stain: str = "nucleus", box=None, page: int = 0) -> PlaneJob:
    """A plane to read."""
    return PlaneJob(path=path, stain=stain, page=page, series=0, box=box)


def job(root, to, wanted=4, **changes) -> ChunkJob:
    """A chunk of four records."""
    records = [RecordJob(f"s/{n}", (plane(f"{n}.tif"),), wanted) for n in range(3)]
    records.append(RecordJob("s/3", (plane("3.tif"), plane("4.tif", "actin")), wanted))
    made = ChunkJob("s-00000", root, tuple(records), PARAMETERS, to)
    return replace(made, **changes)


def rows_of(to) -> list[dict]:
    """Rows of the rendered chunk."""
    with pa.memory_map(str(to / "s-00000.arrow")) as source:
        return pa.ipc.open_file(source).read_all().to_pylist()


def test_rows_hold_what_they_say(root, tmp_path):
    """PNG, height, width and hash of each crop agree, in both sizes."""
    result = render_chunk(job(root, tmp_path))
    rows = [row for row in rows_of(tmp_path) if not row["reason"]]
    assert result.kept == len(rows) == 16
    for row in rows:
        for config in ("", "small_"):
            with Image.open(io.BytesIO(row[f"{config}png"])) as image:
                pixels = np.asarray(image)
            assert pixels.shape == (row[f"{config}height"], row[f"{config}width"])
            assert hashing.pixel_sha256(pixels) == row[f"{config}pixel_sha256"]
        assert (row["y_max"] - row["y_min"], row["x_max"] - row["x_min"]) == (
            row["height"],
            row["width"],
        )


def test_source_hash_is_over_files_and_places(root):
    """The record's hash is that of file hashes, series, page and box, written out by hand."""
    sums = {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in ("0.tif",)}
    line = f"{sums['0.tif']} 0 2 1,2,3,4\n".encode()
    made = records.source_sha256([plane("0.tif", box=(1, 2, 3, 4), page=2)], sums.__getitem__)
    assert made == hashlib.sha256(line).hexdigest()


def test_boxed_record_is_kept_whole_with_its_own_percentiles(root, tmp_path):
    """A cell cut out by a box is one crop, stretched within the box, with the box's coordinates."""
    box = (100, 50, 180, 120)
    boxed = RecordJob("s/cell", (plane("0.tif", box=box),), 4)
    render_chunk(job(root, tmp_path, records=(boxed,)))
    (row,) = rows_of(tmp_path)
    assert (row["window"], row["crop"], row["scaling"]) == ("whole", False, 1.0)
    assert (row["x_min"], row["y_min"], row["x_max"], row["y_max"]) == box
    cut = tifffile.imread(root / "0.tif")[50:120, 100:180].astype(np.float64)
    low, high = np.percentile(cut, (0.1, 99.9))
    expected = np.rint(np.clip((cut - low) / (high - low), 0, 1) * 255)
    with Image.open(io.BytesIO(row["png"])) as image:
        assert np.array_equal(np.asarray(image), expected)


def test_fewer_wanted_are_the_first_of_more(root, tmp_path):
    """Rendering one window gives exactly the first rows of rendering four."""
    render_chunk(job(root, tmp_path / "four"))
    render_chunk(job(root, tmp_path / "one", wanted=1))
    four = [row | {"wanted": 0} for row in rows_of(tmp_path / "four") if row["order"] == 0]
    one = [row | {"wanted": 0} for row in rows_of(tmp_path / "one")]
    assert one == four


def test_fewer_wanted_reuse_and_more_wanted_render(root, tmp_path):
    """A plan that wants fewer windows reads no raw file; one that wants more renders again."""
    render_chunk(job(root, tmp_path, wanted=2))
    fewer = render_chunk(job(root, tmp_path, wanted=1))
    assert (fewer.rendered, fewer.reused) == (0, 4)
    assert {row["order"] for row in rows_of(tmp_path)} == {0}
    more = render_chunk(job(root, tmp_path, wanted=3))
    assert (more.rendered, more.reused) == (4, 0)


def test_unchanged_chunk_reads_no_raw_file(root, tmp_path, monkeypatch):
    """A chunk that is there is counted without opening an image."""
    render_chunk(job(root, tmp_path))

    def never(*_args, **_more):
        raise AssertionError("a raw file was read")

    monkeypatch.setattr(records, "read_plane", never)
    again = render_chunk(job(root, tmp_path))
    assert (again.rendered, again.reused, again.kept) == (0, 4, 16)
    with pytest.raises(AssertionError, match="raw file"):  # the guard bites when it should
        render_chunk(job(root, tmp_path), rehash=True)


def test_other_parameters_render_again(root, tmp_path):
    """Rows made with another seed are never used."""
    render_chunk(job(root, tmp_path))
    other = render_chunk(job(root, tmp_path, parameters=replace(PARAMETERS, seed=1)))
    assert (other.rendered, other.reused) == (4, 0)


def test_unwanted_records_are_dropped_and_counted(root, tmp_path):
    """Records that the new plan doesn't want leave the chunk; the others are reused."""
    full = job(root, tmp_path)
    render_chunk(full)
    fewer = render_chunk(replace(full, records=full.records[:1]))
    assert (fewer.rendered, fewer.reused, fewer.dropped) == (0, 1, 3)


def test_half_written_chunk_is_rendered_again(root, tmp_path):
    """A file cut off in the middle counts as absent."""
    render_chunk(job(root, tmp_path))
    path = tmp_path / "s-00000.arrow"
    path.write_bytes(path.read_bytes()[:1000])
    assert not rendering.is_rendered(job(root, tmp_path))
    assert render_chunk(job(root, tmp_path)).rendered == 4


@pytest.mark.parametrize(
    ("planes", "reason"),
    [
        ((plane("absent.tif"),), "missing file"),
        ((plane("0.tif", page=3),), "page out of range"),
        ((plane("0.tif", box=(390, 0, 500, 100)),), "box out of range"),
        ((plane("0.tif", box=(0, 0, 20, 100)),), "too small"),
        ((plane("0.tif"), plane("small.tif", "actin")), "different shapes"),
        ((plane("flat.tif"),), "constant"),
        ((plane("0.tif"), plane("flat300.tif", "actin")), "constant"),
        ((plane("nan.tif"),), "not finite"),
        ((plane("mask.tif"),), "binary"),
        ((plane("text.tif"),), "unreadable"),
    ],
)
def test_bad_records_are_refused_by_reason(root, tmp_path, planes, reason):
    """What can't be used is one row with its reason, and the records around it are rendered."""
    field(root / "small.tif", 9, shape=(200, 200))
    tifffile.imwrite(root / "flat.tif", np.full((300, 400), 5, np.uint16))
    tifffile.imwrite(root / "flat300.tif", np.full((300, 400), 5, np.uint16))
    with_nan = np.random.default_rng(0).normal(size=(300, 400)).astype(np.float32)
    with_nan[3, 3] = np.nan
    tifffile.imwrite(root / "nan.tif", with_nan)
    tifffile.imwrite(root / "mask.tif", np.eye(300, 400, dtype=np.uint8) * 255)
    (root / "text.tif").write_text("not an image")
    made = job(root, tmp_path)
    result = render_chunk(
        replace(made, records=(made.records[0], RecordJob("s/bad", planes, 4), made.records[1]))
    )
    (bad,) = (row for row in rows_of(tmp_path) if row["idx"] == "s/bad")
    assert (bad["window"], bad["reason"]) == ("", reason)
    assert result.refused[reason] == 1
    assert result.kept == 8


def test_out_of_memory_is_a_refusal(root, tmp_path):
    """A record that doesn't fit into memory is refused, not fatal."""
    record = RecordJob("s/0", (plane("0.tif"),), 1)

    def too_much(_plane):
        raise MemoryError

    (row,) = records.render_record(record, too_much, lambda _: "", PARAMETERS)
    assert row["reason"] == "out of memory"


def test_refused_windows_keep_a_picture(root, tmp_path):
    """A window that is refused for its contrast keeps a thumbnail to look at, and no PNG."""
    strict = replace(PARAMETERS, min_contrast=1e9)
    result = render_chunk(job(root, tmp_path, parameters=strict))
    rows = rows_of(tmp_path)
    assert result.kept == 0
    assert {row["reason"] for row in rows} == {"no contrast"}
    for row in rows:
        assert row["png"] is None
        with Image.open(io.BytesIO(row["thumbnail"])) as image:
            assert max(image.size) <= 96


def test_refusal_survives_pickling():
    """A refusal that crosses a process keeps its reason and detail."""
    import pickle

    error = pickle.loads(pickle.dumps(ImageRefusedError("constant", "stain x")))
    assert (error.reason, error.detail) == ("constant", "stain x")


def test_rendered_chunks_give_single_cells(root, tmp_path):
    """RenderedChunks reads one cell of one chunk."""
    render_chunk(job(root, tmp_path))
    chunks = rendering.RenderedChunks(tmp_path)
    assert chunks.value("s-00000", 0, "idx") == "s/0"
    assert len(chunks.column("s-00000", "idx")) == 16
