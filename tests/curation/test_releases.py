"""A second version on a real Hub on loopback: what stands there is added to, never sent again."""

import dataclasses

import pytest

from cytoimagenet_hf.curation.base import read_release
from cytoimagenet_hf.curation.parameters import preset
from cytoimagenet_hf.curation.pipeline import build
from cytoimagenet_hf.curation.verify import verify
from cytoimagenet_hf.schema import SIMULATED_MARK
from tests.curation.builds import config, raw_data
from tests.hub_server import run_client
from tests.publishing import OPEN, SMALL, publish, put

pytestmark = pytest.mark.slow
LATER = ("bbbc022",)  # CC0, as the first


@pytest.fixture(scope="module", params=["simulated", "real"])
def raws(request, tmp_path_factory):
    """Raw data of both sources."""
    if request.param == "real":
        return request.getfixturevalue("real_images")
    return raw_data(tmp_path_factory.mktemp("raw"), (*OPEN, *LATER), fields=12)


@pytest.fixture(scope="module")
def first(raws, tmp_path_factory):
    """Version 1; never change this folder."""
    return built(raws, OPEN, tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def second(raws, first, tmp_path_factory):
    """Version 2: one source more, without the raw data of the first."""
    return built(raws, LATER, tmp_path_factory.mktemp("second"), base=first)


def built(raw, names, to, **changes):
    """Build some sources; returns the folder."""
    parameters = preset("standard", **SMALL)
    made = config(raw, to / "cytoimagenet", names=names, parameters=parameters, **changes)
    build(dataclasses.replace(made, workers=0))
    return made.output


def shards(folder) -> dict[str, bytes]:
    """The shards of a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted((folder / "data").rglob("*.parquet"))
    }


def test_version_two_sends_its_new_shards_only(hub_server, first, second, tmp_path):
    """Main gets the new shards, keeps the old ones, and the tag of version 1 stays what it was."""
    one, two = publish(hub_server, f"{str(first)!r}, tag='v1.0'", f"{str(second)!r}, tag='v2.0'")
    new = shards(second).keys() - shards(first).keys()
    assert new
    assert two["sent_bytes"] == sum(len(shards(second)[path]) for path in new)
    assert two["kept_bytes"] == one["sent_bytes"]
    assert two["removed"] == []
    for tag, folder in (("v1.0", first), ("v2.0", second)):
        found = hub_server.files("datasets", "lab/cells", tag)
        assert {path: found[path] for path in shards(folder)} == shards(folder)
    found = hub_server.files("datasets", "lab/cells", "v2.0")
    del found[".gitattributes"]
    assert verify(put(tmp_path / "there", found), workers=0).findings == ()


def test_strangers_load_both_versions(hub_server, first, second):
    """Class names of version 1 begin those of version 2, in every config, streamed and not."""
    publish(hub_server, f"{str(first)!r}, tag='v1.0'", f"{str(second)!r}, tag='v2.0'")
    code = """
import datasets
def names(revision, config, streaming):
    rows = datasets.load_dataset("lab/cells", config, split="train", revision=revision,
                                 streaming=streaming)
    return rows.features["label"].names, sum(1 for _ in rows)
answer = {f"{config} {streaming}": [names(tag, config, streaming) for tag in ("v1.0", "v2.0")]
          for config in ("default", "small", "tiny", "metadata") for streaming in (True, False)}
"""
    answer = run_client(hub_server, code, token=None).answer
    for key, ((old, few), (new, many)) in answer.items():
        assert new[: len(old)] == old, key
        assert (many == few) if key.startswith("tiny") else (many > few), key


def test_a_later_source_brings_classes_of_its_own(raws, first, second):
    """Both name nuclei; the simulated later one has compounds too, the real one has no table."""
    counts = [len(read_release(one, preset("standard", **SMALL)).texts) for one in (first, second)]
    is_simulated = (raws / LATER[0] / SIMULATED_MARK).exists()
    assert counts[1] > counts[0] if is_simulated else counts[1] == counts[0]


def test_base_by_tag_is_the_published_one(hub_server, raws, first, second, tmp_path):
    """A build on `lab/cells@v1.0` gives the shards that one on the folder gives."""
    publish(hub_server, f"{str(first)!r}, tag='v1.0'")
    code = f"""
import contextlib, io, os
from cytoimagenet_hf.cli import main
settings = {[f"{key}={value}" for key, value in SMALL.items() if key != "min_fields"]!r}
arguments = ["build", "--data-root", {str(raws)!r}, "--sources", *{LATER!r}, "--workers", "0",
             "--min-fields", "{SMALL["min_fields"]}", "--base", "lab/cells@v1.0",
             "--output", {str(tmp_path / "out")!r}]
for one in settings:
    arguments += ["--set", one]
with contextlib.redirect_stdout(io.StringIO()):
    try:
        main(arguments)
    except SystemExit as ended:
        answer = ended.code
"""
    assert run_client(hub_server, code).answer in (None, 0)
    assert shards(tmp_path / "out") == shards(second)
