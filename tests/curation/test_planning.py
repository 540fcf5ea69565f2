"""Tests of the plan on disk: windows wanted, chunks, and when it is used again."""

import dataclasses
from pathlib import Path

import pytest

from cytoimagenet_hf.curation.catalog import build_catalog, read_catalog
from cytoimagenet_hf.curation.parameters import Parameters
from cytoimagenet_hf.curation.planning import LabelPlan, chunk_jobs, make_plan
from cytoimagenet_hf.sources import Plane
from tests.curation.material import entry_of, record

_FEW = Parameters(min_fields=2, chunk_fields=3)


def cataloged(folder: Path, **records_by_source):
    """Write and read the catalogs of some sources."""
    for name, records in records_by_source.items():
        build_catalog(entry_of(records, folder, name=name), folder / "catalog")
    return read_catalog(folder / "catalog", records_by_source)


def planned(table, folder: Path, parameters: Parameters = _FEW) -> LabelPlan:
    """Plan with the signatures of two catalogs that never change."""
    return make_plan(table, ["one", "two"], parameters, folder)


def fields(source: str, count: int, **cells):
    """Make fields with one record each."""
    return [record(f"{at:04d}", source=source, **cells) for at in range(count)]


def test_chunks_hold_consecutive_fields_of_one_source(tmp_path) -> None:
    """Seven fields in chunks of three are 3, 3 and 1; fields without a label keep their place."""
    seven = fields("b", 7, organism=("human",))
    seven[4] = record("0004", source="b")  # no annotation
    # "b_c" sorts around "b/": "_" comes after "/", "-" would come before
    table = cataloged(tmp_path, b=seven, b_c=fields("b_c", 2, organism=("human",)))
    plan = planned(table, tmp_path)
    found = dict(zip(plan.table["id"].to_pylist(), plan.table["chunk"].to_pylist(), strict=True))
    assert found == {
        **{f"b/{at:04d}": f"b-0000{at // 3}" for at in range(7)},
        **{f"b_c/{at:04d}": "b_c-00000" for at in range(2)},
    }
    jobs = chunk_jobs(table, plan, {"b": tmp_path, "b_c": tmp_path}, _FEW, tmp_path)
    assert [(job.name, [one.id for one in job.records]) for job in jobs] == [
        ("b-00000", ["b/0000", "b/0001", "b/0002"]),
        ("b-00001", ["b/0003", "b/0005"]),
        ("b-00002", ["b/0006"]),
        ("b_c-00000", ["b_c/0000", "b_c/0001"]),
    ]


@pytest.mark.parametrize(
    ("count", "wanted"), [(1200, 1), (1000, 1), (999, 2), (550, 2), (549, 3), (400, 3), (399, 4)]
)
def test_windows_wanted_follow_the_fields_of_the_label(tmp_path, count, wanted) -> None:
    """A label of 1,000 fields wants one window of each, of 399 fields four; others want none."""
    table = cataloged(tmp_path, a=fields("a", count, organism=("human",)))
    plan = planned(table, tmp_path, Parameters())
    labels, windows = (plan.table[name].to_pylist() for name in ("label", "wanted"))
    assert {one for label, one in zip(labels, windows, strict=True) if label == 0} == {wanted}
    assert windows.count(0) == labels.count(-1) == max(0, count - 1000)


def test_all_records_of_a_field_get_its_label(tmp_path) -> None:
    """Three modalities of two cells are six planned records and count as two fields."""
    kinds = ("bright", "dark", "glow")
    records = [
        record(f"{cell}/{kind}", source="a", field_key=cell, phenotype=("g1",))
        for cell in ("x", "y")
        for kind in kinds
    ]
    refused = record("y/z", source="a", field_key="y", planes=(), refusal=("missing file", "z"))
    table = cataloged(tmp_path, a=[*records, refused])
    plan = planned(table, tmp_path)
    assert plan.labels[0].candidates == plan.labels[0].assigned == 2
    assert plan.table["label"].to_pylist() == [0] * 6
    assert "a/y/z" not in plan.table["id"].to_pylist()


