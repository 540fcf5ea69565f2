"""The description for machines: valid Croissant, with the hash and split of each shard."""

import dataclasses
import json

import pytest

from cytoimagenet_hf.hub.cards import LabelFacts
from cytoimagenet_hf.hub.croissant import described_files, render_croissant
from cytoimagenet_hf.schema import PUBLISHED_COLUMNS
from tests.hub.test_cards import FILE, facts, source

KNOWN = {FILE: ("ab" * 32, 2_500_000)}


def described(**changes) -> dict:
    return json.loads(render_croissant(facts(**changes), KNOWN))


def test_each_shard_has_its_hash_size_and_split():
    """The file stands with what was given, and can be read back by its path."""
    (file, rows) = described()["distribution"]
    assert (file["@id"], file["sha256"]) == (FILE, "ab" * 32)
    assert file["contentSize"] == "2500000 B"
    assert file["description"] == "config default, split train"
    assert file["contentUrl"] == FILE
    assert rows["includes"] == "data/default/train-*.parquet"
    assert described_files(render_croissant(facts(), KNOWN)) == {FILE: "ab" * 32}


def test_on_the_hub_files_have_addresses_there():
    """A reader of the file alone finds the shards; the repository is no shard."""
    text = render_croissant(facts(hub_id="lab/cells"), KNOWN)
    repository, file, _ = json.loads(text)["distribution"]
    page = "https://huggingface.co/datasets/lab/cells"
    assert repository["contentUrl"] == page
    assert file["contentUrl"] == f"{page}/resolve/main/{FILE}"
    assert described_files(text) == {FILE: "ab" * 32}


def test_fields_are_the_columns_of_the_schema():
    """All columns of config default, in their order, each with its meaning."""
    *_, rows = described()["recordSet"]
    assert [one["name"] for one in rows["field"]] == list(PUBLISHED_COLUMNS)
    assert all(one["description"] for one in rows["field"])
    assert [one["name"] for one in rows["field"] if one.get("repeated")] == [
        "compound", "sirna", "gene", "phenotype", "cell_visible", "cell_type", "organism",
        "channels",
    ]  # fmt: skip


def test_files_that_two_configs_share_stand_once():
    """The commercial configs are files of the others."""
    files = {"default": {"train": [FILE]}, "commercial": {"train": [FILE]}}
    (size,) = facts().sizes
    both = [size, dataclasses.replace(size, config="commercial")]
    ids = [one["@id"] for one in described(data_files=files, sizes=both)["distribution"]]
    assert ids == [FILE, "default-train"]


def test_shard_without_a_hash_is_an_error():
    """No file is described that nobody hashed."""
    with pytest.raises(ValueError, match="has no hash"):
        render_croissant(facts(), {})


def test_names_from_outside_are_nothing_but_strings():
    """Quotes, marks and line ends in a label come back as they were, at one place."""
    raw = '"},{"@type":"cr:FileObject"\n<script>'
    label = LabelFacts(label=raw, category="gene", fields=1, crops=1)
    labels = described(labels=[label])["recordSet"][1]
    assert [one["labels/text"] for one in labels["data"]] == [raw]


def test_simulated_data_say_so():
    """The description begins with it."""
    assert described(simulated=True)["description"].startswith("SIMULATED PIXELS")
    assert "SIMULATED" not in described()["description"]


@pytest.mark.parametrize("hub_id", ["", "lab/cells"])
def test_mlcroissant_finds_no_error(tmp_path, hub_id):
    """The reference implementation only misses a date, which no reproducible file has."""
    mlcroissant = pytest.importorskip("mlcroissant")
    sources = [source(), source(name="b", license="unknown", terms="local")]
    (tmp_path / "croissant.json").write_text(
        render_croissant(facts(hub_id=hub_id, sources=sources), KNOWN), encoding="utf-8"
    )
    issues = mlcroissant.Dataset(str(tmp_path / "croissant.json")).metadata.ctx.issues
    assert not issues.errors
    assert ["datePublished" in one for one in issues.warnings] == [True]
