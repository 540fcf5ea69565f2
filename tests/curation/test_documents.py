"""Tests of what stands beside the shards: sums, build.json, the label report."""

import getpass
import hashlib
import json
import platform
import re

import pyarrow.parquet as pq
import pytest

from cytoimagenet_hf.curation.documents import LABELS, label_table, versions
from cytoimagenet_hf.curation.labels import LabelRow
from cytoimagenet_hf.curation.parameters import Parameters, parse
from cytoimagenet_hf.hub._folders import read_sums
from cytoimagenet_hf.hub.croissant import described_files
from cytoimagenet_hf.schema import CATEGORIES
from tests.curation.material import SMALL, Built, build_small


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Built:
    """The build that several modules look at."""
    return build_small(tmp_path_factory)


def read_build(built) -> dict:
    """Read build.json."""
    return json.loads((built.output / "build.json").read_text(encoding="utf-8"))


def test_sums_cover_every_file_but_card_and_themselves(built) -> None:
    """Each line is a sha256, two spaces and a path with /; they are right and sorted."""
    text = (built.output / "SHA256SUMS").read_bytes().decode()
    lines = [re.fullmatch(r"([0-9a-f]{64})  (\S+)", line) for line in text.splitlines()]
    listed = {line[2]: line[1] for line in lines}
    there = {
        path.relative_to(built.output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in built.output.rglob("*")
        if path.is_file() and path.name not in ("README.md", "SHA256SUMS")
    }
    assert listed == there
    assert [line[2] for line in lines] == sorted(listed)
    assert text.endswith("\n")
    assert hashlib.sha256(text.encode()).hexdigest() == built.summary.manifest_sha256


def test_machines_find_every_shard_with_its_hash(built) -> None:
    """croissant.json names the shards that the sums name, with the same hashes."""
    sums = read_sums(built.output / "SHA256SUMS")
    text = (built.output / "croissant.json").read_text(encoding="utf-8")
    assert described_files(text) == {
        path: one for path, one in sums.items() if path.startswith("data/")
    }


def test_mlcroissant_reads_the_rows(built) -> None:
    """The reference implementation gives as many rows as the train shards hold, with images."""
    mlcroissant = pytest.importorskip("mlcroissant")
    rows = list(
        mlcroissant.Dataset(str(built.output / "croissant.json")).records("default-train-rows")
    )
    shards = sorted((built.output / "data/default").glob("train-*"))
    ids = [one for path in shards for one in pq.read_table(path)["image_id"].to_pylist()]
    assert sorted(row["default-train-rows/image_id"].decode() for row in rows) == sorted(ids)
    first = rows[0]
    assert first["default-train-rows/image"].size == (
        first["default-train-rows/width"],
        first["default-train-rows/height"],
    )


def test_documents_know_nothing_of_the_run(built) -> None:
    """Time, host, user, paths, workers and engine stay in the work folder."""
    folder = str(built.output.parent)
    for path in built.output.iterdir():
        if path.is_file():
            content = path.read_bytes().decode("latin-1")
            assert folder not in content, path.name
            assert platform.node() not in content or len(platform.node()) < 4
            assert str(built.raw) not in content
    text = (built.output / "build.json").read_text(encoding="utf-8")
    assert not re.search(r"\d{4}-\d\d-\d\d|\d\d:\d\d|workers|host|seconds", text)
    assert getpass.getuser() not in json.loads(text)["inputs"]
    assert (built.work / "run.json").exists()


def test_build_json_says_what_the_build_was_made_of(built) -> None:
    """Parameters can be read back; counts are those of the files; all versions are named."""
    build = read_build(built)
    settings = [f"{name}={json.dumps(value)}" for name, value in build["parameters"].items()]
    assert Parameters(**parse(settings)) == SMALL
    assert build["build"] == built.summary.build
    assert build["simulated"] is True
    assert build["versions"] == versions()
    assert set(build["inputs"]) == {"bbbc022", "bbbc048"}
    for key, count in build["counts"].items():
        config, split, terms = key.split("/")
        base = {"commercial": "default", "commercial_small": "small"}.get(config, config)
        files = list((built.output / "data" / base).glob(f"{split}-{terms}-*.parquet"))
        assert count["rows"] == sum(pq.read_metadata(path).num_rows for path in files)
        assert count["bytes"] == sum(path.stat().st_size for path in files)
    exclusions = pq.read_table(built.output / "exclusions.parquet")
    assert sum(build["exclusions"].values()) == len(exclusions)


def test_catalogs_are_inputs_by_their_hash(built) -> None:
    """The hash of each catalog is that of its file."""
    for name, known in read_build(built)["inputs"].items():
        content = (built.work / "catalog" / f"{name}.parquet").read_bytes()
        assert known["catalog_sha256"] == hashlib.sha256(content).hexdigest()


def test_label_report_agrees_with_the_crops(built) -> None:
    """Published labels come first, in order of their integers, with the crops that they have."""
    report = pq.read_table(built.output / "labels.parquet")
    assert report.schema.equals(LABELS)
    rows = report.to_pylist()
    published = [row for row in rows if not row["dropped_reason"]]
    assert rows[: len(published)] == published
    assert len(published) == built.summary.labels
    about = [
        row
        for path in (built.output / "data/metadata").iterdir()
        for row in pq.read_table(path).to_pylist()
    ]
    for number, row in enumerate(published):
        own = [one for one in about if one["label"] == number]
        assert row["crops"] == len(own) > 0
        assert row["sources"] == sorted({one["dir_name"] for one in own})
        assert row["candidates"] >= row["free"] >= row["assigned"] >= SMALL.min_fields
        assert row["strata"] >= row["strata_covered"] >= 1
        assert {CATEGORIES[one["category"]] for one in own} == {row["category"]}
    assert sum(row["crops"] for row in published) == built.summary.crops
    assert all(row["crops"] == 0 for row in rows[len(published) :])


def test_label_report_orders_dropped_labels_by_their_fields() -> None:
    """The most frequent dropped values come first, ties by category and value."""
    labels = [
        LabelRow("gene", "b", 5, dropped_reason="x"),
        LabelRow("gene", "a", 5, dropped_reason="x"),
        LabelRow("compound", "z", 5, dropped_reason="x"),
        LabelRow("organism", "human", 90, assigned=9),
        LabelRow("compound", "q", 7, dropped_reason="x"),
        LabelRow("compound", "p", 20, assigned=9),
    ]
    table = label_table(labels, {5: "p", 3: "human (organism)"})
    assert table["label"].to_pylist() == ["p", "human (organism)", "q", "z", "a", "b"]
    assert table["value"].to_pylist()[1] == "human"