def test_a_plan_is_used_again_and_equals_the_fresh_one(tmp_path) -> None:
    """The plan read from disk has the same rows, types and report."""
    table = cataloged(tmp_path, a=fields("a", 5, organism=("human",), gene=("rare",)))
    fresh = planned(table, tmp_path)
    again = planned(table, tmp_path)
    assert (fresh.is_new, again.is_new) == (True, False)
    assert again.table.equals(fresh.table)
    assert again.table.schema.equals(fresh.table.schema)
    assert again.labels == fresh.labels
    assert again.signature == fresh.signature


def test_a_plan_without_labels_is_used_again(tmp_path) -> None:
    """Records without any annotation make a plan that says so, twice."""
    table = cataloged(tmp_path, a=fields("a", 3))
    fresh, again = planned(table, tmp_path), planned(table, tmp_path)
    assert (again.is_new, again.labels, fresh.labels) == (False, (), ())
    assert again.table.equals(fresh.table)
    assert chunk_jobs(table, again, {"a": tmp_path}, _FEW, tmp_path) == []


def test_a_plan_of_refused_records_is_empty(tmp_path) -> None:
    """A catalog of which nothing can be rendered plans nothing, and raises nothing."""
    table = cataloged(tmp_path, a=[record("x", source="a", planes=(), refusal=("bad", ""))])
    plan = planned(table, tmp_path)
    assert (len(plan.table), plan.labels) == (0, ())


_CHANGES = {
    "seed": 1, "min_fields": 3, "max_fields": 999, "presample": 9999,
    "allocation": "proportional", "crops_by_fields": ((0, 1),), "chunk_fields": 4,
}  # fmt: skip


@pytest.mark.parametrize("name", _CHANGES)
def test_a_plan_is_made_again_when_its_parameters_change(tmp_path, name) -> None:
    """Each parameter that decides labels, windows or chunks makes a new plan."""
    table = cataloged(tmp_path, a=fields("a", 5, organism=("human",)))
    planned(table, tmp_path)
    changed = dataclasses.replace(_FEW, **{name: _CHANGES[name]})
    assert planned(table, tmp_path, changed).is_new


def test_a_plan_outlives_parameters_of_later_stages(tmp_path) -> None:
    """Another contrast threshold or split leaves labels alone; another catalog does not."""
    table = cataloged(tmp_path, a=fields("a", 5, organism=("human",)))
    planned(table, tmp_path)
    later = dataclasses.replace(_FEW, min_contrast=1.0, validation_share=0.5, max_crops=1)
    assert not planned(table, tmp_path, later).is_new
    assert make_plan(table, ["one", "three"], later, tmp_path).is_new


def test_half_a_plan_is_made_again(tmp_path) -> None:
    """A run that was stopped between two files left no plan."""
    table = cataloged(tmp_path, a=fields("a", 5, organism=("human",)))
    planned(table, tmp_path)
    (tmp_path / "plan_labels.parquet").unlink()
    assert planned(table, tmp_path).is_new


def test_jobs_carry_planes_roots_and_windows(tmp_path) -> None:
    """What a worker is told is what the source said of the planes, with the source's root."""
    planes = (Plane("x.tif", "nucleus", page=2, series=1, box=(1, 2, 3, 4)), Plane("y.tif", "er"))
    records = [record(key, source="a", planes=planes, organism=("human",)) for key in "pq"]
    table = cataloged(tmp_path, a=records)
    root = tmp_path / "somewhere"
    (job,) = chunk_jobs(table, planned(table, tmp_path), {"a": root}, _FEW, tmp_path / "to")
    assert (job.root, job.to, job.parameters) == (root, tmp_path / "to", _FEW)
    assert [one.wanted for one in job.records] == [4, 4]
    first, second = job.records[0].planes
    assert (first.path, first.stain, first.page, first.series) == ("x.tif", "nucleus", 2, 1)
    assert (first.box, second.box) == ((1, 2, 3, 4), None)
