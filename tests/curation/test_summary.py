"""Tests of what a build tells at its end."""

from collections import Counter
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from cytoimagenet_hf import files
from cytoimagenet_hf.curation import summary as summaries
from cytoimagenet_hf.curation.catalog import build_catalog, read_catalog
from cytoimagenet_hf.curation.estimate import Estimate
from cytoimagenet_hf.curation.jobs import ChunkResult
from cytoimagenet_hf.curation.parameters import Parameters
from cytoimagenet_hf.curation.planning import chunk_jobs, make_plan
from tests.curation.material import build_small, entry_of, record


def test_summary_counts_what_was_published(tmp_path_factory) -> None:
    """Crops, splits, terms and exclusions are those of the files."""
    built = build_small(tmp_path_factory)
    summary = built.summary
    splits, terms = Counter(), Counter()
    for path in (built.output / "data/default").iterdir():
        split, kind, *_ = path.stem.split("-")
        splits[split] += pq.read_metadata(path).num_rows
        terms[kind] += pq.read_metadata(path).num_rows
    assert (summary.splits, summary.terms) == (splits, terms)
    assert summary.crops == sum(splits.values())
    table = read_catalog(built.work / "catalog", ["bbbc022", "bbbc048"])
    assert (summary.sources, summary.records) == (2, len(table))
    assert summary.fields == len(set(table["field"].to_pylist())) == 24
    excluded = pq.read_table(built.output / "exclusions.parquet").to_pylist()
    assert summary.excluded == Counter(f"{row['stage']}: {row['reason']}" for row in excluded)
    assert summary.rendered == len({row["id"] for row in table.to_pylist()}) - sum(
        count for what, count in summary.excluded.items() if what.startswith(("plan", "catalog"))
    )
    assert (summary.reused, summary.dropped, summary.is_new) == (0, 0, True)


def test_summary_is_kept_beside_the_work(tmp_path_factory) -> None:
    """summary.json holds the same counts, so that an unchanged build can tell them again."""
    built = build_small(tmp_path_factory)
    kept = files.read_json(built.work / "summary.json")["summary"]
    assert kept["crops"] == built.summary.crops
    assert summaries.Summary(**kept).build == built.summary.build


def test_a_dry_run_tells_of_planned_labels(tmp_path) -> None:
    """Labels that get fields are counted, the crops are those wanted."""
    records = [record(str(at), organism=("human",), gene=(str(at),)) for at in range(3)]
    build_catalog(entry_of(records, tmp_path), tmp_path / "catalog")
    table = read_catalog(tmp_path / "catalog", ["made"])
    parameters = Parameters(min_fields=2)
    plan = make_plan(table, [], parameters, tmp_path)
    told = summaries.planned(tmp_path, table, plan, Estimate(12, 99), ["note"])
    assert (told.labels, told.crops, told.fields, told.records) == (1, 12, 3, 3)
    assert (told.estimated_bytes, told.notes, told.splits) == (99, ["note"], {})


def test_counts_of_a_run_are_added(tmp_path) -> None:
    """Records of chunks that were not touched count as reused."""
    records = [record(str(at), organism=("human",)) for at in range(5)]
    build_catalog(entry_of(records, tmp_path), tmp_path / "catalog")
    table = read_catalog(tmp_path / "catalog", ["made"])
    parameters = Parameters(min_fields=2, chunk_fields=2)
    plan = make_plan(table, [], parameters, tmp_path)
    jobs = chunk_jobs(table, plan, {"made": tmp_path}, parameters, tmp_path)
    done = [ChunkResult("made-00001", rendered=1, reused=1, dropped=7)]
    told = summaries.with_counts(
        summaries.planned(tmp_path, table, plan, Estimate(0, 0), []),
        jobs,
        jobs[1:2],
        done,
        Estimate(0, 5),
    )
    assert (told.rendered, told.reused, told.dropped, told.estimated_bytes) == (1, 4, 7, 5)


def test_notes_say_what_became_of_files_and_values(tmp_path) -> None:
    """Unused files and dropped controls are told with counts and examples."""
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "stray.doc").write_text("")
    records = [
        record("a", sirna=("EMPTY",)),
        record("b", cell_type=("u2os",)),
    ]
    build_catalog(entry_of(records, raw), tmp_path / "catalog")
    notes = summaries.source_notes(["made"], tmp_path / "catalog")
    assert any("1 files not used" in note and "stray.doc" in note for note in notes)
    assert any("sirna 'EMPTY' of 1 records is no label: " in note for note in notes)
    assert len(notes) == 2


@pytest.mark.parametrize("apart", [False, True])
def test_merged_spellings_are_told_within_and_between_sources(tmp_path, apart) -> None:
    """U2OS of one record and u2os of another are one value, and the note names both spellings."""
    raw = tmp_path / "raw"
    raw.mkdir()
    records = [
        record("a", cell_type=("U2OS",), compound=("Taxol",)),
        record("b", cell_type=("u2os",)),
    ]
    parts = [records[:1], [replace(records[1], source="other")]] if apart else [records]
    names = ["made", "other"][: len(parts)]
    for name, part in zip(names, parts, strict=True):
        build_catalog(entry_of(part, raw, name=name), tmp_path / "catalog")
    table = read_catalog(tmp_path / "catalog", names)
    notes = summaries.merge_notes(names, tmp_path / "catalog", table)
    assert notes == ["cell_type 'u2os' is spelled in 2 ways: 'U2OS', 'u2os'"]
