"""Tests of loading single sources, or what a use allows: the right rows, from few files."""

import logging

import datasets
import pytest

from cytoimagenet_hf.errors import DatasetNotAvailableError
from cytoimagenet_hf.hub import selecting
from cytoimagenet_hf.hub.loading import load_dataset
from tests.publishing import build_data

SOURCE = "bbbc048"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set of an open source and of one whose license nobody knows, in small row groups."""
    return build_data(tmp_path_factory.mktemp("selecting"), group_rows=7)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def ids(rows) -> list[str]:
    """Ids in their order."""
    return [row["image_id"] for row in rows]


@pytest.mark.parametrize("name", ["default", "small", "tiny", "metadata"])
@pytest.mark.parametrize("streaming", [True, False])
def test_rows_of_a_source_are_those_that_a_filter_gives(folder, name, streaming):
    """Ids, labels and pixels are those of the whole config with the others thrown out."""
    chosen = load_dataset(folder, name, sources=[SOURCE], streaming=streaming)
    whole = datasets.load_dataset(str(folder), name)
    for split in ("train", "validation"):
        expected = [row for row in whole[split] if row["dir_name"] == SOURCE]
        found = list(chosen[split])
        assert {row["image_id"]: row for row in expected} == {row["image_id"]: row for row in found}
        assert len(found) == len(expected)
        assert chosen[split].features == whole[split].features
        assert chosen[split].split == split


def test_a_use_takes_the_shards_whose_terms_allow_it(folder):
    """Commercial use leaves the open crops, as config commercial does; of tiny too."""
    chosen = load_dataset(folder, use="commercial", split="train")
    assert set(ids(chosen)) == set(ids(datasets.load_dataset(str(folder), "commercial")["train"]))
    assert set(load_dataset(folder, "tiny", use="sharing", split="train")["terms"]) == {"open"}


def test_a_source_that_no_use_allows_gives_no_row(folder):
    """An empty split keeps its columns, streamed and not."""
    for streaming in (True, False):
        found = load_dataset(
            folder, use="commercial", sources=[SOURCE], split="train", streaming=streaming
        )
        assert list(found) == []
        assert "image" in found.features


def test_only_row_groups_with_wanted_rows_are_read(folder, monkeypatch):
    """No shard of other terms is opened beyond its footer, and no row group without the source."""
    seen = []
    real = selecting._rows

    def noted(opener, pieces, build):
        seen.extend(one for own in pieces for one in own)
        return real(opener, pieces, build)

    monkeypatch.setattr(selecting, "_rows", noted)
    found = list(load_dataset(folder, sources=[SOURCE], split="train", streaming=True))
    assert sum(len(one.rows) for one in seen) == len(found) > 0
    assert all(one.rows for one in seen)
    assert {one.path.split("-")[1] for one in seen} == {"local"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"sources": ["bbbc04"]}, "no source 'bbbc04'.*bbbc038, bbbc048"),
        ({"use": "fun"}, "use is one of commercial, sharing"),
        ({"use": "sharing", "split": "test"}, "Unknown split 'test'"),
        ({"use": "sharing", "split": "train[:10]"}, r"split is train, validation, a list of them"),
        ({"sources": SOURCE, "split": ["train", "x"]}, "Unknown split 'x'"),
        ({"use": "sharing", "name": "huge"}, "'huge' not found"),
        ({"use": "sharing", "columns": ["label"]}, "columns can't be given along"),
    ],
)
def test_what_there_is_not_is_named(folder, asked, message):
    """An unknown source, use, split or config says which there are."""
    with pytest.raises(ValueError, match=message):
        load_dataset(folder, **asked)


def test_arguments_are_those_of_a_plain_load(folder):
    """One source may be a bare name; splits a list, which gives a list, or one of `datasets`."""
    whole = load_dataset(folder, sources=[SOURCE])
    validation, train = load_dataset(folder, sources=SOURCE, split=["validation", "train"])
    assert ids(train) == ids(whole["train"])
    assert ids(validation) == ids(whole["validation"])
    (one,) = load_dataset(folder, sources=SOURCE, split=("train",), streaming=True)
    assert ids(one) == ids(train)
    assert ids(load_dataset(folder, sources=SOURCE, split=datasets.Split.TRAIN)) == ids(train)


def test_a_rebuild_in_place_is_read_again(tmp_path):
    """Other annotations under the same names of shards are not served from an old cache."""
    import dataclasses

    from cytoimagenet_hf.curation.pipeline import build
    from tests.curation.builds import config, preset, raw_data
    from tests.publishing import OPEN, SMALL

    raw = raw_data(tmp_path / "raw", OPEN, fields=12)
    sides = []
    for side in (64, 48):
        parameters = preset("standard", **(SMALL | {"small_side": side}))
        made = config(raw, tmp_path / "cytoimagenet", names=OPEN, parameters=parameters)
        build(dataclasses.replace(made, workers=0))
        rows = load_dataset(made.output, "small", use="sharing", split="train")
        sides.append(max(*rows["height"], *rows["width"]))
    assert sides == [64, 48]


def test_metadata_of_another_build_is_refused(folder, tmp_path):
    """Rows that metadata doesn't know can't be told apart, so nothing is guessed."""
    import shutil

    import pyarrow.parquet as pq

    copy = tmp_path / "cytoimagenet"
    shutil.copytree(folder, copy)
    path = next((copy / "data" / "metadata").glob("train-local-*"))
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    with pytest.raises(DatasetNotAvailableError, match="different builds"):
        load_dataset(copy, sources=[SOURCE], split="train", streaming=True)


def test_verify_hashes_the_files_of_the_config(folder, tmp_path):
    """A bit that flipped in a shard is found before a row is given; other configs are not read."""
    import shutil

    copy = tmp_path / "cytoimagenet"
    shutil.copytree(folder, copy)
    path = next((copy / "data" / "small").glob("train-*"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetNotAvailableError, match=path.name):
        load_dataset(copy, "small", verify=True)
    assert len(load_dataset(copy, "default", split="train", verify=True)) > 0


def test_verify_and_streaming_exclude_each_other(folder):
    """A hash needs the whole file, which streaming never has."""
    with pytest.raises(ValueError, match="streaming"):
        load_dataset(folder, verify=True, streaming=True)


def test_place_is_told_as_ever(folder, caplog):
    """Which place is read stands in the log, also where only a part of it is."""
    caplog.set_level(logging.INFO, "cytoimagenet_hf")
    load_dataset(folder, sources=[SOURCE], split="train", streaming=True)
    assert "the folder named" in caplog.text
