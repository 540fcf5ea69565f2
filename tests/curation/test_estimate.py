"""Tests of the disk estimate: near the truth on simulated sources, and a stop when short."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from cytoimagenet_hf import simulation, sources
from cytoimagenet_hf.curation import estimate as estimates
from cytoimagenet_hf.curation.catalog import SourceInput, build_catalog, read_catalog
from cytoimagenet_hf.curation.estimate import Estimate, check_space, estimate
from cytoimagenet_hf.curation.jobs import ChunkJob, PlaneJob, RecordJob
from cytoimagenet_hf.curation.parameters import Parameters
from cytoimagenet_hf.curation.planning import chunk_jobs, make_plan
from cytoimagenet_hf.curation.rendering import render_chunk
from cytoimagenet_hf.errors import BuildError
from tests.curation.material import SMALL, build_small

_Usage = namedtuple("_Usage", "total used free")


def size(folder: Path, pattern: str = "**/*") -> int:
    """Bytes of the files under a folder."""
    return sum(path.stat().st_size for path in folder.glob(pattern) if path.is_file())


def jobs_of(name: str, folder: Path, parameters: Parameters = SMALL) -> list[ChunkJob]:
    """Simulate and plan one source."""
    simulation.simulate(name, folder / "raw", fields=8)
    entry = SourceInput(sources.get(name), folder / "raw" / name)
    build_catalog(entry, folder / "catalog")
    table = read_catalog(folder / "catalog", [name])
    plan = make_plan(table, [], parameters, folder)
    return chunk_jobs(table, plan, {name: entry.root}, parameters, folder / "rendered")


def test_estimate_is_within_a_factor_of_two_of_a_build(tmp_path_factory) -> None:
    """What rendering and assembly wrote is between half and twice of what was announced."""
    built = build_small(tmp_path_factory)
    written = size(built.work / "rendered") + size(built.output / "data")
    assert written / 2 < built.summary.estimated_bytes < written * 2
    wanted = built.summary.crops
    assert wanted / 2 < estimated_crops(built) < wanted * 2


def estimated_crops(built) -> int:
    """Estimate the crops of the shared build once more."""
    names = ["bbbc022", "bbbc048"]
    table = read_catalog(built.work / "catalog", names)
    plan = make_plan(table, ["other"], SMALL, built.work.parent / "plan")
    roots = {name: built.raw / name for name in names}
    return estimate(chunk_jobs(table, plan, roots, SMALL, built.work), SMALL).crops


@pytest.mark.parametrize("name", ["bbbc010", "bbbc038"])
def test_estimate_of_one_source_errs_on_the_safe_side(tmp_path, name) -> None:
    """Pictures with much black take less than announced, yet not less than two fifths of it.

    Assembly writes the same images again, so what was rendered counts twice.
    """
    jobs = jobs_of(name, tmp_path)
    announced = estimate(jobs, SMALL)
    kept = sum(render_chunk(job).kept for job in jobs)
    written = 2 * size(tmp_path / "rendered")
    assert written < announced.bytes < 2.5 * written
    assert kept <= announced.crops < 2 * kept


def _job(folder: Path, *records: RecordJob) -> ChunkJob:
    return ChunkJob("made-00000", folder, records, SMALL, folder)


def test_unreadable_files_count_nothing(tmp_path) -> None:
    """An absent file and a text are no error here; rendering will refuse them."""
    (tmp_path / "text.png").write_text("no image")
    planes = [PlaneJob(name, "nucleus", 0, 0, None) for name in ("absent.png", "text.png")]
    records = [RecordJob(f"made/{at}", (plane,), 4) for at, plane in enumerate(planes)]
    assert estimate([_job(tmp_path, *records)], SMALL) == Estimate(0, 0)
    assert estimate([], SMALL) == Estimate(0, 0)


def test_boxes_count_their_own_size(tmp_path) -> None:
    """A cell of 100 x 50 pixels is one crop, whatever its image and the windows wanted."""
    box = PlaneJob("any.png", "nucleus", 0, 0, (0, 0, 100, 50))
    one = estimate([_job(tmp_path, RecordJob("made/1", (box,), 4))], SMALL)
    assert one.crops == 1
    # twice 100 x 50 pixels (full and small), 0.75 bytes each, written twice: 15,000 and a margin
    assert 15_000 <= one.bytes <= 20_000


def test_records_from_tables_are_counted(tmp_path) -> None:
    """Without files the windows wanted are all that is known."""
    found = estimate([_job(tmp_path, RecordJob("made/1", (), 3))], SMALL)
    assert found == Estimate(3, 0)


def test_many_records_are_estimated_from_a_sample(tmp_path, monkeypatch) -> None:
    """Of 1,000 records at most 200 headers are read, and all are counted."""
    seen = []
    monkeypatch.setattr(
        estimates, "probe", lambda path, limits: seen.append(path) or _Header(100, 200)
    )
    plane = PlaneJob("x.png", "nucleus", 0, 0, None)
    records = [RecordJob(f"made/{at}", (plane,), 1) for at in range(1000)]
    found = estimate([_job(tmp_path, *records)], SMALL)
    assert found.crops == 1000
    assert len(seen) == 200


_Header = namedtuple("_Header", "height width")


def test_enough_space_is_no_error(tmp_path) -> None:
    """Folders that don't exist yet are judged by the disk that they will lie on."""
    check_space(1000, tmp_path / "work/deep", tmp_path / "output")


def test_a_short_disk_stops_with_numbers(tmp_path, monkeypatch) -> None:
    """The message says how much is needed, how much is free, where, and what to do."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Usage(0, 0, 2_500_000_000))
    check_space(2_500_000_000, tmp_path, tmp_path / "output")
    with pytest.raises(BuildError, match=r"about 3\.0 GB.*2\.5 GB are free.*--output and --work"):
        check_space(3_000_000_000, tmp_path, tmp_path / "output")


def test_each_of_two_disks_needs_half(tmp_path, monkeypatch) -> None:
    """Work and output on two disks share the need; the one that is short is named."""

    class Disk:
        """A folder on a disk of its own."""

        def __init__(self, number: int) -> None:
            self.number = number

        def stat(self):
            return namedtuple("Stat", "st_dev")(self.number)

        def __str__(self) -> str:
            return f"disk {self.number}"

    disks = [Disk(1), Disk(2)]
    monkeypatch.setattr(estimates, "_existing", lambda folder: folder)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda disk: _Usage(0, 0, 2 * 10**9 if disk.number == 1 else 10**9)
    )
    check_space(2 * 10**9, *disks)
    with pytest.raises(BuildError, match=r"1\.5 GB at disk 2"):
        check_space(3 * 10**9, *disks)
